/* What the library needs of libc and of the processor: Embedded Swift has no Glibc module. */
#ifndef PENTE_SYSTEM_H
#define PENTE_SYSTEM_H

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__x86_64__)

/* All these bits of cpuid's answer: ebx or ecx of a leaf. */
static inline int pente_has_ebx(unsigned leaf, unsigned bits) {
    unsigned a, b, c, d;
    return __get_cpuid_count(leaf, 0, &a, &b, &c, &d) && (b & bits) == bits;
}

static inline int pente_has_ecx(unsigned leaf, unsigned bits) {
    unsigned a, b, c, d;
    return __get_cpuid_count(leaf, 0, &a, &b, &c, &d) && (c & bits) == bits;
}

/* The registers that the operating system saves. */
static inline unsigned pente_saved_registers(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

#endif

/* Which of the kernels' levels this processor and its operating system run: 0 any, 1 AVX2 with FMA, 2 AVX-512. Not
 * __builtin_cpu_supports, which comes with 4.5 KB of libgcc. */
static inline __attribute__((noinline)) int pente_find_processor_level(void) {
#if defined(__x86_64__)
    unsigned avx = bit_FMA | bit_MOVBE | bit_OSXSAVE | bit_AVX | bit_F16C;
    unsigned avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL;
    if (!pente_has_ecx(1, avx) || !pente_has_ebx(7, bit_BMI | bit_AVX2 | bit_BMI2) ||
        !pente_has_ecx(0x80000001, bit_LZCNT) || (pente_saved_registers() & 0x06) != 0x06)
        return 0;
    return pente_has_ebx(7, avx512) && (pente_saved_registers() & 0xe6) == 0xe6 ? 2 : 1;
#else
    return 0;
#endif
}

/* The same, looked up once: a dozen tests take as long as a small step. */
static inline __attribute__((always_inline)) int pente_processor_level(void) {
    static int level = -1;
    int known = __atomic_load_n(&level, __ATOMIC_RELAXED);
    if (__builtin_expect(known < 0, 0)) {
        known = pente_find_processor_level();
        __atomic_store_n(&level, known, __ATOMIC_RELAXED);
    }
    return known;
}

/* The lines of so many bytes, wherever they begin, are on their way to the second cache, which waits for more of them at
 * a time than the first does. As many instructions for each address: a jump that depended on it would be mispredicted. */
static inline __attribute__((always_inline)) void pente_prefetch(const void *address, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)address + i, 0, 2);
    __builtin_prefetch((const char *)address + bytes - 1, 0, 2);
}

/* Between these two the processor's floating-point modes are those that a thread starts with: it rounds to nearest, has
 * subnormal numbers and traps nothing. A host's own modes, which the first returns (0: they are these), are set again by
 * the second. No compiler moves across them what memory holds. */
#if defined(__x86_64__)
static inline __attribute__((always_inline)) uint64_t pente_begin_arithmetic(void) {
    static const uint32_t standard = 0x1f80;
    uint32_t modes;
    __asm__ volatile("stmxcsr %0" : "=m"(modes));
    if (__builtin_expect((modes & 0xffc0) == standard, 1)) return 0;
    __asm__ volatile("ldmxcsr %0" ::"m"(standard) : "memory");
    return modes;
}

static inline __attribute__((always_inline)) void pente_end_arithmetic(uint64_t modes) {
    uint32_t word = (uint32_t)modes;
    if (__builtin_expect(word != 0, 0)) __asm__ volatile("ldmxcsr %0" ::"m"(word) : "memory");
}
#elif defined(__aarch64__)
static inline __attribute__((always_inline)) uint64_t pente_begin_arithmetic(void) {
    uint64_t modes;
    __asm__ volatile("mrs %0, fpcr" : "=r"(modes));
    if (__builtin_expect(modes != 0, 0)) __asm__ volatile("msr fpcr, xzr" ::: "memory");
    return modes;
}

static inline __attribute__((always_inline)) void pente_end_arithmetic(uint64_t modes) {
    if (__builtin_expect(modes != 0, 0)) __asm__ volatile("msr fpcr, %0" ::"r"(modes) : "memory");
}
#endif

static inline double pente_monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* One instruction, where sqrt would be libm's for the sake of errno. */
static inline double pente_square_root(double value) {
    return __builtin_elementwise_sqrt(value);
}

/* libc rounds a number that it reads or writes by a mode of its own on x86-64, that of the x87. */
static inline uint16_t pente_set_rounding(uint16_t modes) {
    uint16_t former = 0;
#if defined(__x86_64__)
    __asm__ volatile("fnstcw %0\n\tfldcw %1" : "=m"(former) : "m"(modes) : "memory");
#endif
    (void)modes;
    return former;
}

/* Numbers as C writes them, whatever the host's locale says of commas, and rounded to nearest. glibc has that locale at
 * hand: no allocation. */
typedef struct pente_host_numbers {
    locale_t own, locale;
    uint16_t modes;
} pente_host_numbers;

static inline pente_host_numbers pente_begin_numbers(void) {
    locale_t own = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    pente_host_numbers host = {own, uselocale(own), pente_set_rounding(0x37f)};
    return host;
}

static inline void pente_end_numbers(pente_host_numbers host) {
    pente_set_rounding(host.modes);
    uselocale(host.locale);
    freelocale(host.own);
}

static inline double pente_parse_double(const char *text) {
    pente_host_numbers host = pente_begin_numbers();
    double value = strtod(text, NULL);
    pente_end_numbers(host);
    return value;
}

/* The shortest of 6, 9 or 17 significant digits that reads back as the same number. */
static inline int pente_format_double(double value, char *text, size_t capacity) {
    pente_host_numbers host = pente_begin_numbers();
    int length = snprintf(text, capacity, "%.6g", value);
    if (strtod(text, NULL) != value) length = snprintf(text, capacity, "%.9g", value);
    if (strtod(text, NULL) != value) length = snprintf(text, capacity, "%.17g", value);
    pente_end_numbers(host);
    return length;
}

/* open and errno, which Swift does not see in libc's header. Signals interrupt what waits for a disk far away. */
static inline __attribute__((noinline)) int pente_open(const char *path, int flags) {
    int file;
    do file = open(path, flags | O_CLOEXEC, 0666);
    while (file < 0 && errno == EINTR);
    return file;
}

static inline int pente_open_to_read(const char *path) {
    return pente_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

static inline int pente_open_new(const char *path) {
    return pente_open(path, O_WRONLY | O_CREAT | O_EXCL);
}

static inline int pente_open_directory(const char *path) {
    return pente_open(path, O_RDONLY | O_DIRECTORY);
}

static inline __attribute__((noinline)) int pente_sync(int file) {
    int result;
    do result = fsync(file);
    while (result != 0 && errno == EINTR);
    return result;
}

/* A limit on the size of files (RLIMIT_FSIZE) is an error, as a full disk is, and not the signal that ends the process. */
static inline __attribute__((noinline)) ssize_t pente_write(int file, const void *data, size_t size) {
    sigset_t limit, before, pending;
    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &limit, &before);
    sigpending(&pending);
    ssize_t written = write(file, data, size);
    int error = errno;
    if (written < 0 && error == EFBIG && !sigismember(&pending, SIGXFSZ)) {
        sigtimedwait(&limit, NULL, &(struct timespec){0, 0});
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return written;
}

static inline int pente_errno(void) {
    return errno;
}

static inline void pente_set_errno(int error) {
    errno = error;
}

/* The permissions of the regular file at a path; -1 with errno if there is none, or something else; -2 with errno if there
 * is a link that leads nowhere. */
static inline int pente_file_mode(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) {
        int error = errno;
        int result = lstat(path, &status) == 0 ? -2 : -1;
        errno = error;
        return result;
    }
    if (S_ISREG(status.st_mode)) return (int)(status.st_mode & 0777);
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    return -1;
}

/* The size of an open regular file; -1 with errno if it is not one. */
static inline int64_t pente_file_size(int file) {
    struct stat status;
    if (fstat(file, &status) != 0) return -1;
    if (!S_ISREG(status.st_mode)) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
        return -1;
    }
    return status.st_size;
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

/* How many calls of the thread's have failed: whether one did meanwhile. */
static inline uint64_t *pente_failures(void) {
    static _Thread_local uint64_t failures __attribute__((tls_model("initial-exec")));
    return &failures;
}

/* How many callbacks of layers the thread is in. */
static inline int64_t *pente_callbacks(void) {
    static _Thread_local int64_t callbacks __attribute__((tls_model("initial-exec")));
    return &callbacks;
}

#endif
