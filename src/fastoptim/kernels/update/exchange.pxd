"""Gradients on their way to the ranks that own them, and parameters on their way back."""

from fastoptim.kernels.table cimport Stages, Table

# A piece of a key that lies in one bucket.
cdef struct Move:
    Py_ssize_t key          # its number among the keys that are exchanged
    Py_ssize_t offset       # in bytes from the key's first element
    Py_ssize_t at           # in the bucket's memory, in bytes
    Py_ssize_t n            # bytes
    Py_ssize_t owner        # the rank that updates it

# Elements of a bucket that this rank sums.
cdef struct Run:
    Py_ssize_t at           # in its share of the bucket, in bytes
    Py_ssize_t n            # elements
    Py_ssize_t is_double

cdef class Exchange:
    cdef object comm, in_place
    cdef readonly int rank, size
    cdef readonly Py_ssize_t n_buckets
    cdef Py_ssize_t room                # bytes of one rank's share of a bucket
    cdef Py_ssize_t doubles             # bytes of float64 in this rank's part, where they are first
    cdef object tables                  # the memory of the next two
    cdef const Move *moves              # bucket after bucket
    cdef const Run *runs
    cdef Py_ssize_t[::1] first_move     # of each bucket, and the end
    cdef Py_ssize_t[::1] first_run
    cdef Py_ssize_t[:, ::1] counts      # bytes per bucket and owner
    cdef readonly object sums           # of the elements that this rank owns
    cdef Py_ssize_t sums_at
    cdef list memory                    # two buckets each, to send, to receive, to gather
    cdef Py_ssize_t[2] send_at, receive_at, gather_at
    cdef list sends, receives, gathers  # what MPI is called with, per bucket
    cdef Table adding
    cdef Stages stages
    cdef object coming, going           # requests that have not been waited for

    cdef void pack(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil
    cdef void pack_own(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil
    cdef void unpack(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil
    cdef int send(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1
    cdef int add_own(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1
    cdef int add_received(self, Py_ssize_t bucket, int source) except -1
    cdef int add(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1
    cdef int bring(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1
    cdef int finish(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1

cdef class RowExchange:
    cdef object comm, in_place, memory, gathers
    cdef readonly int rank, size
    cdef list tables                    # (array, row numbers, bytes of a row, bounds per rank)
    cdef Py_ssize_t at

    cdef int go(self) except -1
    cdef void copy(self, bint out) noexcept
