"""What belongs to one update and ends with it."""

from fastoptim.kernels.table cimport Stages, Table
from fastoptim.kernels.update.pipeline cimport Plan

cdef class Call:
    cdef Table table
    cdef Plan plan
    cdef double factor                      # what every gradient is multiplied by first
    cdef bint flush                         # whether subnormals are flushed to zero
    cdef bint zero                          # zero every gradient, whatever the pipelines say
    cdef Stages *stages                     # one per pipeline
    cdef Py_ssize_t room                    # for so many
    cdef Stages *own_stages                 # one per span, where keys have a norm of their own
    cdef Py_ssize_t own_room
    cdef list unfit                         # (stage, factor) per pipeline, or None: all fit
    cdef object params, grads               # the containers as they came
    cdef list keys, arrays                  # of params, in its order
    cdef list gradients                     # in the same order; None for what is left alone
    cdef list records                       # one per span
    cdef list detours                       # those in use, or None
    cdef list products                      # of these, gradients made while the rule runs, or None
    cdef list drafts                        # records that this call made, or None
    cdef list pending                       # spans whose records wait for state, or None
    cdef bint measured                      # whether norm is that of the gradients together
    cdef bint clipped                       # whether it was too large for clip_norm
    cdef double norm
    cdef bint own_means                     # whether a key's mean has another count than its group's
    cdef bint halves                        # whether some parameters have 16 bits
    cdef bint reads_half                    # whether the driver alone reads gradients: they may have 16 bits
    cdef bint numbers                       # whether a number is put back into a container
    # What Store.prepare makes and Store.commit puts in its place, or None.
    cdef dict new_records
    cdef list carried                       # per row of coefficients, what its records carry on
    cdef list new_states                    # (span, record, slots, state, average)
    cdef dict unpacked                      # span → its state as numbers, where codes go apart; or None

    cdef int begin(self, Plan plan, double factor, bint zero) except -1
    cdef int set_stages(self, double norm_factor) except -1
    cdef int make_own_room(self) except -1
    cdef tuple set_own_stages(self, Py_ssize_t k, int group, double norm_factor)
    cdef int place_of(self, Py_ssize_t k) except -1
    cdef tuple state_of(self, Py_ssize_t k, object state, object average)
    cdef void end(self) noexcept
