"""What waits after some call of a soft batch."""

cimport cython


@cython.final
cdef class Waiting:
    """What waits of one key's gradients; see batch.pxd."""

    @property
    def gradient(self):
        """The sum as a gradient, None if there is none."""
        if self.rows is not None:
            return self.rows.gradient()
        return self.array if self.dense else None


@cython.final
cdef class Batch:
    """What waits after some call of a soft batch; see batch.pxd."""

    def __init__(self, Py_ssize_t pending=0, sums=(), rows=()):
        cdef Waiting waiting
        self.pending = pending
        self.waiting = {}
        for key, a in dict(sums).items():
            waiting = self.waiting[key] = Waiting.__new__(Waiting)
            waiting.key, waiting.array, waiting.dense = key, a, True
        for key, a in dict(rows).items():
            waiting = self.waiting[key] = Waiting.__new__(Waiting)
            waiting.key, waiting.rows = key, a

    cdef void reset(self) noexcept:
        """Let nothing wait; the sums are zeros."""
        cdef Waiting waiting
        for waiting in self.waiting.values():
            if waiting.rows is not None:
                waiting.spare = waiting.rows
            waiting.dense, waiting.rows = False, None
        self.pending, self.params = 0, None

    def without_sums(self):
        """Return a batch in which nothing waits, with the arrays that are zeros."""
        cdef Batch empty = Batch()
        cdef Waiting waiting
        empty.waiting = {
            key: waiting for key, waiting in self.waiting.items()
            if not waiting.dense and waiting.rows is None
        }
        return empty
