"""The weights' averages in the place of the weights, for as long as a `with` lasts.

Each array of the parameters and the average that is kept of it exchange what they hold. To leave
exchanges them again, in the same arrays, and needs no memory. Both are one step for Python: an
interrupt comes before it or after it, and after `__enter__` the interpreter looks for none before it
is inside the `with`.
"""

import numpy as np

cimport cython
cimport numpy as cnp

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.table cimport Span, set_bare
from fastoptim.kernels.update.engine cimport Engine, Stations
from fastoptim.kernels.update.intake cimport read
from fastoptim.kernels.update.pipeline cimport Plan, pass_of
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks.arrays import is_scalar
from fastoptim.kernels.update.checks.containers import as_dict

cnp.import_array()


@cython.final
cdef class Averaged:
    """A context in which parameters hold their averages.

    Parameters
    ----------
    engine : Engine
    params : dict or list
        Those of the optimizer's updates, or copies of them.
    plan : Plan
        Of the optimizer's groups.
    """

    def __init__(self, Engine engine not None, params, Plan plan not None):
        self.engine, self.params, self.plan = engine, params, plan

    def __enter__(self):
        if self.inside:
            raise RuntimeError("this context has been entered; opt.averaged(params) makes another")
        self.engine.begin()
        try:
            self.prepare()
            self.put_numbers()
            self.team = self.engine.thread_counts.begin(self.stations.call.table.work, True)
            self.exchange()
            self.engine.thread_counts.end()
            self.engine.averaged = self.inside = True
        finally:
            self.engine.busy = False
        return self.params

    def __exit__(self, *problem):
        if not self.inside:         # there is no table to walk
            raise RuntimeError("this context has not been entered, or was left before")
        self.exchange()
        self.engine.averaged = self.inside = False
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
            if record.average is None:
                continue
            if key not in params:
                raise KeyError(f"params has no key {key!r}, of which an average is kept")
            if is_scalar(params[key]):
                if record.shape != ():
                    raise ValueError(
                        f"params[{key!r}] is a number, but its average has shape {record.shape}; pass "
                        f"the array of the updates"
                    )
                if np.asarray(params[key]).dtype != record.dtype:
                    raise TypeError(
                        f"params[{key!r}] is {np.asarray(params[key]).dtype}, but its average is "
                        f"{record.dtype}; convert the parameter"
                    )
                self.numbers.append((key, params[key], type(params[key])(record.average[()])))
            else:
                arrays[key], averages[key] = params[key], record.average
        if not averages and not self.numbers:
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
            span = &stations.call.table.spans[k]
            span.s[0] = <Py_ssize_t> cnp.PyArray_DATA(record.average)
            span.average = 0
            if not span.grid:       # no gradient is read, so that none need be copied
                span.g = 0
        if arrays:
            stations.memory.check(stations.call, stations.detours)
        stations.call.table.number_blocks()
        self.stations = stations
        return 0

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

    cdef int exchange(self) except -1:
        """Let each array and its average exchange what they hold."""
        with nogil:
            run(self.stations.call.table, False, self.team)
        return 0
