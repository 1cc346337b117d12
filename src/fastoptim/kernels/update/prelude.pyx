"""What a rule computes of whole tensors before any array is written.

A kernel sees one element of each array. A rule that needs more, such as a product of matrices, has it
computed between two stations: the gradients have been looked at by then, and nothing has been written.
So all of it may fail, or be interrupted. Its results are scratch arrays, the last operands of the
rule's kernel, and are forgotten with the call.
"""


cdef class Prelude:
    """What an optimizer computes of whole tensors, with the memory that it uses again."""

    cdef int check(self, Call call) except -1:
        """Refuse gradients of which nothing can be computed."""
        return 0

    cdef int prepare(self, Call call) except -1:
        """Make the scratch arrays, and lead the spans to them."""
        return 0

    cdef int compute(self, Call call, int team) except -1:
        """Fill the scratch arrays; read parameters, gradients and state, and write none of them."""
        return 0
