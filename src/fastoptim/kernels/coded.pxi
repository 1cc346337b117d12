# The walk over a span some of whose state is kept as codes; included by driver.pyx.

cdef void coded(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Send elements i to end of a span through its pipeline, a tile at a time.

    A tile of the state is decoded to scratch memory in L1, passes the rule as any other, and is
    encoded. A block of 8-bit codes is worked on as a whole, by the thread in whose part it begins.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef const Codes *codes = <const Codes *> span.codes
    cdef floating[MAX_SLOTS][TILE] scratch
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t k, n, at, most = TILE if floating is float else TILE // 2
    if codes.row:
        i, end = block_from(codes.row, i), min(span.n, block_from(codes.row, end))
    while i < end:
        n = piece_from(span, i, min(most, end - i), &at)
        if not span.rows:
            fetch_ahead(span, at + n, n, sizeof(floating))
        for k in range(stages.rule.slots):
            s[k] = scratch[k]
            if codes.state[k] == PLAIN:
                s[k] = <floating *> span.s[k] + at
            else:
                decode_slot(span, k, at, n, scratch[k])
        run_pipeline(
            span, <floating *> span.p + at, <floating *> span.g + i, s, <floating *> span.average + at,
            c, n, i, NULL,
        )
        encode_slots(span, stages.rule.slots, at, n, s)
        i += n


cdef inline void fetch_ahead(const Span *span, Py_ssize_t at, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Prefetch n elements, which are worked on next: decoding and encoding come in bursts."""
    cdef const Codes *codes = <const Codes *> span.codes
    cdef Py_ssize_t i, k, width
    for i in range(0, n * size, 64):
        FO_PREFETCH(span.p + at * size + i)
        FO_PREFETCH_READ(span.g + at * size + i)
    for k in range((<const Stages *> span.stages).rule.slots):
        width = size if codes.state[k] == PLAIN else 2 if codes.state[k] < UNSIGNED else 1
        for i in range(0, n * width, 64):
            FO_PREFETCH(span.s[k] + at * width + i)


cdef Py_ssize_t piece_from(const Span *span, Py_ssize_t i, Py_ssize_t n, Py_ssize_t *at) noexcept nogil:
    """Return how many of n elements from i on can be worked on together; set where they are."""
    cdef const Codes *codes = <const Codes *> span.codes
    at[0] = i
    if span.rows:
        at[0] = i % span.length
        n = min(n, span.length - at[0])
        at[0] += (<const Py_ssize_t *> span.rows)[i // span.length] * span.length
    return whole_blocks(codes.row, at[0], n) if codes.row else n


cdef inline Py_ssize_t block_left(Py_ssize_t row, Py_ssize_t place) noexcept nogil:
    """Return how many elements the block of 8-bit codes at a place of a row has from there on."""
    return min(row - place, CODE_BLOCK - place % CODE_BLOCK)


cdef inline Py_ssize_t place_after(Py_ssize_t row, Py_ssize_t place, Py_ssize_t n) noexcept nogil:
    """Return the place in a row, or in the next one, that n elements end before."""
    return 0 if place + n == row else place + n


cdef inline Py_ssize_t block_from(Py_ssize_t row, Py_ssize_t i) noexcept nogil:
    """Return where the first block starts that does not start before an element."""
    cdef Py_ssize_t place = i % row
    return i if place % CODE_BLOCK == 0 else i + block_left(row, place)


cdef inline Py_ssize_t whole_blocks(Py_ssize_t row, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Return how many of n elements are in blocks that are among them as a whole; one block is."""
    cdef Py_ssize_t place = i % row, now = block_left(row, place), found = now
    while found < n:
        place = place_after(row, place, now)
        now = block_left(row, place)
        if found + now > n:
            break
        found += now
    return found


cdef inline Py_ssize_t block_of(Py_ssize_t row, Py_ssize_t i) noexcept nogil:
    """Return the number of the block that an element is in."""
    return i // row * ((row + CODE_BLOCK - 1) // CODE_BLOCK) + i % row // CODE_BLOCK


cdef void decode_slot(
    const Span *span, Py_ssize_t k, Py_ssize_t at, Py_ssize_t n, floating *x
) noexcept nogil:
    """Decode n numbers of a slot, from `at` on."""
    cdef const Codes *codes = <const Codes *> span.codes
    cdef const Rule *rule = codes.codecs.decode[codes.state[k]]
    cdef Coding coding
    cdef floating *given = <floating *> &coding
    cdef Py_ssize_t i = 0, place, now
    if codes.state[k] < UNSIGNED:
        coding.codes = span.s[k] + 2 * at
        apply(rule, x, x, &given, <const floating *> NULL, n)
        return
    place = at % codes.row
    coding.codes = span.s[k] + at
    coding.largest = <float *> codes.largest[k] + block_of(codes.row, at)
    while i < n:
        now = block_left(codes.row, place)
        apply(rule, x + i, x + i, &given, <const floating *> NULL, now)
        place = place_after(codes.row, place, now)
        coding.codes += now
        coding.largest += 1
        i += now


cdef void encode_slots(
    const Span *span, Py_ssize_t slots, Py_ssize_t at, Py_ssize_t n, floating **s
) noexcept nogil:
    """Encode n numbers of each slot, at most a tile, from `at` on."""
    cdef const Codes *codes = <const Codes *> span.codes
    cdef uint32_t[TILE] bits
    cdef Coding coding
    cdef floating *given = <floating *> &coding
    cdef Py_ssize_t k, pair = -1
    for k in range(slots):
        if codes.state[k] == PLAIN:
            continue
        if k // 2 != pair:
            pair = k // 2
            coding.bits, coding.stream = bits, codes.streams[pair]
            coding.first = <uint32_t> (span.first + at)
            apply(codes.codecs.random_bits, s[k], s[k], &given, <const floating *> NULL, n)
        coding.shift = k % 2 * 16
        encode_slot(span, k, at, n, s[k], bits, &coding)


cdef inline void encode_slot(
    const Span *span, Py_ssize_t k, Py_ssize_t at, Py_ssize_t n, floating *x, const uint32_t *bits,
    Coding *coding,
) noexcept nogil:
    """Encode n numbers of a slot with random bits."""
    cdef const Codes *codes = <const Codes *> span.codes
    cdef const Rule *rule = codes.codecs.encode[codes.state[k]]
    cdef floating *given = <floating *> coding
    cdef Py_ssize_t i = 0, place, now
    coding.bits = bits
    if codes.state[k] < UNSIGNED:
        coding.codes = span.s[k] + 2 * at
        apply(rule, x, x, &given, <const floating *> NULL, n)
        return
    place = at % codes.row
    coding.codes = span.s[k] + at
    coding.largest = <float *> codes.largest[k] + block_of(codes.row, at)
    while i < n:
        now = block_left(codes.row, place)
        apply(rule, x + i, x + i, &given, <const floating *> NULL, now)
        place = place_after(codes.row, place, now)
        coding.codes += now
        coding.largest += 1
        coding.bits += now
        i += now


# ---------------------------------------------------------------- apart from a walk

cdef void decode_apart(void *work, Py_ssize_t block, Py_ssize_t end) noexcept nogil:
    """Decode some blocks of a span's state to memory of its own."""
    cdef const Apart *apart = <const Apart *> work
    if apart.span.is_double:
        recode(apart, True, block, end, <double *> NULL)
    else:
        recode(apart, True, block, end, <float *> NULL)


cdef void encode_apart(void *work, Py_ssize_t block, Py_ssize_t end) noexcept nogil:
    """Encode what has been decoded to memory of its own."""
    cdef const Apart *apart = <const Apart *> work
    if apart.span.is_double:
        recode(apart, False, block, end, <double *> NULL)
    else:
        recode(apart, False, block, end, <float *> NULL)


cdef void recode(
    const Apart *apart, bint decode, Py_ssize_t block, Py_ssize_t end_block, floating *_
) noexcept nogil:
    cdef const Span *span = &apart.span
    cdef const Codes *codes = <const Codes *> span.codes
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t k, n, at, most = TILE if floating is float else TILE // 2
    cdef Py_ssize_t i = block * BLOCK, end = min(span.n, end_block * BLOCK)
    if codes.row:
        i, end = block_from(codes.row, i), min(span.n, block_from(codes.row, end))
    while i < end:
        n = piece_from(span, i, min(most, end - i), &at)
        for k in range(apart.slots):
            s[k] = <floating *> apart.numbers[k] + at
            if decode and codes.state[k] != PLAIN:
                decode_slot(span, k, at, n, s[k])
        if not decode:
            encode_slots(span, apart.slots, at, n, s)
        i += n
