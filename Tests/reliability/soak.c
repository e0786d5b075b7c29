/* soak STEPS CYCLES: a guest that stays. After so many steps, and so many objects of each kind, the process has the memory,
 * the descriptors and the threads that it had near the start, to the page; and a step takes as long, also where numbers
 * have become so small that processors may be slow with them. */
#define _GNU_SOURCE /* mallinfo2 */
#include "soak.h"

#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

int64_t cycle_count;
static int64_t step_count;

/* ---- What the process has ---- */

typedef struct usage {
    long resident, heap, descriptors, threads; /* kB and bytes */
} usage;

/* The number behind a word in a file of /proc. Allocates nothing. */
static long number_in(const char *path, const char *word) {
    char text[4096];
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    assert_true(length > 0);
    close(file);
    text[length] = 0;
    const char *found = strstr(text, word);
    assert_non_null(found);
    return atol(found + strlen(word));
}

/* Resident is what is the process's own: pages of files come and go as the kernel likes. Not statm: what it says is up to
 * some hundred pages behind. */
static usage usage_now(void) {
    struct mallinfo2 heap = mallinfo2();
    usage u = {number_in("/proc/self/smaps_rollup", "\nAnonymous:"), (long)(heap.uordblks + heap.hblkhd), 0,
               number_in("/proc/self/status", "\nThreads:")};
    for (int i = 0; i < 1024; i++) u.descriptors += fcntl(i, F_GETFD) >= 0;
    return u;
}

/* Less is no growth. */
static bool has_grown(usage before, usage now) {
    return now.resident > before.resident || now.heap > before.heap || now.descriptors > before.descriptors ||
           now.threads > before.threads;
}

static void assert_flat(const char *what, usage before) {
    usage now = usage_now();
    if (has_grown(before, now)) {
        fail_msg("%s: resident %ld kB, then %ld; heap %ld bytes, then %ld; descriptors %ld, then %ld; threads %ld, then "
                 "%ld", what, before.resident, now.resident, before.heap, now.heap, before.descriptors, now.descriptors,
                 before.threads, now.threads);
    }
}

void repeat(const char *what, int64_t count, void (*body)(int64_t i)) {
    usage before = {0}, bounds = {0};
    int64_t made = 0;
    for (int tenth = 1, flat = 0; tenth <= 10 || flat < 5; tenth++) {
        for (int64_t i = 0; i < count / 10; i++) body(made++);
        if (tenth > 30) assert_flat(what, before);
        if (tenth > 1) assert_flat(what, bounds);
        usage now = usage_now();
        if (tenth == 1) {
            bounds = now;
            bounds.resident += 256; /* of the stacks of threads, too */
            bounds.heap += 64 << 10;
        }
        flat++;
        if (!has_grown(before, now)) continue;
        before = now;
        flat = 0;
    }
    print_message("%s: %lld times, resident %ld kB, heap %ld bytes\n", what, (long long)made, before.resident, before.heap);
}

/* ---- Tiny steps, and how long they take ---- */

enum { BLOCK = 1000 };

/* A layer, and steps of some rows of it. */
typedef struct stepper {
    training t;
    pente_matrix x, y;
    int64_t made;
} stepper;

static stepper stepper_new(pente_dtype dtype, int64_t rows, int64_t inputs, int64_t outputs, double lr,
                           double momentum, double decay) {
    stepper s = {.t = training_new(dtype, inputs, outputs, PENTE_MEAN, lr)};
    pente_sgd_options options = options_of(lr, momentum, 0, decay, 0, 0);
    OK(pente_sgd_set_options(s.t.sgd, 0, &options));
    s.x = matrix_random(dtype, rows, inputs, inputs);
    s.y = matrix_random(dtype, rows, outputs, outputs);
    return s;
}

static void stepper_free(stepper *s) {
    training_free(&s->t);
    matrix_free(&s->x);
    matrix_free(&s->y);
}

static void make_steps(stepper *s, int64_t count) {
    for (int64_t i = 0; i < count; i++) OK(pente_trainer_step(s->t.trainer, &s->x, &s->y, NULL, NULL));
    s->made += count;
}

/* Steps that never come to rest. */
static void make_lively_steps(stepper *s, int64_t count) {
    for (; count > 0; count -= 10) {
        put(&s->y, 0, 0, -get(&s->y, 0, 0));
        make_steps(s, count < 10 ? count : 10);
    }
}

/* Time of this thread alone, in nanoseconds: others may have the processor meanwhile. */
static double thread_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The same arithmetic in C. Against it steps are timed, turn by turn, since the machine's own speed comes and goes. */
static void yardstick(void *argument) {
    static volatile float x[4] = {0.1f, 0.2f, 0.3f, 0.4f}, w[4], velocity[4], target = 1;
    (void)argument;
    for (int i = 0; i < BLOCK; i++) {
        float residual = -target;
        for (int j = 0; j < 4; j++) residual += w[j] * x[j];
        for (int j = 0; j < 4; j++) {
            velocity[j] = 0.9f * velocity[j] + 2 * residual * x[j];
            w[j] = w[j] - 0.01f * velocity[j];
        }
        if (i % 10 == 0) target = -target;
    }
}

typedef struct ratios {
    double median, high; /* the 50th and the 99th of 100 */
} ratios;

/* How long calls of one function take, in units of another's: counted by logarithm, in steps of a quarter percent,
 * since to sort them would take memory. */
static ratios time_against(void (*one)(void *), void *of_one, void (*other)(void *), void *of_other, int64_t blocks) {
    enum { BINS = 4000, PER_OCTAVE = 300, FIRST_OCTAVE = -5 };
    static int64_t counts[BINS];
    memset(counts, 0, sizeof counts);
    for (int64_t i = 0; i < blocks; i++) {
        double start = thread_time();
        one(of_one);
        double middle = thread_time();
        other(of_other);
        double octaves = log2((middle - start) / (thread_time() - middle)) - FIRST_OCTAVE;
        counts[(int)fmax(0, fmin(octaves * PER_OCTAVE, BINS - 1))]++;
    }
    ratios r = {0, 0};
    int64_t sum = 0;
    for (int bin = 0; bin < BINS; bin++) {
        double ratio = exp2((double)bin / PER_OCTAVE + FIRST_OCTAVE);
        if (sum <= blocks / 2) r.median = ratio;
        if (sum <= blocks * 99 / 100) r.high = ratio;
        sum += counts[bin];
    }
    return r;
}

static void make_block(void *s) { make_steps(s, BLOCK); }
static void make_lively_block(void *s) { make_lively_steps(s, BLOCK); }

static void test_steps(void **state) {
    (void)state;
    stepper s = stepper_new(PENTE_FLOAT32, 1, 4, 1, 0.01, 0.9, 0);
    int64_t tenth = step_count / BLOCK / 10;
    time_against(make_lively_block, &s, yardstick, NULL, tenth / 10);
    usage before = usage_now();
    ratios first = time_against(make_lively_block, &s, yardstick, NULL, tenth);
    for (int i = 0; i < 8; i++) {
        make_lively_steps(&s, tenth * BLOCK);
        assert_flat("steps", before);
    }
    /* What has become slow stays so: a tenth that only met a busy machine is followed by one that did not. */
    ratios last = {0};
    for (int i = 0; i < 5; i++) {
        last = time_against(make_lively_block, &s, yardstick, NULL, tenth);
        if (last.median < 1.1 * first.median && last.high < 1.5 * first.high) break;
    }
    assert_flat("steps", before);
    print_message("steps: %lld, resident %ld kB, heap %ld bytes; last tenth to first: median %.3f, 99th percentile %.3f\n",
                  (long long)s.made, before.resident, before.heap, last.median / first.median, last.high / first.high);
    assert_true(last.median < 1.1 * first.median && last.high < 1.5 * first.high);
    stepper_free(&s);
}

/* ---- Small numbers ---- */

static bool is_subnormal(const pente_matrix *m) {
    double number = fabs(get(m, 0, 0));
    return number > 0 && number < (m->dtype == PENTE_FLOAT32 ? 0x1p-126 : 0x1p-1022);
}

/* There is nothing left to learn. */
static void settle(stepper *s) {
    double loss = 1;
    make_steps(s, 100000);
    OK(pente_trainer_step(s->t.trainer, &s->x, &s->y, NULL, &loss));
    assert_true(loss < 1e-9);
}

/* Momentum shrinks what it has without an end, once all gradients of the weight are 0. */
static void fade_momentum(stepper *s) {
    pente_matrix buffer = matrix_copy(&s->t.model.weight);
    make_steps(s, 10);
    fill(&s->x, 0);
    make_steps(s, 20000);
    OK(pente_sgd_get_momentum_buffer(s->t.sgd, 0, &buffer));
    assert_true(is_subnormal(&buffer));
    matrix_free(&buffer);
}

/* Weight decay shrinks the parameters, and their gradients with them. */
static void fade_weights(stepper *s) {
    fill(&s->y, 0);
    make_steps(s, 100000);
    assert_true(is_subnormal(&s->t.model.weight));
}

static void shrink_x(stepper *s) {
    fill(&s->x, s->x.dtype == PENTE_FLOAT32 ? 0x1p-130 : 0x1p-1030);
    assert_true(is_subnormal(&s->x));
}

/* Steps with numbers near 0 take as long as steps with others. How much slower a processor is with subnormal numbers is
 * its own affair, so the short form only says. */
static void test_small_numbers(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*prepare)(stepper *s);
        double momentum, decay;
    } cases[] = {{"converged", settle, 0, 0},
                 {"momentum fades", fade_momentum, 0.9, 0},
                 {"weights fade", fade_weights, 0, 0.5},
                 {"x is subnormal", shrink_x, 0.9, 0}};
    static const int64_t shapes[][3] = {{1, 4, 1}, {8, 32, 20}};
    double worst = 0;
    for (size_t i = 0; i < COUNT(cases) * COUNT(shapes) * 2; i++) {
        const int64_t *shape = shapes[i / 2 % COUNT(shapes)];
        pente_dtype dtype = PENTE_FLOAT32 + (pente_dtype)(i % 2);
        size_t c = i / 2 / COUNT(shapes);
        stepper s = stepper_new(dtype, shape[0], shape[1], shape[2], 0.05, cases[c].momentum, cases[c].decay);
        make_lively_steps(&s, BLOCK);
        double before = time_against(make_lively_block, &s, yardstick, NULL, 100).median;
        cases[c].prepare(&s);
        double median = INFINITY;
        for (int k = 0; k < 5 && median >= 1.5; k++) {
            median = fmin(median, time_against(make_block, &s, yardstick, NULL, 100).median / before);
        }
        print_message("%s, %s, %dx%d->%d: %.3f of the time of other steps\n", cases[c].name,
                      dtype == PENTE_FLOAT32 ? "float32" : "float64", (int)shape[0], (int)shape[1], (int)shape[2], median);
        worst = fmax(worst, median);
        stepper_free(&s);
    }
    if (worst >= 1.5 && step_count >= 100000000) fail_msg("Small numbers make steps slow: %.3f of the time", worst);
}

/* ---- Threads ---- */

static stepper shared;

static void cycle_threads(int64_t i) {
    OK(pente_threads_set(1 + i % 4));
    make_steps(&shared, 3);
    OK(pente_threads_set(1));
}

static void step_on_threads(int64_t i) {
    (void)i;
    make_steps(&shared, 1);
}

static void test_threads(void **state) {
    (void)state;
    shared = stepper_new(PENTE_FLOAT32, 600, 70, 33, 0.001, 0.9, 0);
    repeat("threads that come and go", cycle_count / 10, cycle_threads);
    OK(pente_threads_set(3));
    repeat("steps on three threads", cycle_count / 2, step_on_threads);
    OK(pente_threads_set(1));
    stepper_free(&shared);
}

int main(int argc, char **argv) {
    step_count = argc > 2 ? atoll(argv[1]) : 0;
    cycle_count = argc > 2 ? atoll(argv[2]) : 0;
    if (argc > 3) cmocka_set_test_filter(argv[3]);
    if (step_count < 100 * BLOCK || cycle_count < 100) {
        fprintf(stderr, "soak STEPS CYCLES [TEST]: %d steps and 100 cycles, or more\n", 100 * BLOCK);
        return 2;
    }
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* or the kernel makes pages larger meanwhile */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_objects), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_threads), cmocka_unit_test(test_small_numbers),
                                       cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests_name("soak", tests, NULL, NULL);
}
