"""Parameters and gradients that are Python's numbers."""

from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.call cimport Call

cdef int settle(Call call, Table few, bint update) except -1
