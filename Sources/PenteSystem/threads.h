/* What the pool of threads needs of pthreads. */
#ifndef PENTE_SYSTEM_THREADS_H
#define PENTE_SYSTEM_THREADS_H

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PENTE_MOST_THREADS 256

/* All zero, as the initializers of its parts are. Whoever calls these functions keeps it: a static one here would be one
 * for each object file that they are inlined into. */
typedef struct pente_meeting {
    pthread_mutex_t lock;
    pthread_cond_t work;   /* there is some, or some workers are to end */
    pthread_cond_t change; /* of what the threads at work wait for */
} pente_meeting;

/* For somebody who watches for a change. */
static inline void pente_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* How many processors the calling thread may run on, as far as is known. */
static inline int pente_processor_count(void) {
    unsigned long mask[16] = {0};
    int count = 0;
    if (syscall(SYS_sched_getaffinity, 0, sizeof mask, mask) < 0) return 1;
    for (int i = 0; i < 16; i++)
        for (; mask[i] != 0; mask[i] &= mask[i] - 1) count++;
    return count;
}

/* Held for some ten instructions at a time: a few looks, and it is free. */
static inline void pente_lock(pente_meeting *meeting) {
    for (int looks = 0; looks < 64; looks++) {
        if (pthread_mutex_trylock(&meeting->lock) == 0) return;
        pente_pause();
    }
    pthread_mutex_lock(&meeting->lock);
}

static inline void pente_unlock(pente_meeting *meeting) {
    pthread_mutex_unlock(&meeting->lock);
}

static inline void pente_await_work(pente_meeting *meeting) {
    pthread_cond_wait(&meeting->work, &meeting->lock);
}

static inline void pente_tell_work(pente_meeting *meeting) {
    pthread_cond_signal(&meeting->work);
}

static inline void pente_tell_all_of_work(pente_meeting *meeting) {
    pthread_cond_broadcast(&meeting->work);
}

static inline void pente_await_change(pente_meeting *meeting) {
    pthread_cond_wait(&meeting->change, &meeting->lock);
}

/* The same for a tenth of a second at most. */
static inline void pente_await_change_shortly(pente_meeting *meeting) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&meeting->change, &meeting->lock, &until);
}

static inline void pente_tell_change(pente_meeting *meeting) {
    pthread_cond_broadcast(&meeting->change);
}

/* In a child of fork(): whoever held the lock is not there. */
static inline void pente_meeting_init(pente_meeting *meeting) {
    pthread_mutex_init(&meeting->lock, NULL);
    pthread_cond_init(&meeting->work, NULL);
    pthread_cond_init(&meeting->change, NULL);
}

/* From now on each child of fork() calls this first; returns whether it will. */
static inline int pente_at_fork(void (*in_child)(void)) {
    return pthread_atfork(NULL, NULL, in_child) == 0;
}

/* Starts worker `number`, with so many bytes of stack; 0 if it cannot be had. Signals are the host's own threads' business, but for those that a
 * thread's own instructions raise: the host may want to report them. */
static inline pthread_t pente_start_worker(int64_t number, size_t stack, void *(*body)(void *)) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    pthread_attr_t attributes;
    pthread_t worker = 0;
    sigset_t blocked, former;
    if (pthread_attr_init(&attributes) != 0) return 0;
    sigfillset(&blocked);
    for (int i = 0; i < 5; i++) sigdelset(&blocked, own[i]);
    if (pthread_attr_setstacksize(&attributes, stack) == 0 &&
        pthread_sigmask(SIG_SETMASK, &blocked, &former) == 0) {
        if (pthread_create(&worker, &attributes, body, (void *)(intptr_t)number) != 0) worker = 0;
        pthread_sigmask(SIG_SETMASK, &former, NULL);
    }
    pthread_attr_destroy(&attributes);
    return worker;
}

static inline void pente_join_worker(pthread_t worker) {
    pthread_join(worker, NULL);
}

#endif
