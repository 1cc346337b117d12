"""The mathematics: one function per rule, in order of complexity, then the table.

Each function is the published listing, letter for letter. The order of operations is a promise:
with IEEE +, −, ×, ÷ and √ alone, no contraction and no reordering (the flags in setup.py), the
result is that of the NumPy listing to the last bit, on every instruction set and thread count.
So a line here is changed together with its listing or not at all.

Why these loops are plain:
 a) gcc vectorises each of them as it stands and checks at a span's entry that the arrays are
    apart. No intrinsics, no blocking, no unrolling by hand measured faster.
 b) Scalars come from Python (coefficients(t) in optimizers.py), where t and pow live; the loop
    has no t, no pow, and no branch that an element could take.
 c) float and double are one text through a fused type; AVX2 and AVX-512 are this file again,
    included by rules_avx2.pyx and rules_avx512.pyx and compiled with other flags.

Letters: p parameter, g gradient, s state slots, c coefficients, n elements of the span.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from libc.math cimport fabs, fabsf, sqrt, sqrtf

from fastoptim.kernels.rule cimport RULE_ABI, Rule, rule_f32, rule_f64


cdef inline floating root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef void sgd(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating lr = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] -= lr * g[i]


cdef void momentum(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating alpha = c[0], lr = c[1]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = alpha * v[i] - lr * g[i]
        p[i] += v[i]


cdef void nesterov(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating mu = c[0], lr = c[1], mu_mu = c[2], one_plus_mu_lr = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] += mu_mu * v[i] - one_plus_mu_lr * g[i]
        v[i] = mu * v[i] - lr * g[i]


cdef void nesterov_listing(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating mu = c[0], lr = c[1], mu_mu = c[2], one_plus_mu_lr = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = mu * v[i] - lr * g[i]
        p[i] += mu_mu * v[i]
        p[i] -= one_plus_mu_lr * g[i]


cdef void adagrad(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating lr = c[0], eps = c[1]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] += g[i] * g[i]
        p[i] -= lr * g[i] / (root(h[i]) + eps)


cdef void rmsprop(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        p[i] -= lr * g[i] / (root(h[i]) + eps)


cdef void adam(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        p[i] -= lr_t * m[i] / (root(v[i]) + eps)


include "stages.pxi"
include "passes.pxi"


cdef Rule[64] TABLE
cdef int rows = 0


cdef int row(const char *name, int slots, int coefs, rule_f32 f32, rule_f64 f64) except -1:
    global rows
    TABLE[rows] = Rule(RULE_ABI, name, slots, coefs, f32, f64)
    RULES[name.decode()] = PyCapsule_New(&TABLE[rows], "fastoptim.Rule", NULL)
    rows += 1
    return 0


# name → capsule "fastoptim.Rule" around its row
RULES = {}
#   name               slots coefs
row(b"sgd",              0, 1, <rule_f32> sgd[float], <rule_f64> sgd[double])
row(b"momentum",         1, 2, <rule_f32> momentum[float], <rule_f64> momentum[double])
row(b"nesterov",         1, 4, <rule_f32> nesterov[float], <rule_f64> nesterov[double])
row(b"nesterov_listing", 1, 4, <rule_f32> nesterov_listing[float], <rule_f64> nesterov_listing[double])
row(b"adagrad",          1, 2, <rule_f32> adagrad[float], <rule_f64> adagrad[double])
row(b"rmsprop",          1, 4, <rule_f32> rmsprop[float], <rule_f64> rmsprop[double])
row(b"adam",             2, 4, <rule_f32> adam[float], <rule_f64> adam[double])

row(b"_scale",           1, 1, <rule_f32> _scale[float], <rule_f64> _scale[double])
row(b"_clip",            1, 1, <rule_f32> _clip[float], <rule_f64> _clip[double])
row(b"_l2",              1, 1, <rule_f32> _l2[float], <rule_f64> _l2[double])
row(b"_shrink",          0, 1, <rule_f32> _shrink[float], <rule_f64> _shrink[double])
row(b"_average",         1, 1, <rule_f32> _average[float], <rule_f64> _average[double])
row(b"_zero",            0, 0, <rule_f32> _zero[float], <rule_f64> _zero[double])
row(b"_survey",          1, 1, <rule_f32> _survey[float], <rule_f64> _survey[double])
row(b"_add",             0, 0, <rule_f32> _add[float], <rule_f64> _add[double])
row(b"_stream",          2, 0, <rule_f32> _stream[float], <rule_f64> _stream[double])

row(b"_copy",            0,  0, <rule_f32> _copy[float], <rule_f64> _copy[double])
row(b"_combine1",        1,  1, <rule_f32> _combine1[float], <rule_f64> _combine1[double])
row(b"_combine2",        2,  2, <rule_f32> _combine2[float], <rule_f64> _combine2[double])
row(b"_combine3",        3,  3, <rule_f32> _combine3[float], <rule_f64> _combine3[double])
row(b"_combine5",        5,  5, <rule_f32> _combine5[float], <rule_f64> _combine5[double])
row(b"_stage1",          2,  1, <rule_f32> _stage1[float], <rule_f64> _stage1[double])
row(b"_stage2",          3,  2, <rule_f32> _stage2[float], <rule_f64> _stage2[double])
row(b"_stage3",          4,  3, <rule_f32> _stage3[float], <rule_f64> _stage3[double])
row(b"_stage4",          5,  4, <rule_f32> _stage4[float], <rule_f64> _stage4[double])
row(b"_stage5",          6,  5, <rule_f32> _stage5[float], <rule_f64> _stage5[double])
row(b"_embedded3",       4,  6, <rule_f32> _embedded3[float], <rule_f64> _embedded3[double])
row(b"_embedded5",       6, 10, <rule_f32> _embedded5[float], <rule_f64> _embedded5[double])
row(b"_error_squared",   3,  3, <rule_f32> _error_squared[float], <rule_f64> _error_squared[double])
