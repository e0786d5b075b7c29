/* What the library needs of libc and of the processor: Embedded Swift has no Glibc module. */
#ifndef PENTE_SYSTEM_H
#define PENTE_SYSTEM_H

#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Which of the kernels' levels this processor and its operating system run: 0 any, 1 AVX2 with FMA, 2 AVX-512. */
static inline int pente_processor_level(void) {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("lzcnt") ||
        !__builtin_cpu_supports("movbe"))
        return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return 1;
    return 2;
#else
    return 0;
#endif
}

static inline double pente_monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The shortest of 6, 9 or 17 significant digits that reads back as the same number. */
static inline int pente_format_double(double value, char *text, size_t capacity) {
    int length = snprintf(text, capacity, "%.6g", value);
    if (strtod(text, NULL) != value) length = snprintf(text, capacity, "%.9g", value);
    if (strtod(text, NULL) != value) length = snprintf(text, capacity, "%.17g", value);
    return length;
}

/* The functions behind the linker's --wrap, and the memory that stands in for them when there is none. */
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *block);

static inline void *pente_reserve(void) {
    static _Alignas(64) char reserve[1 << 16];
    return reserve;
}

/* The calling thread's last error message: in the thread's static block, so that it never needs an allocation. */
#define PENTE_MESSAGE_CAPACITY 256

static inline char *pente_message(void) {
    static _Thread_local char message[PENTE_MESSAGE_CAPACITY] __attribute__((tls_model("initial-exec")));
    return message;
}

#endif
