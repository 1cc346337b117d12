"""The sums of a soft batch."""

from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport Span
from fastoptim.kernels.update.detours cimport TouchedRows
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.pipeline cimport Plan
from fastoptim.kernels.update.store cimport Record

# What waits of one key's gradients.
cdef class Waiting:
    cdef readonly object key
    cdef readonly object array              # the sum of those that are dense; zeros if none is
    cdef readonly bint dense                # whether any was
    cdef readonly object rows               # instead: the RowSum, if all of them are of rows

# What waits after some call of a soft batch.
cdef class Batch:
    cdef readonly Py_ssize_t pending        # calls that wait
    cdef readonly dict waiting              # key → Waiting
    cdef readonly object params             # those of the last call

    cdef void reset(self) noexcept

cdef class Adder(Source):
    cdef Engine engine
    cdef Stations stations
    cdef ThreadCounts thread_counts         # of adding
    cdef object new_row_sum                 # (key, shape, dtype) → RowSum of nothing
    cdef readonly Batch batch
    cdef Batch loaded                       # what `applied` puts in its place, or None
    cdef list order                         # Waiting as the latest call had them, one per span
    cdef list now                           # the same of this call
    cdef list changes                       # (Waiting, array, dense, rows): what this call changes
    cdef dict waiting                       # with the keys that this call brings
    cdef bint busy, added
    cdef bint checked                       # whether only what the sum shows can still be refused

    cdef int begin(self) except -1
    cdef bint check(self, object params, object grads, Plan plan) except -1
    cdef int check_keys(self) except -1
    cdef int prepare(self) except -1
    cdef int refuse_gone(self, dict params) except -1
    cdef Waiting new_key(self, Py_ssize_t k, Record record)
    cdef int add_rows(self, Waiting waiting, TouchedRows detour, Span *span) except -1
    cdef int forget(self) except -1
    cdef bint apply(self, object params, Plan plan, double factor, Py_ssize_t calls) except -1
    cdef object means(self, object params)
