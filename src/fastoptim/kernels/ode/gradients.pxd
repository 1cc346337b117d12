"""Gradients as fn left them."""

from fastoptim.kernels.ode.caller_params cimport CallerParams, ParamMemory
from fastoptim.kernels.ode.columns cimport Columns

cdef class Gradients:
    cdef CallerParams params
    cdef Columns columns
    cdef ParamMemory where
    cdef list missing               # whether the gradient of each key is None at every stage of the step

    cdef list of_fn(self, object grads)
    cdef list flat(self, object grads)
    cdef object lasting(self, object grads, bint zero_grads)
    cdef dict checked(self, object grads)
    cdef list flat_list(self, dict grads)
    cdef int check_missing(self, list missing) except -1
    cdef bint reaches_params(self, object g) except -1
