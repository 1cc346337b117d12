"""What the parameters of one group pass through."""

from fastoptim.kernels.driver cimport Pipeline

cdef class Line:
    cdef Pipeline c
    cdef readonly tuple slots       # names of the rule's state, in the kernel's order
    cdef readonly tuple starts      # what fresh state is filled with
    cdef readonly object coefficients
    cdef double sign
    cdef object clip_value, weight_decay
    cdef readonly bint zero_grads
    cdef double unfit               # a factor that float32 cannot hold, or 0

    cpdef int set_shrink(self, double shrink) except -1
    cdef int prepare(self, double factor, double norm_factor, bint zero) except -1
