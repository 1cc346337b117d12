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


cdef inline floating size(floating x) noexcept nogil:
    if floating is float:
        return fabsf(x)
    else:
        return fabs(x)


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


# Not a rule but the bar for one: the least that can be done with the arrays of a two-slot rule
# (read four, write three). The benchmarks divide by it; no optimizer has this name.
cdef void _stream(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += g[i]
        v[i] += g[i]
        p[i] += g[i]


# ---------------------------------------------------------------- passes, which are no rules

# What runs over many arrays of ours in one region (sweep.pyx), in the same shape as a rule: p is
# the place of the result, g what was evaluated last, s the rest. ode.py has the mathematics.
# A weighted sum grows in a tile of its own, one k after the other: in one loop over all of them gcc
# would have to check more pairs of arrays for overlap than it is willing to (10), and not vectorise.
# Measured (RK45's passes, 1 M float32, AVX-512 and AVX2): with tiles of 128 the larger passes take
# 0.65 to 0.95 of the time that 256 needs, and a quarter to a half of what 1,024 needs.

cdef enum:
    TILE = 128
    LANES = 16


cdef inline void weighted(
    floating *total, const floating *g, floating **s, const floating *c, Py_ssize_t i, Py_ssize_t n, int m
) noexcept nogil:
    """total = c₁k₁ + … + cₘkₘ from left to right, elements i to i + n; kⱼ is s[j], kₘ is g."""
    cdef const floating *k = g if m == 1 else s[1]
    cdef floating weight = c[0]
    cdef Py_ssize_t e
    cdef int j
    for e in range(n):
        total[e] = weight * k[i + e]
    for j in range(1, m):
        k = g if j == m - 1 else s[j + 1]
        weight = c[j]
        for e in range(n):
            total[e] += weight * k[i + e]


cdef inline void add(
    floating *p, const floating *y, const floating *g, floating **s, const floating *c, Py_ssize_t n, int m,
    floating *keep, floating *error,
) noexcept nogil:
    """p = y + c₁k₁ + … + cₘkₘ; then keep = kₘ, error = cₘ₊₁k₁ + … + c₂ₘkₘ, where there is room."""
    cdef floating[TILE] total
    cdef Py_ssize_t i = 0, e, part
    while i < n:
        part = min(TILE, n - i)
        weighted(total, g, s, c, i, part, m)
        for e in range(part):
            p[i + e] = y[i + e] + total[e]
        if keep != NULL:
            for e in range(part):
                keep[i + e] = g[i + e]
        if error != NULL:
            weighted(total, g, s, c + m, i, part, m)
            for e in range(part):
                error[i + e] = total[e]
        i += part


cdef void _copy(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = g[i]


# _combine<m>: p = y + the sum of m.

cdef void _combine1(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 1, NULL, NULL)


cdef void _combine2(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 2, NULL, NULL)


cdef void _combine3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, NULL, NULL)


cdef void _combine5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, NULL, NULL)


# _stage<m>: the same, and kₘ is kept in the last slot, for its owner may use its memory again.

cdef void _stage1(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 1, s[1], NULL)


cdef void _stage2(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 2, s[2], NULL)


cdef void _stage3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, s[3], NULL)


cdef void _stage4(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 4, s[4], NULL)


cdef void _stage5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, s[5], NULL)


# _embedded<m>: the same, and the last slot becomes the error, or as much of it as m stages can tell.

cdef void _embedded3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, NULL, s[3])


cdef void _embedded5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, NULL, s[5])


cdef void _error_squared(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    """One double at p: the sum of (error / (atol + rtol max(|y|, |ŷ|)))², in lanes of fixed place.

    The error's last term is still to be added, c₀ times the stage just evaluated. An infinite ŷ
    would divide the error away, so 0 ŷ is added to it, which is then NaN.
    """
    cdef const floating *y = s[0]
    cdef const floating *y_new = s[1]
    cdef const floating *error = s[2]
    cdef floating weight = c[0], rtol = c[1], atol = c[2]
    cdef double[LANES] lane
    cdef double total = 0.0
    cdef floating a, b, d
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(LANES):
        lane[j] = 0.0
    while i + LANES <= n:
        for j in range(LANES):
            a = size(y[i + j])
            b = size(y_new[i + j])
            d = (error[i + j] + weight * g[i + j] + 0 * y_new[i + j]) / (atol + rtol * (a if a > b else b))
            lane[j] += <double> d * <double> d
        i += LANES
    for j in range(<int> (n - i)):
        a = size(y[i + j])
        b = size(y_new[i + j])
        d = (error[i + j] + weight * g[i + j] + 0 * y_new[i + j]) / (atol + rtol * (a if a > b else b))
        lane[j] += <double> d * <double> d
    for j in range(LANES):
        total += lane[j]
    (<double *> p)[0] = total


cdef Rule[21] TABLE
#                         name          slots coefs
TABLE[0] = Rule(RULE_ABI, b"sgd",           0, 1, <rule_f32> sgd[float], <rule_f64> sgd[double])
TABLE[1] = Rule(RULE_ABI, b"momentum",      1, 2, <rule_f32> momentum[float], <rule_f64> momentum[double])
TABLE[2] = Rule(RULE_ABI, b"nesterov",      1, 4, <rule_f32> nesterov[float], <rule_f64> nesterov[double])
TABLE[3] = Rule(
    RULE_ABI, b"nesterov_listing",          1, 4,
    <rule_f32> nesterov_listing[float], <rule_f64> nesterov_listing[double],
)
TABLE[4] = Rule(RULE_ABI, b"adagrad",       1, 2, <rule_f32> adagrad[float], <rule_f64> adagrad[double])
TABLE[5] = Rule(RULE_ABI, b"rmsprop",       1, 4, <rule_f32> rmsprop[float], <rule_f64> rmsprop[double])
TABLE[6] = Rule(RULE_ABI, b"adam",          2, 4, <rule_f32> adam[float], <rule_f64> adam[double])
TABLE[7] = Rule(RULE_ABI, b"_stream",       2, 0, <rule_f32> _stream[float], <rule_f64> _stream[double])
TABLE[8] = Rule(RULE_ABI, b"_copy",          0, 0, <rule_f32> _copy[float], <rule_f64> _copy[double])
TABLE[9] = Rule(RULE_ABI, b"_combine1",      1, 1, <rule_f32> _combine1[float], <rule_f64> _combine1[double])
TABLE[10] = Rule(RULE_ABI, b"_combine2",      2, 2, <rule_f32> _combine2[float], <rule_f64> _combine2[double])
TABLE[11] = Rule(RULE_ABI, b"_combine3",      3, 3, <rule_f32> _combine3[float], <rule_f64> _combine3[double])
TABLE[12] = Rule(RULE_ABI, b"_combine5",      5, 5, <rule_f32> _combine5[float], <rule_f64> _combine5[double])
TABLE[13] = Rule(RULE_ABI, b"_stage1",        2, 1, <rule_f32> _stage1[float], <rule_f64> _stage1[double])
TABLE[14] = Rule(RULE_ABI, b"_stage2",        3, 2, <rule_f32> _stage2[float], <rule_f64> _stage2[double])
TABLE[15] = Rule(RULE_ABI, b"_stage3",        4, 3, <rule_f32> _stage3[float], <rule_f64> _stage3[double])
TABLE[16] = Rule(RULE_ABI, b"_stage4",        5, 4, <rule_f32> _stage4[float], <rule_f64> _stage4[double])
TABLE[17] = Rule(RULE_ABI, b"_stage5",        6, 5, <rule_f32> _stage5[float], <rule_f64> _stage5[double])
TABLE[18] = Rule(RULE_ABI, b"_embedded3",     4, 6, <rule_f32> _embedded3[float], <rule_f64> _embedded3[double])
TABLE[19] = Rule(RULE_ABI, b"_embedded5",     6, 10, <rule_f32> _embedded5[float], <rule_f64> _embedded5[double])
TABLE[20] = Rule(RULE_ABI, b"_error_squared", 3, 3, <rule_f32> _error_squared[float], <rule_f64> _error_squared[double])

# name → capsule "fastoptim.Rule" around its row
RULES = {}
for row in range(sizeof(TABLE) // sizeof(Rule)):
    RULES[TABLE[row].name.decode()] = PyCapsule_New(&TABLE[row], "fastoptim.Rule", NULL)
