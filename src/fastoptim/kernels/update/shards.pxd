"""An update that several processes make together, each of its own part of the parameters."""

cimport numpy as cnp

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.exchange cimport Exchange, RowExchange
from fastoptim.kernels.update.pipeline cimport Plan

# What the ranks vote on: the largest number of all ranks counts.
cdef enum:
    FAILED
    CHANGED             # whether some rank's gradients are of other kinds than at the last update
    DIGEST              # of what must be equal everywhere, and of its opposite
    OPPOSITE
    NOTE_SIZE           # bytes
    FLAG                # what a station asks
    VOTES

# What one rank brings to an update.
cdef class Job:
    cdef public bint changed            # its gradients' kinds are others, or are to be told again
    cdef public bytes note              # which kinds they are
    cdef public long long digest
    cdef public Plan plan
    cdef public double factor
    cdef public dict pieces             # key → this rank's part of the parameter; None: nothing to do
    cdef public dict sums               # key → the sum of its gradient
    cdef public Exchange exchange       # of the keys whose gradients are arrays, or None
    cdef public list arrays             # of these the parameters, in C order
    cdef public list grads              # and the gradients, None for zeros
    cdef public object span_of          # of these the number among the pieces, or -1
    cdef public object start_of         # of these the first byte of this rank's part
    cdef public object first_of         # of the pieces the first element's number in its key
    cdef public RowExchange rows        # of the others, or None
    cdef public list row_sums           # of the others the sums, for the norm
    cdef public object blocks           # (rank or -1, blocks or place in row_sums) in the norm's order
    cdef public list copies             # (parameter, its copy in C order) that are written back
    cdef public list to_zero            # gradients
    cdef public dict kept               # what is to be known at the next update
    cdef public Py_ssize_t left_out     # ranks whose gradients are not finite
    cdef object p_memory, g_memory
    cdef Py_ssize_t *p_address
    cdef Py_ssize_t *g_address

    cdef int read_addresses(self) except -1

cdef class Shards(Source):
    cdef Engine engine
    cdef Stations stations              # that look at whole parameters
    cdef object comm, in_place, largest, number, double
    cdef object failure, described, whole
    cdef readonly int rank, size
    cdef object votes, ballot
    cdef long long *vote_of
    cdef Job job
    cdef Table window
    cdef bint busy
    cdef bint owes                      # whether the other ranks wait for a vote of this one
    cdef bint exchanged                 # whether all sums are there
    cdef readonly bint summed           # whether the ranks' gradients are looked at together

    cdef int refuse_if_busy(self) except -1
    cdef bint attempt(self, object prepare, object again) except -1
    cdef bint make(self, Job job) except -1
    cdef int vote(self, int changed, int flag) except -1
    cdef int give_up(self, object problem) except -1
    cdef int refuse(self, object problem, object text) except -1
    cdef int bring_back(self) except -1
    cdef bint looks(self) noexcept
    cdef bint can_walk(self) noexcept
    cdef int sum_squares(self, const Rule *rule, cnp.ndarray rows, cnp.ndarray out) except -1
    cdef int update_bucket(self, Py_ssize_t bucket, int team) except -1
    cdef int update_rows(self, int team) except -1
    cdef int update_window(self, int team) except -1
