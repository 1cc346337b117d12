"""The mean of a key's weights, where the key has had fewer updates than its optimizer."""

from fastoptim.kernels.update.call cimport Call

cdef int prepare(Call call, Py_ssize_t iter) except -1
cdef int set_averagers(Call call, Py_ssize_t iter) noexcept
cdef int count(Call call, Py_ssize_t iter) noexcept
