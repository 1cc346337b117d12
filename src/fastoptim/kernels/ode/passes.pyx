"""A pass over many arrays that lie alike, in one parallel region.

An update checks the caller's arrays and keeps state by key (kernels/update). The passes of a
Runge–Kutta step work on arrays that were checked before (workspace.pyx) and need only the walk.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite, sqrt
from libc.string cimport memcmp

from fastoptim.kernels.driver cimport run, survey
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.ode.piece cimport Piece
from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport (
    NOT_FINITE,
    TOO_LARGE,
    Fit,
    Span,
    Stages,
    Table,
    add_span,
    blocks_of,
    set_bare,
)

cnp.import_array()

cdef enum:
    PIECE = 1024                    # elements of a piece; the bits of a sum depend on it

assert blocks_of(PIECE) == 1        # so the driver passes a piece as a whole


@cython.final
cdef class PassRunner:
    """Runs passes over lists of arrays that are all alike: as many, of the same sizes and dtypes.

    Parameters
    ----------
    like : list of arrays of float32 or float64
        Every list given later must be like this one.

    Attributes
    ----------
    altered : int
        The first array of x whose bits at the last `move` or `total` were not those that the pass
        before had written, or -1.

    Notes
    -----
    The arrays at one place of the lists are read element for element in the order of memory, so they
    must have the same layout, without gaps. The caller ensures that, and that nothing overlaps.
    """

    cdef list sizes
    cdef list kinds                 # type numbers
    cdef readonly Py_ssize_t size   # elements of all arrays
    cdef readonly Py_ssize_t altered
    cdef Table arrays               # a span per array
    cdef Table cuts                 # a span per piece of an array
    cdef object memory              # of the pieces
    cdef Piece *pieces
    cdef ThreadCounts thread_counts
    cdef int team                   # how many threads a pass uses

    def __cinit__(self, list like):
        cdef cnp.ndarray a
        cdef Py_ssize_t n, start
        cdef bint is_double
        self.sizes = [cnp.PyArray_SIZE(a) for a in like]
        self.kinds = [cnp.PyArray_TYPE(a) for a in like]
        self.size = sum(self.sizes)
        self.altered = -1
        self.thread_counts = ThreadCounts()
        self.team = 1
        self.arrays = Table()
        self.cuts = Table()
        self.arrays.make_room(len(like))
        self.cuts.make_room(sum([(n + PIECE - 1) // PIECE for n in self.sizes]))
        for n, kind in zip(self.sizes, self.kinds, strict=True):
            is_double = kind == cnp.NPY_DOUBLE
            add_span(self.arrays, n, is_double)
            for start in range(0, n, PIECE):
                add_span(self.cuts, min(PIECE, n - start), is_double)
        self.arrays.number_blocks()
        self.cuts.number_blocks()
        self.memory = np.zeros(max(1, self.cuts.count) * sizeof(Piece), np.uint8)
        self.pieces = <Piece *> cnp.PyArray_DATA(<cnp.ndarray> self.memory)

    def begin(self):
        """Choose how many threads all passes of a step use."""
        self.team = self.thread_counts.begin(self.arrays.work, False)

    def end(self):
        """Note that the step is complete."""
        self.thread_counts.end()

    def run(self, object capsule, tuple columns, tuple coefficients=(), list rows=None):
        """Run a rule of plain arrays over all of them.

        Parameters
        ----------
        capsule : the rule
        columns : tuple of lists of arrays
            One list for each argument of the rule: p (which it writes), g, its slots.
        coefficients : tuple of float
            Computed in double; rounded once, here.
        rows : list of int, optional
            For arrays with coefficients of their own: `coefficients` are then several rows, one
            after the other, and this is the row of each array.

        Raises
        ------
        ValueError
            A list, or a number of lists or coefficients, is not what the rule takes; or a
            coefficient is not finite in a dtype of these arrays.
        """
        cdef Stages stages
        cdef Py_ssize_t column
        self.prepare(&stages, capsule, len(columns), coefficients, rows)
        for column in range(len(columns)):
            self.place(<Py_ssize_t> &stages, column, columns[column])
        with nogil:
            run(self.arrays, False, self.team)

    def move(
        self, object capsule, list x, list g, tuple columns, tuple coefficients=(), list rows=None
    ):
        """Run a pass over the point x, which also shows whether anything else has written to x.

        Parameters
        ----------
        capsule : the pass
        x : list of arrays
            The point.
        g : list of arrays or None
            Gradients, if the pass takes any.
        columns : tuple of lists of arrays
            The other arrays.
        coefficients, rows
            As for `run`.

        Returns
        -------
        bool
            Whether x held the bits that the pass before had written; `altered` says where not.
        """
        cdef Stages stages
        cdef Py_ssize_t column
        self.prepare(&stages, capsule, len(columns) + 2, coefficients, rows)
        self.place(<Py_ssize_t> &stages, 0, x)
        self.place(<Py_ssize_t> &stages, 1, x if g is None else g)
        for column in range(len(columns)):
            self.place(<Py_ssize_t> &stages, column + 2, columns[column])
        self.cut(&stages)
        with nogil:
            run(self.cuts, False, self.team)
        self.altered = self.first_piece(True)
        return self.altered < 0

    def total(self, object capsule, list x, list g, tuple columns, tuple coefficients=()):
        """Run a pass that writes one double per piece; return the sum of all of them.

        Pieces are fixed parts of the arrays, and their sums are added in the arrays' order, so
        neither threads nor instruction sets change a bit. `altered` is as after `move`.
        """
        cdef double total = 0.0
        cdef Py_ssize_t k
        self.move(capsule, x, g, columns, coefficients)
        for k in range(self.cuts.count):
            total += self.pieces[k].total
        return total

    def norm(self, object capsule, list g):
        """Return the Euclidean norm of arrays together, summed as the update sums that of clip_norm.

        Neither threads nor instruction sets change a bit of it.
        """
        cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
        cdef double squares = 0.0
        cdef double *sum_of
        cdef Py_ssize_t k
        self.place(0, 1, g)
        sums = np.empty(self.arrays.n_blocks)
        sum_of = <double *> cnp.PyArray_DATA(<cnp.ndarray> sums)
        with nogil:
            survey(rule, 1.0, self.arrays, sum_of, self.team)
        for k in range(self.arrays.n_blocks):
            squares += sum_of[k]
        return sqrt(squares)

    def not_finite(self):
        """Return the index of the first array whose sum in the last `total` is not finite, or -1."""
        return self.first_piece(False)

    cdef Py_ssize_t first_piece(self, bint altered):
        """Return the index of the first array with a piece that was altered or has no finite total."""
        cdef Py_ssize_t k, piece = 0, beyond = 0
        for k in range(len(self.sizes)):
            beyond += (self.arrays.spans[k].n + PIECE - 1) // PIECE
            while piece < beyond:
                if self.pieces[piece].altered if altered else not isfinite(self.pieces[piece].total):
                    return k
                piece += 1
        return -1

    def same_bits(self, list one, list other):
        """Whether two lists of arrays hold the same bits; stops at the first that differ."""
        cdef Py_ssize_t k, n
        cdef void *a
        cdef void *b
        cdef int differ
        self.place(0, 0, one)
        self.place(0, 1, other)
        for k in range(len(self.sizes)):
            a = <void *> self.arrays.spans[k].p
            b = <void *> self.arrays.spans[k].g
            n = self.arrays.spans[k].n * (8 if self.arrays.spans[k].is_double else 4)
            with nogil:
                differ = memcmp(a, b, n)
            if differ:
                return False
        return True

    cdef int prepare(
        self, Stages *stages, object capsule, Py_ssize_t n_columns, tuple coefficients, list rows
    ) except -1:
        """Look the rule up and set its coefficients."""
        cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
        cdef Py_ssize_t n_rows = 1, row, k
        name = rule.name.decode()
        if n_columns != rule.slots + 2:
            raise ValueError(f"{name!r} takes {rule.slots + 2} columns, got {n_columns}")
        if rows is not None:
            n_rows = len(coefficients) // max(1, rule.coefs)
            if len(rows) != len(self.sizes) or not all([0 <= row < n_rows for row in rows]):
                raise ValueError(f"rows must be {len(self.sizes)} numbers in [0, {n_rows}), got {rows}")
        if len(coefficients) != rule.coefs * n_rows:
            raise ValueError(
                f"{name!r} has {rule.coefs} coefficients, got {len(coefficients)} for {n_rows} rows"
            )
        for row in range(n_rows):
            self.set_row(row, coefficients[row * rule.coefs:(row + 1) * rule.coefs])
        for k in range(len(self.sizes)):
            self.arrays.spans[k].coefs = 0 if rows is None else rows[k]
        set_bare(stages, rule)
        return 0

    cdef int set_row(self, Py_ssize_t row, tuple values) except -1:
        """Set a row of coefficients, or say which of them does not fit."""
        cdef Py_ssize_t k
        cdef Fit fit
        self.arrays.set_coefs(row, values)
        for k in range(len(values)):
            fit = self.arrays.fit(row, k)
            if fit == NOT_FINITE:
                raise ValueError(f"a coefficient is {values[k]}, which is not finite")
            if fit == TOO_LARGE and cnp.NPY_FLOAT in self.kinds:
                raise ValueError(f"a coefficient is {values[k]}, which float32 cannot hold")
        self.cuts.c32, self.cuts.c64 = self.arrays.c32, self.arrays.c64
        return 0

    cdef int place(self, Py_ssize_t stages, Py_ssize_t column, list arrays) except -1:
        """Write the addresses of one column into the table."""
        cdef Py_ssize_t k, address
        cdef cnp.ndarray a
        if len(arrays) != len(self.sizes):
            raise ValueError(f"column {column} has {len(arrays)} arrays, expected {len(self.sizes)}")
        for k in range(len(arrays)):
            a = arrays[k]
            if cnp.PyArray_SIZE(a) != self.arrays.spans[k].n or cnp.PyArray_TYPE(a) != self.kinds[k]:
                raise ValueError(f"array {k} of column {column} is not like the one it should match")
            address = <Py_ssize_t> cnp.PyArray_DATA(a)
            self.arrays.spans[k].stages = stages
            if column == 0:
                self.arrays.spans[k].p = address
            elif column == 1:
                self.arrays.spans[k].g = address
            else:
                self.arrays.spans[k].s[column - 2] = address
        return 0

    cdef int cut(self, const Stages *stages) except -1:
        """Cut the arrays of the table into pieces. Measured (1 M float32): 3 µs of a pass of 300."""
        cdef Py_ssize_t k, start, step, column, piece = 0
        cdef Span *part
        for k in range(len(self.sizes)):
            step = 8 if self.arrays.spans[k].is_double else 4
            for start in range(0, self.arrays.spans[k].n, PIECE):
                part = &self.cuts.spans[piece]
                part.p = <Py_ssize_t> &self.pieces[piece]
                self.pieces[piece].x = self.arrays.spans[k].p + start * step
                part.g = self.arrays.spans[k].g + start * step
                for column in range(stages.rule.slots):
                    part.s[column] = self.arrays.spans[k].s[column] + start * step
                part.coefs = self.arrays.spans[k].coefs
                part.stages = <Py_ssize_t> stages
                piece += 1
        return 0
