"""How a parameter or a gradient that does not lie as the state does is cut into tiles.

The state lies without gaps. Its last axis (the one whose elements are next to each other) is the
tile's columns. Of the other axes, the tile's rows go along the one whose elements are next to each
other in p or g, so that a tile takes whole cache lines of both. Example: the state of a parameter of
shape (1000, 784) in C order, its gradient in Fortran order. A tile is 256 of the 784 columns, 32 of
the 1000 rows; in the gradient it is 256 pieces of 32 elements, two cache lines each.

Axes that are one in all three are joined first: a gradient of a convolution, (32, 3, 5, 5) made of
the transpose of (75, 32), is two axes, 32 and 75.
"""

cimport numpy as cnp

from fastoptim.kernels.table cimport GRID_DOUBLES, MOST_DIMS, Grid

cdef enum:
    ROW_BYTES = 1024            # of a tile
    SHORT = 32                  # elements; shorter rows of an array are copied


cdef inline Py_ssize_t absolute(Py_ssize_t x) noexcept nogil:
    return x if x >= 0 else -x


cdef void make_grid(
    Grid *grid, int n_dims, const cnp.npy_intp *dims, const cnp.npy_intp *s_strides,
    const cnp.npy_intp *p_strides, bint p_copied, const cnp.npy_intp *g_strides, bint g_copied,
    Py_ssize_t itemsize,
) noexcept nogil:
    """Fill a grid for an array of at least one element; strides are in bytes.

    p_copied and g_copied say that their elements cannot be used where they are, being unaligned.
    """
    cdef Py_ssize_t[MOST_DIMS] n, s, p, g
    cdef int k, i, j, down = -1
    cdef int axes = 0
    for k in range(n_dims):                 # by the state's strides, the longest first
        if dims[k] == 1:
            continue
        i = axes
        while i > 0 and s[i - 1] < s_strides[k]:
            n[i], s[i], p[i], g[i] = n[i - 1], s[i - 1], p[i - 1], g[i - 1]
            i -= 1
        n[i], s[i], p[i], g[i] = dims[k], s_strides[k], p_strides[k], g_strides[k]
        axes += 1
    i = 0
    for k in range(1, axes):                # axes that are one in all three
        if p[i] == n[k] * p[k] and g[i] == n[k] * g[k]:
            n[k] *= n[i]
        else:
            i += 1
        n[i], s[i], p[i], g[i] = n[k], s[k], p[k], g[k]
    axes = min(axes, i + 1)
    j = axes - 1                            # across
    for k in range(axes - 1):
        if absolute(g[k]) < absolute(g[j]) and (down < 0 or absolute(g[k]) < absolute(g[down])):
            down = k
    if down < 0:
        for k in range(axes - 1):
            if absolute(p[k]) < absolute(p[j]) and (down < 0 or absolute(p[k]) < absolute(p[down])):
                down = k
    grid.cols = n[j] if axes else 1
    grid.p_step[1] = p[j] if axes else itemsize
    grid.g_step[1] = g[j] if axes else itemsize
    grid.tile_cols = min(grid.cols, ROW_BYTES // itemsize)
    if down < 0:
        down = axes - 2
    grid.rows = n[down] if down >= 0 else 1
    grid.s_down = s[down] // itemsize if down >= 0 else grid.cols
    grid.p_step[0] = p[down] if down >= 0 else 0
    grid.g_step[0] = g[down] if down >= 0 else 0
    grid.tile_rows = min(grid.rows, 8 * GRID_DOUBLES // itemsize // grid.tile_cols)
    if grid.tile_rows < 1:
        grid.tile_rows = 1
    grid.tiles_down = (grid.rows + grid.tile_rows - 1) // grid.tile_rows
    grid.tiles_across = (grid.cols + grid.tile_cols - 1) // grid.tile_cols
    grid.p_copied = p_copied or grid.p_step[1] != itemsize
    grid.g_copied = g_copied or grid.g_step[1] != itemsize
    if grid.cols < SHORT:                   # a call for each short row would be mostly calling
        grid.p_copied = grid.p_copied or grid.p_step[0] != grid.s_down * itemsize
        grid.g_copied = grid.g_copied or grid.g_step[0] != grid.s_down * itemsize
    grid.whole_rows = (
        grid.tile_cols == grid.cols and grid.s_down == grid.cols
        and (grid.p_copied or grid.p_step[0] == grid.cols * itemsize)
        and (grid.g_copied or grid.g_step[0] == grid.cols * itemsize)
    )
    grid.n_outer = 0
    for k in range(axes - 1):
        if k != down:
            i = grid.n_outer
            grid.outer[i], grid.s_outer[i] = n[k], s[k] // itemsize
            grid.p_outer[i], grid.g_outer[i] = p[k], g[k]
            grid.n_outer += 1
