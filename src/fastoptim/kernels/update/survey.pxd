"""The gradients as a whole: are they finite, how long are they."""

from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.call cimport Call

cdef class Survey:
    cdef Table table                    # the gradients in C order
    cdef Table copying                  # those that have to be copied for that
    cdef dict copies                    # key → memory
    cdef object sums                    # of each block: the sum of its gradients' squares
    cdef double *sum_of

    cdef bint passes(self, Call call, int team) except -1
    cdef int fill(self, Call call, int team) except -1
    cdef int copy(self, Call call, int team) except -1
    cdef Py_ssize_t first_not_finite(self, Call call) except -2
    cdef double clip_factor(self, Call call) except? -1
