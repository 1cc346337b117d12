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
    """16 random bits for each element: a function of its number, and of nothing else there."""
    stream = 0
    for word in (seed, number, step, slot // 2):
        stream = mixed(stream, word)
    return mixed_bits(elements, stream >> 32) >> np.uint32(slot % 2 * 16) & np.uint32(0xFFFF)


def mixed_bits(elements, stream):
    """32 bits for each element: its number and a stream's, mixed."""
    x = np.asarray(elements).astype(np.uint64).astype(np.uint32) ^ np.uint32(stream)
    x = x * np.uint32(0x9E3779B1)
    return x ^ (x >> np.uint32(15))


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


def of_float16(codes):
    return codes.view(np.float16).astype(np.float32)


def to_float16(x, random):
    """One of the two float16 beside a number; the chance is linear in between, in steps of 2⁻¹⁶."""
    x = floats_of(bits_of(x))
    bits = bits_of(x) & np.uint32(0x7FFFFFFF)
    with np.errstate(all="ignore"):
        normal = (bits - np.uint32(112 << 23) + (random >> np.uint32(3))) >> np.uint32(13)
        chance = random.astype(np.float32) / np.float32(2**16)
        scaled = floats_of(bits) * np.float32(2.0**24) + chance
        small = np.where(bits < 113 << 23, scaled, 0).astype(np.uint32)
    codes = np.minimum(np.where(bits < 113 << 23, small, normal), 0x7C00)
    codes = np.where(bits > 0x7F800000, 0x7E00, codes)
    return (codes | np.signbit(x) * np.uint32(0x8000)).astype(np.uint16)


def nearest_code(x, name):
    """The nearest code of 16 bits, of two the even one."""
    x = floats_of(bits_of(x))
    if name == "float16":
        codes = x.astype(np.float16).view(np.uint16)
        return np.where(np.isnan(x), 0x7E00 | np.signbit(x) * 0x8000, codes)
    return np.where(np.isnan(x), 0x7FC0, bits_of(nearest_bfloat16(x)) >> np.uint32(16))


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


def wide(a):
    """Numbers of 16 bits as float32, in C order."""
    return np.ascontiguousarray(np.asarray(a).astype(np.float32)).reshape(np.shape(a))


def nearest_half(x, dtype):
    """Each number as the nearest of 16 bits."""
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(dtype)


def stochastic_half(x, dtype, random):
    """Each number as one of the two of 16 bits that it lies between, as 16 random bits say."""
    if dtype.name == "bfloat16":
        return to_bfloat16(x, random).view(dtype).reshape(x.shape)
    return to_float16(x, random).view(dtype).reshape(x.shape)


def nearest_bfloat16(x):
    """Numbers as the nearest that bfloat16 has, of two the even one."""
    bits = bits_of(x)
    return floats_of((bits + 0x7FFF + (bits >> np.uint32(16) & 1)) & np.uint32(0xFFFF0000))


def at_start(x, state_dtype, signed):
    """What a slot that starts at a number holds."""
    if state_dtype == "bfloat16":
        return nearest_bfloat16(np.float32(x))
    return of_int8(np.array(127 if signed else 255), signed, np.float32(x))


class Coded:
    """A rule's oracle, of which each slot is rounded after each update, as codes would hold it."""

    def __init__(self, oracle, ours):
        self.oracle, self.ours = oracle, ours
        self.numbers, self.steps = {}, {}

    def __getattr__(self, name):
        return getattr(self.oracle, name)

    def coded_slots(self, p):
        """The slots of a parameter that are kept as codes: their place, name and sign."""
        ours = self.ours
        slots = ours.kernels[ours.kernel]
        if ours.factored and p.ndim > 1 and min(p.shape[-2:]) >= ours.factor_from:
            slots = ours.factored[ours.kernel]
        if not p.ndim or not p.size:
            return []
        declared = [getattr(type(ours), slot) for slot in slots]
        return [
            (k, slot, one.signed) for k, (slot, one) in enumerate(zip(slots, declared, strict=True))
            if not one.whole
        ]

    def begin(self, key, p):
        """Number a key that is new, and round what its state starts at."""
        if key not in self.numbers:
            self.numbers[key], self.steps[key] = len(self.numbers), 0
            for _, slot, signed in self.coded_slots(p):
                start = getattr(type(self.ours), slot).start
                if start is not None and getattr(self.ours, start) != 0:
                    value = at_start(getattr(self.ours, start), self.ours.state_dtype, signed)
                    getattr(self.oracle, slot)[key] = np.full(p.shape, value, p.dtype)
        self.steps[key] += 1

    def round(self, key, p, places=...):
        """Round what was updated of a key's state: some places of the first axis."""
        elements = np.arange(p.size).reshape(p.shape)[places]
        for k, slot, signed in self.coded_slots(p):
            random = random_bits(
                self.ours.rounding_seed, self.numbers[key], self.steps[key], k, elements
            )
            a = getattr(self.oracle, slot)[key]
            a[places] = rounded(a[places], self.ours.state_dtype, signed, random)

    def update(self, params, grads):
        for key, p in params.items():
            self.begin(key, p)
        self.oracle.update(params, grads)
        for key, p in params.items():
            self.round(key, p)

    def update_rows(self, params, key, rows, sums):
        """The same for some rows of one parameter, with a gradient for each."""
        p = params[key]
        self.begin(key, p)
        slots = [slot for _, slot, _ in self.coded_slots(p)]
        whole = {}
        for slot in slots:
            whole[slot] = getattr(self.oracle, slot).setdefault(key, np.zeros_like(p))
            getattr(self.oracle, slot)[key] = whole[slot][rows]
        part = {key: p[rows]}
        self.oracle.update(part, {key: sums})
        p[rows] = part[key]
        for slot in slots:
            whole[slot][rows] = getattr(self.oracle, slot)[key]
            getattr(self.oracle, slot)[key] = whole[slot]
        self.round(key, p, rows)
