"""The sums of a soft batch."""

from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport Span
from fastoptim.kernels.update.batch cimport Batch, Waiting
from fastoptim.kernels.update.detours cimport TouchedRows
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.pipeline cimport Plan
from fastoptim.kernels.update.store cimport Record

cdef class Addition:
    cdef list now                           # Waiting, one per span
    cdef list changes                       # (Waiting, array, dense, rows): what will wait of them
    cdef dict waiting                       # the batch's with the keys that are new, or None
    cdef bint checked                       # whether only what the sum shows can still be refused
    cdef bint done                          # whether the gradients have been added, and not applied

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
    cdef int check_keys(self) except -1
    cdef int prepare(self) except -1
    cdef int refuse_gone(self, dict params) except -1
    cdef Waiting new_key(self, Py_ssize_t k, Record record)
    cdef int add_rows(self, Waiting waiting, TouchedRows detour, Span *span) except -1
    cdef int forget(self) except -1
    cdef bint apply(self, object params, Plan plan, double factor, Py_ssize_t calls) except -1
    cdef object means(self, object params)
