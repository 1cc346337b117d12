"""The way of keys whose arrays cannot be used where they lie.

`Copied`: a number, an array that does not lie as the state does, a gradient that lies on memory that
is written. `Half`: a parameter of 16 bits. `TouchedRows`: a gradient of some rows. The stations meet a
detour four times: `bring_in` before any gradient is looked at, `gather` before the run, `take_back`
after it, `let_go` at the end. NumPy's copies are exact, and no element depends on another, so no detour changes a bit.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy

from fastoptim.kernels.driver cimport RowSums, sum_rows
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport MOST_DIMS, Span, add_span
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.grid cimport make_grid
from fastoptim.kernels.update.pipeline cimport Pipeline, pass_of
from fastoptim.kernels.update.row_numbers cimport RowNumbers
from fastoptim.kernels.update.store cimport Record, lies_straight

from fastoptim.rows import Elements, Rows

cnp.import_array()


cdef inline void copy_strided(
    char *to, Py_ssize_t to_step, const char *source, Py_ssize_t step, Py_ssize_t n, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    if to_step == size and step == size:
        memcpy(to, source, n * size)
    elif size == 4:                 # a length that the compiler knows
        for i in range(n):
            memcpy(to + i * to_step, source + i * step, 4)
    elif size == 8:
        for i in range(n):
            memcpy(to + i * to_step, source + i * step, 8)
    else:
        for i in range(n):
            memcpy(to + i * to_step, source + i * step, 2)


cdef double NOTHING = 0.0


cdef void copy_elements(
    cnp.ndarray a, Py_ssize_t first, Py_ssize_t n, char *other, Way way
) noexcept nogil:
    """Copy n elements of an array with axes, counted in C order, to other memory or back.

    NumPy would ask for memory, and what is copied back after an update must not fail.
    """
    cdef Py_ssize_t[MOST_DIMS] at
    cdef const cnp.npy_intp *dims = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a), i = 0, run, rest = first
    cdef int axis, last = cnp.PyArray_NDIM(a) - 1
    cdef char *element = <char *> cnp.PyArray_DATA(a)
    if n == 0:
        return
    for axis in range(last, 0, -1):
        at[axis] = rest % dims[axis]
        rest //= dims[axis]
        element += at[axis] * strides[axis]
    at[0] = rest
    element += rest * strides[0]
    while i < n:
        run = min(n - i, dims[last] - at[last])         # along the last axis
        if way == OUT:
            copy_strided(other + i * size, size, element, strides[last], run, size)
        elif way == BACK:
            copy_strided(element, strides[last], other + i * size, size, run, size)
        else:
            copy_strided(element, strides[last], <char *> &NOTHING, 0, run, size)
        i += run
        at[last] += run
        element += run * strides[last]
        axis = last
        while axis > 0 and at[axis] == dims[axis]:
            element += strides[axis - 1] - dims[axis] * strides[axis]
            at[axis] = 0
            axis -= 1
            at[axis] += 1


cdef class Detour:
    """The way of one key whose arrays cannot be used where they lie."""

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
cdef class Half(Detour):
    """A parameter of float16 or bfloat16, whose rule works on float32; codes.pyx leads the span there.

    Its gradient is of float32, or of the same 16 bits if nothing but the driver reads it. Both are in C
    order: what lies otherwise is copied.
    """

    cdef int take(self, Call call, cnp.ndarray param, cnp.ndarray grad, int code) except -1:
        """Take over a parameter and its gradient, both checked."""
        cdef Span *span = add_span(call.table, self.record.size, False)
        self.param, self.given, self.code = param, grad, code
        self.codes = None
        if not is_in_c_order(param):
            self.codes = np.empty(self.record.shape, np.uint16)
            if cnp.PyArray_NDIM(param):
                copy_elements(param, 0, self.record.size, <char *> cnp.PyArray_DATA(self.codes), OUT)
            else:
                memcpy(cnp.PyArray_DATA(self.codes), cnp.PyArray_DATA(param), 2)
        if cnp.PyArray_ITEMSIZE(grad) == 2 and not call.reads_half:
            grad = np.asarray(grad, np.float32, order="C")
        if not is_in_c_order(grad):
            grad = np.array(grad, order="C")
        self.grad = grad
        span.p, span.g = <Py_ssize_t> cnp.PyArray_DATA(param), <Py_ssize_t> cnp.PyArray_DATA(grad)
        return 0

    cdef Py_ssize_t address(self):
        """Return where the parameter's codes are."""
        return <Py_ssize_t> cnp.PyArray_DATA(self.param if self.codes is None else self.codes)

    cdef int copy_grad(self, Call call) except -1:
        self.grad = self.grad.copy()
        call.table.spans[self.k].g = <Py_ssize_t> cnp.PyArray_DATA(self.grad)
        return 0

    cdef void write_back(self) noexcept:
        """Copy codes that have been copied back."""
        if self.codes is None:
            return
        if cnp.PyArray_NDIM(self.param):
            copy_elements(
                self.param, 0, self.record.size, <char *> cnp.PyArray_DATA(self.codes), BACK
            )
        else:
            memcpy(cnp.PyArray_DATA(self.param), cnp.PyArray_DATA(self.codes), 2)

    cdef int take_back(self, Call call) except -1:
        if call.stages[self.record.group].zero and self.grad is not self.given and not call.zero:
            if cnp.PyArray_NDIM(self.given):
                copy_elements(self.given, 0, self.record.size, NULL, ZERO)
            else:
                memcpy(cnp.PyArray_DATA(self.given), &NOTHING, cnp.PyArray_ITEMSIZE(self.given))
        return 0

    cdef void let_go(self) noexcept:
        self.param = self.grad = self.given = self.codes = None


cdef inline bint is_in_c_order(cnp.ndarray a):
    return cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_ISALIGNED(a)


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
            call.plan.measures,         # the norm is that of the same rows in any order
        )
        n = self.numbers.count * length
        self.param, self.grad, self.given = param, given.values, given
        self.length, self.to_zero = length, given.given
        if not self.numbers.direct:
            if self.sums is None or cnp.PyArray_SIZE(self.sums) < n:
                self.sums = np.empty(n + n // 4, record.dtype)
            self.grad = self.sums
        self.gathered = None
        self.apart = not (
            record.order & cnp.NPY_ARRAY_C_CONTIGUOUS
            and lies_straight(record, param, cnp.NPY_ARRAY_ALIGNED)
        )
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
        if not self.apart:
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
        if self.apart:
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

    cdef int gather_from(self, cnp.ndarray a, Py_ssize_t *address) except -1:
        copy = np.empty(self.numbers.count * self.length, self.record.dtype)
        self.gathered.append((a, copy))
        self.copy_rows(a, copy, OUT)
        address[0] = <Py_ssize_t> cnp.PyArray_DATA(copy)
        return 0

    cdef void copy_rows(self, cnp.ndarray a, cnp.ndarray copy, Way way) noexcept:
        cdef Py_ssize_t k, length = self.length
        for k in range(self.numbers.count):
            copy_elements(
                a, self.numbers.rows[k] * length, length,
                <char *> cnp.PyArray_DATA(copy) + k * length * cnp.PyArray_ITEMSIZE(a), way,
            )

    cdef int take_back(self, Call call) except -1:
        if self.gathered is not None:
            for a, copy in self.gathered:
                self.copy_rows(a, copy, BACK)
        cdef bint read = call.table.spans[self.k].n > 0         # not where a soft batch keeps rows
        if call.zero:           # the rows of a source, which makes new ones
            return 0
        if call.stages[self.record.group].zero and not (read and self.grad is self.to_zero):
            copy_elements(self.to_zero, 0, cnp.PyArray_SIZE(self.to_zero), NULL, ZERO)
        return 0

    cdef object grad_seen(self):
        return self.grad.reshape(-1)[:self.numbers.count * self.given.length]

    cdef void let_go(self) noexcept:
        self.param = self.grad = self.to_zero = None
        self.given = self.gathered = None


cdef int use(Call call, Detour detour) except -1:
    """Take a detour for the span that is added next."""
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
        self.halves = {}
        self.products = {}

    cdef Copied by_copy(self, Call call, Record record):
        """Return a key's detour by copying."""
        cdef Copied detour = self.copied.get(record.key)
        if detour is None or detour.record is not record:
            detour = self.copied[record.key] = Copied.__new__(Copied)
            detour.record = record
        use(call, detour)
        return detour

    cdef Half by_half(self, Call call, Record record):
        """Return the detour of a key whose parameter has 16 bits."""
        cdef Half detour = self.halves.get(record.key)
        if detour is None or detour.record is not record:
            detour = self.halves[record.key] = Half.__new__(Half)
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
