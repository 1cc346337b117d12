"""How many threads an update uses, learned from the time that its user waits."""

cdef enum:
    MOST_COUNTS = 12            # 1, 2, 4, …, 1,024 and a last one between two of them
    LONGEST = 15                # cycles that a try compares at most

cdef class ThreadCount:
    cdef readonly int most                  # the largest count that may be used
    cdef readonly int phase
    cdef readonly double spent              # seconds of the cycles of all tries
    cdef int n_counts
    cdef int[MOST_COUNTS] counts
    cdef double[MOST_COUNTS] medians        # of the first comparison's cycles
    cdef int best, used, candidate          # places in counts
    cdef double[LONGEST + 1] block          # cycles of the comparison that goes on
    cdef int n_block, wanted
    cdef double[LONGEST] recent             # the latest cycles with the best count
    cdef int n_recent, next_recent
    cdef bint skip                          # whether the next cycle follows a change of count
    cdef double first, begun                # times; begun is negative before the first update
    cdef public bint crowded                # whether other processes keep the processors busy
    cdef bint asks                          # whether the system is asked for that
    cdef bint ended                         # whether the update begun has also ended
    cdef double lasted                      # and then how long it took, if it was one of a try
    cdef double reference                   # a cycle with the best count, as of the latest decision
    cdef double cost, interval, next_try

    cpdef int begin(self, double now) except -1
    cpdef int end(self, double now) except -1
    cdef int start(self, double now) except -1
    cdef int end_comparison(self, double now) except -1
    cdef int learn(self, double cycle, double now) except -1
    cdef int compare_first(self, double cycle, double now) except -1
    cdef int judge(self, double cycle, double now) except -1
    cdef int settle(self, bint won, double now) except -1
    cdef bint is_due(self, double now) except -1
    cdef bint has_no_room(self, int place) noexcept
    cdef int next_candidate(self) except -1
    cdef int notice_change(self, double now) except -1
    cdef double recent_median(self, int n) noexcept


cdef class ThreadCounts:
    cdef list kept                          # (key, ThreadCount) per amount of work
    cdef ThreadCount current
    cdef long key                           # of the current one
    cdef long setting                       # of the process, at the latest update

    cdef int begin(self, Py_ssize_t work, bint rehearsal) except -1
    cdef int end(self) except -1
    cdef ThreadCount of(self, long key, int most)
