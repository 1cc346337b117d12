"""What belongs to one update and ends with it."""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc

from fastoptim.kernels.table cimport Stages, Table
from fastoptim.kernels.update.pipeline cimport Pipeline, Plan


@cython.final
cdef class Call:
    """The notes of one call, one per engine: emptied at its begin and its end."""

    def __cinit__(self):
        self.table = Table()

    def __dealloc__(self):
        PyMem_Free(self.stages)
        PyMem_Free(self.own_stages)

    cdef int begin(self, Plan plan, double factor, bint zero) except -1:
        """Forget all, and set the stages of this call."""
        cdef Py_ssize_t n = len(plan.pipelines)
        cdef void *memory
        self.plan, self.factor, self.zero = plan, factor, zero
        self.flush = plan.flush
        self.table.count = 0
        self.records = []
        self.detours = self.drafts = self.pending = self.new_records = self.new_states = None
        self.carried = self.unpacked = self.products = self.others = None
        self.reads_half = self.halves = False
        self.numbers = self.measured = self.clipped = self.own_means = False
        if n > self.room:
            memory = PyMem_Realloc(self.stages, n * sizeof(Stages))
            if memory == NULL:
                raise MemoryError
            self.stages, self.room = <Stages *> memory, n
        return self.set_stages(1.0)

    cdef int set_stages(self, double norm_factor) except -1:
        """Set what the gradients and parameters of each group pass through."""
        cdef Py_ssize_t group
        cdef tuple unfit
        self.unfit = None
        for group in range(len(self.plan.pipelines)):
            unfit = (<Pipeline> self.plan.pipelines[group]).fill(
                &self.stages[group], self.factor, norm_factor, self.zero
            )
            if unfit is not None:
                if self.unfit is None:
                    self.unfit = [None] * len(self.plan.pipelines)
                self.unfit[group] = unfit
        return 0

    cdef int make_own_room(self) except -1:
        """Make room for stages of each span's own."""
        cdef void *memory
        if self.table.count > self.own_room:
            memory = PyMem_Realloc(self.own_stages, self.table.count * sizeof(Stages))
            if memory == NULL:
                raise MemoryError
            self.own_stages, self.own_room = <Stages *> memory, self.table.count
        return 0

    cdef tuple set_own_stages(self, Py_ssize_t k, int group, double norm_factor):
        """Let a span pass stages of its own; return the (stage, factor) that float32 cannot hold."""
        self.table.spans[k].stages = <Py_ssize_t> &self.own_stages[k]
        return (<Pipeline> self.plan.pipelines[group]).fill(
            &self.own_stages[k], self.factor, norm_factor, self.zero
        )

    cdef int place_of(self, Py_ssize_t k) except -1:
        """Return where the key of a span is in `keys`: a gradient of None has no span."""
        cdef int i = -1
        if len(self.records) == len(self.keys):
            return k
        while k >= 0:
            i += 1
            k -= self.gradients[i] is not None
        return i

    cdef tuple state_of(self, Py_ssize_t k, object state, object average):
        """Return what `prepare` made of the state and the average of a span's record."""
        if self.unpacked is not None and k in self.unpacked:
            return self.unpacked[k]
        if self.new_states is None:
            return state, average
        cdef Py_ssize_t first = 0, beyond = len(self.new_states), middle
        while first < beyond:           # they are in the order of their spans
            middle = (first + beyond) // 2
            if <Py_ssize_t> (<tuple> self.new_states[middle])[0] < k:
                first = middle + 1
            else:
                beyond = middle
        if first < len(self.new_states) and (<tuple> self.new_states[first])[0] == k:
            _, _, _, state, average = <tuple> self.new_states[first]
        return state, average

    cdef void end(self) noexcept:
        """Let go of the caller's arrays."""
        self.plan = self.others = None
        self.params = self.grads = None
        self.keys = self.arrays = self.gradients = self.records = None
        self.detours = self.drafts = self.pending = self.unfit = None
        self.new_records = None
        self.new_states = None
        self.carried = self.unpacked = self.products = None
