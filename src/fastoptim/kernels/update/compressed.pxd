"""Sparse gradients as SciPy makes them, CSR and CSC, become places in the parameter in one pass."""

from fastoptim.kernels.update.store cimport Record

cdef object compressed_grad(object g, Record record)
