"""An update of all keys, station by station: `Engine.apply` is the whole way.

Everything is checked before anything is written, so a refused call changes nothing. What a call needs
to know is in its `Call` and dies with it; what is new waits there until `Store.commit` puts it in its
place. An interrupt arrives between two instructions of Python. From the first array that is written
to the last counter there is none, so an update is whole or was not made.
"""

cimport cython

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update cimport coefficients, means
from fastoptim.kernels.update.ahead cimport run_ahead
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.codes cimport Coder
from fastoptim.kernels.update.detours cimport Detour, Detours
from fastoptim.kernels.update.folder cimport Folder
from fastoptim.kernels.update.habits cimport look
from fastoptim.kernels.update.intake cimport read
from fastoptim.kernels.update.memory cimport Memory
from fastoptim.kernels.update.numbers cimport settle
from fastoptim.kernels.update.others cimport Others
from fastoptim.kernels.update.pipeline cimport Plan
from fastoptim.kernels.update.prelude cimport Prelude
from fastoptim.kernels.update.products cimport run_products, take_off
from fastoptim.kernels.update.store cimport Store
from fastoptim.kernels.update.survey cimport Survey
from fastoptim.kernels.update.tensors cimport Tensors


cdef class Stations:
    """The stations that check a call, with the memory that they use again."""

    def __cinit__(self):
        self.call = Call()
        self.detours = Detours()
        self.memory = Memory()
        self.survey = Survey()
        self.tensors = Tensors()
        self.numbers = Table()
        self.coder = Coder()
        self.thread_counts = ThreadCounts()

    cdef int check(self, object params, object grads) except -1:
        """Check all but the gradients' numbers; the call must have begun."""
        cdef Prelude prelude = self.call.plan.prelude
        read(self.call, self.store, self.detours, params, grads)
        if prelude is not None:
            prelude.check(self.call)
        coefficients.fill(self.call)
        if self.memory.check(self.call, self.detours):
            try:
                look(self.call, self.store)
            except BaseException:           # a warning made an error: it is one the next time, too
                self.memory.forget()
                raise
        self.call.table.number_blocks()
        if self.call.plan.surveys:
            self.survey.prepare(self.call)
        return 0

    cdef bint may_go_on(self, int team) except -1:
        """Look at the gradients' numbers; return whether they may be used."""
        cdef Detour detour
        if self.call.detours is not None:
            for detour in self.call.detours:
                detour.bring_in(self.call, team)
        if not self.call.plan.surveys or self.survey.passes(self.call, team):
            return True
        self.store.skipped += 1
        if self.store.folder is not None:
            self.store.folder.count_skipped(self.store.skipped)
        return False

    cdef int end(self) except -1:
        """Let go of the caller's arrays."""
        cdef Detour detour
        if self.call.detours is not None:
            for detour in self.call.detours:
                detour.let_go()
        self.call.end()
        return 0


cdef class Source(Others):
    """Where the gradients of an update come from, if it has to know of the update's stations."""

    cdef int before_reading(self) except -1:
        """Make the gradients: the arrays have been checked, their numbers not yet."""
        return 0

    cdef int before_writing(self) except -1:
        """Agree with the other processes that nothing has been refused."""
        return 0

    cdef int walk(self, int team) except -1:
        """Update every span in an order of its own, if it `walks`."""
        return 0

    cdef void applied(self) noexcept:
        """Note, in the same step as the arrays, that they have been written."""


@cython.final
cdef class Engine(Stations):
    """All keys of one optimizer, and the way of an update.

    Parameters
    ----------
    group_of, check_keys
        As for `Store`.
    """

    def __init__(self, group_of=None, check_keys=None):
        self.store = Store(group_of, check_keys)

    def update(self, object params, object grads, Plan plan not None):
        """Apply one update to params, in place; return whether it was applied."""
        return self.apply(params, grads, plan, 1.0, None)

    def learned(self):
        """Return what was learned about threads; see `ThreadCounts.learned`."""
        return self.thread_counts.learned()

    cdef bint apply(
        self, object params, object grads, Plan plan, double factor, Source source
    ) except -1:
        """Apply one update; every gradient is multiplied by `factor` first.

        Gradients that a source has made are zero afterwards.
        """
        cdef Call call = self.call
        cdef Detour detour
        cdef Prelude prelude = plan.prelude
        cdef Folder folder = self.store.folder
        cdef int team
        self.begin()
        try:
            call.begin(plan, factor, source is not None and not source.of_several)
            if source is not None and source.of_several:
                call.others = source
            call.reads_half = not plan.surveys and not plan.of_tensors and prelude is None
            self.check(params, grads)
            self.store.prepare(call)
            if plan.codes or call.halves:
                self.coder.prepare(call)
                self.coder.decode(call)
            if plan.means:
                means.prepare(call, self.store.iter)
            if prelude is not None:
                prelude.prepare(call)
            if call.detours is not None:
                for detour in call.detours:
                    detour.gather(call)
            if call.plan.of_tensors:
                self.tensors.prepare(call)
            team = self.thread_counts.begin(call.table.work, False)
            if source is not None:      # it can make its gradients only once: all memory is there now
                source.before_reading()
            if not self.may_go_on(team):
                self.thread_counts.end()
                return False
            if call.plan.of_tensors:
                self.tensors.look(call, team)
            if call.own_means:
                means.set_averagers(call, self.store.iter)
            if prelude is not None:
                prelude.compute(call, team)
            if source is not None:
                source.before_writing()
            if folder is not None:
                folder.begin(call)
            if call.numbers:
                settle(call, self.numbers, self.tensors)
            if call.products is not None:
                take_off(call)
            if call.plan.of_tensors:
                self.tensors.run_in_parts(call, team)
            elif source is not None and source.walks:
                source.walk(team)
            else:
                with nogil:
                    if folder is None:
                        run(call.table, call.flush, team)
                    else:
                        run_ahead(call.table, call.flush, team)
            if call.products is not None:
                run_products(call, call.flush, team)
            self.thread_counts.end()
            self.store.commit(call)
            if prelude is not None:
                prelude.commit(call)
            if source is not None:
                source.applied()
            if call.detours is not None:
                for detour in call.detours:
                    detour.take_back(call)
            if plan.codes or call.halves:
                self.coder.encode(call)
            if folder is not None:
                folder.done(call, self.store.iter, self.store.skipped, self.store.clipped)
            return True
        finally:
            if call.plan is not None and call.plan.of_tensors:
                self.tensors.end()
            self.end()
            try:
                if folder is not None:
                    folder.end()
            finally:
                self.busy = False

    cdef int begin(self) except -1:
        """Refuse to begin in the middle of another call."""
        self.refuse_if_busy()
        if self.readers:
            raise RuntimeError(
                "this optimizer is being copied or saved, in another thread or further up in this "
                "one; let that end first, or put a lock around both"
            )
        self.busy = True
        return 0

    def share(self, Engine other not None, str words not None):
        """Show what another engine keeps, and refuse whatever would use or change it.

        `words` say whose this optimizer is.
        """
        self.store = other.store
        self.words = words

    cdef int refuse_if_busy(self) except -1:
        if self.words is not None:
            raise RuntimeError(self.words)
        if self.inside is not None:
            held = "their averages, and this optimizer's own hold the weights"
            if self.inside == "evaluation":
                held = "the point to evaluate at"
            raise RuntimeError(
                f"the parameters hold {held}; leave `with opt.{self.inside}(params)` first"
            )
        if self.store.folder is not None and self.store.folder.forked:
            raise RuntimeError(
                "this optimizer's state lies in files, with which the process goes on that this one "
                "was forked from; make an optimizer with a state_dir of its own here, or use copies "
                "that were made before the fork"
            )
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of an update, in another thread or further up in "
                "this one; give each thread its own optimizer, or a lock around update"
            )
        return 0

    def refuse_to_replace(self):
        """Refuse what would replace the state, where `restore` would."""
        self.refuse_if_busy()
        if self.readers:
            raise RuntimeError("this optimizer is being copied or saved, in another thread")

    def still(self, function):
        """Call a function while no update can start; return what it returns."""
        self.refuse_if_busy()
        self.readers += 1
        try:
            return function()
        finally:
            self.readers -= 1

    def records(self):
        """Return what a checkpoint keeps of each key, the arrays themselves."""
        self.refuse_if_busy()
        return {key: record.described() for key, record in self.store.records.items()}

    def restore(
        self, dict records, Py_ssize_t iter, Py_ssize_t skipped, Py_ssize_t clipped, changes=(),
        Source source=None, norm=None,
    ):
        """Replace all that is kept by copies of such records, which have been checked.

        `norm` is that of the last gradients, which no saved state has. In the same step, between which
        no interrupt comes, each dict of `changes` is updated with the one beside it, and the source is
        told.
        """
        cdef Folder folder = self.store.folder
        cdef tuple prepared
        cdef dict restored
        if folder is not None:
            self.refuse_to_replace()
            self.busy = True
        try:
            restored = self.store.restored(records)
            if folder is None:
                self.refuse_to_replace()
            else:
                prepared = folder.files.in_place_of(restored, (iter, skipped, clipped), changes)
            self.store.replace(restored, iter, skipped, clipped)
            if folder is not None:
                folder.take(prepared)
                folder.new.clear()
            if norm is not None:
                self.store.norm, self.store.measured = norm, True
            for kept, new in changes:
                (<dict> kept).update(new)
            if source is not None:
                source.applied()
            if folder is not None:
                folder.files.replaced()
        finally:
            if folder is not None:
                self.busy = False
                folder.end()
