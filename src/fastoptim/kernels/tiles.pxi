# The walk over a span whose arrays do not all lie as the state does; included by driver.pyx.

cdef void tiles(const Span *span, const floating *c, Py_ssize_t tile, Py_ssize_t end) noexcept nogil:
    """Send tiles of a span through its pipeline where p or g does not lie as the state does.

    A tile of such an array is copied to scratch memory, and a tile of p back from there. A tile has
    whole cache lines of both orders, so each line is fetched once. Measured (Adam float32, gradient
    in Fortran order, against one in C order, two threads): 1.4 to 1.5 times the time for 1000 × 1000,
    2.2 to 2.4 times for 4000 × 4000; with tiles of 512 columns instead of 256 it is 2.5 to 2.7 times.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef const Grid *grid = <const Grid *> span.grid
    cdef double[2][GRID_DOUBLES] memory
    cdef floating *scratch = <floating *> &memory[0][0]
    cdef floating *more_scratch = <floating *> &memory[1][0]
    cdef floating *s[MAX_SLOTS]
    cdef floating *p
    cdef floating *g
    cdef floating *a
    cdef Py_ssize_t[3] at       # of the tile's first element: p, g in bytes, the state in elements
    cdef Py_ssize_t k, r, i, n, rows, cols, whole, p_down, g_down, most = 2 * GRID_DOUBLES
    if has_stages(span):
        most = TILE if floating is float else TILE // 2
    while tile < end:
        start_of(grid, tile, at)
        rows = min(
            grid.tile_rows,
            grid.rows - tile // grid.tiles_across % grid.tiles_down * grid.tile_rows,
        )
        cols = min(grid.tile_cols, grid.cols - tile % grid.tiles_across * grid.tile_cols)
        p, p_down = <floating *> (span.p + at[0]), grid.p_step[0]
        g, g_down = <floating *> (span.g + at[1]), grid.g_step[0]
        if grid.p_copied:
            p, p_down = scratch, cols * <Py_ssize_t> sizeof(floating)
            gather_tile(span.p + at[0], grid.p_step, rows, cols, p)
        if grid.g_copied:
            g, g_down = more_scratch, cols * <Py_ssize_t> sizeof(floating)
            gather_tile(span.g + at[1], grid.g_step, rows, cols, g)
        if grid.g_step[0] == <Py_ssize_t> sizeof(floating) and tile + 1 < end:
            fetch_tile(span, grid, tile + 1, sizeof(floating))
        whole = rows * cols if grid.whole_rows else cols
        for r in range(1 if grid.whole_rows else rows):
            i = 0
            while i < whole:
                n = min(most, whole - i)
                for k in range(stages.rule.slots):
                    s[k] = <floating *> span.s[k] + at[2] + r * grid.s_down + i
                a = <floating *> span.average + at[2] + r * grid.s_down + i
                run_pipeline(
                    span, <floating *> (<char *> p + r * p_down) + i,
                    <floating *> (<char *> g + r * g_down) + i, s, a, c, n,
                    at[2] + r * grid.s_down + i, NULL,
                )
                i += n
        if grid.p_copied:
            scatter_tile(p, span.p + at[0], grid.p_step, rows, cols)
        if grid.g_copied and stages.zero:
            scatter_tile(g, span.g + at[1], grid.g_step, rows, cols)
        tile += 1


cdef inline void start_of(const Grid *grid, Py_ssize_t tile, Py_ssize_t *at) noexcept nogil:
    """Set where a tile's first element is, in p, g and the state."""
    cdef Py_ssize_t i, j = tile % grid.tiles_across * grid.tile_cols
    cdef int k
    tile //= grid.tiles_across
    i = tile % grid.tiles_down * grid.tile_rows
    tile //= grid.tiles_down
    at[0] = i * grid.p_step[0] + j * grid.p_step[1]
    at[1] = i * grid.g_step[0] + j * grid.g_step[1]
    at[2] = i * grid.s_down + j
    for k in range(grid.n_outer - 1, -1, -1):
        i = tile % grid.outer[k]
        tile //= grid.outer[k]
        at[0] += i * grid.p_outer[k]
        at[1] += i * grid.g_outer[k]
        at[2] += i * grid.s_outer[k]


cdef inline void fetch_tile(
    const Span *span, const Grid *grid, Py_ssize_t tile, Py_ssize_t itemsize
) noexcept nogil:
    """Prefetch the columns of a gradient: the hardware prefetcher does not follow so many."""
    cdef Py_ssize_t[3] at
    cdef Py_ssize_t k, i
    start_of(grid, tile, at)
    for k in range(grid.tile_cols):
        for i in range(0, grid.tile_rows * itemsize, 64):
            FO_PREFETCH_READ(span.g + at[1] + k * grid.g_step[1] + i)


cdef inline void gather_tile(
    Py_ssize_t base, const Py_ssize_t *step, Py_ssize_t rows, Py_ssize_t cols, floating *x
) noexcept nogil:
    cdef Py_ssize_t r, k
    if step[0] == <Py_ssize_t> sizeof(floating):
        if floating is float:
            fo_columns_f32(<const char *> base, step[1], rows, cols, x)
        else:
            fo_columns_f64(<const char *> base, step[1], rows, cols, x)
        return
    for r in range(rows):
        for k in range(cols):
            x[r * cols + k] = read(<const floating *> (base + r * step[0] + k * step[1]))


cdef inline void scatter_tile(
    const floating *x, Py_ssize_t base, const Py_ssize_t *step, Py_ssize_t rows, Py_ssize_t cols
) noexcept nogil:
    cdef Py_ssize_t r, k
    for r in range(rows):
        for k in range(cols):
            memcpy(<void *> (base + r * step[0] + k * step[1]), &x[r * cols + k], sizeof(floating))


cdef inline floating read(const floating *place) noexcept nogil:
    """Return an element that may not be aligned."""
    cdef floating x
    memcpy(&x, place, sizeof(floating))
    return x
