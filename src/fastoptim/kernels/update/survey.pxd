"""The gradients as a whole: are they finite, how long are they."""

cimport numpy as cnp

from fastoptim.kernels.table cimport Span, Stages, Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.store cimport Record

cdef bint are_finite(const Span *span) noexcept nogil

cdef class Survey:
    cdef Table table                    # the gradients in C order
    cdef Table copying                  # those that have to be copied for that
    cdef Stages copy_stages
    cdef dict copies                    # key → Copy
    cdef object sums                    # of each block: the sum of its gradients' squares
    cdef double *sum_of

    cdef bint passes(self, Call call, int team) except -1
    cdef int prepare(self, Call call) except -1
    cdef Py_ssize_t in_order(self, Record record, cnp.ndarray grad) except -1
    cdef bint is_finite(self, Call call, Py_ssize_t k) noexcept
    cdef object grad_seen(self, Call call, Py_ssize_t k)
    cdef Py_ssize_t first_not_finite(self, Call call) except -2
    cdef double norm(self, Py_ssize_t first, Py_ssize_t end) noexcept
    cdef int clip_keys(self, Call call) except -1
    cdef int clip(self, Call call) except -1
