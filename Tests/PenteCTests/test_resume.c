/* What a file holds of an optimizer: a run that is resumed goes on to the bits of one that was never interrupted. */
#include "files.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q = 45 };

/* A chain in an optimizer of two groups, one for each linear layer. */
typedef struct run {
    pente_layer *chain;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} run;

static run run_new(pente_dtype dtype, uint64_t seed, const pente_sgd_options *first, const pente_sgd_options *second) {
    pente_layer *one = linear_new(dtype, 4, 5, seed), *two = linear_new(dtype, 5, 2, seed + 1);
    pente_layer *scaler = scaler_new(dtype, 4), *tanh = activation_new(dtype, PENTE_TANH);
    run r = {.mse = mse_new(PENTE_MEAN)};
    OK(pente_chain_new((pente_layer *[]){scaler, one, tanh, two}, 4, &r.chain));
    OK(pente_sgd_new((pente_layer *[]){scaler, one}, 2, first, &r.sgd));
    OK(pente_sgd_add_group(r.sgd, &two, 1, second));
    r.trainer = trainer_of(r.chain, r.mse, r.sgd);
    pente_layer *layers[] = {scaler, one, tanh, two};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    return r;
}

static void run_free(run *r) {
    OK(pente_trainer_free(r->trainer));
    OK(pente_sgd_free(r->sgd));
    OK(pente_mse_free(r->mse));
    OK(pente_layer_free(r->chain));
}

static int64_t step_count(const run *r) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_info(r->sgd, &info));
    return info.step_count;
}

/* Both optimizers have the same options, and made the same number of steps. */
static void expect_same_sgd(const run *a, const run *b) {
    assert_int_equal(step_count(a), step_count(b));
    for (int64_t group = 0; group < 2; group++) {
        pente_sgd_options of_a = PENTE_SGD_OPTIONS_INIT, of_b = PENTE_SGD_OPTIONS_INIT;
        OK(pente_sgd_get_options(a->sgd, group, &of_a));
        OK(pente_sgd_get_options(b->sgd, group, &of_b));
        assert_memory_equal(&of_a, &of_b, sizeof of_a);
    }
}

/* ---- Interrupted and resumed ---- */

typedef struct checkpoint {
    const run *run;
    int64_t at;
    pente_status status;
} checkpoint;

/* From within a fit, as one does it. */
static int32_t save_and_stop(const pente_epoch *epoch, void *user_data) {
    checkpoint *c = user_data;
    if (epoch->epoch != c->at) return 0;
    c->status = pente_layer_save(c->run->chain, c->run->sgd, path_of("checkpoint"));
    return 1;
}

typedef struct numbers {
    int64_t first, last, count, epochs;
} numbers;

static int32_t note_numbers(const pente_epoch *epoch, void *user_data) {
    numbers *n = user_data;
    if (n->count++ == 0) n->first = epoch->epoch;
    n->last = epoch->epoch;
    n->epochs = epoch->epochs;
    return 0;
}

static void check_resume(pente_dtype dtype, int shuffle, int64_t interrupted, const pente_sgd_options *first,
                         const pente_sgd_options *second) {
    enum { EPOCHS = 6 };
    run whole = run_new(dtype, 1, first, second), begun = run_new(dtype, 1, first, second);
    run resumed = run_new(dtype, 7, NULL, NULL); /* with other parameters and options */
    pente_matrix x = matrix_random(dtype, Q, 4, 4), y = matrix_random(dtype, Q, 2, 2);
    checkpoint c = {&begun, interrupted, -1};
    numbers n = {0};
    double losses[EPOCHS], resumed_losses[EPOCHS];
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = EPOCHS;
    options.batch_size = 8;
    options.shuffle = shuffle;
    options.seed = 5;
    options.training_losses = losses;
    OK(pente_trainer_fit(whole.trainer, &x, &y, &options, NULL));

    options.training_losses = NULL;
    options.on_epoch = save_and_stop;
    options.user_data = &c;
    OK(pente_trainer_fit(begun.trainer, &x, &y, &options, NULL));
    assert_int_equal(c.status, PENTE_OK);

    OK(pente_layer_load_parameters(resumed.chain, resumed.sgd, path_of("checkpoint")));
    expect_same_sgd(&resumed, &begun);
    options.epochs = EPOCHS - interrupted;
    options.first_epoch = interrupted;
    options.training_losses = resumed_losses;
    options.on_epoch = note_numbers;
    options.user_data = &n;
    OK(pente_trainer_fit(resumed.trainer, &x, &y, &options, &report));
    assert_true(n.first == interrupted + 1 && n.last == EPOCHS && n.epochs == EPOCHS);
    assert_true(report.epochs == EPOCHS - interrupted && report.stop_reason == PENTE_STOP_EPOCHS);
    assert_memory_equal(resumed_losses, losses + interrupted, (size_t)(EPOCHS - interrupted) * sizeof(double));
    assert_true(same_layers(resumed.chain, whole.chain));
    expect_same_sgd(&resumed, &whole);
    run_free(&whole);
    run_free(&begun);
    run_free(&resumed);
    matrix_free(&x);
    matrix_free(&y);
    remove(path_of("checkpoint"));
}

static void test_resume(void **state) {
    (void)state;
    const pente_sgd_options pairs[][2] = {
        {options_of(0.05, 0.9, 0, 0, 0, 0), options_of(0.1, 0.5, 0.25, 0.01, 0, 0)},
        {options_of(1.0 / 3, 0, 0, 0, 0, 0), options_of(0.02, 0.9, 0, 0, 1, 0)},
        {options_of(1e-3, 0.9, -0.5, 1e-5, 0, 1), options_of(0, 0, 0, 0, 0, 0)},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        for (int64_t interrupted = 1; interrupted < 6; interrupted += 2) {
            check_resume(PENTE_FLOAT32, 1, interrupted, &pairs[i][0], &pairs[i][1]);
            check_resume(PENTE_FLOAT64, i % 2, interrupted, &pairs[i][0], &pairs[i][1]);
        }
    }
}

/* Before its first step an optimizer has no momentum, and so has one that is loaded; whatever it had is gone. */
static void test_before_the_first_step(void **state) {
    (void)state;
    const pente_sgd_options options = options_of(0.1, 0.9, 0.5, 0, 0, 0);
    run fresh = run_new(PENTE_FLOAT32, 1, &options, &options), used = run_new(PENTE_FLOAT32, 2, &options, &options);
    pente_matrix x = matrix_random(PENTE_FLOAT32, Q, 4, 4), y = matrix_random(PENTE_FLOAT32, Q, 2, 2);
    for (int step = 0; step < 3; step++) OK(pente_trainer_step(used.trainer, &x, &y, NULL, NULL));
    OK(pente_layer_save(fresh.chain, fresh.sgd, path_of("fresh")));
    OK(pente_layer_load_parameters(used.chain, used.sgd, path_of("fresh")));
    assert_int_equal(step_count(&used), 0);
    for (int step = 0; step < 3; step++) {
        OK(pente_trainer_step(used.trainer, &x, &y, NULL, NULL));
        OK(pente_trainer_step(fresh.trainer, &x, &y, NULL, NULL));
        assert_true(same_layers(used.chain, fresh.chain));
    }
    run_free(&fresh);
    run_free(&used);
    matrix_free(&x);
    matrix_free(&y);
    remove(path_of("fresh"));
}

/* A number of steps at the end of the line is refused, or never passed. */
static void test_last_step(void **state) {
    (void)state;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 1, 1, 1);
    pente_sgd *sgd = sgd_of(layer, 0.1, 0);
    OK(pente_layer_save(layer, sgd, path_of("file")));
    bytes good = bytes_of(path_of("file"));
    char *number = strstr((char *)good.data + 8, "step_count") + strlen("step_count\\\":");
    assert_int_equal(*number, '0');
    size_t before = (size_t)((unsigned char *)number - good.data);
    bytes changed = {malloc(good.size + 18), good.size + 18};
    memcpy(changed.data, good.data, before);
    memcpy(changed.data + before, "9223372036854775807", 19);
    memcpy(changed.data + before + 19, number + 1, good.size - before - 1);
    size_t length = (size_t)good.data[0] + ((size_t)good.data[1] << 8) + 18;
    for (int i = 0; i < 8; i++) changed.data[i] = (unsigned char)(length >> (8 * i));
    write_bytes(path_of("file"), changed.data, changed.size);
    pente_status status = pente_layer_load_parameters(layer, sgd, path_of("file"));
    assert_true(status == PENTE_OK || status == PENTE_INVALID_FILE);
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_step(sgd));
    OK(pente_sgd_get_info(sgd, &info));
    assert_true(info.step_count == (status ? 1 : INT64_MAX));
    bytes_free(&good);
    bytes_free(&changed);
    OK(pente_sgd_free(sgd));
    OK(pente_layer_free(layer));
    remove(path_of("file"));
}

/* Without sgd, what the file holds of one is passed over: the momentum that is there stays. */
static void test_parameters_alone(void **state) {
    (void)state;
    const pente_sgd_options options = options_of(0.1, 0.9, 0, 0, 0, 0), other = options_of(0.3, 0.5, 0, 0, 0, 0);
    run saved = run_new(PENTE_FLOAT64, 1, &other, &other), one = run_new(PENTE_FLOAT64, 2, &options, &options);
    run two = run_new(PENTE_FLOAT64, 2, &options, &options);
    pente_matrix x = matrix_random(PENTE_FLOAT64, Q, 4, 4), y = matrix_random(PENTE_FLOAT64, Q, 2, 2);
    pente_layer *loaded = NULL;
    OK(pente_trainer_step(saved.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_step(one.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_step(two.trainer, &x, &y, NULL, NULL));
    OK(pente_layer_save(saved.chain, saved.sgd, path_of("with sgd")));
    OK(pente_layer_save(saved.chain, NULL, path_of("without")));
    OK(pente_layer_load(path_of("with sgd"), &loaded));
    OK(pente_layer_zero_gradients(saved.chain));
    assert_true(same_layers(loaded, saved.chain));
    OK(pente_layer_load_parameters(one.chain, NULL, path_of("with sgd")));
    OK(pente_layer_load_parameters(two.chain, NULL, path_of("without")));
    OK(pente_trainer_step(one.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_step(two.trainer, &x, &y, NULL, NULL));
    assert_true(same_layers(one.chain, two.chain));
    expect_same_sgd(&one, &two);
    assert_int_equal(step_count(&one), 2);
    OK(pente_layer_free(loaded));
    run_free(&saved);
    run_free(&one);
    run_free(&two);
    matrix_free(&x);
    matrix_free(&y);
    remove(path_of("with sgd"));
    remove(path_of("without"));
}

/* ---- What does not fit ---- */

/* Refused, with parameters, gradients, options, momentum and count as they were. What an optimizer wants of the file
 * may be missed first. */
static void check_refusal(run *r, run *twin, const pente_matrix *x, const pente_matrix *y, pente_sgd *sgd,
                          const char *file, pente_status expected) {
    pente_status status = pente_layer_load_parameters(r->chain, sgd, path_of(file));
    assert_true(status == expected || (sgd && status == PENTE_INVALID_FILE));
    assert_true(same_layers(r->chain, twin->chain));
    expect_same_sgd(r, twin);
    OK(pente_trainer_step(r->trainer, x, y, NULL, NULL));
    OK(pente_trainer_step(twin->trainer, x, y, NULL, NULL));
    assert_true(same_layers(r->chain, twin->chain));
}

static void save_and_free(pente_layer *layer, pente_sgd *sgd, const char *name) {
    OK(pente_layer_save(layer, sgd, path_of(name)));
    if (sgd) OK(pente_sgd_free(sgd));
    OK(pente_layer_free(layer));
}

static pente_layer *chain_new(pente_dtype dtype, int64_t middle, bool scaled) {
    pente_layer *linear = linear_new(dtype, 4, middle, 1), *last = linear_new(dtype, middle, 2, 2);
    if (!scaled) return CHAIN(linear, activation_new(dtype, PENTE_TANH), last);
    return CHAIN(scaler_new(dtype, 4), linear, activation_new(dtype, PENTE_TANH), last);
}

static void test_mismatches(void **state) {
    (void)state;
    const pente_sgd_options options = options_of(0.1, 0.9, 0, 0, 0, 0);
    run r = run_new(PENTE_FLOAT32, 1, &options, &options), twin = run_new(PENTE_FLOAT32, 1, &options, &options);
    pente_matrix x = matrix_random(PENTE_FLOAT32, Q, 4, 4), y = matrix_random(PENTE_FLOAT32, Q, 2, 2);
    pente_layer *chain = chain_new(PENTE_FLOAT32, 5, true);
    pente_sgd *one_group = sgd_of(chain, 0.5, 0.5);
    OK(pente_sgd_step(one_group));
    save_and_free(chain, one_group, "one group");
    save_and_free(linear_new(PENTE_FLOAT32, 4, 2, 1), NULL, "linear");
    save_and_free(chain_new(PENTE_FLOAT32, 5, false), NULL, "names");
    save_and_free(chain_new(PENTE_FLOAT32, 6, true), NULL, "shapes");
    save_and_free(chain_new(PENTE_FLOAT64, 5, true), NULL, "dtype");
    save_and_free(chain_new(PENTE_FLOAT32, 5, true), NULL, "no sgd");
    OK(pente_trainer_step(r.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_step(twin.trainer, &x, &y, NULL, NULL));
    for (int with_sgd = 0; with_sgd < 2; with_sgd++) {
        pente_sgd *sgd = with_sgd ? r.sgd : NULL;
        check_refusal(&r, &twin, &x, &y, sgd, "linear", PENTE_INVALID_FILE);
        check_refusal(&r, &twin, &x, &y, sgd, "names", PENTE_INVALID_FILE);
        check_refusal(&r, &twin, &x, &y, sgd, "shapes", PENTE_SHAPE_MISMATCH);
        check_refusal(&r, &twin, &x, &y, sgd, "dtype", PENTE_DTYPE_MISMATCH);
    }
    check_refusal(&r, &twin, &x, &y, r.sgd, "no sgd", PENTE_INVALID_FILE);
    check_refusal(&r, &twin, &x, &y, r.sgd, "one group", PENTE_INVALID_FILE);
    OK(pente_layer_load_parameters(r.chain, NULL, path_of("one group")));

    /* An optimizer that holds more than the layer, or less, is not the layer's. */
    model other = model_new(PENTE_FLOAT32, 2, 2, true, 1);
    pente_layer *part = NULL;
    OK(pente_chain_get_layer(r.chain, 1, &part));
    pente_sgd *less = sgd_of(part, 0.1, 0), *others = sgd_new(&other, 0.1, 0);
    bytes saved = bytes_of(path_of("one group"));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_save(r.chain, less, path_of("one group")));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_save(r.chain, others, path_of("one group")));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_save(part, r.sgd, path_of("one group")));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_load_parameters(r.chain, less, path_of("one group")));
    assert_true(holds(path_of("one group"), &saved));
    assert_int_equal(count_files(), 6);
    bytes_free(&saved);
    OK(pente_sgd_free(less));
    OK(pente_sgd_free(others));
    OK(pente_layer_free(part));
    model_free(&other);
    run_free(&r);
    run_free(&twin);
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_before_the_first_step),
        cmocka_unit_test(test_last_step),
        cmocka_unit_test(test_parameters_alone),
        cmocka_unit_test(test_mismatches),
    };
    return cmocka_run_group_tests_name("resume", tests, directory_new, directory_free);
}
