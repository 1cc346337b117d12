"""Memory of our own, laid out like the parameters: the base point, further columns, flat copies.

It is allocated at the first call, and again if keys, shapes or dtypes differ from the previous call.
"""

import numpy as np

cimport cython
cimport numpy as cnp

from fastoptim.kernels.ode.passes import PassRunner

cnp.import_array()

cdef enum:
    CACHE_LINE = 64             # bytes
    PAGE = 4096
    STAGGER = 448               # between columns within a page; see Record.new_array in update/store.pyx


@cython.final
cdef class Columns:
    """Lists of arrays like the parameters, each list in one block of memory.

    Parameters
    ----------
    keys : list
    arrays : list of arrays
        The parameters.
    n_columns : int
        How many columns to allocate besides the base point.
    """

    def __cinit__(self, list keys, list arrays, int n_columns):
        cdef int n
        like = [np.empty_like(a, order="K", subok=False) for a in arrays]
        self.keys = keys
        self.shapes = [a.shape for a in arrays]
        self.dtypes = [a.dtype for a in arrays]
        self.base, self.low, self.high = column(like, 0)
        self.columns = [column(like, n + 1)[0] for n in range(n_columns)]
        self.flat_params = [None] * len(arrays)
        self.flat_grads = [None] * len(arrays)
        self.passes = PassRunner(self.base)

    cdef bint fit(self, list keys, list arrays) except -1:
        """Whether parameters have these keys, shapes and dtypes."""
        return (
            keys == self.keys and [a.shape for a in arrays] == self.shapes
            and [a.dtype for a in arrays] == self.dtypes
        )

    cdef object flat(self, list copies, Py_ssize_t k):
        """Return the array of `flat_params` or `flat_grads` for a key."""
        if copies[k] is None:
            copies[k] = np.empty_like(self.base[k], order="K")
        return copies[k]


cdef bint lies_like(cnp.ndarray a, cnp.ndarray own):
    """Whether an array lies in memory element for element as one of ours of the same shape."""
    cdef int both = cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(own)
    if not both & cnp.NPY_ARRAY_ALIGNED:
        return False
    if both & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
        return True
    return (<object> a).strides == (<object> own).strides


cdef tuple column(list like, int number):
    """Return new arrays like some others, in one block of memory, and its bounds.

    Each begins on a cache line.
    """
    starts, wanted = [], 0
    for a in like:
        starts.append(wanted)
        wanted += -(-a.nbytes // CACHE_LINE) * CACHE_LINE
    raw = np.zeros(wanted + PAGE, np.uint8)
    address = raw.__array_interface__["data"][0]
    offset = (number * STAGGER - address) % PAGE
    arrays = [
        np.ndarray(a.shape, a.dtype, raw, offset + start, a.strides)
        for a, start in zip(like, starts, strict=True)
    ]
    return arrays, address, address + raw.nbytes
