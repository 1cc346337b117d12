"""What a rule is in C: a loop over a span.

A span is n contiguous elements of one parameter, with the same n elements of its gradient and
of its state. p parameter (in, out), g gradient (in), s state slots (in, out), c coefficients
(in), n elements. A rule never allocates, never raises, and knows nothing of threads, dicts,
shapes or step counts.
"""

from libc.stdint cimport uint32_t

ctypedef void (*rule_f32)(
    float *p, const float *g, float **s, const float *c, Py_ssize_t n
) noexcept nogil
ctypedef void (*rule_f64)(
    double *p, const double *g, double **s, const double *c, Py_ssize_t n
) noexcept nogil

cdef enum:
    RULE_ABI = 2        # counts up when a field, an argument or a rule changes its meaning
    MAX_SLOTS = 6       # of one rule

# include/fastoptim.h is this struct in C. Fields are only added, at the end; see docs/c-api.md.
cdef struct Rule:
    uint32_t abi
    const char *name
    int slots           # state arrays, each as large as the parameter
    int coefs           # scalars, computed in double, rounded once to the parameter's dtype
    rule_f32 f32
    rule_f64 f64
