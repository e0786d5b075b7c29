/* Every function of the header, each of whose allocations fails in its turn, and random calls of which some allocations
 * fail; a fit with all its options, threads and callbacks; threads that cannot be started. The first argument is
 * exports.txt, the second how many random calls there are. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "allocator.h"
#include "files.h"
#include "layers.h"
#include "refusals.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Every function, right values ---- */

static const function *tried;

static pente_status call_tried(void *bench) {
    value a[8];
    right_values(bench, tried, a);
    return tried->call(a);
}

/* All that may have been written, but for padding and addresses. */
static uint64_t hash_world(void *bench) {
    world *w = bench;
    const memory *m = &w->now;
    static outcome seen;
    bool has_made = m->made != w->pristine.made;
    const double numbers[] = {(double)m->view.rows,
                              (double)m->info.parameter_count,
                              (double)m->parameter_info.rows,
                              (double)m->sgd_info.step_count,
                              (double)m->sgd_parameter_info.columns,
                              (double)m->fit_report.epochs,
                              m->gradcheck_report.numeric,
                              m->gradcheck_report.error,
                              m->read_options.lr,
                              m->read_options.momentum};
    look(w, &seen);
    uint64_t hash = hash_bytes(FIRST_HASH, &has_made, sizeof has_made);
    hash = hash_bytes(hash_bytes(hash, &seen, sizeof seen), numbers, sizeof numbers);
    bytes file = bytes_of(path_of("world"));
    int files = count_files();
    hash = hash_bytes(hash_bytes(hash, file.data, file.size), &files, sizeof files);
    bytes_free(&file);
    return hash;
}

static void free_made_in(void *bench) {
    world *w = bench;
    if (w->now.made != w->pristine.made) free_made(w->now.made);
    w->now.made = w->pristine.made;
}

static void free_world(void *bench) { world_free(bench); }

/* A freed handle is gone, and a call that frees allocates nothing. */
static bool is_free(const function *f) {
    size_t length = strlen(f->name);
    return length > 5 && !strcmp(f->name + length - 5, "_free");
}

static void check_free(const function *f) {
    world *w = world_new();
    tried = f;
    long before = atomic_load(&allocations);
    atomic_store(&allowed, 0);
    pente_status status = call_tried(w);
    atomic_store(&allowed, -1);
    assert_int_equal(status, PENTE_OK);
    assert_int_equal(atomic_load(&allocations), before);
    world_free(w);
}

static void test_function(void **state) {
    const function *f = *state;
    skip_unless_counting();
    if (is_free(f)) {
        check_free(f);
        return;
    }
    tried = f;
    trial t = {f->name, call_tried, hash_world, free_made_in, free_world};
    for (int warm = 0; warm < 2; warm++) { /* once for what is allocated for good */
        world *w = world_new(), *twin = world_new();
        OK(call_tried(w));
        free_made_in(w);
        world_free(twin);
        world_free(w);
    }
    long live_before = atomic_load(&live_blocks);
    world *w = world_new(), *twin = world_new();
    int wrong = exhaust(&t, w, twin, live_before);
    world_free(w);
    world_free(twin);
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&live_blocks), live_before);
}

/* ---- A fit with all that it can have ---- */

enum { ROWS = 4000, INPUTS = 24, OUTPUTS = 6 };

typedef struct bench {
    affine own;
    pente_layer *chain, *plain; /* with it, and without, which threads may share */
    pente_mse *mse;
    pente_sgd *sgd, *plain_sgd;
    pente_trainer *trainer, *plain_trainer;
    double losses[2][4];
} bench;

static pente_matrix x, y, few_x, few_y, sample_weight, out;

/* Calls within a layer's callback have no memory either; their status comes out of the fit. */
static void inside_own(affine *own) {
    pente_mse *mse = NULL;
    pente_sgd *sgd = NULL;
    pente_layer *layer = NULL;
    pente_status status = pente_mse_new(NULL, &mse);
    if (status == PENTE_OK) status = pente_linear_new(4, 4, NULL, &layer);
    if (status == PENTE_OK) status = pente_sgd_new(&layer, 1, NULL, &sgd);
    own->wrong += pente_sgd_free(sgd) || pente_layer_free(layer) || pente_mse_free(mse);
    own->forward_fails = own->backward_fails = status;
}

/* It can stop a fit and not make it fail, so its own calls have memory. */
static int32_t on_epoch(const pente_epoch *epoch, void *user_data) {
    bench *b = user_data;
    long left = atomic_exchange(&allowed, -1);
    pente_status status = pente_sgd_set_lr(b->sgd, 0, 0.01 / (double)(epoch->epoch + 1));
    if (status == PENTE_OK) status = pente_layer_forward(b->chain, NULL, &few_x, &out);
    atomic_store(&allowed, left);
    return status != PENTE_OK;
}

static int32_t should_stop(void *user_data) {
    (void)user_data;
    return 0;
}

static bench *bench_new(void) {
    bench *b = calloc(1, sizeof *b);
    if (!b) abort();
    affine_new(&b->own, PENTE_FLOAT64, 5, 5, 1);
    b->own.inside = inside_own;
    b->chain = CHAIN(scaler_new(PENTE_FLOAT64, INPUTS), linear_new(PENTE_FLOAT64, INPUTS, 5, 1), b->own.layer,
                     activation_new(PENTE_FLOAT64, PENTE_SIGMOID), linear_new(PENTE_FLOAT64, 5, OUTPUTS, 2));
    b->plain = CHAIN(scaler_new(PENTE_FLOAT64, INPUTS), linear_new(PENTE_FLOAT64, INPUTS, 40, 1),
                     activation_new(PENTE_FLOAT64, PENTE_TANH), linear_new(PENTE_FLOAT64, 40, OUTPUTS, 2));
    b->mse = mse_new(PENTE_MEAN);
    b->sgd = sgd_of(b->chain, 0.01, 0.9);
    b->plain_sgd = sgd_of(b->plain, 0.01, 0.9);
    b->trainer = trainer_of(b->chain, b->mse, b->sgd);
    b->plain_trainer = trainer_of(b->plain, b->mse, b->plain_sgd);
    OK(pente_trainer_set_max_gradient_norm(b->plain_trainer, 0.5));
    return b;
}

static void bench_free(void *argument) {
    bench *b = argument;
    OK(pente_trainer_free(b->trainer));
    OK(pente_trainer_free(b->plain_trainer));
    OK(pente_sgd_free(b->sgd));
    OK(pente_sgd_free(b->plain_sgd));
    OK(pente_mse_free(b->mse));
    OK(pente_layer_free(b->chain));
    OK(pente_layer_free(b->plain));
    free(b);
}

static uint64_t hash_layer(uint64_t hash, const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    for (int64_t i = 0; i < info.parameter_count; i++) {
        char name[64];
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        pente_matrix parameter = parameter_of(layer, name), gradient = gradient_of(layer, name);
        hash = hash_matrix(hash_matrix(hash, &parameter), &gradient);
    }
    return hash;
}

static uint64_t hash_bench(void *argument) {
    bench *b = argument;
    pente_sgd_info infos[] = {PENTE_SGD_INFO_INIT, PENTE_SGD_INFO_INIT};
    OK(pente_sgd_get_info(b->sgd, &infos[0]));
    OK(pente_sgd_get_info(b->plain_sgd, &infos[1]));
    uint64_t hash = hash_layer(hash_layer(FIRST_HASH, b->chain), b->plain);
    return hash_bytes(hash_bytes(hash, infos, sizeof infos), b->losses, sizeof b->losses);
}

static pente_status fit(pente_trainer *trainer, bench *b, const pente_matrix *rows, const pente_matrix *targets) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_matrix weight = rows_of(&sample_weight, 0, rows->rows);
    options.epochs = 3;
    options.batch_size = rows->rows * 2 / 3;
    options.seed = 4;
    options.first_epoch = 1;
    options.sample_weight = &weight;
    options.validation_x = &few_x;
    options.validation_y = &few_y;
    options.patience = 2;
    options.should_stop = should_stop;
    options.user_data = b;
    options.training_losses = b->losses[0];
    options.validation_losses = b->losses[1];
    if (trainer == b->trainer) options.on_epoch = on_epoch;
    return pente_trainer_fit(trainer, rows, targets, &options, NULL);
}

static pente_status fit_with_callbacks(void *argument) {
    bench *b = argument;
    pente_sgd_options options = options_of(0.01, 0.9, 0, 0, 0, 0);
    pente_status status = pente_sgd_set_options(b->sgd, 0, &options);
    return status ? status : fit(b->trainer, b, &few_x, &few_y);
}

static pente_status fit_on_threads(void *argument) {
    bench *b = argument;
    pente_status set = pente_threads_set(3), status = fit(b->plain_trainer, b, &x, &y);
    return status ? status : set;
}

/* The bench's own threads, and the stacks that libc keeps, are none of the call's. */
static void end_threads(void *argument) {
    (void)argument;
    OK(pente_threads_set(1));
}

static void check_fit(const char *name, pente_status (*run)(void *)) {
    trial t = {name, run, hash_bench, end_threads, bench_free};
    bench *warm = bench_new();
    OK(run(warm));
    end_threads(warm);
    bench_free(warm);
    long live_before = atomic_load(&live_blocks);
    bench *b = bench_new(), *twin = bench_new();
    int wrong = exhaust(&t, b, twin, live_before);
    assert_int_equal(b->own.wrong + twin->own.wrong, 0);
    bench_free(b);
    bench_free(twin);
    assert_int_equal(wrong, 0);
}

static void test_fit(void **state) {
    (void)state;
    skip_unless_counting();
    check_fit("a fit with callbacks", fit_with_callbacks);
    check_fit("a fit on threads", fit_on_threads);
}

/* ---- Threads that cannot be had ---- */

static atomic_int threads_left = -1; /* so many may begin; -1: any number */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_create");
        memcpy(&next, &symbol, sizeof next);
    }
    if (atomic_load(&threads_left) == 0) return EAGAIN;
    if (atomic_load(&threads_left) > 0) atomic_fetch_sub(&threads_left, 1);
    return next(thread, attributes, body, argument);
}

static uint64_t fit_anew(void) {
    bench *b = bench_new();
    pente_status status = fit_on_threads(b);
    uint64_t bits = hash_bench(b);
    end_threads(b);
    bench_free(b);
    OK(status);
    return bits;
}

static void test_no_threads(void **state) {
    (void)state;
    uint64_t expected = fit_anew();
    for (int count = 0; count < 3; count++) {
        atomic_store(&threads_left, count);
        uint64_t bits = fit_anew();
        atomic_store(&threads_left, -1);
        assert_true(bits == expected);
        assert_true(fit_anew() == expected); /* and again with threads */
    }
}

/* All the address space that there is goes, but for so many bytes. */
static void take_address_space(size_t left) {
    char text[100] = {0};
    void *volatile block, *volatile kept = malloc(left);
    FILE *file = fopen("/proc/self/statm", "r");
    if (!kept || !file || !fgets(text, sizeof text, file)) _exit(9);
    fclose(file);
    struct rlimit limit = {(rlim_t)(atol(text) * sysconf(_SC_PAGESIZE)), RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit)) _exit(9);
    for (size_t size = 1 << 16; size >= 16; size /= 4) {
        do { block = malloc(size); } while (block);
    }
    free(kept);
}

/* No room for a stack, nor for much else: as the system says so, and not a test's malloc. */
static void test_no_address_space(void **state) {
    (void)state;
    uint64_t expected = fit_anew();
    int done = 0, refusals = 0;
    for (size_t left = 1; left < 24; left++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            bench *b = bench_new();
            take_address_space(left << 18);
            uint64_t before = hash_bench(b);
            pente_status result = fit_on_threads(b);
            uint64_t bits = hash_bench(b);
            if (result == PENTE_OK) _exit(bits == expected ? 0 : 3);
            _exit(result == PENTE_OUT_OF_MEMORY && bits == before ? 1 : 4);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) fail_msg("with %zu: status %x", left, (unsigned)status);
        done += WEXITSTATUS(status) == 0;
        refusals += WEXITSTATUS(status) == 1;
    }
    print_message("%d fits had address space enough, %d were refused\n", done, refusals);
    assert_true(done > 0 && refusals > 0);
}

/* ---- Random calls, of which some allocations fail ---- */

static void test_random_calls(void **state) {
    long calls = *(long *)*state, refusals = 0;
    skip_unless_counting();
    world *w = world_new(), *twin = world_new();
    for (long i = 0; i < calls; i++) {
        tried = &functions[random_below((int64_t)function_count)];
        if (is_free(tried)) continue;
        atomic_store(&fails_once, random_below(2) == 0);
        atomic_store(&allowed, random_below(12));
        pente_status status = call_tried(w);
        atomic_store(&allowed, -1);
        atomic_store(&fails_once, false);
        if (status == PENTE_OUT_OF_MEMORY) {
            refusals++;
        } else {
            REFUSED(status, call_tried(twin));
        }
        free_made_in(w);
        free_made_in(twin);
        if (i % 16 == 0 && hash_world(w) != hash_world(twin)) fail_msg("call %ld, of %s: other bits", i, tried->name);
    }
    assert_true(hash_world(w) == hash_world(twin));
    world_free(w);
    world_free(twin);
    print_message("%ld random calls, %ld refused\n", calls, refusals);
}

int main(int count, char **arguments) {
    char *exports = count > 1 ? arguments[1] : "Tests/PenteCTests/exports.txt";
    long calls = count > 2 ? atol(arguments[2]) : 2000;
    struct CMUnitTest tests[100] = { /* those without a name are none */
        cmocka_unit_test_prestate(test_all_exports_are_covered, exports),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_no_threads),
        cmocka_unit_test(test_no_address_space),
        cmocka_unit_test_prestate(test_random_calls, &calls),
    };
    for (size_t i = 0; i < function_count; i++) {
        tests[5 + i] = (struct CMUnitTest){functions[i].name, test_function, NULL, NULL, (void *)&functions[i]};
    }
    x = matrix_random(PENTE_FLOAT64, ROWS, INPUTS, INPUTS);
    y = matrix_random(PENTE_FLOAT64, ROWS, OUTPUTS, OUTPUTS);
    sample_weight = matrix_new(PENTE_FLOAT64, ROWS, 1, 1);
    fill(&sample_weight, 0.5);
    out = matrix_new(PENTE_FLOAT64, 12, OUTPUTS, OUTPUTS);
    few_x = rows_of(&x, 0, 12);
    few_y = rows_of(&y, 0, 12);
    int failed = cmocka_run_group_tests_name("memory", tests, directory_new, directory_free);
    print_message("%ld tries\n", tries);
    pente_matrix *matrices[] = {&x, &y, &sample_weight, &out};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    return failed;
}
