"""Rules go out to other people's code, and other people's rules come in, as C function pointers.

Both directions use a capsule "fastoptim.Rule". `foreign_rule` makes one of functions that are compiled
elsewhere, and the driver runs it like one of its own.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport (
    PyCapsule_GetContext,
    PyCapsule_GetPointer,
    PyCapsule_New,
    PyCapsule_SetContext,
    PyCapsule_SetDestructor,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport strcmp

from fastoptim.kernels.rule cimport MAX_SLOTS, RULE_ABI, Rule, rule_f32, rule_f64

MOST_SLOTS = MAX_SLOTS          # of a rule, for Python

cdef enum:
    MOST = 64

cdef const Rule *PUBLIC[MOST]
cdef int n_public = 0


def publish(dict rules):
    """Let `find_rule` find the rules of the chosen instruction set.

    A second call (by importlib.reload, say) writes the same pointers to the same places, so other
    threads may be in `find_rule` meanwhile.
    """
    global n_public
    public = list(rules.values())
    if len(public) > MOST:
        raise ValueError(f"find_rule has room for {MOST} rules, got {len(public)}; raise MOST")
    for k, capsule in enumerate(public):
        PUBLIC[k] = <const Rule *> PyCapsule_GetPointer(capsule, "fastoptim.Rule")
    n_public = len(public)


cdef const Rule *find_rule(const char *name) noexcept nogil:
    cdef int k
    if name == NULL:
        return NULL
    for k in range(n_public):
        if strcmp(PUBLIC[k].name, name) == 0:
            return PUBLIC[k]
    return NULL


cdef void release(object capsule) noexcept:
    PyMem_Free(<void *> PyCapsule_GetPointer(capsule, "fastoptim.Rule"))
    Py_DECREF(<object> PyCapsule_GetContext(capsule))


def foreign_rule(bytes name, int slots, int coefs, size_t f32, size_t f64, object keep):
    """Return the capsule of a rule that is compiled elsewhere.

    Parameters
    ----------
    name : bytes
    slots, coefs : int
    f32, f64 : int
        Addresses of functions with the signatures of rule.pxd.
    keep : object
        Kept alive as long as the capsule, because the functions need it.
    """
    if not 0 <= slots <= MAX_SLOTS:
        raise ValueError(f"a rule has at most {MAX_SLOTS} state arrays, got {slots}")
    cdef Rule *rule = <Rule *> PyMem_Malloc(sizeof(Rule))
    if rule == NULL:
        raise MemoryError
    kept = (keep, name)             # the struct points into the bytes
    rule[0] = Rule(RULE_ABI, name, slots, coefs, <rule_f32> f32, <rule_f64> f64)
    try:
        capsule = PyCapsule_New(rule, "fastoptim.Rule", NULL)
    except BaseException:
        PyMem_Free(rule)
        raise
    PyCapsule_SetContext(capsule, <void *> kept)
    Py_INCREF(kept)
    PyCapsule_SetDestructor(capsule, release)
    return capsule
