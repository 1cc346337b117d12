"""Arrays on the memory of tensors: of parameters, and of the gradients that they have at a step.

PyTorch's class of tensors has a table of C functions (DLPack's exchange API), one of which says where a
tensor lies: 20 ns, where ``tensor.detach().numpy()`` takes 900. The arrays own nothing. One that is there
from the step before is used again if its tensor still lies there.
"""

cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

from fastoptim.kernels.table cimport MOST_DIMS

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)


cdef inline bint is_there(cnp.ndarray a, const tensor_in_memory *t, int type_num, char *data) noexcept:
    """Whether an array is the one that a tensor would get."""
    cdef int i
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a)
    if cnp.PyArray_DATA(a) != data or cnp.PyArray_TYPE(a) != type_num or cnp.PyArray_NDIM(a) != t.ndim:
        return False
    for i in range(t.ndim):
        if cnp.PyArray_DIMS(a)[i] != t.shape[i] or cnp.PyArray_STRIDES(a)[i] != t.strides[i] * size:
            return False
    return True


cdef inline bint may_be_negated(const tensor_in_memory *t) noexcept:
    """Whether a tensor may be the imaginary part of a conjugated one, whose signs are not in memory.

    Its elements are every other number of the complex ones. Asked of each tensor, `is_neg` would take
    as long as all the rest.
    """
    cdef int64_t next_to = 1
    cdef int i
    cdef bint several = False
    for i in range(t.ndim - 1, -1, -1):
        if t.shape[i] != 1:
            if t.strides[i] != next_to:
                return True
            next_to *= t.shape[i]
            several = True
    return not several


cdef enum:
    # References to a parameter: its group's list, `tensors`, `p` in `look`. A state that was looked at
    # has one more, and what it is compared with another.
    OUR_REFERENCES = 3
    # Addresses below are looked at twice. A tensor whose memory was freed may have its offset as its
    # address; Linux gives memory above, but for the heap of programs at a fixed place.
    LOW_ADDRESS_BITS = 36


cdef bint holds(object several, object p) except -1:
    """Whether a tensor is one of several: `==` would compare their elements."""
    cdef object one
    for one in several:
        if one is p:
            return True
    return False


cdef class Views:
    """The arrays of an optimizer's parameters and gradients, by key.

    Parameters
    ----------
    keys : list
        One for each parameter.
    tensors : list
        The parameters.
    ends : list of int
        For each group, how many of the parameters are in it and in those before it.
    plain : tuple of type
        Classes whose tensors lie in memory as their strides say.
    capsule : capsule or None
        The exchange table of their class, or None to ask `odd` for each.
    odd : callable, (key, tensor, what) → array or Rows
        For every other tensor, of which it says why if it cannot be used. `what` is "params" or
        "grads".
    check : callable, (key, tensor, what) → None
        Refuses a tensor whose storage ends before the tensor does: asked when an address is new.

    Attributes
    ----------
    params, grads : dict
        What an update gets. A parameter without a gradient has None as its gradient, and whatever it
        had before as its array, which is not looked at.
    has_rows : bool
        Whether a gradient is sparse.
    """

    def __init__(self, list keys, list tensors, list ends, tuple plain, capsule, odd, check):
        self.keys, self.tensors, self.ends = keys, tensors, ends
        self.plain, self.odd, self.check = plain, odd, check
        self.params = dict.fromkeys(keys)
        self.grads = dict.fromkeys(keys)
        self.known = {}
        if capsule is not None:
            self.table = <const exchange_table *> PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
            if self.table.major != 1 or self.table.describe == NULL:
                self.table = NULL

    def check_is_free(self):
        """Refuse what may not be done in the middle of a step."""
        if self.held is not None:
            raise RuntimeError(
                "this optimizer is in the middle of a step, in another thread or further up in this one; "
                "give each thread its own optimizer, or a lock around step"
            )

    def step(self, work):
        """Look where all lie, and let `work` go on with that; return False if the tensors are others.

        An interrupt arrives between two instructions of Python, and there is none here: whatever
        `work` raises, the gradients are let go, and one step can be made at a time.
        """
        cdef list written = None, alone = []
        self.check_is_free()
        try:
            shown = work.owner._shown
            written = self.look(
                work.owner.param_groups, alone, work.owner._state, () if shown is None else shown.of
            )
            if written is None:
                return False
            if alone or work.alone is None:
                problem = work.notice(alone)
                if problem is not None:     # raised here, where no frame holds the parameters
                    raise problem
            if written:
                work.go_on(written)
        finally:
            if written is not None:         # nor may one of a refused update, or they have company
                written.clear()
            self.let_go()
        return True

    cpdef int update(self, engine, plan, list written, bint zeroes, bump) except -1:
        """Make one update, and `bump` the versions of what it has written, in any case.

        Between the two there is no instruction of Python at which an interrupt could arrive.
        """
        cdef object store = engine.store, before = store.iter
        cdef list gradients = [p.grad for p in written] if zeroes else []
        try:
            engine.update(self.params, self.grads, plan)
        finally:
            if store.iter != before:
                bump(written + gradients)
        return 0

    cdef list look(self, groups, list alone, object state, object shown):
        """Look where all lie now; return the parameters that have a gradient.

        None: the tensors of the groups are others by now, or in other groups. To `alone` go the keys of
        parameters that nobody has any more but the groups, the state and these views.
        """
        cdef Py_ssize_t k = 0, n = len(self.keys), n_groups = 0
        cdef list written = []
        cdef object key, p, g
        cdef Py_ssize_t references
        self.held, self.has_rows = [], False
        for group in groups:
            for p in group["params"]:
                if k == n or self.tensors[k] is not p:
                    return None
                key = self.keys[k]
                k += 1
                references = Py_REFCNT(p)
                if references <= OUR_REFERENCES + 2 and state:
                    references -= (p in state) + holds(shown, p)
                if references <= OUR_REFERENCES:
                    alone.append(key)
                g = p.grad
                if g is None:
                    self.grads[key] = None
                    continue
                self.held.append(g)
                self.params[key] = self.array_of(key, p, self.params[key], "params")
                array = self.array_of(key, g, self.known.get(key), "grads")
                if type(array) is not cnp.ndarray:
                    self.has_rows = True
                self.grads[key] = array
                written.append(p)
            if n_groups == len(self.ends) or k != self.ends[n_groups]:
                return None
            n_groups += 1
        return written if k == n else None

    def arrays(self):
        """Return the arrays of all parameters, where they lie now."""
        return {
            key: self.array_of(key, p, self.params[key], "params")
            for key, p in zip(self.keys, self.tensors)
        }

    cdef int let_go(self) except -1:
        """Let go of the gradients, which may then be freed; their arrays must not be read any more."""
        self.known.update(self.grads)
        self.held = None
        return 0

    cdef object array_of(self, object key, object tensor, object known, str what):
        """Return an array on a tensor's memory, the one that is known if it is there already."""
        cdef tensor_in_memory t
        cdef cnp.npy_intp[MOST_DIMS] dims, strides
        cdef int i, type_num
        cdef char *data
        if self.table == NULL or type(tensor) not in self.plain:
            return self.odd(key, tensor, what)
        if (type(known) is not cnp.ndarray or cnp.PyArray_BASE(known) != NULL) and tensor.is_sparse:
            return self.odd(key, tensor, what)      # `describe` would raise, which takes 1 ms
        try:
            self.table.describe(<void *> <PyObject *> tensor, &t)
        except Exception:
            return self.odd(key, tensor, what)
        if t.device_type != DEVICE_CPU or t.dtype.code != CODE_FLOAT or t.ndim > MOST_DIMS:
            return self.odd(key, tensor, what)
        if t.strides == NULL or t.data == NULL or may_be_negated(&t) and tensor.is_neg():
            return self.odd(key, tensor, what)
        if t.dtype.bits == 32:
            type_num = cnp.NPY_FLOAT
        elif t.dtype.bits == 64:
            type_num = cnp.NPY_DOUBLE
        else:
            return self.odd(key, tensor, what)
        data = <char *> t.data + t.byte_offset
        if type(known) is cnp.ndarray and is_there(known, &t, type_num, data):
            return known
        if what == "params" or <size_t> data >> LOW_ADDRESS_BITS == 0:
            self.check(key, tensor, what)
        for i in range(t.ndim):
            dims[i] = t.shape[i]
            strides[i] = t.strides[i] * (t.dtype.bits // 8)
        return cnp.PyArray_New(
            cnp.ndarray, t.ndim, dims, type_num, strides, data, 0,
            cnp.NPY_ARRAY_WRITEABLE, None,
        )
