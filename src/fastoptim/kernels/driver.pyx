"""Walks a table of spans, block by block, on all cores: the only place that knows OpenMP.

 a) An update is one parallel region, whatever the number of arrays. To enter a region costs
    microseconds: with a region per array, many small arrays would be slow.
 b) The table is cut into one run of blocks per thread. All runs have the same length, because a
    rule costs the same for every element (static schedule). The result of an element depends on no
    other element, so no thread count, cut or order changes a bit.
 c) A block of 1,024 elements passes all its stages while it is in L1.
 d) The floating-point mode is a register of each thread. Any library may have switched it to flush
    subnormals. So every run sets the IEEE default, and puts the old mode back at its end.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from fastoptim.kernels.codings cimport Coding
from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.table cimport (
    BFLOAT16,
    CODE_BLOCK,
    FINISH,
    FOLLOW,
    GRID_DOUBLES,
    LOOK,
    PLAIN,
    PROJECT,
    RULE,
    UNSIGNED,
    WHOLE,
    Codecs,
    Codes,
    Grid,
    Span,
    Stage,
    Stages,
    Table,
    UnitStage,
    rounded,
)
from fastoptim.kernels.threads cimport most_for, region_size

cdef extern from "platform.h":
    ctypedef struct fo_float_mode:
        pass
    const int FO_CANNOT_FLUSH
    fo_float_mode fo_set_mode(bint flush) nogil
    void fo_put_back(fo_float_mode before) nogil
    void FO_PREFETCH(Py_ssize_t address) nogil
    void FO_PREFETCH_READ(Py_ssize_t address) nogil

cdef extern from "transpose.h":
    void fo_columns_f32(
        const char *a, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t cols, float *x
    ) noexcept nogil
    void fo_columns_f64(
        const char *a, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t cols, double *x
    ) noexcept nogil

cdef enum:
    BLOCK = 1024                # elements that pass all stages while they are in L1; see table.pyx
    TILE = 512                  # of float32; see blocks
    SPAN_COST = 64              # work to start a row, in elements
    AHEAD = 4                   # rows; see fetch_row
    ELEMENTS = 256              # gathered at a time; see single_elements
    LANES = 32                  # sums of squares; see add_squares


# ---------------------------------------------------------------- the walk

cdef void blocks(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Send elements i to end of one span through its pipeline, a block at a time.

    With stages a block is worked on in tiles of 2 KiB. All memory that the stages touch then stays
    in L1, beside what the hardware prefetcher loads. Measured (Adam float32, 1 M, one thread): L2
    decay costs 2 % of the bare rule's time in tiles, 44 % in whole blocks.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef const Py_ssize_t *rows = <const Py_ssize_t *> span.rows
    cdef floating *s[MAX_SLOTS]
    cdef double[2 * LANES] lanes
    cdef Py_ssize_t k, n, row = 0, at, most = BLOCK
    if has_stages(span):
        most = TILE if floating is float else TILE // 2
    if span.squares:
        memset(lanes, 0, sizeof(lanes))
    if span.codes and span.parts & RULE:
        coded(span, c, i, end)
        return
    if rows != NULL and i < end:        # rows of length 0 have no elements
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
        for k in range(stages.rule.slots):
            s[k] = <floating *> span.s[k] + at
        run_pipeline(
            span, <floating *> span.p + at, <floating *> span.g + i, s, <floating *> span.average + at,
            c, n, i, lanes,
        )
        i += n
        if span.squares and (i % BLOCK == 0 or i == end):
            sum_lanes(lanes, <double *> span.squares + 2 * ((i - 1) // BLOCK))
        if rows != NULL and i == (row + 1) * span.length:
            row += 1


cdef inline bint has_stages(const Span *span) noexcept nogil:
    """Whether a span passes more than its rule."""
    cdef const Stages *stages = <const Stages *> span.stages
    return (
        stages.n_grad or stages.n_param or stages.n_after or stages.average or stages.zero
        or span.parts != WHOLE
    )


cdef inline void fetch_row(const Span *span, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Prefetch a row that is needed soon: the hardware prefetcher cannot predict row numbers.

    Measured (Adam float32, 1,000 rows of 100 among 100,000, one thread): 90 µs with, 144 without.
    """
    cdef Py_ssize_t k, i
    for i in range(0, span.length * size, 64):
        FO_PREFETCH(span.p + at * size + i)
        for k in range((<const Stages *> span.stages).rule.slots):
            FO_PREFETCH(span.s[k] + at * size + i)


cdef void single_elements(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """The same for rows of one element: a call for each would cost more than its work.

    Elements are gathered from the table into tiles, sent through the pipeline, and scattered back.
    Measured (Adam float32, 2,000 rows), gathered and with a call each: a row of 2 elements takes 12
    and 15 ns, a row of 4 takes 22 and 19.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef const Py_ssize_t *rows
    cdef floating[MAX_SLOTS + 2][ELEMENTS] tile
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t k, n
    for k in range(stages.rule.slots):
        s[k] = tile[k + 2]
    while i < end:
        n = min(<Py_ssize_t> ELEMENTS, end - i)
        rows = <const Py_ssize_t *> span.rows + i
        gather(<floating *> span.p, rows, tile[0], n)
        for k in range(stages.rule.slots):
            gather(<floating *> span.s[k], rows, s[k], n)
        if stages.average:
            gather(<floating *> span.average, rows, tile[1], n)
        run_pipeline(span, tile[0], <floating *> span.g + i, s, tile[1], c, n, i, NULL)
        scatter(tile[0], rows, <floating *> span.p, n)
        for k in range(stages.rule.slots):
            scatter(s[k], rows, <floating *> span.s[k], n)
        if stages.average:
            scatter(tile[1], rows, <floating *> span.average, n)
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


include "coded.pxi"
include "tiles.pxi"


cdef inline void run_pipeline(
    const Span *span, floating *p, floating *g, floating **s, floating *a, const floating *c,
    Py_ssize_t n, Py_ssize_t at, double *lanes,
) noexcept nogil:
    """Send n elements of a span, from `at` on, through its pipeline.

    n is at most a tile if there are stages. `lanes` is for sums of squares that are asked for.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef floating[2][TILE] scratch
    cdef const floating *seen = g
    cdef Py_ssize_t k
    if span.parts != WHOLE:
        parts(span, p, g, s, a, c, n, at, lanes)
        return
    if stages.n_grad:
        seen = gradient(stages, stages.n_grad, p, g, scratch[0], scratch[1], n, at)
    for k in range(stages.n_param):
        stage(&stages.param[k], p, seen, NULL, n)
    apply(stages.rule, p, seen, s, c, n)
    finish(stages, p, a, n)
    if stages.zero:
        stage(&stages.zeroer, g, seen, NULL, n)


cdef void parts(
    const Span *span, floating *p, floating *g, floating **s, floating *a, const floating *c,
    Py_ssize_t n, Py_ssize_t at, double *lanes,
) noexcept nogil:
    """Send n elements, at most a tile, through those parts of a pipeline that are asked for."""
    cdef const Stages *stages = <const Stages *> span.stages
    cdef floating[2][TILE] scratch
    cdef floating *step = <floating *> span.step + at
    cdef floating factor = <floating> span.factor
    cdef const floating *seen = g
    cdef Py_ssize_t k
    if span.parts & LOOK:
        seen = gradient(stages, stages.n_looked, p, g, scratch[0], scratch[1], n, at)
        add_squares(stages, p, seen, lanes, n)
    if span.parts & RULE:
        seen = gradient(stages, stages.n_grad, p, g, scratch[0], scratch[1], n, at)
        if span.step:
            stage(&stages.start, step, p, &step, n)
            apply(stages.rule, step, seen, s, c, n)
            if span.squares:
                add_squares(stages, p, step, lanes, n)
        else:
            for k in range(stages.n_param):
                stage(&stages.param[k], p, seen, NULL, n)
            apply(stages.rule, p, seen, s, c, n)
        if stages.zero:
            stage(&stages.zeroer, g, seen, NULL, n)
    if span.parts & FOLLOW:
        if floating is float:
            stages.follow.f32(p, step, NULL, &factor, n)
        else:
            stages.follow.f64(p, step, NULL, &factor, n)
    if span.parts & PROJECT:
        unit_stage(&stages.project, p, p, p, n, at)
    if span.parts & FINISH:
        finish(stages, p, a, n)


cdef const floating *gradient(
    const Stages *stages, int n_stages, floating *p, const floating *g, floating *one, floating *other,
    Py_ssize_t n, Py_ssize_t at,
) noexcept nogil:
    """Return a gradient after its first stages, in one of two scratches, or g itself."""
    cdef const floating *seen = g
    cdef floating *x
    cdef Py_ssize_t k
    for k in range(n_stages):
        x = other if k % 2 else one
        if stages.grad[k].each:
            unit_stage(&stages.grad[k], p, seen, x, n, at)
        else:
            stage(&stages.grad[k], p, seen, &x, n)
        seen = x
    return seen


cdef inline void finish(const Stages *stages, floating *p, floating *a, Py_ssize_t n) noexcept nogil:
    """Send n elements through what follows the rule."""
    cdef Py_ssize_t k
    for k in range(stages.n_after):
        stage(&stages.after[k], p, p, NULL, n)
    if stages.average:
        stage(&stages.averager, p, p, &a, n)


cdef inline void apply(
    const Rule *rule, floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    if floating is float:
        rule.f32(p, g, s, c, n)
    else:
        rule.f64(p, g, s, c, n)


cdef inline void stage(
    const Stage *one, floating *p, const floating *g, floating **s, Py_ssize_t n
) noexcept nogil:
    if floating is float:
        one.f32(p, g, s, one.c32, n)
    else:
        one.f64(p, g, s, one.c64, n)


include "units.pxi"


cdef Py_ssize_t span_with(const Span *spans, Py_ssize_t count, Py_ssize_t block) noexcept nogil:
    """Return the last span that starts at or before a block."""
    cdef Py_ssize_t k = 0, beyond = count, middle
    while beyond - k > 1:
        middle = (k + beyond) // 2
        if spans[middle].first_block <= block:
            k = middle
        else:
            beyond = middle
    return k


cdef void walk(Table table, bint flush, Py_ssize_t block, Py_ssize_t end) noexcept nogil:
    """Send the table's blocks from block to end through their pipelines."""
    cdef const Span *span = &table.spans[span_with(table.spans, table.count, block)]
    cdef Py_ssize_t last
    cdef fo_float_mode before = fo_set_mode(flush)
    while block < end:
        last = min(end, span.first_block + span.n_blocks)
        if span.is_double:
            part(span, &table.c64[span.coefs, 0], block - span.first_block, last - span.first_block)
        else:
            part(span, &table.c32[span.coefs, 0], block - span.first_block, last - span.first_block)
        block = last
        span += 1
    fo_put_back(before)


cdef inline void part(
    const Span *span, const floating *c, Py_ssize_t block, Py_ssize_t end
) noexcept nogil:
    """Send some of a span's blocks through its pipeline."""
    if span.parts == 0:
        return
    if span.grid:
        tiles(span, c, block, end)
    else:
        blocks(span, c, block * BLOCK, min(span.n, end * BLOCK))


cdef void run(Table table, bint flush, int team) noexcept nogil:
    """Update every span of a table, on `team` threads."""
    if table.count:
        run_blocks(table, flush, 0, table.n_blocks, team)


cdef void run_blocks(
    Table table, bint flush, Py_ssize_t first, Py_ssize_t end, int team
) noexcept nogil:
    """Walk some blocks of a table, on `team` threads."""
    cdef Py_ssize_t total = end - first
    cdef int k
    if team == 1:                       # without a region: cheaper, and safe in a forked child
        walk(table, flush, first, end)
        return
    for k in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        walk(table, flush, first + total * k // team, first + total * (k + 1) // team)


cdef void survey_part(
    const Rule *rule, double factor, Table table, double *out, Py_ssize_t block, Py_ssize_t end
) noexcept nogil:
    """Reduce each of the gradients' blocks from block to end to a number."""
    cdef const Span *span = &table.spans[span_with(table.spans, table.count, block)]
    cdef Py_ssize_t i, n
    cdef fo_float_mode before = fo_set_mode(False)
    cdef float narrow = rounded(factor)
    cdef void *place
    while block < end:
        i = (block - span.first_block) * BLOCK
        if i >= span.n:
            span += 1
            continue
        if span.parts == 0:             # made in tiles, and looked at then
            block = span.first_block + span.n_blocks
            continue
        n = min(<Py_ssize_t> BLOCK, span.n - i)
        place = &out[block]
        if span.is_double:
            rule.f64(NULL, <const double *> span.g + i, <double **> &place, &factor, n)
        else:
            rule.f32(NULL, <const float *> span.g + i, <float **> &place, &narrow, n)
        block += 1
    fo_put_back(before)


cdef void survey(const Rule *rule, double factor, Table table, double *out, int team) noexcept nogil:
    """Reduce each block of the gradients to a number, in `out`."""
    cdef Py_ssize_t total = table.n_blocks
    cdef int k
    if table.count == 0:
        return
    if team == 1:
        survey_part(rule, factor, table, out, 0, total)
        return
    for k in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        survey_part(rule, factor, table, out, total * k // team, total * (k + 1) // team)


cdef void sums_of(
    const Rule *add, const RowSums *sums, floating *out, bint flush, Py_ssize_t place, Py_ssize_t end
) noexcept nogil:
    """Sum the rows whose first place is in [place, end)."""
    cdef const Py_ssize_t *start = <const Py_ssize_t *> sums.start
    cdef const Py_ssize_t *order = <const Py_ssize_t *> sums.order
    cdef const floating *values = <const floating *> sums.values
    cdef const floating *g
    cdef floating *x
    cdef Py_ssize_t k = row_from(start, sums.count, place), i, at
    cdef fo_float_mode before = fo_set_mode(flush)
    while k < sums.count and start[k] < end:
        x = out + k * sums.length
        memcpy(x, values + order[start[k]] * sums.length, sums.length * sizeof(floating))
        for at in range(start[k] + 1, start[k + 1]):
            g = values + order[at] * sums.length
            if sums.length == 1:
                x[0] += g[0]
                continue
            if at + AHEAD < start[sums.count]:
                for i in range(0, sums.length * <Py_ssize_t> sizeof(floating), 64):
                    FO_PREFETCH(<Py_ssize_t> (values + order[at + AHEAD] * sums.length) + i)
            if floating is float:
                add.f32(x, g, NULL, NULL, sums.length)
            else:
                add.f64(x, g, NULL, NULL, sums.length)
        k += 1
    fo_put_back(before)


cdef Py_ssize_t row_from(const Py_ssize_t *start, Py_ssize_t count, Py_ssize_t place) noexcept nogil:
    """Return the first row whose places start at or after `place`."""
    cdef Py_ssize_t k = 0, beyond = count, middle
    while k < beyond:
        middle = (k + beyond) // 2
        if start[middle] < place:
            k = middle + 1
        else:
            beyond = middle
    return k


cdef void sum_rows(const Rule *add, const RowSums *sums, bint flush, int most) noexcept nogil:
    """Sum the rows of a gradient that are for the same row of the parameter.

    A place is a row of `values`. The threads share the places evenly, not the rows, because a few
    rows may have most places (the frequent words of a text). One thread sums a row, in the order of
    its places, so no cut changes a bit. At most `most` threads take part.
    """
    if sums.count == 0 or sums.length == 0:
        return
    cdef Py_ssize_t places = (<const Py_ssize_t *> sums.start)[sums.count]
    cdef int k, team = min(most, most_for(places * (sums.length + SPAN_COST)))
    if team == 1:
        sums_part(add, sums, flush, 0, places)
        return
    for k in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        sums_part(add, sums, flush, places * k // team, places * (k + 1) // team)


cdef inline void sums_part(
    const Rule *add, const RowSums *sums, bint flush, Py_ssize_t place, Py_ssize_t end
) noexcept nogil:
    if sums.is_double:
        sums_of(add, sums, <double *> sums.out, flush, place, end)
    else:
        sums_of(add, sums, <float *> sums.out, flush, place, end)


cdef void share(Job job, void *work, Py_ssize_t count, bint flush, int team) noexcept nogil:
    """Do the units of a piece of work on `team` threads; no unit may depend on another."""
    cdef int k
    if count == 0:
        return
    if team == 1:
        share_part(job, work, flush, 0, count)
        return
    for k in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
        share_part(job, work, flush, count * k // team, count * (k + 1) // team)


cdef inline void share_part(
    Job job, void *work, bint flush, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    cdef fo_float_mode before = fo_set_mode(flush)
    job(work, first, end)
    fo_put_back(before)


def can_flush():
    """Whether this processor's subnormals can be flushed to zero."""
    return not FO_CANNOT_FLUSH
