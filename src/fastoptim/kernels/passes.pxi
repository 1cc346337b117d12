# Passes, which are no rules; included by rules.pyx like the stages.
# What runs over many arrays of ours in one region (sweep.pyx), in the same shape as a rule: p is
# the place of the result, g what was evaluated last, s the rest. ode.py has the mathematics.
# A weighted sum grows in a tile of its own, one k after the other: in one loop over all of them gcc
# would have to check more pairs of arrays for overlap than it is willing to (10), and not vectorise.
# Measured (RK45's passes, 1 M float32, AVX-512 and AVX2): with tiles of 128 the larger passes take
# 0.65 to 0.95 of the time that 256 needs, and a quarter to a half of what 1,024 needs.

cdef enum:
    TILE = 128
    ERROR_LANES = 16


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
    cdef double[ERROR_LANES] lane
    cdef double total = 0.0
    cdef floating a, b, d
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(ERROR_LANES):
        lane[j] = 0.0
    while i + ERROR_LANES <= n:
        for j in range(ERROR_LANES):
            a = magnitude(y[i + j])
            b = magnitude(y_new[i + j])
            d = (error[i + j] + weight * g[i + j] + 0 * y_new[i + j]) / (atol + rtol * (a if a > b else b))
            lane[j] += <double> d * <double> d
        i += ERROR_LANES
    for j in range(<int> (n - i)):
        a = magnitude(y[i + j])
        b = magnitude(y_new[i + j])
        d = (error[i + j] + weight * g[i + j] + 0 * y_new[i + j]) / (atol + rtol * (a if a > b else b))
        lane[j] += <double> d * <double> d
    for j in range(ERROR_LANES):
        total += lane[j]
    (<double *> p)[0] = total
