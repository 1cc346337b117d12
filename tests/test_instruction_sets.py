"""Every kernel, with every instruction set of this machine, has the bits of a NumPy statement."""

import ctypes
import re
from pathlib import Path

import codes_oracle
import numpy as np
import pytest
from helpers import (
    CASES,
    LOOP,
    RuleStruct,
    addresses,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_bits,
    call_loop,
    capsule_of,
    copies,
    every_dtype,
    every_rule,
    loop_for,
    random_rows,
    struct_of,
    use_threads,
)

import fastoptim as fo
from fastoptim import kernels
from fastoptim.kernels import PASSES, RULES, use
from fastoptim.kernels.instruction_sets import CODECS

ROOT = Path(__file__).parent.parent
TILE = 128          # of a pass over a piece
# Whole vectors, whole lanes, whole tiles, and what is beside them.
LENGTHS = [
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, TILE - 1, TILE, TILE + 1, 255, 300,
    1000, 1023, 1024, 1025,
]
GUARD = 17          # elements before and behind an array: it is not aligned to vectors then


def in_a_room(values):
    """The values with guards around them; `base` of what is returned shows the guards, too."""
    room = np.full(values.size + 2 * GUARD, 7, values.dtype)
    inside = room[GUARD : GUARD + values.size]
    inside[:] = values
    return inside


def finite_numbers(rng, n, dtype):
    """Random numbers, among them signed zeros, subnormal ones and large ones."""
    info = np.finfo(dtype)
    special = [0.0, -0.0, info.smallest_subnormal, -info.tiny / 4, 1e10, -1e10]
    return np.where(rng.random(n) < 0.2, rng.choice(special, n), rng.normal(size=n)).astype(dtype)


def any_numbers(rng, n, dtype):
    """The same with infinities, NaN and the largest number."""
    special = [np.inf, -np.inf, np.nan, np.finfo(dtype).max]
    numbers = finite_numbers(rng, n, dtype)
    return np.where(rng.random(n) < 0.1, rng.choice(special, n), numbers).astype(dtype)


def coefficients(rng, capsule, dtype):
    """As many coefficients as a kernel takes, all different, as an array."""
    return rng.uniform(0.1, 0.9, struct_of(capsule).coefs).astype(dtype)


def summed_in_lanes(numbers, n_lanes):
    """The sum of float64 numbers in a fixed order: lane by lane, then the lanes."""
    lanes = [0.0] * n_lanes
    for i, x in enumerate(numbers.tolist()):
        lanes[i % n_lanes] += x
    total = 0.0
    for lane in lanes:
        total += lane
    return total


# ---------------------------------------------------------------- rules, through an optimizer


@every_dtype
@every_rule
def test_rules(case, dtype, isa):
    rng = np.random.default_rng(0)
    shapes = {n: (n,) for n in LENGTHS}
    expected = arrays(rng, shapes, dtype)
    params = {n: in_a_room(p) for n, p in expected.items()}
    ours, oracle = case.ours(), case.oracle()
    for _ in range(3):
        grads = arrays(rng, shapes, dtype)
        ours.update(params, grads)
        with np.errstate(all="ignore"):
            oracle.update(expected, grads)
        assert_same_bits(ours, oracle, params, expected)
    for n in LENGTHS:
        assert_same_array(params[n].base, in_a_room(expected[n]).base, f"{n} elements and guards")


# ---------------------------------------------------------------- passes over arrays


def scale(p, g, s, c):
    s[0][:] = c[0] * g


def scale_each(p, g, s, c):
    s[0][:] = c * g


def shift(p, g, s, c):
    s[0][:] = g - c[0]


def shift_each(p, g, s, c):
    s[0][:] = g - c


def bound(p, g, s, c):
    p[:] = np.clip(p, min(c), max(c))


def follow(p, g, s, c):
    p += c[0] * g


def clip(p, g, s, c):
    s[0][:] = np.clip(g, -c[0], c[0])


def l2(p, g, s, c):
    s[0][:] = g + c[0] * p


def shrink(p, g, s, c):
    p *= c[0]


def average(p, g, s, c):
    s[0] += c[0] * (p - s[0])


def swap(p, g, s, c):
    p[:], s[0][:] = s[0].copy(), p.copy()


def zero(p, g, s, c):
    p[:] = 0


def add(p, g, s, c):
    p += g


def stream(p, g, s, c):
    s[0] += g
    s[1] += g
    p += g


def copy(p, g, s, c):
    p[:] = g


def muon_direction(p, g, s, c):
    s[1][:] = c[1] * (s[0] + c[0] * (g - s[0])) + c[2] * g


def muon(p, g, s, c):
    s[0] += c[0] * (g - s[0])
    p -= c[3] * s[1]


def ahead(p, g, s, c):
    p[:] = s[0] + c[0] * g


OVER_ARRAYS = {
    "scale": scale, "start": scale, "scale_each": scale_each,
    "shift": shift, "shift_each": shift_each,
    "bound": bound, "follow": follow, "clip": clip, "l2": l2, "shrink": shrink,
    "average": average, "zero": zero,
    "swap": swap, "add": add, "stream": stream, "copy": copy, "ahead": ahead,
    "muon": muon, "muon_direction": muon_direction,
}


REDUCTIONS = ("survey", "total", "column_squares", "both_squares")     # a test each, below


@every_dtype
@pytest.mark.parametrize("name", OVER_ARRAYS)
def test_passes_over_arrays(name, dtype, isa):
    rng = np.random.default_rng(1)
    n_arrays = 2 + struct_of(PASSES[name]).slots
    for n in LENGTHS:
        given = [in_a_room(any_numbers(rng, n, dtype)) for _ in range(n_arrays)]
        expected = [in_a_room(a) for a in given]
        c = coefficients(rng, PASSES[name], dtype)
        if name == "bound":
            c.sort()
        if name.endswith("_each"):
            c = rng.uniform(0.1, 0.9, n).astype(dtype)
        call_loop(PASSES[name], given[0], given[1], given[2:], c)
        with np.errstate(all="ignore"):
            OVER_ARRAYS[name](expected[0], expected[1], expected[2:], c)
        for a, b in zip(given, expected, strict=True):
            assert_same_array(a.base, b.base, f"{n} elements and guards")


def survey(g, factor):
    """The sum of squares of a scaled block, each of the 32 lanes in its order."""
    scaled = (factor * g).astype(np.float64)
    return summed_in_lanes(scaled * scaled, 32)


@every_dtype
@pytest.mark.parametrize("numbers", [finite_numbers, any_numbers])
def test_survey(numbers, dtype, isa):
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        g, total = in_a_room(numbers(rng, n, dtype)), in_a_room(np.zeros(1))
        before = in_a_room(g)
        c = coefficients(rng, PASSES["survey"], dtype)
        call_loop(PASSES["survey"], g, g, [total], c)
        with np.errstate(all="ignore"):
            expected = in_a_room(np.array([survey(before, c[0])]))
        assert_same_array(total.base, expected.base, f"sum of {n} elements")
        assert_same_array(g.base, before.base, f"{n} elements and guards")


@every_dtype
@pytest.mark.parametrize("numbers", [finite_numbers, any_numbers])
def test_total(numbers, dtype, isa):
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        g, total = in_a_room(numbers(rng, n, dtype)), in_a_room(np.zeros(1))
        call_loop(PASSES["total"], g, g, [total], np.zeros(1, dtype))
        with np.errstate(all="ignore"):
            expected = in_a_room(np.array([summed_in_lanes(g.astype(np.float64), 32)]))
        assert_same_array(total.base, expected.base, f"sum of {n} elements")


@every_dtype
@pytest.mark.parametrize("numbers", [finite_numbers, any_numbers])
def test_squares_of_each_element(numbers, dtype, isa):
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        g, sums = in_a_room(numbers(rng, n, dtype)), in_a_room(rng.standard_normal(n))
        c = coefficients(rng, PASSES["column_squares"], dtype)
        with np.errstate(all="ignore"):
            expected = in_a_room(sums + (c[0] * g).astype(np.float64) ** 2)
        call_loop(PASSES["column_squares"], g, g, [sums], c)
        assert_same_array(sums.base, expected.base, f"{n} sums and guards")


@every_dtype
@pytest.mark.parametrize("numbers", [finite_numbers, any_numbers])
def test_both_squares(numbers, dtype, isa):
    """Lane k has every 32nd element from k on, of p first and then of g."""
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        p, g = (in_a_room(numbers(rng, n, dtype)) for _ in range(2))
        lanes = in_a_room(rng.standard_normal(64))
        expected = in_a_room(lanes)
        with np.errstate(all="ignore"):
            for i in range(n):
                expected[i % 32] += np.float64(p[i]) * np.float64(p[i])
                expected[32 + i % 32] += np.float64(g[i]) * np.float64(g[i])
        call_loop(PASSES["both_squares"], p, g, [lanes], np.zeros(1, dtype))
        assert_same_array(lanes.base, expected.base, f"lanes of {n} elements")


# ---------------------------------------------------------------- codes of 8 and 16 bits


class Coding(ctypes.Structure):
    """struct Coding of kernels/codings.pxd, whose address a codec gets in the place of a slot."""

    _fields_ = [
        ("codes", ctypes.c_void_p), ("largest", ctypes.c_void_p), ("bits", ctypes.c_void_p),
        ("shift", ctypes.c_int), ("first", ctypes.c_uint32), ("stream", ctypes.c_uint32),
    ]


def test_the_coding_is_that_of_the_library():
    text = (ROOT / "src/fastoptim/kernels/codings.pxd").read_text("utf-8")
    after = text.partition("cdef struct Coding:")[2]
    fields = re.findall(r"^    (?:const )?\w+ \*?(\w+)", after, re.MULTILINE)
    assert fields == [name for name, _ in Coding._fields_]


def code(name, p, g, codes=None, largest=None, bits=None, shift=0, first=0, stream=0):
    """Call a codec: a decoder writes to p, an encoder reads g."""
    arrays_of = [None if a is None else a.ctypes.data for a in (codes, largest, bits)]
    coding = Coding(*arrays_of, shift, first, stream)
    slots = (ctypes.c_void_p * 1)(ctypes.addressof(coding))
    loop_for(CODECS[name], p.dtype)(p.ctypes.data, g.ctypes.data, slots, None, p.size)


def numbers_to_round(rng, n, dtype):
    """Random numbers of all sizes, special ones, and those in the middle of two codes."""
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 1e-40, 3.4e38, -3.4e38]
    x = rng.normal(size=n) * 10.0 ** rng.uniform(-44, 38, n)
    middle = (np.frombuffer(rng.bytes(4 * n), np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)
    x = np.where(rng.random(n) < 0.2, rng.choice(special, n), x)
    with np.errstate(all="ignore"):
        return np.where(rng.random(n) < 0.1, middle, x).astype(dtype)


def finite_to_round(rng, n, dtype):
    """The same without those that make a whole block NaN, in a range that a block may have."""
    x = numbers_to_round(rng, n, np.float32) * np.float32(1e-3)
    scale = 10.0 ** rng.uniform(-9, 3, n)
    return np.where(abs(x) < 1e30, x, scale).astype(dtype)


@pytest.mark.parametrize("stream", [0, 1, 0xDEADBEEF])
@every_dtype
def test_random_bits(dtype, stream, isa):
    for n in LENGTHS:
        bits, p = in_a_room(np.zeros(n, np.uint32)), np.zeros(n, dtype)
        for first in (0, 5, 2**32 - 3):
            code("random_bits", p, p, bits=bits, first=first, stream=stream)
            expected = in_a_room(codes_oracle.mixed_bits(first + np.arange(n), stream))
            assert (bits.base == expected.base).all()


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@every_dtype
def test_every_code_of_16_bits_is_decoded(name, dtype, isa):
    codes = np.arange(2**16, dtype=np.uint16)
    for start in (0, 1):        # not aligned, and with a tail
        x = in_a_room(np.zeros(2**16 - start, dtype))
        code(f"of_{name}", x, x, codes[start:])
        with np.errstate(invalid="ignore"):         # of signalling NaN
            expected = getattr(codes_oracle, f"of_{name}")(codes[start:]).astype(dtype)
        assert_same_array(x, expected, "decoded")
        assert (x.base[:GUARD] == 7).all()
        assert (x.base[-GUARD:] == 7).all()


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@every_dtype
def test_encoded_in_16_bits(name, dtype, isa):
    rng = np.random.default_rng(3)
    for n in [*LENGTHS, 20000]:
        x, bits = numbers_to_round(rng, n, dtype), np.frombuffer(rng.bytes(4 * n), np.uint32)
        for shift in (0, 16):
            codes = in_a_room(np.zeros(n, np.uint16))
            code(f"to_{name}", x, x, codes, bits=bits, shift=shift)
            random = bits >> np.uint32(shift) & np.uint32(0xFFFF)
            expected = getattr(codes_oracle, f"to_{name}")(x, random)
            assert (codes == expected).all()
            assert (codes.base[:GUARD] == 7).all()
            assert (codes.base[-GUARD:] == 7).all()
        code(f"nearest_{name}", x, x, codes)
        with np.errstate(all="ignore"):
            expected = codes_oracle.nearest_code(x, name)
        assert (codes == expected).all()


@pytest.mark.parametrize("stream", [0, 0xDEADBEEF])
@every_dtype
def test_two_slots_encoded_together(dtype, stream, isa):
    """The one that is g has the lower 16 bits of each element, the one that is p the upper."""
    rng = np.random.default_rng(5)
    for n in [*LENGTHS, 20000]:
        slots = [numbers_to_round(rng, n, dtype) for _ in range(2)]
        codes = [in_a_room(np.zeros(n, np.uint16)) for _ in slots]
        codings = [Coding(a.ctypes.data, None, None, 0, 2**32 - 9, stream) for a in codes]
        both = (ctypes.c_void_p * 2)(*[ctypes.addressof(one) for one in codings])
        g, p = slots
        loop_for(CODECS["both_to_bfloat16"], dtype)(p.ctypes.data, g.ctypes.data, both, None, n)
        bits = codes_oracle.mixed_bits(2**32 - 9 + np.arange(n), stream)
        for x, found, shift in zip(slots, codes, (0, 16), strict=True):
            random = bits >> np.uint32(shift) & np.uint32(0xFFFF)
            assert (found == codes_oracle.to_bfloat16(x, random)).all()
            assert (found.base[:GUARD] == 7).all()
            assert (found.base[-GUARD:] == 7).all()


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("numbers", [numbers_to_round, finite_to_round])
@every_dtype
def test_codes_of_8_bits(numbers, signed, dtype, isa):
    rng = np.random.default_rng(4)
    kind = "signed" if signed else "unsigned"
    for n in 4 * [n for n in LENGTHS if 0 < n <= 256] + 40 * [256]:
        x, bits = numbers(rng, n, dtype), np.frombuffer(rng.bytes(4 * n), np.uint32)
        x = x if signed else abs(x)
        if rng.random() < 0.1:
            x = x * dtype(1e-35)        # too small for a block
        for shift in (0, 16):
            codes, largest = in_a_room(np.zeros(n, np.uint8)), in_a_room(np.zeros(1, np.float32))
            code(f"to_{kind}", x, x, codes, largest, bits, shift)
            random = bits >> np.uint32(shift) & np.uint32(0xFFFF)
            expected, most = codes_oracle.to_int8(x, signed, random)
            assert (codes == expected).all()
            assert_same_array(largest, np.array([most]), "largest")
            assert (codes.base[:GUARD] == 7).all()
            assert (codes.base[-GUARD:] == 7).all()
            back = in_a_room(np.zeros(n, dtype))
            code(f"of_{kind}", back, back, codes, largest)
            assert_same_array(
                back, codes_oracle.of_int8(expected, signed, most).astype(dtype), "decoded"
            )
            assert (back.base[-GUARD:] == 7).all()


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@every_dtype
def test_every_code_of_8_bits_is_decoded(signed, dtype, isa):
    codes = np.arange(256, dtype=np.uint8)
    for largest in (1.0, 3.4e38, 1e-27, 0.0, np.nan):
        most, x = np.array([largest], np.float32), np.zeros(256, dtype)
        code("of_signed" if signed else "of_unsigned", x, x, codes, most)
        expected = codes_oracle.of_int8(codes, signed, most[0])
        assert_same_array(x, np.asarray(expected).astype(dtype), "decoded")


def test_every_codec_is_compared():
    compared = {f"{way}_{name}" for way in ("of", "to") for name in ("signed", "unsigned")}
    compared |= {
        f"{way}_{name}" for way in ("of", "to", "nearest") for name in ("bfloat16", "float16")
    }
    assert compared | {"random_bits", "both_to_bfloat16"} == set(CODECS)


# ---------------------------------------------------------------- passes over pieces of a point


class Piece(ctypes.Structure):
    """struct Piece of kernels/ode/piece.pxd, whose address a pass gets in the place of p."""

    _fields_ = [
        ("x", ctypes.c_ssize_t), ("digest", ctypes.c_uint64), ("altered", ctypes.c_ssize_t),
        ("total", ctypes.c_double),
    ]


def test_the_piece_is_that_of_the_library():
    text = (ROOT / "src/fastoptim/kernels/ode/piece.pxd").read_text("utf-8")
    fields = re.findall(r"^    \w+ (\w+)", text.partition("cdef struct Piece:")[2], re.MULTILINE)
    assert fields == [name for name, _ in Piece._fields_]


def xorshift(count):
    """Marsaglia's random numbers of 32 bits (2003)."""
    numbers, state = [], 2463534242
    for _ in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        numbers.append(state)
    return np.array(numbers, np.uint32)


KEYS = xorshift(2 * TILE)


def digest_of_tile(x):
    """The sum of (w + key)(w' + key') over pairs of words of 32 bits, modulo 2⁶⁴."""
    words = x.view(np.uint32)
    half = words.size // 2
    keyed = (words + KEYS[: words.size]).astype(np.uint64)
    total = int((keyed[:half] * keyed[half : 2 * half]).sum())
    if words.size % 2 == 1:
        total += int(keyed[-1]) * int(KEYS[0])
    return total % 2**64


def digest_of(x):
    digest = 0
    for start in range(0, x.size, TILE):
        digest = (digest * 0x9E3779B97F4A7C15 + digest_of_tile(x[start : start + TILE])) % 2**64
    return digest


def weighted_sum(slopes, weights):
    """From left to right."""
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total


def write(piece, x, new):
    """Let the point be `new`, and note whether it held what was written last."""
    piece.altered = digest_of(x) != piece.digest
    x[:] = new
    piece.digest = digest_of(x)


def save(piece, x, g, s, c):
    s[0][:] = x
    piece.altered, piece.digest = 0, digest_of(x)


def restore(piece, x, g, s, c):
    write(piece, x, s[0])
    piece.digest = 0


def leap(piece, x, g, s, c):
    s[0][:] = x
    x[:] = s[0] + c[0] * g
    piece.altered, piece.digest = 0, digest_of(x)


def combine(piece, x, g, s, c):
    write(piece, x, s[0] + weighted_sum([*s[1:], g], c))


def slope(piece, x, g, s, c):
    write(piece, x, s[0] + weighted_sum([*s[1:-1], g], c))
    s[-1][:] = g


def embedded(piece, x, g, s, c):
    slopes, m = [*s[1:-1], g], len(c) // 2
    write(piece, x, s[0] + weighted_sum(slopes, c[:m]))
    s[-1][:] = weighted_sum(slopes, c[m:])


def error_squared(piece, x, g, s, c):
    y, error = s
    weight, rtol, atol = c
    d = (error + weight * g + 0 * x) / (atol + rtol * np.maximum(np.abs(y), np.abs(x)))
    squares = d.astype(np.float64) * d.astype(np.float64)
    piece.total = summed_in_lanes(squares, 16)
    write(piece, x, x)


OVER_PIECES = {
    "save": save, "restore": restore, "leap": leap,
    "combine1": combine, "combine2": combine, "combine3": combine, "combine5": combine,
    "slope1": slope, "slope2": slope, "slope3": slope, "slope4": slope, "slope5": slope,
    "embedded3": embedded, "embedded5": embedded, "error_squared": error_squared,
}


@every_dtype
@pytest.mark.parametrize("altered", [False, True])
@pytest.mark.parametrize("name", OVER_PIECES)
def test_passes_over_pieces(name, altered, dtype, isa):
    """`altered`: the point holds other bits than the digest is of."""
    rng = np.random.default_rng(3)
    n_arrays = 2 + struct_of(PASSES[name]).slots
    loop = loop_for(PASSES[name], dtype)
    for n in LENGTHS:
        given = [in_a_room(finite_numbers(rng, n, dtype)) for _ in range(n_arrays)]
        expected = [in_a_room(a) for a in given]
        c = coefficients(rng, PASSES[name], dtype)
        x, g, *s = given
        digest = digest_of(x) + 1 if altered else digest_of(x)
        piece, theirs = Piece(x.ctypes.data, digest, 5, 5.0), Piece(0, digest, 5, 5.0)
        loop(ctypes.addressof(piece), g.ctypes.data, addresses(s), c.ctypes.data, n)
        OVER_PIECES[name](theirs, expected[0], expected[1], expected[2:], c)
        for a, b in zip(given, expected, strict=True):
            assert_same_array(a.base, b.base, f"{n} elements and guards")
        assert piece.digest == theirs.digest, n
        assert piece.altered == theirs.altered, n
        assert piece.total == theirs.total, n


# test_adafactor.py compares what they do with the listing, on each instruction set.
OVER_MATRICES = {
    "factored", "factored_momentum", "squares", "factored_squares", "adafactor_squares", "sum",
}


# ---------------------------------------------------------------- none is left out


def test_every_kernel_is_in_a_table():
    of_rules = {case.kernel for case in CASES}
    of_passes = {*OVER_ARRAYS, *REDUCTIONS, *OVER_PIECES, *OVER_MATRICES}
    assert of_rules == set(RULES)
    assert of_passes == set(PASSES)
    assert of_rules | of_passes == set(RULES) | set(PASSES)


def test_every_instruction_set_has_loops_of_its_own(isa):
    """Else a test with `isa` would run the same loop several times."""
    chosen = {name: struct_of(capsule) for name, capsule in (RULES | PASSES).items()}
    others = [other for other in kernels.available_isas() if other != isa]
    for other in others:
        use(other)
        for name, capsule in (RULES | PASSES).items():
            assert struct_of(capsule).f32 != chosen[name].f32
            assert struct_of(capsule).f64 != chosen[name].f64


# ---------------------------------------------------------------- the doors that use passes

SHAPES = {"W": (30, 41), "b": (7,), "c": (1025,), "e": (0,), "s": ()}


def state_and_params(opt, params):
    """All arrays that updates have written, by name."""
    written = {}
    for slot in opt.kernels[opt.kernel]:
        for key, a in getattr(opt, slot).items():
            written[f"{slot}[{key!r}]"] = a
    for key, a in opt.average_of.items():
        written[f"average_of[{key!r}]"] = a
    for key, p in params.items():
        written[f"params[{key!r}]"] = p
    return written


def updated(dtype, opt):
    rng = np.random.default_rng(4)
    params = arrays(rng, SHAPES, dtype)
    for _ in range(3):
        grads = arrays(rng, SHAPES, dtype)
        opt.update(params, grads)
    return state_and_params(opt, params) | {f"grads[{key!r}]": g for key, g in grads.items()}


def clipping_by_value(dtype):
    return updated(dtype, fo.Adam(clip_value=0.7))


def clipping_by_norm(dtype):
    return updated(dtype, fo.Adam(clip_norm=3.0))


def l2_regularisation(dtype):
    return updated(dtype, fo.Momentum(weight_decay=0.03))


def decoupled_weight_decay(dtype):
    return updated(dtype, fo.AdamW(weight_decay=0.03))


def average_of_parameters(dtype):
    return updated(dtype, fo.SGD(average=0.9))


def parameters_that_hold_their_averages(dtype):
    rng = np.random.default_rng(0)
    params, opt = {"W": rng.standard_normal(999).astype(dtype)}, fo.SGD(lr=0.1, average=0.5)
    opt.update(params, {"W": rng.standard_normal(999).astype(dtype)})
    with opt.averaged(params):
        return copies(params) | {"weights": opt.average_of["W"].copy()}


def zeroed_gradients(dtype):
    return updated(dtype, fo.SGD(zero_grads=True))


def clipping_of_columns(dtype):
    return updated(dtype, fo.Adam(agc=0.3))


def orthogonalised_momentum(dtype):
    """On diagonal matrices of powers of two, so that no product of a BLAS is rounded."""
    params = {"W": np.eye(4, dtype=dtype)}
    opt = fo.Muon(ns_coefficients=(2.0, -1.0, 0.5), ns_steps=2)
    opt.update(params, {"W": np.eye(4, dtype=dtype)})
    return state_and_params(opt, params)


def centred_gradients(dtype):
    return updated(dtype, fo.Adam(centralize=True))


def centred_gradients_in_fortran_order(dtype):
    rng = np.random.default_rng(4)
    params = {"W": np.asfortranarray(rng.standard_normal((30, 41)).astype(dtype))}
    opt = fo.Adam(centralize=True)
    opt.update(params, {"W": np.asfortranarray(rng.standard_normal((30, 41)).astype(dtype))})
    return state_and_params(opt, params)


def trust_ratio(dtype):
    return updated(dtype, fo.LAMB(lr=0.1))


def rates_by_norms(dtype):
    return updated(dtype, fo.LARS(lr=0.1, trust=0.1, weight_decay=0.1))


def bounds(dtype):
    return updated(dtype, fo.SGD(lr=0.1, constraint=(-0.5, 0.5)))


def norms_of_columns(dtype):
    return updated(dtype, fo.SGD(lr=0.1, constraint=fo.MaxNorm(1.0)))


def ascent(dtype):
    return updated(dtype, fo.RMSprop(maximize=True))


def soft_batch(dtype):
    rng = np.random.default_rng(5)
    params, opt = arrays(rng, SHAPES, dtype), fo.Adam(clip_norm=3.0)
    soft = fo.SoftBatch(opt, every=3)
    for _ in range(6):
        soft.update(params, arrays(rng, SHAPES, dtype))
    assert opt.iter == 2
    return state_and_params(opt, params)


def rows(dtype):
    rng = np.random.default_rng(6)
    params, opt = arrays(rng, {"E": (50, 33)}, dtype), fo.Adam(clip_norm=3.0, average=0.9)
    for _ in range(3):
        index, values = random_rows(rng, (50, 33), dtype, 80)
        opt.update(params, {"E": fo.Rows(index, values)})
    return state_and_params(opt, params)


def soft_batch_of_rows(dtype):
    rng = np.random.default_rng(7)
    params, opt = arrays(rng, {"E": (50, 33)}, dtype), fo.Adam(clip_norm=3.0)
    soft = fo.SoftBatch(opt, every=3)
    for _ in range(6):
        index, values = random_rows(rng, (50, 33), dtype, 80)
        soft.update(params, {"E": fo.Rows(index, values)})
    assert opt.iter == 2
    return state_and_params(opt, params)


def coalesced_rows(dtype):
    rng = np.random.default_rng(8)
    index, values = random_rows(rng, (50, 33), dtype, 80)
    found, sums = kernels.coalesced("grads['E']", index, values, 50, 33)
    return {"index": found.astype(np.float64), "sums": sums}


def cubic(params):
    return {key: np.asarray(p * p * p + p) for key, p in params.items()}


def look_ahead(dtype):
    params = arrays(np.random.default_rng(9), SHAPES, dtype)
    opt = fo.Momentum(lr=0.01, lookahead=True)
    for _ in range(3):
        opt.step(params, cubic)
    seen = {f"ahead[{key!r}]": a for key, a in opt.lookahead(params).items()}
    return state_and_params(opt, params) | copies(seen)


def solved(dtype, method):
    """Three steps, and one that fn breaks off at its second stage, which is taken back."""
    params = arrays(np.random.default_rng(10), SHAPES, dtype)
    for _ in range(3):
        method.step(params, cubic)
    points = []

    def breaks_off(p):
        points.append(copies(p))
        if len(points) == 2:
            raise ArithmeticError
        return cubic(p)

    with pytest.raises(ArithmeticError):
        method.step(params, breaks_off)
    numbers = np.array([method.time, method.step_size])
    second = {f"second point[{key!r}]": a for key, a in points[1].items()}
    return params | second | {"time and step size": numbers}


def heun(dtype):
    return solved(dtype, fo.Heun(0.01))


def rk23(dtype):
    return solved(dtype, fo.RK23(0.01))


def rk45(dtype):
    return solved(dtype, fo.RK45(0.01))


def solved_within_tolerances(dtype, method):
    written = solved(dtype, method)
    assert method.rejected > 0
    return written


def rk23_with_tolerances(dtype):
    return solved_within_tolerances(dtype, fo.RK23(0.5, 1e-4, 1e-6))


def rk45_with_tolerances(dtype):
    return solved_within_tolerances(dtype, fo.RK45(0.5, 1e-4, 1e-6))


def rk45_that_knows_the_first_slope(dtype):
    return solved_within_tolerances(dtype, fo.RK45(0.5, 1e-4, 1e-6, deterministic=True))


def factored_second_moments(dtype):
    rng = np.random.default_rng(4)
    start = arrays(rng, {"W": (70, 41), "b": (41,)}, dtype)
    results = {}
    for beta1 in (0.0, 0.5):
        params, opt = copies(start), fo.Adafactor(beta1=beta1)
        for _ in range(2):
            opt.update(params, arrays(rng, {"W": (70, 41), "b": (41,)}, dtype))
        results |= {(key, beta1): p for key, p in params.items()}
    return results


DOORS = [
    factored_second_moments,
    clipping_by_value, clipping_by_norm, l2_regularisation, decoupled_weight_decay,
    average_of_parameters, parameters_that_hold_their_averages, zeroed_gradients, ascent,
    orthogonalised_momentum, clipping_of_columns, centred_gradients,
    centred_gradients_in_fortran_order, trust_ratio,
    rates_by_norms, bounds, norms_of_columns,
    soft_batch, rows, soft_batch_of_rows,
    coalesced_rows, look_ahead, heun, rk23, rk45, rk23_with_tolerances, rk45_with_tolerances,
    rk45_that_knows_the_first_slope,
]


@every_dtype
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_doors_have_the_bits_of_the_baseline(door, dtype, isa):
    """Other tests compare each door's bits with its oracle, on the instruction set in use."""
    with np.errstate(over="ignore", invalid="ignore"):
        given = door(dtype)
        use("baseline")
        assert_same_arrays(given, door(dtype), door.__name__)


class Spy:
    """A kernel that notes its name in `ran`, and then does what the real one does."""

    def __init__(self, name, real, ran):
        narrow, wide = loop_for(real, np.float32), loop_for(real, np.float64)

        def run_narrow(p, g, s, c, n):
            ran.add(name)
            narrow(p, g, s, c, n)

        def run_wide(p, g, s, c, n):
            ran.add(name)
            wide(p, g, s, c, n)

        rule = struct_of(real)
        self.loops = LOOP(run_narrow), LOOP(run_wide)
        f32, f64 = [ctypes.cast(loop, ctypes.c_void_p) for loop in self.loops]
        self.struct = RuleStruct(rule.abi, rule.name, rule.slots, rule.coefs, f32, f64)
        self.capsule = capsule_of(self.struct)


@every_dtype
def test_the_doors_run_every_pass_that_was_chosen(dtype, monkeypatch):
    """What `use` puts into PASSES is what runs, and the doors above need all of it."""
    use_threads(1)
    ran = set()
    spies = [Spy(name, real, ran) for name, real in PASSES.items()]
    for name, spy in zip(list(PASSES), spies, strict=True):
        monkeypatch.setitem(PASSES, name, spy.capsule)
    with np.errstate(over="ignore", invalid="ignore"):
        for door in DOORS:
            door(dtype)
    assert ran == set(PASSES) - {"stream"}      # which the benchmarks alone use
