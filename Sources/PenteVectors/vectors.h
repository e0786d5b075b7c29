/* What the kernels need of vector instructions and Swift's SIMD types do not have, or only as loops over lanes: a fused
 * multiply-add, a choice by sign, powers of two, and loads and stores of the first few lanes. Every module that imports this
 * compiles it for its own processor. */
#ifndef PENTE_VECTORS_H
#define PENTE_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* The types that Swift imports as SIMD16<Float>, SIMD8<Double>, SIMD4<Float> and SIMD4<Double>, and their bits. */
typedef float pente_float16 __attribute__((ext_vector_type(16)));
typedef double pente_double8 __attribute__((ext_vector_type(8)));
typedef float pente_float4 __attribute__((ext_vector_type(4)));
typedef float pente_float8 __attribute__((ext_vector_type(8)));
typedef double pente_double4 __attribute__((ext_vector_type(4)));
typedef int32_t pente_int16 __attribute__((ext_vector_type(16)));
typedef int64_t pente_int8 __attribute__((ext_vector_type(8)));

#define PENTE_INLINE static inline __attribute__((always_inline, unused))

/* a b + c, each lane rounded once: an instruction, where there is one. */
PENTE_INLINE pente_float16 pente_fma_float16(pente_float16 a, pente_float16 b, pente_float16 c) {
    return __builtin_elementwise_fma(a, b, c);
}

PENTE_INLINE pente_double8 pente_fma_double8(pente_double8 a, pente_double8 b, pente_double8 c) {
    return __builtin_elementwise_fma(a, b, c);
}

PENTE_INLINE pente_float4 pente_fma_float4(float a, pente_float4 b, pente_float4 c) {
    return __builtin_elementwise_fma((pente_float4)a, b, c);
}

PENTE_INLINE pente_double4 pente_fma_double4(double a, pente_double4 b, pente_double4 c) {
    return __builtin_elementwise_fma((pente_double4)a, b, c);
}

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

/* The lanes of `b` that the mask has, and else those of `a`. */
#if defined(__AVX512F__)
/* The compiler, if it knew the mask, would make a shuffle of it, of which there is one a cycle. */
PENTE_INLINE __mmask16 pente_unknown(__mmask16 mask) {
    __asm__("" : "+Yk"(mask));
    return mask;
}

#define PENTE_BLEND16(a, b, mask) _mm512_mask_blend_ps(pente_unknown(mask), a, b)
#define PENTE_BLEND8(a, b, mask) _mm512_mask_blend_pd((__mmask8)pente_unknown(mask), a, b)
#else
#define PENTE_LANE(mask, lane, lanes) ((mask) >> (lane) & 1 ? (lanes) + (lane) : (lane))
#define PENTE_BLEND16(a, b, mask) \
    __builtin_shufflevector(a, b, PENTE_LANE(mask, 0, 16), PENTE_LANE(mask, 1, 16), PENTE_LANE(mask, 2, 16), PENTE_LANE(mask, 3, 16), \
                            PENTE_LANE(mask, 4, 16), PENTE_LANE(mask, 5, 16), PENTE_LANE(mask, 6, 16), PENTE_LANE(mask, 7, 16), \
                            PENTE_LANE(mask, 8, 16), PENTE_LANE(mask, 9, 16), PENTE_LANE(mask, 10, 16), PENTE_LANE(mask, 11, 16), \
                            PENTE_LANE(mask, 12, 16), PENTE_LANE(mask, 13, 16), PENTE_LANE(mask, 14, 16), PENTE_LANE(mask, 15, 16))
#define PENTE_BLEND8(a, b, mask) \
    __builtin_shufflevector(a, b, PENTE_LANE(mask, 0, 8), PENTE_LANE(mask, 1, 8), PENTE_LANE(mask, 2, 8), PENTE_LANE(mask, 3, 8), \
                            PENTE_LANE(mask, 4, 8), PENTE_LANE(mask, 5, 8), PENTE_LANE(mask, 6, 8), PENTE_LANE(mask, 7, 8))
#endif

/* A step of the tree in which the lanes of many vectors are added up: lane l of `a`, or of `b` where l has the bit that the
 * name says, and the lane beside it that differs in this bit. Four steps turn sixteen vectors of float32 into their sixteen
 * sums, three turn eight of float64 into eight. The first of the two is a mere blend. */
PENTE_INLINE pente_float16 pente_fold8_float16(pente_float16 a, pente_float16 b) {
    return PENTE_BLEND16(a, b, 0xff00) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
}

PENTE_INLINE pente_float16 pente_fold4_float16(pente_float16 a, pente_float16 b) {
    return PENTE_BLEND16(a, b, 0xf0f0) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
}

PENTE_INLINE pente_float16 pente_fold2_float16(pente_float16 a, pente_float16 b) {
    return PENTE_BLEND16(a, b, 0xcccc) +
           __builtin_shufflevector(a, b, 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29);
}

PENTE_INLINE pente_float16 pente_fold1_float16(pente_float16 a, pente_float16 b) {
    return PENTE_BLEND16(a, b, 0xaaaa) +
           __builtin_shufflevector(a, b, 1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
}

PENTE_INLINE pente_double8 pente_fold4_double8(pente_double8 a, pente_double8 b) {
    return PENTE_BLEND8(a, b, 0xf0) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 8, 9, 10, 11);
}

PENTE_INLINE pente_double8 pente_fold2_double8(pente_double8 a, pente_double8 b) {
    return PENTE_BLEND8(a, b, 0xcc) +
           __builtin_shufflevector(a, b, 2, 3, 8, 9, 6, 7, 12, 13);
}

PENTE_INLINE pente_double8 pente_fold1_double8(pente_double8 a, pente_double8 b) {
    return PENTE_BLEND8(a, b, 0xaa) +
           __builtin_shufflevector(a, b, 1, 8, 3, 10, 5, 12, 7, 14);
}

/* Every second or fourth lane, and no matter what. */
PENTE_INLINE pente_float16 pente_every2_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 8, 10, 12, 14, -1, -1, -1, -1, -1, -1, -1, -1);
}

PENTE_INLINE pente_float16 pente_every4_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
}

PENTE_INLINE pente_double8 pente_every2_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, -1, -1, -1, -1);
}

/* The lanes as a matrix of two, four or eight columns, transposed. */
PENTE_INLINE pente_float16 pente_rows2_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
}

PENTE_INLINE pente_float16 pente_rows4_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

PENTE_INLINE pente_float16 pente_rows8_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
}

PENTE_INLINE pente_double8 pente_rows2_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7);
}

PENTE_INLINE pente_double8 pente_rows4_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7);
}

/* The first lanes, one, two, four or eight, over and over. */
PENTE_INLINE pente_float16 pente_repeat1_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}

PENTE_INLINE pente_float16 pente_repeat2_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1);
}

PENTE_INLINE pente_float16 pente_repeat4_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
}

PENTE_INLINE pente_float16 pente_repeat8_float16(pente_float16 v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
}

PENTE_INLINE pente_double8 pente_repeat1_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0);
}

PENTE_INLINE pente_double8 pente_repeat2_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 1, 0, 1, 0, 1, 0, 1);
}

PENTE_INLINE pente_double8 pente_repeat4_double8(pente_double8 v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 0, 1, 2, 3);
}

/* Rows of so many elements, each of which takes up `stride` lanes. */
PENTE_INLINE void pente_store_rows_float16(
    pente_float16 vector, float *to, int64_t to_stride, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) to[r * to_stride + c] = ((const float *)&vector)[r * stride + c];
}

PENTE_INLINE void pente_store_rows_double8(
    pente_double8 vector, double *to, int64_t to_stride, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) to[r * to_stride + c] = ((const double *)&vector)[r * stride + c];
}

/* The same vector. The compiler would else compute it part by part for the sake of what is done with its parts. */
PENTE_INLINE pente_float16 pente_whole_float16(pente_float16 v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__AVX2__)
    pente_float8 low = v.lo, high = v.hi;
    __asm__("" : "+x"(low), "+x"(high));
    v.lo = low, v.hi = high;
#endif
    return v;
}

/* The two halves in float64, and back. */
PENTE_INLINE pente_double8 pente_low_float16(pente_float16 v) {
    return __builtin_convertvector(v.lo, pente_double8);
}

PENTE_INLINE pente_double8 pente_high_float16(pente_float16 v) {
    return __builtin_convertvector(v.hi, pente_double8);
}

PENTE_INLINE pente_float16 pente_narrow_float16(pente_double8 low, pente_double8 high) {
    return __builtin_shufflevector(
        __builtin_convertvector(low, pente_float8), __builtin_convertvector(high, pente_float8), 0, 1, 2, 3, 4, 5, 6, 7,
        8, 9, 10, 11, 12, 13, 14, 15);
}

/* The first lanes, and zeros. */
PENTE_INLINE pente_float16 pente_first_lanes_float16(pente_float16 v, int64_t count) {
    pente_int16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (pente_float16)((pente_int16)v & (lane < (int32_t)count));
}

PENTE_INLINE pente_double8 pente_first_lanes_double8(pente_double8 v, int64_t count) {
    pente_int8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return (pente_double8)((pente_int8)v & (lane < count));
}

/* Four lanes and zeros. */
PENTE_INLINE pente_float16 pente_extend_float4(pente_float4 v) {
    return __builtin_shufflevector(v, (pente_float4)0, 0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4);
}

PENTE_INLINE pente_double8 pente_extend_double4(pente_double4 v) {
    return __builtin_shufflevector(v, (pente_double4)0, 0, 1, 2, 3, 4, 4, 4, 4);
}

/* What will be read soon is brought to the first-level cache meanwhile, or to the second-level one. Any address will do. */
PENTE_INLINE void pente_prefetch(const void *address) {
    __builtin_prefetch(address, 0, 3);
}

PENTE_INLINE void pente_prefetch_far(const void *address) {
    __builtin_prefetch(address, 0, 2);
}

/* The first `count` elements and zeros; nothing beyond them is touched. */
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

PENTE_INLINE pente_float4 pente_load_float4(const float *from, int64_t count) {
    return _mm_maskz_loadu_ps((__mmask8)((1u << count) - 1), from);
}

PENTE_INLINE pente_float8 pente_load_float8(const float *from, int64_t count) {
    return _mm256_maskz_loadu_ps((__mmask8)((1u << count) - 1), from);
}

PENTE_INLINE pente_double4 pente_load_double4(const double *from, int64_t count) {
    return _mm256_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
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

PENTE_INLINE pente_float4 pente_load_float4(const float *from, int64_t count) {
    return _mm_maskload_ps(from, _mm_cmpgt_epi32(_mm_set1_epi32((int)count), _mm_setr_epi32(0, 1, 2, 3)));
}

PENTE_INLINE pente_float8 pente_load_float8(const float *from, int64_t count) {
    return _mm256_maskload_ps(from, pente_mask8(count));
}

PENTE_INLINE pente_double4 pente_load_double4(const double *from, int64_t count) {
    return _mm256_maskload_pd(from, pente_mask4(count));
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

PENTE_INLINE pente_float16 pente_load_float16(const float *from, int64_t count) {
    pente_float16 vector = 0;
    for (int64_t i = 0; i < count; i++) vector[i] = from[i];
    return vector;
}

PENTE_INLINE pente_float4 pente_load_float4(const float *from, int64_t count) {
    pente_float4 vector = 0;
    for (int64_t i = 0; i < count; i++) vector[i] = from[i];
    return vector;
}

PENTE_INLINE pente_double4 pente_load_double4(const double *from, int64_t count) {
    pente_double4 vector = 0;
    for (int64_t i = 0; i < count; i++) vector[i] = from[i];
    return vector;
}

PENTE_INLINE void pente_store_float16(pente_float16 vector, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = vector[i];
}

PENTE_INLINE pente_double8 pente_load_double8(const double *from, int64_t count) {
    pente_double8 vector = 0;
    for (int64_t i = 0; i < count; i++) vector[i] = from[i];
    return vector;
}

PENTE_INLINE void pente_store_double8(pente_double8 vector, double *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = vector[i];
}

#endif

/* As many rows as a vector has room for, of up to four or eight elements, which get as many lanes each: zeros fill them. */
PENTE_INLINE pente_float16 pente_load_fours_float16(const float *from, int64_t stride, int64_t count) {
    pente_float4 a = pente_load_float4(from, count), b = pente_load_float4(from + stride, count);
    pente_float4 c = pente_load_float4(from + 2 * stride, count), d = pente_load_float4(from + 3 * stride, count);
    pente_float8 low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    pente_float8 high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

PENTE_INLINE pente_double8 pente_load_fours_double8(const double *from, int64_t stride, int64_t count) {
#if defined(__AVX2__)
    pente_double4 a = pente_load_double4(from, count), b = pente_load_double4(from + stride, count);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#else /* calls between functions that return such vectors are warned of */
    pente_double8 rows = 0;
    for (int64_t i = 0; i < count; i++) rows[i] = from[i], rows[4 + i] = from[stride + i];
    return rows;
#endif
}

PENTE_INLINE pente_float16 pente_load_eights_float16(const float *from, int64_t stride, int64_t count) {
#if defined(__AVX2__)
    pente_float8 a = pente_load_float8(from, count), b = pente_load_float8(from + stride, count);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    pente_float16 rows = 0;
    for (int64_t i = 0; i < count; i++) rows[i] = from[i], rows[8 + i] = from[stride + i];
    return rows;
#endif
}

/* Adds all lanes to what is there. What Swift adds and stores, the compiler first takes apart and puts together. */
PENTE_INLINE void pente_add_double8(pente_double8 vector, double *to) {
    typedef pente_double8 unaligned __attribute__((aligned(8), may_alias));
    *(unaligned *)to += vector;
}

#endif
