# The loops of Adafactor; rules.pyx includes this file. The first two are rules: they update vectors, and
# whatever else keeps its second moment whole. The others are for matrices whose second moment is two
# vectors; update/factored.pyx makes these, and says in which order.
#
# α has been multiplied by what is known of a key as a whole, the norms of p and of the step.

cdef enum:
    CHUNK = 512             # elements of a row that are summed together; also in factored.pyx


cdef inline floating second_moment(
    floating v, floating g, floating beta2, floating one_minus_beta2, floating eps1
) noexcept nogil:
    return beta2 * v + one_minus_beta2 * (g * g + eps1)


cdef void adafactor(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating beta2 = c[0], one_minus_beta2 = c[1], eps1 = c[2], alpha = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = second_moment(v[i], g[i], beta2, one_minus_beta2, eps1)
        p[i] -= alpha * g[i] / root(v[i])


cdef void adafactor_momentum(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef floating *v = s[0]
    cdef floating *m = s[1]
    cdef floating beta2 = c[0], one_minus_beta2 = c[1], eps1 = c[2], beta1 = c[3], alpha = c[4]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = second_moment(v[i], g[i], beta2, one_minus_beta2, eps1)
        m[i] = beta1 * m[i] + alpha * g[i] / root(v[i])
        p[i] -= m[i]


# In which row and column an element is: the driver adds the place of a span's first element to every
# address in s. s[0] was 0, so it is the place, in bytes. s[1] was the address of Factors.
cdef inline Py_ssize_t place_of(floating **s) noexcept nogil:
    return <Py_ssize_t> s[0] // <Py_ssize_t> sizeof(floating)


cdef inline const Factors *factors_of(floating **s) noexcept nogil:
    return <const Factors *> (<Py_ssize_t> s[1] - <Py_ssize_t> s[0])


cdef void _factored(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Factors *of = factors_of(s)
    cdef Py_ssize_t row = place_of(s) // of.cols, j = place_of(s) % of.cols, i = 0, end
    cdef const floating *col
    cdef floating alpha = c[3], x
    while i < n:
        x = alpha * (<const floating *> of.row)[row]
        col = <const floating *> of.col + row // of.rows * of.cols + j - i
        end = min(n, i + of.cols - j)
        for i in range(i, end):
            p[i] -= x * g[i] * col[i]
        i, j = end, 0
        row += 1


cdef void _factored_momentum(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef const Factors *of = factors_of(s)
    cdef floating *m = s[2]
    cdef Py_ssize_t row = place_of(s) // of.cols, j = place_of(s) % of.cols, i = 0, end
    cdef const floating *col
    cdef floating beta1 = c[3], alpha = c[4], x
    while i < n:
        x = alpha * (<const floating *> of.row)[row]
        col = <const floating *> of.col + row // of.rows * of.cols + j - i
        end = min(n, i + of.cols - j)
        for i in range(i, end):
            m[i] = beta1 * m[i] + x * g[i] * col[i]
            p[i] -= m[i]
        i, j = end, 0
        row += 1


# Sums are of doubles, in an order that no instruction set changes. Lane k sums every 32nd element of a
# chunk from element k on. Then lane k + 16 is added to lane k, k + 8 to k, and so on. A row's chunks are
# added in their order.
cdef inline void clear(double *lane) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(LANES):
        lane[k] = 0.0


cdef inline double sum_of(double *lane) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(16):
        lane[k] += lane[k + 16]
    for k in range(8):
        lane[k] += lane[k + 8]
    for k in range(4):
        lane[k] += lane[k + 4]
    return lane[0] + lane[2] + (lane[1] + lane[3])


# Adds the squares of a piece of a strip to the sums of its rows and of its columns.
cdef void _squares(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Strip *strip = <const Strip *> s[0]
    cdef Py_ssize_t row = strip.at // strip.cols, j = strip.at % strip.cols, i, k, width
    cdef double *col_sums
    cdef double[LANES] lane
    cdef double x
    while n > 0:
        width = min(strip.cols - j, CHUNK - j % CHUNK, n)
        col_sums = strip.col_sums + j
        for k in range(width):
            x = g[k]
            col_sums[k] += x * x
        clear(lane)
        for i in range(width // LANES):
            for k in range(LANES):
                x = g[i * LANES + k]
                lane[k] += x * x
        for i in range(width - width % LANES, width):
            x = g[i]
            lane[i % LANES] += x * x
        strip.row_sums[row] += sum_of(lane)
        g += width
        n -= width
        j += width
        if j == strip.cols:
            j = 0
            row += 1


# Adds the squares of the step's elements before α, u = row factor · g · column factor, to the sums of
# the rows.
cdef void _factored_squares(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef const Strip *strip = <const Strip *> s[0]
    cdef Py_ssize_t row = strip.at // strip.cols, j = strip.at % strip.cols, i, k, width
    cdef const floating *col
    cdef double[LANES] lane
    cdef double x
    cdef floating f, u
    while n > 0:
        width = min(strip.cols - j, CHUNK - j % CHUNK, n)
        f = (<const floating *> strip.row)[row]
        col = <const floating *> strip.col + j
        clear(lane)
        for i in range(width // LANES):
            for k in range(LANES):
                u = f * g[i * LANES + k] * col[i * LANES + k]
                x = u
                lane[k] += x * x
        for i in range(width - width % LANES, width):
            u = f * g[i] * col[i]
            x = u
            lane[i % LANES] += x * x
        strip.row_sums[row] += sum_of(lane)
        g += width
        n -= width
        j += width
        if j == strip.cols:
            j = 0
            row += 1


# The same for a second moment that is whole: u = g/√v with the new v. s[0] is v, s[1] gets the sum of
# each chunk.
cdef void _adafactor_squares(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef const floating *v = s[0]
    cdef double *sums = <double *> s[1]
    cdef floating beta2 = c[0], one_minus_beta2 = c[1], eps1 = c[2], u
    cdef Py_ssize_t i, k, width
    cdef double[LANES] lane
    cdef double x
    while n > 0:
        width = min(<Py_ssize_t> CHUNK, n)
        clear(lane)
        for i in range(width // LANES):
            for k in range(LANES):
                u = g[i * LANES + k] / root(
                    second_moment(v[i * LANES + k], g[i * LANES + k], beta2, one_minus_beta2, eps1)
                )
                x = u
                lane[k] += x * x
        for i in range(width - width % LANES, width):
            u = g[i] / root(second_moment(v[i], g[i], beta2, one_minus_beta2, eps1))
            x = u
            lane[i % LANES] += x * x
        sums[0] = sum_of(lane)
        sums += 1
        v += width
        g += width
        n -= width


# The sum of a vector of doubles, in the same order: s[0] is one double.
cdef void _sum(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, k, width
    cdef double[LANES] lane
    cdef double total = 0.0
    while n > 0:
        width = min(<Py_ssize_t> CHUNK, n)
        clear(lane)
        for i in range(width // LANES):
            for k in range(LANES):
                lane[k] += g[i * LANES + k]
        for i in range(width - width % LANES, width):
            lane[i % LANES] += g[i]
        total += sum_of(lane)
        g += width
        n -= width
    (<double *> s[0])[0] = total
