"""State that is kept as codes of 8 or 16 bits, between two updates.

The driver decodes a tile of the state to scratch memory, lets it pass the rule, and encodes it. Where
the state is needed as a whole, or does not lie as the parameter does, a key's state is decoded to
memory of its own before the update and encoded after it: `apart`. Both ways give the same codes.

Codes are always in C order, and so the number of an element is its place in C order. With a seed, the
key's number, the slot and the step of the key it says which random bits round it. So neither threads
nor layouts nor instruction sets change a code.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t, uint64_t

from fastoptim.kernels.instruction_sets import CODECS

from fastoptim.kernels.codings cimport Coding
from fastoptim.kernels.driver cimport Apart, decode_apart, encode_apart, share
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport (
    BFLOAT16,
    CODE_BLOCK,
    FLOAT16,
    PLAIN,
    SIGNED,
    UNSIGNED,
    Codecs,
    Codes,
    Span,
    blocks_of,
)
from fastoptim.kernels.threads cimport most_for
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour, Half, TouchedRows, detour_of
from fastoptim.kernels.update.pipeline cimport NOT_PROJECTED, Pipeline
from fastoptim.kernels.update.checks.halves import master_changed
from fastoptim.kernels.update.store import MASTER

from fastoptim.kernels.update.store cimport Record, is_factored, largest_of, row_of

cnp.import_array()


cdef const Rule *codec(str name) except NULL:
    return <const Rule *> PyCapsule_GetPointer(CODECS[name], "fastoptim.Rule")


cdef int set_codecs(Codecs *codecs) except -1:
    """Set the loops that decode and encode, for the instruction set that is in use."""
    codecs.random_bits = codec("random_bits")
    codecs.both_to_bfloat16 = codec("both_to_bfloat16")
    codecs.decode[<int> BFLOAT16] = codec("of_bfloat16")
    codecs.encode[<int> BFLOAT16] = codec("to_bfloat16")
    codecs.nearest[<int> BFLOAT16] = codec("nearest_bfloat16")
    codecs.decode[<int> FLOAT16] = codec("of_float16")
    codecs.encode[<int> FLOAT16] = codec("to_float16")
    codecs.nearest[<int> FLOAT16] = codec("nearest_float16")
    codecs.decode[<int> UNSIGNED] = codec("of_unsigned")
    codecs.encode[<int> UNSIGNED] = codec("to_unsigned")
    codecs.decode[<int> SIGNED] = codec("of_signed")
    codecs.encode[<int> SIGNED] = codec("to_signed")
    return 0


cdef inline uint64_t mixed(uint64_t x, uint64_t word) noexcept nogil:
    """Mix a word into a state of 64 bits; the finalizer is that of SplitMix64."""
    x = (x ^ word) + <uint64_t> 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EB
    return x ^ (x >> 31)


cdef uint32_t stream(uint64_t seed, uint64_t number, uint64_t step, uint64_t pair) noexcept nogil:
    """Return the stream of random bits of two slots of a key at a step."""
    return <uint32_t> (mixed(mixed(mixed(mixed(0, seed), number), step), pair) >> 32)


cdef bint goes_apart(Call call, Py_ssize_t k, Detour detour) noexcept:
    """Whether a span's state has to be decoded as a whole."""
    cdef Span *span = &call.table.spans[k]
    cdef Pipeline pipeline = call.plan.pipelines[(<Record> call.records[k]).group]
    if span.grid or pipeline.trusts or pipeline.projects != NOT_PROJECTED or call.plan.prelude is not None:
        return True
    if pipeline.of_tensors and (<Record> call.records[k]).half != PLAIN:    # the parameter is looked at
        return True
    return type(detour) is TouchedRows and (<TouchedRows> detour).apart


@cython.final
cdef class Coder:
    """Leads the spans of an update to their codecs."""

    def __dealloc__(self):
        PyMem_Free(self.apart)

    cdef int prepare(self, Call call) except -1:
        """Say of each span how its state is kept; ask for the memory of what goes apart."""
        cdef Py_ssize_t k, next_detour = 0
        cdef int pair
        cdef Record record
        cdef Detour detour
        cdef Pipeline pipeline
        cdef Span *span
        self.count = 0
        call.unpacked = None
        set_codecs(&self.codecs)
        for k in range(call.table.count):
            record = <Record> call.records[k]
            span = &call.table.spans[k]
            detour = detour_of(call, k, &next_detour)
            if record.coding is None and record.half == PLAIN:
                continue
            pipeline = call.plan.pipelines[record.group]
            self.describe(call, k, record, pipeline)
            self.describe_half(call, k, record, pipeline, detour)
            for pair in range(4):
                record.codes.streams[pair] = stream(
                    pipeline.seed, record.number, record.t + 1, pair
                )
            span.codes = <Py_ssize_t> &record.codes
            if goes_apart(call, k, detour):
                self.take_apart(call, k)
        return 0

    cdef int describe(self, Call call, Py_ssize_t k, Record record, Pipeline pipeline) except -1:
        """Set how each slot of a record is kept, and where what its blocks have in common is."""
        cdef Codes *codes = &record.codes
        cdef tuple slots = pipeline.slots, kinds = pipeline.codes
        cdef int n
        if is_factored(record, pipeline):
            slots, kinds = pipeline.factored_slots, pipeline.factored_codes
        codes.codecs = &self.codecs
        codes.row = 0
        state, _ = call.state_of(k, record.state, None)
        for n in range(MAX_SLOTS):
            codes.state[n] = PLAIN
        for n in range(len(slots) if record.coding is not None else 0):
            codes.state[n] = kinds[n]
            if codes.state[n] >= UNSIGNED:
                codes.row = row_of(record)
                codes.largest[n] = <Py_ssize_t> cnp.PyArray_DATA(
                    <cnp.ndarray> state[largest_of(slots[n])]
                )
        return 0

    cdef int describe_half(
        self, Call call, Py_ssize_t k, Record record, Pipeline pipeline, Detour detour
    ) except -1:
        """Set where a parameter of 16 bits is, and its copy as numbers, if there is one."""
        cdef Codes *codes = &record.codes
        cdef Span *span = &call.table.spans[k]
        codes.p, codes.g, codes.has_master = record.half, PLAIN, False
        if record.half == PLAIN:
            return 0
        state, _ = call.state_of(k, record.state, None)
        codes.p_codes, span.p = span.p, 0
        if type(detour) is Half:
            codes.p_codes = (<Half> detour).address()
        codes.has_master = MASTER in state
        if codes.has_master != pipeline.master:
            raise master_changed(record.key, codes.has_master)
        if codes.has_master:
            span.p = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> state[MASTER])
        if type(detour) is Half and cnp.PyArray_ITEMSIZE((<Half> detour).grad) == 2:
            codes.g = record.half
        return 0

    cdef int take_apart(self, Call call, Py_ssize_t k) except -1:
        """Let a span have its state as numbers, in memory of this call."""
        cdef Record record = <Record> call.records[k]
        cdef Pipeline pipeline = call.plan.pipelines[record.group]
        cdef Span *span = &call.table.spans[k]
        cdef tuple slots = pipeline.slots
        cdef Apart *apart
        cdef void *memory
        cdef int n
        cdef dict numbers
        if self.count == self.room:
            memory = PyMem_Realloc(self.apart, (2 * self.room + 4) * sizeof(Apart))
            if memory == NULL:
                raise MemoryError
            self.apart, self.room = <Apart *> memory, 2 * self.room + 4
        if is_factored(record, pipeline):
            slots = pipeline.factored_slots
        state, average = call.state_of(k, record.state, record.average)
        numbers = dict(state)
        apart = &self.apart[self.count]
        apart.span, apart.slots = span[0], len(slots)
        for n in range(len(slots)):
            if record.codes.state[n] != PLAIN:
                numbers[slots[n]] = np.empty(record.shape, record.dtype)
                apart.numbers[n] = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> numbers[slots[n]])
                span.s[n] = apart.numbers[n]
        if record.half != PLAIN:
            if not record.codes.has_master:
                numbers[""] = np.empty(record.shape, np.float32)
                span.p = <Py_ssize_t> cnp.PyArray_DATA(<cnp.ndarray> numbers[""])
            apart.p = span.p
        span.codes = 0
        self.count += 1
        if call.unpacked is None:
            call.unpacked = {}
        call.unpacked[k] = numbers, average
        return 0

    cdef void decode(self, Call call) noexcept:
        """Decode what goes apart."""
        cdef Py_ssize_t k
        with nogil:
            for k in range(self.count):
                share(
                    decode_apart, &self.apart[k], blocks_of(self.apart[k].span.n), call.flush,
                    most_for(self.apart[k].span.n),
                )

    cdef void encode(self, Call call) noexcept:
        """Encode it again, after the update."""
        cdef Py_ssize_t k
        cdef Detour detour
        with nogil:
            for k in range(self.count):
                share(
                    encode_apart, &self.apart[k], blocks_of(self.apart[k].span.n), call.flush,
                    most_for(self.apart[k].span.n),
                )
        self.count = 0
        for detour in call.detours or ():
            if type(detour) is Half:
                (<Half> detour).write_back()


# ---------------------------------------------------------------- for whoever looks at state, or converts it

def blocks_in(tuple shape):
    """Return how many blocks the 8-bit codes of an array have."""
    cdef Py_ssize_t size = 1, row
    for n in shape:
        size *= n
    if size == 0:
        return 0
    row = size // shape[0] if len(shape) > 1 else size
    return size // row * ((row + CODE_BLOCK - 1) // CODE_BLOCK)


def decoded(int code, cnp.ndarray codes, largest, dtype):
    """Return the numbers that codes stand for.

    Parameters
    ----------
    code : int
        Which `Code`.
    codes : array of uint16 or uint8, in C order
    largest : array of float32, or None
        Of the blocks of 8-bit codes.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    ValueError
        The codes are not of that kind, or there is not one largest for each block.
    """
    cdef tuple shape = (<object> codes).shape
    of_type = np.uint16 if code < UNSIGNED else np.uint8
    if codes.dtype != of_type or not cnp.PyArray_IS_C_CONTIGUOUS(codes):
        raise ValueError(f"codes must be {of_type.__name__} in C order, got {codes.dtype}")
    if code >= UNSIGNED and (
        not isinstance(largest, np.ndarray) or largest.dtype != np.float32
        or largest.shape != (blocks_in(shape),) or not largest.flags.c_contiguous
    ):
        raise ValueError(f"codes of shape {shape} need {blocks_in(shape)} float32 of their blocks")
    numbers = np.empty(shape, np.float32)
    by_block(code, codes, largest, numbers, True)
    with np.errstate(invalid="ignore"):     # of signalling NaN
        return numbers.astype(dtype, copy=False)


def encoded(int code, numbers):
    """Return numbers as the nearest codes, and the largest of each block or None."""
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.require(numbers, np.float32, "C")
    codes = np.empty(numbers.shape, np.uint16 if code < UNSIGNED else np.uint8)
    largest = None
    if code >= UNSIGNED:
        largest = np.zeros(blocks_in(numbers.shape), np.float32)
    by_block(code, codes, largest, numbers, False)
    return codes, largest


cdef int by_block(int code, cnp.ndarray codes, object largest, cnp.ndarray numbers, bint decode) except -1:
    """Decode or encode an array, to the nearest code, block by block."""
    cdef Codecs codecs
    cdef Coding coding
    cdef uint32_t[CODE_BLOCK] half
    cdef Py_ssize_t size = cnp.PyArray_SIZE(codes), row = size, i = 0, n, block = 0
    cdef float *x = <float *> cnp.PyArray_DATA(numbers)
    cdef float *given = <float *> &coding
    cdef const Rule *rule
    set_codecs(&codecs)
    rule = codecs.decode[code] if decode else codecs.nearest[code] if code < UNSIGNED else codecs.encode[code]
    if cnp.PyArray_NDIM(codes) > 1 and size:
        row = size // cnp.PyArray_DIM(codes, 0)
    for n in range(CODE_BLOCK):
        half[n] = 0x8000
    coding.bits, coding.shift = half, 0
    while i < size:
        n = min(<Py_ssize_t> CODE_BLOCK, row - i % row)
        coding.codes = <Py_ssize_t> cnp.PyArray_DATA(codes) + i * cnp.PyArray_ITEMSIZE(codes)
        if largest is not None:
            coding.largest = <float *> cnp.PyArray_DATA(<cnp.ndarray> largest) + block
        rule.f32(x + i, x + i, &given, NULL, n)
        i += n
        block += 1
    return 0
