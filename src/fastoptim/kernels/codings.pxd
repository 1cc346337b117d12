"""What the loops of codecs.pxi share with codes.pxi, which calls them."""

from libc.stdint cimport uint32_t

# Numbers of a block, or of some elements, that are kept as codes.
cdef struct Coding:
    Py_ssize_t codes            # address of the first code
    float *largest              # of the absolute values of a block of 8-bit codes
    const uint32_t *bits        # 32 random bits for each number
    int shift                   # 0 or 16: which half of these rounds
    uint32_t first              # number of the first element, modulo 2³²
    uint32_t stream             # which random bits an element has
