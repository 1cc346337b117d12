"""The mathematics: one function per rule, in order of complexity, then the table.

Each function is the published listing, letter for letter. The order of operations is a promise:
with IEEE +, −, ×, ÷ and √ alone, no contraction and no reordering (the flags in setup.py), the
result is that of the NumPy listing to the last bit, on every instruction set and thread count.
So a line here is changed together with its listing or not at all.

Why these loops are plain:
 a) gcc vectorises each loop as it stands, and checks once per span that the arrays do not overlap.
    Intrinsics, blocking and unrolling by hand measured no faster.
 b) Python computes the scalars (coefficients(t) in fastoptim/rules.py). So a loop has no t, no pow,
    and no branch that an element could take.
 c) ε_root = 0 changes no bit: h + 0 is h unless h is −0. A sum of squares is never −0, and √−0 + ε is
    √0 + ε. So √(h + ε_root) + ε needs no second kernel.
 d) adan has two loops, because gcc compares at most ten pairs of arrays for overlap, and leaves a loop
    that needs more unvectorised. In one loop its time was 3.3 times that of Adam (20 M float32), in two
    it is 1.6 times (0.3 M), as 11 arrays read or written are to Adam's 7.
 e) A fused type makes float and double of one text. rules_avx2.pyx and rules_avx512.pyx include this
    file and are compiled with other flags.

Letters: p parameter, g gradient, s state slots, c coefficients, n elements of the span.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from libc.math cimport fabs, fabsf, sqrt, sqrtf
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastoptim.kernels.factors cimport Factors, Strip
from fastoptim.kernels.ode.piece cimport Piece
from fastoptim.kernels.rule cimport RULE_ABI, Rule, rule_f32, rule_f64


cdef inline floating root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef inline floating magnitude(floating x) noexcept nogil:
    if floating is float:
        return fabsf(x)
    else:
        return fabs(x)


# sign, larger and within give what np.sign, np.maximum and np.clip give, for zeros and NaN, too. A
# comparison that chooses between two values is compiled to a blend.
cdef inline floating sign(floating x) noexcept nogil:
    cdef floating y = 0 if x == 0 else x
    y = 1 if x > 0 else y
    return -1 if x < 0 else y


cdef inline floating larger(floating x, floating y) noexcept nogil:
    return x if (x >= y) | (x != x) else y


cdef inline floating within(floating x, floating low, floating high) noexcept nogil:
    cdef floating y = high if x > high else x
    return low if y < low else y


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


cdef void heavy_ball(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating mu = c[0], one_minus_dampening = c[1], lr = c[2]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = mu * v[i] + one_minus_dampening * g[i]
        p[i] -= lr * v[i]


cdef void heavy_ball_nesterov(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating mu = c[0], one_minus_dampening = c[1], lr = c[2]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = mu * v[i] + one_minus_dampening * g[i]
        p[i] -= lr * (g[i] + mu * v[i])


cdef void nesterov(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating mu = c[0], lr = c[1], mu_mu = c[2], one_plus_mu_lr = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] += mu_mu * v[i]
        p[i] -= one_plus_mu_lr * g[i]
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


cdef void sign_sgd(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating lr = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] -= lr * sign(g[i])


cdef void sign_sgd_momentum(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating momentum = c[0], one_minus_momentum = c[1], lr = c[2]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = momentum * m[i] + one_minus_momentum * g[i]
        p[i] -= lr * sign(m[i])


cdef void schedule_free_sgd(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *d = s[0]
    cdef floating lr = c[0], decay = c[1], one_minus_beta = c[2], beta_share = c[3], share = c[4], step
    cdef Py_ssize_t i
    for i in range(n):
        step = lr * g[i] + decay * p[i]
        d[i] -= step
        p[i] += beta_share * d[i] - one_minus_beta * step
        d[i] -= share * d[i]


cdef void lion(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating beta1 = c[0], one_minus_beta1 = c[1], beta2 = c[2], one_minus_beta2 = c[3], lr = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] -= lr * sign(beta1 * m[i] + one_minus_beta1 * g[i])
        m[i] = beta2 * m[i] + one_minus_beta2 * g[i]


cdef void rprop(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *g_prev = s[0]
    cdef floating *delta = s[1]
    cdef floating eta_minus = c[0], eta_plus = c[1], step_min = c[2], step_max = c[3], turn, step
    cdef Py_ssize_t i
    for i in range(n):
        turn = g[i] * g_prev[i]
        step = delta[i] * eta_plus if turn > 0 else delta[i]
        step = delta[i] * eta_minus if turn < 0 else step
        delta[i] = within(step, step_min, step_max)
        g_prev[i] = 0 if turn < 0 else g[i]
        p[i] -= sign(g_prev[i]) * delta[i]


cdef void adagrad(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating lr = c[0], eps = c[1], eps_root = c[2]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] += g[i] * g[i]
        p[i] -= lr * g[i] / (root(h[i] + eps_root) + eps)


cdef void ftrl(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating *z = s[1]
    cdef floating lr = c[0], l1 = c[1], two_l2 = c[2], root_h, x
    cdef Py_ssize_t i
    for i in range(n):
        root_h = root(h[i])
        h[i] += g[i] * g[i]
        z[i] += g[i] - (root(h[i]) - root_h) / lr * p[i]
        x = within(z[i], -l1, l1) - z[i]
        p[i] = 0 if x == 0 else x / (root(h[i]) / lr + two_l2)


cdef void rmsprop(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3], eps_root = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        p[i] -= lr * g[i] / (root(h[i] + eps_root) + eps)


cdef void rmsprop_momentum(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating *v = s[1]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3], momentum = c[4], eps_root = c[5]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        v[i] = momentum * v[i] + g[i] / (root(h[i] + eps_root) + eps)
        p[i] -= lr * v[i]


cdef void rmsprop_centered(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating *m = s[1]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3], eps_root = c[4], variance
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        m[i] += one_minus_rho * (g[i] - m[i])
        variance = h[i] - m[i] * m[i]
        variance = 0 if variance < 0 else variance
        p[i] -= lr * g[i] / (root(variance + eps_root) + eps)


cdef void rmsprop_centered_momentum(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating *m = s[1]
    cdef floating *v = s[2]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3], momentum = c[4], eps_root = c[5], variance
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        m[i] += one_minus_rho * (g[i] - m[i])
        variance = h[i] - m[i] * m[i]
        variance = 0 if variance < 0 else variance
        v[i] = momentum * v[i] + g[i] / (root(variance + eps_root) + eps)
        p[i] -= lr * v[i]


cdef void adadelta(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *h = s[0]
    cdef floating *d = s[1]
    cdef floating rho = c[0], one_minus_rho = c[1], lr = c[2], eps = c[3], step
    cdef Py_ssize_t i
    for i in range(n):
        h[i] *= rho
        h[i] += one_minus_rho * g[i] * g[i]
        step = root(d[i] + eps) / root(h[i] + eps) * g[i]
        d[i] *= rho
        d[i] += one_minus_rho * step * step
        p[i] -= lr * step


cdef void adam(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3], eps_root = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        p[i] -= lr_t * m[i] / (root(v[i] + eps_root) + eps)


cdef void adam_amsgrad(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating *v_max = s[2]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3], eps_root = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        v_max[i] = larger(v_max[i], v[i])
        p[i] -= lr_t * m[i] / (root(v_max[i] + eps_root) + eps)


cdef void adamax(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *u = s[1]
    cdef floating one_minus_beta1 = c[0], beta2 = c[1], lr_t = c[2], eps = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        u[i] = larger(beta2 * u[i], magnitude(g[i]) + eps)
        p[i] -= lr_t * m[i] / u[i]


cdef void nadam(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_g = c[2], lr_m = c[3], eps = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        p[i] -= (lr_g * g[i] + lr_m * m[i]) / (root(v[i]) + eps)


cdef void radam(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3], rectified = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        p[i] -= lr_t * m[i] / (root(v[i]) + eps if rectified != 0 else 1)


cdef void adabelief(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3], eps_root = c[4], d
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        d = g[i] - m[i]
        v[i] += one_minus_beta2 * (d * d - v[i]) + eps_root
        p[i] -= lr_t * m[i] / (root(v[i]) + eps)


cdef void yogi(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], lr_t = c[2], eps = c[3], square
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        square = g[i] * g[i]
        v[i] -= one_minus_beta2 * sign(v[i] - square) * square
        p[i] -= lr_t * m[i] / (root(v[i]) + eps)


cdef void adan(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef floating *h = s[2]
    cdef floating *g_prev = s[3]
    cdef floating one_minus_beta1 = c[0], one_minus_beta2 = c[1], beta2 = c[2], one_minus_beta3 = c[3]
    cdef floating lr_m = c[4], lr_v = c[5], eps = c[6], has_prev = c[7], change, ahead
    cdef Py_ssize_t i
    for i in range(n):
        change = g[i] - g_prev[i] if has_prev != 0 else 0
        g_prev[i] = g[i]
        ahead = g[i] + beta2 * change
        v[i] += one_minus_beta2 * (change - v[i])
        h[i] += one_minus_beta3 * (ahead * ahead - h[i])
    for i in range(n):
        m[i] += one_minus_beta1 * (g[i] - m[i])
        p[i] -= (lr_m * m[i] + lr_v * v[i]) / (root(h[i]) + eps)


cdef void schedule_free_adamw(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating *d = s[1]
    cdef floating one_minus_beta2 = c[0], lr_t = c[1], eps = c[2], decay = c[3]
    cdef floating one_minus_beta1 = c[4], beta1_share = c[5], share = c[6], step
    cdef Py_ssize_t i
    for i in range(n):
        v[i] += one_minus_beta2 * (g[i] * g[i] - v[i])
        step = lr_t * g[i] / (root(v[i]) + eps) + decay * p[i]
        d[i] -= step
        p[i] += beta1_share * d[i] - one_minus_beta1 * step
        d[i] -= share * d[i]


include "option_stages.pxi"
include "adafactor.pxi"
include "runge_kutta.pxi"
include "muon.pxi"
include "codecs.pxi"


cdef Rule[96] TABLE
cdef int rows = 0


cdef int row(dict kernels, const char *name, int slots, int coefs, rule_f32 f32, rule_f64 f64) except -1:
    global rows
    if rows == 96:
        raise ValueError("TABLE has room for 96 rows; make it longer")
    TABLE[rows] = Rule(RULE_ABI, name, slots, coefs, f32, f64)
    kernels[name.decode()] = PyCapsule_New(&TABLE[rows], "fastoptim.Rule", NULL)
    rows += 1
    return 0


# name → capsule "fastoptim.Rule" around its row
RULES = {}
#          name                   slots coefs
row(RULES, b"sgd",                  0, 1, <rule_f32> sgd[float], <rule_f64> sgd[double])
row(RULES, b"momentum",             1, 2, <rule_f32> momentum[float], <rule_f64> momentum[double])
row(RULES, b"heavy_ball",           1, 3, <rule_f32> heavy_ball[float], <rule_f64> heavy_ball[double])
row(RULES, b"heavy_ball_nesterov",  1, 3, <rule_f32> heavy_ball_nesterov[float], <rule_f64> heavy_ball_nesterov[double])
row(RULES, b"nesterov",             1, 4, <rule_f32> nesterov[float], <rule_f64> nesterov[double])
row(RULES, b"nesterov_listing",     1, 4, <rule_f32> nesterov_listing[float], <rule_f64> nesterov_listing[double])
row(RULES, b"sign_sgd",             0, 1, <rule_f32> sign_sgd[float], <rule_f64> sign_sgd[double])
row(RULES, b"sign_sgd_momentum",    1, 3, <rule_f32> sign_sgd_momentum[float], <rule_f64> sign_sgd_momentum[double])
row(RULES, b"schedule_free_sgd",    1, 5, <rule_f32> schedule_free_sgd[float], <rule_f64> schedule_free_sgd[double])
row(RULES, b"lion",                 1, 5, <rule_f32> lion[float], <rule_f64> lion[double])
row(RULES, b"rprop",                2, 4, <rule_f32> rprop[float], <rule_f64> rprop[double])
row(RULES, b"adagrad",              1, 3, <rule_f32> adagrad[float], <rule_f64> adagrad[double])
row(RULES, b"ftrl",                 2, 3, <rule_f32> ftrl[float], <rule_f64> ftrl[double])
row(RULES, b"rmsprop",              1, 5, <rule_f32> rmsprop[float], <rule_f64> rmsprop[double])
row(RULES, b"rmsprop_momentum",     2, 6, <rule_f32> rmsprop_momentum[float], <rule_f64> rmsprop_momentum[double])
row(RULES, b"rmsprop_centered",     2, 5, <rule_f32> rmsprop_centered[float], <rule_f64> rmsprop_centered[double])
row(RULES, b"rmsprop_centered_momentum", 3, 6,
    <rule_f32> rmsprop_centered_momentum[float], <rule_f64> rmsprop_centered_momentum[double])
row(RULES, b"adadelta",             2, 4, <rule_f32> adadelta[float], <rule_f64> adadelta[double])
row(RULES, b"adam",                 2, 5, <rule_f32> adam[float], <rule_f64> adam[double])
row(RULES, b"adam_amsgrad",         3, 5, <rule_f32> adam_amsgrad[float], <rule_f64> adam_amsgrad[double])
row(RULES, b"adamax",               2, 4, <rule_f32> adamax[float], <rule_f64> adamax[double])
row(RULES, b"nadam",                2, 5, <rule_f32> nadam[float], <rule_f64> nadam[double])
row(RULES, b"radam",                2, 5, <rule_f32> radam[float], <rule_f64> radam[double])
row(RULES, b"adabelief",            2, 5, <rule_f32> adabelief[float], <rule_f64> adabelief[double])
row(RULES, b"yogi",                 2, 4, <rule_f32> yogi[float], <rule_f64> yogi[double])
row(RULES, b"adan",                 4, 8, <rule_f32> adan[float], <rule_f64> adan[double])
row(RULES, b"schedule_free_adamw",  2, 7, <rule_f32> schedule_free_adamw[float], <rule_f64> schedule_free_adamw[double])
row(RULES, b"adafactor",            1, 4, <rule_f32> adafactor[float], <rule_f64> adafactor[double])
row(RULES, b"adafactor_momentum",   2, 5, <rule_f32> adafactor_momentum[float], <rule_f64> adafactor_momentum[double])

# The same for the functions that are not rules.
PASSES = {}
row(PASSES, b"scale",           1, 1, <rule_f32> _scale[float], <rule_f64> _scale[double])
row(PASSES, b"start",           1, 1, <rule_f32> _scale[float], <rule_f64> _scale[double])
row(PASSES, b"scale_each",      1, 1, <rule_f32> _scale_each[float], <rule_f64> _scale_each[double])
row(PASSES, b"shift",           1, 1, <rule_f32> _shift[float], <rule_f64> _shift[double])
row(PASSES, b"shift_each",      1, 1, <rule_f32> _shift_each[float], <rule_f64> _shift_each[double])
row(PASSES, b"clip",            1, 1, <rule_f32> _clip[float], <rule_f64> _clip[double])
row(PASSES, b"bound",           0, 2, <rule_f32> _bound[float], <rule_f64> _bound[double])
row(PASSES, b"l2",              1, 1, <rule_f32> _l2[float], <rule_f64> _l2[double])
row(PASSES, b"shrink",          0, 1, <rule_f32> _shrink[float], <rule_f64> _shrink[double])
row(PASSES, b"follow",          0, 1, <rule_f32> _follow[float], <rule_f64> _follow[double])
row(PASSES, b"average",         1, 1, <rule_f32> _average[float], <rule_f64> _average[double])
row(PASSES, b"swap",            1, 0, <rule_f32> _swap[float], <rule_f64> _swap[double])
row(PASSES, b"zero",            0, 0, <rule_f32> _zero[float], <rule_f64> _zero[double])
row(PASSES, b"muon_direction",  2, 4, <rule_f32> _muon_direction[float], <rule_f64> _muon_direction[double])
row(PASSES, b"muon",            2, 4, <rule_f32> _muon[float], <rule_f64> _muon[double])
row(PASSES, b"survey",          1, 1, <rule_f32> _survey[float], <rule_f64> _survey[double])
row(PASSES, b"both_squares",    1, 0, <rule_f32> _both_squares[float], <rule_f64> _both_squares[double])
row(PASSES, b"total",           1, 0, <rule_f32> _total[float], <rule_f64> _total[double])
row(PASSES, b"column_squares",  1, 1, <rule_f32> _column_squares[float], <rule_f64> _column_squares[double])
row(PASSES, b"add",             0, 0, <rule_f32> _add[float], <rule_f64> _add[double])
row(PASSES, b"stream",          2, 0, <rule_f32> _stream[float], <rule_f64> _stream[double])

row(PASSES, b"factored",        2, 4, <rule_f32> _factored[float], <rule_f64> _factored[double])
row(PASSES, b"factored_momentum", 3, 5, <rule_f32> _factored_momentum[float], <rule_f64> _factored_momentum[double])
row(PASSES, b"squares",         1, 0, <rule_f32> _squares[float], <rule_f64> _squares[double])
row(PASSES, b"factored_squares", 1, 0, <rule_f32> _factored_squares[float], <rule_f64> _factored_squares[double])
row(PASSES, b"adafactor_squares", 2, 4, <rule_f32> _adafactor_squares[float], <rule_f64> _adafactor_squares[double])
row(PASSES, b"sum",             1, 0, <rule_f32> _sum[float], <rule_f64> _sum[double])

# The same for codecs: what has s[0] is one argument.
CODECS = {}
row(CODECS, b"random_bits",     1, 0, <rule_f32> _random_bits[float], <rule_f64> _random_bits[double])
row(CODECS, b"of_bfloat16",     1, 0, <rule_f32> _of_bfloat16[float], <rule_f64> _of_bfloat16[double])
row(CODECS, b"to_bfloat16",     1, 0, <rule_f32> _to_bfloat16[float], <rule_f64> _to_bfloat16[double])
row(CODECS, b"both_to_bfloat16", 2, 0, <rule_f32> _both_to_bfloat16[float], <rule_f64> _both_to_bfloat16[double])
row(CODECS, b"nearest_bfloat16", 1, 0, <rule_f32> _nearest_bfloat16[float], <rule_f64> _nearest_bfloat16[double])
row(CODECS, b"of_float16",      1, 0, <rule_f32> _of_float16[float], <rule_f64> _of_float16[double])
row(CODECS, b"to_float16",      1, 0, <rule_f32> _to_float16[float], <rule_f64> _to_float16[double])
row(CODECS, b"nearest_float16", 1, 0, <rule_f32> _nearest_float16[float], <rule_f64> _nearest_float16[double])
row(CODECS, b"of_unsigned",     1, 0, <rule_f32> _of_unsigned[float], <rule_f64> _of_unsigned[double])
row(CODECS, b"to_unsigned",     1, 0, <rule_f32> _to_unsigned[float], <rule_f64> _to_unsigned[double])
row(CODECS, b"of_signed",       1, 0, <rule_f32> _of_signed[float], <rule_f64> _of_signed[double])
row(CODECS, b"to_signed",       1, 0, <rule_f32> _to_signed[float], <rule_f64> _to_signed[double])

row(PASSES, b"copy",            0,  0, <rule_f32> _copy[float], <rule_f64> _copy[double])
row(PASSES, b"ahead",           1,  1, <rule_f32> _ahead[float], <rule_f64> _ahead[double])
row(PASSES, b"save",            1,  0, <rule_f32> _save[float], <rule_f64> _save[double])
row(PASSES, b"restore",         1,  0, <rule_f32> _restore[float], <rule_f64> _restore[double])
row(PASSES, b"leap",            1,  1, <rule_f32> _leap[float], <rule_f64> _leap[double])
row(PASSES, b"combine1",        1,  1, <rule_f32> _combine1[float], <rule_f64> _combine1[double])
row(PASSES, b"combine2",        2,  2, <rule_f32> _combine2[float], <rule_f64> _combine2[double])
row(PASSES, b"combine3",        3,  3, <rule_f32> _combine3[float], <rule_f64> _combine3[double])
row(PASSES, b"combine5",        5,  5, <rule_f32> _combine5[float], <rule_f64> _combine5[double])
row(PASSES, b"slope1",          2,  1, <rule_f32> _slope1[float], <rule_f64> _slope1[double])
row(PASSES, b"slope2",          3,  2, <rule_f32> _slope2[float], <rule_f64> _slope2[double])
row(PASSES, b"slope3",          4,  3, <rule_f32> _slope3[float], <rule_f64> _slope3[double])
row(PASSES, b"slope4",          5,  4, <rule_f32> _slope4[float], <rule_f64> _slope4[double])
row(PASSES, b"slope5",          6,  5, <rule_f32> _slope5[float], <rule_f64> _slope5[double])
row(PASSES, b"embedded3",       4,  6, <rule_f32> _embedded3[float], <rule_f64> _embedded3[double])
row(PASSES, b"embedded5",       6, 10, <rule_f32> _embedded5[float], <rule_f64> _embedded5[double])
row(PASSES, b"error_squared",   2,  3, <rule_f32> _error_squared[float], <rule_f64> _error_squared[double])
