/* The bits of a float, and back. */

#ifndef FASTOPTIM_CODES_H
#define FASTOPTIM_CODES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t fo_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float fo_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
