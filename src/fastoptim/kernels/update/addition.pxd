"""What one call brings to a soft batch."""

from fastoptim.kernels.table cimport Span
from fastoptim.kernels.update.batch cimport Batch, Waiting
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport TouchedRows
from fastoptim.kernels.update.store cimport Record

cdef class Addition:
    cdef Call call
    cdef Batch batch
    cdef object new_row_sum
    cdef list now                           # Waiting, one per span
    cdef list changes                       # (Waiting, array, dense, rows): what will wait of them
    cdef dict waiting                       # the batch's with the keys that are new, or None
    cdef bint checked                       # whether only what the sum shows can still be refused
    cdef bint done                          # whether the gradients have been added, and not applied

    cdef int find(self, list order) except -1
    cdef int prepare(self) except -1
    cdef Waiting new_key(self, Py_ssize_t k, Record record)
    cdef int add_rows(self, Waiting waiting, TouchedRows detour, Span *span) except -1

cdef int refuse_gone(Batch batch, dict params) except -1
