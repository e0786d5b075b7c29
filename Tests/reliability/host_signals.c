/* Signals all the time, in every kind of work: what they interrupt goes on, to the same bits; and no thread but the
 * host's own sees them. */
#define _GNU_SOURCE /* RTLD_NEXT, gettid */
#include "files.h"
#include "workout.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* ---- Calls of the system that a signal interrupts ---- */

/* How many of them in a row are interrupted before one is not. */
static atomic_int interruptions, left, interrupted;

static bool is_interrupted(void) {
    if (atomic_load(&interruptions) == 0) return false;
    if (atomic_fetch_sub(&left, 1) > 0) {
        atomic_fetch_add(&interrupted, 1);
        errno = EINTR;
        return true;
    }
    atomic_store(&left, atomic_load(&interruptions));
    return false;
}

#define NEXT(name, ...)                         \
    static __typeof__(name) *next;              \
    if (!next) {                                \
        void *symbol = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &symbol, sizeof next);    \
    }                                           \
    return next(__VA_ARGS__)

int fsync(int file) {
    if (is_interrupted()) return -1;
    NEXT(fsync, file);
}

ssize_t write(int file, const void *bytes, size_t count) {
    if (is_interrupted()) return -1;
    NEXT(write, file, bytes, count > 100 ? 100 : count); /* nor is all of it written at once */
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
    if (is_interrupted()) return -1;
    NEXT(pread, file, bytes, count > 100 ? 100 : count, offset);
}

int open(const char *path, int flags, ...) {
    if (is_interrupted()) return -1;
    NEXT(open, path, flags, 0666);
}

/* On Linux the descriptor has gone all the same. */
int close(int file) {
    bool is_failing = is_interrupted();
    static int (*next)(int);
    if (!next) {
        void *symbol = dlsym(RTLD_NEXT, "close");
        memcpy(&next, &symbol, sizeof next);
    }
    int result = next(file);
    if (is_failing) errno = EINTR;
    return is_failing ? -1 : result;
}

static void test_interrupted_files(void **state) {
    (void)state;
    uint64_t expected = workout(false);
    for (int i = 1; i <= 3; i++) {
        atomic_store(&interruptions, i);
        uint64_t bits = workout(false);
        atomic_store(&interruptions, 0);
        assert_true(bits == expected);
    }
    assert_true(atomic_load(&interrupted) > 100);
    assert_int_equal(count_files(), 1);
}

/* ---- Signals at a high rate ---- */

static atomic_long signals, strangers;
static _Thread_local bool is_host;

static void count_signal(int number) {
    (void)number;
    atomic_fetch_add(&signals, 1);
    if (!is_host) atomic_fetch_add(&strangers, 1);
}

static atomic_bool is_over;
static pthread_t target;

/* Sends the main thread signals that no timer would. */
static void *nag(void *nothing) {
    static const int numbers[] = {SIGCHLD, SIGUSR1, SIGWINCH, SIGURG};
    struct timespec pause = {0, 50000};
    (void)nothing;
    for (unsigned i = 0; !atomic_load(&is_over); i++) {
        pthread_kill(target, numbers[i % COUNT(numbers)]);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void work_under_signals(int flags, int64_t threads, int rounds, uint64_t expected) {
    static const int numbers[] = {SIGALRM, SIGCHLD, SIGUSR1, SIGWINCH, SIGURG};
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags}, former[COUNT(numbers)];
    struct itimerval timer = {{0, 100}, {0, 100}}, none = {{0, 0}, {0, 0}};
    pthread_t nagger;
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < COUNT(numbers); i++) sigaction(numbers[i], &action, &former[i]);
    OK(pente_threads_set(threads));
    target = pthread_self();
    atomic_store(&is_over, false);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the one that nags hears nothing itself */
    assert_int_equal(pthread_create(&nagger, NULL, nag, NULL), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (int round = 0; round < rounds; round++) assert_true(workout(threads > 1) == expected);
    setitimer(ITIMER_REAL, &none, NULL);
    atomic_store(&is_over, true);
    pthread_join(nagger, NULL);
    OK(pente_threads_set(1));
    for (size_t i = 0; i < COUNT(numbers); i++) sigaction(numbers[i], &former[i], NULL);
}

static void test_signals(void **state) {
    int rounds = *(int *)*state;
    uint64_t expected = workout(false);
    is_host = true;
    work_under_signals(0, 1, rounds, expected);
    work_under_signals(SA_RESTART, 1, rounds, expected);
}

static void test_signals_and_threads(void **state) {
    int rounds = *(int *)*state;
    uint64_t expected = workout(true);
    is_host = true;
    for (int64_t threads = 2; threads <= 8; threads *= 2) {
        work_under_signals(0, threads, rounds, expected);
        work_under_signals(SA_RESTART, threads, rounds, expected);
    }
    assert_true(atomic_load(&signals) > 100);
    assert_int_equal(atomic_load(&strangers), 0);
    print_message("%ld signals\n", atomic_load(&signals));
}

int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupted_files),
        cmocka_unit_test_prestate(test_signals, &rounds),
        cmocka_unit_test_prestate(test_signals_and_threads, &rounds),
    };
    return cmocka_run_group_tests_name("host_signals", tests, directory_new, directory_free);
}
