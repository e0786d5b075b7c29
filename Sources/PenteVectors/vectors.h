/* What the kernels need of vector instructions and Swift's SIMD types do not have, or only as loops over lanes: a fused
 * multiply-add, a choice by sign, powers of two, and loads and stores of the first few lanes. Every module that imports this
 * compiles it for its own processor. */
#ifndef PENTE_VECTORS_H
#define PENTE_VECTORS_H

#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* The types that Swift imports as SIMD16<Float> and SIMD8<Double>, and their bits. */
typedef float pente_float16 __attribute__((ext_vector_type(16)));
typedef double pente_double8 __attribute__((ext_vector_type(8)));
typedef int32_t pente_int16 __attribute__((ext_vector_type(16)));
typedef int64_t pente_int8 __attribute__((ext_vector_type(8)));

#define PENTE_INLINE static inline __attribute__((always_inline, unused))

/* a b + c, each lane rounded once: an instruction; without it a call for each lane. */
#if defined(__FMA__) || !defined(__x86_64__)

PENTE_INLINE pente_float16 pente_fma_float16(pente_float16 a, pente_float16 b, pente_float16 c) {
    return __builtin_elementwise_fma(a, b, c);
}

PENTE_INLINE pente_double8 pente_fma_double8(pente_double8 a, pente_double8 b, pente_double8 c) {
    return __builtin_elementwise_fma(a, b, c);
}

#else

/* Small matters more than fast here: code in one place, around whose call nothing has to be saved. */
#define PENTE_CALLED static __attribute__((noinline, unused, preserve_all))

/* Elements of 4 bytes, or halves of 8, of whatever type. */
typedef int32_t __attribute__((may_alias)) pente_word;

PENTE_CALLED void pente_fma_floats(const float *a, const float *b, float *c) {
#pragma clang loop unroll(disable)
    for (int lane = 0; lane < 16; lane++) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
}

PENTE_CALLED void pente_fma_doubles(const double *a, const double *b, double *c) {
#pragma clang loop unroll(disable)
    for (int lane = 0; lane < 8; lane++) c[lane] = __builtin_fma(a[lane], b[lane], c[lane]);
}

PENTE_INLINE pente_float16 pente_fma_float16(pente_float16 a, pente_float16 b, pente_float16 c) {
    pente_fma_floats((const float *)&a, (const float *)&b, (float *)&c);
    return c;
}

PENTE_INLINE pente_double8 pente_fma_double8(pente_double8 a, pente_double8 b, pente_double8 c) {
    pente_fma_doubles((const double *)&a, (const double *)&b, (double *)&c);
    return c;
}

#endif

/* a in each lane where x > 0, else b. */
PENTE_INLINE pente_float16 pente_choose_float16(pente_float16 x, pente_float16 a, pente_float16 b) {
    pente_int16 mask = x > 0;
    return (pente_float16)((mask & (pente_int16)a) | (~mask & (pente_int16)b));
}

PENTE_INLINE pente_double8 pente_choose_double8(pente_double8 x, pente_double8 a, pente_double8 b) {
    pente_int8 mask = x > 0;
    return (pente_double8)((mask & (pente_int8)a) | (~mask & (pente_int8)b));
}

/* 2^k in the normal range for k + 1.5 * 2^23, or k + 1.5 * 2^52, whose last bits are k. */
PENTE_INLINE pente_float16 pente_power_of_two_float16(pente_float16 shifted) {
    return (pente_float16)(((pente_int16)shifted - 0x4b400000 + 127) << 23);
}

PENTE_INLINE pente_double8 pente_power_of_two_double8(pente_double8 shifted) {
    return (pente_double8)(((pente_int8)shifted - 0x4338000000000000 + 1023) << 52);
}

/* The first `count` elements, less than all, and zeros; nothing beyond them is touched. */
#if defined(__AVX512F__)

PENTE_INLINE pente_float16 pente_load_float16(const float *from, int64_t count) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
}

PENTE_INLINE void pente_store_float16(pente_float16 vector, float *to, int64_t count) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), vector);
}

PENTE_INLINE pente_double8 pente_load_double8(const double *from, int64_t count) {
    return _mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
}

PENTE_INLINE void pente_store_double8(pente_double8 vector, double *to, int64_t count) {
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), vector);
}

#elif defined(__AVX2__)

/* Lanes below count: all bits set. */
PENTE_INLINE __m256i pente_mask8(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

PENTE_INLINE __m256i pente_mask4(int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}

PENTE_INLINE pente_float16 pente_load_float16(const float *from, int64_t count) {
    __m256 low = _mm256_maskload_ps(from, pente_mask8(count));
    __m256 high = _mm256_maskload_ps(from + 8, pente_mask8(count - 8));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

PENTE_INLINE void pente_store_float16(pente_float16 vector, float *to, int64_t count) {
    _mm256_maskstore_ps(to, pente_mask8(count), vector.lo);
    _mm256_maskstore_ps(to + 8, pente_mask8(count - 8), vector.hi);
}

PENTE_INLINE pente_double8 pente_load_double8(const double *from, int64_t count) {
    __m256d low = _mm256_maskload_pd(from, pente_mask4(count));
    __m256d high = _mm256_maskload_pd(from + 4, pente_mask4(count - 4));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

PENTE_INLINE void pente_store_double8(pente_double8 vector, double *to, int64_t count) {
    _mm256_maskstore_pd(to, pente_mask4(count), vector.lo);
    _mm256_maskstore_pd(to + 4, pente_mask4(count - 4), vector.hi);
}

#else

PENTE_CALLED void pente_copy(const pente_word *from, pente_word *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = from[i];
}

PENTE_INLINE pente_float16 pente_load_float16(const float *from, int64_t count) {
    pente_float16 vector = 0;
    pente_copy((const pente_word *)from, (pente_word *)&vector, count);
    return vector;
}

PENTE_INLINE void pente_store_float16(pente_float16 vector, float *to, int64_t count) {
    pente_copy((const pente_word *)&vector, (pente_word *)to, count);
}

PENTE_INLINE pente_double8 pente_load_double8(const double *from, int64_t count) {
    pente_double8 vector = 0;
    pente_copy((const pente_word *)from, (pente_word *)&vector, 2 * count);
    return vector;
}

PENTE_INLINE void pente_store_double8(pente_double8 vector, double *to, int64_t count) {
    pente_copy((const pente_word *)&vector, (pente_word *)to, 2 * count);
}

#endif

#endif
