"""A piece of a parameter, as the passes of a Runge–Kutta step see it (runge_kutta.pxi, passes.pyx)."""

from libc.stdint cimport uint64_t

# The arrays of a pass fill the slots of a rule. All else that a pass needs is gathered in a Piece, whose
# address it gets in the place of p.
cdef struct Piece:
    Py_ssize_t x        # address of the point, in the caller's memory, where it lies flat
    uint64_t digest     # of the bits that were written to x last
    Py_ssize_t altered  # whether x held other bits at the last pass over it
    double total        # the piece's share of a sum, where a pass makes one
