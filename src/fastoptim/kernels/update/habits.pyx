"""Habits that cost numbers without an error: what two calls in turn tell of them.

Two layers that both call their weights "W" share one state, if one optimizer serves both. An update for
each key lets schedules run as many times too fast as there are keys. Both let an address differ from
that of the call before, so this runs only then, and a call whose arrays stay where they are pays nothing.

An array is known by its address and a weak reference to the array that owns the memory: a caller may
make new views of it for each call. What has been freed is never taken for what came back.
"""

import warnings
import weakref

import numpy as np

cimport numpy as cnp

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.store cimport Record, Store

cnp.import_array()


cdef int look(Call call, Store store) except -1:
    """Warn, once each, of keys that stand for several arrays, and of one call for each key."""
    cdef Py_ssize_t k
    cdef Record record
    for k in range(call.table.count):
        record = call.records[k]
        if call.table.spans[k].p != record.address and record.size > 0:
            note(store, record, call.arrays[call.place_of(k)], call.table.spans[k].p)
    if call.table.count == 1 and len(call.keys) == 1 and len(store.order) == 1:
        one_by_one(store, call.records[0])
    return 0


cdef int note(Store store, Record record, object array, Py_ssize_t address) except -1:
    """Note which array stands under a key; warn if it did so before, and another living one since."""
    if not isinstance(array, np.ndarray):       # a number, whose memory is ours
        return 0
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if record.first is None or record.first() is None:
        record.first, record.first_address = weakref.ref(owner), address
    elif (
        address == record.first_address and owner is record.first() and not store.told_of_names
        and record.latest() is not None and (record.state or record.average is not None)
    ):
        warnings.warn(
            f"params[{record.key!r}] is an array that had this key before, and another array, which is "
            f"still there, has had it since: both go on with one state. If they are of two layers, give "
            f"them keys of their own, such as 'layer1.{record.key}', or each dict an optimizer of its own",
            UserWarning, stacklevel=2,
        )
        store.told_of_names = True
    record.latest, record.address = weakref.ref(owner), address
    return 0


cdef int one_by_one(Store store, Record record) except -1:
    """Warn if this call and the two before it had one key each, in turn, and not for the first time."""
    cdef Record before = store.order[0]
    if before is record or store.told_of_calls:
        return 0
    if record.t > 1 and before.t > 1 and store.iter == store.turned_at + 1:
        warnings.warn(
            f"update is called with params[{before.key!r}] and params[{record.key!r}] in turn, one key at "
            f"a time. Each call counts as an update, so schedules and opt.iter run as many times too "
            f"fast, and clip_norm sees one gradient alone: pass all keys together, "
            f"opt.update(params, grads), or give each key an optimizer of its own",
            UserWarning, stacklevel=2,
        )
        store.told_of_calls = True
    store.turned_at = store.iter
    return 0
