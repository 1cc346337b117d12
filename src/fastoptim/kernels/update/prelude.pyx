"""What a rule computes of whole tensors before any array is written.

A kernel sees one element of each array. A rule that needs more, such as a product of matrices, has it
computed between two stations: the gradients have been looked at by then, and nothing has been written.
So all of it may fail, or be interrupted. Its results are scratch arrays, the last operands of the
rule's kernel, and are forgotten with the call.
"""


cdef class Prelude:
    """What a rule computes of whole tensors before its loop can run."""

    cdef int check(self, Call call) except -1:
        """Refuse gradients of which it cannot be computed."""
        return 0

    cdef int prepare(self, Call call) except -1:
        """Ask for all memory; the keys have been checked and have their state."""
        return 0

    cdef int compute(self, Call call, int team) except -1:
        """Read parameters, gradients and state, and write memory of its own alone.

        It may lead the spans to other loops, scalars and memory. No array has been written yet.
        """
        return 0

    cdef void commit(self, Call call) noexcept:
        """Put what was computed in its place, in the same step as the arrays."""
