"""Parameters and gradients that are Python's numbers, whose new values go back into the containers.

To put a number back can fail: a mapping's own code runs, or an interrupt arrives. So it comes before
anything else is written, and what has been done up to then can be undone.
"""

import numpy as np

cimport numpy as cnp

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.table cimport Span, Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Copied, Detour
from fastoptim.kernels.update.store cimport Record
from fastoptim.kernels.update.tensors cimport Tensors

cnp.import_array()


cdef int settle(Call call, Table few, Tensors tensors) except -1:
    """Update the parameters that are numbers, put them back, and take them off the table.

    Gradients that are numbers and are to be zero become zero, too; without `tensors` that is all.
    """
    cdef Detour detour
    cdef Span *span
    cdef Py_ssize_t place
    cdef bint update = tensors is not None
    kept, done = [], []
    if update:
        kept = update_numbers(call, few, tensors)
    try:
        for detour in call.detours:
            place = call.place_of(detour.k)
            p, g = call.arrays[place], call.gradients[place]
            if update and not isinstance(p, np.ndarray):
                put(call.params, call.keys[place], p, type(p)(detour.param[()]), done)
            if (
                call.stages[detour.record.group].zero
                and type(detour) is Copied and not isinstance(g, np.ndarray)
            ):
                put(call.grads, call.keys[place], g, type(g)(detour.grad.dtype.type(0)), done)
    except BaseException as problem:
        for address, copy in kept:
            cnp.PyArray_CopyInto(address, copy)
        put_back(done, problem)
        raise
    if update:
        for detour in call.detours:
            if not isinstance(call.arrays[call.place_of(detour.k)], np.ndarray):
                span = &call.table.spans[detour.k]
                span.n = span.grid = 0
        call.table.number_blocks()
    return 0


cdef list update_numbers(Call call, Table few, Tensors tensors):
    """Run the rules of the parameters that are numbers; return what they write, and what it held."""
    cdef Detour detour
    cdef Record record
    cdef Py_ssize_t place
    kept, spans = [], []
    few.count = 0
    few.make_room(len(call.detours))
    few.c32, few.c64 = call.table.c32, call.table.c64
    for detour in call.detours:
        if isinstance(call.arrays[call.place_of(detour.k)], np.ndarray):
            continue
        few.spans[few.count] = call.table.spans[detour.k]
        few.count += 1
        spans.append(detour.k)
        record = detour.record
        state, average = call.state_of(detour.k, record.state, record.average)
        written = [*state.values(), *([] if average is None else [average])]
        if call.stages[record.group].zero:
            written.append(detour.grad)             # an array of no axes, or a soft batch's sum
        for a in written:
            kept.append((a, a.copy()))
    few.number_blocks()
    if call.plan.of_tensors:
        for place in range(few.count):
            tensors.run_number(call, few, place, spans[place])
    else:
        run(few, call.flush, 1)
    return kept


cdef int put(object container, object key, object old, object new, list done) except -1:
    """Put a number in the place of another, which is noted first."""
    done.append((container, key, old))
    container[key] = new
    return 0


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
