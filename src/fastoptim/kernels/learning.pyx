"""How many threads an update uses, learned from the time that its user waits.

**The rule.** A *cycle* is the time from the start of one update to the start of the next. The user
waits for cycles: a cycle contains the update, and also what our threads do to the user's own work
between two updates. Counts of threads are compared by the medians of their cycles.

 a) The first comparison tries 1, 2, 4, … threads, up to the most allowed. Each count has four
    updates, or fewer if all counts would need more than 20. Its first update is not counted.
 b) The count with the least median is kept. A larger count must be better by 1 %.
 c) A try is another count for 3 to 15 updates. Their cycles are compared with as many of the latest
    cycles of the kept count. The first try is 0.5 s after the first comparison. After each try that
    loses, the pause doubles, up to 60 s. A pause is at least 30 times as long as the try before it.
 d) A try ends early at a cycle twice as long as the kept count's, or after three cycles whose median
    is 15 % worse.
 e) All tries together take at most 3 % of the time since the first update.
 f) No larger count is tried while other processes keep all processors busy; the system is asked
    just before. Beside busy processes a single try can slow the user's own products for good:
    OpenBLAS's threads then share one processor. Measured (two busy processes on two cores,
    784-512-512-10, batch 100): 6.2 ms a step on one thread, 96 ms after one try, even without
    updates.
 g) If the median of five cycles has changed by half (another process starts or ends, the batch size
    changes), a try is due at once, within e) and f).

An update reads the clock once, in a try twice, and not at all if only one thread is allowed. No
count changes a bit of a result, so a wrong choice costs time and nothing else.

**Why.** Measured on two cores, Adam float32 in a whole training step of a NumPy network
784-100-10, batch 100: 247 µs on one thread (the update 22), 10,320 µs on two (the update 6,792).
OpenBLAS's threads spin for 25 ms after each matrix product, ours for some ms after each update, and
each set waits for the other's time slice. Alone, two threads halve an update of a million elements
(118 µs instead of 298). With OPENBLAS_THREAD_TIMEOUT=4 two threads halve an update of 20 million
(6.2 ms instead of 12.5), but the step gets 2 ms longer. So no fixed count is right, and the update's
own time does not say which one is best.

GNU's OpenMP cannot be told to wait quietly. It reads OMP_WAIT_POLICY and GOMP_SPINCOUNT once, for the
whole process, and passive threads do not halve an update of a million (212 µs instead of 298).
"""

from libc.string cimport memcpy, memmove

from fastoptim.kernels cimport threads

cdef extern from "platform.h":
    double fo_now() nogil
    bint fo_crowded() nogil

cdef enum Phase:
    COMPARING
    KEEPING
    TRYING

FIRST_UPDATES = 20              # of the first comparison
FIRST_EACH = 4                  # with each count, if there are not too many
cdef double BETTER = 0.99       # of the other's median
cdef double BAD = 2.0           # times the kept count's cycle: a try ends at once
cdef double WORSE = 1.15        # the same after three cycles
cdef double CHANGED = 1.5
cdef double WAKING = 200e-6     # seconds that the first cycle of a try may be longer: threads wake
cdef double SHORTEST_PAUSE = 0.5
cdef double LONGEST_PAUSE = 60.0
cdef double PAUSE_PER_COST = 30.0
cdef double SHARE = 0.03
cdef double LONGEST_BETWEEN = 1.0     # seconds between two updates that a try is charged with


cdef double median(const double *values, int n) noexcept:
    """Return the median of at most LONGEST numbers, the lower one of two."""
    cdef double[LONGEST] ordered
    cdef double x
    cdef int i, k
    for i in range(n):
        x = values[i]
        k = i
        while k > 0 and ordered[k - 1] > x:
            ordered[k] = ordered[k - 1]
            k -= 1
        ordered[k] = x
    return ordered[(n - 1) // 2]


cdef class ThreadCount:
    """The count of threads for one optimizer and one amount of work.

    Parameters
    ----------
    most : int of at least 2
        The largest count that may be used.

    Notes
    -----
    `begin` takes the time at which an update starts, and returns the count. `end` takes the time at
    which the update is complete. An update that began and never ended was refused: its cycle is not
    counted.
    """

    def __init__(self, int most):
        cdef int count = 1
        self.most = most
        while count < most and self.n_counts < MOST_COUNTS - 1:
            self.counts[self.n_counts] = count
            self.n_counts += 1
            count *= 2
        self.counts[self.n_counts] = most
        self.n_counts += 1
        self.wanted = max(2, min(FIRST_EACH, FIRST_UPDATES // self.n_counts))
        self.begun = -1.0
        self.interval = SHORTEST_PAUSE

    @property
    def kept(self):
        """The best count known so far."""
        return self.counts[self.best]

    @property
    def learnt(self):
        """Whether the first comparison is over."""
        return self.phase != COMPARING

    cpdef int begin(self, double now) except -1:
        """Return the count for an update that starts now."""
        if self.begun < 0:
            self.first = now
        elif self.ended:
            self.learn(now - self.begun, now)
        if self.phase == COMPARING and self.n_block == 0 and self.has_no_room(self.used):
            self.end_comparison(now)
        if self.phase == KEEPING and self.is_due(now):
            if self.has_no_room(self.candidate):
                self.next_try = now + self.interval
                self.next_candidate()
                return self.start(now)
            self.phase = TRYING
            self.used = self.candidate
            self.n_block = 0
            self.cost = 0.0
        return self.start(now)

    cdef int start(self, double now) except -1:
        """Note an update that begins; return its count."""
        self.begun = now
        self.ended = False
        return self.counts[self.used]

    cdef bint has_no_room(self, int place) noexcept:
        """Whether a larger count may not be tried: rule f)."""
        return self.counts[place] > self.counts[self.best] and (
            self.crowded or (self.asks and fo_crowded())
        )

    cpdef int end(self, double now) except -1:
        """Note that the update has been made."""
        self.ended = True
        self.lasted = now - self.begun
        return 0

    cdef int learn(self, double cycle, double now) except -1:
        if self.phase == COMPARING:
            return self.compare_first(cycle, now)
        if self.phase == TRYING:
            return self.judge(cycle, now)
        if self.skip:
            self.skip = False
            return 0
        self.recent[self.next_recent] = cycle
        self.next_recent = (self.next_recent + 1) % LONGEST
        self.n_recent = min(self.n_recent + 1, LONGEST)
        if self.next_recent % 5 == 0:
            self.notice_change(now)
        return 0

    cdef int compare_first(self, double cycle, double now) except -1:
        """Count one more cycle of the first comparison: rule a)."""
        cdef bint bad = self.used > 0 and self.n_block > 0 and cycle > BAD * self.medians[self.best]
        self.block[self.n_block] = cycle
        self.n_block += 1
        if self.n_block < self.wanted and not bad:
            return 0
        self.medians[self.used] = cycle if bad else median(&self.block[1], self.n_block - 1)
        if self.medians[self.used] < BETTER * self.medians[self.best] or self.used == 0:
            self.best = self.used
        self.n_block = 0
        self.used += 1
        if self.used == self.n_counts:
            self.end_comparison(now)
        return 0

    cdef int end_comparison(self, double now) except -1:
        """Keep the best count of those compared."""
        self.reference = self.medians[self.best]
        self.candidate = (self.best + 1) % self.n_counts
        self.phase = KEEPING
        self.used = self.best
        self.skip = True
        self.next_try = now + self.interval
        return 0

    cdef bint is_due(self, double now) except -1:
        """Whether a try may begin, rules c) and e); if so, set how many cycles it compares."""
        if now < self.next_try or self.n_recent < 3:
            return False
        self.reference = self.recent_median(self.n_recent)
        cdef double affordable = (SHARE * (now - self.first) - self.spent) / max(self.reference, 1e-9)
        if affordable < 4.0:                    # three, and the first, which is not counted
            return False
        self.wanted = <int> min(<double> self.n_recent, affordable - 1.0)
        self.reference = self.recent_median(self.wanted)
        return True

    cdef int judge(self, double cycle, double now) except -1:
        """Count one more cycle of a try: rules c) and d)."""
        cdef double m, most = BAD * self.reference
        # The user may go away in the middle of a try; what the update itself took is ours.
        cdef double between = min(cycle - self.lasted, max(LONGEST_BETWEEN, 4.0 * self.reference))
        cdef double counted = self.lasted + between
        self.cost += counted
        self.spent += counted
        self.block[self.n_block] = cycle
        self.n_block += 1
        if cycle > (most + WAKING if self.n_block == 1 else most):
            return self.settle(False, now)
        if self.n_block <= 3:
            return 0
        m = median(&self.block[1], self.n_block - 1)
        if m > WORSE * self.reference:
            return self.settle(False, now)
        if self.n_block > self.wanted:
            return self.settle(m < BETTER * self.reference, now)
        return 0

    cdef int settle(self, bint won, double now) except -1:
        """End a try."""
        if won:
            self.best = self.used
            self.n_recent = self.n_block - 1
            self.next_recent = self.n_recent % LONGEST
            memcpy(&self.recent[0], &self.block[1], self.n_recent * sizeof(double))
            self.reference = self.recent_median(self.n_recent)
            self.interval = SHORTEST_PAUSE
        else:
            self.interval = min(2.0 * self.interval, LONGEST_PAUSE)
            self.skip = True
        self.next_candidate()
        self.phase = KEEPING
        self.used = self.best
        self.next_try = now + max(self.interval, PAUSE_PER_COST * self.cost)
        return 0

    cdef int next_candidate(self) except -1:
        """Let the next try have another count."""
        self.candidate = (self.candidate + 1) % self.n_counts
        if self.candidate == self.best:
            self.candidate = (self.candidate + 1) % self.n_counts
        return 0

    cdef int notice_change(self, double now) except -1:
        """Notice that the cycle has changed: rule g)."""
        if self.n_recent < 5:
            return 0
        cdef double m = self.recent_median(5)
        if m > CHANGED * self.reference or CHANGED * m < self.reference:
            self.reference = m
            self.n_recent = 5
            memmove(
                &self.recent[0], &self.recent[(self.next_recent + LONGEST - 5) % LONGEST],
                5 * sizeof(double),
            )
            self.next_recent = 5
            self.interval = SHORTEST_PAUSE
            self.next_try = min(self.next_try, now)
        return 0

    cdef double recent_median(self, int n) noexcept:
        """Return the median of the latest n cycles with the count that is kept."""
        cdef double[LONGEST] latest
        cdef int k
        for k in range(n):
            latest[k] = self.recent[(self.next_recent + LONGEST - 1 - k) % LONGEST]
        return median(latest, n)


cdef class ThreadCounts:
    """The counts of threads for one optimizer: a `ThreadCount` for each amount of work that it meets.

    Amounts between two powers of two count as one. Each setting (the most threads allowed, and
    `share_threads`) has counts of its own, so a setting that comes back finds what was learned.
    """

    def __init__(self):
        self.kept = []
        self.setting = -1

    cdef int begin(self, Py_ssize_t work, bint rehearsal) except -1:
        """Return the count for an update of `work` elements, which starts now.

        A rehearsal reads gradients and writes nothing, so it is an amount of work of its own.
        """
        cdef int most = threads.most_for(work), power = 0
        cdef long setting = -1, key
        cdef ThreadCount one
        if most > 1 and not threads.is_fixed():
            setting = 2 * most + (threads.shared_size > 0)
        if setting != self.setting:             # the present cycle belongs to both settings
            self.setting = setting
            for _, one in self.kept:
                one.ended = False
        if setting < 0:
            self.current = None
            return most
        while work > 1:
            work >>= 1
            power += 1
        key = (64 * setting + power) * 2 + rehearsal
        if self.current is None or key != self.key:
            self.current = self.of(key, most)
            self.key = key
        return self.current.begin(fo_now())

    def learned(self):
        """Return (least elements, threads, most threads, whether compared) of each amount of work.

        Those of the present setting, the smallest amount first.
        """
        cdef ThreadCount one
        return sorted(
            (1 << (key // 2 - 64 * self.setting), one.kept, one.most, one.learnt)
            for key, one in self.kept if key // 128 == self.setting and not key % 2
        )

    cdef int end(self) except -1:
        """Note that the update has been made."""
        if self.current is not None:
            self.current.end(fo_now() if self.current.phase == TRYING else self.current.begun)
        return 0

    cdef ThreadCount of(self, long key, int most):
        """Return the count of an amount of work; the latest eight are kept."""
        cdef ThreadCount one
        for known, one in self.kept:
            if known == key:
                return one
        one = ThreadCount(most)
        one.asks = True
        self.kept = [*self.kept[-7:], (key, one)]
        return one
