"""The caller's parameters during one session."""

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
