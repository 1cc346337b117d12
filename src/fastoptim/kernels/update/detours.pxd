"""The way of keys whose arrays cannot be used where they lie."""

cimport numpy as cnp

from fastoptim.kernels.table cimport Grid, Span
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.row_numbers cimport RowNumbers
from fastoptim.kernels.update.store cimport Record

cdef enum Way:
    OUT                                 # from an array to other memory
    BACK
    ZERO                                # no other memory: the array's elements become zero

cdef void copy_elements(
    cnp.ndarray a, Py_ssize_t first, Py_ssize_t n, char *other, Way way
) noexcept nogil

cdef class Detour:
    cdef Record record
    cdef Py_ssize_t k                   # which span is its
    cdef cnp.ndarray param              # the parameter's memory, or a copy of a number
    cdef cnp.ndarray grad               # the gradient's memory

    cdef int bring_in(self, Call call, int team) except -1
    cdef int copy_grad(self, Call call) except -1
    cdef int gather(self, Call call) except -1
    cdef int take_back(self, Call call) except -1
    cdef object grad_seen(self)
    cdef void let_go(self) noexcept

cdef class Copied(Detour):
    cdef Grid grid
    cdef object copy                    # memory for a gradient that lies on what is written

    cdef int take(self, Call call, cnp.ndarray param, cnp.ndarray grad) except -1
    cdef int place(self, Span *span, bint p_is_straight) except -1

cdef class Half(Detour):
    cdef int code                       # of the parameter
    cdef cnp.ndarray codes              # a copy of them in C order, where they lie otherwise; or None
    cdef cnp.ndarray given              # the caller's gradient, where another is read in its place

    cdef int take(self, Call call, cnp.ndarray param, cnp.ndarray grad, int code) except -1
    cdef Py_ssize_t address(self)
    cdef void write_back(self) noexcept

cdef class TouchedRows(Detour):
    cdef RowNumbers numbers
    cdef object given                   # what checks/row_grads.py made of the gradient
    cdef cnp.ndarray sums               # memory for rows that are summed
    cdef cnp.ndarray to_zero            # the caller's memory of the gradient
    cdef Py_ssize_t length              # of a row
    cdef bint apart                     # whether the rows of the table do not lie one after the other
    cdef list gathered                  # (array, copy) of what was taken from there

    cdef int take(self, Call call, cnp.ndarray param, object given) except -1
    cdef int lead_to(self, Call call, cnp.ndarray array) except -1
    cdef tuple part(self)
    cdef int gather_from(self, cnp.ndarray a, Py_ssize_t *address) except -1
    cdef void copy_rows(self, cnp.ndarray a, cnp.ndarray copy, Way way) noexcept

cdef int use(Call call, Detour detour) except -1

cdef inline Detour detour_of(Call call, Py_ssize_t k, Py_ssize_t *next) noexcept:
    """Return the detour of span k, None if it has none; `next` goes through them as k goes up."""
    cdef Detour detour
    if call.detours is None or next[0] >= len(call.detours):
        return None
    detour = <Detour> call.detours[next[0]]
    if detour.k != k:
        return None
    next[0] += 1
    return detour

cdef class Detours:
    # key → the one used last, for its memory
    cdef dict copied, touched, halves, products

    cdef Copied by_copy(self, Call call, Record record)
    cdef Half by_half(self, Call call, Record record)
    cdef TouchedRows by_rows(self, Call call, Record record)
    cdef Copied for_overlap(self, Call call, Py_ssize_t k, cnp.ndarray param, cnp.ndarray grad)
