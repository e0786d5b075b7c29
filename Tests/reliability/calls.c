#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NAME(function) #function,
static const char *const names[] = {FUNCTIONS(NAME)};

/* In memory that children share. */
static struct {
    atomic_long outcomes[FUNCTION_COUNT][STATUSES];
    atomic_long wrong;
} *counts;

void calls_begin(void) {
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED) abort();
}

void complain(const char *who, const char *what) {
    atomic_fetch_add(&counts->wrong, 1);
    fprintf(stderr, "%s: %s\n", who, what);
}

long wrong_count(void) { return atomic_load(&counts->wrong); }

pente_status outcome(int function, pente_status status, int allowed) {
    int place = status >= PENTE_USER ? USERS_PLACE : status >= 0 && status < UNKNOWN_PLACE ? status : UNKNOWN_PLACE;
    atomic_fetch_add_explicit(&counts->outcomes[function][place], 1, memory_order_relaxed);
    if (!((ALWAYS | allowed) >> place & 1)) complain(names[function], pente_last_error());
    return status;
}

void calls_end(bool were_few) {
    long all[STATUSES] = {0};
    for (int i = 0; i < FUNCTION_COUNT; i++) {
        for (int k = 0; k < STATUSES; k++) all[k] += counts->outcomes[i][k];
        if (!were_few && counts->outcomes[i][PENTE_OK] == 0) complain(names[i], "never succeeded");
    }
    for (int k = 0; k < STATUSES; k++) {
        if (all[k]) printf("%10ld %s\n", all[k], k == USERS_PLACE ? "a callback's own" : pente_status_name(k));
    }
    if (!were_few && all[PENTE_BUSY] == 0) complain("all functions", "were never busy");
}
