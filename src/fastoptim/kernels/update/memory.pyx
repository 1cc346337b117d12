"""Whether any array that is written shares memory with another.

The overlap check is expensive, so it runs only if something lies elsewhere than at the last check
that found no overlap. Addresses, sizes and steps of all arrays are written down in a row of words and
compared with those: equal words are equal geometry, whatever has happened in between.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdlib cimport qsort
from libc.string cimport memcmp

from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.table cimport PLAIN, UNSIGNED, Span, Stages
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour, Detours, TouchedRows, detour_of
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.products cimport Multiplied
from fastoptim.kernels.update.store cimport Record, is_factored

from fastoptim.kernels.update.checks.gradients import grad_memory, grad_name
from fastoptim.kernels.update.store import MASTER

from fastoptim.kernels.update.checks.overlap import overlaps_itself, refuse_shared_memory

cnp.import_array()

cdef enum:
    PER_SPAN = MAX_SLOTS + 8        # words, at most, of a span without a detour
    PER_ARRAY = 2 + 2 * 64          # and of an array that takes one


cdef int make_room(Words *words, Py_ssize_t more) except -1:
    """Make room for more words behind those that are there."""
    cdef void *memory
    if words.n + more > words.room:
        memory = PyMem_Realloc(words.words, 2 * (words.n + more) * sizeof(Py_ssize_t))
        if memory == NULL:
            raise MemoryError
        words.words, words.room = <Py_ssize_t *> memory, 2 * (words.n + more)
    return 0


cdef inline void put(Words *words, Py_ssize_t word) noexcept:
    words.words[words.n] = word
    words.n += 1


cdef int put_array(Words *words, cnp.ndarray a) except -1:
    """Write an array's geometry down."""
    cdef int k
    make_room(words, PER_ARRAY)
    put(words, <Py_ssize_t> cnp.PyArray_DATA(a))
    put(words, cnp.PyArray_ITEMSIZE(a))
    for k in range(cnp.PyArray_NDIM(a)):
        put(words, cnp.PyArray_DIM(a, k))
        put(words, cnp.PyArray_STRIDE(a, k))
    return 0


cdef bint are_equal(const Words *a, const Words *b) noexcept:
    return a.n == b.n and memcmp(a.words, b.words, a.n * sizeof(Py_ssize_t)) == 0


cdef Extent extent_of(cnp.ndarray a) noexcept:
    """Return the first byte of an array and the one behind its last."""
    cdef Py_ssize_t low = <Py_ssize_t> cnp.PyArray_DATA(a), high = low, step
    cdef int k
    if cnp.PyArray_SIZE(a) == 0:
        return Extent(low, low)
    for k in range(cnp.PyArray_NDIM(a)):
        step = cnp.PyArray_STRIDE(a, k) * (cnp.PyArray_DIM(a, k) - 1)
        if step < 0:
            low += step
        else:
            high += step
    return Extent(low, high + cnp.PyArray_ITEMSIZE(a))


cdef inline Py_ssize_t bytes_of(Record record, Pipeline pipeline, int slot):
    """Return how many bytes a slot has, which may be kept as codes."""
    cdef int code = PLAIN
    if record.coding is not None and slot < len(pipeline.codes):
        code = pipeline.codes[slot]
    if code == PLAIN:
        return record.n_bytes
    return 2 * record.size if code < UNSIGNED else record.size


cdef inline bint keeps_more(Record record) noexcept:
    """Whether a record's state may have arrays that are no slots of its rule."""
    return record.half != PLAIN or record.coding is not None


cdef inline bint is_beside(str name):
    """Whether an array of a record's state is a master, or what blocks of codes have in common."""
    return name == MASTER or name.endswith(".largest")


cdef int by_low(const void *a, const void *b) noexcept nogil:
    cdef Py_ssize_t low_a = (<const Extent *> a).low, low_b = (<const Extent *> b).low
    return (low_a > low_b) - (low_a < low_b)


@cython.final
cdef class Memory:
    """The geometry of an engine's arrays, as of the last check that found no overlap."""

    def __dealloc__(self):
        PyMem_Free(self.written.words)
        PyMem_Free(self.written_before.words)
        PyMem_Free(self.read.words)
        PyMem_Free(self.read_before.words)
        PyMem_Free(self.extents)

    cdef bint check(self, Call call, Detours detours) except -1:
        """Refuse two written arrays on one memory; copy gradients that lie on written memory.

        Return whether anything written lies elsewhere than at the last check.
        """
        cdef bint written_is_good
        self.note(call)
        written_is_good = are_equal(&self.written, &self.written_before)
        if written_is_good and are_equal(&self.read, &self.read_before):
            return False
        self.read_before.n = 0
        if not written_is_good:
            self.written_before.n = 0
            self.list_written(call)
            self.written, self.written_before = self.written_before, self.written
        if self.copy_what_is_written(call, detours) == 0:
            self.read, self.read_before = self.read_before, self.read
        return not written_is_good

    cdef void forget(self) noexcept:
        """Let the next check look at everything."""
        self.written_before.n = self.read_before.n = 0

    cdef int note(self, Call call) except -1:
        """Write down where this call's arrays lie."""
        cdef Words *words
        cdef Span *span
        cdef Stages *stages
        cdef Detour detour
        cdef Py_ssize_t k
        cdef int n, more = call.plan.factors    # two vectors take the place of a slot
        self.written.n = self.read.n = 0
        make_room(&self.written, call.table.count * PER_SPAN)
        make_room(&self.read, call.table.count * 2)
        for k in range(call.table.count):
            span = &call.table.spans[k]
            stages = <Stages *> span.stages
            put(&self.written, stages.rule.slots * 4 + stages.zero * 2 + span.is_double)
            put(&self.written, span.p)
            put(&self.written, (<Record> PyList_GET_ITEM(call.records, k)).n_bytes)
            for n in range(stages.rule.slots + more):
                put(&self.written, span.s[n])
            put(&self.written, span.average)
            if keeps_more(<Record> PyList_GET_ITEM(call.records, k)):
                # what is in it never changes: what is new is in another one
                put(&self.written, <Py_ssize_t> <PyObject *> (<Record> PyList_GET_ITEM(call.records, k)).state)
            words = &self.written if stages.zero else &self.read
            put(words, span.g)
            put(words, span.n)
        for detour in call.detours or ():
            put_array(&self.written, detour.param)
            stages = &call.stages[detour.record.group]
            put_array(&self.written if stages.zero else &self.read, detour.grad)
            if stages.zero and type(detour) is TouchedRows:     # its grad may be sums, in our memory
                put_array(&self.written, (<TouchedRows> detour).to_zero)
        for detour in call.products or ():
            put_array(&self.read, (<Multiplied> detour).x)
            put_array(&self.read, (<Multiplied> detour).d)
        return 0

    cdef int list_written(self, Call call) except -1:
        """Sort all that will be written by address; refuse overlaps."""
        cdef Py_ssize_t i, k, n = 0, most = call.table.count * (2 * MAX_SLOTS + 4), next_detour = 0
        cdef Span *span
        cdef Record record
        cdef Detour detour
        cdef Pipeline pipeline
        cdef void *memory
        cdef bint doubtful = False
        if most > self.room:
            memory = PyMem_Realloc(self.extents, 2 * most * sizeof(Extent))
            if memory == NULL:
                raise MemoryError
            self.extents, self.room = <Extent *> memory, 2 * most
        for k in range(call.table.count):
            span = &call.table.spans[k]
            record = call.records[k]
            detour = detour_of(call, k, &next_detour)
            if record.size == 0:
                continue
            self.extents[n] = Extent(span.p, span.p + record.n_bytes)
            if detour is not None:
                refuse_itself(record.key, detour.param)
                self.extents[n] = extent_of(detour.param)
            n += 1
            if call.stages[record.group].zero:
                self.extents[n] = Extent(span.g, span.g + record.n_bytes)
                if detour is not None:
                    given = grad_memory(call.gradients[call.place_of(k)])
                    self.extents[n] = extent_of(given if isinstance(given, np.ndarray) else detour.grad)
                n += 1
            pipeline = call.plan.pipelines[record.group]
            if is_factored(record, pipeline):       # state of other shapes
                for name in pipeline.factored_slots:
                    if name in record.state:
                        self.extents[n] = extent_of(record.state[name])
                        n += 1
            else:
                for i in range(call.stages[record.group].rule.slots):
                    if span.s[i]:       # not made yet, it lies nowhere
                        self.extents[n] = Extent(span.s[i], span.s[i] + bytes_of(record, pipeline, i))
                        n += 1
            if keeps_more(record):
                for name, array in record.state.items():
                    if is_beside(name):
                        self.extents[n] = extent_of(array)
                        n += 1
            if span.average:
                self.extents[n] = Extent(span.average, span.average + record.n_bytes)
                n += 1
        self.n_extents = n
        if n == 0:
            return 0
        qsort(self.extents, n, sizeof(Extent), by_low)
        for i in range(1, n):
            if self.extents[i].low < self.extents[i - 1].high:
                doubtful = True
                self.extents[i].high = max(self.extents[i].high, self.extents[i - 1].high)
        if doubtful:
            self.check_apart(call)
        return 0

    cdef int check_apart(self, Call call) except -1:
        """Where extents overlap, see exactly whether elements do."""
        cdef Record record
        cdef Py_ssize_t k, place
        arrays = []
        for k in range(call.table.count):
            record, place = call.records[k], call.place_of(k)
            key, g = record.key, call.gradients[place]
            arrays.append((f"params[{key!r}]", call.arrays[place]))
            if call.stages[record.group].zero:
                arrays.append((grad_name(key, g), grad_memory(g)))
            arrays += [(f"the optimizer's {s}[{key!r}]", a) for s, a in record.state.items()]
            arrays.append((f"the optimizer's average_of[{key!r}]", record.average))
        refuse_shared_memory([(name, a) for name, a in arrays if isinstance(a, np.ndarray)])
        return 0

    cdef int copy_what_is_written(self, Call call, Detours detours) except -1:
        """Let spans read copies of gradients that lie on written memory; return how many."""
        cdef Py_ssize_t k, next_detour = 0
        cdef int n = 0
        cdef Span *span
        cdef Detour detour
        cdef Extent extent
        for k in range(call.table.count):
            span = &call.table.spans[k]
            extent = Extent(span.g, span.g + span.n * (8 if span.is_double else 4))
            detour = detour_of(call, k, &next_detour)
            if detour is not None:
                extent = extent_of(detour.grad)
            if (<Stages *> span.stages).zero or not self.is_written(extent.low, extent.high):
                continue
            if detour is None:
                place = call.place_of(k)
                detour = detours.for_overlap(call, k, call.arrays[place], call.gradients[place])
            detour.copy_grad(call)
            n += 1
        for detour in call.products or ():
            n += self.copy_factors(detour)
        return n

    cdef bint copy_factors(self, Multiplied detour) except -1:
        """Let tiles be made of copies of factors that lie on written memory; return whether any do."""
        cdef Extent x = extent_of(detour.x), d = extent_of(detour.d)
        if not (self.is_written(x.low, x.high) or self.is_written(d.low, d.high)):
            return False
        detour.copy_factors()
        return True

    cdef bint is_written(self, Py_ssize_t low, Py_ssize_t high) noexcept:
        """Whether anything written lies between two addresses."""
        cdef Py_ssize_t k = 0, beyond = self.n_extents, middle
        while k < beyond:           # how many written arrays start before high
            middle = (k + beyond) // 2
            if self.extents[middle].low < high:
                k = middle + 1
            else:
                beyond = middle
        return k > 0 and self.extents[k - 1].high > low


cdef int refuse_itself(object key, object a) except -1:
    """Refuse a parameter of which two elements are one place in memory."""
    if overlaps_itself(a):
        raise ValueError(
            f"params[{key!r}] overlaps itself (strides {a.strides}, shape {a.shape}): "
            f"an element would be updated more than once; pass a copy"
        )
    return 0
