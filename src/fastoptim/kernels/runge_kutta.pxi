# The passes of a Runge–Kutta step and of look-ahead; included by rules.pyx like the stages.
# A pass runs over many arrays in one region (ode/passes.pyx) and has the signature of a rule: p is a piece
# of the point, g the gradient evaluated last, s the rest. ode/runge_kutta.py has the mathematics.
# A weighted sum grows in a tile of scratch memory, one k after the other. gcc would not vectorise one
# loop over all k: it checks at most 10 pairs of arrays for overlap.
# Measured (RK45's passes, 1 M float32, AVX-512 and AVX2): with tiles of 128 the larger passes take
# 0.65 to 0.95 of the time that 256 needs, and a quarter to a half of what 1,024 needs.
#
# The point x is in the caller's memory, and a step is wrong if fn writes to it. So every pass that reads
# or overwrites x makes a digest of it, while it is in L1, and compares that with the digest made when x
# was written. Writing the same bits again changes no digest.

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


cdef uint32_t[2 * TILE] KEYS        # one for each word of 32 bits of a tile


cdef int set_keys() noexcept:
    """Fill KEYS by Marsaglia's xorshift (2003), the same in every process and instruction set."""
    cdef uint32_t state = 2463534242
    cdef int i
    for i in range(2 * TILE):
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        KEYS[i] = state
    return 0


set_keys()


cdef inline uint32_t word(const floating *x, Py_ssize_t i) noexcept nogil:
    """The i-th 32 bits of an array; gcc makes a plain load of memcpy, and vectorises it."""
    cdef uint32_t w
    memcpy(&w, <const char *> x + 4 * i, 4)
    return w


cdef inline uint64_t digested(uint64_t so_far, const floating *x, Py_ssize_t n) noexcept nogil:
    """Digest one more tile: the sum of (w + key)(w' + key') over pairs of words, "NH" of UMAC.

    (Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: Fast and Secure Message Authentication",
    1999.) Two different tiles have the same sum with a probability of 2⁻³². Integers may be summed in
    any order, so the sum is the same on every instruction set. The factor lets the order of the
    tiles count.

    Measured (1 M float32, one thread, AVX-512), with digests and without: a pass of five terms takes
    1,103 µs and 1,078, of two terms 565 and 540, _error_squared 700 and 640; _save takes 295 in the
    place of _copy's 270.
    """
    cdef Py_ssize_t words = n * <Py_ssize_t> (sizeof(floating) // 4), half = words // 2, i
    cdef uint64_t total = 0
    for i in range(half):
        total += (
            <uint64_t> <uint32_t> (word(x, i) + KEYS[i])
            * <uint64_t> <uint32_t> (word(x, half + i) + KEYS[half + i])
        )
    if words > 2 * half:
        total += <uint64_t> <uint32_t> (word(x, words - 1) + KEYS[words - 1]) * KEYS[0]
    return so_far * <uint64_t> 0x9E3779B97F4A7C15 + total


cdef inline void wrote(Piece *piece, uint64_t before, uint64_t after) noexcept nogil:
    """Compare the digest that a pass found with that of the last write; note that of this one."""
    piece.altered = before != piece.digest
    piece.digest = after


cdef inline void add(
    floating *p, const floating *y, const floating *g, floating **s, const floating *c, Py_ssize_t n, int m,
    floating *keep, floating *error,
) noexcept nogil:
    """x = y + c₁k₁ + … + cₘkₘ; then keep = kₘ and error = cₘ₊₁k₁ + … + c₂ₘkₘ, unless NULL."""
    cdef Piece *piece = <Piece *> p
    cdef floating *x = <floating *> piece.x
    cdef uint64_t before = 0, after = 0
    cdef floating[TILE] total
    cdef Py_ssize_t i = 0, e, part
    while i < n:
        part = min(TILE, n - i)
        before = digested(before, x + i, part)
        weighted(total, g, s, c, i, part, m)
        for e in range(part):
            total[e] += y[i + e]
        for e in range(part):
            x[i + e] = total[e]
        after = digested(after, total, part)
        if keep != NULL:
            for e in range(part):
                keep[i + e] = g[i + e]
        if error != NULL:
            weighted(total, g, s, c + m, i, part, m)
            for e in range(part):
                error[i + e] = total[e]
        i += part
    wrote(piece, before, after)


cdef void _copy(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    """Of arrays, not of pieces."""
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = g[i]


cdef void _ahead(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    """p = s₀ + c₀ g; of arrays, not of pieces."""
    cdef const floating *y = s[0]
    cdef floating weight = c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = y[i] + weight * g[i]


# The base point y is kept while x moves: y = x at the start, x = y to go back.

cdef void _save(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Piece *piece = <Piece *> p
    cdef const floating *x = <const floating *> piece.x
    cdef floating *y = s[0]
    cdef uint64_t found = 0
    cdef Py_ssize_t i = 0, e, part
    while i < n:
        part = min(TILE, n - i)
        found = digested(found, x + i, part)
        for e in range(part):
            y[i + e] = x[i + e]
        i += part
    piece.altered = 0
    piece.digest = found


cdef void _restore(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Piece *piece = <Piece *> p
    cdef floating *x = <floating *> piece.x
    cdef const floating *y = s[0]
    cdef uint64_t found = 0
    cdef Py_ssize_t i = 0, e, part
    while i < n:
        part = min(TILE, n - i)
        found = digested(found, x + i, part)
        for e in range(part):
            x[i + e] = y[i + e]
        i += part
    wrote(piece, found, 0)


cdef void _leap(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    """y = x, then x = y + c₀ g: _save and _ahead in one."""
    cdef Piece *piece = <Piece *> p
    cdef floating *x = <floating *> piece.x
    cdef floating *y = s[0]
    cdef floating weight = c[0]
    cdef uint64_t after = 0
    cdef Py_ssize_t i = 0, e, part
    while i < n:
        part = min(TILE, n - i)
        for e in range(part):
            y[i + e] = x[i + e]
        for e in range(part):
            x[i + e] = y[i + e] + weight * g[i + e]
        after = digested(after, x + i, part)
        i += part
    piece.altered = 0
    piece.digest = after


# _combine<m>: x = y + c₁k₁ + … + cₘkₘ.

cdef void _combine1(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 1, NULL, NULL)


cdef void _combine2(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 2, NULL, NULL)


cdef void _combine3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, NULL, NULL)


cdef void _combine5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, NULL, NULL)


# _slope<m>: the same, and kₘ is copied to the last slot, because fn may use the gradient's memory again.

cdef void _slope1(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 1, s[1], NULL)


cdef void _slope2(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 2, s[2], NULL)


cdef void _slope3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, s[3], NULL)


cdef void _slope4(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 4, s[4], NULL)


cdef void _slope5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, s[5], NULL)


# _embedded<m>: the same, and the last slot is set to the error, as far as it is a sum over m stages.

cdef void _embedded3(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 3, NULL, s[3])


cdef void _embedded5(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    add(p, s[0], g, s, c, n, 5, NULL, s[5])


cdef void _error_squared(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    """Set the piece's total: the sum of (error / (atol + rtol max(|y|, |x|)))², in lanes.

    The error lacks its last term, c₀ times the stage just evaluated, which is added here. Divided by
    an infinite x, the error would vanish: 0 x is added to it, which is then NaN.
    """
    cdef Piece *piece = <Piece *> p
    cdef const floating *x = <const floating *> piece.x
    cdef const floating *y = s[0]
    cdef const floating *error = s[1]
    cdef floating weight = c[0], rtol = c[1], atol = c[2]
    cdef double[ERROR_LANES] lane
    cdef double total = 0.0
    cdef floating a, b, d
    cdef uint64_t found = 0
    cdef Py_ssize_t i = 0, part, end
    cdef int j
    for j in range(ERROR_LANES):
        lane[j] = 0.0
    while i < n:
        part = min(TILE, n - i)
        found = digested(found, x + i, part)
        end = i + part
        while i + ERROR_LANES <= end:
            for j in range(ERROR_LANES):
                a = magnitude(y[i + j])
                b = magnitude(x[i + j])
                d = (error[i + j] + weight * g[i + j] + 0 * x[i + j]) / (atol + rtol * (a if a > b else b))
                lane[j] += <double> d * <double> d
            i += ERROR_LANES
        for j in range(<int> (end - i)):
            a = magnitude(y[i + j])
            b = magnitude(x[i + j])
            d = (error[i + j] + weight * g[i + j] + 0 * x[i + j]) / (atol + rtol * (a if a > b else b))
            lane[j] += <double> d * <double> d
        i = end
    for j in range(ERROR_LANES):
        total += lane[j]
    wrote(piece, found, found)
    piece.total = total
