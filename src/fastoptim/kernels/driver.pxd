"""The walk over a table of spans, and the sums of rows."""

from cython cimport floating

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Codes, Span, Stages, Table

# The rows of one gradient and their sums: row k of out is the sum of the rows
# order[start[k]], …, order[start[k + 1] - 1] of values, in this order. Example: values are for the
# rows 7 3 7 of the parameter. Then out has the sums for the rows 3 7; order is 1 0 2, start 0 1 3.
cdef struct RowSums:
    Py_ssize_t out
    Py_ssize_t values
    Py_ssize_t start
    Py_ssize_t order
    Py_ssize_t count
    Py_ssize_t length
    Py_ssize_t is_double

# A tensor in C order whose units' sums are wanted. A unit has `inner` elements next to each other, and
# again after `count` units; see UnitStage.
cdef struct Units:
    Py_ssize_t p
    Py_ssize_t g                # 0: p's own elements are summed
    Py_ssize_t stages           # what makes the gradient
    Py_ssize_t n
    Py_ssize_t inner
    Py_ssize_t count
    Py_ssize_t pieces           # of its sums; see units.pxi
    Py_ssize_t is_double

# State that is decoded to memory of its own, where a walk needs all of it as numbers.
cdef struct Apart:
    Span span                   # whose s are codes
    int slots
    Py_ssize_t[6] numbers       # addresses, MAX_SLOTS; for slots that are codes
    Py_ssize_t p                # the same of a parameter that is codes

cdef void decode_apart(void *work, Py_ssize_t block, Py_ssize_t end) noexcept nogil
cdef void encode_apart(void *work, Py_ssize_t block, Py_ssize_t end) noexcept nogil

cdef void lead_on(Span *span, Codes *codes, Py_ssize_t first) noexcept nogil

cdef void run(Table table, bint flush, int team) noexcept nogil

cdef void run_blocks(
    Table table, bint flush, Py_ssize_t first, Py_ssize_t end, int team
) noexcept nogil

cdef void set_pieces(Units *units) noexcept nogil

cdef void sum_units(
    const Rule *of_run, const Rule *of_each, const Units *units, double factor, double *pieces,
    double *sums, int team,
) noexcept nogil

cdef void survey(const Rule *rule, double factor, Table table, double *out, int team) noexcept nogil

cdef void sum_rows(const Rule *add, const RowSums *sums, bint flush, int most) noexcept nogil

# Does some of the units of a piece of work: those from first to end.
ctypedef void (*Job)(void *work, Py_ssize_t first, Py_ssize_t end) noexcept nogil

cdef void share(Job job, void *work, Py_ssize_t count, bint flush, int team) noexcept nogil

cdef const floating *gradient(
    const Stages *stages, int n_stages, floating *p, const floating *g, floating *one, floating *other,
    Py_ssize_t n, Py_ssize_t at
) noexcept nogil
