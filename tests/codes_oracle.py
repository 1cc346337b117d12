"""How state is kept as codes, in plain NumPy: what the compiled codecs are compared with."""

import numpy as np

ONE, STEP = 0x3F800000, 20
LARGEST_UNSIGNED, LARGEST_SIGNED = np.float32(4026531840.0), np.float32(61439.0)
BLOCK = 256
MASK = (1 << 64) - 1


def mixed(x, word):
    x = ((x ^ word) + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def random_bits(seed, number, step, slot, elements):
    """16 random bits for each element: a function of its number, and of nothing else that varies."""
    stream = 0
    for word in (seed, number, step, slot // 2):
        stream = mixed(stream, word)
    x = np.asarray(elements, np.uint64).astype(np.uint32) ^ np.uint32(stream >> 32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
    x ^= x >> np.uint32(15)
    return x >> np.uint32(slot % 2 * 16) & np.uint32(0xFFFF)


def bits_of(x):
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x).astype(np.float32).view(np.uint32)


def floats_of(bits):
    return bits.astype(np.uint32).view(np.float32)


def to_bfloat16(x, random):
    bits = bits_of(x)
    with np.errstate(over="ignore"):
        codes = (bits + random) >> np.uint32(16)
    return np.where(bits << np.uint32(1) > 0xFF000000, 0x7FC0, codes).astype(np.uint16)


def of_bfloat16(codes):
    return floats_of(codes.astype(np.uint32) << np.uint32(16))


def blocks(shape):
    """Slices of the flat array: at most 256 elements, and none spans rows."""
    size = int(np.prod(shape))
    row = size // shape[0] if len(shape) > 1 else size
    return [
        slice(start + at, start + min(at + BLOCK, row))
        for start in range(0, size, row) for at in range(0, row, BLOCK)
    ]


def largest_of(x):
    largest = np.abs(floats_of(bits_of(x))).max()
    if not np.isfinite(largest):
        return np.float32(np.nan)
    return largest if largest >= np.float32(2.0**-90) else np.float32(0)


def to_int8(x, signed, random):
    """Return the codes of a block, and its largest absolute value."""
    largest, x = largest_of(x), floats_of(bits_of(x))
    most = LARGEST_SIGNED if signed else LARGEST_UNSIGNED
    with np.errstate(all="ignore"):
        per_unit = most / largest if largest > 0 else np.float32(0)
        f = (np.abs(x) if signed else x) * per_unit + np.float32(1)
        codes = (bits_of(f) - np.uint32(ONE) + (random << np.uint32(4))) >> np.uint32(STEP)
    if signed:
        return np.minimum(codes, 127) | (np.signbit(x) * np.uint32(128)), largest
    return np.where((codes == 0) & (x > 0), 1, np.minimum(codes, 255)), largest


def of_int8(codes, signed, largest):
    codes = codes.astype(np.uint32)
    with np.errstate(all="ignore"):
        unit = largest / (LARGEST_SIGNED if signed else LARGEST_UNSIGNED)
        f = floats_of(ONE + ((codes & np.uint32(127) if signed else codes) << np.uint32(STEP)))
        x = (f - np.float32(1)) * unit
        return floats_of(bits_of(x) | (codes & np.uint32(128)) << np.uint32(24)) if signed else x


def rounded(x, state_dtype, signed, random):
    """Return what becomes of numbers that are kept as codes: the nearest two, one of them."""
    shape, x = x.shape, np.ascontiguousarray(x).ravel()
    random = np.asarray(random).ravel()
    if state_dtype == "bfloat16":
        return of_bfloat16(to_bfloat16(x, random)).reshape(shape)
    y = np.empty(x.size, np.float32)
    for block in blocks(shape):
        codes, largest = to_int8(x[block], signed, random[block])
        y[block] = of_int8(codes, signed, largest)
    return y.reshape(shape)
