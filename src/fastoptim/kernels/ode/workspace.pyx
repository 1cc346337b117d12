"""Parameters as a point in space, which moves while a function is evaluated, and comes back.

 a) fn is called with the caller's own mapping, whose arrays hold the point x at which the gradient
    is wanted: people's networks read the arrays that they hold, not an argument. The base point y,
    where the step started, is kept in memory of ours meanwhile. Whatever is raised, wherever, the
    caller's arrays and numbers are the base point again before the exception leaves (`session`).
 b) x is the caller's memory itself where it lies flat (this machine's byte order, aligned, in the
    order of memory of the first array seen under its key). Any other layout, and numbers, are
    copied from a flat buffer after each pass, and arrays back into it after each call of fn.
 c) fn must leave x as it is. That the mapping holds the same arrays is compared after each call;
    that they hold the same bits is found out by the pass that next reads or overwrites x anyway
    (runge_kutta.pxi), at the latest before the step is accepted.
 d) A gradient is read where fn left it, unless it lies otherwise or reaches into the parameters (fn
    may return those: the gradient of ½|p|² is p); then it is copied.
 e) All columns are allocated once, when keys, shapes or dtypes are not those of the call before.

The passes over memory, x and y having changed places: what used to be the copy of the parameters
to x at the start is the saving of them to y, and the copy of x to the parameters at the end is gone.
Of Heun that makes 3 passes in place of 4, of RK45 7 in place of 8, with tolerances 8 in place of 9
(with `deterministic` as many as before: one to compare, one to keep x for the comparison). Measured,
1 M float32, one thread, fastest of 12, after and before: Heun 1.48 and 1.69 ms, RK45 5.8 and 5.9, with
tolerances 6.6 and 6.7.

Look-ahead has one pass more, from the position back to the base point: 1.21 and 0.86 ms. In the pass
of the update, a parameter that fn has altered would be found when its velocity is overwritten already.
"""

import numpy as np
from numpy.lib.array_utils import byte_bounds

cimport cython
cimport numpy as cnp

from fastoptim.kernels.update.checks.arrays import checked_grad, checked_param
from fastoptim.kernels.update.checks.containers import (
    as_dict,
    check_containers,
    check_keeps_its_arrays,
    check_write_back,
    keys_error,
)
from fastoptim.kernels.update.checks.overlap import overlaps_itself, refuse_shared_memory
from fastoptim.kernels.update.checks.row_grads import is_sparse
from fastoptim.kernels.instruction_sets import PASSES
from fastoptim.kernels.ode.passes import Sweep
from fastoptim.rows import Rows

cnp.import_array()

cdef enum:
    LINE = 64                   # bytes of a cache line
    PAGE = 4096
    STAGGER = 448               # between columns within a page; new_like in update/store.pyx says why


@cython.final
cdef class Points:
    """The caller's parameters as a point that moves, and columns of arrays like them.

    Parameters
    ----------
    n_columns : int
        How many columns to allocate besides the base point.
    """

    cdef int n_columns
    cdef readonly list keys
    cdef readonly list x            # the point: the caller's memory, or flat copies of it
    cdef readonly list y            # the base point
    cdef readonly list columns      # further lists of arrays
    cdef readonly object sweep
    cdef readonly bint busy
    cdef list shapes, kinds         # of the arrays, as of the last allocation
    cdef list own_x, own_g          # copies where a layout asks for them; None where none did yet
    cdef list detours               # which of x are copies
    cdef list views                 # the caller's arrays as they came, None for a number
    cdef list originals             # the caller's objects
    cdef list shown                 # the objects that the caller's mapping should hold now
    cdef list where                 # addresses and strides that were found apart
    cdef Py_ssize_t[::1] lows, highs    # the memory of the caller's arrays, apart and in order
    cdef Py_ssize_t low, high       # the memory of y
    cdef readonly object given      # the caller's container
    cdef object kept                # of the step before, if its x is y and its slopes are columns[0]
    cdef list missing               # which gradients are None at every stage of this step
    cdef bint same                  # whether the arrays are like those of the call before
    cdef bint away                  # whether y is the base point and x may be another

    def __cinit__(self, int n_columns):
        self.n_columns = n_columns
        self.shapes = self.kinds = self.keys = None
        self.lows = self.highs = np.zeros(0, np.intp)

    def __deepcopy__(self, memo):
        return Points(self.n_columns)       # nothing in here outlives a step but memory

    # ---------------------------------------------------------------- a session

    def session(self, object params, object body):
        """Take parameters in, let a function work on them, and let go of them.

        Parameters
        ----------
        params : dict, list or any mapping
        body : callable
            body() returns (result, state, changes, kept). It calls the methods below. When it has
            returned, `state`, a dict, is updated with `changes`; nothing can come between that and
            the parameters, for no Python code runs here. `kept` is for `start` of the next session.

        Returns
        -------
        result

        Notes
        -----
        Whatever `body` raises, the parameters are back at the base point, and `state` is as it was.
        """
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of a step, in another thread or in fn itself; "
                "give each its own optimizer"
            )
        self.busy = True
        self.away = False
        try:
            self.take(params)
            self.sweep.begin()
            result, state, changes, kept = body()
            self.sweep.end()
            (<dict> state).update(changes)
            self.away = False
            if kept is not None:
                self.sweep.run(PASSES["copy"], (self.y, self.x))
                self.kept = kept
            return result
        except BaseException as problem:
            if self.away:
                self.restore(problem)
            raise
        finally:
            self.given = self.originals = self.shown = self.views = self.x = None
            self.away = False
            self.busy = False

    cdef int take(self, object params) except -1:
        """Check parameters and take them in; nothing of the caller's is written."""
        cdef dict d = as_dict("params", params)
        check_keeps_its_arrays(params, d)
        cdef list arrays = [], views = [], keys = list(d)
        cdef Py_ssize_t k
        for key, p in d.items():
            a = checked_param(key, p)
            if isinstance(p, np.ndarray):
                a = a.view()        # of our own: fn may give the caller's another shape
                views.append(a)
            else:
                check_write_back("params", params, key, p)
                views.append(None)
            arrays.append(a)
        shapes = [a.shape for a in arrays]
        kinds = [a.dtype for a in arrays]
        where = [
            (None if view is None else <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> a), a.strides)
            for a, view in zip(arrays, views, strict=True)
        ]
        self.same = keys == self.keys and shapes == self.shapes and kinds == self.kinds
        if not self.same or where != self.where:
            self.where = None
            self.check_overlaps(keys, views)
        if not self.same:
            self.allocate(keys, arrays)
        self.where = where
        self.x = []
        self.detours = []
        for k in range(len(arrays)):
            a = arrays[k]
            if views[k] is None or not lies_like(a, self.y[k]):
                if self.own_x[k] is None:
                    self.own_x[k] = np.empty_like(self.y[k], order="K")
                cnp.PyArray_CopyInto(self.own_x[k], a)
                a = self.own_x[k]
                self.detours.append(k)
            self.x.append(a)
        self.views = views
        self.originals = list(d.values())
        self.shown = list(self.originals)
        self.given = params
        return 0

    cdef int allocate(self, list keys, list arrays) except -1:
        cdef int n
        self.keys = self.kept = None        # so that a failed allocation leaves nothing half new
        pattern = [np.empty_like(a, order="K", subok=False) for a in arrays]
        self.y, self.low, self.high = column(pattern, 0)
        self.columns = [column(pattern, n + 1)[0] for n in range(self.n_columns)]
        self.own_x = [None] * len(arrays)
        self.own_g = [None] * len(arrays)
        self.sweep = Sweep(self.y)
        self.shapes = [a.shape for a in arrays]
        self.kinds = [a.dtype for a in arrays]
        self.keys = keys
        return 0

    cdef int check_overlaps(self, list keys, list views) except -1:
        """Refuse what would be written twice; note where the parameters lie."""
        cdef list named = [], bounds = [], apart = [], last = None
        for key, a in zip(keys, views, strict=True):
            if a is None:
                continue
            if overlaps_itself(a):
                raise ValueError(
                    f"params[{key!r}] overlaps itself (strides {a.strides}, shape {a.shape}): an "
                    f"element would be updated more than once; pass a copy"
                )
            low, high = byte_bounds(a)
            if a.size and low < self.high and high > self.low:
                raise ValueError(
                    f"params[{key!r}] is memory of this optimizer's own, which is used again at "
                    f"every step; pass a copy"
                )
            named.append((f"params[{key!r}]", a))
            if a.size:
                bounds.append((low, high))
        refuse_shared_memory(named)
        for low, high in sorted(bounds):
            if last is not None and low < last[1]:  # views that lie between one another
                last[1] = max(high, last[1])
            else:
                last = [low, high]
                apart.append(last)
        self.lows = np.array([pair[0] for pair in apart], np.intp)
        self.highs = np.array([pair[1] for pair in apart], np.intp)
        return 0

    # ---------------------------------------------------------------- moving

    def start(self):
        """Keep the parameters as the base point.

        Returns
        -------
        object
            What the step before has kept, if the parameters have the bits that it has written:
            x then is y already, and columns[0] are the gradients there. Else None.
        """
        kept, self.kept = self.kept, None
        if kept is None or not self.sweep.same_bits(self.x, self.y):
            kept = self.missing = None
            self.sweep.move(PASSES["save"], self.x, None, (self.y,))
        self.away = True
        return kept

    def leap(self, list g, tuple coefficients, list rows):
        """Keep the parameters as the base point, and let x be y + c g."""
        self.kept = self.missing = None
        if g is None:
            self.sweep.move(PASSES["save"], self.x, None, (self.y,))
            self.away = True
            return
        self.sweep.move(PASSES["leap"], self.x, g, (self.y,), coefficients, rows)
        self.away = True
        self.show()

    def move(self, object capsule, list g, tuple columns, tuple coefficients=()):
        """Write the next point to x in one pass; the caller's arrays hold it then."""
        if not self.sweep.move(capsule, self.x, g, columns, coefficients):
            raise self.altered()
        self.show()

    def total(self, object capsule, list g, tuple columns, tuple coefficients):
        """Return a sum over all elements that a pass makes at x."""
        total = self.sweep.total(capsule, self.x, g, columns, coefficients)
        if self.sweep.altered >= 0:
            raise self.altered()
        return total

    def back(self):
        """Go back to the base point, in the middle of a session that is going well."""
        if not self.sweep.move(PASSES["restore"], self.x, None, (self.y,)):
            raise self.altered()
        self.show(True)
        self.away = False

    cdef object altered(self):
        return RuntimeError(
            f"fn altered params[{self.keys[self.sweep.altered]!r}]; they are the point at which the "
            f"gradient is wanted, and the step moves them: let fn only read them"
        )

    cdef int show(self, bint base=False) except -1:
        """Bring x to where the caller's arrays and numbers are, if they are elsewhere."""
        cdef Py_ssize_t k
        for k in self.detours:
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.views[k], self.x[k])
            else:
                p = self.originals[k]
                value = p if base else self.x[k].item() if type(p) is float else self.x[k][()]
                self.shown[k] = value
                self.given[self.keys[k]] = value
        return 0

    cdef int restore(self, object problem) except -1:
        """Make the caller's arrays and mapping the base point, whatever fn has done to them."""
        cdef Py_ssize_t k
        for k in range(len(self.keys)):
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.views[k], self.y[k])
        if type(self.given) is dict or type(self.given) is list:
            if not self.holds(self.originals):
                whole = dict(zip(self.keys, self.originals, strict=True))
                self.given.clear()
                if type(self.given) is dict:
                    self.given.update(whole)
                else:
                    self.given.extend(self.originals)
            return 0
        for _ in range(2):                  # what raised may have been an interrupt
            try:
                self.put_back()
                return 0
            except BaseException as again:
                trouble = again
        problem.add_note(f"params could not be given back what they held: {trouble!r}")
        return 0

    cdef int put_back(self) except -1:
        """Give a mapping that is no dict back the objects that it had."""
        cdef Py_ssize_t k
        if isinstance(self.given, tuple):
            return 0
        known = set(self.keys)
        now = list(as_dict("params", self.given))
        others = [key for key in now if key not in known]
        if [key for key in now if key in known] != self.keys:   # all anew, in their order
            others = now
        for key in others:
            del self.given[key]
        for k in range(len(self.keys)):
            key = self.keys[k]
            try:
                held = is_still(self.given[key], self.originals[k], self.views[k])
            except (KeyError, IndexError):
                held = False
            if not held:
                self.given[key] = self.originals[k]
        return 0

    cdef bint holds(self, list objects) except -1:
        """Whether a dict or a list holds these objects and no others, in this order."""
        if len(self.given) != len(objects):
            return False
        values = self.given
        if type(self.given) is dict:
            values = self.given.values()
            if list(self.given) != self.keys:
                return False
        for now, then in zip(values, objects, strict=True):
            if now is not then:
                return False
        return True

    # ---------------------------------------------------------------- what fn returned

    cdef int check_mapping(self) except -1:
        """Refuse what fn has put into or taken from the mapping."""
        cdef Py_ssize_t k
        now = as_dict("params", self.given)
        for k in range(len(self.keys)):
            key = self.keys[k]
            if key not in now:
                raise RuntimeError(f"fn removed params[{key!r}]; let fn only read the parameters")
            if not is_still(now[key], self.shown[k], self.views[k]):
                raise RuntimeError(
                    f"fn put something else in the place of params[{key!r}]; let fn only read "
                    f"the parameters"
                )
        if len(now) != len(self.keys):
            known = set(self.keys)
            new = next(key for key in now if key not in known)
            raise RuntimeError(f"fn added params[{new!r}]; let fn only read the parameters")
        return 0

    cdef int fetch(self) except -1:
        """Bring what fn has left in arrays of other layouts to x, whose digest is compared."""
        cdef Py_ssize_t k
        for k in self.detours:
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.x[k], self.views[k])
        return 0

    def gradients(self, object grads, bint of_fn=True):
        """Check gradients; return them as a list of arrays that lie as x does."""
        cdef list flat = []
        cdef Py_ssize_t k
        if of_fn:
            self.check_mapping()
            self.fetch()
        cdef dict d = as_dict("grads", grads)
        cdef dict params = dict.fromkeys(self.keys)
        check_containers(self.given, grads, params, d)
        for key in self.keys:
            if key not in d:
                raise keys_error(params, d)
        if d and all([g is None for g in d.values()]):
            raise ValueError("every gradient is None: there is nothing to update")
        if of_fn:
            self.check_missing([d[key] is None for key in self.keys])
        for k in range(len(self.keys)):
            flat.append(self.gradient(k, self.keys[k], d[self.keys[k]]))
        return flat

    cdef int check_missing(self, list missing) except -1:
        """Refuse a gradient that is None at one stage of a step and an array at another."""
        if self.missing is None:
            self.missing = missing
        for key, now, then in zip(self.keys, missing, self.missing, strict=True):
            if now != then:
                raise ValueError(
                    f"grads[{key!r}] is None at one stage of the step and not at another; None "
                    f"leaves a parameter where it is, so it must be None at all of them"
                )
        return 0

    cdef object gradient(self, Py_ssize_t k, object key, object g):
        cdef object a = None
        if g is not None:
            a = checked_grad(key, g, self.kinds[k], self.shapes[k])
            if isinstance(g, np.ndarray) and lies_like(a, self.y[k]) and not self.on_params(a):
                return a
        if self.own_g[k] is None:
            self.own_g[k] = np.empty_like(self.y[k], order="K")
        self.own_g[k][...] = 0 if a is None else a
        return self.own_g[k]

    def lasting(self, object grads, bint zero_grads):
        """Return gradients that stay what they are when the parameters go back to the base point.

        Those in the parameters' memory are copied, unless `zero_grads` asks for zeros in it, which
        is then refused where every such gradient is (collect.pyx).
        """
        self.check_mapping()
        self.fetch()
        d = as_dict("grads", grads)
        copies = {} if zero_grads else {
            key: copied(g) for key, g in d.items() if self.reaches_params(g)
        }
        if grads is not self.given and not copies:
            return grads
        if isinstance(grads, (list, tuple)):
            return [copies.get(key, g) for key, g in d.items()]
        return {key: copies.get(key, g) for key, g in d.items()}

    cdef bint reaches_params(self, object g) except -1:
        """Whether a gradient of any kind has an array in the parameters' memory."""
        if isinstance(g, np.ndarray):
            parts = [g]
        elif isinstance(g, Rows):
            parts = [g.index, g.values]
        elif is_sparse(g):
            parts = [
                getattr(g, name) for name in ("data", "indices", "indptr", "row", "col")
                if isinstance(getattr(g, name, None), np.ndarray)
            ]
        else:
            return False
        for a in parts:
            if self.on_params(a):
                return True
        return False

    cdef bint on_params(self, cnp.ndarray a) except -1:
        """Whether an array reaches into the memory of the parameters."""
        cdef Py_ssize_t low = <Py_ssize_t> cnp.PyArray_DATA(a), high, first = 0, beyond, middle
        if cnp.PyArray_SIZE(a) == 0:
            return False
        if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
            high = low + cnp.PyArray_NBYTES(a)
        else:
            low, high = byte_bounds(a)
        beyond = self.lows.shape[0]
        while first < beyond:               # the first parameter that ends beyond its start
            middle = (first + beyond) // 2
            if self.highs[middle] > low:
                beyond = middle
            else:
                first = middle + 1
        return first < self.lows.shape[0] and self.lows[first] < high

    # ---------------------------------------------------------------- a point of our own

    def ahead(self, list g, tuple coefficients, list rows):
        """Return the point x + c g in memory of ours, which cannot be written."""
        self.kept = None
        if g is None:
            self.sweep.run(PASSES["copy"], (self.y, self.x))
        else:
            self.sweep.run(PASSES["ahead"], (self.y, g, self.x), coefficients, rows)
        values = [
            sealed(y) if isinstance(p, np.ndarray) else y.item() if type(p) is float else y[()]
            for y, p in zip(self.y, self.originals, strict=True)
        ]
        if isinstance(self.given, (list, tuple)):
            return values
        return dict(zip(self.keys, values, strict=True))


cdef bint is_still(object now, object then, object view) except -1:
    """Whether a mapping's entry is what it was: that object, or one that is the same.

    Some mappings make a new view at each access, or a new number.
    """
    if now is then:
        if view is None:
            return True
    elif view is None:
        return type(now) is type(then) and np.asarray(now).tobytes() == np.asarray(then).tobytes()
    elif not isinstance(now, np.ndarray):
        return False
    cdef cnp.ndarray a = now
    cdef cnp.ndarray b = view
    cdef int k
    if (
        cnp.PyArray_DATA(a) != cnp.PyArray_DATA(b) or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b)
        or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(b)
    ):
        return False
    for k in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, k) != cnp.PyArray_DIM(b, k):
            return False
        if cnp.PyArray_STRIDE(a, k) != cnp.PyArray_STRIDE(b, k):
            return False
    return True


cdef object copied(object g):
    """Return a copy of a gradient of any kind."""
    if isinstance(g, Rows):
        return type(g)(g.index.copy(), g.values.copy(), unique=g.unique)
    return g.copy()


cdef object sealed(object y):
    """Return a view that cannot be written: the memory is used again."""
    view = y.view()
    view.flags.writeable = False
    return view


cdef bint lies_like(cnp.ndarray a, cnp.ndarray y):
    """Whether an array lies in memory element for element as one of ours of the same shape."""
    cdef int both = cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(y)
    if not both & cnp.NPY_ARRAY_ALIGNED:
        return False
    if both & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
        return True
    return (<object> a).strides == (<object> y).strides


cdef tuple column(list pattern, int which):
    """Return new arrays like those of a pattern, in one piece of memory, and its bounds.

    Each begins on a cache line.
    """
    starts, wanted = [], 0
    for a in pattern:
        starts.append(wanted)
        wanted += -(-a.nbytes // LINE) * LINE
    raw = np.zeros(wanted + PAGE, np.uint8)
    address = raw.__array_interface__["data"][0]
    offset = (which * STAGGER - address) % PAGE
    arrays = [
        np.ndarray(a.shape, a.dtype, raw, offset + start, a.strides)
        for a, start in zip(pattern, starts, strict=True)
    ]
    return arrays, address, address + raw.nbytes
