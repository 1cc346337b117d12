"""The way of keys whose gradient is a product that is not made, or made where it is needed."""

cimport numpy as cnp

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Copied, Detours
from fastoptim.kernels.update.store cimport Record

cdef class Multiplied(Copied):
    cdef cnp.ndarray x, d           # the factors, as a BLAS takes them
    cdef readonly bint by_tiles     # whether each tile is made when the rule needs it
    cdef tuple rows                 # of each tile, as slices
    cdef object times               # the function of NumPy that multiplies
    cdef list tiles                 # (x's part transposed, where the tile is made)
    cdef cnp.ndarray whole          # memory for all tiles
    cdef cnp.ndarray scratch        # memory for one, behind that for a part of a block
    cdef Py_ssize_t there           # which tile the scratch has, or -1
    cdef int most                   # threads of ours between two tiles
    cdef Table table                # one span: a tile
    cdef object context             # in which NumPy warns of nothing

    cdef int multiply(self, Call call, cnp.ndarray param, object factors) except -1
    cdef int make_room(self) except -1
    cdef int copy_factors(self) except -1
    cdef int list_tiles(self) except -1
    cdef int make(self, Py_ssize_t i) except -1
    cdef void make_surely(self, Py_ssize_t i) noexcept
    cdef void reduce(self, const Rule *rule, double factor, double *sums, int team) noexcept
    cdef bint is_finite(self) noexcept
    cdef void run_tiles(self, Call call, bint flush, int team) noexcept

cdef int take(
    Call call, Detours detours, Record record, cnp.ndarray param, object grad
) except -1
cdef int take_off(Call call) noexcept
cdef int run_products(Call call, bint flush, int team) noexcept
