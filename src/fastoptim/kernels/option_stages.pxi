# What any rule may have around it, a block at a time; included by rules.pyx, so that it is compiled
# for every instruction set, too. Not rules, hence the underscore: no optimizer has these names. Those
# that make a gradient write it to s[0], so that the caller's stays as it is.

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


cdef void _zero(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = 0


# One block's share of the global norm: s[0] is one double. Each of the lanes takes every 32nd element,
# and they are added in their order, so it is the same sum on every instruction set; 32 of them keep
# the adders busy. c[0] is 1, or what the gradient is scaled by first. The sum is finite if and only if
# the block is, squares that are too large for a double aside.
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


# Adds a gradient to those gathered before it.
cdef void _add(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] += g[i]


# The bar for a rule: the least that can be done with the arrays of one with two slots (read four,
# write three). The benchmarks divide by it.
cdef void _stream(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *m = s[0]
    cdef floating *v = s[1]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] += g[i]
        v[i] += g[i]
        p[i] += g[i]
