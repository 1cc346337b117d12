"""Sparse gradients as SciPy makes them, CSR and CSC, become places in the parameter in one pass.

Training with one example at a time passes a few numbers per call, so what is done for each call counts.
Measured, a row of 20 numbers of 10,000, SGD, the whole update: 20.6 µs with NumPy's functions in
checks/row_grads.py, 2.6 µs here. What is not as usual in any way is left to that file, which takes it or
says what is wrong.
"""

import sys

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from fastoptim.kernels.update.store cimport PyArray_ISNOTSWAPPED, Record

from fastoptim.kernels.update.checks.row_grads import RowGrad

cnp.import_array()

ctypedef fused whole:
    int32_t
    int64_t

# The classes met so far → whether they store columns. Only SciPy's own: a subclass may do otherwise.
cdef dict STORES_COLUMNS = {}
NAMES = (("csr_array", False), ("csr_matrix", False), ("csc_array", True), ("csc_matrix", True))


cdef object stores_columns(type kind):
    """Return whether a class stores columns (CSC) or not (CSR); None: it is none of the four."""
    found = STORES_COLUMNS.get(kind)
    if found is not None:
        return found
    sparse = sys.modules.get("scipy.sparse")
    for name, columns in NAMES:
        if sparse is not None and getattr(sparse, name, None) is kind:
            STORES_COLUMNS[kind] = columns
            return columns
    return None


cdef inline bint is_usual(object a) noexcept:
    """Whether a part of a sparse array is an array with one axis that can be read where it lies."""
    if type(a) is not cnp.ndarray or cnp.PyArray_NDIM(<cnp.ndarray> a) != 1:
        return False
    cdef int flags = cnp.PyArray_FLAGS(<cnp.ndarray> a)
    cdef int needs = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    return flags & needs == needs and PyArray_ISNOTSWAPPED(<cnp.ndarray> a)


cdef inline int width(object a) noexcept:
    """Return the bytes of an element of an array of signed integers; 0 for any other array."""
    if not is_usual(a) or not cnp.PyTypeNum_ISSIGNED(cnp.PyArray_TYPE(<cnp.ndarray> a)):
        return 0
    return cnp.PyArray_ITEMSIZE(<cnp.ndarray> a)


cdef Py_ssize_t places(
    const whole *bounds, const whole *minor, Py_ssize_t n_major, Py_ssize_t n_minor,
    Py_ssize_t n_data, bint columns, Py_ssize_t *index
) noexcept nogil:
    """Write the place of each element, counted in C order; return how many there are, −1 for bad parts.

    Each number is read once: what was checked is what is used, whatever another thread does meanwhile.
    """
    cdef Py_ssize_t i, k, at, end, start = bounds[0]
    cdef Py_ssize_t major_step = 1 if columns else n_minor, minor_step = n_major if columns else 1
    if start != 0:
        return -1
    for i in range(n_major):
        end = bounds[i + 1]
        if end < start or end > n_data:
            return -1
        for k in range(start, end):
            at = minor[k]
            if <size_t> at >= <size_t> n_minor:
                return -1
            index[k] = i * major_step + at * minor_step
        start = end
    return start


cdef object compressed_grad(object g, Record record):
    """Return a gradient of single elements, checked; None if g has to be looked at by `row_grad`."""
    columns = stores_columns(type(g))
    if columns is None or g.shape != record.shape:
        return None
    cdef object values = g.data, bounds = g.indptr, minor = g.indices
    cdef int size = width(bounds)
    if (
        not is_usual(values) or cnp.PyArray_TYPE(<cnp.ndarray> values) != record.type_num
        or size not in (4, 8) or width(minor) != size
    ):
        return None
    cdef bint by_column = columns
    cdef Py_ssize_t n_minor = record.dims[0 if by_column else record.ndim - 1]
    cdef Py_ssize_t n_major = 1 if record.ndim == 1 else record.dims[1 if by_column else 0]
    cdef cnp.npy_intp n_data = cnp.PyArray_DIM(<cnp.ndarray> values, 0), count
    if (
        cnp.PyArray_DIM(<cnp.ndarray> minor, 0) != n_data
        or cnp.PyArray_DIM(<cnp.ndarray> bounds, 0) != n_major + 1
    ):
        return None
    cdef cnp.ndarray index = cnp.PyArray_EMPTY(1, &n_data, cnp.NPY_INTP, 0)
    cdef const void *b = cnp.PyArray_DATA(<cnp.ndarray> bounds)
    cdef const void *m = cnp.PyArray_DATA(<cnp.ndarray> minor)
    cdef Py_ssize_t *to = <Py_ssize_t *> cnp.PyArray_DATA(index)
    with nogil:
        if size == 4:
            count = places(
                <const int32_t *> b, <const int32_t *> m, n_major, n_minor, n_data, by_column, to
            )
        else:
            count = places(
                <const int64_t *> b, <const int64_t *> m, n_major, n_minor, n_data, by_column, to
            )
    if count < 0:
        return None
    if count < n_data:          # what lies behind the last bound is room
        return RowGrad(index[:count], values[:count], values, record.size, 1, False)
    return RowGrad(index, values, values, record.size, 1, False)
