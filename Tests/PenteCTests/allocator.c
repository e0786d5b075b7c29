#define _GNU_SOURCE /* RTLD_NEXT */
#include "allocator.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

atomic_long allocations, live_blocks, refused, allowed = -1;
atomic_bool fails_once;
long dense = 64, sparse = 8, tries;

static bool may_allocate(void) {
    atomic_fetch_add(&allocations, 1);
    long left = atomic_load(&allowed);
    while (left > 0 && !atomic_compare_exchange_weak(&allowed, &left, left - 1)) {}
    if (left != 0) return true;
    if (atomic_load(&fails_once)) atomic_store(&allowed, -1);
    atomic_fetch_add(&refused, 1);
    errno = ENOMEM;
    return false;
}

static void *counted(void *block) {
    if (block) atomic_fetch_add(&live_blocks, 1);
    return block;
}

/* A function of libc's, looked up once; void * is not a function pointer in ISO C, hence the copy. */
#define NEXT(type, name, parameters)            \
    static type(*next) parameters;              \
    if (!next) {                                \
        void *symbol = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &symbol, sizeof next);    \
    }

void *malloc(size_t size) {
    NEXT(void *, malloc, (size_t))
    return may_allocate() ? counted(next(size)) : NULL;
}

void *calloc(size_t count, size_t size) {
    NEXT(void *, calloc, (size_t, size_t))
    return may_allocate() ? counted(next(count, size)) : NULL;
}

void *realloc(void *old, size_t size) {
    NEXT(void *, realloc, (void *, size_t))
    if (!may_allocate()) return NULL;
    void *block = next(old, size);
    return old ? block : counted(block);
}

void *aligned_alloc(size_t alignment, size_t size) {
    NEXT(void *, aligned_alloc, (size_t, size_t))
    return may_allocate() ? counted(next(alignment, size)) : NULL;
}

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    NEXT(int, posix_memalign, (void **, size_t, size_t))
    if (!may_allocate()) return ENOMEM;
    int error = next(pointer, alignment, size);
    if (!error) atomic_fetch_add(&live_blocks, 1);
    return error;
}

void free(void *block) {
    NEXT(void, free, (void *))
    if (block) atomic_fetch_sub(&live_blocks, 1);
    next(block);
}

static bool has_another_allocator(void) {
    static const char *const sanitizers[] = {"__asan_init", "__hwasan_init", "__lsan_init", "__msan_init",
                                             "__tsan_init"};
    const char *preloaded = getenv("LD_PRELOAD"); /* valgrind puts its libraries there */
    if (preloaded && strstr(preloaded, "vgpreload")) return true;
    for (size_t i = 0; i < COUNT(sanitizers); i++)
        if (dlsym(RTLD_DEFAULT, sanitizers[i])) return true;
    return false;
}

void skip_unless_counting(void) {
    pente_layer *layer = NULL;
    long before = atomic_load(&allocations);
    void *volatile block = malloc(100);
    free(block);
    long own = atomic_load(&allocations) - before;
    OK(pente_linear_new(3, 2, NULL, &layer));
    OK(pente_layer_free(layer));
    long of_library = atomic_load(&allocations) - before - own;
    if (own > 0 && of_library > 0) return;
    if (has_another_allocator()) skip();
    fail_msg("allocations are not counted: %ld of the test's, %ld of the library's", own, of_library);
}

/* What a child process found; DONE is the call that had memory enough. */
enum { AS_IT_SHOULD, DONE, WRONG_STATUS, CHANGED_STATE, FAILED_AFTERWARDS, OTHER_BITS, LEAKED };
static const char *const findings[] = {"went as it should", "was done", "gave another status", "changed something",
                                       "failed with memory again", "gave other bits", "leaked"};

static int try_with(const trial *t, long count, void *bench, void *twin, long live_before) {
    uint64_t before = t->fingerprint(bench);
    atomic_store(&refused, 0);
    atomic_store(&allowed, count);
    pente_status status = t->run(bench);
    atomic_store(&allowed, -1);
    if (atomic_load(&refused) == 0) return status == PENTE_OK ? DONE : WRONG_STATUS;
    if (status != PENTE_OK) {
        if (status != PENTE_OUT_OF_MEMORY) return WRONG_STATUS;
        if (t->fingerprint(bench) != before) return CHANGED_STATE;
        if (t->run(bench) != PENTE_OK) return FAILED_AFTERWARDS;
    }
    if (t->run(twin) != PENTE_OK) return FAILED_AFTERWARDS;
    if (t->fingerprint(bench) != t->fingerprint(twin)) return OTHER_BITS;
    t->free_made(bench);
    t->free_made(twin);
    t->free_bench(bench);
    t->free_bench(twin);
    return atomic_load(&live_blocks) == live_before ? AS_IT_SHOULD : LEAKED;
}

/* Returns whether it was done; *wrong counts. */
static bool try_in_child(const trial *t, long count, void *bench, void *twin, long live_before, int *wrong) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        static const int signals[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE};
        for (size_t i = 0; i < COUNT(signals); i++) signal(signals[i], SIG_DFL); /* cmocka catches them */
        alarm(60); /* nor may it hang */
        _exit(try_with(t, count, bench, twin, live_before));
    }
    tries++;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == DONE) return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == AS_IT_SHOULD) return false;
    ++*wrong;
    print_error("%s with %ld allocations%s %s %d\n", t->name, count, atomic_load(&fails_once) ? " and one failure" : "",
                WIFEXITED(status) ? findings[WEXITSTATUS(status)] : "died of signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return false;
}

int exhaust(const trial *t, void *bench, void *twin, long live_before) {
    const char *asked = getenv("PENTE_DENSE");
    int wrong = 0;
    if (asked) dense = atol(asked), sparse = 16;
    for (int once = 0; once < 2; once++) {
        atomic_store(&fails_once, once);
        long count = 0;
        while (count < 1000000 && !try_in_child(t, count, bench, twin, live_before, &wrong)) {
            count += count < dense ? 1 : (count + sparse - 1) / sparse;
        }
    }
    atomic_store(&fails_once, false);
    OK(t->run(bench));
    OK(t->run(twin));
    t->free_made(bench);
    t->free_made(twin);
    return wrong;
}
