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
from libc.math cimport sqrt, sqrtf

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


cdef Rule[8] TABLE
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

# name → capsule "fastoptim.Rule" around its row
RULES = {}
for row in range(sizeof(TABLE) // sizeof(Rule)):
    RULES[TABLE[row].name.decode()] = PyCapsule_New(&TABLE[row], "fastoptim.Rule", NULL)
