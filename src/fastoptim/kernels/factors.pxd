"""What the loops of adafactor.pxi share with update/factored.pyx, which calls them."""

# What the second moments of a key's matrices have become: V⁻½ is a factor for each row times one for
# each column. The key's last two axes are the matrix; its other axes count the matrices. Example: a
# parameter of shape (2, 3, 4) has 2 matrices, 6 row factors and 8 column factors.
cdef struct Factors:
    Py_ssize_t rows     # of one matrix
    Py_ssize_t cols
    Py_ssize_t row      # address of the row factors, matrix after matrix
    Py_ssize_t col      # address of the column factors, matrix after matrix

# Some rows of a matrix, of which a loop gets a piece at a time.
cdef struct Strip:
    Py_ssize_t cols
    Py_ssize_t at       # elements of the strip that come before the piece
    double *row_sums
    double *col_sums
    const void *row     # factors of the rows
    const void *col     # factors of the columns
