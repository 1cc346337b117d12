"""Parameters and gradients that are Python's numbers."""

from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.call cimport Call

from fastoptim.kernels.update.tensors cimport Tensors

cdef int settle(Call call, Table few, Tensors tensors) except -1
