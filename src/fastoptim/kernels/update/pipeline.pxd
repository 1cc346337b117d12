"""What the parameters of one group pass through, and what an update needs of hyperparameters."""

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Stage, Stages

cdef const Rule *pass_of(str name) except NULL

cdef class Pipeline:
    cdef Stages fixed               # what does not depend on the update
    cdef readonly tuple slots       # names of the rule's state, in the kernel's order
    cdef readonly tuple starts      # what fresh state is filled with
    cdef readonly int scratch       # arrays of the rule beyond those: a prelude leads spans to them
    cdef readonly object coefficients
    cdef readonly object owner      # the optimizer, for messages
    cdef double sign
    cdef object clip_value, weight_decay, average
    cdef readonly double most_norm  # of the gradient of each key, infinite if it may have any
    cdef readonly bint zero_grads
    cdef tuple unfit                # (stage, factor) that float32 cannot hold, or None

    cpdef int adjust(
        self, object clip_value, double weight_decay, double shrink, object average,
        object clip_norm_per_key
    ) except -1
    cpdef int set_shrink(self, double shrink) except -1
    cdef tuple fill(self, Stages *stages, double factor, double norm_factor, bint zero)

cdef class Plan:
    cdef readonly list pipelines    # one per group; the first is for keys of no group
    cdef readonly bint clips        # the norm of all gradients together, to most_norm
    cdef readonly double most_norm
    cdef readonly bint measures     # whether the norm is wanted
    cdef readonly bint clips_keys   # whether some keys have a largest norm of their own
    cdef readonly bint skips        # what becomes of gradients that are not finite
    cdef readonly bint raises
    cdef readonly bint surveys      # whether the gradients are looked at as a whole
    cdef readonly bint flush
    cdef readonly object prelude    # a Prelude, or None
