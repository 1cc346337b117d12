"""Memory of our own, laid out like the parameters."""

cimport numpy as cnp

cdef class Columns:
    cdef readonly list keys
    cdef list shapes, dtypes
    cdef readonly list base             # arrays: the parameters where the step started
    cdef readonly list columns          # further lists of arrays
    cdef readonly object passes         # PassRunner
    cdef list flat_params, flat_grads   # copies that a layout has needed, else None
    cdef Py_ssize_t low, high           # the memory of base

    cdef bint fit(self, list keys, list arrays) except -1
    cdef object flat(self, list copies, Py_ssize_t k)

cdef bint lies_like(cnp.ndarray a, cnp.ndarray own)
