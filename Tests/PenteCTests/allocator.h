/* An allocator before libc's, that counts and fails on request; and the trial of a call each of whose allocations fails
 * in its turn. */
#ifndef PENTE_TEST_ALLOCATOR_H
#define PENTE_TEST_ALLOCATOR_H

#include "support.h"

#include <stdatomic.h>

extern atomic_long allocations, live_blocks; /* of all threads */
extern atomic_long allowed;                  /* how many more succeed; -1: all */
extern atomic_bool fails_once;               /* then one fails, and all after it succeed */
extern atomic_long refused;                  /* how many have failed */

/* Valgrind and sanitizers put their own allocators before this one. Where neither does, and the library's allocations are
 * not counted, none can fail, and so the test does. */
void skip_unless_counting(void);

/* A call, and what it works on: a bench. */
typedef struct trial {
    const char *name;
    pente_status (*run)(void *bench);
    uint64_t (*fingerprint)(void *bench); /* of all that the call may read and write; allocates nothing */
    void (*free_made)(void *bench);       /* what the call has made, if that is what it does */
    void (*free_bench)(void *bench);
} trial;

/* Lets 0, 1, 2 ... allocations succeed and the next one, or all the next ones, fail, until the call has enough: each time
 * in a process of its own, for one that crashes is a finding like the others. A refused call changes nothing; with memory
 * again it goes as it goes for the bench's twin, that always had memory, and so does one that does without what it could
 * not have; and in the end every block since live_before is freed. Returns how many tries went wrong. Both benches have
 * made the call once then. */
int exhaust(const trial *trial, void *bench, void *twin, long live_before);

/* Up to so many, 64, each count is tried, and of more those that are larger by an eighth: by 1/sparse. In the environment
 * PENTE_DENSE stands for the first, and the second is 16 then. */
extern long dense, sparse;
extern long tries; /* how many there were, in all */

#endif
