/* Several threads for one call: whatever their number, the bits are those of one. */
#define _POSIX_C_SOURCE 200809L /* fork, nanosleep */
#include "layers.h"

#include <valgrind/valgrind.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- The count ---- */

static void test_count(void **state) {
    (void)state;
    assert_int_equal(pente_threads_get(), 1);
    static const int64_t wrong[] = {0, -1, 257, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < COUNT(wrong); i++) REFUSED(PENTE_INVALID_ARGUMENT, pente_threads_set(wrong[i]));
    assert_string_equal(pente_last_error(),
                        "pente_threads_set: count is 9223372036854775807; it must be from 1 to 256");
    assert_int_equal(pente_threads_get(), 1);
    OK(pente_threads_set(256));
    assert_int_equal(pente_threads_get(), 256);
    OK(pente_threads_set(1));
    assert_int_equal(pente_threads_get(), 1);
}

/* ---- Work of all shapes: enough for threads, but for the last ---- */

static pente_layer *linear_without_bias(pente_dtype dtype, int64_t inputs, int64_t outputs) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_layer *layer = NULL;
    options.dtype = dtype;
    options.bias = 0;
    OK(pente_linear_new(inputs, outputs, &options, &layer));
    return layer;
}

static pente_layer *one_output(pente_dtype dtype) { return linear_new(dtype, 15, 1, 1); }
static pente_layer *narrow(pente_dtype dtype) { return linear_new(dtype, 300, 7, 2); }
static pente_layer *wide(pente_dtype dtype) { return linear_new(dtype, 70, 33, 3); }
static pente_layer *large(pente_dtype dtype) { return linear_new(dtype, 220, 152, 3); }
static pente_layer *no_bias(pente_dtype dtype) { return linear_without_bias(dtype, 130, 16); }
static pente_layer *larger(pente_dtype dtype) { return linear_new(dtype, 1100, 1000, 3); }
static pente_layer *large_chain(pente_dtype dtype) {
    return CHAIN(linear_new(dtype, 220, 152, 5), activation_new(dtype, PENTE_TANH), linear_new(dtype, 152, 300, 6));
}
static pente_layer *tall(pente_dtype dtype) { return tall_chain_new(dtype, 4); }
static pente_layer *mixed(pente_dtype dtype) {
    return CHAIN(linear_new(dtype, 64, 64, 5), activation_new(dtype, PENTE_RELU),
                 CHAIN(linear_new(dtype, 64, 32, 6), activation_new(dtype, PENTE_SIGMOID)),
                 linear_new(dtype, 32, 10, 7));
}

typedef struct shape {
    const char *name;
    pente_layer *(*layer)(pente_dtype dtype);
    int64_t inputs, outputs, rows;
    double momentum;
    bool weighted;
} shape;

static const shape shapes[] = {
    {"one output", one_output, 15, 1, 140000 + 33, 0, false},
    {"narrow", narrow, 300, 7, 2048 + 65, 0.9, true},
    {"wide", wide, 70, 33, 4 * 512 + 257, 0.9, false},
    {"wide, weighted", wide, 70, 33, 2048 + 3, 0, true},
    {"large, more blocks than logs", large, 220, 152, 3 * 512 + 100, 0.5, false},
    {"large, one block", large, 220, 152, 300 + 5, 0, false},
    {"larger, few rows", larger, 1100, 1000, 8 + 5, 0.9, false},
    {"large chain, one block", large_chain, 220, 300, 300 + 5, 0.9, true},
    {"narrow, little work", narrow, 300, 7, 600, 0.9, false},
    {"no bias", no_bias, 130, 16, 4096, 0.9, false},
    {"tall chain", tall, TALL_INPUTS, TALL_OUTPUTS, 30000 + 100, 0.9, true},
    {"mixed chain", mixed, 64, 10, 1024 + 511, 0, false},
    {"small", wide, 70, 33, 40, 0.9, false},
};

typedef struct work {
    const shape *shape;
    pente_dtype dtype;
    pente_matrix x, y, weight, out;
} work;

static work work_new(const shape *shape, pente_dtype dtype) {
    work w = {shape, dtype, matrix_random(dtype, shape->rows, shape->inputs, shape->inputs + 3),
              matrix_random(dtype, shape->rows, shape->outputs, shape->outputs),
              matrix_new(dtype, shape->rows, 1, 1),
              matrix_new(dtype, shape->rows, shape->outputs, shape->outputs + 1)};
    for (int64_t i = 0; i < shape->rows; i++) put(&w.weight, i, 0, (double)(i % 5) / 2);
    return w;
}

static void work_free(work *w) {
    matrix_free(&w->x);
    matrix_free(&w->y);
    matrix_free(&w->weight);
    matrix_free(&w->out);
}

static uint64_t hash_layer(uint64_t hash, const pente_layer *layer) {
    snapshot s = snapshot_new(layer);
    for (int64_t i = 0; i < s.count; i++) {
        hash = hash_matrix(hash_matrix(hash, &s.parameters[i]), &s.gradients[i]);
    }
    snapshot_free(&s);
    return hash;
}

/* A hash of all that comes of training and inference; 0 if a call failed. */
static uint64_t do_work(const work *w) {
    pente_layer *layer = w->shape->layer(w->dtype);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(layer, 0.01, w->shape->momentum);
    pente_trainer *trainer = trainer_of(layer, mse, sgd);
    uint64_t hash = FIRST_HASH;
    bool well = true;
    for (int step = 0; step < 2; step++) {
        double loss = 0;
        well = well && !pente_trainer_step(trainer, &w->x, &w->y, w->shape->weighted ? &w->weight : NULL, &loss);
        hash = hash_bytes(hash, &loss, sizeof loss);
    }
    hash = hash_layer(hash, layer);
    well = well && !pente_layer_forward(layer, NULL, &w->x, &w->out);
    hash = hash_matrix(hash, &w->out);
    pente_trainer_free(trainer);
    pente_sgd_free(sgd);
    pente_mse_free(mse);
    pente_layer_free(layer);
    return well ? hash : 0;
}

static void test_same_bits(void **state) {
    (void)state;
    static const int64_t counts[] = {2, 3, 8};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        /* Under valgrind, which is fifty times slower, one count and one dtype. */
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= (RUNNING_ON_VALGRIND ? PENTE_FLOAT32 : PENTE_FLOAT64); dtype++) {
            work w = work_new(&shapes[i], dtype);
            OK(pente_threads_set(1));
            uint64_t alone = do_work(&w);
            assert_true(alone != 0);
            for (size_t k = 0; k < (RUNNING_ON_VALGRIND ? 1 : dtype == PENTE_FLOAT32 ? COUNT(counts) : 2); k++) {
                OK(pente_threads_set(counts[k]));
                if (do_work(&w) != alone) fail_msg("%s: other bits with %d threads", shapes[i].name, (int)counts[k]);
            }
            assert_true(gap_is_untouched(&w.out));
            work_free(&w);
        }
    }
    OK(pente_threads_set(1));
}

/* A trainer that meets more and fewer threads, and larger and smaller batches. */
static void test_count_changes_between_steps(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 4, 2, 8, 1, 3}, rows[] = {1030, 1500, 2000, 700, 2000, 1600};
    pente_matrix x = matrix_random(PENTE_FLOAT32, 2000, 64, 64), y = matrix_random(PENTE_FLOAT32, 2000, 10, 10);
    uint64_t hashes[2];
    for (int changes = 0; changes < 2; changes++) {
        pente_layer *layer = mixed(PENTE_FLOAT32);
        pente_mse *mse = mse_new(PENTE_SUM);
        pente_sgd *sgd = sgd_of(layer, 1e-5, 0.9);
        pente_trainer *trainer = trainer_of(layer, mse, sgd);
        for (size_t i = 0; i < COUNT(counts); i++) {
            pente_matrix part = rows_of(&x, 0, rows[i]), target = rows_of(&y, 0, rows[i]);
            OK(pente_threads_set(changes ? counts[i] : 1));
            OK(pente_trainer_step(trainer, &part, &target, NULL, NULL));
        }
        hashes[changes] = hash_layer(FIRST_HASH, layer);
        OK(pente_trainer_free(trainer));
        OK(pente_sgd_free(sgd));
        OK(pente_mse_free(mse));
        OK(pente_layer_free(layer));
    }
    assert_true(hashes[0] == hashes[1]);
    OK(pente_threads_set(1));
    matrix_free(&x);
    matrix_free(&y);
}

/* ---- Fits: callbacks on the calling thread alone, validation, stopping ---- */

enum { FIT_ROWS = 6000, FIT_INPUTS = 90, FIT_OUTPUTS = 20, VALIDATION_ROWS = 5000 };

typedef struct fitting {
    pente_matrix x, y, validation_x, validation_y;
    pthread_t caller;
    int elsewhere;
    double losses[2][2];
} fitting;

static fitting fitting_new(void) {
    return (fitting){.x = matrix_random(PENTE_FLOAT32, FIT_ROWS, FIT_INPUTS, FIT_INPUTS),
                     .y = matrix_random(PENTE_FLOAT32, FIT_ROWS, FIT_OUTPUTS, FIT_OUTPUTS),
                     .validation_x = matrix_random(PENTE_FLOAT32, VALIDATION_ROWS, FIT_INPUTS, FIT_INPUTS),
                     .validation_y = matrix_random(PENTE_FLOAT32, VALIDATION_ROWS, FIT_OUTPUTS, FIT_OUTPUTS),
                     .caller = pthread_self()};
}

static void fitting_free(fitting *f) {
    matrix_free(&f->x);
    matrix_free(&f->y);
    matrix_free(&f->validation_x);
    matrix_free(&f->validation_y);
}

static int32_t count_epoch(const pente_epoch *epoch, void *argument) {
    fitting *f = argument;
    (void)epoch;
    f->elsewhere += !pthread_equal(pthread_self(), f->caller);
    return 0;
}

static int32_t ask(void *argument) {
    fitting *f = argument;
    f->elsewhere += !pthread_equal(pthread_self(), f->caller);
    return 0;
}

/* Returns a hash of the layer and the losses. */
static uint64_t fit(fitting *f, pente_stop_reason *reason) {
    training t = training_new(PENTE_FLOAT32, FIT_INPUTS, FIT_OUTPUTS, PENTE_MEAN, 0.01);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 2;
    options.batch_size = 2500;
    options.validation_x = &f->validation_x;
    options.validation_y = &f->validation_y;
    options.patience = 1;
    options.on_epoch = count_epoch;
    options.should_stop = ask;
    options.user_data = f;
    options.training_losses = f->losses[0];
    options.validation_losses = f->losses[1];
    OK(pente_trainer_fit(t.trainer, &f->x, &f->y, &options, &report));
    *reason = report.stop_reason;
    uint64_t hash = hash_bytes(hash_layer(FIRST_HASH, t.model.layer), f->losses, sizeof f->losses);
    training_free(&t);
    return hash;
}

static void test_fit(void **state) {
    (void)state;
    fitting f = fitting_new();
    pente_stop_reason reason = 0;
    uint64_t alone = fit(&f, &reason);
    assert_int_equal(reason, PENTE_STOP_EPOCHS);
    for (int64_t count = 2; count <= 6; count += 4) {
        OK(pente_threads_set(count));
        assert_true(fit(&f, &reason) == alone);
        assert_int_equal(reason, PENTE_STOP_EPOCHS);
    }
    assert_int_equal(f.elsewhere, 0);
    OK(pente_threads_set(1));
    fitting_free(&f);
}

/* ---- A step that is stopped has changed nothing; one that forks goes on in both processes ---- */

enum { LONG_ROWS = 4000, LONG_INPUTS = 100, LONG_OUTPUTS = 32 };

/* Fits of a step an epoch, until should_stop has been asked `enough` times, which is mostly within a step. */
typedef struct long_fit {
    pente_matrix x, y;
    int asked, enough, stop_at, fork_at;
    pid_t child;
} long_fit;

static long_fit long_fit_new(void) {
    return (long_fit){.x = matrix_random(PENTE_FLOAT32, LONG_ROWS, LONG_INPUTS, LONG_INPUTS),
                      .y = matrix_random(PENTE_FLOAT32, LONG_ROWS, LONG_OUTPUTS, LONG_OUTPUTS)};
}

static int32_t ask_long(void *argument) {
    long_fit *l = argument;
    l->asked++;
    if (l->asked == l->fork_at) l->child = fork();
    return l->asked == l->stop_at;
}

static int32_t is_enough(const pente_epoch *epoch, void *argument) {
    long_fit *l = argument;
    (void)epoch;
    return l->asked >= l->enough;
}

/* Whether the layer is afterwards as after so many steps of one thread's. */
static bool fit_long(long_fit *l, int64_t count, pente_stop_reason reason) {
    training t = training_new(PENTE_FLOAT32, LONG_INPUTS, LONG_OUTPUTS, PENTE_MEAN, 0.01);
    training same = training_new(PENTE_FLOAT32, LONG_INPUTS, LONG_OUTPUTS, PENTE_MEAN, 0.01);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 1000000;
    options.batch_size = LONG_ROWS;
    options.shuffle = 0;
    options.on_epoch = is_enough;
    options.should_stop = ask_long;
    options.user_data = l;
    l->asked = 0;
    OK(pente_threads_set(count));
    OK(pente_trainer_fit(t.trainer, &l->x, &l->y, &options, &report));
    OK(pente_threads_set(1));
    for (int64_t i = 0; i < report.epochs; i++) OK(pente_trainer_step(same.trainer, &l->x, &l->y, NULL, NULL));
    bool well = report.stop_reason == reason && same_bits("weight", &t.model.weight, &same.model.weight) &&
                same_bits("bias", &t.model.bias, &same.model.bias);
    training_free(&t);
    training_free(&same);
    return well;
}

static void test_stop_within_a_step(void **state) {
    (void)state;
    long_fit l = long_fit_new();
    l.enough = 10;
    for (l.stop_at = 1; l.stop_at <= 3; l.stop_at++) assert_true(fit_long(&l, 4, PENTE_STOP_REQUEST));
    matrix_free(&l.x);
    matrix_free(&l.y);
}

/* exec, not exit: the stacks of threads that are not there would count as leaked. */
static void end_child(bool well) {
    if (well) execlp("true", "true", (char *)NULL);
    _exit(1);
}

static void await_child(pid_t child) {
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_fork_within_a_step(void **state) {
    (void)state;
    long_fit l = long_fit_new();
    pid_t parent = getpid();
    l.enough = 3;
    for (l.fork_at = 1; l.fork_at <= 2; l.fork_at++) {
        bool well = fit_long(&l, 4, PENTE_STOP_CALLBACK);
        if (getpid() != parent) end_child(well);
        await_child(l.child);
        assert_true(well);
    }
    matrix_free(&l.x);
    matrix_free(&l.y);
}

static void test_fork_after_work(void **state) {
    (void)state;
    work w = work_new(&shapes[2], PENTE_FLOAT32);
    uint64_t alone = do_work(&w);
    OK(pente_threads_set(3));
    assert_true(do_work(&w) == alone);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(600);
            bool well = do_work(&w) == alone && do_work(&w) == alone && !pente_threads_set(2) && do_work(&w) == alone;
            end_child(well);
        }
        assert_true(do_work(&w) == alone);
        await_child(child);
    }
    OK(pente_threads_set(1));
    work_free(&w);
}

/* ---- Host threads: one has the pool, the others go on; the count changes meanwhile ---- */

static atomic_int wrong;
static atomic_bool is_over;

typedef struct guest {
    const work *work;
    uint64_t expected;
} guest;

static void *train_again_and_again(void *argument) {
    const guest *g = argument;
    for (int i = 0; i < 4; i++) {
        if (do_work(g->work) != g->expected) atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

static void *change_the_count(void *argument) {
    (void)argument;
    for (int64_t i = 0; !atomic_load(&is_over); i++) {
        if (pente_threads_set(1 + i * 7 % 6)) atomic_fetch_add(&wrong, 1);
        nanosleep(&(struct timespec){0, 300000}, NULL);
    }
    return NULL;
}

static void test_hosts_threads(void **state) {
    (void)state;
    enum { GUESTS = 3 };
    work works[GUESTS] = {work_new(&shapes[2], PENTE_FLOAT32), work_new(&shapes[6], PENTE_FLOAT64),
                          work_new(&shapes[7], PENTE_FLOAT32)};
    guest guests[GUESTS];
    pthread_t threads[GUESTS], changer;
    for (int i = 0; i < GUESTS; i++) guests[i] = (guest){&works[i], do_work(&works[i])};
    OK(pente_threads_set(4));
    for (int changes = 0; changes < 2; changes++) {
        atomic_store(&is_over, false);
        if (changes) assert_int_equal(pthread_create(&changer, NULL, change_the_count, NULL), 0);
        for (int i = 0; i < GUESTS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, train_again_and_again, &guests[i]), 0);
        }
        for (int i = 0; i < GUESTS; i++) pthread_join(threads[i], NULL);
        atomic_store(&is_over, true);
        if (changes) pthread_join(changer, NULL);
    }
    assert_int_equal(atomic_load(&wrong), 0);
    OK(pente_threads_set(1));
    for (int i = 0; i < GUESTS; i++) work_free(&works[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_count_changes_between_steps),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_stop_within_a_step),
        cmocka_unit_test(test_fork_within_a_step),
        cmocka_unit_test(test_fork_after_work),
        cmocka_unit_test(test_hosts_threads),
    };
    return cmocka_run_group_tests_name("threads_count", tests, NULL, NULL);
}
