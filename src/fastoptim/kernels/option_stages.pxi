# The stages that any rule may have around it. rules.pyx includes this file, so it is compiled for every
# instruction set. The underscore marks a function that is not a rule. A stage that makes a gradient
# writes it to s[0], so the caller's gradient stays as it is.

cdef extern from "platform.h":
    void FO_PREFETCH_READ(Py_ssize_t address) nogil

cdef enum:
    LANES = 32


cdef void _scale(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating factor = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = factor * g[i]


cdef void _scale_each(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = c[i] * g[i]


cdef void _shift(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating mean = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = g[i] - mean


cdef void _shift_each(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = g[i] - c[i]


cdef void _clip(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *x = s[0]
    cdef floating most = c[0], y
    cdef Py_ssize_t i
    for i in range(n):              # a NaN passes both comparisons, as it does np.clip
        y = most if g[i] > most else g[i]
        x[i] = -most if y < -most else y


cdef void _bound(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating low = c[0], high = c[1], y
    cdef Py_ssize_t i
    for i in range(n):              # a NaN stays
        y = low if p[i] < low else p[i]
        p[i] = high if y > high else y


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


# A step that was made apart from the parameter, in g, times its factor.
cdef void _follow(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating factor = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] += factor * g[i]


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


# Prefetches what is 2 KiB ahead of 32 elements: one stream alone is too slow for the hardware prefetcher,
# which begins anew on every page. Measured (Adam with clip_norm_per_key, 50 M float32, two threads): 1.28 bare
# updates with, 1.51 without.
cdef inline void fetch(const floating *x) noexcept nogil:
    FO_PREFETCH_READ(<Py_ssize_t> x + 2048)
    FO_PREFETCH_READ(<Py_ssize_t> x + 2048 + 64)
    if floating is double:
        FO_PREFETCH_READ(<Py_ssize_t> x + 2048 + 128)
        FO_PREFETCH_READ(<Py_ssize_t> x + 2048 + 192)


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
        fetch(&g[i])
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


# The same of the parameter and the gradient at once, a part of a block at a time: s[0] is 64 doubles,
# the lanes of p and those of g, which are added by the driver. n is a multiple of 32, but at the end.
cdef void _both_squares(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef double *lanes = <double *> s[0]
    cdef double[LANES] of_p
    cdef double[LANES] of_g
    cdef double x, y
    cdef Py_ssize_t i, j, k, whole = n - n % LANES
    for k in range(LANES):
        of_p[k] = lanes[k]
        of_g[k] = lanes[LANES + k]
    for j in range(n // LANES):
        i = j * LANES
        for k in range(LANES):
            x = p[i + k]
            of_p[k] += x * x
        for k in range(LANES):
            y = g[i + k]
            of_g[k] += y * y
    for k in range(n - whole):
        x = p[whole + k]
        y = g[whole + k]
        of_p[k] += x * x
        of_g[k] += y * y
    for k in range(LANES):
        lanes[k] = of_p[k]
        lanes[LANES + k] = of_g[k]


# The same of the elements themselves.
cdef void _total(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef double[LANES] lane
    cdef double total = 0.0
    cdef Py_ssize_t i, j, k, whole = n - n % LANES
    for k in range(LANES):
        lane[k] = 0.0
    for j in range(n // LANES):
        i = j * LANES
        for k in range(LANES):
            lane[k] += g[i + k]
    for k in range(n - whole):
        lane[k] += g[whole + k]
    for k in range(LANES):
        total += lane[k]
    (<double *> s[0])[0] = total


# Adds the square of each element to a sum of its own: s[0] is n doubles.
cdef void _column_squares(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef double *total = <double *> s[0]
    cdef floating factor = c[0], y
    cdef double x
    cdef Py_ssize_t i
    for i in range(n):
        y = factor * g[i]
        x = y
        total[i] += x * x


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
