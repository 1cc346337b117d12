"""Gradients on their way to the ranks that own them, and parameters on their way back.

Each rank owns a part of the keys' elements. Its part is cut into buckets, so that a bucket of all
ranks fits the cache. A bucket's memory has the share of rank r at r times `room`. Example: two ranks
own the halves of a key of 4,096 elements, and a share has room for 1,024. Bucket 0 has the elements
0 … 1,023 and 2,048 … 3,071, bucket 1 the others.

Gradients come with an exchange of all with all (`send`, `add`): a rank receives its share from each
of the others, and sums in the order of the ranks. Parameters go back with a gathering in place
(`bring`, `finish`). Both have memory for two buckets, so that one is on its way while the other is
used. No instruction of Python runs here, so an interrupt comes before an exchange or after it.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.table cimport Span, Table, add_span, set_bare
from fastoptim.kernels.threads cimport most_for
from fastoptim.kernels.update.pipeline cimport pass_of

cnp.import_array()

cdef enum:
    LINE = 64           # bytes of a cache line


cdef object memory_of(Py_ssize_t n):
    """Return n bytes, all zero, that begin on a cache line."""
    raw = np.zeros(n + LINE, np.uint8)
    cdef Py_ssize_t start = -<Py_ssize_t> cnp.PyArray_DATA(raw) % LINE
    if start < 0:       # C's remainder
        start += LINE
    return raw[start:start + n]


cdef Py_ssize_t address_of(cnp.ndarray a):
    return <Py_ssize_t> cnp.PyArray_DATA(a)


@cython.final
cdef class Exchange:
    """The buckets of the keys whose gradients are arrays; see exchange.pxd.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    constants : (object, object)
        MPI's IN_PLACE and BYTE.
    moves, runs : array of intp
        A row for each `Move` and `Run`; `first_move` and `first_run` say where each bucket's begin.
    counts : array of intp, (bucket, rank)
        The bytes of each share.
    room : int
        The most of them.
    doubles : int
        How many bytes of this rank's part are float64: they come first.
    """

    def __init__(
        self, comm, constants, moves, first_move, runs, first_run, counts, Py_ssize_t room,
        Py_ssize_t doubles,
    ):
        cdef Py_ssize_t b, k, most_moves = max(np.diff(first_move), default=0)
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.in_place, byte = constants
        self.tables = moves, runs
        self.moves, self.runs = <const Move *> address_of(moves), <const Run *> address_of(runs)
        self.first_move, self.first_run = first_move, first_run
        self.counts, self.room, self.n_buckets = counts, room, len(counts)
        self.doubles = doubles
        self.sums = memory_of(max(1, self.n_buckets * room))
        self.sums_at = address_of(self.sums)
        self.memory = [memory_of(self.size * room) for _ in range(6)]
        for k in range(2):
            self.send_at[k] = address_of(self.memory[k])
            self.receive_at[k] = address_of(self.memory[2 + k])
            self.gather_at[k] = address_of(self.memory[4 + k])
        self.adding = Table()
        self.adding.make_room(max(2, most_moves))
        set_bare(&self.stages, pass_of("add"))
        self.sends, self.receives, self.gathers = [], [], []
        places = [room * r for r in range(self.size)]
        for b in range(self.n_buckets):
            shares = [int(n) for n in counts[b]]
            others = [0 if r == self.rank else n for r, n in enumerate(shares)]
            own = [0 if r == self.rank else shares[self.rank] for r in range(self.size)]
            k = b % 2
            self.sends.append([self.memory[k], (others, places), byte])
            self.receives.append([self.memory[2 + k], (own, places), byte])
            self.gathers.append([self.memory[4 + k], (shares, places), byte])

    cdef void pack(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil:
        """Copy the other ranks' gradients of a bucket together; those without an address are zeros."""
        cdef Py_ssize_t i
        cdef char *to = <char *> self.send_at[bucket % 2]
        for i in range(self.first_move[bucket], self.first_move[bucket + 1]):
            if self.moves[i].owner == self.rank:
                continue
            if address[self.moves[i].key] == 0:
                memset(to + self.moves[i].at, 0, self.moves[i].n)
                continue
            memcpy(
                to + self.moves[i].at,
                <const char *> address[self.moves[i].key] + self.moves[i].offset,
                self.moves[i].n,
            )

    cdef void pack_own(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil:
        """Copy this rank's parameters of a bucket together."""
        cdef Py_ssize_t i
        cdef char *to = <char *> self.gather_at[bucket % 2]
        for i in range(self.first_move[bucket], self.first_move[bucket + 1]):
            if self.moves[i].owner == self.rank:
                memcpy(
                    to + self.moves[i].at,
                    <const char *> address[self.moves[i].key] + self.moves[i].offset,
                    self.moves[i].n,
                )

    cdef void unpack(self, Py_ssize_t bucket, const Py_ssize_t *address) noexcept nogil:
        """Copy the other ranks' parameters of a bucket to their places."""
        cdef Py_ssize_t i
        cdef const char *source = <const char *> self.gather_at[bucket % 2]
        for i in range(self.first_move[bucket], self.first_move[bucket + 1]):
            if self.moves[i].owner != self.rank:
                memcpy(
                    <char *> address[self.moves[i].key] + self.moves[i].offset,
                    source + self.moves[i].at, self.moves[i].n,
                )

    cdef int send(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1:
        """Start the exchange of a bucket's gradients, if there is such a bucket."""
        if bucket >= self.n_buckets:
            return 0
        with nogil:
            self.pack(bucket, address)
        if self.size > 1:
            self.coming = self.comm.Ialltoallv(self.sends[bucket], self.receives[bucket])
        return 0

    cdef int add(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1:
        """Wait for a bucket's gradients, start the next one, and sum in the order of the ranks."""
        cdef Py_ssize_t at = self.sums_at + bucket * self.room
        cdef int r, team
        if self.size > 1:
            self.coming.Wait()
        self.send(bucket + 1, address)
        memset(<void *> at, 0, self.counts[bucket, self.rank])
        for r in range(self.size):
            self.adding.count = 0
            if r == self.rank:
                self.add_own(bucket, address)
            else:
                self.add_received(bucket, r)
            self.adding.number_blocks()
            team = most_for(self.adding.work)
            with nogil:
                run(self.adding, False, team)
        return 0

    cdef int add_own(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1:
        """List what is added of this rank's own gradients, where they lie."""
        cdef Py_ssize_t i, share = self.rank * self.room
        cdef Span *span
        cdef bint is_double
        for i in range(self.first_move[bucket], self.first_move[bucket + 1]):
            if self.moves[i].owner != self.rank or address[self.moves[i].key] == 0:
                continue
            is_double = bucket * self.room + self.moves[i].at - share < self.doubles
            span = add_span(self.adding, self.moves[i].n // (8 if is_double else 4), is_double)
            span.p = self.sums_at + bucket * self.room + self.moves[i].at - share
            span.g = address[self.moves[i].key] + self.moves[i].offset
            span.stages = <Py_ssize_t> &self.stages
        return 0

    cdef int add_received(self, Py_ssize_t bucket, int source) except -1:
        """List what is added of another rank's gradients."""
        cdef Py_ssize_t i, at = self.sums_at + bucket * self.room
        cdef Span *span
        for i in range(self.first_run[bucket], self.first_run[bucket + 1]):
            span = add_span(self.adding, self.runs[i].n, self.runs[i].is_double)
            span.p = at + self.runs[i].at
            span.g = self.receive_at[bucket % 2] + source * self.room + self.runs[i].at
            span.stages = <Py_ssize_t> &self.stages
        return 0

    cdef int bring(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1:
        """Start the gathering of a bucket's parameters, of which this rank's have been updated."""
        if self.size > 1:
            with nogil:
                self.pack_own(bucket, address)
            self.going = self.comm.Iallgatherv(self.in_place, self.gathers[bucket])
        return 0

    cdef int finish(self, Py_ssize_t bucket, const Py_ssize_t *address) except -1:
        """Wait for a bucket's parameters, if there is such a bucket, and put them in their places."""
        if self.size > 1 and bucket >= 0:
            self.going.Wait()
            with nogil:
                self.unpack(bucket, address)
        return 0


@cython.final
cdef class RowExchange:
    """The rows of tables on their way back from the ranks that updated them.

    Parameters
    ----------
    comm, constants
        As for `Exchange`.
    tables : list of (array, array, int, list of (int, int))
        A parameter in C order; the numbers of the rows that were updated, in ascending order; the
        bytes of a row; and for each rank where the numbers of its rows begin and end.
    """

    def __init__(self, comm, constants, list tables):
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.in_place, byte = constants
        self.tables = tables
        counts = [
            sum([(bounds[r][1] - bounds[r][0]) * width for _, _, width, bounds in tables])
            for r in range(self.size)
        ]
        places = [sum(counts[:r]) for r in range(self.size)]
        self.memory = memory_of(max(1, sum(counts)))
        self.at = address_of(self.memory)
        self.gathers = [self.memory, (counts, places), byte]

    cdef int go(self) except -1:
        """Gather the rows, of which this rank's have been updated."""
        if self.size > 1:
            self.copy(True)
            self.comm.Allgatherv(self.in_place, self.gathers)
            self.copy(False)
        return 0

    cdef void copy(self, bint out) noexcept:
        """Copy this rank's rows together, or the others' to their places."""
        cdef Py_ssize_t at = self.at, k, n, first, end
        cdef const Py_ssize_t *rows
        cdef char *row
        cdef int r
        for r in range(self.size):
            for array, numbers, width, bounds in self.tables:
                n = width
                first, end = <tuple> bounds[r]
                rows = <const Py_ssize_t *> cnp.PyArray_DATA(<cnp.ndarray> numbers)
                for k in range(first, end):
                    row = <char *> cnp.PyArray_DATA(<cnp.ndarray> array) + rows[k] * n
                    if out and r == self.rank:
                        memcpy(<void *> at, row, n)
                    elif not out and r != self.rank:
                        memcpy(row, <void *> at, n)
                    at += n
