# How numbers are kept in 8 or 16 bits; rules.pyx includes this file, so it is compiled for every
# instruction set. s[0] is a Coding; a decoder writes to p, an encoder reads g. No number depends on
# another, but those of a block of 8-bit codes, which have their largest absolute value in common.
#
# Rounding is stochastic: a number between two codes becomes the upper one with a probability that makes
# the mean exact. A decay of 0.999 would be lost by rounding to nearest. 16 random bits decide, a function
# of the element's number and of a stream.

from fastoptim.kernels.codings cimport Coding

cdef extern from "codes.h":
    uint32_t fo_bits(float x) noexcept nogil
    float fo_float(uint32_t bits) noexcept nogil

cdef enum:
    INFINITE = 0x7F800000       # its bits as a float
    ONE = 0x3F800000


# 32 random bits of an element. Multiplying and shifting are bijections, and a stream is random, so that
# each of the bits is as often 0 as 1 over the steps. Better mixed bits gained nothing, and took 0.06 ns.
cdef inline uint32_t random(uint32_t element, uint32_t stream) noexcept nogil:
    cdef uint32_t x = (element ^ stream) * <uint32_t> 0x9E3779B1
    return x ^ (x >> 15)


# Writes them for each of n elements.
cdef void _random_bits(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint32_t *bits = <uint32_t *> coding.bits
    cdef uint32_t element = coding.first, stream = coding.stream
    cdef Py_ssize_t i
    for i in range(n):
        bits[i] = random(element, stream)
        element += 1


# ---------------------------------------------------------------- 16 bits

# bfloat16: the upper half of a float.

cdef void _of_bfloat16(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t *codes = <const uint16_t *> (<const Coding *> s[0]).codes
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = fo_float(<uint32_t> codes[i] << 16)


cdef void _to_bfloat16(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint16_t *codes = <uint16_t *> coding.codes
    cdef const uint32_t *bits = coding.bits
    cdef uint32_t x, y
    cdef int shift = coding.shift
    cdef Py_ssize_t i
    for i in range(n):
        x = fo_bits(<float> g[i])
        y = (x + (bits[i] >> shift & 0xFFFF)) >> 16
        codes[i] = <uint16_t> (0x7FC0 if x << 1 > <uint32_t> INFINITE << 1 else y)      # NaN


# The same of two slots at once, g and p, which have their bits in common: 0.10 ns less per element.
cdef void _both_to_bfloat16(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint16_t *codes = <uint16_t *> coding.codes
    cdef uint16_t *others = <uint16_t *> (<const Coding *> s[1]).codes
    cdef uint32_t element = coding.first, stream = coding.stream, bits, x, y, z
    cdef Py_ssize_t i
    for i in range(n):
        bits = random(element, stream)
        element += 1
        x = fo_bits(<float> g[i])
        y = (x + (bits & 0xFFFF)) >> 16
        codes[i] = <uint16_t> (0x7FC0 if x << 1 > <uint32_t> INFINITE << 1 else y)
        x = fo_bits(<float> p[i])
        z = (x + (bits >> 16)) >> 16
        others[i] = <uint16_t> (0x7FC0 if x << 1 > <uint32_t> INFINITE << 1 else z)


cdef void _nearest_bfloat16(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef uint16_t *codes = <uint16_t *> (<const Coding *> s[0]).codes
    cdef uint32_t x, y
    cdef Py_ssize_t i
    for i in range(n):
        x = fo_bits(<float> g[i])
        y = (x + 0x7FFF + (x >> 16 & 1)) >> 16          # of two that are as near the even one
        codes[i] = <uint16_t> (0x7FC0 if x << 1 > <uint32_t> INFINITE << 1 else y)


# float16: 5 bits of exponent, 10 of the fraction. Below 2⁻¹⁴ its codes are multiples of 2⁻²⁴.

cdef enum:
    TO_SMALL = 112 << 23        # from the exponent of a float to that of a float16
    LEAST_NORMAL = 113 << 23    # 2⁻¹⁴
    HALF = 126 << 23


cdef void _of_float16(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t *codes = <const uint16_t *> (<const Coding *> s[0]).codes
    cdef uint32_t code, x, sign
    cdef float least = fo_float(LEAST_NORMAL), y
    cdef Py_ssize_t i
    for i in range(n):
        code = codes[i]
        sign = (code & 0x8000) << 16
        x = (code & 0x7FFF) << 13
        y = fo_float(x + LEAST_NORMAL) - least          # if it is below 2⁻¹⁴
        x += <uint32_t> 2 * TO_SMALL if code & 0x7C00 == 0x7C00 else <uint32_t> TO_SMALL
        p[i] = fo_float(sign | (x if code & 0x7C00 else fo_bits(y)))


cdef void _to_float16(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint16_t *codes = <uint16_t *> coding.codes
    cdef const uint32_t *bits = coding.bits
    cdef uint32_t x, y, random
    cdef int shift = coding.shift
    cdef Py_ssize_t i
    for i in range(n):
        x = fo_bits(<float> g[i])
        random = bits[i] >> shift & 0xFFFF
        y = ((x & 0x7FFFFFFF) - TO_SMALL + (random >> 3)) >> 13
        if x & 0x7FFFFFFF < LEAST_NORMAL:
            y = <uint32_t> <int32_t> (
                fo_float(x & 0x7FFFFFFF) * <float> 16777216.0 + <float> <int32_t> random * <float> 1.52587890625e-05
            )
        y = 0x7C00 if y > 0x7C00 else y
        y = 0x7E00 if x << 1 > <uint32_t> INFINITE << 1 else y
        codes[i] = <uint16_t> (x >> 16 & 0x8000 | y)


cdef void _nearest_float16(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef uint16_t *codes = <uint16_t *> (<const Coding *> s[0]).codes
    cdef uint32_t x, y, small
    cdef float half = fo_float(HALF)
    cdef Py_ssize_t i
    for i in range(n):
        x = fo_bits(<float> g[i])
        y = ((x & 0x7FFFFFFF) - TO_SMALL + 0xFFF + (x >> 13 & 1)) >> 13
        small = fo_bits(fo_float(x & 0x7FFFFFFF) + half) - HALF     # the sum is rounded to 2⁻²⁴
        y = small if x & 0x7FFFFFFF < LEAST_NORMAL else y
        y = 0x7C00 if y > 0x7C00 else y
        y = 0x7E00 if x << 1 > <uint32_t> INFINITE << 1 else y
        codes[i] = <uint16_t> (x >> 16 & 0x8000 | y)


# ---------------------------------------------------------------- 8 bits

# A block has its largest absolute value a as a float. A number x is a(f − 1)/(F − 1): f is a float of at
# least 1 that has 3 bits of its fraction, and F the largest of them. A code counts the f from 1 on. So
# codes are dense near 0: steps double with each 8 codes, but the first 8 go from 0.
#
# unsigned   256 codes, F = 2³¹·1.875: the least but 0 is 3.1e-11 of the largest. A number above 0 never
#            becomes 0, since a rule divides by the root of a second moment.
# signed     128 codes and a sign, F = 2¹⁵·1.875: the least but 0 is 2.0e-6 of the largest.
#
# A block whose largest is below 2⁻⁹⁰ is all zeros: its reciprocals would not fit a float. One with a NaN
# or an infinity is all NaN.

cdef enum:
    STEP = 20                   # 23 bits of a float's fraction less the 3 of a code
    LEAST_LARGEST = 37 << 23    # 2⁻⁹⁰


cdef inline float largest_of(const floating *g, Py_ssize_t n) noexcept nogil:
    """Return the largest absolute value of a block: 0 if it is too small, NaN if one is not finite."""
    cdef int32_t most = 0, x
    cdef Py_ssize_t i
    for i in range(n):
        x = <int32_t> (fo_bits(<float> g[i]) & 0x7FFFFFFF)
        most = x if x > most else most
    if most >= INFINITE:
        return fo_float(0x7FC00000)
    return fo_float(most) if most >= LEAST_LARGEST else 0


cdef void _of_unsigned(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef const uint8_t *codes = <const uint8_t *> coding.codes
    cdef float unit = coding.largest[0] / <float> 4026531840.0
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = (fo_float(<uint32_t> ONE + (<uint32_t> codes[i] << STEP)) - <float> 1) * unit


cdef void _to_unsigned(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint8_t *codes = <uint8_t *> coding.codes
    cdef const uint32_t *bits = coding.bits
    cdef float largest = largest_of(g, n), per_unit = 0
    cdef uint32_t x, least
    cdef int shift = coding.shift
    cdef Py_ssize_t i
    coding.largest[0] = largest
    if largest > 0:
        per_unit = <float> 4026531840.0 / largest
    for i in range(n):
        x = fo_bits(<float> g[i] * per_unit + <float> 1) - ONE + ((bits[i] >> shift & 0xFFFF) << 4) >> STEP
        x = 255 if x > 255 else x
        least = 1 if <float> g[i] > 0 else 0
        codes[i] = <uint8_t> (x if x > least else least)


cdef void _of_signed(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef const uint8_t *codes = <const uint8_t *> coding.codes
    cdef float unit = coding.largest[0] / <float> 61439.0
    cdef uint32_t code
    cdef float x
    cdef Py_ssize_t i
    for i in range(n):
        code = codes[i]
        x = (fo_float(<uint32_t> ONE + ((code & 127) << STEP)) - <float> 1) * unit
        p[i] = fo_float(fo_bits(x) | (code & 128) << 24)


cdef void _to_signed(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef const Coding *coding = <const Coding *> s[0]
    cdef uint8_t *codes = <uint8_t *> coding.codes
    cdef const uint32_t *bits = coding.bits
    cdef float largest = largest_of(g, n), per_unit = 0
    cdef uint32_t x, y
    cdef int shift = coding.shift
    cdef Py_ssize_t i
    coding.largest[0] = largest
    if largest > 0:
        per_unit = <float> 61439.0 / largest
    for i in range(n):
        x = fo_bits(<float> g[i])
        y = fo_bits(fo_float(x & 0x7FFFFFFF) * per_unit + <float> 1) - ONE + ((bits[i] >> shift & 0xFFFF) << 4) >> STEP
        y = 127 if y > 127 else y
        codes[i] = <uint8_t> (x >> 24 & 128 | y)
