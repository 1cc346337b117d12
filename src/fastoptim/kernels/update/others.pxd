"""What an update is told by the other processes that make it, too."""

cdef class Others:
    cdef bint all_pass(self, bint here) except -1
    cdef object whole_gradient(self, object key, object grad)
    cdef double norm(self, const double *sums) except? -1.0
