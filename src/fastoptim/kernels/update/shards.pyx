"""An update that several processes make together, each of its own part of the parameters.

    each rank looks at its own gradients        `look`, as an update would
    makes ready what it can                     `prepare`, in Python
    all vote: has anything been refused?        `vote`; if so, every rank raises
    gradients go to their owners, are summed    exchange.pyx
    each rank updates its own part              the engine, told of the others
    parameters come back

The vote is taken when the engine has all memory, before it reads a gradient. Where the sums are
looked at (a norm, what is not finite, whole tensors), they are all exchanged first, and there is one
more vote before anything is written. Otherwise each bucket is updated when its sums are there, while
the next one is on its way.

A rank that fails votes in the place of the vote that the others wait for (`owes`), so none waits for
ever. Between a vote and what follows no instruction of Python runs, so an interrupt comes before the
vote, and is voted on, or after the update.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from fastoptim.kernels.driver cimport run, survey
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport Span, Table, add_span, blocks_of
from fastoptim.kernels.threads cimport most_for
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport (
    BACK, ZERO, Detour, TouchedRows, copy_elements, detour_of,
)
from fastoptim.kernels.update.engine cimport Engine, Source, Stations
from fastoptim.kernels.update.exchange cimport Exchange
from fastoptim.kernels.update.pipeline cimport Plan, pass_of
from fastoptim.kernels.update.products cimport Multiplied
from fastoptim.kernels.update.store cimport Record, Store

cnp.import_array()

cdef long long LEAST = -0x7fffffffffffffff - 1


class Changed(Exception):
    """Some rank's gradients are of other kinds than at the last update."""


@cython.final
cdef class Job:
    """What one rank brings to an update; see shards.pxd."""

    cdef int read_addresses(self) except -1:
        """Note where the parameters and the gradients are."""
        cdef Py_ssize_t k, n = len(self.arrays)
        self.p_memory, self.g_memory = np.zeros(n + 1, np.intp), np.zeros(n + 1, np.intp)
        self.p_address = <Py_ssize_t *> cnp.PyArray_DATA(<cnp.ndarray> self.p_memory)
        self.g_address = <Py_ssize_t *> cnp.PyArray_DATA(<cnp.ndarray> self.g_memory)
        for k in range(n):
            self.p_address[k] = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray?> self.arrays[k])
            if self.grads[k] is not None:
                self.g_address[k] = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray?> self.grads[k])
        return 0


@cython.final
cdef class Shards(Source):
    """The way of an update that several processes make together.

    Parameters
    ----------
    engine : Engine
        Of this rank's part of the parameters.
    comm : mpi4py.MPI.Intracomm
    constants : tuple of object
        MPI's IN_PLACE, MAX, INT64_T and DOUBLE.
    group_of : callable, (key, array) → int
        Of whole parameters.
    failure : callable, (problem, [text or None per rank], whether they differ) → exception
    described : callable, exception or None → object
        What the other ranks are told of a failure; of None, what must be equal everywhere.
    whole : callable, (key, gradient) → gradient
        A gradient of which this rank has a part, for messages.
    """

    def __init__(
        self, Engine engine not None, comm, constants, group_of, failure, described, whole
    ):
        self.engine, self.comm = engine, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.in_place, self.largest, self.number, self.double = constants
        self.failure, self.described, self.whole = failure, described, whole
        self.stations = Stations()
        self.stations.store = Store(group_of, None)
        self.votes = np.zeros(VOTES, np.int64)
        self.vote_of = <long long *> cnp.PyArray_DATA(<cnp.ndarray> self.votes)
        self.ballot = [self.votes, self.number]
        self.window = Table()
        self.of_several = True

    # ------------------------------------------------ of this rank alone

    def look(self, params, grads, Plan plan not None):
        """Check a call as an update with these gradients is checked.

        Returns
        -------
        keys, arrays : list
        given : list
            For each key None, an array in C order, or (kind, row numbers, rows).
        to_zero : list
            Gradients that become zero.
        passes : bool
            Whether the gradients' numbers may be used.
        """
        cdef Stations stations = self.stations
        cdef Call call = stations.call
        cdef Py_ssize_t i, k = 0, next_detour = 0
        cdef Detour detour
        cdef list given = [], to_zero = []
        cdef bint passes
        cdef int team
        self.engine.refuse_if_busy()
        stations.end()
        call.begin(plan, 1.0, False)
        call.flush = False
        stations.check(params, grads)
        if call.numbers:
            raise TypeError(
                "a parameter or a gradient is a number; many machines share arrays: write "
                "params['x'] = np.array(5.0)"
            )
        team = stations.thread_counts.begin(call.table.work, True)
        passes = stations.may_go_on(team)
        stations.thread_counts.end()
        stations.store.keep_drafts(call)
        for i in range(len(call.keys)):
            grad = call.gradients[i]
            if grad is None:
                given.append(None)
                continue
            detour = detour_of(call, k, &next_detour)
            if type(detour) is TouchedRows:
                given.append((<TouchedRows> detour).part())
                if (<Record> call.records[k]).group < len(plan.pipelines) and (
                    call.stages[(<Record> call.records[k]).group].zero
                ):
                    to_zero.append((<TouchedRows> detour).to_zero)
            else:
                if type(detour) is Multiplied and (<Multiplied> detour).by_tiles:
                    grad = grad.made()          # the detour has the first tile alone
                elif detour is not None:
                    grad = detour.grad
                given.append(np.require(grad, requirements=("C", "A")))
                if call.stages[(<Record> call.records[k]).group].zero:
                    to_zero.append(call.gradients[i])
            k += 1
        return call.keys, call.arrays, given, to_zero, passes

    def forget_groups(self):
        """Forget which group each key is in."""
        self.stations.store.forget_drafts()

    cdef int refuse_if_busy(self) except -1:
        if self.busy:
            raise RuntimeError(
                "this Sharded is in the middle of a call, in another thread or further up in this "
                "one; let one thread of each process call it"
            )
        return 0

    # ------------------------------------------------ all ranks together

    def update(self, dict kept not None, prepare, again):
        """Update with all ranks' gradients; return whether an update was applied.

        Parameters
        ----------
        kept : dict
            Is updated, in the same step, with what the job says.
        prepare : callable, () → Job
        again : callable, (Job, list of bytes) → Job
            The same when each rank's note is known, which it gets.
        """
        self.refuse_if_busy()
        self.busy = True
        try:
            applied = self.attempt(prepare, again)
            kept.update(self.job.kept)
            return applied
        finally:
            self.stations.end()
            self.job = None
            self.busy = False

    def together(self, function):
        """Call a function in every rank; raise in all of them what any of them raises."""
        self.refuse_if_busy()
        self.job = None
        self.busy = self.owes = True
        try:
            try:
                result = function()
            except BaseException as problem:
                self.give_up(problem)
                raise
            self.vote(0, 0)
            return result
        finally:
            self.busy = False

    def restore(self, check):
        """Take over a state, in every rank or in none.

        Parameters
        ----------
        check : callable, Job → (records, iter, skipped, clipped, changes)
            As for `Engine.restore`; it may set the job's digest, which must be equal everywhere.
        """
        cdef Job job = Job()
        cdef dict restored
        self.refuse_if_busy()
        self.job = None
        self.busy = self.owes = True
        try:
            try:
                self.engine.refuse_if_busy()
                records, iter, skipped, clipped, changes = check(job)
                restored = self.engine.store.restored(records)
            except BaseException as problem:
                self.give_up(problem)
                raise
            self.job = job
            self.vote(0, 0)
            self.engine.store.replace(restored, iter, skipped, clipped)
            for kept, new in changes:
                (<dict> kept).update(new)
        finally:
            self.job = None
            self.busy = False

    def gather(self, Exchange exchange not None, list arrays, list copies not None):
        """Bring every rank's part of some parameters to all the others."""
        cdef Job job = Job()
        job.exchange, job.arrays, job.grads = exchange, arrays, [None] * len(arrays)
        job.read_addresses()
        self.job = job
        self.bring_back()
        self.job = None
        for param, copy in copies:
            copy_to(param, copy)

    cdef bint attempt(self, object prepare, object again) except -1:
        """Make the update, in one go if each rank's gradients are of the kinds that they were."""
        cdef Job job = None
        self.job = None
        self.owes = True
        try:
            job = prepare()
            if not job.changed:
                return self.make(job)
        except Changed:
            pass
        except BaseException as problem:
            self.give_up(problem)
            raise
        self.job = job
        if self.owes:                   # this rank's are others: the engine has not begun
            self.vote(1, 0)
        notes = self.exchange_notes(job)
        self.owes = True
        try:
            return self.make(again(job, notes))
        except BaseException as problem:
            self.give_up(problem)
            raise

    def exchange_notes(self, Job job):
        """Return every rank's note. All have voted, and know how long the longest is."""
        cdef Py_ssize_t r, n = max(1, self.vote_of[NOTE_SIZE])
        self.owes = True
        try:
            memory = bytearray(self.size * n)
            own = bytearray(job.note).ljust(n)
        except BaseException as problem:
            self.give_up(problem)
            raise
        self.vote(0, 0)
        self.comm.Allgather(own, memory)
        return [bytes(memory[r * n:(r + 1) * n]) for r in range(self.size)]

    cdef bint make(self, Job job) except -1:
        """Let the engine update this rank's part, and bring all parts to all ranks."""
        cdef bint applied = False
        self.job = job
        self.exchanged = self.walks = self.summed = False
        if job.pieces is None:
            self.vote(0, 0)
            self.engine.store.skipped += job.left_out
            return False
        if job.exchange is not None:
            job.read_addresses()
        applied = self.engine.apply(job.pieces, job.sums, job.plan, job.factor, self)
        self.engine.store.skipped += job.left_out
        if applied:
            if job.exchange is not None and not self.walks:
                self.bring_back()
            if job.rows is not None:
                job.rows.go()
            for param, copy in job.copies:
                copy_to(param, copy)
        for grad in job.to_zero:
            set_to_zero(grad)
        return applied

    cdef int vote(self, int changed, int flag) except -1:
        """Vote, and refuse if any rank has failed, or the ranks differ."""
        cdef Job job = self.job
        cdef long long *votes = self.vote_of
        votes[FAILED], votes[CHANGED], votes[FLAG] = 0, changed, flag
        votes[DIGEST] = votes[OPPOSITE] = LEAST
        votes[NOTE_SIZE] = 0
        if job is not None:
            votes[DIGEST], votes[OPPOSITE] = job.digest, ~job.digest
            votes[NOTE_SIZE] = 0 if job.note is None else len(job.note)
        self.owes = False
        if self.size > 1:
            self.comm.Allreduce(self.in_place, self.ballot, self.largest)
        if votes[FAILED]:
            self.refuse(None, None)
        if votes[DIGEST] != ~votes[OPPOSITE] and votes[DIGEST] != LEAST:
            try:
                text = self.described(None)
            except BaseException as problem:    # the others wait
                text = [repr(problem)]
            self.refuse(None, text)
        return 0

    cdef int give_up(self, object problem) except -1:
        """Vote that this rank has failed, if the others wait for its vote; raise in all of them."""
        if not self.owes:
            return 0
        text = self.described(problem)
        self.vote_of[FAILED] = 1
        self.vote_of[CHANGED] = self.vote_of[FLAG] = self.vote_of[NOTE_SIZE] = 0
        self.vote_of[DIGEST] = self.vote_of[OPPOSITE] = LEAST
        self.owes = False
        if self.size > 1:
            self.comm.Allreduce(self.in_place, self.ballot, self.largest)
        return self.refuse(problem, text)

    cdef int refuse(self, object problem, object text) except -1:
        """Tell all ranks what is wrong in each, and raise."""
        cdef bint differ = self.vote_of[FAILED] == 0
        texts = self.comm.allgather(text) if self.size > 1 else [text]
        raise self.failure(problem, texts, differ)

    # ------------------------------------------------ what the engine asks

    cdef bint looks(self) noexcept:
        """Return whether the sums are looked at before anything is written."""
        cdef Plan plan = self.job.plan
        return plan.surveys or plan.of_tensors or plan.prelude is not None

    cdef bint can_walk(self) noexcept:
        """Return whether parts of spans can be updated apart: not where codes are read in blocks."""
        cdef Call call = self.engine.call
        cdef Py_ssize_t k
        for k in range(call.table.count):
            if call.table.spans[k].codes:
                return False
        return self.job.exchange is not None and not call.plan.of_tensors

    cdef int before_reading(self) except -1:
        """Vote; then exchange the gradients, if they are looked at before they are used."""
        cdef Job job = self.job
        cdef Call call = self.engine.call
        cdef Py_ssize_t b, k, most = call.table.count
        cdef const Py_ssize_t[::1] first = job.first_of
        for k in range(call.table.count):
            call.table.spans[k].first = first[k]
        if job.exchange is not None:
            for b in range(job.exchange.n_buckets):
                most = max(most, job.exchange.first_move[b + 1] - job.exchange.first_move[b])
        self.window.make_room(most)
        self.walks = self.can_walk()
        self.vote(0, 0)
        if self.vote_of[CHANGED]:
            raise Changed
        self.summed = True
        if job.exchange is not None and (self.looks() or not self.walks):
            job.exchange.send(0, job.g_address)
            for b in range(job.exchange.n_buckets):
                job.exchange.add(b, job.g_address)
            self.exchanged = True
        self.owes = self.looks()
        return 0

    cdef object whole_gradient(self, object key, object grad):
        return self.whole(key, grad)

    cdef bint all_pass(self, bint here) except -1:
        self.vote(0, not here)
        self.owes = True                # until nothing can be refused any more
        return not self.vote_of[FLAG]

    cdef double norm(self, const double *sums) except? -1.0:
        """Sum the squares of all ranks in the order in which one process would."""
        cdef Job job = self.job
        cdef Table table = self.engine.call.table, looked = self.engine.survey.table
        cdef const Rule *rule = pass_of("survey")
        cdef list counts = [0] * self.size, places, of_rows
        cdef Py_ssize_t k, b, at
        cdef double squares = 0
        cdef double[::1] own, every, some
        cdef Py_ssize_t[::1] next_of
        for rank, n in job.blocks:
            if rank >= 0:
                counts[rank] += n
        places = [sum(counts[:rank]) for rank in range(self.size)]
        every = memory = np.zeros(sum(counts) + 1)
        own = memory[places[self.rank]:]
        next_of = np.array(places, np.intp)
        of_rows = [np.zeros(blocks_of(a.size)) for a in job.row_sums]
        at = 0
        for k in range(table.count):
            if table.spans[k].rows == 0:
                for b in range(looked.spans[k].n_blocks):
                    own[at] = sums[looked.spans[k].first_block + b]
                    at += 1
        for k in range(len(of_rows)):
            if of_rows[k].size:
                self.sum_squares(rule, job.row_sums[k], of_rows[k])
        self.vote(0, 0)
        self.owes = True
        if self.size > 1:
            self.comm.Allgatherv(self.in_place, [memory, (counts, places), self.double])
        for rank, n in job.blocks:
            if rank < 0:
                some = of_rows[n]
                for b in range(some.shape[0]):
                    squares += some[b]
                continue
            at = next_of[rank]
            for b in range(n):
                squares += every[at + b]
            next_of[rank] += n
        return sqrt(squares)

    cdef int sum_squares(self, const Rule *rule, cnp.ndarray rows, cnp.ndarray out) except -1:
        """Sum the squares of rows, which every rank has, block by block."""
        cdef Table table = self.window
        cdef double factor = self.job.factor
        cdef int team
        table.count = 0
        add_span(table, rows.size, cnp.PyArray_TYPE(rows) == cnp.NPY_DOUBLE).g = (
            <Py_ssize_t> cnp.PyArray_DATA(rows)
        )
        table.number_blocks()
        team = most_for(table.work)
        with nogil:
            survey(rule, factor, table, <double *> cnp.PyArray_DATA(out), team)
        return 0

    cdef int before_writing(self) except -1:
        """Vote once more if something may have been refused since the gradients came."""
        if self.owes:
            self.vote(0, self.engine.call.clipped)
            self.engine.call.clipped = self.vote_of[FLAG] != 0
        return 0

    cdef int walk(self, int team) except -1:
        """Update bucket after bucket, while the next one's gradients are on their way.

        And while the parameters of the one before are.
        """
        cdef Job job = self.job
        cdef Exchange exchange = job.exchange
        cdef Py_ssize_t b
        if not self.exchanged:
            exchange.send(0, job.g_address)
        for b in range(exchange.n_buckets):
            if not self.exchanged:
                exchange.add(b, job.g_address)
            self.update_bucket(b, team)
            exchange.finish(b - 1, job.p_address)
            exchange.bring(b, job.p_address)
        self.update_rows(team)
        exchange.finish(exchange.n_buckets - 1, job.p_address)
        return 0

    cdef int update_bucket(self, Py_ssize_t bucket, int team) except -1:
        """Update this rank's elements of a bucket."""
        cdef Job job = self.job
        cdef Exchange exchange = job.exchange
        cdef Call call = self.engine.call
        cdef const Py_ssize_t[::1] span_of = job.span_of, start_of = job.start_of
        cdef Py_ssize_t i, key, n, size, s
        cdef Span *span
        self.window.count = 0
        for i in range(exchange.first_move[bucket], exchange.first_move[bucket + 1]):
            if exchange.moves[i].owner != self.rank:
                continue
            key = exchange.moves[i].key
            span = &self.window.spans[self.window.count]
            span[0] = call.table.spans[span_of[key]]
            n = exchange.moves[i].offset - start_of[key]
            size = 8 if span.is_double else 4
            span.p += n
            span.g += n
            for s in range(MAX_SLOTS):
                span.s[s] += n              # one that the rule has not is not read
            if span.average:
                span.average += n
            span.first += n // size
            span.n = exchange.moves[i].n // size
            self.window.count += 1
        return self.update_window(team)

    cdef int update_rows(self, int team) except -1:
        """Update the rows of the keys that are not exchanged."""
        cdef Call call = self.engine.call
        cdef Py_ssize_t k
        self.window.count = 0
        for k in range(call.table.count):
            if call.table.spans[k].rows:
                self.window.spans[self.window.count] = call.table.spans[k]
                self.window.count += 1
        return self.update_window(team)

    cdef int update_window(self, int team) except -1:
        cdef Call call = self.engine.call
        self.window.c32, self.window.c64 = call.table.c32, call.table.c64
        self.window.number_blocks()
        team = min(team, most_for(self.window.work))
        with nogil:
            run(self.window, call.flush, team)
        return 0

    cdef int bring_back(self) except -1:
        """Bring every rank's parameters to all the others."""
        cdef Exchange exchange = self.job.exchange
        cdef Py_ssize_t b
        for b in range(exchange.n_buckets):
            exchange.finish(b - 1, self.job.p_address)
            exchange.bring(b, self.job.p_address)
        return exchange.finish(exchange.n_buckets - 1, self.job.p_address)


cdef int copy_to(cnp.ndarray param, cnp.ndarray copy) except -1:
    """Copy elements in C order to a parameter that lies otherwise."""
    if cnp.PyArray_NDIM(param) == 0:
        memcpy(cnp.PyArray_DATA(param), cnp.PyArray_DATA(copy), cnp.PyArray_ITEMSIZE(param))
    else:
        copy_elements(
            param, 0, cnp.PyArray_SIZE(param), <char *> cnp.PyArray_DATA(copy), BACK
        )
    return 0


cdef int set_to_zero(cnp.ndarray grad) except -1:
    if cnp.PyArray_NDIM(grad) == 0:
        memset(cnp.PyArray_DATA(grad), 0, cnp.PyArray_ITEMSIZE(grad))
    else:
        copy_elements(grad, 0, cnp.PyArray_SIZE(grad), NULL, ZERO)
    return 0
