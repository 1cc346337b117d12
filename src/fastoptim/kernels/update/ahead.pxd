"""The walk over arrays that lie in files."""

from fastoptim.kernels.table cimport Table

cdef void run_ahead(Table table, bint flush, int team) noexcept nogil
