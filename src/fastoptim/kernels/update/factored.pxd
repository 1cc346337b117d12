"""Adafactor's step: its length, and second moments that are two vectors."""

cimport numpy as cnp

from fastoptim.kernels.factors cimport Factors
from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Stages, Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.prelude cimport Prelude
from fastoptim.kernels.update.store cimport Record

# A key of the call. Addresses are integers. What is of rows and of columns follows matrix after matrix.
cdef struct Part:
    bint is_double
    bint factored
    Py_ssize_t n            # elements
    Py_ssize_t p            # in C order
    Py_ssize_t g            # in C order, as it came
    const Stages *stages    # those that make the gradient
    Stages own              # with the loop of matrices, if factored
    Py_ssize_t row_of_coefs     # of its own
    int alpha               # which of the coefficients is α
    double least            # ε₂, −1 if α is not multiplied by the size of p
    double most             # d, infinite if the step may have any size
    Py_ssize_t v            # the second moment, or that of rows and that of columns
    Py_ssize_t r
    Py_ssize_t c
    Py_ssize_t new_r        # what takes their place
    Py_ssize_t new_c
    Py_ssize_t matrices
    Factors factors
    Py_ssize_t strip_rows   # how many rows of a matrix are one unit
    Py_ssize_t strips       # of one matrix
    Py_ssize_t chunks       # of its columns, or of all elements
    Py_ssize_t first_strip  # the units of the passes over elements that come before
    Py_ssize_t n_strips
    Py_ssize_t first_chunk  # the units of the pass over columns that come before
    Py_ssize_t n_chunks
    double *means           # of each matrix: that of r
    double *sums            # of each row, or of each chunk
    double *col_sums        # of each strip and column

# Of the instruction set in use.
cdef struct Loops:
    const Rule *squares
    const Rule *factored_squares
    const Rule *adafactor_squares
    const Rule *sum

# All keys of a call.
cdef struct Parts:
    Loops loops
    Py_ssize_t count
    Part *part
    const double *c64       # the coefficients, a row of them for each key
    const float *c32
    Py_ssize_t row64        # how long a row is
    Py_ssize_t row32

cdef class Factored(Prelude):
    cdef Parts parts
    cdef Py_ssize_t room_for    # so many parts
    cdef object room            # memory of all parts
    cdef Table params           # in C order
    cdef object block_sums      # of the squares of params
    cdef dict copies            # (key, kind) → (record, copy in C order)
    cdef list copying           # (copy, array) of this call

    cdef int make_parts(self, Call call) except -1
    cdef int give_memory(self) except -1
    cdef Py_ssize_t in_order(self, Record record, str kind, cnp.ndarray array) except -1
    cdef void settle(self, Call call) noexcept
