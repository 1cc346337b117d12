"""How a parameter or a gradient that does not lie as the state does is cut into tiles."""

cimport numpy as cnp

from fastoptim.kernels.table cimport Grid

cdef void make_grid(
    Grid *grid, int n_dims, const cnp.npy_intp *dims, const cnp.npy_intp *s_strides,
    const cnp.npy_intp *p_strides, bint p_copied, const cnp.npy_intp *g_strides, bint g_copied,
    Py_ssize_t itemsize,
) noexcept nogil
