"""Where the caller's parameters lie in memory."""

cimport numpy as cnp

from fastoptim.kernels.ode.columns cimport Columns

cdef class ParamMemory:
    cdef list found_apart               # addresses and strides
    cdef Py_ssize_t[::1] lows, highs    # the parameters' memory, apart and in order

    cdef int forget(self) except -1
    cdef int check(self, list keys, list arrays, list views, Columns own) except -1
    cdef int check_all(self, list keys, list views, Columns own) except -1
    cdef bint is_reached_by(self, cnp.ndarray a) except -1
