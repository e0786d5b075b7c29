/* storm [THREADS [ACTS [SEED]]]: so many threads do so many things, in all, with handles that they share and handles of
 * their own. Nothing hangs, no status is one that such a call cannot have, and what is of one's own has the bits of one
 * thread. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "crowd.h"
#include "files.h"
#include "lives.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 256, PATIENCE = 300 /* seconds without an act, under a sanitizer, on a busy machine */ };

static struct {
    pthread_t thread;
    visitor visitor;
    long acts;
    atomic_bool is_done;
} all[MOST];

static atomic_int finished;

static void *storm(void *argument) {
    int number = (int)(intptr_t)argument;
    visitor *v = &all[number].visitor;
    for (long i = 0; i < all[number].acts; i++) {
        if (below(v, 100) != 0) {
            crowd_act(v);
        } else if (!live((int)below(v, LIVES), number)) {
            complain("a life", "went wrong");
        }
    }
    atomic_store(&all[number].is_done, true);
    atomic_fetch_add(&finished, 1);
    return NULL;
}

/* Ends the program if a thread stays in a call for good. */
static void watch(int threads) {
    long seen[MOST] = {0};
    int still[MOST] = {0};
    while (atomic_load(&finished) < threads) {
        nanosleep(&(struct timespec){0, 100000000}, NULL);
        for (int i = 0; i < threads; i++) {
            long acts = atomic_load(&all[i].visitor.acts);
            still[i] = acts == seen[i] && !atomic_load(&all[i].is_done) ? still[i] + 1 : 0;
            seen[i] = acts;
            if (still[i] < 10 * PATIENCE) continue;
            fprintf(stderr, "thread %d hangs in %s\n", i, atomic_load(&all[i].visitor.where));
            abort();
        }
    }
}

int main(int count, char **arguments) {
    int threads = count > 1 ? atoi(arguments[1]) : 64;
    long acts = count > 2 ? atol(arguments[2]) : 100000;
    uint64_t seed = count > 3 ? strtoull(arguments[3], NULL, 10) : 1;
    if (threads < 1 || threads > MOST) return 2;
    directory_new(NULL);
    lives_begin(path_of(""));
    calls_begin();
    crowd_begin(path_of(""));
    for (int i = 0; i < threads; i++) {
        all[i].visitor = visitor_new(seed * MOST + (uint64_t)i + 1);
        all[i].acts = acts / threads;
        if (pthread_create(&all[i].thread, NULL, storm, (void *)(intptr_t)i)) abort();
    }
    watch(threads);
    for (int i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        visitor_free(&all[i].visitor);
    }
    crowd_end();
    calls_end(acts < 50000);
    lives_end();
    directory_free(NULL);
    printf("storm: %d threads, %ld acts, seed %llu: %ld wrong\n", threads, acts, (unsigned long long)seed,
           wrong_count());
    return wrong_count() != 0;
}
