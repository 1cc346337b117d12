"""The weights' averages in the place of the weights, for as long as a `with` lasts.

Each array of the parameters and the average that is kept of it exchange what they hold. To leave
exchanges them again, in the same arrays, and needs no memory. Both are one step for Python: an
interrupt comes before it or after it, and after `__enter__` the interpreter looks for none before it
is inside the `with`.

A rule that is evaluated elsewhere than where its gradients are taken says where: its points are written
to arrays of their own, which take the place of the averages.
"""

import numpy as np

cimport cython
cimport numpy as cnp

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.table cimport PLAIN, Span, set_bare
from fastoptim.kernels.update.engine cimport Engine, Stations
from fastoptim.kernels.update.intake cimport read
from fastoptim.kernels.update.pipeline cimport Plan, pass_of
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks.arrays import is_scalar
from fastoptim.kernels.update.checks.containers import as_dict
from fastoptim.kernels.update.checks.halves import not_exchanged

cnp.import_array()


@cython.final
cdef class Averaged:
    """A context in which parameters hold their averages, or the points to evaluate at.

    Parameters
    ----------
    engine : Engine
    params : dict or list
        Those of the optimizer's updates, or copies of them.
    plan : Plan
        Of the optimizer's groups.
    point : callable, (record, parameter, out) → None, or None
        Writes to `out` where to evaluate; None: the parameters hold their averages.
    groups : range or None
        The groups whose keys are meant; None: all.
    """

    def __init__(self, Engine engine not None, params, Plan plan not None, point=None, groups=None):
        self.engine, self.params, self.plan, self.point = engine, params, plan, point
        self.groups = groups
        self.name = "averaged" if point is None else "evaluation"

    def __enter__(self):
        if self.inside:
            raise RuntimeError(
                f"this context has been entered; opt.{self.name}(params) makes another"
            )
        self.engine.begin()
        try:
            self.prepare()
            self.mark()
            self.put_numbers()
            self.team = self.engine.thread_counts.begin(self.stations.call.table.work, True)
            self.exchange()
            self.engine.thread_counts.end()
            self.engine.inside = self.name
            self.inside = True
        finally:
            if not self.inside:
                self.unmark()
            self.engine.busy = False
        return self.params

    def __exit__(self, *problem):
        if not self.inside:         # there is no table to walk
            raise RuntimeError("this context has not been entered, or was left before")
        if self.engine.store.folder is not None and self.engine.store.folder.forked:
            raise RuntimeError(
                "the averages lie in files, with which the process goes on that this one was forked "
                "from; fork outside the `with`"
            )
        self.exchange()
        self.unmark()
        self.engine.inside = None
        self.inside = False
        self.stations.end()
        self.stations = None
        for key, own, _ in self.numbers:
            self.params[key] = own

    cdef int prepare(self) except -1:
        """Check the parameters as an update does, and lead each to its average."""
        cdef dict params = as_dict("params", self.params), arrays = {}, averages = {}
        cdef dict records = self.engine.store.records
        cdef Stations stations = Stations()
        cdef Record record
        cdef Span *span
        cdef Py_ssize_t k
        self.numbers = []
        for key, record in records.items():
            if self.point is None and record.average is None:
                continue
            if self.groups is not None and record.group not in self.groups:
                continue
            if key not in params:
                has = "which has been updated" if self.point is not None else "of which an average is kept"
                raise KeyError(f"params has no key {key!r}, {has}")
            if is_scalar(params[key]):
                self.numbers.append((key, params[key], self.number(key, record)))
            else:
                arrays[key], averages[key] = params[key], self.average_of(record)
        if self.point is None and not averages and not self.numbers:
            raise ValueError(
                "no average is kept: set average=0.999, say, before the updates that shall be averaged"
            )
        stations.store = self.engine.store
        stations.call.begin(self.plan, 1.0, False)
        stations.call.flush = False
        if arrays:
            read(stations.call, stations.store, stations.detours, arrays, averages)
        for k in range(len(self.plan.pipelines)):
            set_bare(&stations.call.stages[k], pass_of("swap"))
        for k in range(stations.call.table.count):
            record = stations.call.records[k]
            if record.half != PLAIN:
                raise not_exchanged(record.key, record.param_dtype, self.name)
            span = &stations.call.table.spans[k]
            span.s[0] = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> averages[record.key])
            span.average = 0
            if not span.grid:       # no gradient is read, so that none need be copied
                span.g = 0
        if arrays:
            stations.memory.check(stations.call, stations.detours)
            if self.point is not None:
                for key in arrays:
                    record = records[key]
                    self.point(record, np.asarray(arrays[key]), averages[key])
        stations.call.table.number_blocks()
        self.stations = stations
        return 0

    cdef object average_of(self, Record record):
        """Return what a parameter is exchanged with; a point is written when all has been checked."""
        return record.average if self.point is None else record.new_array(MAX_SLOTS + 2)

    cdef object number(self, object key, Record record):
        """Return what takes the place of a parameter that is a number."""
        cdef object p = self.params[key], a = self.average_of(record)
        cdef str what = "average" if self.point is None else "state"
        if record.shape != ():
            raise ValueError(
                f"params[{key!r}] is a number, but its {what} has shape {record.shape}; pass the array "
                f"of the updates"
            )
        if np.asarray(p).dtype != record.dtype:
            raise TypeError(
                f"params[{key!r}] is {np.asarray(p).dtype}, but its {what} is {record.dtype}; convert "
                f"the parameter"
            )
        if self.point is not None:
            self.point(record, np.asarray(p), a)
        return type(p)(a[()])

    cdef int put_numbers(self) except -1:
        """Put the averages of parameters that are numbers into the container, all or none."""
        cdef list done = []
        try:
            for key, own, average in self.numbers:
                done.append((key, own))
                self.params[key] = average
        except BaseException:
            for key, own in done:
                self.params[key] = own
            raise
        return 0

    cdef int mark(self) except -1:
        """If the state lies in files, mark that it and the parameters are not as updates left them."""
        if self.engine.store.folder is not None:
            self.engine.store.folder.mark()
        return 0

    cdef int unmark(self) except -1:
        if self.engine.store.folder is not None:
            self.engine.store.folder.unmark()
        return 0

    cdef int exchange(self) except -1:
        """Let each array and its average exchange what they hold."""
        with nogil:
            run(self.stations.call.table, False, self.team)
        return 0
