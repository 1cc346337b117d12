"""What a key's arrays go through that cannot be used where they lie.

`Copied`: a number, an array that does not lie as the state does, a gradient that lies on memory that
is written. `TouchedRows`: a gradient of some rows. The stations meet a detour four times: `bring_in`
before any gradient is looked at, `gather` before the run, `take_back` after it, `let_go` at the end.
NumPy's copies are exact, and no element depends on another, so no detour changes a bit.
"""

import numpy as np

cimport cython
cimport numpy as cnp

from fastoptim.kernels.driver cimport RowSums, sum_rows
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport Span, add_span
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.grid cimport make_grid
from fastoptim.kernels.update.pipeline cimport Pipeline, pass_of
from fastoptim.kernels.update.row_numbers cimport RowNumbers
from fastoptim.kernels.update.store cimport Record, lies_straight

from fastoptim.rows import Elements, Rows

cnp.import_array()

cdef object ZERO = np.zeros(())


cdef class Detour:
    """One key's detour in one call."""

    cdef int bring_in(self, Call call, int team) except -1:
        """Make the gradient that the stations look at."""
        return 0

    cdef int copy_grad(self, Call call) except -1:
        """Let the span read a copy of the gradient, which lies on memory that is written."""
        return 0

    cdef int gather(self, Call call) except -1:
        """Copy what the span cannot reach."""
        return 0

    cdef int take_back(self, Call call) except -1:
        """Copy back what `gather` took, and what is zero in a copy only."""
        return 0

    cdef object grad_seen(self):
        """Return the gradient as the rule sees it."""
        return self.grad

    cdef void let_go(self) noexcept:
        """Forget the caller's arrays."""
        self.param = self.grad = None


@cython.final
cdef class Copied(Detour):
    """Arrays that are copied tile by tile while the driver walks, and numbers."""

    cdef int take(self, Call call, cnp.ndarray param, cnp.ndarray grad) except -1:
        """Take over a parameter and its gradient, both checked; a number is an array by now."""
        cdef Span *span = add_span(
            call.table, self.record.size, self.record.type_num == cnp.NPY_DOUBLE
        )
        self.param, self.grad = param, grad
        return self.place(span, False)

    cdef int place(self, Span *span, bint p_is_straight) except -1:
        """Lead the span to both arrays; p_is_straight: its p is memory that lies as the state does."""
        cdef Record record = self.record
        cdef bint p_aligned = p_is_straight or cnp.PyArray_ISALIGNED(self.param)
        cdef bint g_aligned = cnp.PyArray_ISALIGNED(self.grad)
        cdef const cnp.npy_intp *p_strides = record.strides
        if not p_is_straight:
            span.p = <Py_ssize_t> cnp.PyArray_DATA(self.param)
            p_strides = cnp.PyArray_STRIDES(self.param)
            p_is_straight = lies_straight(record, self.param, cnp.NPY_ARRAY_ALIGNED)
        span.g = <Py_ssize_t> cnp.PyArray_DATA(self.grad)
        span.grid = 0
        if p_is_straight and lies_straight(record, self.grad, cnp.NPY_ARRAY_ALIGNED):
            return 0
        if record.size == 0:
            return 0
        make_grid(
            &self.grid, record.ndim, record.dims, record.strides, p_strides, not p_aligned,
            cnp.PyArray_STRIDES(self.grad), not g_aligned, record.dtype.itemsize,
        )
        span.grid = <Py_ssize_t> &self.grid
        return 0

    cdef int copy_grad(self, Call call) except -1:
        if self.copy is None:
            self.copy = self.record.new_array(MAX_SLOTS + 1)
        cnp.PyArray_CopyInto(self.copy, self.grad)
        self.grad = self.copy
        self.place(&call.table.spans[self.k], False)
        return 0


@cython.final
cdef class TouchedRows(Detour):
    """A gradient of some rows: which they are, their sums, and the rows of a table in odd order."""

    def __cinit__(self):
        self.numbers = RowNumbers()

    cdef int take(self, Call call, cnp.ndarray param, object given) except -1:
        """Take over a parameter and a gradient of its rows, both checked."""
        cdef Record record = self.record
        cdef Py_ssize_t n, length = given.length
        cdef Span *span
        self.numbers.take(
            f"grads[{record.key!r}]", given.index, given.n_rows, given.unique,
            call.plan.clips,            # the norm is that of the same rows in any order
        )
        n = self.numbers.count * length
        self.param, self.grad, self.given = param, given.values, given
        if not self.numbers.direct:
            if self.sums is None or cnp.PyArray_SIZE(self.sums) < n:
                self.sums = np.empty(n + n // 4, record.dtype)
            self.grad = self.sums
        self.where = self.gathered = None
        if not (
            record.order & cnp.NPY_ARRAY_C_CONTIGUOUS
            and lies_straight(record, param, cnp.NPY_ARRAY_ALIGNED)
        ):
            self.where = (self.numbers.as_array(),)
            if given.values.ndim < record.ndim:             # single elements
                self.where = np.unravel_index(self.where[0], record.shape)
        span = add_span(call.table, n, record.type_num == cnp.NPY_DOUBLE)
        span.p = <Py_ssize_t> cnp.PyArray_DATA(param)
        span.g = <Py_ssize_t> cnp.PyArray_DATA(self.grad)
        span.rows = self.numbers.address()
        span.length = length
        return 0

    cdef int copy_grad(self, Call call) except -1:
        self.grad = self.grad.copy()
        call.table.spans[self.k].g = <Py_ssize_t> cnp.PyArray_DATA(self.grad)
        return 0

    cdef int bring_in(self, Call call, int team) except -1:
        """Sum rows that are there twice, or put them in order."""
        cdef RowSums sums
        cdef const Rule *add
        cdef bint flush = call.flush
        if self.numbers.direct:
            return 0
        add = pass_of("add")
        self.numbers.fill(&sums, self.given.length, self.given.values, self.grad)
        with nogil:
            sum_rows(add, &sums, flush, team)
        return 0

    cdef int gather(self, Call call) except -1:
        """Copy the touched rows of a table whose rows do not lie one after the other."""
        cdef Span *span = &call.table.spans[self.k]
        cdef int k
        if self.where is None:
            return 0
        self.gathered = []
        state, average = call.state_of(
            self.k, self.record.state, self.record.average
        )
        self.gather_from(self.param, &span.p)
        for k, name in enumerate((<Pipeline> call.plan.pipelines[self.record.group]).slots):
            self.gather_from(state[name], &span.s[k])
        if average is not None:
            self.gather_from(average, &span.average)
        span.rows = 0
        return 0

    cdef int lead_to(self, Call call, cnp.ndarray array) except -1:
        """Let the rows be added to an array that lies as the state does."""
        cdef Span *span = &call.table.spans[self.k]
        if self.where is not None:
            self.gathered = []
            self.gather_from(array, &span.p)
            span.rows = 0
        return 0

    cdef tuple part(self):
        """Return what this gradient adds to a RowSum: the kind, the rows, their values."""
        by_element = self.given.values.ndim < self.record.ndim
        shape = (-1,) if by_element else (self.numbers.count, *self.record.shape[1:])
        return Elements if by_element else Rows, (
            self.numbers.as_array(), self.grad_seen().reshape(shape)
        )

    cdef int gather_from(self, object a, Py_ssize_t *address) except -1:
        copy = np.array(a[self.where], order="C")
        self.gathered.append((a, copy))
        address[0] = <Py_ssize_t> cnp.PyArray_DATA(copy)
        return 0

    cdef int take_back(self, Call call) except -1:
        if self.gathered is not None:
            for a, copy in self.gathered:
                a[self.where] = copy
        cdef bint read = call.table.spans[self.k].n > 0         # not where a soft batch keeps rows
        if call.zero:           # the rows of a source, which makes new ones
            return 0
        if call.stages[self.record.group].zero and not (read and self.grad is self.given.given):
            cnp.PyArray_CopyInto(self.given.given, ZERO)
        return 0

    cdef object grad_seen(self):
        return self.grad.reshape(-1)[:self.numbers.count * self.given.length]

    cdef void let_go(self) noexcept:
        self.param = self.grad = None
        self.given = self.where = self.gathered = None


cdef int use(Call call, Detour detour) except -1:
    """Let a detour be that of the span which is added next."""
    detour.k = call.table.count
    if call.detours is None:
        call.detours = []
    call.detours.append(detour)
    return 0


@cython.final
cdef class Detours:
    """The detours of an engine's keys, kept for their memory."""

    def __cinit__(self):
        self.copied = {}
        self.touched = {}

    cdef Copied by_copy(self, Call call, Record record):
        """Return a key's detour by copying."""
        cdef Copied detour = self.copied.get(record.key)
        if detour is None or detour.record is not record:
            detour = self.copied[record.key] = Copied.__new__(Copied)
            detour.record = record
        use(call, detour)
        return detour

    cdef TouchedRows by_rows(self, Call call, Record record):
        """Return a key's detour by rows."""
        cdef TouchedRows detour = self.touched.get(record.key)
        if detour is None or detour.record is not record:
            detour = self.touched[record.key] = TouchedRows.__new__(TouchedRows)
            detour.record = record
        use(call, detour)
        return detour

    cdef Copied for_overlap(self, Call call, Py_ssize_t k, cnp.ndarray param, cnp.ndarray grad):
        """Return a detour for a key that has gone straight up to here."""
        cdef Copied detour = self.by_copy(call, call.records[k])
        detour.k = k
        detour.param, detour.grad = param, grad
        return detour
