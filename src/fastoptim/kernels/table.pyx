"""A table of spans and their coefficients, which the driver walks.

The only place that rounds coefficients to float32 and says whether they fit.
"""

import numpy as np

from libc.math cimport isfinite

cdef extern from "platform.h":
    float fo_rounded(double x) nogil
    bint fo_is_zero(float x) nogil

cdef enum:
    BLOCK = 1024                # elements that pass all stages while they are in L1
    SPAN_COST = 64              # the cost of starting a span or a row, in elements


cdef Py_ssize_t blocks_of(Py_ssize_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK


cdef float rounded(double x) noexcept nogil:
    """Round to float32, whatever mode the calling thread is in."""
    return fo_rounded(x)


cdef Fit fit_of(double x, float narrow) noexcept:
    """Return what becomes of a scalar that is rounded to float32."""
    if not isfinite(x):
        return NOT_FINITE
    if not isfinite(narrow):
        return TOO_LARGE
    return TOO_SMALL if fo_is_zero(narrow) and x != 0 else FITS


cdef Fit set_scalar(Stage *stage, double value) noexcept:
    """Set a stage's scalar, rounded once; return how it fits."""
    stage.c64[0] = value
    stage.c32[0] = rounded(value)
    stage.each = 0
    return fit_of(value, stage.c32[0])


cdef void set_bare(Stages *stages, const Rule *rule) noexcept:
    """Set a rule without stages."""
    stages.rule = rule
    stages.n_grad = stages.n_looked = stages.n_param = stages.n_after = 0
    stages.average = stages.zero = 0


cdef Py_ssize_t n_tiles(const Grid *grid) noexcept nogil:
    cdef Py_ssize_t n = grid.tiles_down * grid.tiles_across
    cdef int k
    for k in range(grid.n_outer):
        n *= grid.outer[k]
    return n


# Made once: NumPy derives it in Python, and makes a ValueError of an interrupt there.
cdef Span SPAN
SPAN_DTYPE = np.asarray(<Span[:1]> &SPAN).dtype


cdef class Table:
    """Spans and coefficients, in memory that is used again; see table.pxd."""

    def __cinit__(self):
        self.memory = np.zeros(8, SPAN_DTYPE)
        self.spans = &self.memory[0]
        self.c32 = np.zeros((1, 1), np.float32)
        self.c64 = np.zeros((1, 1))

    cdef int make_room(self, Py_ssize_t count) except -1:
        """Make room for `count` spans; those in use stay."""
        if count <= self.memory.shape[0]:
            return 0
        cdef Span[::1] memory = np.zeros(2 * count, SPAN_DTYPE)
        memory[:self.memory.shape[0]] = self.memory
        self.memory = memory
        self.spans = &self.memory[0]
        return 0

    cdef void number_blocks(self) noexcept:
        """Number the blocks of all spans, and sum up the work."""
        cdef Py_ssize_t k
        cdef Span *span
        cdef const Grid *grid
        self.n_blocks = 0
        self.work = self.count * SPAN_COST
        for k in range(self.count):
            span = &self.spans[k]
            grid = <const Grid *> span.grid
            span.first_block = self.n_blocks
            span.n_blocks = blocks_of(span.n) if grid == NULL else n_tiles(grid)
            self.n_blocks += span.n_blocks
            self.work += span.n
            if span.rows and span.length:
                self.work += span.n // span.length * SPAN_COST

    cdef Fit set_coefs(self, Py_ssize_t row, tuple values) except *:
        """Set a row of coefficients, rounded once to either dtype; return how the worst one fits."""
        cdef Py_ssize_t k, n = len(values), n_rows = self.c64.shape[0], n_cols = self.c64.shape[1]
        cdef Fit worst = FITS, this
        cdef double x
        if row >= n_rows or n > n_cols:
            shape = (max(n_rows, 2 * row + 1), max(n_cols, n))
            c32, c64 = np.zeros(shape, np.float32), np.zeros(shape)
            c32[:n_rows, :n_cols] = self.c32
            c64[:n_rows, :n_cols] = self.c64
            self.c32, self.c64 = c32, c64
        for k in range(n):
            x = values[k]
            self.c64[row, k] = x
            self.c32[row, k] = rounded(x)
            this = self.fit(row, k)
            worst = max(worst, this)
        return worst

    cdef Fit fit(self, Py_ssize_t row, Py_ssize_t k) noexcept:
        """Return how one coefficient fits."""
        return fit_of(self.c64[row, k], self.c32[row, k])

    cdef tuple values_of(self, Py_ssize_t row, Py_ssize_t n):
        """Return the coefficients of a row."""
        cdef Py_ssize_t k
        return tuple([self.c64[row, k] for k in range(n)])


def block_length():
    """Return how many elements a block has."""
    return BLOCK
