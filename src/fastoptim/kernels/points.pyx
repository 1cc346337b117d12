"""Parameters as a point in space: the caller's arrays, and columns of our own that look like them.

 a) A caller's array is read and written where it lies if it lies as ours do (this machine's byte
    order, aligned, in the order of memory of the first array seen under its key); any other is
    copied in at the start and back at the end.
 b) fn gets arrays of ours, never the caller's, so whatever it does the caller's hold what they held.
 c) A gradient is read where fn left it, unless it lies otherwise or on the arrays that fn was
    given (fn may return those: the gradient of ½|p|² is p); then it is copied.
 d) All columns are allocated once, when keys, shapes or dtypes are not those of the call before.
"""

import numpy as np
from numpy.lib.array_utils import byte_bounds

cimport cython
cimport numpy as cnp

from fastoptim.kernels.checks import (
    as_dict,
    check_containers,
    check_keeps,
    check_write_back,
    checked_grad,
    checked_param,
    keys_error,
    overlaps_itself,
    refuse_shared_memory,
)
from fastoptim.kernels.sweep import Sweep

cnp.import_array()

cdef enum:
    LINE = 64                   # bytes of a cache line
    PAGE = 4096
    STAGGER = 448               # between columns within a page; Param.like in collect.pyx says why


@cython.final
cdef class Points:
    """The caller's parameters, and columns of arrays like them.

    Parameters
    ----------
    n_columns : int
        How many columns to allocate besides the point that fn is given.
    """

    cdef int n_columns
    cdef readonly list keys
    cdef readonly list y            # the caller's parameters, or flat copies of them
    cdef readonly list x            # the point that fn is given
    cdef readonly list columns      # further lists of arrays
    cdef readonly object sweep
    cdef list shapes, kinds         # of the arrays, as of the last allocation
    cdef list own_y, own_g          # copies where a layout asks for them; None where none did yet
    cdef list copied                # which of y are copies
    cdef list originals             # the caller's, as they came
    cdef list where                 # addresses and strides that were found apart
    cdef object given               # the caller's container
    cdef Py_ssize_t low, high       # the memory of x
    cdef bint busy

    def __cinit__(self, int n_columns):
        self.n_columns = n_columns
        self.shapes = self.kinds = self.keys = None

    def __deepcopy__(self, memo):
        return Points(self.n_columns)       # nothing in here outlives a step but memory

    def load(self, object params):
        """Check parameters and take them in.

        Returns
        -------
        bool
            Whether they are the same keys, shapes and dtypes as in the call before.
        """
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of a step, in another thread or in fn itself; "
                "give each its own optimizer"
            )
        self.busy = True
        try:
            return self.take(params)
        except BaseException:
            self.release()
            raise

    cdef bint take(self, object params) except -1:
        cdef dict d = as_dict("params", params)
        check_keeps(params, d)
        cdef list arrays = [], keys = list(d)
        cdef Py_ssize_t k
        cdef bint same
        for key, p in d.items():
            arrays.append(checked_param(key, p))
            if not isinstance(p, np.ndarray):
                check_write_back("params", params, key, p)
        shapes = [a.shape for a in arrays]
        kinds = [a.dtype for a in arrays]
        where = [
            (a.__array_interface__["data"][0] if isinstance(p, np.ndarray) else None, a.strides)
            for a, p in zip(arrays, d.values(), strict=True)
        ]
        same = keys == self.keys and shapes == self.shapes and kinds == self.kinds
        if not same or where != self.where:
            self.check_overlaps(keys, arrays, [isinstance(p, np.ndarray) for p in d.values()])
        if not same:
            self.allocate(keys, arrays)
        self.where = where
        self.given = params
        self.originals = list(d.values())
        self.y = []
        self.copied = []
        for k in range(len(arrays)):
            a = arrays[k]
            copied = not (isinstance(self.originals[k], np.ndarray) and lies_like(a, self.x[k]))
            if copied:
                if self.own_y[k] is None:
                    self.own_y[k] = np.empty_like(self.x[k], order="K")
                self.own_y[k][...] = a
                a = self.own_y[k]
            self.copied.append(copied)
            self.y.append(a)
        return same

    cdef int allocate(self, list keys, list arrays) except -1:
        cdef int n
        self.keys = None                    # so that a failed allocation leaves nothing half new
        pattern = [np.empty_like(a, order="K", subok=False) for a in arrays]
        self.x, self.low, self.high = column(pattern, 0)
        self.columns = [column(pattern, n + 1)[0] for n in range(self.n_columns)]
        self.own_y = [None] * len(arrays)
        self.own_g = [None] * len(arrays)
        self.sweep = Sweep(self.x)
        self.shapes = [a.shape for a in arrays]
        self.kinds = [a.dtype for a in arrays]
        self.keys = keys
        return 0

    cdef int check_overlaps(self, list keys, list arrays, list is_array) except -1:
        """Refuse what would be written twice."""
        named = []
        for key, a, given in zip(keys, arrays, is_array, strict=True):
            if not given:
                continue
            if overlaps_itself(a):
                raise ValueError(
                    f"params[{key!r}] overlaps itself (strides {a.strides}, shape {a.shape}): an "
                    f"element would be updated more than once; pass a copy"
                )
            if self.on_x(a):
                raise ValueError(
                    f"params[{key!r}] is memory that fn was given, which is used again at every "
                    f"stage; pass a copy"
                )
            named.append((f"params[{key!r}]", a))
        refuse_shared_memory(named)
        return 0

    cdef bint on_x(self, cnp.ndarray a) except -1:
        """Whether an array reaches into the memory that fn is given."""
        cdef Py_ssize_t address = <Py_ssize_t> cnp.PyArray_DATA(a), low, high
        if cnp.PyArray_SIZE(a) == 0 or self.high == 0:
            return False
        if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
            return address < self.high and address + cnp.PyArray_NBYTES(a) > self.low
        low, high = byte_bounds(a)
        return low < self.high and high > self.low

    def point(self):
        """Return what fn is to be given: the keys of params with the arrays of x."""
        values = [
            sealed(x) if isinstance(p, np.ndarray) else x.item() if type(p) is float else x[()]
            for x, p in zip(self.x, self.originals, strict=True)
        ]
        if isinstance(self.given, (list, tuple)):
            return values
        return dict(zip(self.keys, values, strict=True))

    def gradients(self, object grads):
        """Check what fn returned; return it as a list of arrays that lie as x does."""
        cdef dict d = as_dict("grads", grads)
        cdef dict params = dict.fromkeys(self.keys)
        cdef list flat = []
        cdef Py_ssize_t k
        check_containers(self.given, grads, params, d)
        for key in self.keys:
            if key not in d:
                raise keys_error(params, d)
        if d and all([g is None for g in d.values()]):
            raise ValueError("every gradient is None: there is nothing to update")
        for k in range(len(self.keys)):
            flat.append(self.gradient(k, self.keys[k], d[self.keys[k]]))
        return flat

    cdef object gradient(self, Py_ssize_t k, object key, object g):
        cdef object a = None
        if g is not None:
            a = checked_grad(key, g, self.kinds[k], self.shapes[k])
            if isinstance(g, np.ndarray) and lies_like(a, self.x[k]) and not self.on_x(a):
                return a
        if self.own_g[k] is None:
            self.own_g[k] = np.empty_like(self.x[k], order="K")
        self.own_g[k][...] = 0 if a is None else a
        return self.own_g[k]

    def put_back(self):
        """Write y, where it is a copy, to where it came from."""
        for key, p, y, copied in zip(self.keys, self.originals, self.y, self.copied, strict=True):
            if not copied:
                continue
            if isinstance(p, np.ndarray):
                p.view(np.ndarray)[...] = y
            else:
                self.given[key] = y.item() if type(p) is float else y[()]

    def release(self):
        """Let go of the caller's arrays, at the end of a step."""
        self.given = self.originals = self.y = None
        self.busy = False


cdef object sealed(object x):
    """Return a view that cannot be written: what fn did to it would become the parameters."""
    view = x.view()
    view.flags.writeable = False
    return view


cdef bint lies_like(cnp.ndarray a, cnp.ndarray x):
    """Whether an array lies in memory element for element as one of ours of the same shape."""
    cdef int both = cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(x)
    if not both & cnp.NPY_ARRAY_ALIGNED:
        return False
    if both & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
        return True
    return (<object> a).strides == (<object> x).strides


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
