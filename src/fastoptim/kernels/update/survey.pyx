"""The gradients as a whole: are they finite, and what brings their norm down to clip_norm."""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY, isfinite, sqrt

from fastoptim.kernels.driver cimport run, survey
from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Grid, Span, Table, add_span, set_bare
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.coefficients cimport check_factors, refuse_factor
from fastoptim.kernels.update.detours cimport Detour
from fastoptim.kernels.update.grid cimport make_grid
from fastoptim.kernels.update.pipeline cimport Pipeline, pass_of
from fastoptim.kernels.update.products cimport Multiplied
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks.gradients import not_finite

cnp.import_array()


@cython.final
cdef class Copy:
    """Memory for a gradient in C order."""

    cdef Record record
    cdef cnp.ndarray array
    cdef Grid grid

    def __cinit__(self, Record record):
        self.record = record
        self.array = np.empty(record.shape, record.dtype)


cdef bint are_finite(const Span *span) noexcept nogil:
    """Whether all numbers of a gradient in C order are finite.

    It needs no memory and no Python, since the sums of a soft batch have been made by then.
    """
    cdef Py_ssize_t i
    for i in range(span.n):
        if not isfinite((<const double *> span.g)[i] if span.is_double else (<const float *> span.g)[i]):
            return False
    return True


@cython.final
cdef class Survey:
    """Reads all gradients once, in C order, so that no layout changes the norm."""

    def __cinit__(self):
        self.table = Table()
        self.sums = np.zeros(8)
        self.sum_of = <double *> cnp.PyArray_DATA(self.sums)
        self.copying = Table()
        self.copies = {}

    cdef bint passes(self, Call call, int team) except -1:
        """Return whether the update may go on; set the factor that clips the norm."""
        cdef const Rule *rule = pass_of("survey")
        cdef double factor = call.factor
        cdef Py_ssize_t k
        cdef Multiplied product
        for product in call.products or ():
            if product.by_tiles:
                self.table.spans[product.k].parts = 0
            else:
                self.table.spans[product.k].g = <Py_ssize_t> cnp.PyArray_DATA(product.grad)
        with nogil:
            run(self.copying, False, team)
            survey(rule, factor, self.table, self.sum_of, team)
        for product in call.products or ():
            if product.by_tiles:
                product.reduce(
                    rule, factor, self.sum_of + self.table.spans[product.k].first_block, team
                )
        if call.plan.skips or call.plan.raises:
            k = self.first_not_finite(call)
            if k >= 0 and call.plan.skips:
                return False
            if k >= 0:
                raise not_finite(call.records[k].key, call.gradients[call.place_of(k)])
        if call.plan.measures:
            call.norm = self.norm(0, self.table.n_blocks)
            call.measured = True
        if call.plan.clips:
            self.clip(call)
        if call.plan.clips_keys:
            self.clip_keys(call)
        return True

    cdef int prepare(self, Call call) except -1:
        """List the gradients, each in C order; make room for copies of those that lie otherwise."""
        cdef Py_ssize_t k
        cdef const Span *given
        cdef Record record
        cdef Detour detour
        set_bare(&self.copy_stages, pass_of("copy"))
        self.table.count = self.copying.count = 0
        self.table.make_room(call.table.count)
        self.copying.make_room(call.table.count)
        for k in range(call.table.count):
            given = &call.table.spans[k]
            record = <Record> call.records[k]
            add_span(self.table, given.n, given.is_double).g = given.g
            if not record.order & cnp.NPY_ARRAY_C_CONTIGUOUS and not given.rows and not given.grid:
                self.table.spans[k].g = self.in_order(record, self.grad_seen(call, k))
        for detour in call.detours or ():
            self.table.spans[detour.k].g = self.in_order(detour.record, detour.grad_seen())
        self.table.number_blocks()
        if self.table.n_blocks > cnp.PyArray_SIZE(self.sums):
            self.sums = np.zeros(2 * self.table.n_blocks)
            self.sum_of = <double *> cnp.PyArray_DATA(self.sums)
        self.copying.number_blocks()
        if call.plan.clips_keys:
            call.make_own_room()
        return 0

    cdef Py_ssize_t in_order(self, Record record, cnp.ndarray grad) except -1:
        """Return the address of a gradient in C order, which may be that of a copy yet to be made."""
        cdef Copy copy
        cdef Span *span
        if cnp.PyArray_IS_C_CONTIGUOUS(grad) and cnp.PyArray_ISALIGNED(grad):
            return <Py_ssize_t> cnp.PyArray_DATA(grad)
        copy = self.copies.get(record.key)
        if copy is None or copy.record is not record:
            copy = self.copies[record.key] = Copy(record)
        span = add_span(self.copying, record.size, record.type_num == cnp.NPY_DOUBLE)
        span.p = <Py_ssize_t> cnp.PyArray_DATA(copy.array)
        span.g = <Py_ssize_t> cnp.PyArray_DATA(grad)
        span.stages = <Py_ssize_t> &self.copy_stages
        span.grid = <Py_ssize_t> &copy.grid
        make_grid(
            &copy.grid, record.ndim, record.dims, cnp.PyArray_STRIDES(copy.array),
            cnp.PyArray_STRIDES(copy.array), False, cnp.PyArray_STRIDES(grad),
            not cnp.PyArray_ISALIGNED(grad), record.dtype.itemsize,
        )
        return span.p

    cdef Py_ssize_t first_not_finite(self, Call call) except -2:
        """Return the first span whose gradient is not finite, or -1."""
        cdef Py_ssize_t b, k = 0, looked_at = -1
        for b in range(self.table.n_blocks):
            if isfinite(self.sum_of[b]):
                continue
            while self.table.spans[k].first_block + self.table.spans[k].n_blocks <= b:
                k += 1
            if k != looked_at:      # finite numbers whose squares are not are looked at once more
                looked_at = k
                if not self.is_finite(call, k):
                    return k
        return -1

    cdef bint is_finite(self, Call call, Py_ssize_t k) noexcept:
        """Whether all numbers of a span's gradient are finite."""
        cdef Multiplied product
        for product in call.products or ():
            if product.k == k and product.by_tiles:
                return product.is_finite()
        return are_finite(&self.table.spans[k])

    cdef object grad_seen(self, Call call, Py_ssize_t k):
        """Return a gradient as the rule sees it: with rows summed."""
        cdef Detour detour
        for detour in call.detours or ():
            if detour.k == k:
                return detour.grad_seen()
        return call.gradients[call.place_of(k)]

    cdef double norm(self, Py_ssize_t first, Py_ssize_t end) noexcept:
        """Return the Euclidean norm of the gradients in some blocks: those of a key, or all."""
        cdef double squares = 0
        cdef Py_ssize_t b
        for b in range(first, end):
            squares += self.sum_of[b]
        return sqrt(squares)

    cdef int clip(self, Call call) except -1:
        """Let the stages bring the norm down to at most clip_norm."""
        if call.norm == INFINITY and self.first_not_finite(call) < 0:
            raise FloatingPointError(
                "the gradients are finite, but their squares are too large for the norm of "
                "clip_norm; scale the loss down"
            )
        if call.norm <= call.plan.most_norm:
            return 0
        call.clipped = True
        call.set_stages(call.plan.most_norm / call.norm)
        return check_factors(call)

    cdef int clip_keys(self, Call call) except -1:
        """Let each key's stages bring its norm down to at most its group's clip_norm_per_key."""
        cdef Py_ssize_t k
        cdef const Span *span
        cdef Record record
        cdef double most, norm
        cdef tuple unfit
        for k in range(self.table.count):
            record = <Record> call.records[k]
            most = (<Pipeline> call.plan.pipelines[record.group]).most_norm
            if most == INFINITY:
                continue
            span = &self.table.spans[k]
            norm = self.norm(span.first_block, span.first_block + span.n_blocks)
            if norm == INFINITY and self.is_finite(call, k):
                raise FloatingPointError(
                    f"grads[{record.key!r}] is finite, but its squares are too large for the norm of "
                    f"clip_norm_per_key; scale the loss down"
                )
            if norm <= most:
                continue
            call.clipped = True
            unfit = call.set_own_stages(k, record.group, most / norm)
            if unfit is not None:
                refuse_factor(call, record, unfit)
        return 0
