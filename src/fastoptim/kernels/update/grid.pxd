"""How a parameter or a gradient that does not lie as the state does is cut into tiles."""

from fastoptim.kernels.table cimport Grid

cdef void make_grid(
    Grid *grid, int n_dims, const Py_ssize_t *dims, const Py_ssize_t *s_strides,
    const Py_ssize_t *p_strides, bint p_copied, const Py_ssize_t *g_strides, bint g_copied,
    Py_ssize_t itemsize,
) noexcept nogil
