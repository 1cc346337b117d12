"""The sums of a soft batch: a call is checked as an update is, and then its gradients are added.

The gradients of a call go through the stations once. Then its spans are led to the sums instead of
the parameters, and the driver adds. Nothing is kept of a call that was refused. An interrupt finds
either the old batch with the old sums or the new with the new: from the first sum that is written to
the last count there is no instruction of Python.
"""

cimport cython

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport set_bare
from fastoptim.kernels.update.addition cimport Addition, refuse_gone
from fastoptim.kernels.update.batch cimport Batch, Waiting
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.numbers cimport settle
from fastoptim.kernels.update.pipeline cimport Plan, pass_of
from fastoptim.kernels.update.products cimport run_products, take_off
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks.batches import check_like
from fastoptim.kernels.update.checks.containers import as_dict


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
            if self.stations.call.table.count == 0:     # no keys: nothing waits of such a call
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
        self.begin()
        try:
            if batch.pending == 0:
                return False
            params = batch.params if params is None else params
            if params is None:
                raise ValueError("after loading, flush(params) must be told the parameters")
            keyed = as_dict("params", params)
            refuse_gone(batch, keyed)
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
        self.addition = Addition(self.stations.call, self.batch, self.new_row_sum)
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
            self.addition.find(self.order)
            team = stations.thread_counts.begin(stations.call.table.work, True)
            may_go_on = stations.may_go_on(team)
            stations.thread_counts.end()
            if not may_go_on:
                return False
            stations.store.keep_drafts(stations.call)
            self.addition.prepare()
            return True
        finally:
            engine.busy = False

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
        if call.plan.clips_keys:            # the sum's norms are clipped, not those of its parts
            for k in range(call.table.count):
                call.table.spans[k].stages = <Py_ssize_t> &call.stages[(<Record> call.records[k]).group]
        call.table.number_blocks()
        team = self.thread_counts.begin(call.table.work, False)
        if call.numbers:
            settle(call, self.stations.numbers, None)
        if call.products is not None:
            take_off(call)
        with nogil:
            run(call.table, False, team)
        if call.products is not None:
            run_products(call, False, team)
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
        cdef Waiting waiting
        keyed = as_dict("params", params)
        for waiting in self.batch.waiting.values():
            if waiting.rows is not None:        # rows would fit any table that is as wide
                check_like(
                    waiting.key, keyed[waiting.key], waiting.rows.dtype, waiting.rows.shape
                )
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


cdef int note_discarded(object problem, Py_ssize_t calls) except -1:
    problem.add_note(f"here grads is the sum of {calls} calls, each finite; it was discarded")
    return 0


def still_all(list engines not None, list adders not None, function):
    """Call a function while no optimizer and no soft batch of these can change.

    A loop, not a `still` inside a `still`: thousands of those find no room on C's stack.
    """
    cdef list still_engines = [], still_adders = [], waited_for = []
    cdef Adder adder
    cdef Engine engine
    try:
        for adder in adders:
            adder.begin()
            still_adders.append(adder)
            waited_for.append(adder.engine)
        for engine in [*engines, *waited_for]:
            engine.refuse_if_busy()
            engine.readers += 1
            still_engines.append(engine)
        return function()
    finally:
        for engine in still_engines:
            engine.readers -= 1
        for adder in still_adders:
            adder.end()
