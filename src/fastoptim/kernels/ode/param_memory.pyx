"""Where the caller's parameters lie in memory: whether they overlap, and what reaches into them."""

import numpy as np
from numpy.lib.array_utils import byte_bounds

cimport cython
cimport numpy as cnp

from fastoptim.kernels.update.checks.overlap import overlaps_itself, refuse_shared_memory

from fastoptim.kernels.ode.columns cimport Columns

cnp.import_array()


@cython.final
cdef class ParamMemory:
    """The memory of the parameters.

    The overlap check is expensive, so it runs only if an address or a stride differs from the call
    before.
    """

    def __cinit__(self):
        self.lows = self.highs = np.zeros(0, np.intp)

    cdef int forget(self) except -1:
        """Check everything anew: the arrays are other ones, which may lie at the same addresses."""
        self.found_apart = None
        return 0

    cdef int check(self, list keys, list arrays, list views, Columns own) except -1:
        """Refuse parameters that would be written twice; note where they lie. A number has no view."""
        where = [
            (None if view is None else <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> a), a.strides)
            for a, view in zip(arrays, views, strict=True)
        ]
        if where != self.found_apart:
            self.found_apart = None
            self.check_all(keys, views, own)
            self.found_apart = where
        return 0

    cdef int check_all(self, list keys, list views, Columns own) except -1:
        """Find out what overlaps, and where the parameters lie."""
        cdef list named = [], bounds = [], apart = [], last = None
        for key, a in zip(keys, views, strict=True):
            if a is None:
                continue
            if overlaps_itself(a):
                raise ValueError(
                    f"params[{key!r}] overlaps itself (strides {a.strides}, shape {a.shape}): an "
                    f"element would be updated more than once; pass a copy"
                )
            low, high = byte_bounds(a)
            if a.size and own is not None and low < own.high and high > own.low:
                raise ValueError(
                    f"params[{key!r}] is memory of this optimizer's own, which is used again at "
                    f"every step; pass a copy"
                )
            named.append((f"params[{key!r}]", a))
            if a.size:
                bounds.append((low, high))
        refuse_shared_memory(named)
        for low, high in sorted(bounds):
            if last is not None and low < last[1]:  # views that lie between one another
                last[1] = max(high, last[1])
            else:
                last = [low, high]
                apart.append(last)
        self.lows = np.array([pair[0] for pair in apart], np.intp)
        self.highs = np.array([pair[1] for pair in apart], np.intp)
        return 0

    cdef bint is_reached_by(self, cnp.ndarray a) except -1:
        """Whether an array reaches into the memory of the parameters."""
        cdef Py_ssize_t low = <Py_ssize_t> cnp.PyArray_DATA(a), high, first = 0, beyond, middle
        if cnp.PyArray_SIZE(a) == 0:
            return False
        if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
            high = low + cnp.PyArray_NBYTES(a)
        else:
            low, high = byte_bounds(a)
        beyond = self.lows.shape[0]
        while first < beyond:               # the first parameter that ends beyond its start
            middle = (first + beyond) // 2
            if self.highs[middle] > low:
                beyond = middle
            else:
                first = middle + 1
        return first < self.lows.shape[0] and self.lows[first] < high
