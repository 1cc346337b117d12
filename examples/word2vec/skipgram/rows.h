/* Products of a few rows with a few rows: the three matrix products of a skip-gram step.

   The matrices are some 6 by 100, too small for a BLAS call each. A row is given by its address
   and has a multiple of 16 floats, the last of them zero where the dimension is less, at an address
   that is a multiple of 64. Sums go over lanes of one vector register, written out with the vector
   types of gcc and clang, because a compiler may reorder a sum only under -ffast-math. Tiles have
   constant sizes so that their accumulators stay in registers. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef float quad __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

enum { TILE = 6 };

INLINE vec load(const float *p) { return *(const vec *) p; }
INLINE void store(float *p, vec v) { *(vec *) p = v; }
INLINE void prefetch(const float *row, ptrdiff_t n)
{
    for (ptrdiff_t d = 0; d < n; d += 16)
        __builtin_prefetch(row + d, 1);
}

INLINE float total(vec v)
{
    union { vec v; quad q[LANES / 4]; } u = {v};
    quad s = u.q[0];
    for (int k = 1; k < LANES / 4; k++)
        s += u.q[k];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* s[i][j] = x[i] . y[j] for nx <= 2 and ny <= TILE rows. */
INLINE void scores_tile(
    const float *const *x, const float *const *y, int nx, int ny, ptrdiff_t n, float *s, ptrdiff_t step)
{
    vec sum[2][TILE] = {0};
    for (ptrdiff_t d = 0; d < n; d += LANES) {
        vec a = load(x[0] + d), b = load(x[nx - 1] + d);
        for (int j = 0; j < ny; j++) {
            vec c = load(y[j] + d);
            sum[0][j] += a * c;
            if (nx == 2)
                sum[1][j] += b * c;
        }
    }
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < ny; j++)
            s[i * step + j] = total(sum[i][j]);
}

/* out[o] = sum over k of w[o * by_out + k * by_in] rows[k], for at most TILE rows o. */
INLINE void combine_tile(
    const float *w, ptrdiff_t by_out, ptrdiff_t by_in, const float *const *rows, int n_in, int n_out,
    ptrdiff_t n, float *out)
{
    for (ptrdiff_t d = 0; d < n; d += LANES) {
        vec sum[TILE] = {0};
        for (int k = 0; k < n_in; k++) {
            vec r = load(rows[k] + d);
            for (int o = 0; o < n_out; o++)
                sum[o] += w[o * by_out + k * by_in] * r;
        }
        for (int o = 0; o < n_out; o++)
            store(out + o * n + d, sum[o]);
    }
}

#define EACH_SIZE(size, CALL) \
    switch (size) { \
    case 1: CALL(1); break; \
    case 2: CALL(2); break; \
    case 3: CALL(3); break; \
    case 4: CALL(4); break; \
    case 5: CALL(5); break; \
    default: CALL(6); \
    }

/* S = X Yt: s[i * ny + j] = x[i] . y[j]. */
static void scores(const float *const *x, int nx, const float *const *y, int ny, ptrdiff_t n, float *s)
{
    for (int j = 0; j < ny; j += TILE)
        for (int i = 0; i < nx; i += 2) {
            const int left = ny - j < TILE ? ny - j : TILE;
#define PAIR(size) scores_tile(x + i, y + j, 2, size, n, s + i * ny + j, ny)
#define ONE(size) scores_tile(x + i, y + j, 1, size, n, s + i * ny + j, ny)
            if (i + 1 < nx)
                EACH_SIZE(left, PAIR)
            else
                EACH_SIZE(left, ONE)
        }
}

/* out = W rows, W being n_out by n_in with any two strides: G Y, or Gt X. */
static void combine(
    const float *w, ptrdiff_t by_out, ptrdiff_t by_in, const float *const *rows, int n_in, int n_out,
    ptrdiff_t n, float *out)
{
    for (int o = 0; o < n_out; o += TILE) {
        const int left = n_out - o < TILE ? n_out - o : TILE;
#define SOME(size) combine_tile(w + o * by_out, by_out, by_in, rows, n_in, size, n, out + o * n)
        EACH_SIZE(left, SOME)
    }
}

/* 1 / (1 + exp(-x)) to 2e-7, beyond |x| = 30 that of 30: no table, no score left out.
   exp(y) = 2^k exp(f) with k whole and |f| < 0.35, where six terms of the series are enough. */
INLINE float sigmoid(float x)
{
    const float magic = 12582912.0f;    /* 1.5 * 2^23: adding it rounds to a whole number */
    x = x > 30.0f ? 30.0f : x;
    x = x < -30.0f ? -30.0f : x;
    float y = x * -1.44269504f, shifted = y + magic, f = (y - (shifted - magic)) * 0.69314718f;
    float e = 1 + f * (1 + f * (0.5f + f * (1 / 6.0f + f * (1 / 24.0f + f * (1 / 120.0f + f / 720)))));
    uint32_t k, bits;
    memcpy(&k, &shifted, 4);
    memcpy(&bits, &e, 4);
    bits += k << 23;
    memcpy(&e, &bits, 4);
    return 1 / (1 + e);
}

static void sigmoids(float *s, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        s[i] = sigmoid(s[i]);
}
