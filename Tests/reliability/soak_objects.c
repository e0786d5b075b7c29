/* Objects and files that come and go: see soak.c. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "soak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void free_twice(pente_layer *layer) {
    OK(pente_layer_free(layer));
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_free(layer));
}

static void cycle_linear(int64_t i) {
    free_twice(linear_new(i % 2 ? PENTE_FLOAT32 : PENTE_FLOAT64, 1 + i % 50, 1 + i % 7, (uint64_t)i));
}

static void cycle_activation(int64_t i) {
    free_twice(activation_new(PENTE_FLOAT32, PENTE_RELU + (pente_activation)(i % 5)));
}

static void cycle_scaler(int64_t i) { free_twice(scaler_new(PENTE_FLOAT64, 1 + i % 20)); }

/* A chain in a chain, whose layers' handles go before it or, the first one's, after it. */
static void cycle_chain(int64_t i) {
    pente_layer *chain = tall_chain_new(PENTE_FLOAT32, (uint64_t)i), *first = NULL;
    OK(pente_chain_get_layer(chain, 0, &first));
    free_twice(CHAIN(chain, activation_new(PENTE_FLOAT32, PENTE_TANH)));
    free_twice(first);
}

static void cycle_custom(int64_t i) {
    affine a = {0};
    affine_new(&a, PENTE_FLOAT32, 1 + i % 5, 2, 1);
    free_twice(a.layer);
    assert_int_equal(a.releases, 1);
}

/* A pass, and another forward that no backward follows. The context outlives its layer's handle. */
static void cycle_context(int64_t i) {
    static float x[20 * TALL_INPUTS], y[20 * TALL_OUTPUTS];
    pente_matrix in = pente_float32_matrix(x, 1 + i % 20, TALL_INPUTS);
    pente_matrix out = pente_float32_matrix(y, 1 + i % 20, TALL_OUTPUTS);
    pente_layer *chain = tall_chain_new(PENTE_FLOAT32, 1);
    pente_context *context = NULL;
    OK(pente_context_new(chain, &context));
    OK(pente_layer_forward(chain, context, &in, &out));
    OK(pente_layer_backward(chain, context, &out, NULL));
    OK(pente_layer_forward(chain, context, &in, &out));
    free_twice(chain);
    OK(pente_context_free(context));
    REFUSED(PENTE_INVALID_HANDLE, pente_context_free(context));
}

static void cycle_mse(int64_t i) {
    pente_mse *mse = mse_new(PENTE_MEAN + (pente_reduction)(i % 5));
    OK(pente_mse_free(mse));
}

/* Two groups, momentum buffers, a step. */
static void cycle_sgd(int64_t i) {
    pente_layer *one = linear_new(PENTE_FLOAT32, 4, 1 + i % 9, 1), *other = linear_new(PENTE_FLOAT32, 3, 2, 1);
    pente_sgd *sgd = sgd_of(one, 0.1, 0.9);
    OK(pente_sgd_add_group(sgd, &other, 1, NULL));
    OK(pente_sgd_step(sgd));
    free_twice(one);
    free_twice(other);
    OK(pente_sgd_free(sgd));
    REFUSED(PENTE_INVALID_HANDLE, pente_sgd_free(sgd));
}

/* A step, a fit, and a step that fails. The trainer goes first, in the middle or last. */
static void cycle_trainer(int64_t i) {
    static float x[40] = {1, 2, 3, 4}, y[10] = {1}, nan[10] = {NAN};
    pente_matrix in = pente_float32_matrix(x, 10, 4), out = pente_float32_matrix(y, 10, 1);
    pente_matrix bad = pente_float32_matrix(nan, 10, 1);
    training t = training_new(PENTE_FLOAT32, 4, 1, PENTE_MEAN, 0.01);
    OK(pente_trainer_step(t.trainer, &in, &out, NULL, NULL));
    OK(pente_trainer_fit(t.trainer, &in, &out, NULL, NULL));
    REFUSED(PENTE_NOT_FINITE, pente_trainer_step(t.trainer, &in, &bad, NULL, NULL));
    if (i % 3 == 0) OK(pente_trainer_free(t.trainer));
    OK(pente_sgd_free(t.sgd));
    if (i % 3 == 1) OK(pente_trainer_free(t.trainer));
    OK(pente_mse_free(t.mse));
    free_twice(t.model.layer);
    if (i % 3 == 2) OK(pente_trainer_free(t.trainer));
    REFUSED(PENTE_INVALID_HANDLE, pente_trainer_free(t.trainer));
}

static void cycle_gradcheck(int64_t i) {
    static double x[6] = {1, 2, 3}, y[4] = {1};
    pente_matrix in = pente_float64_matrix(x, 2, 3), out = pente_float64_matrix(y, 2, 2);
    pente_layer *layer = linear_new(PENTE_FLOAT64, 3, 2, (uint64_t)i);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    OK(pente_gradcheck(layer, mse, &in, &out, NULL, &report));
    assert_true(report.passed);
    OK(pente_mse_free(mse));
    free_twice(layer);
}

void test_objects(void **state) {
    (void)state;
    repeat("linear layers", cycle_count, cycle_linear);
    repeat("activations", cycle_count, cycle_activation);
    repeat("scalers", cycle_count, cycle_scaler);
    repeat("chains", cycle_count, cycle_chain);
    repeat("layers of one's own", cycle_count, cycle_custom);
    repeat("contexts", cycle_count, cycle_context);
    repeat("optimizers", cycle_count, cycle_sgd);
    repeat("trainers", cycle_count, cycle_trainer);
    repeat("gradchecks", cycle_count, cycle_gradcheck);
    /* A place in the table of handles is used 8,388,608 times and then left. */
    repeat("losses", 200 * cycle_count, cycle_mse);
}

/* ---- Files ---- */

static char directory[] = "/tmp/pente-soak-XXXXXX", path[64];
static pente_layer *saved;
static pente_sgd *saved_sgd;

static void cycle_files(int64_t i) {
    pente_layer *loaded = NULL;
    OK(pente_layer_save(saved, i % 2 ? saved_sgd : NULL, path));
    OK(pente_layer_load(path, &loaded));
    OK(pente_layer_load_parameters(saved, i % 2 ? saved_sgd : NULL, path));
    free_twice(loaded);
    REFUSED(PENTE_FILE_ERROR, pente_layer_load("/nowhere", &loaded));
}

void test_files(void **state) {
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/file", directory);
    saved = tall_chain_new(PENTE_FLOAT64, 1);
    saved_sgd = sgd_of(saved, 0.1, 0.9);
    OK(pente_sgd_step(saved_sgd));
    repeat("files", cycle_count / 10, cycle_files);
    OK(pente_sgd_free(saved_sgd));
    OK(pente_layer_free(saved));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0); /* and nothing else is left in it */
}
