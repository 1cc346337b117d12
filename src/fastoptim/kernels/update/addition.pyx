"""What one call brings to a soft batch: for each span the sum that its gradient is added to."""

cimport cython
cimport numpy as cnp

from fastoptim.kernels.table cimport Span
from fastoptim.kernels.update.batch cimport Batch, Waiting
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Copied, Detour, TouchedRows, detour_of
from fastoptim.kernels.update.products cimport Multiplied
from fastoptim.kernels.update.store cimport Record, fits, lies_straight

from fastoptim.kernels.update.checks.batches import check_like, gone

cnp.import_array()


@cython.final
cdef class Addition:
    """The notes of one call: what will wait, until the gradients have been added. See addition.pxd.

    Parameters
    ----------
    call : Call
    batch : Batch
        What waits so far.
    new_row_sum : callable, (key, shape, dtype) → RowSum
    """

    def __cinit__(self, Call call, Batch batch, object new_row_sum):
        self.call, self.batch, self.new_row_sum = call, batch, new_row_sum

    cdef int find(self, list order) except -1:
        """Find what waits of each key; refuse keys that are gone or no longer like their sums."""
        cdef Call call = self.call
        cdef Waiting waiting
        cdef Record record
        cdef Py_ssize_t k, n_known = len(order), there = 0
        self.now, self.changes = [], []
        for k in range(call.table.count):
            record = <Record> call.records[k]
            if k < n_known and (<Waiting> order[k]).key is record.key:
                waiting = <Waiting> order[k]
            else:
                waiting = self.batch.waiting.get(record.key)
            self.now.append(waiting)
            if waiting is None:
                continue
            if waiting.rows is not None:
                there += 1
                check_like(
                    record.key, call.arrays[call.place_of(k)], waiting.rows.dtype, waiting.rows.shape
                )
            elif waiting.dense:
                there += 1
                if not is_like(record, waiting.array):
                    check_like(
                        record.key, call.arrays[call.place_of(k)], waiting.array.dtype,
                        waiting.array.shape,
                    )
        for waiting in self.batch.waiting.values():
            there -= waiting.dense or waiting.rows is not None
        if there != 0:
            refuse_gone(self.batch, dict.fromkeys(call.keys))
        return 0

    cdef int prepare(self) except -1:
        """Lead the spans to the sums; make those that are not there yet."""
        cdef Call call = self.call
        cdef Waiting waiting
        cdef Record record
        cdef Detour detour
        cdef Span *span
        cdef cnp.ndarray array
        cdef Py_ssize_t k, next_detour = 0
        for k in range(call.table.count):
            span, record = &call.table.spans[k], <Record> call.records[k]
            waiting = <Waiting> self.now[k]
            detour = detour_of(call, k, &next_detour)
            if waiting is None:
                waiting = self.new_key(k, record)
            if type(detour) is TouchedRows and not waiting.dense:
                self.add_rows(waiting, detour, span)
                continue
            array = array_for(record, waiting)
            if array is not waiting.array or not waiting.dense:
                self.changes.append((waiting, array, True, None))
            span.p = <Py_ssize_t> cnp.PyArray_DATA(array)
            if type(detour) is TouchedRows:
                (<TouchedRows> detour).lead_to(call, array)
            elif type(detour) is Multiplied and (<Multiplied> detour).by_tiles:
                pass                    # the sum lies as its state does, in C order
            elif isinstance(detour, Copied):
                (<Copied> detour).place(span, True)
        return 0

    cdef Waiting new_key(self, Py_ssize_t k, Record record):
        """Return what will wait of a key that is new in this batch."""
        cdef Waiting waiting = Waiting.__new__(Waiting)
        waiting.key = record.key
        if self.waiting is None:
            self.waiting = dict(self.batch.waiting)
        self.now[k] = self.waiting[record.key] = waiting
        return waiting

    cdef int add_rows(self, Waiting waiting, TouchedRows detour, Span *span) except -1:
        """Prepare the sum of a key that has had gradients of rows only; the driver has no part in it."""
        cdef Record record = detour.record
        rows = waiting.rows
        if rows is None and waiting.spare is not None and waiting.spare.shape == record.shape and (
            waiting.spare.dtype == record.dtype
        ):
            rows = waiting.spare.emptied()
        elif rows is None:
            rows = self.new_row_sum(record.key, record.shape, record.dtype)
        self.changes.append((waiting, waiting.array, False, rows.plus(*detour.part())))
        span.n = span.rows = 0
        return 0


cdef bint is_like(Record record, cnp.ndarray array) noexcept:
    """Whether an array has a parameter's shape and dtype."""
    return fits(record, array) and cnp.PyArray_TYPE(array) == record.type_num


cdef cnp.ndarray array_for(Record record, Waiting waiting):
    """Return the array that a key's next dense gradient is added to."""
    cdef object array = waiting.array
    if array is not None and waiting.rows is None and is_like(record, array) and (
        lies_straight(record, array, cnp.NPY_ARRAY_ALIGNED)
    ):
        return array
    new = record.new_array(0)
    if waiting.rows is not None:
        waiting.rows.fill(new)
    elif waiting.dense:
        new[...] = array
    return new


cdef int refuse_gone(Batch batch, dict params) except -1:
    """Refuse parameters of which some that had gradients in the batch are missing."""
    cdef Waiting waiting
    missing = [
        waiting.key for waiting in batch.waiting.values()
        if (waiting.dense or waiting.rows is not None) and waiting.key not in params
    ]
    if missing:
        raise gone(missing)
    return 0
