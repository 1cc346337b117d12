"""The first station: each key is checked, and becomes a span."""

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detours
from fastoptim.kernels.update.store cimport Store

cdef int read(Call call, Store store, Detours detours, object params, object grads) except -1
