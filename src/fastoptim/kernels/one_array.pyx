"""One update of one array, without a dict: typed memoryviews, the same loops."""

import numpy as np

from fastoptim.kernels.update.checks.arrays import is_masked, plain
from fastoptim.porting.answers import shown

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython cimport floating

from fastoptim.kernels.driver cimport run
from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport NOT_FINITE, TOO_LARGE, Fit, Span, Stages, Table, add_span, set_bare

cnp.import_array()

cdef ThreadCounts THREAD_COUNTS = ThreadCounts()   # for all steps: they have no optimizer


cdef int one_span(
    const Rule *rule, floating[::1] p, const floating[::1] g, object state, Table table
) except -1:
    """Check sizes and addresses, then walk a table of one span."""
    cdef Stages stages
    cdef Span *span
    cdef floating[::1] slot
    cdef Py_ssize_t[MAX_SLOTS + 2] place
    cdef Py_ssize_t n = p.shape[0]
    cdef int k, other, team
    if g.shape[0] != n:
        raise ValueError(f"grad has {g.shape[0]} elements, but param has {n}")
    if n == 0:
        for slot in state:
            if slot.shape[0] != 0:
                raise ValueError(f"a state has {slot.shape[0]} elements, but param has 0")
        return 0
    place[0] = <Py_ssize_t> &p[0]
    place[1] = <Py_ssize_t> &g[0]
    for k in range(rule.slots):
        slot = state[k]
        if slot.shape[0] != n:
            raise ValueError(f"state[{k}] has {slot.shape[0]} elements, but param has {n}")
        place[k + 2] = <Py_ssize_t> &slot[0]
    for k in range(rule.slots + 2):
        if place[k] % sizeof(floating) != 0:
            raise ValueError(f"{label(k)} is not aligned to its elements; pass a copy")
        for other in range(k):
            if abs(place[k] - place[other]) < n * <Py_ssize_t> sizeof(floating):
                raise ValueError(
                    f"{label(other)} and {label(k)} share memory; each needs its own"
                )
    set_bare(&stages, rule)
    span = add_span(table, n, floating is double)
    span.p = place[0]
    span.g = place[1]
    for k in range(rule.slots):
        span.s[k] = place[k + 2]
    span.stages = <Py_ssize_t> &stages
    table.number_blocks()
    team = THREAD_COUNTS.begin(table.work, False)
    with nogil:
        run(table, False, team)
    THREAD_COUNTS.end()
    return 0


cdef str label(int k):
    return ("param", "grad")[k] if k < 2 else f"state[{k - 2}]"


def step(capsule, param, grad, state, coefficients):
    """Apply a rule once; fastoptim.kernels.step says what the arguments are."""
    cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
    cdef Table table = Table()
    cdef bint is_double
    cdef Fit fit
    name = rule.name.decode()
    if not isinstance(state, (list, tuple)):
        raise TypeError(f"state must be a tuple of arrays, got {type(state).__name__}")
    if not isinstance(coefficients, (list, tuple, np.ndarray)):
        raise TypeError(f"coefficients must be a tuple of floats, got {shown(coefficients)}")
    # Tuples first: a number's __float__ may run any code, which may change a list.
    state, coefficients = tuple(state), as_floats(coefficients)
    if len(state) != rule.slots:
        raise ValueError(f"the state of {name!r} is {rule.slots} arrays, got {len(state)}")
    if len(coefficients) != rule.coefs:
        raise ValueError(f"{name!r} has {rule.coefs} coefficients, got {len(coefficients)}")
    param = array("param", param, None)
    is_double = cnp.PyArray_TYPE(param) == cnp.NPY_DOUBLE
    fit = table.set_coefs(0, coefficients)
    if fit == NOT_FINITE or fit == TOO_LARGE and not is_double:
        raise ValueError(f"coefficients must be finite in {param.dtype}, got {coefficients}")
    grad = array("grad", grad, param)
    state = [array(f"state[{k}]", slot, param) for k, slot in enumerate(state)]
    if is_double:
        one_span[double](rule, param, grad, state, table)
    else:
        one_span[float](rule, param, grad, state, table)


cdef tuple as_floats(object numbers):
    """Return numbers as floats, or say which one is not a number."""
    cdef list floats = []
    for number in tuple(numbers):
        try:
            floats.append(<double> number)
        except TypeError as error:
            raise TypeError(
                f"coefficients[{len(floats)}] must be a number, got {shown(number)}"
            ) from error
    return tuple(floats)


cdef object array(str name, object a, object param):
    """Return an array that fits param, or say why not, in clearer words than a memoryview would."""
    if not isinstance(a, np.ndarray) or is_masked(a):
        raise TypeError(f"{name} must be a NumPy array, got {type(a).__name__}")
    a = plain(a)
    if cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE) or not a.dtype.isnative:
        raise TypeError(f"{name} must be float32 or float64, got {a.dtype.str}")
    if param is not None and cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(param):
        raise TypeError(f"{name} is {a.dtype}, but param is {param.dtype}")
    if cnp.PyArray_NDIM(a) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(a):
        raise ValueError(
            f"{name} must be one-dimensional and contiguous, got shape {a.shape}, strides "
            f"{a.strides}; a larger contiguous array fits as {name}.reshape(-1)"
        )
    if name != "grad" and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name} is read-only, and a step writes in place")
    return a


def size_of(capsule):
    """Return the number of state slots and of coefficients of a rule."""
    cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
    return rule.slots, rule.coefs
