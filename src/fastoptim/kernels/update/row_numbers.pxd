"""Which rows of a table a gradient touches, and where in the gradient each of them is."""

from libc.stdint cimport uint64_t

from fastoptim.kernels.driver cimport RowSums

cdef class RowNumbers:
    cdef readonly Py_ssize_t count      # rows; with duplicates found, distinct ones
    cdef readonly bint direct           # the gradient's rows are these, one for one
    cdef Py_ssize_t[::1] rows           # their numbers; has room for more
    cdef Py_ssize_t[::1] order          # places in the gradient, row by row
    cdef Py_ssize_t[::1] start          # where in order each row's places start
    cdef object buffer                  # the array of rows
    cdef Py_ssize_t[::1] which
    cdef uint64_t[::1] bits             # one for each row of the table; all 0 between calls
    cdef uint64_t[::1] words            # one for each word of bits
    cdef Py_ssize_t[::1] before         # rows before each word of bits

    cdef int take(self, str name, object index, Py_ssize_t n_rows, bint unique, bint in_order) except -1
    cdef int fill(self, RowSums *sums, Py_ssize_t length, object values, object out) except -1
    cdef object as_array(self)
    cdef Py_ssize_t address(self) noexcept
    cdef int make_room(self, Py_ssize_t given, Py_ssize_t n_rows) except -1
    cdef int mark(self, str name, object index, Py_ssize_t given, bint unique) except -1
    cdef void sort(self, Py_ssize_t given) noexcept nogil
    cdef void clear(self, Py_ssize_t given, const Py_ssize_t *numbers) noexcept nogil
