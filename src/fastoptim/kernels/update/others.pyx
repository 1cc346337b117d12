"""What an update is told by the other processes that make it, too."""


cdef class Others:
    """The other processes of an update that several make together; here there are none."""

    cdef bint all_pass(self, bint here) except -1:
        """Return whether the gradients passed a test in every process, given that of this one."""
        return here

    cdef object whole_gradient(self, object key, object grad):
        """Return a gradient as messages count its elements, given the part of this process."""
        return grad

    cdef double norm(self, const double *sums) except? -1.0:
        """Return the norm of all gradients, given the sums of this process's blocks."""
        raise NotImplementedError
