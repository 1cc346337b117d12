"""What is computed of whole tensors before any array is written."""

from fastoptim.kernels.update.call cimport Call

cdef class Prelude:
    cdef int check(self, Call call) except -1
    cdef int prepare(self, Call call) except -1
    cdef int compute(self, Call call, int team) except -1
    cdef void commit(self, Call call) noexcept
