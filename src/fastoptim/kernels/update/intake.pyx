"""The first station: each key is checked, and becomes a span of the table.

The usual array (float32 or float64, this machine's byte order, in the order of its state, the gradient
alike) is used where it lies. Whatever else is admitted takes a detour. What is read is a snapshot of
both dicts: keys and arrays are held until the call ends, whatever another thread does to the dicts.

An array's address comes from NumPy's C API: to acquire a memoryview costs 0.3 µs, and there are four
arrays per key.
"""

import numpy as np

cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Keys, PyDict_Next, PyDict_Values
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject

from fastoptim.kernels.table cimport PLAIN, Span, Stages, add_span
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.compressed cimport compressed_grad
from fastoptim.kernels.update.detours cimport Detours
from fastoptim.kernels.update.memory cimport refuse_itself
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.products cimport take as take_product
from fastoptim.kernels.update.store cimport (
    Record,
    Store,
    coding_of,
    half_of,
    is_factored,
    is_straight,
)

from fastoptim.kernels.update.checks.arrays import checked_grad, checked_param
from fastoptim.kernels.update.checks.containers import (
    as_dict,
    check_containers,
    check_keeps_its_arrays,
    check_write_back,
    keys_error,
)
from fastoptim.kernels.update.checks.gradients import check_may_zero, grad_memory
from fastoptim.kernels.update.checks.halves import (
    checked_half_grad,
    half_rows,
    made_half_grad,
)
from fastoptim.kernels.update.checks.row_grads import is_sparse, row_grad
from fastoptim.kernels.update.checks.state_dtypes import other_state_dtype, rows_of_blocks
from fastoptim.product import Product
from fastoptim.rows import Rows

cnp.import_array()

cdef int STRAIGHT_PARAM = cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
cdef int STRAIGHT_GRAD = cnp.NPY_ARRAY_ALIGNED


cdef int read(Call call, Store store, Detours detours, object params, object grads) except -1:
    """Check every key and write its span into the call's table."""
    cdef Py_ssize_t i, n, k = 0, n_known = len(store.order)
    cdef list keys, arrays, gradients, order = store.order, records = call.records
    cdef Record record
    cdef Span *span
    cdef PyObject *p                # borrowed of the lists
    cdef PyObject *g
    take(call, params, grads)
    keys, arrays, gradients = call.keys, call.arrays, call.gradients
    if store.check_keys is not None and store.iter == 0:
        store.check_keys(keys, arrays)
    n = len(keys)
    call.table.make_room(n)
    for i in range(n):
        g = PyList_GET_ITEM(gradients, i)
        if g == <PyObject *> None:
            continue
        p = PyList_GET_ITEM(arrays, i)
        if k < n_known and (<Record> PyList_GET_ITEM(order, k)).key is <object> PyList_GET_ITEM(keys, i):
            record = <Record> PyList_GET_ITEM(order, k)
        else:
            record = store.find(keys[i])
        if record is not None and record.half == PLAIN and (
            is_straight(record, p, STRAIGHT_PARAM) and is_straight(record, g, STRAIGHT_GRAD)
        ):
            span = add_span(call.table, record.size, record.type_num == cnp.NPY_DOUBLE)
            span.p = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> p)
            span.g = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> g)
        else:
            record = detour(call, store, detours, keys[i], <object> p, <object> g, record)
            span = &call.table.spans[k]
        connect(call, k, span, record)
        if (<Stages *> span.stages).zero:
            check_zeroing(call, keys[i], <object> g)
        records.append(record)
        k += 1
    if k == 0 and n > 0:
        raise ValueError("every gradient is None: there is nothing to update")
    return 0


cdef int take(Call call, object given_params, object given_grads) except -1:
    """Take a snapshot of both containers, the gradients in the order of the parameters."""
    cdef dict params = given_params if type(given_params) is dict else as_dict("params", given_params)
    cdef dict grads = given_grads if type(given_grads) is dict else as_dict("grads", given_grads)
    cdef Py_ssize_t i = 0, at = 0
    cdef PyObject *key
    if params is not given_params or grads is not given_grads or len(params) != len(grads):
        check_containers(given_params, given_grads, params, grads)
        check_keeps_its_arrays(given_params, params)
    call.params, call.grads = given_params, given_grads
    call.keys, call.arrays = PyDict_Keys(params), PyDict_Values(params)
    call.gradients = PyDict_Values(grads)
    while PyDict_Next(grads, &at, &key, NULL) and i < len(call.keys):
        if key != PyList_GET_ITEM(call.keys, i):
            return by_key(call, params, grads)
        i += 1
    return 0 if i == len(call.keys) else by_key(call, params, grads)


cdef int by_key(Call call, dict params, dict grads) except -1:
    """Look each gradient up: the keys are others, or in another order, or equal but not the same."""
    cdef PyObject *found
    cdef object key
    call.gradients = []
    for key in call.keys:
        found = PyDict_GetItemWithError(grads, key)
        if found == NULL:
            raise keys_error(params, grads)
        call.gradients.append(<object> found)
    return 0


cdef inline int connect(Call call, Py_ssize_t k, Span *span, Record record) except -1:
    """Lead a span to its state and its stages; note whether it has to wait for any."""
    cdef Pipeline pipeline
    if record.group >= len(call.plan.pipelines):
        raise RuntimeError("the groups changed in the middle of an update or a soft batch")
    pipeline = <Pipeline> call.plan.pipelines[record.group]
    span.stages = <Py_ssize_t> &call.stages[record.group]
    span.s = record.s
    if record.average is not None:
        span.average = <Py_ssize_t> cnp.PyArray_DATA(record.average)
    if record.slots is not pipeline.slots and (
        record.slots is None or record.slots is not pipeline.factored_slots
    ) or pipeline.fixed.average and record.average is None:
        if call.pending is None:
            call.pending = []
        call.pending.append(k)
        lead_to_state(span, record, pipeline)
    return 0


cdef int lead_to_state(Span *span, Record record, Pipeline pipeline) except -1:
    """Lead a span to the state that is there for its rule: after a load, or when the kernel changed."""
    cdef int n
    cdef tuple slots = pipeline.factored_slots if is_factored(record, pipeline) else pipeline.slots
    if record.state and record.coding != coding_of(pipeline, record.ndim, record.size):
        raise other_state_dtype(record.key, record.coding, pipeline.state_dtype)
    for n in range(len(slots)):
        array = record.state.get(slots[n])
        span.s[n] = 0 if array is None else <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> array)
    return 0


cdef inline int check_zeroing(Call call, object key, object g) except -1:
    """Refuse a gradient that cannot be set to zero."""
    if type(g) is cnp.ndarray and cnp.PyArray_ISONESEGMENT(g) and cnp.PyArray_ISWRITEABLE(g):
        return 0
    check_may_zero(call.grads, key, g)
    if not isinstance(grad_memory(g), np.ndarray):
        call.numbers = True
    return 0


# ---------------------------------------------------------------- what cannot go straight

cdef Record detour(
    Call call, Store store, Detours detours, object key, object p, object g, Record record
):
    """Admit a key whose record is new, or whose arrays are odd, or say why not."""
    cdef cnp.ndarray a
    cdef int code
    if record is not None and record.half == PLAIN and is_straight(record, <PyObject *> p, STRAIGHT_PARAM):
        a = p
    else:
        a = checked_param(key, p, True)
        if not isinstance(p, np.ndarray):
            check_write_back("params", call.params, key, p)
            call.numbers = True
        record = record_for(call, store, key, a, record)
        code = half_of(a.dtype)
        if code != PLAIN:
            return half(call, detours, key, a, g, record, code)
    given = None
    if isinstance(g, Product):
        take_product(call, detours, record, a, g)
        return record
    if not isinstance(g, cnp.ndarray):
        if not isinstance(g, Rows):
            given = compressed_grad(g, record)
        if given is None and (isinstance(g, Rows) or is_sparse(g)):
            given = row_grad(key, g, record.dtype, record.shape)
    if given is not None:
        if record.coding == "int8" and (given.values.ndim < record.ndim or record.ndim < 2):
            raise rows_of_blocks(key, record.shape)
        detours.by_rows(call, record).take(call, a, given)
    else:
        detours.by_copy(call, record).take(
            call, a, checked_grad(key, g, record.dtype, record.shape)
        )
    return record


cdef Record half(
    Call call, Detours detours, object key, cnp.ndarray a, object g, Record record, int code
):
    """Admit a parameter of 16 bits, whose gradient has as many or is of float32."""
    call.halves = True
    given = None
    if isinstance(g, Product):
        g = made_half_grad(key, g, a.dtype, record.shape)
    if not isinstance(g, (cnp.ndarray, Rows)):
        given = compressed_grad(g, record)
    if given is None and (isinstance(g, Rows) or is_sparse(g)):
        given = half_rows(key, g, a.dtype, record.shape)
    if given is None:
        detours.by_half(call, record).take(
            call, a, checked_half_grad(key, g, a.dtype, record.shape), code
        )
        return record
    if not cnp.PyArray_IS_C_CONTIGUOUS(a) or not cnp.PyArray_ISALIGNED(a):
        raise ValueError(
            f"params[{key!r}] is {a.dtype} and not in C order, and its gradient has some rows; pass "
            f"np.ascontiguousarray(params[{key!r}]), or a gradient of the whole"
        )
    if record.coding == "int8" and (given.values.ndim < record.ndim or record.ndim < 2):
        raise rows_of_blocks(key, record.shape)
    detours.by_rows(call, record).take(call, a, given)
    return record


cdef Record record_for(Call call, Store store, object key, cnp.ndarray a, Record record):
    """Return the record of a parameter: the one that is there if it fits, or a new one."""
    if record is not None and not record.state and record.average is None and (
        record.shape != (<object> a).shape or record.param_dtype != a.dtype.name
    ):
        record = None               # without state there is nothing that could not fit
    if record is None:
        refuse_itself(key, a)       # before memory is asked for: it may be any amount
        return store.draft(call, key, a)
    if record.shape != (<object> a).shape:
        raise ValueError(
            f"params[{key!r}] has shape {(<object> a).shape}, but its state has shape "
            f"{record.shape} from earlier updates; use another key or a new optimizer"
        )
    if record.param_dtype != a.dtype.name:
        was = "its state is" if record.half == PLAIN and half_of(a.dtype) == PLAIN else "it was"
        raise TypeError(
            f"params[{key!r}] is {a.dtype}, but {was} {record.param_dtype} from earlier "
            f"updates; convert the parameter or use a new optimizer"
        )
    return record
