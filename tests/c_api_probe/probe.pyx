# cython: language_level=3
"""What tests/test_c_api_clients.py asks of the C API from C++: layouts, threads, the flush mode."""

from libc.stdint cimport uint32_t, uintptr_t
from libcpp.atomic cimport atomic

from fastoptim cimport MAX_SLOTS, RULE_ABI, Rule, find_rule


cdef extern from "fastoptim.h":
    const int FASTOPTIM_RULE_ABI
    const int FASTOPTIM_MAX_SLOTS
    const char *FASTOPTIM_CAPSULE
    ctypedef void (*fastoptim_rule_f32)(
        float *p, const float *g, float **s, const float *c, Py_ssize_t n
    ) noexcept nogil
    ctypedef void (*fastoptim_rule_f64)(
        double *p, const double *g, double **s, const double *c, Py_ssize_t n
    ) noexcept nogil
    ctypedef struct fastoptim_rule:
        uint32_t abi
        const char *name
        int slots
        int coefs
        fastoptim_rule_f32 f32
        fastoptim_rule_f64 f64
    const fastoptim_rule *fastoptim_find_rule(const char *name) except NULL


cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <xmmintrin.h>
    static const int can_flush = 1;
    static void set_flush(int on) {
        _mm_setcsr(on ? _mm_getcsr() | 0x8040 : _mm_getcsr() & ~0x8040);
    }
    #else
    static const int can_flush = 0;
    static void set_flush(int on) { (void) on; }
    #endif
    """
    const int can_flush
    void set_flush(bint on)


CAN_FLUSH = bool(can_flush)


def constants():
    """The header's numbers, then the .pxd's."""
    return (
        (FASTOPTIM_RULE_ABI, FASTOPTIM_MAX_SLOTS, FASTOPTIM_CAPSULE),
        (RULE_ABI, MAX_SLOTS, b"fastoptim.Rule"),
    )


def layouts():
    """Offset and size of every field, and the size of all: of the header's struct, then the .pxd's."""
    cdef fastoptim_rule h = fastoptim_find_rule(b"sgd")[0]
    cdef Rule p = find_rule(b"sgd")[0]
    # Where the types differ, this does not compile: C++ converts no function pointer.
    p.name, p.f32, p.f64 = h.name, h.f32, h.f64
    return (
        {
            "abi": (<char *> &h.abi - <char *> &h, sizeof(h.abi)),
            "name": (<char *> &h.name - <char *> &h, sizeof(h.name)),
            "slots": (<char *> &h.slots - <char *> &h, sizeof(h.slots)),
            "coefs": (<char *> &h.coefs - <char *> &h, sizeof(h.coefs)),
            "f32": (<char *> &h.f32 - <char *> &h, sizeof(h.f32)),
            "f64": (<char *> &h.f64 - <char *> &h, sizeof(h.f64)),
            "all": (0, sizeof(h)),
        },
        {
            "abi": (<char *> &p.abi - <char *> &p, sizeof(p.abi)),
            "name": (<char *> &p.name - <char *> &p, sizeof(p.name)),
            "slots": (<char *> &p.slots - <char *> &p, sizeof(p.slots)),
            "coefs": (<char *> &p.coefs - <char *> &p, sizeof(p.coefs)),
            "f32": (<char *> &p.f32 - <char *> &p, sizeof(p.f32)),
            "f64": (<char *> &p.f64 - <char *> &p, sizeof(p.f64)),
            "all": (0, sizeof(p)),
        },
    )


def addresses(bytes name):
    """A rule's address by the header, whose exceptions come through, and by the .pxd."""
    return <uintptr_t> fastoptim_find_rule(name), <uintptr_t> find_rule(name)


def address(bytes name):
    """A rule's address by the .pxd, 0 if there is none; None stands for NULL."""
    cdef const char *text = NULL
    if name is not None:
        text = name
    return <uintptr_t> find_rule(text)


cdef atomic[int] arrived


def meet(bytes name, int parties):
    """Look a rule up, again and again, until all threads do; return what each look-up gave."""
    cdef const char *text = name
    cdef const Rule *rule = NULL
    cdef long _tries
    cdef bint same = True
    with nogil:
        rule = find_rule(text)
        arrived.fetch_add(1)
        for _tries in range(1 << 28):        # seconds: that all wait is a failure, not a hang
            same = same and find_rule(text) == rule
            if arrived.load() >= parties:
                break
    return <uintptr_t> rule, same, arrived.load()


def sgd(double p, double g, double lr, bint flush):
    """One element's step in a thread that has, or has not, flush-to-zero set."""
    set_flush(flush)
    find_rule(b"sgd").f64(&p, &g, NULL, &lr, 1)
    set_flush(False)
    return p
