"""The sums of a soft batch: a call is checked as an update is, and then its gradients are added.

The gradients of a call go through the stations once. Then its spans are led to the sums instead of
the parameters, and the driver adds. Nothing is kept of a call that was refused. An interrupt finds
either the old batch with the old sums or the new with the new: from the first sum that is written to
the last count there is no instruction of Python.
"""

cimport cython
cimport numpy as cnp

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport Span, set_bare
from fastoptim.kernels.update.batch cimport Batch, Waiting
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Copied, Detour, TouchedRows
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.numbers cimport settle
from fastoptim.kernels.update.pipeline cimport Plan, pass_of
from fastoptim.kernels.update.store cimport Record, fits, lies_straight

from fastoptim.kernels.update.checks.batches import check_like, gone
from fastoptim.kernels.update.checks.containers import as_dict

cnp.import_array()


@cython.final
cdef class Addition:
    """What one call brings to the batch; see adder.pxd."""


@cython.final
cdef class Adder(Source):
    """What a soft batch adds to, and the way of its calls.

    Parameters
    ----------
    engine : Engine
        The optimizer's.
    new_row_sum : callable, (key, shape, dtype) → RowSum
    """

    def __init__(self, Engine engine not None, new_row_sum):
        self.engine, self.new_row_sum = engine, new_row_sum
        self.stations = Stations()
        self.stations.store = engine.store
        self.thread_counts = ThreadCounts()
        self.batch = Batch()
        self.order = []

    def update(self, params, grads, Plan plan not None, Py_ssize_t every, bint mean):
        """Add gradients to the batch; with the last of it, update. Return whether it did that."""
        cdef Py_ssize_t calls
        self.begin()
        try:
            calls = self.batch.pending + 1
            if not self.check(params, grads, plan):
                return False
            if calls < every:
                self.before_reading()
                return False
            return self.apply(params, plan, 1.0 / calls if mean else 1.0, calls)
        finally:
            self.stations.end()
            self.end()

    def flush(self, params, Plan plan not None, bint mean):
        """Update with what waits; return whether there was anything to apply."""
        cdef Batch batch = self.batch
        cdef Waiting waiting
        self.begin()
        try:
            if batch.pending == 0:
                return False
            params = batch.params if params is None else params
            if params is None:
                raise ValueError("after loading, flush(params) must be told the parameters")
            keyed = as_dict("params", params)
            self.refuse_gone(keyed)
            for waiting in batch.waiting.values():
                if waiting.rows is not None:        # rows would fit any table that is as wide
                    check_like(
                        waiting.key, keyed[waiting.key], waiting.rows.dtype, waiting.rows.shape
                    )
            try:
                applied = self.apply(
                    params, plan, 1.0 / batch.pending if mean else 1.0, batch.pending
                )
            except FloatingPointError as problem:
                if self.addition.checked:                    # else it is not of the sum
                    note_discarded(problem, batch.pending)
                    self.forget()
                raise
            if not applied:
                self.forget()
            return applied
        finally:
            self.end()

    def discard(self):
        """Forget what waits."""
        self.begin()
        try:
            self.forget()
        finally:
            self.end()

    def still(self, function):
        """Call a function while neither the sums nor the optimizer can change."""
        self.begin()
        try:
            return self.engine.still(function)
        finally:
            self.end()

    def start(self, Batch batch not None):
        """Let a batch wait in a new adder."""
        self.batch = batch

    def restore(self, Batch batch not None, function):
        """Let a batch wait, in the same step in which a function restores the engine.

        The function gets this object, for `Engine.restore` to tell it.
        """
        self.begin()
        try:
            self.loaded = batch
            function(self)
        finally:
            self.loaded = None
            self.end()

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError(
                "this SoftBatch is in the middle of a call, in another thread or further up in this "
                "one; give each thread its own, or a lock around it"
            )
        self.addition = Addition()
        self.busy = True
        return 0

    cdef int end(self) except -1:
        self.addition = None
        self.busy = False
        return 0

    # ------------------------------------------------ one call

    cdef bint check(self, object params, object grads, Plan plan) except -1:
        """Check a call as an update with these gradients; return whether they may be used.

        No state is made for it: what only an update needs is made by the first one.
        """
        cdef Stations stations = self.stations
        cdef Engine engine = self.engine
        cdef bint may_go_on
        cdef int team
        engine.begin()
        try:
            stations.call.begin(plan, 1.0, False)
            stations.call.flush = False
            stations.check(params, grads)
            self.check_keys()
            team = stations.thread_counts.begin(stations.call.table.work, True)
            may_go_on = stations.may_go_on(team)
            stations.thread_counts.end()
            if not may_go_on:
                return False
            stations.store.keep_drafts(stations.call)
            self.prepare()
            return True
        finally:
            engine.busy = False

    cdef int check_keys(self) except -1:
        """Find what waits of each key; refuse keys that are gone or no longer like their sums."""
        cdef Call call = self.stations.call
        cdef Addition addition = self.addition
        cdef Waiting waiting
        cdef Record record
        cdef Py_ssize_t k, n_known = len(self.order), there = 0
        addition.now, addition.changes = [], []
        for k in range(call.table.count):
            record = <Record> call.records[k]
            if k < n_known and (<Waiting> self.order[k]).key is record.key:
                waiting = <Waiting> self.order[k]
            else:
                waiting = self.batch.waiting.get(record.key)
            addition.now.append(waiting)
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
            self.refuse_gone(dict.fromkeys(call.keys))
        return 0

    cdef int refuse_gone(self, dict params) except -1:
        """Refuse parameters of which some that had gradients in the batch are missing."""
        cdef Waiting waiting
        missing = [
            waiting.key for waiting in self.batch.waiting.values()
            if (waiting.dense or waiting.rows is not None) and waiting.key not in params
        ]
        if missing:
            raise gone(missing)
        return 0

    cdef int prepare(self) except -1:
        """Lead the spans to the sums; make those that are not there yet."""
        cdef Call call = self.stations.call
        cdef Waiting waiting
        cdef Record record
        cdef Detour detour
        cdef Span *span
        cdef cnp.ndarray array
        cdef Py_ssize_t k, next_detour = 0, n_detours = len(call.detours or ())
        for k in range(call.table.count):
            span, record = &call.table.spans[k], <Record> call.records[k]
            waiting = <Waiting> self.addition.now[k]
            detour = None
            if next_detour < n_detours and (<Detour> call.detours[next_detour]).k == k:
                detour = call.detours[next_detour]
                next_detour += 1
            if waiting is None:
                waiting = self.new_key(k, record)
            if type(detour) is TouchedRows and not waiting.dense:
                self.add_rows(waiting, detour, span)
                continue
            array = array_for(record, waiting)
            if array is not waiting.array or not waiting.dense:
                self.addition.changes.append((waiting, array, True, None))
            span.p = <Py_ssize_t> cnp.PyArray_DATA(array)
            if type(detour) is TouchedRows:
                (<TouchedRows> detour).lead_to(call, array)
            elif detour is not None:
                (<Copied> detour).place(span, True)
        return 0

    cdef Waiting new_key(self, Py_ssize_t k, Record record):
        """Return what will wait of a key that is new in this batch."""
        cdef Waiting waiting = Waiting.__new__(Waiting)
        waiting.key = record.key
        if self.addition.waiting is None:
            self.addition.waiting = dict(self.batch.waiting)
        self.addition.now[k] = self.addition.waiting[record.key] = waiting
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
        self.addition.changes.append((waiting, waiting.array, False, rows.plus(*detour.part())))
        span.n = span.rows = 0
        return 0

    # ------------------------------------------------ from here on the batch changes

    cdef int before_reading(self) except -1:
        """Add the gradients of the call that was checked."""
        cdef Addition addition = self.addition
        cdef Call call = self.stations.call
        cdef Waiting waiting
        cdef Detour detour
        cdef Py_ssize_t k
        cdef int team, zero
        addition.checked = True
        if addition.now is None:            # of a flush: there is none
            return 0
        for k in range(len(call.plan.pipelines)):
            zero = call.stages[k].zero
            set_bare(&call.stages[k], pass_of("add"))
            call.stages[k].zero = zero
        call.table.number_blocks()
        team = self.thread_counts.begin(call.table.work, False)
        if call.numbers:
            settle(call, self.stations.numbers, False)
        with nogil:
            run(call.table, False, team)
        self.thread_counts.end()
        if addition.waiting is not None:
            self.batch.waiting = addition.waiting
        for change in addition.changes:
            waiting, array, dense, rows = <tuple> change
            waiting.array, waiting.dense, waiting.rows = array, dense, rows
        self.batch.pending += 1
        self.batch.params = call.params
        self.order = addition.now
        addition.done = True
        for detour in call.detours or ():
            detour.take_back(call)
        return 0

    cdef void applied(self) noexcept:
        """Nothing waits any more, or what was loaded."""
        if self.loaded is not None:
            self.batch = self.loaded
            self.order = []
        else:
            self.batch.reset()
        self.addition.done = False

    cdef bint apply(self, object params, Plan plan, double factor, Py_ssize_t calls) except -1:
        """Update with the batch as it is when this call has been added."""
        cdef bint applied
        try:
            applied = self.engine.apply(params, self.means(params), plan, factor, self)
        except BaseException as problem:
            if self.addition.done:
                note_discarded(problem, calls)
                self.forget()
            raise
        if self.addition.done:    # and it was not applied: the sum is not finite
            self.forget()
        return applied

    cdef object means(self, object params):
        """Return the sums, as they are when this call has been added, in the container of `params`."""
        cdef Waiting waiting
        cdef dict sums = {}
        cdef Addition addition = self.addition
        cdef dict waits = self.batch.waiting
        if addition.waiting is not None:
            waits = addition.waiting
        for waiting in waits.values():
            sums[waiting.key] = waiting.gradient
        for waiting, array, dense, rows in addition.changes or ():
            sums[waiting.key] = array if dense else rows.gradient()
        means = {key: sums.get(key) for key in as_dict("params", params)}
        return list(means.values()) if isinstance(params, (list, tuple)) else means

    cdef int forget(self) except -1:
        self.batch = self.batch.without_sums()
        self.order = []
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


cdef int note_discarded(object problem, Py_ssize_t calls) except -1:
    problem.add_note(f"here grads is the sum of {calls} calls, each finite; it was discarded")
    return 0
