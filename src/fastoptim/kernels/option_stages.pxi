# The stages that any rule may have around it. rules.pyx includes this file, so it is compiled for every
# instruction set. The underscore marks a function that is not a rule. A stage that makes a gradient
# writes it to s[0], so the caller's gradient stays as it is.

cdef enum:
    LANES = 32


cdef void _scale(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating factor = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = factor * g[i]


cdef void _clip(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating most = c[0], y
    cdef Py_ssize_t i
    for i in range(n):              # a NaN passes both comparisons, as it does np.clip
        y = most if g[i] > most else g[i]
        x[i] = -most if y < -most else y


cdef void _l2(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating weight_decay = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = g[i] + weight_decay * p[i]


cdef void _shrink(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating one_minus_lr_weight_decay = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] *= one_minus_lr_weight_decay


cdef void _average(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *a = s[0]
    cdef floating one_minus_decay = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        a[i] += one_minus_decay * (p[i] - a[i])


cdef void _swap(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *a = s[0]
    cdef floating x
    cdef Py_ssize_t i
    for i in range(n):
        x = p[i]
        p[i] = a[i]
        a[i] = x


cdef void _zero(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = 0


# One block's share of the global norm, its sum of squares: s[0] is one double. Lane k sums every 32nd
# element from element k on. The lanes are added in their order, so the sum is the same on every
# instruction set. 32 lanes keep the adders busy. c[0] is the factor that scales the gradient first, or
# 1. The sum is finite if and only if the block is, unless a square is too large for a double.
cdef void _survey(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef double[LANES] lane
    cdef floating factor = c[0], y
    cdef double x, total = 0.0
    cdef Py_ssize_t i, j, k, whole = n - n % LANES
    for k in range(LANES):
        lane[k] = 0.0
    for j in range(n // LANES):
        i = j * LANES
        for k in range(LANES):
            y = factor * g[i + k]
            x = y
            lane[k] += x * x
    for k in range(n - whole):
        y = factor * g[whole + k]
        x = y
        lane[k] += x * x
    for k in range(LANES):
        total += lane[k]
    (<double *> s[0])[0] = total


# Adds a gradient to the sum of those before it.
cdef void _add(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] += g[i]


# The benchmarks divide by the time of this one: it is the least work on the arrays of a rule with two
# slots (read four arrays, write three).
cdef void _stream(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += g[i]
        v[i] += g[i]
        p[i] += g[i]
