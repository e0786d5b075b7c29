/* Gradients clipped by their norm: by the call, and in a trainer's steps, to the same bits. */
#include "layers.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include <valgrind/valgrind.h>

/* ---- The call ---- */

/* Of all of a layer's gradients. */
static double sum_of_squares(const snapshot *s) {
    double sum = 0;
    for (int64_t k = 0; k < s->count; k++) {
        const pente_matrix *g = &s->gradients[k];
        for (int64_t i = 0; i < g->rows; i++) {
            for (int64_t j = 0; j < g->columns; j++) sum += get(g, i, j) * get(g, i, j);
        }
    }
    return sum;
}

/* Each gradient is its old value times the factor, to rounding. */
static void expect_scaled(const snapshot *before, const snapshot *after, double factor) {
    for (int64_t k = 0; k < before->count; k++) {
        const pente_matrix *old = &before->gradients[k], *new = &after->gradients[k];
        double tolerance = old->dtype == PENTE_FLOAT32 ? 2e-7 : 1e-14;
        SAME_BITS(before->parameters[k], after->parameters[k]);
        for (int64_t i = 0; i < old->rows; i++) {
            for (int64_t j = 0; j < old->columns; j++) {
                double expected = factor * get(old, i, j);
                assert_true(fabs(get(new, i, j) - expected) <= tolerance * fabs(expected));
            }
        }
    }
}

/* Two groups: all their gradients have one norm. The scaler's, which are not trained, stay out of it. */
static void check_call(pente_dtype dtype, int64_t inputs, int64_t outputs, double part) {
    pente_layer *layers[] = {linear_new(dtype, inputs, outputs, 1), scaler_new(dtype, 4), tall_chain_new(dtype, 2)};
    pente_sgd *sgd = NULL;
    snapshot before[3], after[3];
    double sum = 0, norm = -1;
    OK(pente_sgd_new(layers, 2, NULL, &sgd));
    OK(pente_sgd_add_group(sgd, layers + 2, 1, NULL));
    for (int i = 0; i < 3; i++) {
        if (i != 1) fill_gradients(layers[i]);
        before[i] = snapshot_new(layers[i]);
        sum += sum_of_squares(&before[i]);
    }
    double max_norm = part * sqrt(sum);
    OK(pente_sgd_clip_gradients(sgd, max_norm, &norm));
    assert_true(fabs(norm - sqrt(sum)) <= 1e-13 * norm);
    for (int i = 0; i < 3; i++) {
        after[i] = snapshot_new(layers[i]);
        if (part > 1) assert_true(same_snapshots(&before[i], &after[i]));
        else expect_scaled(&before[i], &after[i], max_norm / (norm + 1e-6));
        snapshot_free(&before[i]);
        snapshot_free(&after[i]);
        OK(pente_layer_free(layers[i]));
    }
    OK(pente_sgd_clip_gradients(sgd, 2 * max_norm, NULL)); /* clipped already */
    OK(pente_sgd_clip_gradients(sgd, 2 * max_norm, &norm));
    assert_true(part > 1 || fabs(norm - max_norm) <= 1e-5 * max_norm);
    OK(pente_sgd_free(sgd));
}

static void test_call(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {3, 7}, {17, 5}, {300, 70}};
    static const double parts[] = {1e-6, 0.3, 0.999, 1.1};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t k = 0; k < COUNT(parts); k++) {
            check_call(PENTE_FLOAT32, sizes[i][0], sizes[i][1], parts[k]);
            check_call(PENTE_FLOAT64, sizes[i][0], sizes[i][1], parts[k]);
        }
    }
}

/* A norm that is not finite is refused; one beyond float32 of gradients within it is finite. */
static void test_extreme_gradients(void **state) {
    (void)state;
    static const double values[] = {NAN, INFINITY, -INFINITY};
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    pente_matrix gradient = gradient_of(layer, "weight");
    pente_sgd *sgd = sgd_of(layer, 0.1, 0);
    double norm = -1;
    for (size_t i = 0; i < COUNT(values); i++) {
        fill_gradients(layer);
        put(&gradient, 1, 2, values[i]);
        snapshot before = snapshot_new(layer);
        REFUSED(PENTE_NOT_FINITE, pente_sgd_clip_gradients(sgd, 1, &norm));
        assert_non_null(strstr(pente_last_error(), "pente_sgd_clip_gradients: the gradients' norm is "));
        assert_true(is_as_in(layer, &before) && norm == -1);
        snapshot_free(&before);
    }
    OK(pente_layer_zero_gradients(layer));
    OK(pente_sgd_clip_gradients(sgd, 1, &norm));
    assert_true(norm == 0);
    fill(&gradient, FLT_MAX);
    OK(pente_sgd_clip_gradients(sgd, 6, &norm));
    assert_true(fabs(norm / FLT_MAX - sqrt(6)) < 1e-12);
    assert_true(fabs(get(&gradient, 0, 0) - sqrt(6)) < 1e-6);
    OK(pente_sgd_free(sgd));
    OK(pente_layer_free(layer));
}

/* ---- A trainer's steps ---- */

/* The layer in an optimizer that holds another, too. */
typedef struct run {
    pente_layer *layer, *other;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
} run;

static pente_layer *one_output(pente_dtype dtype) { return linear_new(dtype, 13, 1, 1); }
static pente_layer *narrow(pente_dtype dtype) { return linear_new(dtype, 13, 2, 1); }
static pente_layer *wide(pente_dtype dtype) { return linear_new(dtype, 13, 150, 1); }
static pente_layer *tall(pente_dtype dtype) { return tall_chain_new(dtype, 1); }

static run run_new(pente_layer *(*layer)(pente_dtype), pente_dtype dtype, pente_reduction reduction, double max_norm) {
    run r = {.layer = layer(dtype), .other = linear_new(dtype, 3, 3, 9), .mse = mse_new(reduction)};
    pente_sgd_options options = options_of(0.05, 0.9, 0, 0.01, 1, 0);
    OK(pente_sgd_new(&r.other, 1, &options, &r.sgd));
    OK(pente_sgd_add_group(r.sgd, &r.layer, 1, &options));
    r.trainer = trainer_of(r.layer, r.mse, r.sgd);
    OK(pente_trainer_set_max_gradient_norm(r.trainer, max_norm));
    OK(pente_context_new(r.layer, &r.context));
    fill_gradients(r.other);
    return r;
}

static void run_free(run *r) {
    OK(pente_context_free(r->context));
    OK(pente_trainer_free(r->trainer));
    OK(pente_sgd_free(r->sgd));
    OK(pente_mse_free(r->mse));
    OK(pente_layer_free(r->layer));
    OK(pente_layer_free(r->other));
}

static void step_by_hand(const run *r, const pente_matrix *x, const pente_matrix *y, double max_norm, double *loss) {
    pente_matrix prediction = matrix_new(y->dtype, y->rows, y->columns, y->columns);
    pente_matrix gradient = matrix_new(y->dtype, y->rows, y->columns, y->columns);
    OK(pente_sgd_zero_gradients(r->sgd));
    OK(pente_layer_forward(r->layer, r->context, x, &prediction));
    OK(pente_mse_forward(r->mse, &prediction, y, NULL, loss));
    OK(pente_mse_backward(r->mse, &prediction, y, NULL, NULL, &gradient, NULL));
    OK(pente_layer_backward(r->layer, r->context, &gradient, NULL));
    if (max_norm > 0) OK(pente_sgd_clip_gradients(r->sgd, max_norm, NULL));
    OK(pente_sgd_step(r->sgd));
    matrix_free(&prediction);
    matrix_free(&gradient);
}

static void check_steps(pente_layer *(*layer)(pente_dtype), pente_dtype dtype, int64_t rows, double max_norm) {
    pente_reduction reduction = max_norm == 0 ? PENTE_MEAN : PENTE_BATCH_MEAN;
    run whole = run_new(layer, dtype, reduction, max_norm), by_hand = run_new(layer, dtype, reduction, 0);
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(whole.layer, &info));
    pente_matrix x = matrix_random(dtype, rows, 13, 13), y = matrix_random(dtype, rows, info.out_features, 150);
    for (int step = 0; step < 4; step++) {
        double loss = -1, expected = -2;
        OK(pente_trainer_step(whole.trainer, &x, &y, NULL, &loss));
        step_by_hand(&by_hand, &x, &y, max_norm, &expected);
        assert_memory_equal(&loss, &expected, sizeof loss);
        assert_true(same_layers(whole.layer, by_hand.layer) && same_layers(whole.other, by_hand.other));
    }
    run_free(&whole);
    run_free(&by_hand);
    matrix_free(&x);
    matrix_free(&y);
}

/* In one block of rows and in several, on one thread and on more, with norms that always clip, that sometimes do, that
 * never do, and with none. */
static void test_steps(void **state) {
    (void)state;
    pente_layer *(*const layers[])(pente_dtype) = {one_output, narrow, wide, tall};
    static const int64_t rows[] = {1, 40, 300, 3000};
    static const double norms[] = {1e-5, 0.5, 1e9, 0};
    /* Under valgrind, which is fifty times slower, on one thread, without the most rows. */
    bool is_slow = RUNNING_ON_VALGRIND;
    for (int64_t threads = 1; threads <= (is_slow ? 1 : 3); threads += 2) {
        OK(pente_threads_set(threads));
        for (size_t i = 0; i < COUNT(layers); i++) {
            for (size_t j = 0; j < COUNT(rows) - is_slow; j++) {
                for (size_t k = 0; k < COUNT(norms); k++) {
                    check_steps(layers[i], PENTE_FLOAT32, rows[j], norms[k]);
                    if (k < 2) check_steps(layers[i], PENTE_FLOAT64, rows[j], norms[k]);
                }
            }
        }
    }
    OK(pente_threads_set(1));
}

static void fit(const run *r, const pente_matrix *x, const pente_matrix *y, pente_status status) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 3;
    options.batch_size = 40;
    options.shuffle = 0;
    REFUSED(status, pente_trainer_fit(r->trainer, x, y, &options, NULL));
}

static void test_fit(void **state) {
    (void)state;
    run whole = run_new(tall, PENTE_FLOAT32, PENTE_MEAN, 0.1), by_hand = run_new(tall, PENTE_FLOAT32, PENTE_MEAN, 0.1);
    run unclipped = run_new(tall, PENTE_FLOAT32, PENTE_MEAN, 0);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 100, 13, 13), y = matrix_random(PENTE_FLOAT32, 100, 2, 2);
    fit(&whole, &x, &y, PENTE_OK);
    fit(&unclipped, &x, &y, PENTE_OK);
    for (int epoch = 0; epoch < 3; epoch++) {
        for (int64_t first = 0; first < 100; first += 40) {
            pente_matrix part = rows_of(&x, first, first < 80 ? 40 : 20), target = rows_of(&y, first, part.rows);
            OK(pente_trainer_step(by_hand.trainer, &part, &target, NULL, NULL));
        }
    }
    assert_true(same_layers(whole.layer, by_hand.layer));
    assert_false(same_layers(whole.layer, unclipped.layer));
    run_free(&whole);
    run_free(&by_hand);
    run_free(&unclipped);
    matrix_free(&x);
    matrix_free(&y);
}

/* A finite loss whose gradient is beyond float32: with clipping a step, or a fit, changes nothing. */
static void test_infinite_gradient(void **state) {
    (void)state;
    run r = run_new(narrow, PENTE_FLOAT32, PENTE_SUM, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 60, 13, 13), y = matrix_random(PENTE_FLOAT32, 60, 2, 2);
    pente_matrix last = rows_of(&x, 59, 1), target = rows_of(&y, 59, 1), weight = parameter_of(r.layer, "weight");
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    double loss = -1;
    OK(pente_trainer_step(r.trainer, &x, &y, NULL, NULL));
    put(&weight, 0, 3, 1e-20);
    put(&weight, 1, 3, 1e-20);
    put(&last, 0, 3, 1e38);
    put(&target, 0, 0, 1e10);
    fill_gradients(r.other); /* which a step would set to 0 */
    snapshot before = snapshot_new(r.layer), other = snapshot_new(r.other);
    REFUSED(PENTE_NOT_FINITE, pente_trainer_step(r.trainer, &last, &target, NULL, &loss));
    assert_non_null(strstr(pente_last_error(), "pente_trainer_step: the gradients' norm is inf"));
    fit(&r, &last, &target, PENTE_NOT_FINITE);
    OK(pente_sgd_get_info(r.sgd, &info));
    assert_true(is_as_in(r.layer, &before) && is_as_in(r.other, &other) && loss == -1 && info.step_count == 1);
    OK(pente_trainer_set_max_gradient_norm(r.trainer, 0));
    OK(pente_trainer_step(r.trainer, &last, &target, NULL, &loss));
    assert_true(isfinite(loss) && !isfinite(get(&weight, 0, 3)));
    snapshot_free(&before);
    snapshot_free(&other);
    run_free(&r);
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call), cmocka_unit_test(test_extreme_gradients),  cmocka_unit_test(test_steps),
        cmocka_unit_test(test_fit),  cmocka_unit_test(test_infinite_gradient),
    };
    return cmocka_run_group_tests_name("clipping", tests, NULL, NULL);
}
