"""Features by name, hashed to a fixed number of slots (K. Weinberger et al., arXiv:0902.2206).

A name's hash is FNV-1a of its UTF-8, 64 bits, whose bits are then mixed (the last step of MurmurHash3), so
that the upper ones depend on every letter. The uppermost `bits` are the slot, the lowest is the sign: where
two names meet in one slot, what they bring cancels on average instead of adding up.
"""

from collections.abc import Mapping
from operator import index as index_of

import numpy as np
import scipy.sparse as sp

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport qsort


cdef struct Entry:
    int32_t slot
    int32_t at              # its place in the example: equal slots are summed in this order
    double value


cdef uint64_t hash_of(const unsigned char *name, Py_ssize_t n) noexcept nogil:
    cdef uint64_t h = 0xcbf29ce484222325ULL
    cdef Py_ssize_t k
    for k in range(n):
        h = (h ^ name[k]) * 0x100000001b3ULL
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdULL
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ULL
    return h ^ (h >> 33)


cdef int by_slot(const void *a, const void *b) noexcept nogil:
    cdef const Entry *one = <const Entry *> a
    cdef const Entry *other = <const Entry *> b
    if one.slot != other.slot:
        return 1 if one.slot > other.slot else -1
    return (one.at > other.at) - (one.at < other.at)


def hashed(examples, bits, dtype=np.float64):
    """Return examples as rows of a CSR array of 2**bits columns.

    Parameters
    ----------
    examples : iterable of lists of str, or of mappings of str to number
        The names of an example's features; each counts 1 for every time that it is there, or what the
        mapping says.
    bits : int in [1, 31)
    dtype : float32 or float64

    Returns
    -------
    csr_array
        Sorted, no column twice in a row; the sum of several names in one slot may be 0.
    """
    cdef int n_bits = index_of(bits)
    if not 1 <= n_bits < 31:
        raise ValueError(f"bits must be in [1, 31), got {bits}")
    entries_array = np.empty(1024, np.dtype([("slot", "i4"), ("at", "i4"), ("value", "f8")]))
    index_array, values_array = np.empty(4096, np.int32), np.empty(4096)
    cdef Entry[::1] entries = entries_array
    cdef int32_t[::1] index = index_array
    cdef double[::1] values = values_array
    cdef Py_ssize_t n, k, count = 0
    cdef uint64_t h
    cdef bytes name
    cdef bint has_values
    bounds = [0]
    for example in examples:
        if isinstance(example, str):
            raise TypeError("an example must be a list of names or a mapping, got a str; use text.split()")
        has_values = isinstance(example, Mapping)
        n = 0
        for one in example:
            if type(one) is not str:
                raise TypeError(f"the name of a feature must be a str, got {type(one).__name__}")
            if n == entries.shape[0]:
                entries_array = np.concatenate([entries_array, entries_array])
                entries = entries_array
            name = (<str> one).encode("utf-8", "surrogatepass")
            h = hash_of(<const unsigned char *> name, len(name))
            entries[n].slot = <int32_t> (h >> (64 - n_bits))
            entries[n].at = <int32_t> n
            entries[n].value = example[one] if has_values else 1.0
            if h & 1:
                entries[n].value = -entries[n].value
            n += 1
        if n > 1:
            qsort(&entries[0], n, sizeof(Entry), by_slot)
        if count + n > index.shape[0]:
            index_array = np.concatenate([index_array, np.empty(count + n, np.int32)])
            values_array = np.concatenate([values_array, np.empty(count + n)])
            index, values = index_array, values_array
        for k in range(n):
            if k > 0 and entries[k].slot == entries[k - 1].slot:
                values[count - 1] += entries[k].value
                continue
            index[count], values[count] = entries[k].slot, entries[k].value
            count += 1
        bounds.append(count)
    parts = values_array[:count].astype(dtype), index_array[:count].copy(), np.array(bounds)
    return sp.csr_array(parts, shape=(len(bounds) - 1, 1 << n_bits))
