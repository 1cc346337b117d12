"""What Muon steps along: each matrix's momentum, orthogonalised.

A pass over memory forms the direction of every matrix in scratch memory, from the gradient as the
stages make it and the momentum. Its norm is summed as that of `clip_norm`. The matrix products are
NumPy's, on its BLAS; no thread of ours runs meanwhile.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.math cimport INFINITY, sqrt

from fastoptim.kernels.driver cimport run, survey
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport Span, Stages, Table, add_span, set_bare
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour, TouchedRows
from fastoptim.kernels.update.pipeline cimport Pipeline, pass_of
from fastoptim.kernels.update.prelude cimport Prelude
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks.matrices import rows_of_a_matrix, too_large
from fastoptim.kernels.update.orthogonal import orthogonalize

cnp.import_array()

NOTHING = np.zeros(0, np.uint8)


@cython.final
cdef class Scratch:
    """A key's matrices: its direction, which becomes the step, and those that it is made with."""

    cdef Record record
    cdef Py_ssize_t k               # which span is its, in this call
    cdef cnp.ndarray x              # the direction, in the layout of the state
    cdef tuple matrices             # in C order: x, one as large, two of its shorter side squared

    def __cinit__(self, Record record):
        self.record = record
        self.x = record.new_array(MAX_SLOTS + 3)


@cython.final
cdef class NewtonSchulz(Prelude):
    """The orthogonalisation of an optimizer's matrices."""

    cdef Table table                # the spans of the matrices: the way of their directions
    cdef Table directions           # for their norms
    cdef Stages *stages             # one per span
    cdef Py_ssize_t room
    cdef cnp.ndarray sums           # a sum of squares for each block
    cdef dict scratch               # key → Scratch
    cdef list found                 # those of this call
    cdef object large               # memory for one key after the other: of the largest matrix
    cdef object small               # of the largest two with a shorter side squared

    def __cinit__(self):
        self.table, self.directions = Table(), Table()
        self.sums = np.zeros(8)
        self.scratch, self.found = {}, []
        self.large = self.small = NOTHING

    def __dealloc__(self):
        PyMem_Free(self.stages)

    cdef int check(self, Call call) except -1:
        """Refuse gradients of rows for a matrix that is orthogonalised."""
        cdef Detour detour
        for detour in call.detours or ():
            if isinstance(detour, TouchedRows) and is_orthogonalized(call, detour.k):
                raise rows_of_a_matrix(detour.record.key)
        return 0

    cdef int prepare(self, Call call) except -1:
        """Make the scratch matrices of this call's keys, and lead their spans to them."""
        cdef Py_ssize_t k, large = 0, small = 0, short
        cdef Scratch scratch
        cdef Record record
        self.found = []
        for k in range(call.table.count):
            record = <Record> call.records[k]
            if not is_orthogonalized(call, k) or record.size == 0:
                continue
            scratch = self.scratch.get(record.key)
            if scratch is None or scratch.record is not record:
                scratch = self.scratch[record.key] = Scratch(record)
            call.table.spans[k].s[1] = <Py_ssize_t> cnp.PyArray_DATA(scratch.x)
            scratch.k = k
            self.found.append(scratch)
            short = min(record.dims[0], record.dims[1])
            large = max(large, record.n_bytes)
            small = max(small, 2 * short * short * record.dtype.itemsize)
        if large > self.large.nbytes or small > self.small.nbytes:
            for scratch in self.scratch.values():
                scratch.matrices = None
            self.large = self.small = NOTHING           # the old ones go first
            self.large, self.small = np.empty(large, np.uint8), np.empty(small, np.uint8)
        for scratch in self.found:
            if scratch.matrices is None:
                scratch.matrices = self.matrices(scratch)
        return self.make_tables(call)

    cdef tuple matrices(self, Scratch scratch):
        """Return the matrices of a key, in C order."""
        x = scratch.x if cnp.PyArray_IS_C_CONTIGUOUS(scratch.x) else scratch.x.T
        short, dtype = min(x.shape), x.dtype
        cdef Py_ssize_t n_bytes = short * short * dtype.itemsize
        return (
            x,
            np.ndarray(x.shape, dtype, self.large),
            np.ndarray((short, short), dtype, self.small),
            np.ndarray((short, short), dtype, self.small, n_bytes),
        )

    cdef int make_tables(self, Call call) except -1:
        """Make room for the passes of `compute`, which then needs no memory."""
        cdef Py_ssize_t n = len(self.found)
        cdef void *memory
        cdef Scratch scratch
        self.table.make_room(n)
        self.directions.make_room(n)
        self.directions.count = 0
        for scratch in self.found:
            add_span(
                self.directions, scratch.record.size, scratch.record.type_num == cnp.NPY_DOUBLE
            ).g = <Py_ssize_t> cnp.PyArray_DATA(scratch.x)
        self.directions.number_blocks()
        if self.directions.n_blocks > cnp.PyArray_SIZE(self.sums):
            self.sums = np.zeros(2 * self.directions.n_blocks)
        if n > self.room:
            memory = PyMem_Realloc(self.stages, n * sizeof(Stages))
            if memory == NULL:
                raise MemoryError
            self.stages, self.room = <Stages *> memory, n
        return 0

    cdef int compute(self, Call call, int team) except -1:
        """Orthogonalise the directions of this call's matrices."""
        cdef Py_ssize_t i
        cdef Scratch scratch
        cdef const Rule *squares = pass_of("survey")
        cdef double *sums = <double *> cnp.PyArray_DATA(self.sums)
        self.table.count = 0
        for scratch in self.found:
            self.add_direction(call, scratch.k)
        self.table.number_blocks()
        self.table.c32, self.table.c64 = call.table.c32, call.table.c64
        with nogil:
            run(self.table, call.flush, team)
            survey(squares, 1.0, self.directions, sums, team)
        with np.errstate(all="ignore"):         # what is not finite goes its way, as in a kernel
            for i, scratch in enumerate(self.found):
                owner = (<Pipeline> call.plan.pipelines[scratch.record.group]).owner
                orthogonalize(
                    scratch.matrices, self.norm(i, scratch), owner.eps, owner.ns_coefficients,
                    owner.ns_steps, owner.factor_of(scratch.record.shape),
                )
        return 0

    cdef int add_direction(self, Call call, Py_ssize_t k) except -1:
        """Let a matrix's direction be formed: by what makes the gradient, and no other stage."""
        cdef Stages *stages = &self.stages[self.table.count]
        cdef const Stages *given = <const Stages *> call.table.spans[k].stages
        set_bare(stages, pass_of("muon_direction"))
        stages.n_grad, stages.grad = given.n_grad, given.grad
        cdef Span *span = &self.table.spans[self.table.count]
        span[0] = call.table.spans[k]
        span.stages = <Py_ssize_t> stages
        self.table.count += 1
        return 0

    cdef double norm(self, Py_ssize_t i, Scratch scratch) except *:
        """Return the Frobenius norm of a direction."""
        cdef const Span *span = &self.directions.spans[i]
        cdef double squares = 0
        cdef Py_ssize_t b
        for b in range(span.first_block, span.first_block + span.n_blocks):
            squares += self.sums[b]
        if squares == INFINITY and np.isfinite(scratch.x).all():
            raise too_large(scratch.record.key)
        return sqrt(squares)


cdef bint is_orthogonalized(Call call, Py_ssize_t k) except -1:
    """Whether a span's matrix is: the other keys' rules have no scratch array."""
    cdef Record record = <Record> call.records[k]
    return (<Pipeline> call.plan.pipelines[record.group]).scratch > 0
