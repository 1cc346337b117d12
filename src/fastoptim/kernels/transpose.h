/* A tile of an array that runs down its columns, copied to rows. */

#ifndef FASTOPTIM_TRANSPOSE_H
#define FASTOPTIM_TRANSPOSE_H

#include <stddef.h>
#include <string.h>

#if defined(__has_builtin)
  #if __has_builtin(__builtin_shufflevector)
    #define FO_SHUFFLE 1
  #endif
#endif

#ifdef FO_SHUFFLE
  typedef float fo_float4 __attribute__((vector_size(16)));

  static inline fo_float4 fo_load4(const char *place) {
      fo_float4 x;
      memcpy(&x, place, sizeof x);
      return x;
  }

  /* Four columns of four elements become four rows. */
  static inline void fo_transpose4(const char *a, ptrdiff_t step, float *x, ptrdiff_t row) {
      fo_float4 a0 = fo_load4(a), a1 = fo_load4(a + step);
      fo_float4 a2 = fo_load4(a + 2 * step), a3 = fo_load4(a + 3 * step);
      fo_float4 low01 = __builtin_shufflevector(a0, a1, 0, 4, 1, 5);
      fo_float4 high01 = __builtin_shufflevector(a0, a1, 2, 6, 3, 7);
      fo_float4 low23 = __builtin_shufflevector(a2, a3, 0, 4, 1, 5);
      fo_float4 high23 = __builtin_shufflevector(a2, a3, 2, 6, 3, 7);
      fo_float4 r0 = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
      fo_float4 r1 = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
      fo_float4 r2 = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
      fo_float4 r3 = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
      memcpy(x, &r0, sizeof r0);
      memcpy(x + row, &r1, sizeof r1);
      memcpy(x + 2 * row, &r2, sizeof r2);
      memcpy(x + 3 * row, &r3, sizeof r3);
  }
#endif

/* Column k is `rows` elements in a row at a + k * step; x gets them as rows of `cols` elements. */
static inline void fo_columns_f32(
    const char *a, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols, float *x
) {
    ptrdiff_t k = 0, r;
#ifdef FO_SHUFFLE
    for (; k + 4 <= cols; k += 4) {
        for (r = 0; r + 4 <= rows; r += 4)
            fo_transpose4(a + k * step + 4 * r, step, x + r * cols + k, cols);
        for (; r < rows; r++) {
            memcpy(x + r * cols + k, a + k * step + 4 * r, 4);
            memcpy(x + r * cols + k + 1, a + (k + 1) * step + 4 * r, 4);
            memcpy(x + r * cols + k + 2, a + (k + 2) * step + 4 * r, 4);
            memcpy(x + r * cols + k + 3, a + (k + 3) * step + 4 * r, 4);
        }
    }
#endif
    for (; k < cols; k++)
        for (r = 0; r < rows; r++)
            memcpy(x + r * cols + k, a + k * step + 4 * r, 4);
}

static inline void fo_columns_f64(
    const char *a, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols, double *x
) {
    ptrdiff_t k, r;
    for (k = 0; k < cols; k++)
        for (r = 0; r < rows; r++)
            memcpy(x + r * cols + k, a + k * step + 8 * r, 8);
}

#endif
