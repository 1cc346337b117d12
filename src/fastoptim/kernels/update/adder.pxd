"""The sums of a soft batch."""

from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.update.addition cimport Addition
from fastoptim.kernels.update.batch cimport Batch
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.pipeline cimport Plan

cdef class Adder(Source):
    cdef Engine engine
    cdef Stations stations
    cdef ThreadCounts thread_counts         # of adding
    cdef object new_row_sum                 # (key, shape, dtype) → RowSum of nothing
    cdef readonly Batch batch
    cdef Batch loaded                       # what `applied` puts in its place, or None
    cdef list order                         # Waiting as the latest call had them, one per span
    cdef Addition addition                  # of the call that is going on, or None
    cdef bint busy

    cdef int begin(self) except -1
    cdef int end(self) except -1
    cdef bint check(self, object params, object grads, Plan plan) except -1
    cdef int forget(self) except -1
    cdef bint apply(self, object params, Plan plan, double factor, Py_ssize_t calls) except -1
    cdef object means(self, object params)
