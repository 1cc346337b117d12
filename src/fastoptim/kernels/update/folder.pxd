"""The files that an optimizer's state is kept in, if it has a folder for it."""

from libc.stdint cimport int64_t

from fastoptim.kernels.update.call cimport Call

cdef class Mapped:
    cdef char *address
    cdef readonly Py_ssize_t size
    cdef object keeps               # what must live as long as this memory

cdef class Folder:
    cdef readonly object files      # of fastoptim.folder: names, the index, the lock
    cdef dict new                   # its files that no update has used yet
    cdef Mapped ledger
    cdef int64_t *words             # of the ledger
    cdef bint under_way             # whether the ledger says so
    cdef public bint forked         # whether this is a copy of the process that has the folder
    cdef object plan                # that of the latest update
    cdef list found                 # (row, bits of its arrays) that the next update makes valid

    cdef object memory_for(self, object record, object name, Py_ssize_t n_bytes)
    cdef bint owns(self, object a) except -1
    cdef int begin(self, Call call) except -1
    cdef int mark(self) except -1
    cdef int done(self, Call call, Py_ssize_t iter, Py_ssize_t skipped, Py_ssize_t clipped) noexcept
    cdef int unmark(self) noexcept
    cdef int count_skipped(self, Py_ssize_t skipped) noexcept
    cdef int take(self, tuple prepared) noexcept
    cdef int end(self) except -1
    cdef int put_row(self, int64_t *words, object record) noexcept
