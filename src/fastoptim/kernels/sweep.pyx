"""A rule over many arrays of our own, in one parallel region: the door for what is not an update.

An update checks a caller's arrays and keeps state by key (collect.pyx). What works on arrays that
the library allocated itself, such as the stages of a Runge–Kutta step, needs only the walk.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite
from libc.string cimport memcmp

from fastoptim.kernels.driver cimport Pipeline, Span, blocks_of, new_table, rounded, run, work_of
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.rule cimport Rule

cnp.import_array()

cdef enum:
    PIECE = 1024                    # elements of a partial sum, on which its bits depend


@cython.final
cdef class Sweep:
    """Runs rules over lists of arrays that are all alike: as many, of the same sizes and dtypes.

    Parameters
    ----------
    like : list of arrays of float32 or float64
        What every list given later must look like.

    Notes
    -----
    The arrays of one place are taken element for element as they lie in memory, so they must have
    the same layout, without gaps. That, and that nothing overlaps, is the caller's to see to.
    """

    cdef list sizes
    cdef list kinds                 # type numbers
    cdef readonly Py_ssize_t size   # elements of all arrays
    cdef Span[::1] spans            # one per array
    cdef Span[::1] pieces           # one per partial sum
    cdef double[::1] partial
    cdef float[:, ::1] c32
    cdef double[:, ::1] c64
    cdef ThreadCounts thread_counts
    cdef int team                   # how many threads a pass uses

    def __cinit__(self, list like):
        cdef cnp.ndarray a
        cdef Py_ssize_t k, first = 0
        self.sizes = []
        self.kinds = []
        self.spans = new_table(max(1, len(like)))
        for k in range(len(like)):
            a = like[k]
            self.sizes.append(cnp.PyArray_SIZE(a))
            self.kinds.append(cnp.PyArray_TYPE(a))
            self.spans[k].n = cnp.PyArray_SIZE(a)
            self.spans[k].wide = cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE
            self.spans[k].first = first
            first += blocks_of(self.spans[k].n)
        self.size = sum(self.sizes)
        self.thread_counts = ThreadCounts()
        self.team = 1
        self.partial = np.zeros(0)          # made by the first `total`
        self.c32 = np.zeros((1, 1), np.float32)
        self.c64 = np.zeros((1, 1))

    def begin(self):
        """Choose how many threads the passes of a step use: all of them the same number."""
        cdef Py_ssize_t count = len(self.sizes)
        self.team = self.thread_counts.begin(work_of(&self.spans[0], count), False)

    def end(self):
        """Note that the step has been made."""
        self.thread_counts.end()

    def run(self, object capsule, tuple columns, tuple coefficients=()):
        """Run a rule over all arrays.

        Parameters
        ----------
        capsule : the rule
        columns : tuple of lists of arrays
            One list for each thing that the rule takes: what it writes (p), g, its slots.
        coefficients : tuple of float
            Computed in double; rounded once, here.

        Raises
        ------
        ValueError
            A list, or a number of lists or coefficients, is not what the rule takes; or a
            coefficient is not finite in a dtype of these arrays.
        """
        cdef Pipeline line
        cdef Py_ssize_t column, count = len(self.sizes)
        self.prepare(&line, capsule, columns, len(columns), coefficients)
        for column in range(len(columns)):
            self.place(<Py_ssize_t> &line, column, columns[column])
        with nogil:
            run(self.spans, count, self.c32, self.c64, False, self.team)

    def total(self, object capsule, tuple columns, tuple coefficients=()):
        """Run a rule that writes one double per span, and return the sum of all of them.

        The columns are those of `run`, without the first. Each span is a fixed piece of an array,
        and the sums are added in the order of the arrays, so neither threads nor instruction sets
        change a bit.
        """
        cdef Pipeline line
        cdef Py_ssize_t column, k, piece = 0, start, step, count
        cdef double total = 0.0
        cdef Span *part
        self.prepare(&line, capsule, columns, len(columns) + 1, coefficients)
        for column in range(len(columns)):
            self.place(<Py_ssize_t> &line, column + 1, columns[column])
        if self.partial.shape[0] == 0:
            count = sum([(n + PIECE - 1) // PIECE for n in self.sizes])
            self.partial = np.zeros(max(1, count))
            self.pieces = new_table(max(1, count))
        for k in range(len(self.sizes)):
            step = 8 if self.spans[k].wide else 4
            for start in range(0, self.spans[k].n, PIECE):
                part = &self.pieces[piece]
                part.p = <Py_ssize_t> &self.partial[piece]
                part.g = self.spans[k].g + start * step
                for column in range(line.rule.slots):
                    part.s[column] = self.spans[k].s[column] + start * step
                part.n = min(PIECE, self.spans[k].n - start)
                part.first = piece
                part.line = <Py_ssize_t> &line
                part.wide = self.spans[k].wide
                piece += 1
        with nogil:
            run(self.pieces, piece, self.c32, self.c64, False, self.team)
            for k in range(piece):
                total += self.partial[k]
        return total

    def not_finite(self):
        """Return the place of the first array whose sum in the last `total` is not finite, or -1."""
        cdef Py_ssize_t k, piece = 0, beyond = 0
        for k in range(len(self.sizes)):
            beyond += (self.spans[k].n + PIECE - 1) // PIECE
            while piece < beyond:
                if not isfinite(self.partial[piece]):
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
            a = <void *> self.spans[k].p
            b = <void *> self.spans[k].g
            n = self.spans[k].n * (8 if self.spans[k].wide else 4)
            with nogil:
                differ = memcmp(a, b, n)
            if differ:
                return False
        return True

    cdef int prepare(
        self, Pipeline *line, object capsule, tuple columns, Py_ssize_t n_columns, tuple coefficients
    ) except -1:
        """Look the rule up and set its coefficients."""
        cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
        cdef int k
        name = rule.name.decode()
        if n_columns != rule.slots + 2:
            raise ValueError(f"{name!r} takes {rule.slots + 2} columns, got {n_columns}")
        if len(coefficients) != rule.coefs:
            raise ValueError(f"{name!r} has {rule.coefs} coefficients, got {len(coefficients)}")
        if rule.coefs > self.c64.shape[1]:
            self.c64 = np.zeros((1, rule.coefs))
            self.c32 = np.zeros((1, rule.coefs), np.float32)
        for k in range(rule.coefs):
            self.c64[0, k] = coefficients[k]
            self.c32[0, k] = rounded(self.c64[0, k])
            if not isfinite(self.c64[0, k]):
                raise ValueError(f"a coefficient is {self.c64[0, k]}, which is not finite")
            if not isfinite(self.c32[0, k]) and cnp.NPY_FLOAT in self.kinds:
                raise ValueError(f"a coefficient is {self.c64[0, k]}, which float32 cannot hold")
        line.rule = rule
        line.n_grad = line.n_param = line.average = line.zero = 0
        return 0

    cdef int place(self, Py_ssize_t line, Py_ssize_t column, list arrays) except -1:
        """Write the addresses of one column into the table."""
        cdef Py_ssize_t k, address
        cdef cnp.ndarray a
        if len(arrays) != len(self.sizes):
            raise ValueError(f"column {column} has {len(arrays)} arrays, expected {len(self.sizes)}")
        for k in range(len(arrays)):
            a = arrays[k]
            if cnp.PyArray_SIZE(a) != self.spans[k].n or cnp.PyArray_TYPE(a) != self.kinds[k]:
                raise ValueError(f"array {k} of column {column} is not like the one it should match")
            address = <Py_ssize_t> cnp.PyArray_DATA(a)
            self.spans[k].line = line
            if column == 0:
                self.spans[k].p = address
            elif column == 1:
                self.spans[k].g = address
            else:
                self.spans[k].s[column - 2] = address
        return 0
