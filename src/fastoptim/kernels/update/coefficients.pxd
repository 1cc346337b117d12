"""The scalars of the rules, for each span those of its group and its parameter's step."""

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.store cimport Record

cdef int fill(Call call) except -1
cdef int check_factors(Call call) except -1
cdef int set_with_norms(Call call, Py_ssize_t k, double norm_p, double norm_g) except -1
cdef int refuse_factor(Call call, Record record, tuple unfit) except -1
