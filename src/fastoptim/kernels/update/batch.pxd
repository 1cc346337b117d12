"""What waits after some call of a soft batch."""

# What waits of one key's gradients.
cdef class Waiting:
    cdef readonly object key
    cdef readonly object array              # the sum of those that are dense; zeros if none is
    cdef readonly bint dense                # whether any was
    cdef readonly object rows               # instead: the RowSum, if all of them are of rows
    cdef object spare                       # the one of the batch before, for its memory

# What waits after some call of a soft batch.
cdef class Batch:
    cdef readonly Py_ssize_t pending        # calls that wait
    cdef readonly dict waiting              # key → Waiting
    cdef readonly object params             # those of the last call

    cdef void reset(self) noexcept
