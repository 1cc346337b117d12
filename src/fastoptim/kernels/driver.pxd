"""A table of spans, the stages that a span passes, and the walk over them."""

from fastoptim.kernels.rule cimport Rule, rule_f32, rule_f64

# A loop with its scalars, rounded once to either dtype.
cdef struct Stage:
    rule_f32 f32
    rule_f64 f64
    float c32
    double c64

# What a block passes through: stages that nobody asked for are not in it.
cdef struct Pipeline:
    const Rule *rule
    int n_grad
    int n_param
    int average         # whether the weights are averaged, and by which stage
    int zero
    Stage[4] grad       # make the gradient that the rule sees, one out of the other
    Stage[1] param      # change the parameter before the rule
    Stage averager
    Stage zeroer

# Addresses are integers, so that the table can be a typed memoryview.
cdef struct Span:
    Py_ssize_t p
    Py_ssize_t g
    Py_ssize_t[6] s     # MAX_SLOTS of rule.pxd
    Py_ssize_t a        # the average, where the pipeline has one
    Py_ssize_t n        # elements of the gradient
    Py_ssize_t rows     # 0, or the numbers of the rows of p, s and a that the gradient's rows are for
    Py_ssize_t length   # of a row, in elements
    Py_ssize_t first    # blocks in the spans before this one
    Py_ssize_t c        # row of the coefficient tables
    Py_ssize_t line     # its Pipeline
    Py_ssize_t wide     # 0: float32, 1: float64

# The rows of one gradient, and what shall become of them: row k of out is the sum of the rows
# order[start[k]], …, order[start[k + 1] - 1] of values, in this order.
cdef struct Sum:
    Py_ssize_t out
    Py_ssize_t values
    Py_ssize_t start
    Py_ssize_t order
    Py_ssize_t count
    Py_ssize_t length
    Py_ssize_t wide

cdef Py_ssize_t blocks_of(Py_ssize_t n) noexcept nogil

cdef Py_ssize_t work_of(const Span *spans, Py_ssize_t count) noexcept nogil

cdef float rounded(double x) noexcept nogil

cdef Span[::1] new_table(Py_ssize_t capacity)

cdef void run(
    Span[::1] spans, Py_ssize_t count, const float[:, ::1] c32, const double[:, ::1] c64, bint flush,
    int team,
) noexcept nogil

cdef void survey(
    const Rule *rule, double factor, Span[::1] spans, Py_ssize_t count, double[::1] out, int team
) noexcept nogil

cdef void sum_rows(const Rule *add, const Sum *one, bint flush, int most) noexcept nogil
