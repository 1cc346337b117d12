"""The caller's parameters, and where they lie."""

cimport numpy as cnp

from fastoptim.kernels.ode.columns cimport Columns

cdef class CallerParams:
    cdef readonly object given      # the caller's container
    cdef list keys
    cdef list originals             # the objects in it
    cdef list shown                 # the objects that it should hold now
    cdef list arrays                # the parameters; a number's in an array of its own
    cdef list views                 # the caller's arrays as they came, None for a number
    cdef list x                     # the point: the arrays themselves, or flat copies of them
    cdef list copied                # places in x of the copies

    cdef int lay_out(self, Columns columns) except -1
    cdef int show(self, bint base=*) except -1
    cdef int fetch(self) except -1
    cdef int check_unchanged(self) except -1
    cdef object with_values(self, list arrays)
    cdef int restore(self, list base, object problem) except -1
    cdef int put_back(self) except -1
    cdef bint holds_originals(self) except -1

cdef class ParamMemory:
    cdef list found_apart               # addresses and strides
    cdef Py_ssize_t[::1] lows, highs    # the parameters' memory, apart and in order

    cdef int forget(self) except -1
    cdef int check(self, CallerParams params, Columns own) except -1
    cdef int check_all(self, list keys, list views, Columns own) except -1
    cdef bint is_reached_by(self, cnp.ndarray a) except -1
