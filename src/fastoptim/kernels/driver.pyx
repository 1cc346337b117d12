"""Walks a table of spans, block by block, on all cores: the only place that knows OpenMP.

 a) One parallel region per update, whatever the number of arrays: entering one costs
    microseconds, and a region per array is what makes many small arrays slow elsewhere.
 b) The table is cut into one run of blocks per thread, of equal length (static: a rule costs the
    same everywhere). No thread count, cut or order changes a bit, because no element's result
    depends on another element.
 c) A block of 1,024 elements passes all its stages while it sits in L1.
 d) The floating-point mode is a register of each thread, and a library loaded by anyone may have
    switched one of them to flush subnormals. Every run sets the IEEE default and puts back what
    it found.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy

from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.threads cimport most_for, region_size

cdef extern from "platform.h":
    ctypedef struct fo_float_mode:
        pass
    const int FO_CANNOT_FLUSH
    fo_float_mode fo_set_mode(bint flush) nogil
    void fo_put_back(fo_float_mode before) nogil
    float fo_rounded(double x) nogil
    void FO_PREFETCH(Py_ssize_t address) nogil

cdef enum:
    BLOCK = 1024                # elements that pass all stages while they sit in L1
    TILE = 512                  # of float32; see blocks
    SPAN_COST = 64              # what starting a span or a row costs, in elements
    AHEAD = 4                   # rows; see fetch_row
    ELEMENTS = 256              # gathered at a time; see single_elements


# ---------------------------------------------------------------- the walk

cdef Py_ssize_t blocks_of(Py_ssize_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK


cdef void blocks(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Send elements i to end of one span through its pipeline, a block at a time.

    With stages a block goes in tiles of 2 KiB: all that the stages touch of it then stays in L1
    beside what the processor fetches ahead. Measured (Adam float32, 1 M, one thread): L2 decay
    costs 2 % of the bare rule's time in tiles, 44 % in whole blocks.
    """
    cdef const Pipeline *line = <const Pipeline *> span.line
    cdef const Py_ssize_t *rows = <const Py_ssize_t *> span.rows
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t k, n, row = 0, at, most = BLOCK
    if line.n_grad or line.n_param or line.average or line.zero:
        most = TILE if floating is float else TILE // 2
    if rows != NULL and i < end:        # rows may have no elements, and then there are none
        if span.length == 1:
            single_elements(span, c, i, end)
            return
        row = i // span.length
    while i < end:
        n = min(most, end - i)
        at = i
        if rows != NULL:
            at = i - row * span.length
            n = min(n, span.length - at)
            if at == 0 and i + span.length * (AHEAD + 1) <= span.n:
                fetch_row(span, rows[row + AHEAD] * span.length, sizeof(floating))
            at += rows[row] * span.length
        for k in range(line.rule.slots):
            s[k] = <floating *> span.s[k] + at
        through(
            line, <floating *> span.p + at, <floating *> span.g + i, s, <floating *> span.a + at, c, n
        )
        i += n
        if rows != NULL and i == (row + 1) * span.length:
            row += 1


cdef inline void fetch_row(const Span *span, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Ask for a row that comes soon: where the next one lies is more than a processor can guess.

    Measured (Adam float32, 1,000 rows of 100 among 100,000, one thread): 90 µs with, 144 without.
    """
    cdef Py_ssize_t k, i
    for i in range(0, span.length * size, 64):
        FO_PREFETCH(span.p + at * size + i)
        for k in range((<const Pipeline *> span.line).rule.slots):
            FO_PREFETCH(span.s[k] + at * size + i)


cdef void single_elements(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """The same for rows of one element, for which a call each would be mostly calling.

    Tiles are gathered from the table, sent through the pipeline, and put back. Measured (Adam
    float32, 2,000 rows): rows of 2 take 12 ns each this way and 15 by themselves, rows of 4 22 and 19.
    """
    cdef const Pipeline *line = <const Pipeline *> span.line
    cdef const Py_ssize_t *rows
    cdef floating[MAX_SLOTS + 2][ELEMENTS] tile
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t k, n
    for k in range(line.rule.slots):
        s[k] = tile[k + 2]
    while i < end:
        n = min(<Py_ssize_t> ELEMENTS, end - i)
        rows = <const Py_ssize_t *> span.rows + i
        gather(<floating *> span.p, rows, tile[0], n)
        for k in range(line.rule.slots):
            gather(<floating *> span.s[k], rows, s[k], n)
        if line.average:
            gather(<floating *> span.a, rows, tile[1], n)
        through(line, tile[0], <floating *> span.g + i, s, tile[1], c, n)
        scatter(tile[0], rows, <floating *> span.p, n)
        for k in range(line.rule.slots):
            scatter(s[k], rows, <floating *> span.s[k], n)
        if line.average:
            scatter(tile[1], rows, <floating *> span.a, n)
        i += n


cdef inline void gather(
    const floating *table, const Py_ssize_t *rows, floating *x, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        x[k] = table[rows[k]]


cdef inline void scatter(
    const floating *x, const Py_ssize_t *rows, floating *table, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        table[rows[k]] = x[k]


cdef inline void through(
    const Pipeline *line, floating *p, floating *g, floating **s, floating *a, const floating *c,
    Py_ssize_t n,
) noexcept nogil:
    """Send n elements through a pipeline: at most a tile, where it has stages."""
    cdef floating[2][TILE] scratch
    cdef floating *x
    cdef const floating *seen = g
    cdef Py_ssize_t k
    for k in range(line.n_grad):
        x = scratch[k % 2]
        stage(&line.grad[k], p, seen, &x, n)
        seen = x
    for k in range(line.n_param):
        stage(&line.param[k], p, seen, NULL, n)
    if floating is float:
        line.rule.f32(p, seen, s, c, n)
    else:
        line.rule.f64(p, seen, s, c, n)
    if line.average:
        stage(&line.averager, p, seen, &a, n)
    if line.zero:
        stage(&line.zeroer, g, seen, NULL, n)


cdef inline void stage(
    const Stage *one, floating *p, const floating *g, floating **s, Py_ssize_t n
) noexcept nogil:
    if floating is float:
        one.f32(p, g, s, &one.c32, n)
    else:
        one.f64(p, g, s, &one.c64, n)


cdef Py_ssize_t span_with(const Span *spans, Py_ssize_t count, Py_ssize_t block) noexcept nogil:
    """Return the last span that starts at or before a block."""
    cdef Py_ssize_t k = 0, beyond = count, middle
    while beyond - k > 1:
        middle = (k + beyond) // 2
        if spans[middle].first <= block:
            k = middle
        else:
            beyond = middle
    return k


cdef void walk(
    const Span *spans, Py_ssize_t count, const float[:, ::1] c32, const double[:, ::1] c64,
    bint flush, Py_ssize_t block, Py_ssize_t end,
) noexcept nogil:
    """Send the table's blocks from block to end through their pipelines."""
    cdef Py_ssize_t k = span_with(spans, count, block), last, i, stop
    cdef const Span *span
    cdef fo_float_mode before = fo_set_mode(flush)
    while block < end:
        span = &spans[k]
        last = min(end, span.first + blocks_of(span.n))
        i = (block - span.first) * BLOCK
        stop = min(span.n, (last - span.first) * BLOCK)
        if span.wide:
            blocks(span, &c64[span.c, 0], i, stop)
        else:
            blocks(span, &c32[span.c, 0], i, stop)
        block = last
        k += 1
    fo_put_back(before)


cdef void run(
    Span[::1] spans, Py_ssize_t count, const float[:, ::1] c32, const double[:, ::1] c64, bint flush,
    int team,
) noexcept nogil:
    """Update every span of a table, on so many threads."""
    if count == 0:
        return
    cdef Py_ssize_t total = spans[count - 1].first + blocks_of(spans[count - 1].n)
    cdef int part
    if team == 1:                       # no region at all: cheaper, and safe in any forked child
        walk(&spans[0], count, c32, c64, flush, 0, total)
        return
    for part in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        walk(&spans[0], count, c32, c64, flush, total * part // team, total * (part + 1) // team)


cdef void survey_part(
    const Rule *rule, double factor, const Span *spans, Py_ssize_t count, double[::1] out,
    Py_ssize_t block, Py_ssize_t end,
) noexcept nogil:
    """Survey the gradients' blocks from block to end, a number for each."""
    cdef Py_ssize_t k = span_with(spans, count, block), i, n
    cdef const Span *span
    cdef fo_float_mode before = fo_set_mode(False)
    cdef float narrow = rounded(factor)
    cdef void *place
    while block < end:
        span = &spans[k]
        i = (block - span.first) * BLOCK
        if i >= span.n:
            k += 1
            continue
        n = min(BLOCK, span.n - i)
        place = &out[block]
        if span.wide:
            rule.f64(NULL, <const double *> span.g + i, <double **> &place, &factor, n)
        else:
            rule.f32(NULL, <const float *> span.g + i, <float **> &place, &narrow, n)
        block += 1
    fo_put_back(before)


cdef void survey(
    const Rule *rule, double factor, Span[::1] spans, Py_ssize_t count, double[::1] out, int team
) noexcept nogil:
    """Run a reduction over the gradients: what each block comes to."""
    if count == 0:
        return
    cdef Py_ssize_t total = spans[count - 1].first + blocks_of(spans[count - 1].n)
    cdef int part
    if team == 1:
        survey_part(rule, factor, &spans[0], count, out, 0, total)
        return
    for part in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        survey_part(
            rule, factor, &spans[0], count, out, total * part // team, total * (part + 1) // team
        )


cdef void sums_of(
    const Rule *add, const Sum *one, floating *out, bint flush, Py_ssize_t place, Py_ssize_t end
) noexcept nogil:
    """Sum the rows whose first place is in [place, end)."""
    cdef const Py_ssize_t *start = <const Py_ssize_t *> one.start
    cdef const Py_ssize_t *order = <const Py_ssize_t *> one.order
    cdef const floating *values = <const floating *> one.values
    cdef const floating *g
    cdef floating *x
    cdef Py_ssize_t k = row_from(start, one.count, place), i, at
    cdef fo_float_mode before = fo_set_mode(flush)
    while k < one.count and start[k] < end:
        x = out + k * one.length
        memcpy(x, values + order[start[k]] * one.length, one.length * sizeof(floating))
        for at in range(start[k] + 1, start[k + 1]):
            g = values + order[at] * one.length
            if one.length == 1:
                x[0] += g[0]
                continue
            if at + AHEAD < start[one.count]:
                for i in range(0, one.length * <Py_ssize_t> sizeof(floating), 64):
                    FO_PREFETCH(<Py_ssize_t> (values + order[at + AHEAD] * one.length) + i)
            if floating is float:
                add.f32(x, g, NULL, NULL, one.length)
            else:
                add.f64(x, g, NULL, NULL, one.length)
        k += 1
    fo_put_back(before)


cdef Py_ssize_t row_from(const Py_ssize_t *start, Py_ssize_t count, Py_ssize_t place) noexcept nogil:
    """Return the first row whose places start at or after one."""
    cdef Py_ssize_t k = 0, beyond = count, middle
    while k < beyond:
        middle = (k + beyond) // 2
        if start[middle] < place:
            k = middle + 1
        else:
            beyond = middle
    return k


cdef void sum_rows(const Rule *add, const Sum *one, bint flush, int most) noexcept nogil:
    """Sum the rows of a gradient that are for the same row of the parameter.

    The cut is by places, not by rows, because a few rows have most of them (words of a text). A
    row's sum is one thread's, in the order of its places, so no cut changes a bit.
    At most so many threads take part.
    """
    if one.count == 0 or one.length == 0:
        return
    cdef Py_ssize_t places = (<const Py_ssize_t *> one.start)[one.count]
    cdef int part, team = min(most, most_for(places * (one.length + SPAN_COST)))
    if team == 1:
        sums_part(add, one, flush, 0, places)
        return
    for part in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        sums_part(add, one, flush, places * part // team, places * (part + 1) // team)


cdef inline void sums_part(
    const Rule *add, const Sum *one, bint flush, Py_ssize_t place, Py_ssize_t end
) noexcept nogil:
    if one.wide:
        sums_of(add, one, <double *> one.out, flush, place, end)
    else:
        sums_of(add, one, <float *> one.out, flush, place, end)


cdef Py_ssize_t work_of(const Span *spans, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t k, work = count * SPAN_COST
    for k in range(count):
        work += spans[k].n
        if spans[k].rows and spans[k].length:
            work += spans[k].n // spans[k].length * SPAN_COST
    return work


cdef float rounded(double x) noexcept nogil:
    """Round to float32, whatever mode the calling thread is in."""
    return fo_rounded(x)


# Asked for once: NumPy works this out in Python and makes a ValueError of an interrupt there.
cdef Span SPAN
SPAN_DTYPE = np.asarray(<Span[:1]> &SPAN).dtype


cdef Span[::1] new_table(Py_ssize_t capacity):
    return np.zeros(capacity, SPAN_DTYPE)


def can_flush():
    """Whether this processor's subnormals can be flushed to zero."""
    return not FO_CANNOT_FLUSH


def block_length():
    """Return how many elements a block has."""
    return BLOCK
