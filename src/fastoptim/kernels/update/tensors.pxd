"""What has to be known of a tensor as a whole: its norm, and the norms or means of its units."""

cimport numpy as cnp

from fastoptim.kernels.driver cimport Units
from fastoptim.kernels.table cimport Span, Stages, Table, UnitStage
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.store cimport Record

# A scalar for each unit of a tensor, which a stage uses.
cdef class Scalars:
    cdef UnitStage stage            # as an update counts the elements
    cdef UnitStage in_c_order       # as C order counts them
    cdef Units units                # what is summed for the scalars
    cdef cnp.ndarray array          # the scalars

    cdef int prepare(self, Tensor tensor, str each, Py_ssize_t count, int axis) except -1
    cdef void put(self, Py_ssize_t unit, double value) noexcept

# One key of a call, kept for its memory.
cdef class Tensor:
    cdef Record record
    cdef Pipeline pipeline
    cdef Detour detour              # or None
    cdef Py_ssize_t k               # its span
    cdef Py_ssize_t place           # the same, in the table that is walked
    cdef Py_ssize_t n               # elements
    cdef bint in_order              # whether the update's own arrays are in C order
    cdef bint is_done               # a number that has been updated
    cdef cnp.ndarray p, g           # arrays that are not in C order
    cdef cnp.ndarray p_copy, g_copy  # memory for copies that are
    cdef cnp.ndarray step           # memory for the step, where p is not in C order
    cdef Py_ssize_t squares         # where the sums of its blocks begin
    cdef bint has_agc, has_means
    cdef Scalars agc, means, bounds
    cdef Stages stages              # the span's, for copies in C order

    cdef int prepare(self, Call call) except -1
    cdef int check_rows(self) except -1
    cdef bint is_vector(self) noexcept
    cdef Py_ssize_t rows(self) noexcept
    cdef cnp.ndarray room(self, cnp.ndarray memory)
    cdef int connect(self, Call call) except -1
    cdef Py_ssize_t ordered_p(self, const Span *span) noexcept
    cdef Py_ssize_t ordered_g(self, const Span *span) noexcept
    cdef Py_ssize_t ordered_step(self, const Span *span) noexcept
    cdef void gather_rows(self, const Span *span) noexcept

cdef class Tensors:
    cdef list tensors               # of this call, in the order of their spans
    cdef dict known                 # key → Tensor
    cdef Table copies               # what is looked at in copies
    cdef Stages bare                # what they pass if they are no gradients
    cdef double[::1] sums           # of units: of the gradient, then of the parameter
    cdef double[::1] pieces         # of one such sum
    cdef double[::1] squares        # of blocks
    cdef cnp.ndarray step_memory
    cdef Py_ssize_t steps           # where it begins

    cdef int prepare(self, Call call) except -1
    cdef int make_room(self) except -1
    cdef int look(self, Call call, int team) except -1
    cdef int clip(self, Call call, Tensor tensor, int team) except -1
    cdef int centralize(self, Call call, Tensor tensor, int team) except -1
    cdef void sum(
        self, const Units *units, str of_run, str of_each, double factor, double *sums, int team
    ) noexcept
    cdef int set_norms(self, Call call, int team) except -1
    cdef Py_ssize_t sums_of(self, Tensor tensor) noexcept
    cdef void add_copy(
        self, Tensor tensor, Py_ssize_t p, Py_ssize_t g, const Stages *stages
    ) noexcept
    cdef void look_at_copies(self, bint flush, int team) noexcept
    cdef double norm(self, Tensor tensor, int which) noexcept
    cdef void run_number(self, Call call, Table few, Py_ssize_t place, Py_ssize_t k) noexcept
    cdef void run_in_parts(self, Call call, int team) noexcept
    cdef void run_window(
        self, Table table, bint flush, Py_ssize_t first, Py_ssize_t end, Py_ssize_t begin,
        Py_ssize_t beyond, int team
    ) noexcept
    cdef void walk(
        self, Table table, bint flush, Py_ssize_t first, Py_ssize_t end, int team
    ) noexcept
    cdef void find_factors(
        self, Table table, bint flush, Py_ssize_t begin, Py_ssize_t beyond, int team
    ) noexcept
    cdef void project(self, Tensor tensor, const Span *span, int team) noexcept
    cdef void end(self) noexcept
