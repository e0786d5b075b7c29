/* What the checked build alone (make debug) needs of the system. */
#ifndef PENTE_SYSTEM_CHECKED_H
#define PENTE_SYSTEM_CHECKED_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* There in a program that is built with AddressSanitizer. */
extern void *__asan_region_is_poisoned(void *start, size_t size) __attribute__((weak));

/* Whether a process's map has all of it, and so that it may be written. */
static inline int pente_is_mapped(uintptr_t start, uintptr_t end, int writes) {
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long first, last;
    char may_read, may_write;
    if (maps == NULL) return 1; /* nobody knows */
    while (start < end && fscanf(maps, "%lx-%lx %c%c%*[^\n]", &first, &last, &may_read, &may_write) == 4)
        if (first <= start && start < last && (writes ? may_write == 'w' : may_read == 'r')) start = last;
    fclose(maps);
    return start >= end;
}

/* Whether so much memory is there to be read, or written: nothing is. The kernel answers for whole pages;
 * AddressSanitizer, where there is one, for each byte. */
static inline int pente_is_accessible(const void *memory, size_t size, int writes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)memory & ~(page - 1);
    uintptr_t end = ((uintptr_t)memory + size + page - 1) & ~(page - 1);
    if (__asan_region_is_poisoned != NULL && __asan_region_is_poisoned((void *)memory, size) != NULL) return 0;
    if (madvise((void *)start, end - start, writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) return 1;
    /* EFAULT: a file ends before its mapping does. Other errors are also those of an old kernel, or of memory that is a
     * device's. */
    return errno != EFAULT && pente_is_mapped(start, end, writes);
}

/* FNV-1a, by words where there are some. */
static inline uint64_t pente_hash(uint64_t hash, const void *memory, size_t size) {
    const unsigned char *bytes = (const unsigned char *)memory;
    for (; size >= sizeof hash; size -= sizeof hash, bytes += sizeof hash) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
        hash ^= hash >> 32;
    }
    for (; size > 0; size--) hash = (hash ^ *bytes++) * UINT64_C(0x100000001b3);
    return hash;
}

static inline void pente_fill(void *memory, size_t size, uint32_t word) {
    for (size_t i = 0; i + sizeof word <= size; i += sizeof word) memcpy((char *)memory + i, &word, sizeof word);
}

static inline int pente_is_filled(const void *memory, size_t size, unsigned char byte) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)memory)[i] != byte) return 0;
    return 1;
}

static inline int pente_logs(void) {
    const char *log = getenv("PENTE_LOG");
    return log == NULL || strcmp(log, "0") != 0;
}

/* In one piece, whoever else writes there. */
static inline void pente_log(const char *message) {
    if (pente_logs()) dprintf(STDERR_FILENO, "pente: %s\n", message);
}

static inline void pente_log_leak(int64_t count, const char *kind) {
    if (pente_logs()) dprintf(STDERR_FILENO, "pente: at exit: %lld handle(s) of %s not freed\n", (long long)count, kind);
}

/* A failed assertion of Swift's, which comes letter by letter, is on its way to a trap: nothing is lost by a write for
 * each. */
static inline void pente_write_letter(int letter) {
    char text = (char)letter;
    ssize_t written = write(STDERR_FILENO, &text, 1);
    (void)written;
}

#endif
