/* forks [FORKS [SEED]]: so many forks, in the middle of what a crowd of threads does: by threads that do nothing else, and
 * in callbacks. A child meets handles that threads were using which it does not have: no call hangs. What is of its own has
 * the bits of one thread, on several threads too, and in its own children. */
#define _DEFAULT_SOURCE /* alarm, usleep */
#include "crowd.h"
#include "files.h"
#include "lives.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, FORKERS = 2, ACTS_OF_CHILD = 30, PATIENCE = 300 /* seconds, on a busy machine */ };

static atomic_long forks_left;
static atomic_bool is_over;

/* ---- A child ---- */

static void live_some(visitor *v, int number, int lives) {
    for (int i = 0; i < lives; i++) {
        if (!live((int)below(v, LIVES), number)) complain("a child's life", "went wrong");
    }
}

static void *live_in_thread(void *argument) {
    visitor v = visitor_new((uint64_t)(uintptr_t)argument);
    live_some(&v, 1, 2);
    visitor_free(&v);
    return NULL;
}

static void await_child(pid_t child) {
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "a child's status: %d\n", status);
        complain("a child", WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs" : "ended otherwise");
    }
}

/* What a child does, but for what it was in the middle of. It has no threads yet, whatever its parent had. */
static void be_child(visitor *v, bool has_children) {
    pthread_t thread;
    for (int i = 0; i < ACTS_OF_CHILD; i++) crowd_act(v);
    if (!live(LIFE_OF_THREADS, 0)) complain("a child's life on several threads", "went wrong");
    void *seed = (void *)(uintptr_t)below(v, 99);
    bool has_thread = below(v, 4) == 0 && pthread_create(&thread, NULL, live_in_thread, seed) == 0;
    live_some(v, 0, 2);
    if (has_children && below(v, 4) == 0) {
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE);
            be_child(v, false);
            _exit(0);
        }
        await_child(child);
    }
    if (has_thread) pthread_join(thread, NULL);
}

/* ---- Forks ---- */

static void *fork_again_and_again(void *argument) {
    visitor *v = argument;
    while (atomic_fetch_sub(&forks_left, 1) > 0) {
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE);
            be_child(v, true);
            _exit(0);
        }
        await_child(child);
        below(v, 2); /* or all children would do the same */
    }
    atomic_store(&is_over, true);
    return NULL;
}

static _Thread_local pid_t child_of_callback;

/* Its child goes on with the call that it is in. */
static bool fork_in_callback(void) {
    if (child_of_callback != 0 || atomic_fetch_sub(&forks_left, 1) <= 0) return false;
    child_of_callback = fork();
    if (child_of_callback == 0) alarm(PATIENCE);
    return child_of_callback == 0;
}

static void *crowd(void *argument) {
    visitor *v = argument;
    int number = (int)below(v, 1 << 30);
    v->fork_within = fork_in_callback;
    while (!atomic_load(&is_over)) {
        crowd_act(v);
        if (v->is_child) {
            be_child(v, true);
            _exit(0);
        }
        if (child_of_callback != 0) await_child(child_of_callback);
        child_of_callback = 0;
        if (below(v, 20) == 0) live_some(v, number, 1);
    }
    return NULL;
}

int main(int count, char **arguments) {
    long forks = count > 1 ? atol(arguments[1]) : 1000;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    pthread_t threads[THREADS + FORKERS];
    visitor visitors[THREADS + FORKERS];
    directory_new(NULL);
    lives_begin(path_of(""));
    calls_begin();
    crowd_begin(path_of(""));
    atomic_store(&forks_left, forks);
    for (int i = 0; i < THREADS + FORKERS; i++) {
        visitors[i] = visitor_new(seed * 100 + (uint64_t)i + 1);
        if (pthread_create(&threads[i], NULL, i < THREADS ? crowd : fork_again_and_again, &visitors[i])) abort();
    }
    for (int i = 0; i < THREADS + FORKERS; i++) {
        pthread_join(threads[i], NULL);
        visitor_free(&visitors[i]);
    }
    crowd_end();
    calls_end(forks < 1000);
    lives_end();
    directory_free(NULL);
    printf("forks: %ld forks, seed %llu: %ld wrong\n", forks, (unsigned long long)seed, wrong_count());
    return wrong_count() != 0;
}
