# Stages that treat the units of a tensor differently, and the sums that these need; included by
# driver.pyx.

cdef enum:
    PIECE = 16384               # elements of whole rows, whose columns one thread sums
    MOST_PIECES = 64


cdef inline void unit_stage(
    const Stage *one, floating *p, const floating *g, floating *x, Py_ssize_t n, Py_ssize_t at
) noexcept nogil:
    """Send n elements, from `at` on, through a stage that has a scalar for each unit."""
    cdef const UnitStage *units = <const UnitStage *> one.each
    cdef const floating *scalars = <const floating *> units.scalars
    cdef floating *to
    cdef Py_ssize_t i = 0, unit, length
    while i < n:
        unit = (at + i) // units.inner % units.count
        to = x + i
        if units.inner == 1:
            length = min(n - i, units.count - unit)
            if floating is float:
                units.f32(p + i, g + i, &to, scalars + unit, length)
            else:
                units.f64(p + i, g + i, &to, scalars + unit, length)
        else:
            length = min(n - i, units.inner - (at + i) % units.inner)
            if floating is float:
                one.f32(p + i, g + i, &to, scalars + unit, length)
            else:
                one.f64(p + i, g + i, &to, scalars + unit, length)
        i += length


cdef inline void add_squares(
    const Stages *stages, floating *p, const floating *g, double *lanes, Py_ssize_t n
) noexcept nogil:
    """Add the squares of p and g to the lanes of their block, of which n is a multiple but at the end."""
    cdef void *place = lanes
    if floating is float:
        stages.squares.f32(p, g, <float **> &place, NULL, n)
    else:
        stages.squares.f64(p, g, <double **> &place, NULL, n)


cdef inline void sum_lanes(double *lanes, double *sums) noexcept nogil:
    """Set the two sums of a block, and clear its lanes. Halves are added until one lane is left.

    In their order, one after the other, the additions take as long as those of the block.
    """
    cdef double *of_g = lanes + LANES
    cdef int k
    for k in range(16):
        lanes[k] += lanes[k + 16]
        of_g[k] += of_g[k + 16]
    for k in range(8):
        lanes[k] += lanes[k + 8]
        of_g[k] += of_g[k + 8]
    for k in range(4):
        lanes[k] += lanes[k + 4]
        of_g[k] += of_g[k + 4]
    sums[0] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    sums[1] = (of_g[0] + of_g[2]) + (of_g[1] + of_g[3])
    memset(lanes, 0, 2 * LANES * sizeof(double))


cdef inline double reduced(
    const Rule *rule, const floating *x, floating factor, Py_ssize_t n
) noexcept nogil:
    """Return the number that a pass makes of n elements."""
    cdef double sum
    cdef void *place = &sum
    if floating is float:
        rule.f32(NULL, x, <float **> &place, &factor, n)
    else:
        rule.f64(NULL, x, <double **> &place, &factor, n)
    return sum


cdef void set_pieces(Units *units) noexcept nogil:
    """Set into how many pieces the sums of a tensor are cut, which depends on its shape alone.

    Units whose elements lie next to each other: a piece is of one unit and has at most a tile.
    Columns: a piece is of some whole rows and has a sum for each column.
    """
    cdef Py_ssize_t tile = TILE // 2 if units.is_double else TILE, rows
    if units.inner == 1 and units.count > 1:
        rows = units.n // units.count
        units.pieces = min(<Py_ssize_t> MOST_PIECES, max(<Py_ssize_t> 1, units.n // PIECE), max(<Py_ssize_t> 1, rows))
    else:
        units.pieces = units.count * ((units.inner + tile - 1) // tile)


cdef void sum_units(
    const Rule *of_run, const Rule *of_each, const Units *units, double factor, double *pieces,
    double *sums, int team,
) noexcept nogil:
    """Sum the elements of each unit, or their squares, in float64 and in a fixed order.

    `pieces` has room for the sums of all pieces: columns have `count` in each, other units one. The
    elements are `factor` times the gradient, or p's own.
    """
    cdef bint columns = units.inner == 1 and units.count > 1
    cdef Py_ssize_t total = units.pieces, per_unit, unit, piece
    cdef int k
    if team > total:
        team = <int> max(total, <Py_ssize_t> 1)
    if team == 1:
        sum_pieces(of_run, of_each, units, factor, pieces, 0, total)
    else:
        for k in prange(team, num_threads=region_size(team), schedule="static", chunksize=1):
            sum_pieces(of_run, of_each, units, factor, pieces, total * k // team, total * (k + 1) // team)
    per_unit = 0 if units.count == 0 else total // units.count
    for unit in range(units.count):
        sums[unit] = 0.0
        if columns:
            for piece in range(total):
                sums[unit] += pieces[piece * units.count + unit]
        else:
            for piece in range(per_unit):
                sums[unit] += pieces[unit * per_unit + piece]


cdef void sum_pieces(
    const Rule *of_run, const Rule *of_each, const Units *units, double factor, double *pieces,
    Py_ssize_t piece, Py_ssize_t end,
) noexcept nogil:
    cdef fo_float_mode before = fo_set_mode(False)
    if units.inner == 1 and units.count > 1:
        if units.is_double:
            sum_columns[double](of_each, units, factor, pieces, piece, end)
        else:
            sum_columns[float](of_each, units, rounded(factor), pieces, piece, end)
    elif units.is_double:
        sum_runs[double](of_run, units, factor, pieces, piece, end)
    else:
        sum_runs[float](of_run, units, rounded(factor), pieces, piece, end)
    fo_put_back(before)


cdef void sum_columns(
    const Rule *rule, const Units *units, floating factor, double *pieces, Py_ssize_t piece, Py_ssize_t end
) noexcept nogil:
    cdef const floating *x = <const floating *> (units.g if units.g else units.p)
    cdef Py_ssize_t rows = units.n // units.count, row, k
    cdef double *sums
    while piece < end:
        sums = pieces + piece * units.count
        for k in range(units.count):
            sums[k] = 0.0
        for row in range(rows * piece // units.pieces, rows * (piece + 1) // units.pieces):
            if floating is float:
                rule.f32(NULL, x + row * units.count, <float **> &sums, &factor, units.count)
            else:
                rule.f64(NULL, x + row * units.count, <double **> &sums, &factor, units.count)
        piece += 1


cdef void sum_runs(
    const Rule *rule, const Units *units, floating factor, double *pieces, Py_ssize_t piece, Py_ssize_t end
) noexcept nogil:
    cdef const Stages *stages = <const Stages *> units.stages
    cdef floating[2][TILE] scratch
    cdef floating *p
    cdef const floating *x
    cdef Py_ssize_t tile = TILE if floating is float else TILE // 2
    cdef Py_ssize_t per_unit = (units.inner + tile - 1) // tile, at, n
    while piece < end:
        at = piece % per_unit * tile
        n = min(tile, units.inner - at)
        at += piece // per_unit * units.inner
        p = <floating *> units.p + at
        x = p
        if units.g:
            x = <const floating *> units.g + at
        if stages != NULL:
            x = gradient(stages, stages.n_looked, p, x, scratch[0], scratch[1], n, at)
        pieces[piece] = reduced(rule, x, factor, n)
        piece += 1
