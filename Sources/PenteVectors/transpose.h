/* Blocks of a matrix, transposed. */
#ifndef PENTE_VECTORS_TRANSPOSE_H
#define PENTE_VECTORS_TRANSPOSE_H

#include "vectors.h"

/* The transpose of a block: up to a vector's lanes of lines, of up to as many elements, go to `to` a line behind another;
 * where the source has no line there are zeros. With vectors, halves are exchanged, then quarters, and so on. */
#if !defined(__AVX2__)

PENTE_INLINE void pente_transpose_float16(const float *from, int64_t stride, int64_t lines, int64_t count, float *to) {
    for (int64_t e = 0; e < 16 && e < count; e++)
        for (int64_t l = 0; l < 16; l++) to[16 * e + l] = l < lines ? from[l * stride + e] : 0;
}

PENTE_INLINE void pente_transpose_double8(const double *from, int64_t stride, int64_t lines, int64_t count, double *to) {
    for (int64_t e = 0; e < 8 && e < count; e++)
        for (int64_t l = 0; l < 8; l++) to[8 * e + l] = l < lines ? from[l * stride + e] : 0;
}

#else

/* Too large to be inlined wherever something is packed: a function of each level, which its symbol names. */
#if defined(__AVX512F__)
#define PENTE_LEVEL "avx512"
#else
#define PENTE_LEVEL "avx2"
#endif
#define PENTE_CALLED static __attribute__((noinline, unused))

#define PENTE_LOW8(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define PENTE_HIGH8(a, b) __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define PENTE_LOW4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define PENTE_HIGH4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define PENTE_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define PENTE_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define PENTE_LOW1(a, b) __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define PENTE_HIGH1(a, b) __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)

PENTE_CALLED void pente_transpose_float16(const float *from, int64_t stride, int64_t lines, int64_t count, float *to)
    __asm__("pente_transpose_float16_" PENTE_LEVEL);

void pente_transpose_float16(const float *from, int64_t stride, int64_t lines, int64_t count, float *to) {
    typedef pente_float16 v;
    float edge[256], *out = to;
    int isWhole = lines >= 16 && count >= 16;
    if (!isWhole) {
        if (lines > 16) lines = 16;
        if (count > 16) count = 16;
        __builtin_memset(edge, 0, sizeof edge);
        for (int64_t l = 0; l < lines; l++)
            for (int64_t e = 0; e < count; e++) edge[16 * l + e] = from[l * stride + e];
        from = edge, stride = 16, out = edge;
    }
    v a[16], b[16];
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
        pente_prefetch_far(from + i * stride + 64);
        __builtin_memcpy(&a[i], from + i * stride, 64);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) b[i] = PENTE_LOW8(a[i], a[i + 8]), b[i + 8] = PENTE_HIGH8(a[i], a[i + 8]);
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) {
        int j = i / 4 * 8 + i % 4;
        a[j] = PENTE_LOW4(b[j], b[j + 4]), a[j + 4] = PENTE_HIGH4(b[j], b[j + 4]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) {
        int j = i / 2 * 4 + i % 2;
        b[j] = PENTE_LOW2(a[j], a[j + 2]), b[j + 2] = PENTE_HIGH2(a[j], a[j + 2]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i += 2) a[i] = PENTE_LOW1(b[i], b[i + 1]), a[i + 1] = PENTE_HIGH1(b[i], b[i + 1]);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) __builtin_memcpy(out + 16 * i, &a[i], 64);
    if (!isWhole) __builtin_memcpy(to, edge, (size_t)(16 * count) * sizeof *to);
}

#define PENTE_WIDE_LOW4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define PENTE_WIDE_HIGH4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#define PENTE_WIDE_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define PENTE_WIDE_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define PENTE_WIDE_LOW1(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define PENTE_WIDE_HIGH1(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)

PENTE_CALLED void pente_transpose_double8(const double *from, int64_t stride, int64_t lines, int64_t count, double *to)
    __asm__("pente_transpose_double8_" PENTE_LEVEL);

void pente_transpose_double8(const double *from, int64_t stride, int64_t lines, int64_t count, double *to) {
    typedef pente_double8 v;
    double edge[64], *out = to;
    int isWhole = lines >= 8 && count >= 8;
    if (!isWhole) {
        if (lines > 8) lines = 8;
        if (count > 8) count = 8;
        __builtin_memset(edge, 0, sizeof edge);
        for (int64_t l = 0; l < lines; l++)
            for (int64_t e = 0; e < count; e++) edge[8 * l + e] = from[l * stride + e];
        from = edge, stride = 8, out = edge;
    }
    v a[8], b[8];
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) __builtin_memcpy(&a[i], from + i * stride, 64);
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) b[i] = PENTE_WIDE_LOW4(a[i], a[i + 4]), b[i + 4] = PENTE_WIDE_HIGH4(a[i], a[i + 4]);
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) {
        int j = i / 2 * 4 + i % 2;
        a[j] = PENTE_WIDE_LOW2(b[j], b[j + 2]), a[j + 2] = PENTE_WIDE_HIGH2(b[j], b[j + 2]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i += 2) b[i] = PENTE_WIDE_LOW1(a[i], a[i + 1]), b[i + 1] = PENTE_WIDE_HIGH1(a[i], a[i + 1]);
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) __builtin_memcpy(out + 8 * i, &b[i], 64);
    if (!isWhole) __builtin_memcpy(to, edge, (size_t)(8 * count) * sizeof *to);
}

#endif

#endif
