"""What the parameters of one group pass through, and what an update needs of hyperparameters."""

cimport numpy as cnp

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Stage, Stages

cdef const Rule *pass_of(str name) except NULL
cdef bint factors_shape(int ndim, const cnp.npy_intp *dims, Py_ssize_t least) noexcept nogil

cdef enum Project:
    NOT_PROJECTED
    MAX_NORM
    UNIT_NORM

cdef class Pipeline:
    cdef Stages fixed               # what does not depend on the update
    cdef readonly tuple slots       # names of the rule's state, in the kernel's order
    cdef readonly tuple starts      # what fresh state is filled with
    cdef readonly int scratch       # arrays of the rule beyond those: a prelude leads spans to them
    cdef readonly object coefficients
    cdef readonly bint carries      # whether these go on with numbers of the update before
    cdef readonly object owner      # the optimizer, for messages
    cdef double sign
    cdef object clip_value, weight_decay, average
    cdef readonly double most_norm  # of the gradient of each key, infinite if it may have any
    # Of tensors as a whole; see tensors.pyx.
    cdef readonly bint of_tensors   # whether any of these is asked for
    cdef readonly double agc        # λ, 0 without
    cdef readonly bint centralizes
    cdef readonly bint norms        # whether the coefficients depend on norms
    cdef bint before_decay          # whether that of the gradient is without weight decay
    cdef readonly bint trusts
    cdef double least_ratio, most_ratio
    cdef double lr                  # that steps are measured by, if it trusts
    cdef double start               # what a step has of the parameter
    cdef readonly Project projects  # which norm of units is kept within bounds
    cdef double most_unit           # the largest norm of a unit
    cdef readonly bint by_row       # whether a unit is a row, not a column
    cdef readonly bint zero_grads
    cdef readonly Py_ssize_t mean_from  # the update at which a mean of the weights begins, or -1
    cdef readonly tuple factored_slots  # of parameters whose second moment is two vectors, or None
    cdef readonly Py_ssize_t factor_from
    cdef readonly str state_dtype   # how state is kept if not in the parameter's dtype, or None
    cdef readonly tuple codes       # the Code of each slot, or None
    cdef readonly tuple factored_codes
    cdef readonly bint master       # whether parameters of 16 bits have a copy in float32
    cdef readonly unsigned long long seed   # of the random bits that round
    cdef tuple unfit                # (stage, factor) that float32 cannot hold, or None
    cdef tuple unbound              # the same of the bounds of a constraint or a trust ratio

    cpdef int adjust(
        self, object clip_value, double weight_decay, double shrink, object average,
        object clip_norm_per_key, object agc=*, double lr=*, double start=*
    ) except -1
    cpdef int set_shrink(self, double shrink) except -1
    cdef int constrain(self, tuple constraint) except -1
    cdef tuple fill(self, Stages *stages, double factor, double norm_factor, bint zero)

cdef class Plan:
    cdef readonly list pipelines    # one per group; the first is for keys of no group
    cdef readonly bint clips        # the norm of all gradients together, to most_norm
    cdef readonly double most_norm
    cdef readonly bint measures     # whether the norm is wanted
    cdef readonly bint clips_keys   # whether some keys have a largest norm of their own
    cdef readonly bint of_tensors   # whether some tensors have to be known as a whole
    cdef readonly bint skips        # what becomes of gradients that are not finite
    cdef readonly bint raises
    cdef readonly bint surveys      # whether the gradients are looked at as a whole
    cdef readonly bint flush
    cdef readonly bint means        # whether some keys have a mean of their weights
    cdef readonly object prelude    # a Prelude, or None
    cdef readonly bint factors      # whether some second moments are two vectors
    cdef readonly bint codes        # whether some state is kept as codes
