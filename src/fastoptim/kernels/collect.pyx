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
"""

from difflib import get_close_matches
from collections.abc import Mapping

import numpy as np
from numpy.lib.array_utils import byte_bounds

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy

from fastoptim.kernels.driver cimport Pipeline, Span, blocks_of, new_table, rounded, run
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISNOTSWAPPED(cnp.ndarray a)

cdef enum:
    MOST_DIMS = 64                  # NumPy's own limit
    LINE = 64                       # bytes of a cache line
    PAGE = 4096
    # np.shares_memory is exact and can take exponential time; past this it counts as shared.
    OVERLAP_EFFORT = 1_000_000

cdef int FLAT_PARAM = cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
cdef int FLAT_GRAD = cnp.NPY_ARRAY_ALIGNED


@cython.final
cdef class Param:
    """What is kept for one key: its layout, its state, its step count."""

    cdef object key
    cdef readonly tuple state               # one array per slot, shaped like the parameter
    cdef readonly Py_ssize_t t              # completed updates of this parameter
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
    cdef object seen                        # where a copied parameter lay: address and strides

    cdef bint fits(self, cnp.ndarray a):
        """Whether an array has this parameter's shape."""
        return (cnp.PyArray_NDIM(a) == self.ndim
                and memcmp(cnp.PyArray_DIMS(a), self.dims, self.ndim * sizeof(cnp.npy_intp)) == 0)

    cdef bint lies_flat(self, cnp.ndarray a, int needs):
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


cdef Param new_param(object key, cnp.ndarray a, int slots):
    """Return the record of a key, with fresh state in the layout of its first array."""
    cdef Param one = Param.__new__(Param)
    cdef cnp.ndarray pattern = np.empty_like(a, order="K", subok=False)
    cdef int k
    one.key = key
    one.dtype = np.dtype(a.dtype.type)
    one.type_num = cnp.PyArray_TYPE(a)
    one.shape = (<object> a).shape
    one.ndim = cnp.PyArray_NDIM(a)
    one.size = cnp.PyArray_SIZE(a)
    one.order = cnp.PyArray_FLAGS(pattern) & (
        cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    )
    memcpy(one.dims, cnp.PyArray_DIMS(a), one.ndim * sizeof(cnp.npy_intp))
    memcpy(one.strides, cnp.PyArray_STRIDES(pattern), one.ndim * sizeof(cnp.npy_intp))
    one.state = tuple([one.like(k + 1) for k in range(slots)])
    for k in range(slots):
        one.s[k] = <Py_ssize_t> cnp.PyArray_DATA(one.state[k])
    return one


# ---------------------------------------------------------------- checks of one array

cdef object checked_array(str name, object a):
    """Return a as a plain ndarray of float32 or float64, or say what it should have been."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, and whether masked elements shall move is not said; "
            f"pass {name}.filled(0) or {name}.data"
        )
    if not isinstance(a, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array of float32 or float64, got {type(a).__name__}"
        )
    dtype = a.dtype
    if dtype.type is not np.float32 and dtype.type is not np.float64:
        raise TypeError(
            f"{name} must be float32 or float64, got {dtype}; "
            f"convert it first: {name}.astype(np.float32)"
        )
    if not dtype.isnative:
        raise TypeError(
            f"{name} has dtype {dtype.str}, which is not this machine's byte order; "
            f"convert it first: {name}.astype('={dtype.str[1:]}')"
        )
    return a.view(np.ndarray) if type(a) is not np.ndarray else a


cdef bint is_scalar(object x):
    """Whether x is a real number of Python or NumPy (a bool is not)."""
    return isinstance(x, (int, float, np.floating, np.integer)) and not isinstance(x, bool)


cpdef object checked_param(object key, object p):
    """Return a parameter as an array that may be written; a float in a new 0-d array."""
    name = f"params[{key!r}]"
    if isinstance(p, (float, np.floating)):
        return checked_array(name, np.array(p))
    if isinstance(p, (int, np.integer)):
        raise TypeError(
            f"{name} must be a float or an array of float32 or float64, got {p!r} "
            f"({type(p).__name__}); an integer cannot hold what an update makes of it"
        )
    a = checked_array(name, p)
    if not a.flags.writeable:
        raise ValueError(
            f"{name} is read-only, and an update writes in place; "
            f"pass a writable array (a copy, or a memmap opened with mode 'r+')"
        )
    return a


cpdef object checked_grad(object key, object g, object dtype, tuple shape):
    """Return a gradient as an array of the parameter's dtype and shape."""
    name = f"grads[{key!r}]"
    if shape == () and is_scalar(g):
        if isinstance(g, np.floating) and type(g) is not np.float64 and g.dtype != dtype:
            raise TypeError(f"{name} is {g.dtype}, params[{key!r}] is {dtype}: convert one of them")
        return np.array(g, dtype=dtype)
    a = checked_array(name, g)
    if a.shape != shape:
        hint = "reshape it" if a.size == np.prod(shape) else "gradients are never broadcast"
        raise ValueError(
            f"{name} has shape {a.shape}, but params[{key!r}] has shape {shape}; {hint}"
        )
    if a.dtype != dtype:
        raise TypeError(
            f"{name} is {a.dtype}, but params[{key!r}] is {dtype}; "
            f"convert the gradient: grads[{key!r}].astype(np.{dtype})"
        )
    return a


def overlaps_itself(object a):
    """Whether two elements of an array lie in the same place."""
    if a.size < 2:
        return False
    axes = sorted((abs(stride), n) for stride, n in zip(a.strides, a.shape, strict=True) if n > 1)
    reach = a.itemsize
    for stride, n in axes:
        if stride < reach:
            break
        reach += stride * (n - 1)
    else:
        return False                # each axis steps over all that the axes inside it reach
    places = np.zeros((), np.intp)
    for stride, n in zip(a.strides, a.shape, strict=True):
        places = places[..., None] + np.arange(n) * stride
    places = np.sort(places, axis=None)
    return bool((np.diff(places) < a.itemsize).any())


cdef bint share_memory(object a, object b):
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_EFFORT)
    except np.exceptions.TooHardError:
        return True


# ---------------------------------------------------------------- checks of the two containers

cpdef dict as_dict(str name, object x):
    """Return a mapping, or a list of arrays keyed by position, as a dict."""
    if type(x) is dict:
        return x
    if isinstance(x, Mapping) or (hasattr(x, "keys") and hasattr(x, "__getitem__")):
        return {key: x[key] for key in x.keys()}
    if isinstance(x, (list, tuple)):
        return dict(enumerate(x))
    if isinstance(x, np.ndarray):
        hint = f"; put the array into a dict or a list: {name} = {{'W': array}}"
    else:
        hint = ""
    raise TypeError(
        f"{name} must be a dict or a list of NumPy arrays, got {type(x).__name__}{hint}"
    )


def keys_error(dict params, dict grads):
    """Return the KeyError for two dicts whose keys differ."""
    missing = [key for key in params if key not in grads]
    unknown = [key for key in grads if key not in params]
    parts = []
    if missing:
        parts.append(f"grads has no {', '.join(map(repr, missing))}, which params has")
    if unknown:
        parts.append(f"grads has {', '.join(map(repr, unknown))}, which params has not")
    close = [
        (key, other[0]) for key in missing if isinstance(key, str)
        for other in [get_close_matches(key, [u for u in unknown if isinstance(u, str)], 1)] if other
    ]
    text = "; ".join(parts)
    if close:
        text += ". Did you mean " + ", ".join(f"{u!r} for {key!r}" for key, u in close) + "?"
    elif missing:
        text += ". To leave a parameter as it is, give None as its gradient"
    return KeyError(text)


cpdef int check_containers(
    object given_params, object given_grads, dict params, dict grads
) except -1:
    """Refuse two containers of different kinds or lengths."""
    if isinstance(given_params, (list, tuple)) != isinstance(given_grads, (list, tuple)):
        raise TypeError(
            f"params and grads must both be dicts or both be lists, got "
            f"{type(given_params).__name__} and {type(given_grads).__name__}"
        )
    if len(params) != len(grads):
        if isinstance(given_params, (list, tuple)):
            raise ValueError(
                f"params has {len(params)} arrays, grads has {len(grads)}; for a parameter "
                f"to leave as it is, put None in its place"
            )
        raise keys_error(params, grads)
    return 0


cpdef int check_write_back(object params, object key, object p) except -1:
    """Refuse a container that cannot take the new value of a float."""
    if isinstance(params, tuple) or not hasattr(params, "__setitem__"):
        raise TypeError(
            f"params[{key!r}] is a {type(p).__name__}, whose new value must be written "
            f"back, but {type(params).__name__} cannot be written; use a dict, a list, or "
            f"0-d arrays"
        )
    return 0


# ---------------------------------------------------------------- overlaps

def refuse_shared_memory(list arrays):
    """Where extents overlap, see exactly whether elements do (columns of one table do not)."""
    reached = []                    # those that end beyond the start of the one looked at
    for name, a in sorted(arrays, key=lambda pair: byte_bounds(pair[1])[0]):
        low = byte_bounds(a)[0]
        reached = [pair for pair in reached if byte_bounds(pair[1])[1] > low]
        for other, b in reached:
            if share_memory(a, b):
                raise ValueError(
                    f"{other} and {name} share memory, which would be updated twice; keep one "
                    f"key per array (for tied weights: one key, the sum of the gradients)"
                )
        reached.append((name, a))


cdef struct Extent:
    Py_ssize_t low
    Py_ssize_t high


cdef Extent[::1] new_extents(Py_ssize_t capacity):
    cdef Extent one
    return np.zeros(capacity, dtype=np.asarray(<Extent[:1]> &one).dtype)


cdef int by_low(const void *a, const void *b) noexcept nogil:
    cdef Py_ssize_t low_a = (<const Extent *> a).low, low_b = (<const Extent *> b).low
    return (low_a > low_b) - (low_a < low_b)


cdef inline Py_ssize_t bytes_of(Param one) noexcept:
    return one.size * (8 if one.type_num == cnp.NPY_DOUBLE else 4)


# ---------------------------------------------------------------- the collector

@cython.final
cdef class Collector:
    """All keys of one optimizer, and the table that its next update will walk.

    Parameters
    ----------
    slots : tuple of str
        Names of the rule's state arrays, in the kernel's order.
    """

    cdef tuple slot_names
    cdef readonly dict slots                # slot name → {key: array}
    cdef readonly Py_ssize_t iter           # completed updates
    cdef dict entries                       # key → Param
    cdef bint busy
    cdef list active                        # the Params of this call, in the table's order
    cdef list last                          # and of the call before
    cdef list fresh                         # of these, the ones seen for the first time
    cdef bint copies                        # whether any Param of this call is copied
    cdef bint moved                         # whether what is written differs from the call before
    cdef bint grads_moved
    cdef Span[::1] spans
    cdef float[:, ::1] c32
    cdef double[:, ::1] c64
    cdef Extent[::1] written                # by start; an end is the furthest up to there
    cdef Py_ssize_t n_written

    def __cinit__(self, tuple slots):
        if len(slots) > MAX_SLOTS:
            raise ValueError(f"a rule can have {MAX_SLOTS} state slots, got {len(slots)}")
        self.slot_names = slots
        self.slots = {name: {} for name in slots}
        self.entries = {}
        self.last = []
        self.moved = True
        self.spans = new_table(8)
        self.written = new_extents(8)
        self.c32 = np.zeros((1, 1), np.float32)
        self.c64 = np.zeros((1, 1), np.float64)

    def update(self, object params, object grads, object capsule, object coefficients):
        """Apply one update of a rule to params, in place.

        Parameters
        ----------
        params, grads : mapping or list
        capsule : the rule
        coefficients : callable, t → tuple of float
            The rule's scalars at a parameter's t-th update.
        """
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of an update in another thread; "
                "give each thread its own optimizer, or a lock around update"
            )
        cdef Pipeline line
        cdef Param one
        cdef Py_ssize_t count
        line.rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
        line.prepare32 = NULL
        line.prepare64 = NULL
        line.finish32 = NULL
        line.finish64 = NULL
        self.busy = True
        self.active = []
        self.fresh = []
        self.copies = False
        self.grads_moved = False
        try:
            count = self.collect(params, grads)
            self.set_coefficients(line.rule, coefficients)
            self.check_overlaps()
            if self.copies:
                self.copy_in()
            with nogil:
                run(&line, self.spans, count, self.c32, self.c64)
            self.commit()
            if self.copies:
                self.copy_out(params)
        except BaseException:
            self.moved = True       # the table holds rows that were never checked as a whole
            raise
        finally:
            for one in self.active:
                one.param = None
                one.grad = None
            self.busy = False

    # ------------------------------------------------ table

    cdef Py_ssize_t collect(self, object given_params, object given_grads) except -1:
        """Check every key and write its row of the table; return how many."""
        cdef dict params = as_dict("params", given_params)
        cdef dict grads = as_dict("grads", given_grads)
        cdef Py_ssize_t count = 0, first = 0, n_last = len(self.last)
        cdef Param one
        cdef Span *row
        cdef void *found
        cdef Py_ssize_t p_address, g_address
        cdef object key, p, g
        check_containers(given_params, given_grads, params, grads)
        if len(params) > self.spans.shape[0]:
            self.spans = new_table(2 * len(params))
            self.moved = True
        for key, p in params.items():
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
            if not (
                type(g) is cnp.ndarray and cnp.PyArray_TYPE(g) == one.type_num
                and one.fits(g) and one.lies_flat(g, FLAT_GRAD)
            ):
                self.unusual_grad(key, g, one)
            else:
                one.copied_grad = False
            p_address = <Py_ssize_t> cnp.PyArray_DATA(one.own_param if one.copied_param else p)
            g_address = <Py_ssize_t> cnp.PyArray_DATA(one.own_grad if one.copied_grad else g)
            row = &self.spans[count]
            if row.p != p_address or row.n != one.size:
                self.moved = True
            if row.g != g_address:
                self.grads_moved = True
            row.p = p_address
            row.g = g_address
            row.s = one.s
            row.n = one.size
            row.first = first
            row.wide = one.type_num == cnp.NPY_DOUBLE
            first += blocks_of(one.size)
            count += 1
        if count == 0 and len(params) > 0:
            raise ValueError("every gradient is None: there is nothing to update")
        if count != n_last:
            self.moved = True
        return count

    cdef Param unusual_param(self, object params, object key, object p, Param one):
        """Admit a parameter that is new or does not lie flat, or say why not."""
        a = checked_param(key, p)
        if a is not p and not isinstance(p, np.ndarray):
            check_write_back(params, key, p)
        if one is not None and not self.slot_names and (
            one.shape != a.shape or one.dtype != a.dtype
        ):
            one = None              # without state there is nothing that could not fit
        if one is None:
            one = new_param(key, a, len(self.slot_names))
            self.fresh.append(one)
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
        if isinstance(p, np.ndarray):
            one.copied_param = not one.lies_flat(a, FLAT_PARAM)
            if one.copied_param:
                where = (<Py_ssize_t> cnp.PyArray_DATA(a), a.strides)
                if one.seen != where:
                    if overlaps_itself(a):
                        raise ValueError(
                            f"params[{key!r}] overlaps itself (strides {a.strides}, shape "
                            f"{a.shape}): an element would be updated more than once; pass a copy"
                        )
                    one.seen = where
                    self.moved = True
        else:
            one.copied_param = True
        if one.copied_param:
            self.copies = True
            if one.own_param is None:
                one.own_param = one.like(0)
        return one

    cdef int unusual_grad(self, object key, object g, Param one) except -1:
        """Admit a gradient that does not lie like the state, or say why not."""
        a = checked_grad(key, g, one.dtype, one.shape)
        one.copied_grad = not isinstance(g, np.ndarray) or not one.lies_flat(a, FLAT_GRAD)
        if one.copied_grad:
            self.copy_grad(one)
        return 0

    cdef int copy_grad(self, Param one) except -1:
        self.copies = True
        one.copied_grad = True
        if one.own_grad is None:
            one.own_grad = one.like(MAX_SLOTS + 1)
        return 0

    # ------------------------------------------------ coefficients

    cdef int set_coefficients(self, const Rule *rule, object coefficients) except -1:
        """Let each row point at the coefficients of its parameter's step count."""
        cdef Py_ssize_t k, t, last_t = -1, last_row = -1
        cdef dict rows = {}
        cdef Param one
        for k in range(len(self.active)):
            one = <Param> self.active[k]
            t = one.t + 1
            if t != last_t:
                if t not in rows:
                    rows[t] = self.coefficient_row(len(rows), rule, coefficients(t))
                last_t, last_row = t, rows[t]
            self.spans[k].c = last_row
        return 0

    cdef Py_ssize_t coefficient_row(self, Py_ssize_t row, const Rule *rule, tuple values) except -1:
        cdef int k
        cdef double x
        if len(values) != rule.coefs:
            raise ValueError(
                f"the rule {rule.name.decode()!r} has {rule.coefs} coefficients, got {len(values)}"
            )
        if row >= self.c64.shape[0] or rule.coefs > self.c64.shape[1]:
            shape = (2 * row + 1, max(1, rule.coefs))
            c32, c64 = np.zeros(shape, np.float32), np.zeros(shape)
            if rule.coefs <= self.c64.shape[1]:
                c32[:row] = self.c32[:row]
                c64[:row] = self.c64[:row]
            self.c32, self.c64 = c32, c64
        for k in range(rule.coefs):
            x = values[k]
            self.c64[row, k] = x
            self.c32[row, k] = rounded(x)
            if not isfinite(x):
                raise ValueError(f"the hyperparameters give a coefficient of {x}; got {values}")
            if not isfinite(self.c32[row, k]) and self.any_float32():
                raise ValueError(
                    f"the hyperparameters give a coefficient of {x}, which float32 cannot hold"
                )
        return row

    cdef bint any_float32(self):
        cdef Param one
        return any([one.type_num == cnp.NPY_FLOAT for one in self.active])

    # ------------------------------------------------ overlaps

    cdef int check_overlaps(self) except -1:
        """Refuse two written arrays on one memory; copy gradients that lie on written memory."""
        cdef Param one
        cdef Span *row
        cdef Py_ssize_t k
        if self.moved:
            self.list_written()
        if self.moved or self.grads_moved:
            for k in range(len(self.active)):
                one = <Param> self.active[k]
                row = &self.spans[k]
                if not one.copied_grad and self.is_written(row.g, row.g + bytes_of(one)):
                    self.copy_grad(one)
                    row.g = <Py_ssize_t> cnp.PyArray_DATA(one.own_grad)
        return 0

    cdef int list_written(self) except -1:
        """Sort all that will be written by address; refuse overlaps."""
        cdef Param one
        cdef Py_ssize_t k = 0, n, i, most = len(self.active) * (1 + len(self.slot_names))
        cdef bint doubtful = False
        if most > self.written.shape[0]:
            self.written = new_extents(2 * most)
        for i in range(len(self.active)):
            one = <Param> self.active[i]
            if one.size == 0:
                continue
            if not one.copied_param:
                self.written[k] = Extent(self.spans[i].p, self.spans[i].p + bytes_of(one))
                k += 1
            elif isinstance(one.param, np.ndarray):
                low, high = byte_bounds(one.param)
                self.written[k] = Extent(low, high)
                k += 1
            for n in range(len(one.state)):
                self.written[k] = Extent(one.s[n], one.s[n] + bytes_of(one))
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
            refuse_shared_memory(self.named_arrays())
        return 0

    cdef list named_arrays(self):
        """All that will be written, with the names that a message would use."""
        cdef Param one
        arrays = []
        for one in self.active:
            if isinstance(one.param, np.ndarray):
                arrays.append((f"params[{one.key!r}]", one.param))
            for name, a in zip(self.slot_names, one.state, strict=True):
                arrays.append((f"the optimizer's {name}[{one.key!r}]", a))
        return arrays

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

    # ------------------------------------------------ before and after

    cdef int copy_in(self) except -1:
        cdef Param one
        for one in self.active:
            if one.copied_param:
                one.own_param[...] = one.param
            if one.copied_grad:
                one.own_grad[...] = one.grad
        return 0

    cdef int copy_out(self, object params) except -1:
        cdef Param one
        for one in self.active:
            if not one.copied_param:
                continue
            if isinstance(one.param, np.ndarray):
                one.param.view(np.ndarray)[...] = one.own_param
            elif type(one.param) is float:
                params[one.key] = one.own_param.item()
            else:
                params[one.key] = one.own_param[()]
        return 0

    cdef int commit(self) except -1:
        cdef Param one
        for one in self.fresh:
            self.entries[one.key] = one
            for name, a in zip(self.slot_names, one.state, strict=True):
                self.slots[name][one.key] = a
        for one in self.active:
            one.t += 1
        self.iter += 1
        self.last = self.active
        self.moved = False
        return 0
