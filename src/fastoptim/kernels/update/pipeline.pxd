"""What the parameters of one group pass through."""

from fastoptim.kernels.driver cimport Pipeline

cdef class Line:
    cdef Pipeline c
    cdef readonly tuple slots       # names of the rule's state, in the kernel's order
    cdef readonly tuple starts      # what fresh state is filled with
    cdef readonly object coefficients
    cdef double sign
    cdef object clip_value, weight_decay, average
    cdef readonly bint zero_grads
    cdef object owner               # the optimizer, for messages
    cdef str unfit                  # the stage whose factor float32 cannot hold, or None
    cdef double unfit_value
    cdef bint always_unfit          # whether it is so at every call

    cpdef int adjust(
        self, object clip_value, double weight_decay, double shrink, object average
    ) except -1
    cpdef int set_shrink(self, double shrink) except -1
    cdef int prepare(self, double factor, double norm_factor, bint zero) except -1

cdef bint fits_float32(double wide, float narrow) noexcept
