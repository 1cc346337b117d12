"""The scalars of the rules, for each span those of its group and its parameter's step."""

from fastoptim.kernels.update.call cimport Call

cdef int fill(Call call) except -1
cdef int check_factors(Call call) except -1
