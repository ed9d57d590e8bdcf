/* Sixteen floats at a time, and products of pairs of bf16 numbers.
 *
 * With AVX-512 and its bf16 products an instruction is what its name here says. Elsewhere the compiler
 * makes of a vector as many registers as it takes, and a product of pairs is two of floats: bf16 is
 * the upper half of a float, so that widening costs a shift and a mask.
 */
#ifndef VECTORS_H
#define VECTORS_H
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t integers16 __attribute__((vector_size(64)));
typedef uint32_t words16 __attribute__((vector_size(64)));
typedef bf16 narrow16 __attribute__((vector_size(32)));
typedef int8_t small16 __attribute__((vector_size(16)));
/* as they lie in memory: anywhere, and among anything */
typedef float loose_v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t loose_words16 __attribute__((vector_size(64), aligned(2), may_alias));
typedef bf16 loose_narrow16 __attribute__((vector_size(32), aligned(2), may_alias));

/* Columns of a panel of weights, floats of a vector. */
enum { PANEL = 32, LANES = 16 };

#define INLINE static inline __attribute__((always_inline))

INLINE v16 load(const float *from) { return *(const loose_v16 *)from; }
INLINE void store(float *to, v16 x) { *(loose_v16 *)to = x; }
INLINE v16 zeros(void) { return (v16){0}; }
INLINE v16 spread(float x) { return x - (v16){0}; }
INLINE void prefetch(const void *from) { __builtin_prefetch(from, 0, 3); }
INLINE void prefetch_soon(const void *from) { __builtin_prefetch(from, 0, 2); }

static inline float widened(bf16 x) {
    union { uint32_t i; float f; } u = {(uint32_t)x << 16};
    return u.f;
}

static inline bf16 narrowed(float x) {
    union { float f; uint32_t i; } u = {x};
    if (x != x) return 0x7fc0;
    return (bf16)((u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16);
}

#if defined(__AVX512BF16__)

typedef __m512bh twin; /* 16 pairs of bf16 */
INLINE twin load_twin(const bf16 *from) { return (twin)_mm512_loadu_si512(from); }
INLINE twin spread_twin(const bf16 *from) {
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return (twin)_mm512_set1_epi32(pair);
}
/* sum + products of the pairs */
INLINE v16 dot(v16 sum, twin a, twin b) { return _mm512_dpbf16_ps(sum, a, b); }
INLINE void store_narrowed(bf16 *to, v16 x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

#else

typedef struct { v16 low, high; } twin;
INLINE twin twin_of(words16 x) { return (twin){(v16)(x << 16), (v16)(x & 0xffff0000u)}; }
INLINE twin load_twin(const bf16 *from) { return twin_of(*(const loose_words16 *)from); }
INLINE twin spread_twin(const bf16 *from) {
    return (twin){spread(widened(from[0])), spread(widened(from[1]))};
}
INLINE v16 dot(v16 sum, twin a, twin b) {
    sum = a.low * b.low + sum;
    return a.high * b.high + sum;
}
INLINE void store_narrowed(bf16 *to, v16 x) {
    words16 bits = (words16)x, is_number = (words16)(x == x);
    words16 upper = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    upper = (upper & is_number) | (0x7fc0u & ~is_number);
    *(loose_narrow16 *)to = __builtin_convertvector(upper, narrow16);
}

#endif

#if defined(__AVX512F__)

INLINE v16 fused(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 larger(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 smaller(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 rounded(v16 x) { return _mm512_roundscale_ps(x, 0); }
INLINE v16 scaled(v16 x, v16 power) { return _mm512_scalef_ps(x, power); } /* x * 2^power */
INLINE v16 floats_of(const int8_t *from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
INLINE float total(v16 x) { return _mm512_reduce_add_ps(x); }
INLINE float largest(v16 x) { return _mm512_reduce_max_ps(x); }
/* x, but zero where y is -infinity */
INLINE v16 where_finite(v16 x, v16 y) {
    __mmask16 seen = _mm512_cmp_ps_mask(y, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
    return _mm512_maskz_mov_ps(seen, x);
}
/* the first `count`, which may be more than there are, or none; the rest zero, or left alone */
INLINE __mmask16 first_ones(int count) {
    return count >= LANES ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}
INLINE v16 load_first(int count, const float *from) {
    return _mm512_maskz_loadu_ps(first_ones(count), from);
}
INLINE void store_first(int count, float *to, v16 x) {
    _mm512_mask_storeu_ps(to, first_ones(count), x);
}

#else

INLINE v16 chosen(integers16 which, v16 a, v16 b) {
    return (v16)((which & (integers16)a) | (~which & (integers16)b));
}
INLINE v16 fused(v16 a, v16 b, v16 c) { return a * b + c; } /* one rounding: see the flags */
INLINE v16 larger(v16 a, v16 b) { return chosen(a > b, a, b); }
INLINE v16 smaller(v16 a, v16 b) { return chosen(a < b, a, b); }
/* of numbers below 2^22: what is behind the point is lost beside 1.5 * 2^23 */
INLINE v16 rounded(v16 x) { return (x + 12582912.0f) - 12582912.0f; }
INLINE v16 scaled(v16 x, v16 power) {
    integers16 exponent = __builtin_convertvector(power, integers16) + 127;
    return x * (v16)(exponent << 23);
}
INLINE v16 floats_of(const int8_t *from) {
    small16 x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(__builtin_convertvector(x, integers16), v16);
}
INLINE float total(v16 x) {
    float sums[LANES];
    store(sums, x);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) sums[i] += sums[i + width];
    return sums[0];
}
INLINE float largest(v16 x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}
INLINE v16 where_finite(v16 x, v16 y) { return (v16)((integers16)x & (y != spread(-INFINITY))); }
INLINE v16 load_first(int count, const float *from) {
    if (count >= LANES) return load(from);
    float kept[LANES] = {0};
    if (count > 0) memcpy(kept, from, count * sizeof *kept);
    return load(kept);
}
INLINE void store_first(int count, float *to, v16 x) {
    float kept[LANES];
    store(kept, x);
    if (count > 0) memcpy(to, kept, (count < LANES ? count : LANES) * sizeof *kept);
}

#endif

/* 16 pairs of small integers, the first of all before the second of all -> pairs of bf16, exactly:
 * integers below 128 have 7 bits */
INLINE words16 pairs_of_integers(const int8_t *from) {
    words16 low = (words16)floats_of(from), high = (words16)floats_of(from + LANES);
    return (low >> 16) | (high & 0xffff0000u);
}
INLINE void store_pairs(bf16 *to, const int8_t *from) {
    *(loose_words16 *)to = pairs_of_integers(from);
}
INLINE twin twin_of_integers(const int8_t *from) {
#if defined(__AVX512BF16__)
    return (twin)pairs_of_integers(from);
#else
    return (twin){floats_of(from), floats_of(from + LANES)};
#endif
}

/* exp by 2^n * polynomial of degree 5 (minimax on [-ln2/2, ln2/2]); within 2 ulp for x <= 0 */
INLINE v16 exponential(v16 x) {
    x = smaller(larger(x, spread(-87.3f)), spread(88.3f));
    v16 n = rounded(x * 1.44269504f);
    v16 r = fused(n, spread(-0.693359375f), x);
    r = fused(n, spread(2.12194440e-4f), r);
    v16 p = spread(1.9875691500e-4f);
    p = fused(p, r, spread(1.3981999507e-3f));
    p = fused(p, r, spread(8.3334519073e-3f));
    p = fused(p, r, spread(4.1665795894e-2f));
    p = fused(p, r, spread(1.6666665459e-1f));
    p = fused(p, r, spread(5.0000001201e-1f));
    p = fused(p, r * r, r + 1.0f);
    return scaled(p, n);
}

/* scores -> weights that are not yet divided by their sum, which is returned */
static inline float softmax(float *scores, bf16 *weights, int tokens, int padded, float scale) {
    for (int i = tokens; i < padded; i++) scores[i] = -INFINITY;
    v16 most = spread(-INFINITY);
    for (int i = 0; i < padded; i += LANES) most = larger(most, load(scores + i));
    v16 top = spread(-largest(most) * scale), factor = spread(scale), sum = zeros();
    for (int i = 0; i < padded; i += LANES) {
        v16 x = load(scores + i);
        v16 e = where_finite(exponential(fused(x, factor, top)), x);
        sum += e;
        store_narrowed(weights + i, e);
    }
    return total(sum);
}

#endif
