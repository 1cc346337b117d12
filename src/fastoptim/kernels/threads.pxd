"""How many threads an update may use."""

cdef int shared_size            # of all parallel regions while threads are shared, or 0

cdef int max_threads() noexcept nogil
cdef int most_for(Py_ssize_t work) noexcept nogil
cdef bint is_fixed() noexcept nogil
cdef int region_size(int team) noexcept nogil
