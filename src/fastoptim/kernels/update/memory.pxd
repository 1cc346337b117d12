"""Whether any array that is written shares memory with another."""

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detours
from fastoptim.kernels.update.products cimport Multiplied

cdef struct Words:
    Py_ssize_t *words
    Py_ssize_t n
    Py_ssize_t room

cdef struct Extent:
    Py_ssize_t low
    Py_ssize_t high

cdef int refuse_itself(object key, object a) except -1

cdef class Memory:
    cdef Words written, written_before      # where all that is written lies, now and when it was found good
    cdef Words read, read_before            # where the gradients lie that are only read
    cdef Extent *extents                    # of what is written, sorted; an end is the furthest up to there
    cdef Py_ssize_t n_extents, room

    cdef bint check(self, Call call, Detours detours) except -1
    cdef void forget(self) noexcept
    cdef int note(self, Call call) except -1
    cdef int list_written(self, Call call) except -1
    cdef int check_apart(self, Call call) except -1
    cdef int copy_what_is_written(self, Call call, Detours detours) except -1
    cdef bint copy_factors(self, Multiplied detour) except -1
    cdef bint is_written(self, Py_ssize_t low, Py_ssize_t high) noexcept
