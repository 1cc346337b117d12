# The walk over a span some of whose state is kept as codes; included by driver.pyx.

cdef enum:
    CODED_TILE = 256            # Adam float32, 1 M, two threads: bfloat16 takes 1.30 bare updates, with 512 1.34


cdef void coded(const Span *span, const floating *c, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Send elements i to end of a span through its pipeline, a tile at a time.

    A tile of the state is decoded to scratch memory in L1, passes the rule as any other, and is
    encoded. A block of 8-bit codes is worked on as a whole, by the thread in whose part it begins.
    """
    cdef const Stages *stages = <const Stages *> span.stages
    cdef const Codes *codes = <const Codes *> span.codes
    cdef floating[MAX_SLOTS + 2][TILE] scratch
    cdef floating *s[MAX_SLOTS]
    cdef floating *p
    cdef floating *g
    cdef Py_ssize_t k, n, at, most = CODED_TILE
    if codes.row:
        i, end = block_from(codes.row, i), min(span.n, block_from(codes.row, end))
    while i < end:
        n = piece_from(span, i, min(most, end - i), &at)
        if span.rows and i + n < span.n:
            fetch_coded_row(span, i + n, sizeof(floating))
        for k in range(stages.rule.slots):
            s[k] = scratch[k]
            if codes.state[k] == PLAIN:
                s[k] = <floating *> span.s[k] + at
            else:
                decode_slot(span, k, at, n, scratch[k])
        p, g = <floating *> span.p + at, <floating *> span.g + i
        if codes.p != PLAIN and not codes.has_master:
            p = scratch[MAX_SLOTS]
            decode_half(codes.codecs, codes.p, codes.p_codes + 2 * at, p, n)
        if codes.g != PLAIN:
            g = scratch[MAX_SLOTS + 1]
            decode_half(codes.codecs, codes.g, span.g + 2 * i, g, n)
        run_pipeline(span, p, g, s, <floating *> span.average + at, c, n, i, NULL)
        if codes.p != PLAIN:
            encode_param(span, at, n, p)
        if codes.g != PLAIN and stages.zero:
            memset(<void *> (span.g + 2 * i), 0, 2 * n)
        encode_slots(span, stages.rule.slots, at, n, s)
        i += n


cdef void lead_on(Span *span, Codes *codes, Py_ssize_t first) noexcept nogil:
    """Let a span begin some whole rows further on; `codes` is a copy of its own, if it has any."""
    cdef Py_ssize_t k, size = sizeof(double) if span.is_double else sizeof(float), width
    for k in range(MAX_SLOTS):
        width = size
        if span.codes and codes.state[k] != PLAIN:
            width = 2 if codes.state[k] < UNSIGNED else 1
        if span.codes and codes.state[k] >= UNSIGNED:
            codes.largest[k] += block_of(codes.row, first) * <Py_ssize_t> sizeof(float)
        if span.s[k]:
            span.s[k] += first * width
    if span.p:
        span.p += first * size
    if span.average:
        span.average += first * size
    span.first += first
    if span.codes:
        codes.p_codes += 2 * first
        span.codes = <Py_ssize_t> codes


cdef inline void fetch_coded_row(const Span *span, Py_ssize_t i, Py_ssize_t size) noexcept nogil:
    """Prefetch what belongs to an element and to the rest of its row, which is worked on next.

    Measured (Adam float32, 1,000 rows of 100 among 100,000, one thread): bfloat16 118 µs with, 140
    without; int8 215 and 249.
    """
    cdef const Codes *codes = <const Codes *> span.codes
    cdef Py_ssize_t at = i % span.length, n = min(<Py_ssize_t> TILE, span.length - at), k, j, width
    at += (<const Py_ssize_t *> span.rows)[i // span.length] * span.length
    for j in range(0, n * size, 64):
        FO_PREFETCH(span.p + at * size + j)
    for k in range((<const Stages *> span.stages).rule.slots):
        width = size if codes.state[k] == PLAIN else 2 if codes.state[k] < UNSIGNED else 1
        for j in range(0, n * width, 64):
            FO_PREFETCH(span.s[k] + at * width + j)
        if codes.state[k] >= UNSIGNED:
            FO_PREFETCH(codes.largest[k] + 4 * block_of(codes.row, at))


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
    cdef Coding coding, other
    cdef floating *given = <floating *> &coding
    cdef floating *both[2]
    cdef Py_ssize_t k, pair = -1
    for k in range(slots):
        if codes.state[k] == PLAIN:
            continue
        if k % 2 and k // 2 == pair and codes.state[k - 1] == BFLOAT16 == codes.state[k]:
            continue                # with the one before
        if codes.state[k] == BFLOAT16 and k % 2 == 0 and k + 1 < slots and codes.state[k + 1] == BFLOAT16:
            pair = k // 2
            both[0], both[1] = given, <floating *> &other
            coding.stream, coding.first = codes.streams[pair], <uint32_t> (span.first + at)
            coding.codes, other.codes = span.s[k] + 2 * at, span.s[k + 1] + 2 * at
            apply(codes.codecs.both_to_bfloat16, s[k + 1], s[k], both, <const floating *> NULL, n)
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


cdef inline void decode_half(
    const Codecs *codecs, int code, Py_ssize_t address, floating *x, Py_ssize_t n
) noexcept nogil:
    """Decode n numbers of 16 bits."""
    cdef Coding coding
    cdef floating *given = <floating *> &coding
    coding.codes = address
    apply(codecs.decode[code], x, x, &given, <const floating *> NULL, n)


cdef void encode_param(const Span *span, Py_ssize_t at, Py_ssize_t n, floating *p) noexcept nogil:
    """Encode n elements of a parameter: to the nearest code if they have been copied from a master."""
    cdef const Codes *codes = <const Codes *> span.codes
    cdef uint32_t[TILE] bits
    cdef Coding coding
    cdef floating *given = <floating *> &coding
    coding.codes = codes.p_codes + 2 * at
    if codes.has_master:
        apply(codes.codecs.nearest[codes.p], p, p, &given, <const floating *> NULL, n)
        return
    coding.bits, coding.shift, coding.stream = bits, 0, codes.streams[3]
    coding.first = <uint32_t> (span.first + at)
    apply(codes.codecs.random_bits, p, p, &given, <const floating *> NULL, n)
    apply(codes.codecs.encode[codes.p], p, p, &given, <const floating *> NULL, n)


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
            if codes.p != PLAIN:
                encode_param(span, at, n, <floating *> apart.p + at)
        elif codes.p != PLAIN and not codes.has_master:
            decode_half(codes.codecs, codes.p, codes.p_codes + 2 * at, <floating *> apart.p + at, n)
        i += n
