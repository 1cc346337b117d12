"""The training loop: sentences in, rows of two tables updated, without the GIL.

For a centre word w with the words around it, contexts C, and targets T = {w} and the negatives
drawn for it, X the rows of C in the table In and Y the rows of T in Out:

    S = X Yᵀ,   G = σ(S) − [1 for w, 0 for a negative],   dX = G Y,   dY = Gᵀ X

is the gradient of Σ over C of −log σ(x·y_w) − Σ log σ(−x·y_negative). Each row then takes one
step of the rule with its gradient. A word that is in C, or among the negatives, more than once is
one row whose column or row of G counts that often.

Random numbers are SplitMix64 (G. Steele, D. Lea and C. Flood, OOPSLA 2014), begun anew for each
job, so that what is drawn does not depend on threads.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

import numpy as np

from fastoptim cimport MAX_SLOTS, RULE_ABI, Rule, find_rule

cdef extern from "rows.h" nogil:
    void scores(const float **x, int nx, const float **y, int ny, Py_ssize_t n, float *s)
    void combine(
        const float *w, Py_ssize_t by_out, Py_ssize_t by_in, const float **rows, int n_in, int n_out,
        Py_ssize_t n, float *out
    )
    void sigmoids(float *s, Py_ssize_t n)
    void prefetch(const float *row, Py_ssize_t n)

cdef enum:
    MAX_COEFS = 32
    MAX_WINDOW = 1000
    MAX_NEGATIVE = 1000


cdef inline uint64_t draw(uint64_t *state) noexcept nogil:
    state[0] += 0x9E3779B97F4A7C15ULL
    cdef uint64_t z = state[0]
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL
    return z ^ (z >> 31)


cdef inline uint64_t below(uint64_t r, uint64_t n) noexcept nogil:
    """A whole number in [0, n), n < 2³², from the upper half of 64 random bits."""
    return (r >> 32) * n >> 32


cdef struct Table:
    float *rows
    float *slots[MAX_SLOTS]
    Py_ssize_t stride


cdef struct Group:
    # The different words of one side of a step, how often each counts, and their rows.
    int n
    int32_t *words
    float *times
    const float **rows
    float *grads


cdef inline void add(Group *group, int32_t word) noexcept nogil:
    cdef int k
    for k in range(group.n):
        if group.words[k] == word:
            group.times[k] += 1
            return
    group.words[group.n] = word
    group.times[group.n] = 1
    group.n += 1


cdef inline void fetch(const Table *table, const Rule *rule, int32_t word) noexcept nogil:
    cdef int k
    prefetch(table.rows + word * table.stride, table.stride)
    for k in range(rule.slots):
        prefetch(table.slots[k] + word * table.stride, table.stride)


cdef inline void locate(const Table *table, Group *group) noexcept nogil:
    cdef int k
    for k in range(group.n):
        group.rows[k] = table.rows + group.words[k] * table.stride


cdef class Loop:
    """The two tables, their state, the rule, and how words are drawn.

    Parameters
    ----------
    tables : pair of float32 arrays, (vocabulary, stride), C order
        In and Out. The stride is a multiple of 16 and the arrays begin at multiples of 64 bytes;
        elements from `dim` on are zero.
    slots : pair of lists of arrays like the tables
        The rule's state for each table.
    dim : int
    kernel : str
        A rule's name.
    window, negative : int
    thresholds, aliases : array of float64, of int32
        As `alias_table` gives them.
    keep : array of float64
        With which probability an occurrence of each word is kept; empty for all.
    """

    cdef Table tables[2]
    cdef const Rule *rule
    cdef Py_ssize_t dim
    cdef int window, negative
    cdef const double[::1] thresholds, keep
    cdef const int32_t[::1] aliases
    cdef object kept

    def __init__(self, tables, slots, dim, str kernel, window, negative, thresholds, aliases, keep):
        cdef float[:, ::1] view
        cdef int side, k
        self.rule = find_rule(kernel.encode())
        if self.rule == NULL:
            raise ValueError(f"fastoptim has no rule {kernel!r}")
        if self.rule.abi != RULE_ABI:
            raise ImportError(
                f"compiled for version {RULE_ABI} of fastoptim's rules, but the installed one has "
                f"{self.rule.abi}; install this package again"
            )
        if not 1 <= window <= MAX_WINDOW or not 1 <= negative <= MAX_NEGATIVE:
            raise ValueError(f"window and negative must be in [1, 1000], got {window} and {negative}")
        self.dim, self.window, self.negative = dim, window, negative
        self.thresholds, self.aliases, self.keep = thresholds, aliases, keep
        shape = len(thresholds), (dim + 15) // 16 * 16
        for side in range(2):
            arrays = [tables[side], *slots[side]]
            if len(arrays) != 1 + self.rule.slots:
                raise ValueError(f"{kernel} has {self.rule.slots} state arrays, got {len(slots[side])}")
            for k, array in enumerate(arrays):
                view = array
                if array.shape != shape or array.ctypes.data % 64:
                    raise ValueError(f"a table must have shape {shape} and begin at a multiple of 64 bytes")
                if k == 0:
                    self.tables[side].rows = &view[0, 0]
                else:
                    self.tables[side].slots[k - 1] = &view[0, 0]
            self.tables[side].stride = shape[1]
        self.kept = tables, slots       # the pointers are into these

    def train(
        self, const int32_t[::1] ids, const int64_t[::1] starts, Py_ssize_t first, Py_ssize_t last,
        coefficients, float shrink, uint64_t seed
    ):
        """Train on the sentences first … last − 1; may run in several threads at once.

        Parameters
        ----------
        ids, starts : arrays of int32 and int64
            As in `Corpus`.
        first, last : int
        coefficients : sequence of float
            The rule's scalars for all of these sentences.
        shrink : float
            What a row is multiplied by before each of its steps: decoupled weight decay.
        seed : int
        """
        cdef float c[MAX_COEFS]
        if len(coefficients) != self.rule.coefs or self.rule.coefs > MAX_COEFS:
            raise ValueError(f"the rule has {self.rule.coefs} coefficients, got {len(coefficients)}")
        for k, value in enumerate(coefficients):
            c[k] = value
        cdef Py_ssize_t s, longest = 1
        for s in range(first, last):
            longest = max(longest, starts[s + 1] - starts[s])
        cdef Worker worker = Worker(self, longest)
        with nogil:
            for s in range(first, last):
                sentence(
                    self, &worker.scratch, &ids[starts[s]], starts[s + 1] - starts[s], c, shrink, &seed
                )


cdef struct Scratch:
    int32_t *words          # a sentence after sub-sampling
    Group contexts
    Group targets[2]        # of this centre word, and of the next, whose rows are on their way
    int window[2]
    float *s


cdef class Worker:
    """The memory that one thread works in."""

    cdef Scratch scratch
    cdef void *memory
    cdef list kept

    def __init__(self, Loop loop, Py_ssize_t longest):
        cdef int contexts = 2 * loop.window, targets = 1 + loop.negative, k
        cdef Py_ssize_t stride = loop.tables[0].stride
        self.kept = []
        self.scratch.words = <int32_t *> self.take(4 * longest)
        self.scratch.s = <float *> self.take(4 * contexts * targets)
        self.group(&self.scratch.contexts, contexts, stride)
        for k in range(2):
            self.group(&self.scratch.targets[k], targets, stride)

    cdef void *take(self, Py_ssize_t size):
        array = np.empty(size + 64, np.uint8)
        self.kept.append(array)
        cdef size_t address = array.ctypes.data
        return <void *> ((address + 63) // 64 * 64)

    cdef group(self, Group *group, int n, Py_ssize_t stride):
        group.words = <int32_t *> self.take(4 * n)
        group.times = <float *> self.take(4 * n)
        group.rows = <const float **> self.take(sizeof(float *) * n)
        group.grads = <float *> self.take(4 * n * stride)


cdef void look_ahead(Loop loop, Scratch *scratch, int which, int32_t word, uint64_t *seed) noexcept nogil:
    """Draw the window and the targets of a centre word and send for the targets' rows."""
    cdef Group *targets = &scratch.targets[which]
    cdef uint64_t r
    cdef int32_t negative
    cdef Py_ssize_t slot
    cdef int k, _n
    scratch.window[which] = 1 + <int> below(draw(seed), loop.window)
    targets.n = 0
    add(targets, word)
    for _n in range(loop.negative):
        r = draw(seed)
        slot = below(r, loop.thresholds.shape[0])
        negative = <int32_t> slot
        if <double> <uint32_t> r * 2.0 ** -32 >= loop.thresholds[slot]:
            negative = loop.aliases[slot]
        if negative != word:
            add(targets, negative)
    for k in range(targets.n):
        fetch(&loop.tables[1], loop.rule, targets.words[k])


cdef void sentence(
    Loop loop, Scratch *scratch, const int32_t *ids, Py_ssize_t n, const float *c, float shrink,
    uint64_t *seed
) noexcept nogil:
    cdef int32_t *words = scratch.words
    cdef Py_ssize_t i, k, kept = 0
    for i in range(n):
        if loop.keep.shape[0] == 0 or <double> (draw(seed) >> 11) * 2.0 ** -53 < loop.keep[ids[i]]:
            words[kept] = ids[i]
            kept += 1
    if kept < 2:
        return
    look_ahead(loop, scratch, 0, words[0], seed)
    for i in range(kept):
        if i + 1 < kept:
            look_ahead(loop, scratch, (i + 1) & 1, words[i + 1], seed)
            if i + 1 + loop.window < kept:
                fetch(&loop.tables[0], loop.rule, words[i + 1 + loop.window])
        scratch.contexts.n = 0
        for k in range(max(0, i - scratch.window[i & 1]), min(kept, i + scratch.window[i & 1] + 1)):
            if k != i:
                add(&scratch.contexts, words[k])
        step(loop, &scratch.contexts, &scratch.targets[i & 1], scratch.s, c, shrink)


cdef void step(
    Loop loop, Group *contexts, Group *targets, float *s, const float *c, float shrink
) noexcept nogil:
    cdef Py_ssize_t stride = loop.tables[0].stride
    cdef int i, j
    locate(&loop.tables[0], contexts)
    locate(&loop.tables[1], targets)
    scores(contexts.rows, contexts.n, targets.rows, targets.n, stride, s)
    sigmoids(s, contexts.n * targets.n)
    for i in range(contexts.n):
        s[i * targets.n] -= 1
        for j in range(targets.n):
            s[i * targets.n + j] *= contexts.times[i] * targets.times[j]
    combine(s, targets.n, 1, targets.rows, targets.n, contexts.n, stride, contexts.grads)
    combine(s, 1, targets.n, contexts.rows, contexts.n, targets.n, stride, targets.grads)
    update(&loop.tables[0], loop.rule, contexts, c, shrink, loop.dim)
    update(&loop.tables[1], loop.rule, targets, c, shrink, loop.dim)


cdef inline void update(
    const Table *table, const Rule *rule, const Group *group, const float *c, float shrink, Py_ssize_t dim
) noexcept nogil:
    cdef float *slots[MAX_SLOTS]
    cdef float *p
    cdef int i, k
    cdef Py_ssize_t at, d
    for i in range(group.n):
        at = group.words[i] * table.stride
        p = table.rows + at
        for k in range(rule.slots):
            slots[k] = table.slots[k] + at
        if shrink != 1:
            for d in range(dim):
                p[d] *= shrink
        rule.f32(p, group.grads + i * table.stride, slots, c, dim)


def alias_table(const double[::1] p):
    """Return thresholds and aliases of Vose's table for drawing by probability, in linear time.

    A slot k is drawn evenly, then k itself with probability thresholds[k], else aliases[k]
    (M. D. Vose, IEEE Transactions on Software Engineering 17, 1991).

    Parameters
    ----------
    p : array of float64
        Probabilities, of sum 1.
    """
    cdef Py_ssize_t n = p.shape[0], n_small = 0, n_large = n, k
    thresholds_array, aliases_array = np.empty(n), np.arange(n, dtype=np.int32)
    cdef double[::1] thresholds = thresholds_array
    cdef int32_t[::1] aliases = aliases_array, stack = np.empty(n, np.int32)
    cdef int32_t small, large
    for k in range(n):              # one array, the small ones from the left, the large from the right
        thresholds[k] = p[k] * n
        if thresholds[k] < 1:
            stack[n_small] = k
            n_small += 1
        else:
            n_large -= 1
            stack[n_large] = k
    while n_small > 0 and n_large < n:
        n_small -= 1
        small, large = stack[n_small], stack[n_large]
        aliases[small] = large
        thresholds[large] = (thresholds[large] + thresholds[small]) - 1
        if thresholds[large] < 1:   # it has given so much away that it is small itself
            n_large += 1
            stack[n_small] = large
            n_small += 1
    # What either pile has left is 1 but for rounding, and is its own alias.
    return thresholds_array, aliases_array
