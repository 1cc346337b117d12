"""What must change in the same step as the arrays of an update."""

cdef class Commit:
    cdef public Py_ssize_t number
    cdef bint busy
    cdef str busy_text
