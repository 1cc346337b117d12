"""Habits that cost numbers without an error: what two calls in turn tell of them."""

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.store cimport Store

cdef int look(Call call, Store store) except -1
