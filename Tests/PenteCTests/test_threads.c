/* Threads: readers share, writers are refused and never race, freeing is safe, strangers do not disturb each other.
 * Assertions jump, so they stay in the main thread; the others count what went wrong. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { THREADS = 8, N = 9, P = 5, Q = 21 };

typedef struct shared {
    model model;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, expected;
    atomic_int wrong, busy, done;
} shared;

static void shared_new(shared *s) {
    s->model = model_new(PENTE_FLOAT32, N, P, true, 3);
    s->mse = mse_new(PENTE_MEAN);
    s->sgd = sgd_new(&s->model, 0.01, 0.5);
    s->trainer = trainer_new(&s->model, s->mse, s->sgd);
    OK(pente_context_new(s->model.layer, &s->context));
    s->x = matrix_random(PENTE_FLOAT32, Q, N, N);
    s->y = matrix_random(PENTE_FLOAT32, Q, P, P);
    s->expected = matrix_new(PENTE_FLOAT32, Q, P, P);
    OK(pente_layer_forward(s->model.layer, NULL, &s->x, &s->expected));
    atomic_store(&s->wrong, 0);
    atomic_store(&s->busy, 0);
    atomic_store(&s->done, 0);
}

static void shared_free(shared *s) {
    OK(pente_context_free(s->context));
    OK(pente_trainer_free(s->trainer));
    OK(pente_sgd_free(s->sgd));
    OK(pente_mse_free(s->mse));
    model_free(&s->model);
    matrix_free(&s->x);
    matrix_free(&s->y);
    matrix_free(&s->expected);
}

/* Counts a status that is neither OK nor allowed; true for OK. */
static bool went_well(shared *s, pente_status status, pente_status allowed) {
    if (status == PENTE_OK) return true;
    atomic_fetch_add(status == allowed ? &s->busy : &s->wrong, 1);
    return false;
}

static void expect(shared *s, bool condition) {
    if (!condition) atomic_fetch_add(&s->wrong, 1);
}

static void run_threads(void *(*const *bodies)(void *), int count, void *argument) {
    pthread_t threads[THREADS];
    for (int i = 0; i < count; i++) assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], argument), 0);
    for (int i = 0; i < count; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void run_alike(void *(*body)(void *), void *argument) {
    void *(*bodies[THREADS])(void *);
    for (int i = 0; i < THREADS; i++) bodies[i] = body;
    run_threads(bodies, THREADS, argument);
}

/* ---- Readers share ---- */

static void *infer(void *argument) {
    shared *s = argument;
    pente_matrix y = matrix_new(PENTE_FLOAT32, Q, P, P);
    pente_context *context = NULL;
    went_well(s, pente_context_new(s->model.layer, &context), PENTE_OK);
    for (int i = 0; i < 300; i++) {
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        double loss = 0;
        memset(y.data, 0, Q * P * sizeof(float));
        went_well(s, pente_layer_forward(s->model.layer, i % 2 ? context : NULL, &s->x, &y), PENTE_OK);
        expect(s, memcmp(y.data, s->expected.data, Q * P * sizeof(float)) == 0);
        went_well(s, pente_layer_get_info(s->model.layer, &info), PENTE_OK);
        went_well(s, pente_mse_forward(s->mse, &y, &s->y, NULL, &loss), PENTE_OK);
    }
    went_well(s, pente_context_free(context), PENTE_OK);
    matrix_free(&y);
    return NULL;
}

static void test_readers_share(void **state) {
    (void)state;
    shared s;
    shared_new(&s);
    run_alike(infer, &s);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(atomic_load(&s.busy), 0);
    shared_free(&s);
}

/* ---- A result is that of one state of the layer: all weights are equal at any time, and so all results ---- */

static void *write_equal_weights(void *argument) {
    shared *s = argument;
    pente_matrix value = matrix_new(PENTE_FLOAT32, P, N, N);
    for (int i = 0; i < 2000; i++) {
        fill(&value, i % 64);
        went_well(s, pente_layer_set_parameter(s->model.layer, "weight", &value), PENTE_BUSY);
    }
    matrix_free(&value);
    return NULL;
}

static bool all_equal(const pente_matrix *m) {
    for (int64_t i = 0; i < m->rows; i++) {
        for (int64_t j = 0; j < m->columns; j++) {
            if (get(m, i, j) != get(m, 0, 0)) return false;
        }
    }
    return true;
}

static void *read_equal_weights(void *argument) {
    shared *s = argument;
    pente_matrix x = matrix_new(PENTE_FLOAT32, Q, N, N), y = matrix_new(PENTE_FLOAT32, Q, P, P);
    pente_matrix value = matrix_new(PENTE_FLOAT32, P, N, N);
    fill(&x, 1);
    for (int i = 0; i < 2000; i++) {
        if (went_well(s, pente_layer_forward(s->model.layer, NULL, &x, &y), PENTE_BUSY)) expect(s, all_equal(&y));
        if (went_well(s, pente_layer_get_parameter(s->model.layer, "weight", &value), PENTE_BUSY)) {
            expect(s, all_equal(&value));
        }
    }
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&value);
    return NULL;
}

/* With equal weights, equal inputs and equal targets, training leaves the weights equal. */
static void *train_equal_weights(void *argument) {
    shared *s = argument;
    pente_matrix x = matrix_new(PENTE_FLOAT32, Q, N, N), y = matrix_new(PENTE_FLOAT32, Q, P, P);
    fill(&x, 1);
    fill(&y, 0.5);
    for (int i = 0; i < 1000; i++) {
        double loss = NAN;
        if (went_well(s, pente_trainer_step(s->trainer, &x, &y, NULL, &loss), PENTE_BUSY)) expect(s, !isnan(loss));
        went_well(s, pente_sgd_step(s->sgd), PENTE_BUSY);
        went_well(s, pente_layer_zero_gradients(s->model.layer), PENTE_BUSY);
    }
    matrix_free(&x);
    matrix_free(&y);
    return NULL;
}

static void check_torn(void *(*writer)(void *)) {
    shared s;
    shared_new(&s);
    fill(&s.model.weight, 1);
    fill(&s.model.bias, 0.25);
    void *(*const bodies[])(void *) = {writer,             read_equal_weights, read_equal_weights, writer,
                                       read_equal_weights, read_equal_weights, writer};
    run_threads(bodies, COUNT(bodies), &s);
    assert_int_equal(atomic_load(&s.wrong), 0);
    shared_free(&s);
}

static void test_no_torn_parameters(void **state) {
    (void)state;
    check_torn(write_equal_weights);
    check_torn(train_equal_weights);
}

/* ---- Many threads on one context, one trainer, one sgd: each call is done or refused ---- */

static void *use_everything(void *argument) {
    shared *s = argument;
    pente_matrix y = matrix_random(PENTE_FLOAT32, Q, P, P);
    for (int i = 0; i < 300; i++) {
        pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
        double loss = 0;
        if (went_well(s, pente_layer_forward(s->model.layer, s->context, &s->x, &y), PENTE_BUSY)) {
            /* Another thread may have used up this pass. */
            pente_status status = pente_layer_backward(s->model.layer, s->context, &s->y, NULL);
            if (status != PENTE_INVALID_STATE) went_well(s, status, PENTE_BUSY);
        }
        went_well(s, pente_trainer_step(s->trainer, &s->x, &s->y, NULL, &loss), PENTE_BUSY);
        went_well(s, pente_sgd_zero_gradients(s->sgd), PENTE_BUSY);
        went_well(s, pente_sgd_set_lr(s->sgd, 0, 0.001), PENTE_BUSY);
        went_well(s, pente_sgd_get_options(s->sgd, 0, &options), PENTE_BUSY);
        went_well(s, pente_sgd_step(s->sgd), PENTE_BUSY);
    }
    matrix_free(&y);
    return NULL;
}

static void test_ok_or_busy(void **state) {
    (void)state;
    shared s;
    shared_new(&s);
    run_alike(use_everything, &s);
    assert_int_equal(atomic_load(&s.wrong), 0);
    /* Nothing is left locked. */
    OK(pente_trainer_step(s.trainer, &s.x, &s.y, NULL, NULL));
    OK(pente_layer_forward(s.model.layer, s.context, &s.x, &s.expected));
    OK(pente_layer_backward(s.model.layer, s.context, &s.y, NULL));
    shared_free(&s);
}

/* ---- Freed in the middle ---- */

static void *use_until_freed(void *argument) {
    shared *s = argument;
    pente_matrix y = matrix_new(PENTE_FLOAT32, Q, P, P);
    for (;;) {
        pente_status forward = pente_layer_forward(s->model.layer, NULL, &s->x, &y);
        pente_status step = pente_trainer_step(s->trainer, &s->x, &s->y, NULL, NULL);
        if (forward == PENTE_INVALID_HANDLE && step == PENTE_INVALID_HANDLE) break;
        if (forward != PENTE_INVALID_HANDLE) went_well(s, forward, PENTE_BUSY);
        if (step != PENTE_INVALID_HANDLE) went_well(s, step, PENTE_BUSY);
    }
    matrix_free(&y);
    atomic_fetch_add(&s->done, 1);
    return NULL;
}

static void *free_everything(void *argument) {
    shared *s = argument;
    const struct timespec moment = {0, 300000};
    nanosleep(&moment, NULL);
    expect(s, pente_layer_free(s->model.layer) == PENTE_OK);
    expect(s, pente_mse_free(s->mse) == PENTE_OK);
    expect(s, pente_sgd_free(s->sgd) == PENTE_OK);
    nanosleep(&moment, NULL);
    expect(s, pente_trainer_free(s->trainer) == PENTE_OK);
    expect(s, pente_context_free(s->context) == PENTE_OK);
    return NULL;
}

static void test_free_during_use(void **state) {
    (void)state;
    void *(*const bodies[])(void *) = {use_until_freed, use_until_freed, use_until_freed, free_everything};
    for (int round = 0; round < 20; round++) {
        shared s;
        shared_new(&s);
        run_threads(bodies, COUNT(bodies), &s);
        assert_int_equal(atomic_load(&s.wrong), 0);
        assert_int_equal(atomic_load(&s.done), 3);
        matrix_free(&s.x);
        matrix_free(&s.y);
        matrix_free(&s.expected);
    }
}

/* Eight threads free one handle: one of them succeeds. */
static void *free_layer(void *argument) {
    shared *s = argument;
    if (pente_layer_free(s->model.layer) == PENTE_OK) atomic_fetch_add(&s->done, 1);
    return NULL;
}

static void test_one_free_succeeds(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        shared s = {.model = model_new(PENTE_FLOAT32, N, P, true, 3)};
        run_alike(free_layer, &s);
        assert_int_equal(atomic_load(&s.done), 1);
    }
}

/* ---- Strangers ---- */

typedef struct lonely {
    int number;
    bool well;
    float weight[P * N], bias[P];
    double loss;
} lonely;

enum { ROWS = 2500 }; /* enough for any pool of threads */
static float x_data[ROWS * N], y_data[ROWS * P];

/* A whole life of handles, from creation to the end. */
static void *train_alone(void *argument) {
    lonely *l = argument;
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_matrix x = pente_float32_matrix(x_data, ROWS, N), y = pente_float32_matrix(y_data, ROWS, P);
    pente_matrix weight = pente_float32_matrix(l->weight, P, N), bias = pente_float32_matrix(l->bias, 1, P);
    pente_layer *layer = NULL;
    pente_mse *mse = NULL;
    pente_sgd *sgd = NULL;
    pente_trainer *trainer = NULL;
    options.seed = (uint64_t)l->number;
    l->well = !pente_linear_new(N, P, &options, &layer) && !pente_mse_new(NULL, &mse) &&
              !pente_sgd_new(&layer, 1, NULL, &sgd) && !pente_trainer_new(layer, mse, sgd, &trainer);
    for (int step = 0; step < 20 && l->well; step++) {
        if (step % 3) x.rows = y.rows = ROWS - step * 100;
        l->well = !pente_trainer_step(trainer, &x, &y, NULL, &l->loss);
    }
    l->well = l->well && !pente_layer_get_parameter(layer, "weight", &weight) &&
              !pente_layer_get_parameter(layer, "bias", &bias) && !pente_layer_free(layer) && !pente_mse_free(mse) &&
              !pente_sgd_free(sgd) && !pente_trainer_free(trainer);
    return NULL;
}

static void test_strangers(void **state) {
    (void)state;
    lonely together[THREADS], alone[THREADS];
    pthread_t threads[THREADS];
    memset(together, 0, sizeof together);
    memset(alone, 0, sizeof alone);
    pente_matrix x = pente_float32_matrix(x_data, ROWS, N), y = pente_float32_matrix(y_data, ROWS, P);
    fill_random(&x);
    fill_random(&y);
    for (int i = 0; i < THREADS; i++) together[i].number = alone[i].number = i;
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, train_alone, &together[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) train_alone(&alone[i]);
    for (int i = 0; i < THREADS; i++) assert_true(alone[i].well);
    assert_memory_equal(together, alone, sizeof alone);
}

/* ---- Storms of handles ---- */

static void *storm(void *argument) {
    shared *s = argument;
    pente_layer *kept[16] = {NULL};
    for (int i = 0; i < 600; i++) {
        pente_layer **place = &kept[i * 7 % 16];
        pente_context *context = NULL;
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        if (*place) {
            went_well(s, pente_layer_get_info(*place, &info), PENTE_OK);
            expect(s, info.in_features == 1 + i * 7 % 16);
            went_well(s, pente_layer_free(*place), PENTE_OK);
            expect(s, pente_layer_free(*place) == PENTE_INVALID_HANDLE);
        }
        went_well(s, pente_linear_new(1 + i * 7 % 16, 1, NULL, place), PENTE_OK);
        went_well(s, pente_context_new(*place, &context), PENTE_OK);
        expect(s, pente_layer_free((pente_layer *)context) == PENTE_INVALID_HANDLE);
        went_well(s, pente_context_free(context), PENTE_OK);
    }
    for (int i = 0; i < 16; i++) went_well(s, pente_layer_free(kept[i]), PENTE_OK);
    return NULL;
}

static void test_storm(void **state) {
    (void)state;
    shared s;
    shared_new(&s);
    run_alike(storm, &s);
    assert_int_equal(atomic_load(&s.wrong), 0);
    shared_free(&s);
}

/* ---- Each thread has a last error of its own ---- */

static void *fail_differently(void *argument) {
    shared *s = argument;
    expect(s, !strcmp(pente_last_error(), ""));
    for (int i = 0; i < 200; i++) {
        expect(s, pente_sgd_step(NULL) == PENTE_INVALID_HANDLE);
        expect(s, !strncmp(pente_last_error(), "pente_sgd_step: ", 16));
    }
    return NULL;
}

static void test_last_error(void **state) {
    (void)state;
    shared s;
    shared_new(&s);
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_zero_gradients(NULL));
    run_alike(fail_differently, &s);
    assert_int_equal(strncmp(pente_last_error(), "pente_layer_zero_gradients: ", 28), 0);
    assert_int_equal(atomic_load(&s.wrong), 0);
    shared_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_share),     cmocka_unit_test(test_no_torn_parameters),
        cmocka_unit_test(test_ok_or_busy),        cmocka_unit_test(test_free_during_use),
        cmocka_unit_test(test_one_free_succeeds), cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_storm),             cmocka_unit_test(test_last_error),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
