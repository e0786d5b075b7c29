/* Preloaded, it makes allocations of the thread that asks for it fail: all, or those that one library makes itself. */
#define _GNU_SOURCE /* RTLD_NEXT, dl_iterate_phdr */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static atomic_long live_blocks;
static _Thread_local bool is_armed __attribute__((tls_model("initial-exec")));
static uintptr_t first_address, last_address; /* of the library's code; the last is 0 for any */
static long seen, failing_from, failing_until;
static void *callers[8]; /* of the first that failed */
static int caller_count;

static int find_library(struct dl_phdr_info *info, size_t size, void *name) {
    (void)size;
    if (!strstr(info->dlpi_name, name)) return 0;
    first_address = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, end = start + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        if (start < first_address) first_address = start;
        if (end > last_address) last_address = end;
    }
    return 1;
}

/* From now on `count` allocations fail, after `skipped` that succeed; those that the library makes itself, or all if name
 * is "". Returns whether there is such a library. */
int failing_begin(const char *name, long skipped, long count) {
    first_address = last_address = 0;
    if (*name && !dl_iterate_phdr(find_library, (void *)(uintptr_t)name)) return 0;
    seen = caller_count = 0;
    failing_from = skipped;
    failing_until = skipped + count;
    is_armed = true;
    return 1;
}

/* Returns how many such allocations there were. */
long failing_end(void) {
    is_armed = false;
    return seen;
}

/* Whether the first that failed was made for a function of that name. */
int failing_was_in(const char *function) {
    Dl_info info;
    for (int i = 0; i < caller_count; i++) {
        if (dladdr(callers[i], &info) && info.dli_sname && !strcmp(info.dli_sname, function)) return 1;
    }
    return 0;
}

long failing_live_blocks(void) { return atomic_load(&live_blocks); }

static bool fails(const void *caller) {
    uintptr_t address = (uintptr_t)caller;
    if (!is_armed || (last_address && (address < first_address || address >= last_address))) return false;
    long number = seen++;
    if (number < failing_from || number >= failing_until) return false;
    if (!caller_count) {
        is_armed = false; /* backtrace may allocate */
        caller_count = backtrace(callers, 8);
        is_armed = true;
    }
    errno = ENOMEM;
    return true;
}

#define FAILS fails(__builtin_return_address(0))

static void *counted(void *block) {
    if (block) atomic_fetch_add(&live_blocks, 1);
    return block;
}

/* void * is not a function pointer in ISO C, hence the copy. */
#define NEXT(type, name, parameters)            \
    static type(*next) parameters;              \
    if (!next) {                                \
        void *symbol = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &symbol, sizeof next);    \
    }

void *malloc(size_t size) {
    NEXT(void *, malloc, (size_t))
    return FAILS ? NULL : counted(next(size));
}

void *calloc(size_t count, size_t size) {
    NEXT(void *, calloc, (size_t, size_t))
    return FAILS ? NULL : counted(next(count, size));
}

void *realloc(void *old, size_t size) {
    NEXT(void *, realloc, (void *, size_t))
    if (FAILS) return NULL;
    void *block = next(old, size);
    return old ? block : counted(block);
}

void *aligned_alloc(size_t alignment, size_t size) {
    NEXT(void *, aligned_alloc, (size_t, size_t))
    return FAILS ? NULL : counted(next(alignment, size));
}

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    NEXT(int, posix_memalign, (void **, size_t, size_t))
    if (FAILS) return ENOMEM;
    int error = next(pointer, alignment, size);
    if (!error) atomic_fetch_add(&live_blocks, 1);
    return error;
}

void free(void *block) {
    NEXT(void, free, (void *))
    if (block) atomic_fetch_sub(&live_blocks, 1);
    next(block);
}
