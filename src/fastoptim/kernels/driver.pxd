"""A table of spans, the stages that a span passes, and the walk over them."""

from fastoptim.kernels.rule cimport Rule, rule_f32, rule_f64

# Addresses are integers, so that the table can be a typed memoryview.
cdef struct Span:
    Py_ssize_t p
    Py_ssize_t g
    Py_ssize_t[6] s     # MAX_SLOTS of rule.pxd
    Py_ssize_t n        # elements
    Py_ssize_t first    # blocks in the spans before this one
    Py_ssize_t c        # row of the coefficient tables
    Py_ssize_t wide     # 0: float32, 1: float64

# What a block passes through. A stage that no option asks for is NULL.
ctypedef const float *(*prepare_f32)(float *p, const float *g, float *scratch, Py_ssize_t n) noexcept nogil
ctypedef const double *(*prepare_f64)(double *p, const double *g, double *scratch, Py_ssize_t n) noexcept nogil

cdef struct Pipeline:
    const Rule *rule
    prepare_f32 prepare32   # before the rule: returns the gradient that the rule shall see
    prepare_f64 prepare64
    rule_f32 finish32       # after the rule
    rule_f64 finish64

cdef Py_ssize_t blocks_of(Py_ssize_t n) noexcept nogil

cdef float rounded(double x) noexcept nogil

cdef Span[::1] new_table(Py_ssize_t capacity)

cdef void run(
    const Pipeline *line, Span[::1] spans, Py_ssize_t count,
    const float[:, ::1] c32, const double[:, ::1] c64,
) noexcept nogil
