"""What is kept for each key between two updates."""

cimport numpy as cnp
from cpython.object cimport PyObject

from fastoptim.kernels.rule cimport MAX_SLOTS
from fastoptim.kernels.table cimport MOST_DIMS, Codes
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.folder cimport Folder
from fastoptim.kernels.update.pipeline cimport Pipeline, factors_shape

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISNOTSWAPPED(cnp.ndarray a)

cdef class Record:
    cdef readonly object key
    cdef readonly int group                 # which pipeline its parameter passes through
    cdef readonly dict state                # slot name → array, shaped like the parameter
    cdef readonly object average            # of the weights, or None
    cdef readonly int half                  # the parameter's Code, PLAIN if it is float32 or float64
    cdef readonly str param_dtype           # its name
    cdef readonly str coding                # the state_dtype that state is kept in, or None: its own
    cdef Codes codes                        # the same for the driver, set at each update
    cdef readonly Py_ssize_t number         # how many keys were there before it; -1: not updated yet
    cdef public Py_ssize_t t                # completed updates of this parameter
    cdef readonly tuple carried             # numbers that its rule goes on with, or None
    cdef Py_ssize_t averaged                # updates in its mean, which began at mean_from
    cdef Py_ssize_t mean_from               # an update of the optimizer; -1: nobody has counted
    cdef tuple slots                        # those that s points to, in the rule's order
    cdef Py_ssize_t[MAX_SLOTS] s            # the state's addresses
    cdef cnp.dtype dtype
    cdef tuple shape
    cdef int type_num
    cdef int ndim
    cdef int order                          # NPY_ARRAY_C_CONTIGUOUS, …F_CONTIGUOUS, both, or 0
    cdef Py_ssize_t size, n_bytes
    cdef cnp.npy_intp[MOST_DIMS] dims
    cdef cnp.npy_intp[MOST_DIMS] strides
    cdef Py_ssize_t row                     # in the ledger of a folder, 0: in none
    # Of habits.pyx: the array that had this key first and is still there, and the latest.
    cdef object first, latest               # weak references to the owners of their memory, or None
    cdef Py_ssize_t first_address, address

    cdef object new_array(self, int which, Folder folder=*, object name=*)
    cdef object new_mean(self, int kind, Folder folder=*, object name=*)
    cdef object new_codes(self, int which, int code, Folder folder, object name)
    cdef object new_largest(self, Folder folder, object name)

# Inline here, since they are called for each key, and a call to another module costs 2 ns.

cdef inline bint is_straight(Record record, PyObject *a, int needs) noexcept:
    """Whether an object is an array that can be used where it lies."""
    return (
        type(<object> a) is cnp.ndarray
        and cnp.PyArray_TYPE(<cnp.ndarray> a) == record.type_num
        and fits(record, <cnp.ndarray> a)
        and lies_straight(record, <cnp.ndarray> a, needs)
    )

cdef inline bint fits(Record record, cnp.ndarray a) noexcept:
    """Whether an array has a record's shape."""
    cdef int i
    if cnp.PyArray_NDIM(a) != record.ndim:
        return False
    for i in range(record.ndim):
        if cnp.PyArray_DIMS(a)[i] != record.dims[i]:
            return False
    return True

cdef inline bint lies_straight(Record record, cnp.ndarray a, int needs) noexcept:
    """Whether an array of this shape lies in memory element for element as the state does."""
    cdef int flags = cnp.PyArray_FLAGS(a), i
    if flags & needs != needs or not PyArray_ISNOTSWAPPED(a):
        return False
    if flags & record.order:
        return True
    for i in range(record.ndim):
        if record.dims[i] > 1 and cnp.PyArray_STRIDES(a)[i] != record.strides[i]:
            return record.size == 0
    return True

cdef inline bint is_factored(Record record, Pipeline pipeline) noexcept:
    """Whether a record's second moment is two vectors."""
    return pipeline.factored_slots is not None and factors_shape(
        record.ndim, record.dims, pipeline.factor_from
    )

cdef inline Py_ssize_t row_of(Record record) noexcept:
    """Return how many elements a row has, which blocks of 8-bit codes do not span."""
    return record.size // record.dims[0] if record.ndim > 1 else record.size

cdef inline str largest_of(str slot):
    """Return the name that what the blocks of a slot have in common has in a record's state."""
    return f"{slot}.largest"

cdef int half_of(object dtype)

cdef str coding_of(Pipeline pipeline, int ndim, Py_ssize_t size)

cdef Record new_record(object key, cnp.ndarray a, int group, bint in_c_order=*)

cdef class Store:
    cdef readonly dict records              # key → Record
    cdef readonly Py_ssize_t iter           # completed updates
    cdef double norm                        # of the gradients, at the last update that measured it
    cdef bint measured                      # whether there was one
    cdef readonly Py_ssize_t clipped        # updates whose norm was too large for clip_norm
    cdef public Py_ssize_t skipped          # updates left out for a gradient that is not finite
    cdef object group_of                    # (key, array) → int, or None: all keys are in group 0
    cdef object check_keys                  # called with keys and arrays until the first update, or None
    cdef dict drafts                        # key → Record of a key that was checked, not updated
    cdef bint told_of_names, told_of_calls  # of habits.pyx: what has been warned of
    cdef Py_ssize_t turned_at               # iter when a call of one key followed one of another
    cdef readonly Folder folder                      # where the state lies in files, or None
    cdef list order                         # records as the latest call had them, one per span

    cdef Record find(self, object key)
    cdef Record draft(self, Call call, object key, cnp.ndarray a)
    cdef int keep_drafts(self, Call call) except -1
    cdef int keep_drafts(self, Call call) except -1
    cdef int prepare(self, Call call) except -1
    cdef int commit(self, Call call) noexcept
    cdef int replace(
        self, dict records, Py_ssize_t iter, Py_ssize_t skipped, Py_ssize_t clipped
    ) noexcept
