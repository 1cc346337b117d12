"""The caller's parameters: checked, moved with the point, and given back; and where they lie.

The point x is in the caller's own array if that lies flat: aligned, in this machine's byte order, in
the order of the first array under its key. An array of any other layout and a number have a flat
copy. The copy is written to them after each pass, and arrays are read back after each call of fn.
"""

import numpy as np
from numpy.lib.array_utils import byte_bounds

cimport cython
cimport numpy as cnp

from fastoptim.kernels.update.checks.arrays import checked_param
from fastoptim.kernels.update.checks.containers import as_dict, check_keeps_its_arrays, check_write_back
from fastoptim.kernels.update.checks.overlap import overlaps_itself, refuse_shared_memory

from fastoptim.kernels.ode.columns cimport Columns, lies_like

cnp.import_array()


@cython.final
cdef class CallerParams:
    """Parameters as they were given. To make one checks them and writes nothing of the caller's."""

    def __cinit__(self, object params):
        cdef dict d = as_dict("params", params)
        check_keeps_its_arrays(params, d)
        self.given = params
        self.keys = list(d)
        self.originals = list(d.values())
        self.shown = list(self.originals)
        self.arrays, self.views = [], []
        for key, p in d.items():
            a = checked_param(key, p)
            if isinstance(p, np.ndarray):
                a = a.view()        # our own view: fn may give the caller's array another shape
                self.views.append(a)
            else:
                check_write_back("params", params, key, p)
                self.views.append(None)
            self.arrays.append(a)

    cdef int lay_out(self, Columns columns) except -1:
        """Choose where the point is: in the caller's array if it lies as ours do, else in a copy."""
        cdef Py_ssize_t k
        self.x, self.copied = [], []
        for k in range(len(self.keys)):
            a = self.arrays[k]
            if self.views[k] is None or not lies_like(a, columns.base[k]):
                flat = columns.flat(columns.flat_params, k)
                cnp.PyArray_CopyInto(flat, a)
                a = flat
                self.copied.append(k)
            self.x.append(a)
        return 0

    # ---------------------------------------------------------------- while fn looks at them

    cdef int show(self, bint base=False) except -1:
        """Copy x to the caller's arrays and numbers, if it is in a copy."""
        cdef Py_ssize_t k
        for k in self.copied:
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.views[k], self.x[k])
            else:
                p = self.originals[k]
                self.shown[k] = p if base else number_like(p, self.x[k])
                self.given[self.keys[k]] = self.shown[k]
        return 0

    cdef int fetch(self) except -1:
        """Copy arrays of other layouts back to x, so that its digest shows what fn wrote."""
        cdef Py_ssize_t k
        for k in self.copied:
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.x[k], self.views[k])
        return 0

    cdef int check_unchanged(self) except -1:
        """Refuse a mapping that fn has changed."""
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

    cdef object with_values(self, list arrays):
        """Return a dict or a list like the one given, of views that cannot be written, and numbers."""
        values = [
            sealed(a) if isinstance(p, np.ndarray) else number_like(p, a)
            for a, p in zip(arrays, self.originals, strict=True)
        ]
        if isinstance(self.given, (list, tuple)):
            return values
        return dict(zip(self.keys, values, strict=True))

    # ---------------------------------------------------------------- when something was raised

    cdef int restore(self, list base, object problem) except -1:
        """Restore the caller's arrays and mapping to the base point, whatever fn did to them."""
        cdef Py_ssize_t k
        for k in range(len(self.keys)):
            if self.views[k] is not None:
                cnp.PyArray_CopyInto(self.views[k], base[k])
        if type(self.given) is dict or type(self.given) is list:
            if not self.holds_originals():
                whole = dict(zip(self.keys, self.originals, strict=True))
                self.given.clear()
                if type(self.given) is dict:
                    self.given.update(whole)
                else:
                    self.given.extend(self.originals)
            return 0
        for _ in range(2):                  # the first may be interrupted
            try:
                self.put_back()
                return 0
            except BaseException as again:
                trouble = again
        problem.add_note(f"params could not be given back what they held: {trouble!r}")
        return 0

    cdef int put_back(self) except -1:
        """Put the objects that a mapping (not a dict) had back into it."""
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

    cdef bint holds_originals(self) except -1:
        """Whether a dict or a list holds the objects that it had and no others, in this order."""
        if len(self.given) != len(self.originals):
            return False
        values = self.given
        if type(self.given) is dict:
            values = self.given.values()
            if list(self.given) != self.keys:
                return False
        for now, then in zip(values, self.originals, strict=True):
            if now is not then:
                return False
        return True


cdef bint is_still(object now, object then, object view) except -1:
    """Whether a mapping's entry is the same object as before, or an equal one.

    Some mappings make a new view or a new number at each access.
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
    cdef int n = cnp.PyArray_NDIM(a)
    return (
        cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
        and n == cnp.PyArray_NDIM(b)
        and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b), n)
        and cnp.PyArray_CompareLists(cnp.PyArray_STRIDES(a), cnp.PyArray_STRIDES(b), n)
    )


cdef object number_like(object p, object a):
    """Return the element of a 0-d array as a number of p's type."""
    return a.item() if type(p) is float else a[()]


cdef object sealed(object a):
    """Return a read-only view, because the memory is used again."""
    view = a.view()
    view.flags.writeable = False
    return view


@cython.final
cdef class ParamMemory:
    """The memory of the parameters.

    The overlap check is expensive, so it runs only if an address or a stride differs from the call
    before.
    """

    def __cinit__(self):
        self.lows = self.highs = np.zeros(0, np.intp)

    cdef int forget(self) except -1:
        """Check everything anew: other arrays may lie at the same addresses."""
        self.found_apart = None
        return 0

    cdef int check(self, CallerParams params, Columns own) except -1:
        """Refuse parameters that share memory; note where they lie. A number has no view."""
        where = [
            (None if view is None else <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> a), a.strides)
            for a, view in zip(params.arrays, params.views, strict=True)
        ]
        if where != self.found_apart:
            self.found_apart = None
            self.check_all(params.keys, params.views, own)
            self.found_apart = where
        return 0

    cdef int check_all(self, list keys, list views, Columns own) except -1:
        """Refuse overlaps; list the memory of the parameters."""
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
            if a.size and own is not None and low < own.high and high > own.low:
                raise ValueError(
                    f"params[{key!r}] is memory of this optimizer's own, which is used again at "
                    f"every step; pass a copy"
                )
            named.append((f"params[{key!r}]", a))
            if a.size:
                bounds.append((low, high))
        refuse_shared_memory(named)
        for low, high in sorted(bounds):
            if last is not None and low < last[1]:  # views whose elements lie between each other's
                last[1] = max(high, last[1])
            else:
                last = [low, high]
                apart.append(last)
        self.lows = np.array([pair[0] for pair in apart], np.intp)
        self.highs = np.array([pair[1] for pair in apart], np.intp)
        return 0

    cdef bint is_reached_by(self, cnp.ndarray a) except -1:
        """Whether an array reaches into the memory of the parameters."""
        cdef Py_ssize_t low = <Py_ssize_t> cnp.PyArray_DATA(a), high, first = 0, beyond, middle
        if cnp.PyArray_SIZE(a) == 0:
            return False
        if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
            high = low + cnp.PyArray_NBYTES(a)
        else:
            low, high = byte_bounds(a)
        beyond = self.lows.shape[0]
        while first < beyond:               # the first parameter that ends behind its start
            middle = (first + beyond) // 2
            if self.highs[middle] > low:
                beyond = middle
            else:
                first = middle + 1
        return first < self.lows.shape[0] and self.lows[first] < high
