"""params, grads → one checked table of spans. The only place that knows dicts, layouts, overlaps.

 a) Everything is checked before anything is written, so a refused call changes nothing. New keys
    get their state at once but are entered only when the whole call has been found good.
 b) The usual array (float32 or float64, this machine's byte order, C or Fortran order, the
    gradient alike) becomes a span where it lies. Any other layout is copied to an array of the
    state's layout, updated there and copied back: NumPy's copies are exact, so the bits are the
    same. The copy's memory is kept for the next call.
 c) What is dear to check, whether anything that will be written overlaps anything else, is
    checked when an address in the table differs from the call before.
 d) Arrays are held by a reference while the GIL is released; their addresses come from NumPy's
    C API, because acquiring a memoryview costs 0.3 µs and there are four arrays per key.
 e) Interrupts arrive between two instructions of Python. From the first array that is written to
    the last counter there is none, so an update is whole or was not made. Where Python must take
    part, to put a number back into a caller's mapping, that comes first and can be undone.
"""

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastoptim.kernels.update.checks.arrays import checked_grad, checked_param
from fastoptim.kernels.update.checks.containers import (
    as_dict,
    check_containers,
    check_keeps_its_arrays,
    check_write_back,
    keys_error,
)
from fastoptim.kernels.update.checks.gradients import (
    check_may_zero,
    grad_memory,
    grad_name,
    not_finite,
)
from fastoptim.kernels.update.checks.overlap import overlaps_itself, refuse_shared_memory
from fastoptim.kernels.update.checks.row_grads import is_sparse, row_grad
from fastoptim.kernels.instruction_sets import PASSES
from fastoptim.kernels.update.checks import factors as unfit
from fastoptim.rows import Rows

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, isfinite, sqrt
from libc.stdlib cimport qsort

from fastoptim.kernels.update.commit cimport Commit
from fastoptim.kernels.driver cimport (
    Pipeline,
    Span,
    Sum,
    blocks_of,
    new_table,
    rounded,
    run,
    sum_rows,
    survey,
    work_of,
)
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.update.pipeline cimport Line, fits_float32
from fastoptim.kernels.update.row_numbers cimport Touched
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISNOTSWAPPED(cnp.ndarray a)

cdef enum:
    MOST_DIMS = 64                  # NumPy's own limit
    LINE = 64                       # bytes of a cache line
    PAGE = 4096

cdef int FLAT_PARAM = cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
cdef int FLAT_GRAD = cnp.NPY_ARRAY_ALIGNED
cdef object ZERO = np.zeros(())


@cython.final
cdef class Param:
    """What is kept for one key: its layout, its state, its step count."""

    cdef readonly object key
    cdef readonly dict state                # slot name → array, shaped like the parameter
    cdef readonly object average            # of the weights, or None
    cdef public Py_ssize_t t                # completed updates of this parameter
    cdef readonly int group                 # the Line that it passes through
    cdef tuple slots                        # those that s points to
    cdef cnp.dtype dtype
    cdef tuple shape
    cdef int type_num
    cdef int ndim
    cdef int order                          # NPY_ARRAY_C_CONTIGUOUS, …F_CONTIGUOUS, both, or 0
    cdef Py_ssize_t size
    cdef cnp.npy_intp[MOST_DIMS] dims
    cdef cnp.npy_intp[MOST_DIMS] strides
    cdef Py_ssize_t[MAX_SLOTS] s            # the state's addresses

    cdef object param, grad                 # the caller's, held for the length of one call
    cdef object own_param, own_grad         # copies in the state's layout, where one was needed
    cdef bint copied_param, copied_grad     # whether this call uses them
    cdef bint by_rows                       # whether this call's gradient is of rows
    cdef object row_grad                    # and then: what checks.py made of it
    cdef object values                      # the gradient's rows, one per row of touched
    cdef object sums                        # memory for those that had to be summed
    cdef Touched touched
    cdef tuple where                        # the rows, in a table that does not lie row by row
    cdef list gathered                      # (array, copy) of what was taken from there
    cdef object seen                        # where a copied parameter lay: address, strides, shape

    cdef inline bint fits(self, cnp.ndarray a) noexcept:
        """Whether an array has this parameter's shape."""
        cdef int i
        if cnp.PyArray_NDIM(a) != self.ndim:
            return False
        for i in range(self.ndim):
            if cnp.PyArray_DIMS(a)[i] != self.dims[i]:
                return False
        return True

    cdef inline bint lies_flat(self, cnp.ndarray a, int needs) noexcept:
        """Whether an array of this shape lies in memory element for element as the state does."""
        cdef int flags = cnp.PyArray_FLAGS(a), i
        if flags & needs != needs or not PyArray_ISNOTSWAPPED(a):
            return False
        if flags & self.order:
            return True
        for i in range(self.ndim):
            if self.dims[i] > 1 and cnp.PyArray_STRIDES(a)[i] != self.strides[i]:
                return self.size == 0
        return True

    cdef object like(self, int which):
        """Return a new array of this shape, dtype and layout, all zeros.

        It starts on a cache line, and which staggers large arrays over the 4 KiB of a page. Where
        the system puts large arrays they start alike, 16 bytes into a page; then every vector
        straddles two lines, and a load has to wait for a store to another array that has the same
        low address bits. Measured (Adam, 80,000 to 1,000,000 float32 in cache): 1.6 to 2.7 times
        as fast as with arrays from np.zeros.
        """
        cdef Py_ssize_t wanted = self.size * self.dtype.itemsize
        cdef Py_ssize_t lane = PAGE if wanted > PAGE else LINE
        raw = np.zeros(wanted + lane, np.uint8)
        cdef Py_ssize_t start = (which * (PAGE // 4) - <Py_ssize_t> cnp.PyArray_DATA(raw)) % lane
        if start < 0:               # C's remainder
            start += lane
        flat = raw[start:start + wanted].view(self.dtype)
        if self.order & cnp.NPY_ARRAY_C_CONTIGUOUS:
            return flat.reshape(self.shape)
        if self.order & cnp.NPY_ARRAY_F_CONTIGUOUS:
            return flat.reshape(self.shape, order="F")
        return np.lib.stride_tricks.as_strided(
            flat, self.shape, [self.strides[i] for i in range(self.ndim)]
        )


cdef Param new_param(object key, cnp.ndarray a, int group):
    """Return the record of a key, in the layout of its first array, without state."""
    if group < 0:
        raise ValueError(f"the group of {key!r} is {group}; groups are counted from 0")
    cdef Param one = Param.__new__(Param)
    cdef int i
    cdef cnp.ndarray pattern = np.empty_like(a, order="K", subok=False)
    one.key = key
    one.group = group
    one.state = {}
    one.dtype = np.dtype(a.dtype.type)
    one.type_num = cnp.PyArray_TYPE(a)
    one.shape = (<object> a).shape
    one.ndim = cnp.PyArray_NDIM(a)
    one.size = cnp.PyArray_SIZE(a)
    one.order = cnp.PyArray_FLAGS(pattern) & (
        cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    )
    for i in range(one.ndim):       # no memcpy: of an array without axes both may be NULL
        one.dims[i] = cnp.PyArray_DIMS(a)[i]
        one.strides[i] = cnp.PyArray_STRIDES(pattern)[i]
    return one


# ---------------------------------------------------------------- overlaps

cdef struct Extent:
    Py_ssize_t low
    Py_ssize_t high


cdef Extent EXTENT
EXTENT_DTYPE = np.asarray(<Extent[:1]> &EXTENT).dtype     # see SPAN_DTYPE


cdef Extent[::1] new_extents(Py_ssize_t capacity):
    return np.zeros(capacity, EXTENT_DTYPE)


cdef int by_low(const void *a, const void *b) noexcept nogil:
    cdef Py_ssize_t low_a = (<const Extent *> a).low, low_b = (<const Extent *> b).low
    return (low_a > low_b) - (low_a < low_b)


cdef object grad_as_seen(Param one):
    """Return a gradient as the rule sees it: with rows summed."""
    if not one.by_rows:
        return one.grad
    return one.values.reshape(-1)[:one.touched.count * one.row_grad.length]


cdef inline Py_ssize_t bytes_of(Param one) noexcept:
    return one.size * (8 if one.type_num == cnp.NPY_DOUBLE else 4)


cdef int put_back(list done, object problem) except -1:
    """Give containers their old numbers again; say of each that does not take it."""
    for container, key, old in done:
        try:
            if container[key] is not old:
                container[key] = old
        except BaseException as another:
            problem.add_note(
                f"nothing else was updated, but the number of {key!r} could not be put back to "
                f"{old!r}: {another!r}"
            )
    return 0


# ---------------------------------------------------------------- the collector

@cython.final
cdef class Collector:
    """All keys of one optimizer, and the table that its next update will walk.

    Parameters
    ----------
    group_of : callable, key → int, or None
        Which of the lines a key passes through; None: the first.
    check_keys : callable, keys → None, or None
        Called with the keys of the first update; may refuse them.
    thread_counts : ThreadCounts or None
        What has been learned of such updates before, if anything.
    """

    cdef const Rule *surveyor
    cdef const Rule *adder
    cdef object group_of, check_keys
    cdef readonly ThreadCounts thread_counts
    cdef readonly dict entries              # key → Param
    cdef readonly dict slots                # slot name → {key: view of an array}, for users, who
    cdef readonly dict averages             # key → view of an array; may give a view another shape
    cdef public Py_ssize_t iter             # completed updates
    cdef public Py_ssize_t skipped          # updates left out for a gradient that is not finite
    cdef bint busy
    cdef Py_ssize_t readers                 # calls of `still` that are not over
    cdef list active                        # the Params of this call, in the table's order
    cdef list last                          # and of the call before
    cdef list fresh                         # of these, the new ones, and what they replace or None
    cdef list bound                         # (Param, names of slots that it got in this call)
    cdef list averaged                      # Params whose average starts with this call
    cdef bint entered                       # whether new records are under their keys yet
    cdef bint copies                        # whether any Param of this call is copied or by rows
    cdef bint numbers                       # whether a number must be put back into a container
    cdef bint in_order                      # whether the gradients' rows must be in order
    cdef bint zeroing                       # whether any gradient will be zeroed
    cdef bint moved                         # whether what is written differs from the call before
    cdef bint grads_moved
    cdef Span[::1] spans
    cdef Span[::1] few                      # those of parameters that are numbers
    cdef float[:, ::1] c32
    cdef double[:, ::1] c64
    cdef double[::1] partial                # of each block: the sum of its gradients' squares
    cdef Extent[::1] written                # by start; an end is the furthest up to there
    cdef Py_ssize_t n_written
    cdef set apart                          # arrays last seen not to overlap although extents do

    def __cinit__(
        self, object group_of=None, object check_keys=None,
        ThreadCounts thread_counts=None,
    ):
        self.surveyor = <const Rule *> PyCapsule_GetPointer(PASSES["survey"], "fastoptim.Rule")
        self.adder = <const Rule *> PyCapsule_GetPointer(PASSES["add"], "fastoptim.Rule")
        self.group_of, self.check_keys = group_of, check_keys
        self.thread_counts = ThreadCounts() if thread_counts is None else thread_counts
        self.slots = {}
        self.entries = {}
        self.averages = {}
        self.last = []
        self.moved = True
        self.apart = set()
        self.spans = new_table(8)
        self.few = new_table(8)
        self.written = new_extents(8)
        self.c32 = np.zeros((1, 1), np.float32)
        self.c64 = np.zeros((1, 1), np.float64)
        self.partial = np.zeros(1)

    def update(
        self, object params, object grads, list lines, object clip_norm=None,
        str nonfinite="propagate", bint flush=False, *, double factor=1.0, bint zero=False,
        bint dry=False, object numbers=None, list wipe=None, Commit commit=None,
        Py_ssize_t becomes=0, object first=None,
    ):
        """Apply one update to params, in place; return whether it was applied.

        Parameters
        ----------
        params, grads : mapping or list
        lines : list of Line
            What the parameters of each group pass through.
        clip_norm : float or None
        nonfinite : {"propagate", "skip", "raise"}
        flush : bool
            Whether subnormals are flushed to zero.
        factor : float
            What every gradient is multiplied by first.
        zero : bool
            Zero every gradient, whatever the lines say.
        dry : bool
            Do all but write.
        numbers : mapping or list, optional
            Where gradients that are numbers are zeroed, if not in grads.
        wipe : list of arrays, optional
            What else is set to zero.
        commit, becomes : Commit and int, optional
            What gets a new number in the same step.
        first : callable, optional
            Called without arguments before any gradient is read, once the arrays have been checked.
        """
        for item in lines:
            if not isinstance(item, Line):
                raise TypeError(f"lines must be a list of Line, got {item!r} in it")
        self.refuse_if_busy()
        if self.readers:
            raise RuntimeError(
                "this optimizer is being copied or saved, in another thread or further up in this "
                "one; let that end first, or put a lock around both"
            )
        cdef Param one
        cdef Line line
        cdef Py_ssize_t count
        cdef double norm_factor = 1.0
        cdef bint applied = True
        cdef int team
        self.busy = True
        self.active = []
        self.fresh = []
        self.bound = []
        self.averaged = []
        self.copies = self.entered = self.numbers = False
        self.in_order = clip_norm is not None   # the norm is that of the same rows in any order
        self.grads_moved = False
        if numbers is None:
            numbers = grads
        try:
            for line in lines:
                line.prepare(factor, 1.0, zero)
            count = self.collect(params, grads, lines, numbers)
            self.set_coefficients(lines)
            self.check_overlaps()
            self.check_fit(lines)
            if self.numbers and self.few.shape[0] < count:
                self.few = new_table(count)
            if first is not None:
                first()
            team = self.thread_counts.begin(work_of(&self.spans[0], count), dry)
            if self.copies:
                self.copy_in(flush, team)
            if clip_norm is not None or nonfinite != "propagate":
                applied = self.survey_grads(count, factor, nonfinite, team)
                if applied and clip_norm is not None:
                    norm_factor = self.clipping(count, clip_norm)
            if not applied:
                self.skipped += 1
                self.withdraw(True)
                self.thread_counts.end()
                return False
            if norm_factor != 1.0:
                for line in lines:
                    line.prepare(factor, norm_factor, zero)
                self.check_fit(lines)
            if dry:
                self.withdraw(True)
                self.thread_counts.end()
                return True
            self.start_averages()
            if self.copies:
                self.gather_odd_tables()
            self.enter()
            if self.numbers:
                self.update_numbers(params, numbers, count, flush)
            with nogil:
                run(self.spans, count, self.c32, self.c64, flush, team)
            self.thread_counts.end()
            self.count_up()
            if commit is not None:
                commit.number = becomes
            if self.copies:
                self.copy_out()
            if wipe is not None:
                for a in wipe:
                    cnp.PyArray_CopyInto(a, ZERO)
            return True
        except BaseException:
            self.withdraw(False)
            raise
        finally:
            for one in self.active:
                one.param = None
                one.grad = None
                if one.by_rows:
                    one.row_grad = one.values = one.gathered = one.where = None
            self.active = self.fresh = self.bound = self.averaged = None
            self.busy = False

    cdef int refuse_if_busy(self) except -1:
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of an update, in another thread or further up in "
                "this one; give each thread its own optimizer, or a lock around update"
            )
        return 0

    def still(self, function):
        """Call a function while no update can start; return what it returns."""
        self.refuse_if_busy()
        self.readers += 1
        try:
            return function()
        finally:
            self.readers -= 1

    def records(self):
        """Return what is kept for each key, the arrays themselves."""
        cdef Param one
        self.refuse_if_busy()
        return {
            key: {
                "updates": one.t, "shape": one.shape, "dtype": one.dtype.name,
                "order": "C" if one.order & cnp.NPY_ARRAY_C_CONTIGUOUS else "F",
                "state": dict(one.state), "average": one.average,
            }
            for key, one in self.entries.items()
        }

    def restore(
        self, dict records, Py_ssize_t iter, Py_ssize_t skipped, changes=(), *,
        Commit commit=None, Py_ssize_t becomes=0,
    ):
        """Replace all that is kept by copies of such records, which have been checked.

        In the same step, between which no interrupt comes, each dict of `changes` is updated with
        the one beside it, and the commit, if given, gets its new number.
        """
        cdef Param one
        cdef int k
        entries = {}
        for key, record in records.items():
            like = np.empty(record["shape"], record["dtype"], order=record["order"])
            one = new_param(key, like, self.group_of(key) if self.group_of is not None else 0)
            one.t = record["updates"]
            for k, (name, a) in enumerate(record["state"].items()):
                one.state[name] = one.like(k + 1)
                one.state[name][...] = a
            if record["average"] is not None:
                one.average = one.like(MAX_SLOTS + 2)
                one.average[...] = record["average"]
            entries[key] = one
        slots, averages = {}, {}
        for one in entries.values():
            for name, a in one.state.items():
                slots.setdefault(name, {})[one.key] = a.view()
            if one.average is not None:
                averages[one.key] = one.average.view()
        self.refuse_if_busy()
        if self.readers:
            raise RuntimeError("this optimizer is being copied or saved, in another thread")
        self.entries, self.iter, self.skipped = entries, iter, skipped
        self.slots, self.averages, self.last, self.moved = slots, averages, [], True
        for kept, new in changes:
            (<dict> kept).update(new)
        if commit is not None:
            commit.number = becomes

    # ------------------------------------------------ table

    cdef Py_ssize_t collect(
        self, object given_params, object given_grads, list lines, object numbers
    ) except -1:
        """Check every key and write its row of the table; return how many."""
        cdef dict params, grads
        params = given_params if type(given_params) is dict else as_dict("params", given_params)
        grads = given_grads if type(given_grads) is dict else as_dict("grads", given_grads)
        cdef Py_ssize_t count = 0, first = 0, n_last = len(self.last)
        cdef Param one
        cdef Line line
        cdef Span *row
        cdef void *found
        cdef Py_ssize_t p_address, g_address
        cdef bint zeroing = False
        cdef object key, p, g
        if params is not given_params or grads is not given_grads or len(params) != len(grads):
            check_containers(given_params, given_grads, params, grads)
            check_keeps_its_arrays(given_params, params)
        if self.check_keys is not None and self.iter == 0:
            self.check_keys(params.keys())
        if len(params) > self.spans.shape[0]:
            self.spans = new_table(2 * len(params))
            self.moved = True
        for key, p in params.items():
            if count >= self.spans.shape[0]:    # a key's own __eq__ may do anything
                raise RuntimeError("params changed while it was being read")
            found = <void *> PyDict_GetItemWithError(grads, key)
            if found == NULL:
                raise keys_error(params, grads)
            g = <object> found
            if g is None:
                continue
            if count < n_last and (<Param> self.last[count]).key is key:
                one = <Param> self.last[count]
            else:
                one = <Param> self.entries.get(key)
                self.moved = True
            if not (
                one is not None
                and type(p) is cnp.ndarray and cnp.PyArray_TYPE(p) == one.type_num
                and one.fits(p) and one.lies_flat(p, FLAT_PARAM)
            ):
                one = self.unusual_param(given_params, key, p, one)
            else:
                one.copied_param = False
            one.param = p
            one.grad = g
            self.active.append(one)
            if one.group >= len(lines):
                raise RuntimeError("the groups changed in the middle of an update or a soft batch")
            line = <Line> lines[one.group]
            if one.slots is not line.slots:
                self.bind(one, line)
            if line.c.average and one.average is None:
                self.averaged.append(one)
                one.average = one.like(MAX_SLOTS + 2)
                self.moved = True           # a gradient may lie there
            if not (
                type(g) is cnp.ndarray and cnp.PyArray_TYPE(g) == one.type_num
                and one.fits(g) and one.lies_flat(g, FLAT_GRAD)
            ):
                self.unusual_grad(key, g, one)
            else:
                one.copied_grad = one.by_rows = False
            if line.c.zero:
                zeroing = True
                check_may_zero(numbers, key, g)
                if type(g) is not cnp.ndarray and not isinstance(grad_memory(g), np.ndarray):
                    self.numbers = True
                if one.copied_grad or one.by_rows:  # where the caller's lies is not in the table
                    self.grads_moved = True
            p_address = <Py_ssize_t> cnp.PyArray_DATA(one.own_param if one.copied_param else p)
            row = &self.spans[count]
            if row.p != p_address:
                self.moved = True
            row.p = p_address
            row.n = one.size
            row.rows = 0
            if one.by_rows:
                g = one.values
                row.n = one.touched.count * <Py_ssize_t> one.row_grad.length
                row.rows = <Py_ssize_t> &one.touched.rows[0]
                row.length = one.row_grad.length
            g_address = <Py_ssize_t> cnp.PyArray_DATA(one.own_grad if one.copied_grad else g)
            if row.g != g_address or one.by_rows:
                self.grads_moved = True
            row.g = g_address
            row.s = one.s
            row.a = 0 if one.average is None else <Py_ssize_t> cnp.PyArray_DATA(one.average)
            row.first = first
            row.line = <Py_ssize_t> &line.c
            row.wide = one.type_num == cnp.NPY_DOUBLE
            first += blocks_of(row.n)
            count += 1
        if count == 0 and len(params) > 0:
            raise ValueError("every gradient is None: there is nothing to update")
        if count != n_last or zeroing != self.zeroing:
            self.moved = True
        self.zeroing = zeroing
        return count

    cdef Param unusual_param(self, object params, object key, object p, Param one):
        """Admit a parameter that is new or does not lie flat, or say why not."""
        a = checked_param(key, p)
        where = None
        if not isinstance(p, np.ndarray):
            check_write_back("params", params, key, p)
            self.numbers = True
        else:
            where = (<Py_ssize_t> cnp.PyArray_DATA(a), a.strides, a.shape)
            if (one is None or one.seen != where) and overlaps_itself(a):
                raise ValueError(
                    f"params[{key!r}] overlaps itself (strides {a.strides}, shape {a.shape}): "
                    f"an element would be updated more than once; pass a copy"
                )
        if one is not None and not one.state and one.average is None and (one.shape != a.shape or one.dtype != a.dtype):
            one = None              # without state there is nothing that could not fit
        if one is None:
            one = new_param(key, a, self.group_of(key) if self.group_of is not None else 0)
            self.fresh.append((one, self.entries.get(key)))
            self.moved = True
        elif one.shape != a.shape:
            raise ValueError(
                f"params[{key!r}] has shape {a.shape}, but its state has shape {one.shape} from "
                f"earlier updates; use another key or a new optimizer"
            )
        elif one.dtype != a.dtype:
            raise TypeError(
                f"params[{key!r}] is {a.dtype}, but its state is {one.dtype} from earlier "
                f"updates; convert the parameter or use a new optimizer"
            )
        one.copied_param = not isinstance(p, np.ndarray) or not one.lies_flat(a, FLAT_PARAM)
        if one.copied_param and one.seen != where:
            one.seen = where
            self.moved = True
        if one.copied_param:
            self.copies = True
            if one.own_param is None:
                one.own_param = one.like(0)
        return one

    cdef int unusual_grad(self, object key, object g, Param one) except -1:
        """Admit a gradient that does not lie like the state, or say why not."""
        one.copied_grad = one.by_rows = False
        if isinstance(g, Rows) or is_sparse(g):
            return self.grad_of_rows(key, g, one)
        a = checked_grad(key, g, one.dtype, one.shape)
        one.copied_grad = not isinstance(g, np.ndarray) or not one.lies_flat(a, FLAT_GRAD)
        if one.copied_grad:
            self.copy_grad(one)
        return 0

    cdef int grad_of_rows(self, object key, object g, Param one) except -1:
        """Admit a gradient of some of a parameter's rows; make room for what is to be summed."""
        cdef cnp.ndarray sums
        cdef Py_ssize_t n
        of = row_grad(key, g, one.dtype, one.shape)
        if one.touched is None:
            one.touched = Touched()
        one.touched.take(f"grads[{key!r}]", of.index, of.n_rows, of.unique, self.in_order)
        one.by_rows, one.row_grad, one.values = True, of, of.values
        self.copies = True
        one.where = None
        if one.copied_param or not one.order & cnp.NPY_ARRAY_C_CONTIGUOUS:
            one.where = (one.touched.row_numbers(),)
            if of.values.ndim < one.ndim:               # single elements
                one.where = np.unravel_index(one.where[0], one.shape)
        if not one.touched.direct:
            n = one.touched.count * <Py_ssize_t> of.length
            sums = one.sums
            if sums is None or cnp.PyArray_SIZE(sums) < n:
                sums = one.sums = np.empty(n + n // 4, one.dtype)
            one.values = sums
        return 0

    cdef int copy_grad(self, Param one) except -1:
        self.copies = True
        one.copied_grad = True
        if one.own_grad is None:
            one.own_grad = one.like(MAX_SLOTS + 1)
        return 0

    cdef int bind(self, Param one, Line line) except -1:
        """Point a parameter's row at the state of a line's rule; make what is not there yet."""
        cdef int k
        made = [name for name in line.slots if name not in one.state]
        self.bound.append((one, line, made))
        self.moved = True
        for k, (name, start) in enumerate(zip(line.slots, line.starts, strict=True)):
            if name in made:
                one.state[name] = one.like(k + 1)
                if start != 0.0:
                    one.state[name].fill(start)
            one.s[k] = <Py_ssize_t> cnp.PyArray_DATA(one.state[name])
        one.slots = line.slots
        return 0

    # ------------------------------------------------ coefficients

    cdef int set_coefficients(self, list lines) except -1:
        """Let each row point at the coefficients of its group and its parameter's step count."""
        cdef Py_ssize_t k, t, last_t = -1, last_row = -1
        cdef int last_group = -1
        cdef bint doubtful = False
        cdef dict rows = {}
        cdef Param one
        for k in range(len(self.active)):
            one = <Param> self.active[k]
            t = one.t + 1
            if t != last_t or one.group != last_group:
                last_t, last_group = t, one.group
                place = (last_group, t)
                if place not in rows:
                    last_row = len(rows)
                    rows[place] = last_row, self.coefficient_row(last_row, lines[last_group], one)
                last_row, doubtful = rows[place]
            self.spans[k].c = last_row
            if doubtful and one.type_num == cnp.NPY_FLOAT:
                self.refuse_coefficients(last_row, lines[last_group], one)
                rows[place] = last_row, False
                doubtful = False
        return 0

    cdef bint coefficient_row(self, Py_ssize_t row, Line line, Param one) except -1:
        """Fill a row of the coefficients; return whether float32 cannot hold all of them."""
        cdef Py_ssize_t t = one.t + 1
        cdef const Rule *rule = line.c.rule
        cdef tuple values = line.coefficients(t)
        cdef int k
        cdef double x
        cdef bint doubtful = False
        if len(values) != rule.coefs:
            raise ValueError(
                f"the rule {rule.name.decode()!r} has {rule.coefs} coefficients, got {len(values)}"
            )
        if row >= self.c64.shape[0] or rule.coefs > self.c64.shape[1]:
            shape = (2 * row + 1, max(1, rule.coefs, self.c64.shape[1]))
            c32, c64 = np.zeros(shape, np.float32), np.zeros(shape)
            c32[:row, :self.c32.shape[1]] = self.c32[:row]
            c64[:row, :self.c64.shape[1]] = self.c64[:row]
            self.c32, self.c64 = c32, c64
        for k in range(rule.coefs):
            x = values[k]
            self.c64[row, k] = x
            self.c32[row, k] = rounded(x)
            if not isfinite(x):
                raise unfit.of_rule(line.owner, values, x, one.key, t, one.group, "float64")
            doubtful = doubtful or not fits_float32(x, self.c32[row, k])
        return doubtful

    cdef int refuse_coefficients(self, Py_ssize_t row, Line line, Param one) except -1:
        """Refuse coefficients that float32 cannot hold, for a parameter that is float32."""
        cdef int k
        cdef tuple values = tuple([self.c64[row, k] for k in range(line.c.rule.coefs)])
        for k in range(len(values)):
            if fits_float32(self.c64[row, k], self.c32[row, k]):
                continue
            problem = unfit.of_rule(
                line.owner, values, values[k], one.key, one.t + 1, one.group, "float32"
            )
            if problem is not None:
                raise problem
        return 0

    cdef int check_fit(self, list lines) except -1:
        """Refuse an option's factor that would be infinite, or nothing, for a key that it concerns."""
        cdef Param one
        cdef Line line
        for line in lines:
            if line.unfit is None:
                continue
            for one in self.active:
                if lines[one.group] is not line:
                    continue
                if one.type_num == cnp.NPY_FLOAT or not isfinite(line.unfit_value):
                    raise unfit.of_option(
                        line.owner, line.unfit, line.unfit_value, one.key, one.group, one.dtype.name
                    )
        return 0

    # ------------------------------------------------ overlaps

    cdef int check_overlaps(self) except -1:
        """Refuse two written arrays on one memory; copy gradients that lie on written memory."""
        cdef Param one
        cdef Span *row
        cdef Py_ssize_t k
        if self.moved or (self.zeroing and self.grads_moved):
            self.list_written()
        if not (self.moved or self.grads_moved):
            return 0
        for k in range(len(self.active)):
            one = <Param> self.active[k]
            row = &self.spans[k]
            if one.copied_grad or self.is_zeroed(k):
                continue
            if self.is_written(row.g, row.g + row.n * one.dtype.itemsize):
                if one.by_rows:
                    one.values = one.values.copy()
                    row.g = <Py_ssize_t> cnp.PyArray_DATA(one.values)
                    continue
                self.copy_grad(one)
                row.g = <Py_ssize_t> cnp.PyArray_DATA(one.own_grad)
        return 0

    cdef bint is_zeroed(self, Py_ssize_t k) noexcept:
        """Whether the gradient of a row will be set to zero."""
        return (<const Pipeline *> self.spans[k].line).zero

    cdef int list_written(self) except -1:
        """Sort all that will be written by address; refuse overlaps."""
        cdef Param one
        cdef Py_ssize_t k = 0, n, i, most = len(self.active) * (MAX_SLOTS + 3)
        cdef bint doubtful = False
        if most > self.written.shape[0]:
            self.written = new_extents(2 * most)
        for i in range(len(self.active)):
            one = <Param> self.active[i]
            if one.size == 0:
                continue
            k = self.list_one(k, one.param, one.copied_param, self.spans[i].p, bytes_of(one))
            if self.is_zeroed(i):
                k = self.list_one(
                    k, grad_memory(one.grad), one.copied_grad or one.by_rows, self.spans[i].g, bytes_of(one)
                )
            for n in range(len(one.slots)):
                self.written[k] = Extent(one.s[n], one.s[n] + bytes_of(one))
                k += 1
            if one.average is not None:
                self.written[k] = Extent(self.spans[i].a, self.spans[i].a + bytes_of(one))
                k += 1
        self.n_written = k
        if k == 0:
            return 0
        qsort(&self.written[0], k, sizeof(Extent), by_low)
        for i in range(1, k):
            if self.written[i].low < self.written[i - 1].high:
                doubtful = True
                self.written[i].high = max(self.written[i].high, self.written[i - 1].high)
        if doubtful:
            self.check_apart()
        return 0

    cdef Py_ssize_t list_one(
        self, Py_ssize_t k, object a, bint copied, Py_ssize_t address, Py_ssize_t n_bytes
    ) except -1:
        """Add one of the caller's arrays to the extents; a float lies nowhere."""
        if not copied:
            self.written[k] = Extent(address, address + n_bytes)
            return k + 1
        if isinstance(a, np.ndarray):
            low, high = byte_bounds(a)
            self.written[k] = Extent(low, high)
            return k + 1
        return k

    cdef int check_apart(self) except -1:
        """Where extents overlap, see exactly whether elements do."""
        cdef Param one
        arrays = []
        for i, one in enumerate(self.active):
            arrays.append((f"params[{one.key!r}]", one.param))
            if self.is_zeroed(i):
                arrays.append((grad_name(one.key, one.grad), grad_memory(one.grad)))
            arrays += [(f"the optimizer's {s}[{one.key!r}]", a) for s, a in one.state.items()]
            arrays.append((f"the optimizer's average_of[{one.key!r}]", one.average))
        arrays = [(name, a) for name, a in arrays if isinstance(a, np.ndarray)]
        places = {(a.__array_interface__["data"][0], a.strides, a.shape, a.itemsize) for _, a in arrays}
        if len(places) == len(arrays) and places <= self.apart:
            return 0
        refuse_shared_memory(arrays)
        self.apart = places
        return 0

    cdef bint is_written(self, Py_ssize_t low, Py_ssize_t high) noexcept:
        """Whether anything written lies between two addresses."""
        cdef Py_ssize_t k = 0, beyond = self.n_written, middle
        while k < beyond:           # how many written arrays start before high
            middle = (k + beyond) // 2
            if self.written[middle].low < high:
                k = middle + 1
            else:
                beyond = middle
        return k > 0 and self.written[k - 1].high > low

    # ------------------------------------------------ the gradients as a whole

    cdef Py_ssize_t n_blocks(self, Py_ssize_t count) noexcept:
        return self.spans[count - 1].first + blocks_of(self.spans[count - 1].n) if count else 0

    cdef bint survey_grads(self, Py_ssize_t count, double factor, str nonfinite, int team) except -1:
        """Read all gradients once; return whether the update may go on."""
        cdef Py_ssize_t i, total = self.n_blocks(count)
        if total > self.partial.shape[0]:
            self.partial = np.zeros(2 * total)
        placed = self.place_in_order(count) if self.in_order else ()
        with nogil:
            survey(self.surveyor, factor, self.spans, count, self.partial, team)
        for i, address, _ in placed:
            self.spans[i].g = address
        if nonfinite == "propagate":
            return True
        i = self.first_not_finite(count)
        if i < 0:
            return True
        if nonfinite == "skip":
            return False
        raise not_finite((<Param> self.active[i]).key, (<Param> self.active[i]).grad)

    cdef list place_in_order(self, Py_ssize_t count):
        """Let the survey read gradients in C order, so that no layout changes the norm.

        Returns which rows of the table read a copy for that, and what they read before.
        """
        cdef Param one
        cdef Py_ssize_t i
        placed = []
        for i in range(count):
            one = <Param> self.active[i]
            if one.by_rows or one.order & cnp.NPY_ARRAY_C_CONTIGUOUS:
                continue
            copy = np.array(one.grad, one.dtype, order="C", subok=False)
            placed.append((i, self.spans[i].g, copy))
            self.spans[i].g = <Py_ssize_t> cnp.PyArray_DATA(copy)
        return placed

    cdef Py_ssize_t first_not_finite(self, Py_ssize_t count) except -2:
        """Return the place of the first gradient that a survey found not finite, or -1."""
        cdef Py_ssize_t k, i = 0, looked_at = -1
        for k in range(self.n_blocks(count)):
            if isfinite(self.partial[k]):
                continue
            while self.spans[i].first + blocks_of(self.spans[i].n) <= k:
                i += 1
            if i != looked_at:      # finite numbers whose squares are not are looked at once more
                looked_at = i
                if not np.isfinite(grad_as_seen(<Param> self.active[i])).all():
                    return i
        return -1

    cdef double clipping(self, Py_ssize_t count, double most) except? -1:
        """Return what brings the global norm down to at most this, 1 if it is there."""
        cdef double squares = 0
        cdef Py_ssize_t k
        for k in range(self.n_blocks(count)):
            squares += self.partial[k]
        if squares == INFINITY and self.first_not_finite(count) < 0:
            raise FloatingPointError(
                "the gradients are finite, but their squares are too large for the norm of "
                "clip_norm; scale the loss down"
            )
        cdef double norm = sqrt(squares)
        return 1.0 if norm <= most else most / norm

    # ------------------------------------------------ before and after

    cdef int copy_in(self, bint flush, int team) except -1:
        cdef Param one
        for one in self.active:
            if one.by_rows:
                if not one.touched.direct:
                    self.sum_rows_of(one, flush, team)
                continue
            if one.copied_param:
                one.own_param[...] = one.param
            if one.copied_grad:
                one.own_grad[...] = one.grad
        return 0

    cdef int sum_rows_of(self, Param one, bint flush, int team) except -1:
        cdef Sum what
        one.touched.fill(&what, one.row_grad.length, one.row_grad.values, one.values)
        with nogil:
            sum_rows(self.adder, &what, flush, team)
        return 0

    cdef int gather_odd_tables(self) except -1:
        """Copy the touched rows of tables whose rows do not lie one after the other."""
        cdef Param one
        cdef Py_ssize_t k
        for k in range(len(self.active)):
            one = <Param> self.active[k]
            if one.by_rows and one.where is not None:
                self.gather_rows(one, &self.spans[k])
        return 0

    cdef int gather_rows(self, Param one, Span *row) except -1:
        cdef int k
        one.gathered = []
        row.p = self.gather_one(one, one.param.view(np.ndarray))
        for k, name in enumerate(one.slots):
            row.s[k] = self.gather_one(one, one.state[name])
        if one.average is not None:
            row.a = self.gather_one(one, one.average)
        row.rows = 0
        return 0

    cdef Py_ssize_t gather_one(self, Param one, object a) except -1:
        copy = np.array(a[one.where], order="C")
        one.gathered.append((a, copy))
        return <Py_ssize_t> cnp.PyArray_DATA(copy)

    cdef int start_averages(self) except -1:
        cdef Param one
        for one in self.averaged:
            one.average[...] = one.own_param if one.copied_param and not one.by_rows else one.param
        return 0

    cdef int update_numbers(
        self, object params, object grads, Py_ssize_t count, bint flush
    ) except -1:
        """Update the parameters that are numbers, put them back, and take them off the table.

        To put a number back can fail: a mapping's own code runs, or an interrupt arrives. So it
        comes before anything else is written, and what these few numbers' state was is known.
        """
        cdef Param one
        cdef Py_ssize_t k, n = 0, first = 0
        kept, done = [], []
        for k in range(count):
            one = <Param> self.active[k]
            if isinstance(one.param, np.ndarray):
                continue
            self.few[n] = self.spans[k]
            self.few[n].first = n           # a block each
            kept += [(one.state[name], one.state[name].copy()) for name in one.slots]
            if one.average is not None:
                kept.append((one.average, one.average.copy()))
            n += 1
        with nogil:
            run(self.few, n, self.c32, self.c64, flush, 1)
        try:
            for k in range(count):
                one = <Param> self.active[k]
                if not isinstance(one.param, np.ndarray):
                    number = type(one.param)(one.own_param[()])
                    done.append((params, one.key, one.param))
                    params[one.key] = number
                if self.is_zeroed(k) and not one.by_rows and not isinstance(one.grad, np.ndarray):
                    number = type(one.grad)((<object> one.dtype).type(0))
                    done.append((grads, one.key, one.grad))
                    grads[one.key] = number
        except BaseException as problem:
            for a, copy in kept:
                cnp.PyArray_CopyInto(a, copy)
            put_back(done, problem)
            raise
        for k in range(count):
            if not isinstance((<Param> self.active[k]).param, np.ndarray):
                self.spans[k].n = 0
            self.spans[k].first = first
            first += blocks_of(self.spans[k].n)
        return 0

    cdef int copy_out(self) except -1:
        cdef Param one
        cdef Py_ssize_t k
        for k in range(len(self.active)):
            one = <Param> self.active[k]
            if one.by_rows:
                if one.gathered is not None:
                    for a, copy in one.gathered:
                        a[one.where] = copy
                if self.is_zeroed(k) and one.values is not one.row_grad.given:
                    cnp.PyArray_CopyInto(one.row_grad.given, ZERO)
                continue
            if one.copied_param and isinstance(one.param, np.ndarray):
                cnp.PyArray_CopyInto(one.param, one.own_param)
            if one.copied_grad and self.is_zeroed(k) and isinstance(one.grad, np.ndarray):
                cnp.PyArray_CopyInto(one.grad, one.own_grad)
        return 0

    cdef int enter(self) except -1:
        """Enter what is new under its keys. The last that can fail, so it comes before the run."""
        cdef Param one
        self.entered = True
        for one, _ in self.fresh:
            self.entries[one.key] = one
        for one, _, made in self.bound:
            for name in made:
                self.slots.setdefault(name, {})[one.key] = one.state[name].view()
        for one in self.averaged:
            self.averages[one.key] = one.average.view()
        return 0

    cdef int withdraw(self, bint checked) except -1:
        """Undo what a call prepared: it was refused, or it was found good but not carried out."""
        cdef Param one
        for one, _, made in self.bound:
            one.slots = None
            for name in made:
                del one.state[name]
                if self.entered:
                    self.slots.get(name, {}).pop(one.key, None)
        for one in self.averaged:
            one.average = None
            if self.entered:
                self.averages.pop(one.key, None)
        if self.entered:
            for one, before in self.fresh:
                if before is None:
                    self.entries.pop(one.key, None)
                else:
                    self.entries[one.key] = before
        if checked and not (self.fresh or self.bound or self.averaged):
            self.last = self.active
            self.moved = False
        else:
            self.moved = True       # the table holds rows that were never checked as a whole
        return 0

    cdef int count_up(self) except -1:
        cdef Param one
        for one in self.active:
            one.t += 1
        self.iter += 1
        self.last = self.active
        self.moved = False
        self.fresh, self.bound, self.averaged = [], [], []      # nothing to withdraw any more
        return 0
