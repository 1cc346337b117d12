"""What is kept for each key between two updates: layout, state, average, count of updates."""

import numpy as np

cimport cython
cimport numpy as cnp

from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.table cimport BFLOAT16, CODE_BLOCK, FLOAT16, PLAIN, UNSIGNED, Span
from fastoptim.kernels.update cimport means
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.folder cimport Folder
from fastoptim.kernels.update.pipeline cimport Pipeline

cnp.import_array()

cdef enum:
    CACHE_LINE = 64                 # bytes
    PAGE = 4096


cdef object lying_at(
    Record record, object dtype, int which, tuple strides, Folder folder, object name
):
    """Return zeros that lie as `Record.new_array` says; strides of None are those of C order."""
    cdef Py_ssize_t n_bytes = dtype.itemsize * record.size, lane, start
    lane = PAGE if n_bytes > PAGE else CACHE_LINE
    if folder is None:
        raw = np.zeros(n_bytes + lane, np.uint8)
    else:
        raw = folder.memory_for(record, name, n_bytes + lane)
    start = (which * (PAGE // 4) - <Py_ssize_t> cnp.PyArray_DATA(raw)) % lane
    if start < 0:               # C's remainder
        start += lane
    return np.ndarray(record.shape, dtype, raw, start, strides)


HALVES = {"float16": <int> FLOAT16, "bfloat16": <int> BFLOAT16}
MASTER = "master"               # the slot of a parameter's copy in float32


cdef int half_of(object dtype):
    """Return the Code of a parameter's dtype, PLAIN if it does not have 16 bits."""
    return HALVES.get(dtype.name, PLAIN) if dtype.itemsize == 2 else PLAIN


cdef str coding_of(Pipeline pipeline, int ndim, Py_ssize_t size):
    """Return how a key's state is kept: a number's is not coded."""
    return pipeline.state_dtype if ndim and size else None


@cython.final
cdef class Record:
    """What is kept for one key. The layout is that of its first array."""

    cdef object new_array(self, int which, Folder folder=None, object name=None):
        """Return a new array of this shape, dtype and layout, all zeros; in a folder's file if given.

        It starts on a cache line, and which staggers large arrays over the 4 KiB of a page. Where
        the system puts large arrays they start alike, 16 bytes into a page; then every vector
        straddles two lines, and a load has to wait for a store to another array that has the same
        low address bits. Measured (Adam, 80,000 to 1,000,000 float32 in cache): 1.6 to 2.7 times
        as fast as with arrays from np.zeros.
        """
        cdef tuple strides = tuple([self.strides[i] for i in range(self.ndim)])
        return lying_at(self, self.dtype, which, strides, folder, name)

    cdef object new_codes(self, int which, int code, Folder folder, object name):
        """Return zeros that are codes, in C order."""
        return lying_at(
            self, np.dtype(np.uint16 if code < UNSIGNED else np.uint8), which, None, folder, name
        )

    cdef object new_largest(self, Folder folder, object name):
        """Return zeros for what each block of 8-bit codes has in common."""
        cdef Py_ssize_t row = row_of(self)
        cdef tuple shape = (self.size // row * ((row + CODE_BLOCK - 1) // CODE_BLOCK),)
        return new_of_shape(self, shape, folder, name, np.dtype(np.float32))

    cdef object new_mean(self, int kind, Folder folder=None, object name=None):
        """Return zeros for what is kept of each row (kind 0) or column (1) of the last two axes."""
        cdef int without = self.ndim - 1 - kind
        return new_of_shape(
            self, self.shape[:without] + self.shape[without + 1:], folder, name, self.dtype
        )

    @property
    def mean(self):
        """How many updates are in the mean of the weights, and after how many it began; or None."""
        return None if self.mean_from < 0 else (self.averaged, self.mean_from)

    def described(self):
        """Return what a checkpoint keeps of this record, the arrays themselves."""
        described = {
            "updates": self.t, "shape": self.shape, "dtype": self.dtype.name,
            "order": "C" if self.order & cnp.NPY_ARRAY_C_CONTIGUOUS else "F",
            "state": dict(self.state), "average": self.average,
            "mean": self.mean,
        }
        if self.carried is not None:
            described["carried"] = self.carried
        if self.half != PLAIN:
            described["half"] = self.param_dtype
        if self.coding is not None or self.half != PLAIN:
            described["coding"], described["number"] = self.coding, self.number
        return described


cdef object new_of_shape(Record record, tuple shape, Folder folder, object name, object dtype):
    """Return zeros of a shape and a dtype, in C order."""
    cdef Py_ssize_t n_bytes = dtype.itemsize, n
    if folder is None:
        return np.zeros(shape, dtype)
    for n in shape:
        n_bytes *= n
    return np.ndarray(shape, dtype, folder.memory_for(record, name, n_bytes))


cdef Record new_record(object key, cnp.ndarray a, int group, bint in_c_order=False):
    """Return the record of a key, in the layout of its first array or in C order, without state."""
    if group < 0:
        raise ValueError(f"the group of {key!r} is {group}; groups are counted from 0")
    cdef Record record = Record.__new__(Record)
    record.key = key
    record.group = group
    record.state = {}
    record.mean_from = record.number = -1
    record.dtype = np.dtype(a.dtype.type)
    record.param_dtype, record.half = record.dtype.name, PLAIN
    record.type_num = cnp.PyArray_TYPE(a)
    record.shape = (<object> a).shape
    record.ndim = cnp.PyArray_NDIM(a)
    record.size = cnp.PyArray_SIZE(a)
    record.n_bytes = record.size * cnp.PyArray_ITEMSIZE(a)
    set_layout(record, a, in_c_order)
    return record


cdef void set_layout(Record record, cnp.ndarray a, bint in_c_order) noexcept:
    """Let the state lie as an array does, without the gaps: its axes in the same order of memory.

    It is what np.empty_like would do. But that asks for the memory, and systems refuse more than
    they have even if nobody is to touch it.
    """
    cdef int[MOST_DIMS] axes
    cdef int i, k
    cdef Py_ssize_t step = cnp.PyArray_ITEMSIZE(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef bint as_c = in_c_order or cnp.PyArray_IS_C_CONTIGUOUS(a)
    cdef bint as_f = not as_c and cnp.PyArray_IS_F_CONTIGUOUS(a)
    for i in range(record.ndim):    # the longest step first, equal ones as they are
        record.dims[i] = cnp.PyArray_DIMS(a)[i]
        k = i
        if as_f:
            axes[record.ndim - 1 - i] = i
            continue
        while not as_c and k > 0 and abs(strides[axes[k - 1]]) < abs(strides[i]):
            axes[k] = axes[k - 1]
            k -= 1
        axes[k] = i
    for k in range(record.ndim - 1, -1, -1):
        record.strides[axes[k]] = step
        step *= record.dims[axes[k]]
    record.order = order_of(record, cnp.PyArray_ITEMSIZE(a))


cdef int order_of(Record record, Py_ssize_t item) noexcept:
    """Return whether a layout is contiguous in C order, in Fortran order, both or neither."""
    cdef int i, order = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    cdef Py_ssize_t c = item, f = item
    if record.size == 0:
        return order
    for i in range(record.ndim):    # axes of one element lie anyhow
        if record.dims[i] != 1 and record.strides[i] != f:
            order &= ~cnp.NPY_ARRAY_F_CONTIGUOUS
        f *= record.dims[i]
    for i in range(record.ndim - 1, -1, -1):
        if record.dims[i] != 1 and record.strides[i] != c:
            order &= ~cnp.NPY_ARRAY_C_CONTIGUOUS
        c *= record.dims[i]
    return order


cdef double NOTHING = 0.0


cdef cnp.ndarray layout(object shape, object dtype, str order):
    """Return an array of a shape and an order that has no memory: nobody may touch its elements."""
    cdef cnp.npy_intp[MOST_DIMS] dims
    cdef Py_ssize_t k, n = len(shape)
    cdef cnp.dtype kind = np.dtype(dtype)
    for k in range(n):
        dims[k] = shape[k if order == "C" else n - 1 - k]
    a = cnp.PyArray_SimpleNewFromData(<int> n, dims, kind.num, &NOTHING)
    return a if order == "C" else a.T


cdef Record restored(object key, object saved, object group_of, Folder folder, Py_ssize_t number):
    """Return a record with the arrays that `described` gave, which have been checked, or copies.

    Those that lie in the folder are taken as they are.
    """
    cdef cnp.ndarray a = layout(saved["shape"], saved["dtype"], saved["order"])
    cdef Record record
    cdef dict owned = {}
    cdef int k
    if folder is not None:
        owned = {name: one for name, one in saved["state"].items() if folder.owns(one)}
        for one in [*owned.values(), saved["average"]]:
            if one is not None and folder.owns(one) and one.shape == (<object> a).shape and (
                one.dtype == a.dtype            # not codes
            ):
                a = one
    record = new_record(key, a, 0 if group_of is None else group_of(key, a))
    record.param_dtype = saved.get("half", record.param_dtype)
    record.half = HALVES.get(record.param_dtype, PLAIN)
    record.t = saved["updates"]
    record.carried = saved.get("carried")
    if saved["mean"] is not None:
        record.averaged, record.mean_from = saved["mean"]
    record.coding, record.number = saved.get("coding"), saved.get("number", number)
    for k, (name, a) in enumerate(saved["state"].items()):
        if name in owned:
            record.state[name] = a
            continue
        if (<object> a).shape != record.shape:
            record.state[name] = new_of_shape(record, (<object> a).shape, folder, name, a.dtype)
        elif a.dtype == record.dtype:
            record.state[name] = record.new_array(k + 1, folder, name)
        else:
            record.state[name] = lying_at(record, a.dtype, k + 1, None, folder, name)
        record.state[name][...] = a
    if saved["average"] is not None:
        if folder is not None and folder.owns(saved["average"]):
            record.average = saved["average"]
        else:
            record.average = record.new_array(MAX_SLOTS + 2, folder)
            record.average[...] = saved["average"]
    return record


cdef dict new_coded(
    Record record, int n, str name, int code, Pipeline pipeline, Folder folder
):
    """Return what is kept of a slot that is new: its codes, and what their blocks have in common."""
    cdef double start = 0.0 if is_factored(record, pipeline) else pipeline.starts[n]
    codes = record.new_codes(n + 1, code, folder, name)
    if code < UNSIGNED:
        if start != 0.0:
            codes.fill(nearest_bfloat16(start))
        return {name: codes}
    largest = record.new_largest(folder, largest_of(name))
    if start != 0.0:
        codes.fill(255 if code == UNSIGNED else 127)
        largest.fill(start)
    return {name: codes, largest_of(name): largest}


cdef int nearest_bfloat16(double x):
    """Return the code nearest to a number; of two the even one."""
    cdef object bits = int(np.float32(x).view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


@cython.final
cdef class Store:
    """The records of an optimizer's keys, and its counters.

    Parameters
    ----------
    group_of : callable, (key, array) → int, or None
        Which of the pipelines a key's parameter passes through; None: the first.
    check_keys : callable, (keys, arrays) → None, or None
        Called with the keys until the first update has been made; may refuse them. The arrays have
        not been checked yet.

    Notes
    -----
    `prepare` makes what an update needs that is not there yet, and may fail; `commit` puts it in its
    place, counts the update, and cannot fail. So nothing ever has to be taken back.
    """

    def __init__(self, group_of=None, check_keys=None):
        self.group_of, self.check_keys = group_of, check_keys
        self.records = {}
        self.order = []
        self.turned_at = -2

    cdef Record find(self, object key):
        """Return the record of a key, None if there is none."""
        cdef object record = self.records.get(key)
        if record is None and self.drafts is not None:
            record = self.drafts.get(key)
        return record

    cdef Record draft(self, Call call, object key, cnp.ndarray a):
        """Return a new record, which `commit` will keep."""
        cdef int group = 0 if self.group_of is None else self.group_of(key, a)
        cdef str param_dtype = a.dtype.name, coding = None
        cdef Record record
        if call.plan.codes:
            coding = coding_of(call.plan.pipelines[group], cnp.PyArray_NDIM(a), cnp.PyArray_SIZE(a))
        if half_of(a.dtype) != PLAIN:
            a = layout((<object> a).shape, np.float32, "C")
        # where second moments are vectors, whole tensors are read in C order; codes lie in it
        record = new_record(key, a, group, call.plan.factors or coding is not None)
        record.coding = coding
        record.param_dtype, record.half = param_dtype, HALVES.get(param_dtype, PLAIN)
        if call.drafts is None:
            call.drafts = []
        call.drafts.append(record)
        return record

    cdef int keep_drafts(self, Call call) except -1:
        """Keep records for the next call that checks the same keys, or updates them."""
        if call.drafts is not None:
            self.drafts = {**(self.drafts or {}), **{record.key: record for record in call.drafts}}
        self.order = call.records
        return 0

    def forget_drafts(self):
        """Forget records of keys that have not been updated: their groups may be others now."""
        self.drafts = None
        self.order = []

    cdef int prepare(self, Call call) except -1:
        """Make the state, the averages and the records that a call's keys do not have yet."""
        cdef Record record
        cdef Pipeline pipeline
        cdef Span *span
        cdef Py_ssize_t k
        cdef int n
        cdef tuple slots, codes
        cdef Py_ssize_t n_known = len(self.records)
        if call.pending is None:
            return 0
        call.new_states = []
        for k in call.pending:
            record = call.records[k]
            span = &call.table.spans[k]
            pipeline = call.plan.pipelines[record.group]
            state, average, slots = record.state, record.average, pipeline.slots
            codes = pipeline.codes
            if record.key not in self.records:
                record.number = n_known
                n_known += 1
            elif record.number < 0:     # had no state, so that its shape or dtype could change
                record.number = (<Record> self.records[record.key]).number
            if is_factored(record, pipeline):
                slots, codes = pipeline.factored_slots, pipeline.factored_codes
            for n, name in enumerate(slots):
                if record.coding is not None and <int> codes[n] != PLAIN:
                    if name not in state:
                        state = {**state, **new_coded(record, n, name, codes[n], pipeline, self.folder)}
                elif name not in state:
                    if slots is pipeline.slots or n > 1:
                        state = {**state, name: record.new_array(n + 1, self.folder, name)}
                    else:
                        state = {**state, name: record.new_mean(n, self.folder, name)}
                    if slots is pipeline.slots and pipeline.starts[n] != 0.0:
                        state[name].fill(pipeline.starts[n])
                span.s[n] = <Py_ssize_t> cnp.PyArray_DATA(state[name])
            if record.half != PLAIN and pipeline.master and MASTER not in state:
                master = record.new_array(0, self.folder, MASTER)
                master[...] = call.arrays[call.place_of(k)]
                state = {**state, MASTER: master}
            if call.stages[record.group].average:
                if average is None:
                    average = record.new_array(MAX_SLOTS + 2, self.folder)
                    average[...] = call.arrays[call.place_of(k)]
                span.average = <Py_ssize_t> cnp.PyArray_DATA(average)
            call.new_states.append((k, record, slots, state, average))
        new = {record.key: record for _, record, _, _, _ in call.new_states}
        call.new_records = {**self.records, **new}
        return 0

    cdef int commit(self, Call call) noexcept:
        """Put what was prepared in its place and count the update."""
        cdef Record record
        cdef object slots, state, average
        cdef Py_ssize_t i, k
        cdef int n
        if call.plan.means:         # before an average that is new is there
            means.count(call, self.iter)
        if call.new_states is not None:
            for i in range(len(call.new_states)):
                _, record, slots, state, average = <tuple> call.new_states[i]
                record.slots, record.state, record.average = slots, state, average
                for n in range(len(<tuple> slots)):
                    record.s[n] = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> state[slots[n]])
            self.records = call.new_records
            self.drafts = None
        for k in range(len(call.records)):
            (<Record> call.records[k]).t += 1
        if call.carried is not None:
            for k in range(len(call.records)):
                record = <Record> call.records[k]
                if (<Pipeline> call.plan.pipelines[record.group]).carries:
                    record.carried = <tuple> call.carried[call.table.spans[k].coefs]
        if call.measured:
            self.norm = call.norm
            self.measured = True
        self.clipped += call.clipped
        self.iter += 1
        self.order = call.records
        return 0

    def restored(self, saved):
        """Return records with copies of the arrays that `Record.described` gave, by key."""
        return {
            key: restored(key, one, self.group_of, self.folder, number)
            for number, (key, one) in enumerate(saved.items())
        }

    def keep_in(self, Folder folder):
        """Let the state lie in the files of a folder, or in memory again: before there is any."""
        self.folder = folder

    @property
    def grad_norm(self):
        """The norm of the gradients at the last update that computed it, or None."""
        return self.norm if self.measured else None

    cdef int replace(
        self, dict records, Py_ssize_t iter, Py_ssize_t skipped, Py_ssize_t clipped
    ) noexcept:
        """Take over other records and counters."""
        self.records, self.iter, self.skipped, self.clipped = records, iter, skipped, clipped
        self.measured = False
        self.drafts = None
        self.order = []
        return 0
