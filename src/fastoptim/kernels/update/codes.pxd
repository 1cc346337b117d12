"""State that is kept as codes of 8 or 16 bits."""

from fastoptim.kernels.driver cimport Apart
from fastoptim.kernels.table cimport Codecs
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.store cimport Record

cdef class Coder:
    cdef Codecs codecs
    cdef Apart *apart           # of the spans whose state is decoded as a whole
    cdef Py_ssize_t room
    cdef Py_ssize_t count

    cdef int prepare(self, Call call) except -1
    cdef int describe(self, Call call, Py_ssize_t k, Record record, Pipeline pipeline) except -1
    cdef int describe_half(
        self, Call call, Py_ssize_t k, Record record, Pipeline pipeline, Detour detour
    ) except -1
    cdef int take_apart(self, Call call, Py_ssize_t k) except -1
    cdef void decode(self, Call call) noexcept
    cdef void encode(self, Call call) noexcept

cdef bint goes_apart(Call call, Py_ssize_t k, Detour detour) noexcept
