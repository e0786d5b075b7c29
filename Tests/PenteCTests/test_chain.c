/* Chains compute what their layers by hand compute, one after another, to the bit: passes, steps and fits. */
#include "layers.h"

#include <math.h>
#include <string.h>

enum { DEPTH = 6 };

static const int64_t widths[DEPTH + 1] = {TALL_INPUTS, TALL_INPUTS, 8, 8, 5, 5, TALL_OUTPUTS};
static const int64_t rows[] = {1, 2, 33, 64, 65, 257, 1500};

/* The layers of a chain, each with a context of its own and memory for what goes in and comes out. */
typedef struct tower {
    pente_layer *layers[DEPTH];
    pente_context *contexts[DEPTH];
    pente_matrix outputs[DEPTH], grad_inputs[DEPTH]; /* of q rows */
} tower;

static tower tower_new(const pente_layer *chain, pente_dtype dtype, int64_t q) {
    tower t;
    for (int i = 0; i < DEPTH; i++) {
        OK(pente_chain_get_layer(chain, i, &t.layers[i]));
        OK(pente_context_new(t.layers[i], &t.contexts[i]));
        t.outputs[i] = matrix_new(dtype, q, widths[i + 1], widths[i + 1] + i % 2);
        t.grad_inputs[i] = matrix_new(dtype, q, widths[i], widths[i]);
    }
    return t;
}

static void tower_free(tower *t) {
    for (int i = 0; i < DEPTH; i++) {
        OK(pente_context_free(t->contexts[i]));
        OK(pente_layer_free(t->layers[i]));
        matrix_free(&t->outputs[i]);
        matrix_free(&t->grad_inputs[i]);
    }
}

static void tower_forward(tower *t, const pente_matrix *x) {
    for (int i = 0; i < DEPTH; i++) {
        OK(pente_layer_forward(t->layers[i], t->contexts[i], i ? &t->outputs[i - 1] : x, &t->outputs[i]));
    }
}

static void tower_backward(tower *t, const pente_matrix *grad_output) {
    for (int i = DEPTH - 1; i >= 0; i--) {
        const pente_matrix *upstream = i == DEPTH - 1 ? grad_output : &t->grad_inputs[i + 1];
        OK(pente_layer_backward(t->layers[i], t->contexts[i], upstream, &t->grad_inputs[i]));
    }
}

/* ---- Forward and backward ---- */

static void check_passes(pente_dtype dtype, int64_t q) {
    pente_layer *chain = tall_chain_new(dtype, 3), *twin = tall_chain_new(dtype, 3);
    tower by_hand = tower_new(twin, dtype, q);
    pente_matrix x = matrix_random(dtype, q, TALL_INPUTS, TALL_INPUTS + 2);
    pente_matrix y = matrix_new(dtype, q, TALL_OUTPUTS, TALL_OUTPUTS + 1);
    pente_matrix inferred = matrix_new(dtype, q, TALL_OUTPUTS, TALL_OUTPUTS);
    pente_matrix grad_output = matrix_random(dtype, q, TALL_OUTPUTS, TALL_OUTPUTS + 3);
    pente_matrix grad_input = matrix_new(dtype, q, TALL_INPUTS, TALL_INPUTS + 1);
    pente_context *context = NULL;
    OK(pente_context_new(chain, &context));
    OK(pente_layer_forward(chain, NULL, &x, &inferred));
    for (int pass = 0; pass < 2; pass++) { /* the second adds to the gradients of the first */
        OK(pente_layer_forward(chain, context, &x, &y));
        tower_forward(&by_hand, &x);
        SAME_BITS(y, by_hand.outputs[DEPTH - 1]);
        SAME_BITS(inferred, y);
        OK(pente_layer_backward(chain, context, &grad_output, pass ? NULL : &grad_input));
        tower_backward(&by_hand, &grad_output);
        SAME_BITS(grad_input, by_hand.grad_inputs[0]);
        assert_true(same_layers(chain, twin));
    }
    REFUSED(PENTE_INVALID_STATE, pente_layer_backward(chain, context, &grad_output, NULL));
    assert_true(gap_is_untouched(&x) && gap_is_untouched(&y) && gap_is_untouched(&grad_input));
    OK(pente_context_free(context));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(twin));
    tower_free(&by_hand);
    pente_matrix *matrices[] = {&x, &y, &inferred, &grad_output, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_passes(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        check_passes(PENTE_FLOAT32, rows[i]);
        check_passes(PENTE_FLOAT64, rows[i]);
    }
}

/* Each row by itself, and in blocks, gives the bits that it gives in the whole batch. */
static void test_rows_are_independent(void **state) {
    (void)state;
    static const int64_t blocks[] = {1, 5, 64, 1000};
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        pente_layer *chain = tall_chain_new(dtype, 3);
        pente_matrix x = matrix_random(dtype, 1500, TALL_INPUTS, TALL_INPUTS);
        pente_matrix y = matrix_new(dtype, 1500, TALL_OUTPUTS, TALL_OUTPUTS);
        OK(pente_layer_forward(chain, NULL, &x, &y));
        for (size_t i = 0; i < COUNT(blocks); i++) {
            pente_matrix again = matrix_new(dtype, 1500, TALL_OUTPUTS, TALL_OUTPUTS);
            for (int64_t first = 0; first < 1500; first += blocks[i]) {
                int64_t count = 1500 - first < blocks[i] ? 1500 - first : blocks[i];
                pente_matrix some_x = rows_of(&x, first, count), some_y = rows_of(&again, first, count);
                OK(pente_layer_forward(chain, NULL, &some_x, &some_y));
            }
            SAME_BITS(again, y);
            matrix_free(&again);
        }
        OK(pente_layer_free(chain));
        matrix_free(&x);
        matrix_free(&y);
    }
}

/* ---- Steps ---- */

/* zero_gradients, forward, loss, backward and step, layer by layer; sgd holds the layers one by one. */
static double step_by_hand(tower *t, pente_sgd *sgd, const pente_mse *mse, const pente_matrix *x, const pente_matrix *y,
                           const pente_matrix *weight) {
    pente_matrix gradient = matrix_new(y->dtype, y->rows, y->columns, y->columns);
    double loss = 0;
    OK(pente_sgd_zero_gradients(sgd));
    tower_forward(t, x);
    OK(pente_mse_forward(mse, &t->outputs[DEPTH - 1], y, weight, &loss));
    OK(pente_mse_backward(mse, &t->outputs[DEPTH - 1], y, weight, NULL, &gradient, NULL));
    tower_backward(t, &gradient);
    OK(pente_sgd_step(sgd));
    matrix_free(&gradient);
    return loss;
}

static pente_sgd *sgd_of_tower(const tower *t, double lr) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_sgd *sgd = NULL;
    options.lr = lr;
    options.momentum = 0.9;
    options.weight_decay = 0.01;
    OK(pente_sgd_new(t->layers, DEPTH, &options, &sgd));
    return sgd;
}

static void check_steps(pente_dtype dtype, int64_t q, pente_reduction reduction, bool weighted) {
    double lr = reduction == PENTE_SUM ? 1e-6 : 0.05;
    pente_layer *chain = tall_chain_new(dtype, 5), *twin = tall_chain_new(dtype, 5);
    tower by_hand = tower_new(twin, dtype, q);
    pente_mse *mse = mse_new(reduction);
    pente_sgd *sgd = sgd_of(chain, lr, 0.9), *sgd_by_hand = sgd_of_tower(&by_hand, lr);
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    pente_matrix x = matrix_random(dtype, q, TALL_INPUTS, TALL_INPUTS + 1), weight = matrix_new(dtype, q, 1, 1);
    pente_matrix y = matrix_random(dtype, q, TALL_OUTPUTS, TALL_OUTPUTS + 1);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    OK(pente_sgd_get_options(sgd_by_hand, 0, &options));
    OK(pente_sgd_set_options(sgd, 0, &options));
    for (int64_t i = 0; i < q; i++) put(&weight, i, 0, i % 4 == 3 ? 0 : 0.5 + (double)(i % 3));
    for (int step = 0; step < 3; step++) {
        double loss = -1;
        OK(pente_trainer_step(trainer, &x, &y, weighted ? &weight : NULL, &loss));
        double expected = step_by_hand(&by_hand, sgd_by_hand, mse, &x, &y, weighted ? &weight : NULL);
        assert_memory_equal(&loss, &expected, sizeof loss);
        assert_true(same_layers(chain, twin));
    }
    /* The scaler is not trained, and weight decay leaves it alone too. */
    pente_layer *scaler = scaler_new(dtype, TALL_INPUTS);
    assert_true(same_layers(scaler, by_hand.layers[0]));
    OK(pente_layer_free(scaler));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_sgd_free(sgd_by_hand));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(twin));
    tower_free(&by_hand);
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&weight);
}

static void test_steps(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        check_steps(PENTE_FLOAT32, rows[i], PENTE_MEAN, i % 2);
        check_steps(PENTE_FLOAT64, rows[i], PENTE_MEAN, i % 2 == 0);
    }
    check_steps(PENTE_FLOAT32, 1500, PENTE_SUM, true);
    check_steps(PENTE_FLOAT64, 70, PENTE_BATCH_MEAN, false);
}

/* A fit without shuffling is its batches by hand; with patience it gives back the best epoch's parameters. */
static void check_fit(pente_dtype dtype, int64_t q, int64_t batch_size, int64_t patience) {
    enum { EPOCHS = 5 };
    pente_layer *chain = tall_chain_new(dtype, 5), *twin = tall_chain_new(dtype, 5);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(chain, 0.05, 0.9), *sgd_by_hand = sgd_of(twin, 0.05, 0.9);
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    pente_matrix x = matrix_random(dtype, q, TALL_INPUTS, TALL_INPUTS), validated = matrix_new(dtype, 7, 2, 2);
    pente_matrix y = matrix_random(dtype, q, TALL_OUTPUTS, TALL_OUTPUTS);
    pente_matrix validation_x = rows_of(&x, 0, 7), validation_y = rows_of(&y, 0, 7);
    double losses[EPOCHS], best = INFINITY;
    snapshot kept = snapshot_new(twin);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.patience = patience;
    options.epochs = EPOCHS;
    options.batch_size = batch_size;
    options.shuffle = 0;
    options.validation_x = &validation_x;
    options.validation_y = &validation_y;
    options.validation_losses = losses;
    OK(pente_trainer_fit(trainer, &x, &y, &options, &report));
    for (int epoch = 0; epoch < report.epochs; epoch++) {
        double loss = -1;
        for (int64_t first = 0; first < q; first += batch_size) {
            int64_t count = q - first < batch_size ? q - first : batch_size;
            tower by_hand = tower_new(twin, dtype, count);
            pente_matrix some_x = rows_of(&x, first, count), some_y = rows_of(&y, first, count);
            (void)step_by_hand(&by_hand, sgd_by_hand, mse, &some_x, &some_y, NULL);
            tower_free(&by_hand);
        }
        OK(pente_layer_forward(twin, NULL, &validation_x, &validated));
        OK(pente_mse_forward(mse, &validated, &validation_y, NULL, &loss));
        assert_memory_equal(&loss, &losses[epoch], sizeof loss);
        if (patience && !(loss < best)) continue;
        best = loss;
        snapshot_free(&kept);
        kept = snapshot_new(twin);
    }
    snapshot now = snapshot_new(chain);
    for (int64_t i = 0; i < now.count; i++) SAME_BITS(now.parameters[i], kept.parameters[i]);
    snapshot_free(&now);
    snapshot_free(&kept);
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_sgd_free(sgd_by_hand));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(twin));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&validated);
}

static void test_fit(void **state) {
    (void)state;
    check_fit(PENTE_FLOAT32, 45, 16, 0);
    check_fit(PENTE_FLOAT64, 45, 16, 0);
    check_fit(PENTE_FLOAT32, 1500, 1030, 0);
    check_fit(PENTE_FLOAT32, 45, 16, 2);
    check_fit(PENTE_FLOAT64, 1500, 600, 1);
}

/* A loss that is not finite changes nothing in any layer of the chain. */
static void test_not_finite(void **state) {
    (void)state;
    for (int64_t q = 3; q <= 1503; q += 1500) {
        pente_layer *chain = tall_chain_new(PENTE_FLOAT32, 5), *twin = tall_chain_new(PENTE_FLOAT32, 5);
        pente_mse *mse = mse_new(PENTE_MEAN);
        pente_sgd *sgd = sgd_of(chain, 0.05, 0.9), *twins_sgd = sgd_of(twin, 0.05, 0.9);
        pente_trainer *trainer = trainer_of(chain, mse, sgd), *twins_trainer = trainer_of(twin, mse, twins_sgd);
        pente_matrix x = matrix_random(PENTE_FLOAT32, q, TALL_INPUTS, TALL_INPUTS), bad = matrix_copy(&x);
        pente_matrix y = matrix_random(PENTE_FLOAT32, q, TALL_OUTPUTS, TALL_OUTPUTS);
        double loss = -7;
        put(&bad, q - 1, 4, NAN);
        for (int step = 0; step < 2; step++) {
            OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
            OK(pente_trainer_step(twins_trainer, &x, &y, NULL, NULL));
            assert_true(same_layers(chain, twin));
            REFUSED(PENTE_NOT_FINITE, pente_trainer_step(trainer, &bad, &y, NULL, &loss));
            REFUSED(PENTE_NOT_FINITE, pente_trainer_fit(trainer, &bad, &y, NULL, NULL));
            assert_true(same_layers(chain, twin) && loss == -7);
        }
        OK(pente_trainer_free(trainer));
        OK(pente_trainer_free(twins_trainer));
        OK(pente_sgd_free(sgd));
        OK(pente_sgd_free(twins_sgd));
        OK(pente_mse_free(mse));
        OK(pente_layer_free(chain));
        OK(pente_layer_free(twin));
        matrix_free(&x);
        matrix_free(&bad);
        matrix_free(&y);
    }
}

/* ---- Nesting ---- */

/* A chain of chains gives the bits of a chain of their layers. */
static void test_nested(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        pente_layer *flat = CHAIN(linear_new(dtype, 4, 6, 1), activation_new(dtype, PENTE_SIGMOID),
                                  linear_new(dtype, 6, 3, 2), linear_new(dtype, 3, 2, 3));
        pente_layer *nested = CHAIN(CHAIN(linear_new(dtype, 4, 6, 1), activation_new(dtype, PENTE_SIGMOID)),
                                    CHAIN(CHAIN(linear_new(dtype, 6, 3, 2)), linear_new(dtype, 3, 2, 3)));
        pente_mse *mse = mse_new(PENTE_MEAN);
        pente_sgd *sgds[] = {sgd_of(flat, 0.1, 0.9), sgd_of(nested, 0.1, 0.9)};
        pente_trainer *trainers[] = {trainer_of(flat, mse, sgds[0]), trainer_of(nested, mse, sgds[1])};
        pente_matrix x = matrix_random(dtype, 1500, 4, 4), y = matrix_random(dtype, 1500, 2, 2);
        double losses[2];
        for (int step = 0; step < 3; step++) {
            for (int i = 0; i < 2; i++) OK(pente_trainer_step(trainers[i], &x, &y, NULL, &losses[i]));
            assert_memory_equal(&losses[0], &losses[1], sizeof losses[0]);
        }
        snapshot a = snapshot_new(flat), b = snapshot_new(nested);
        assert_true(same_snapshots(&a, &b));
        snapshot_free(&a);
        snapshot_free(&b);
        for (int i = 0; i < 2; i++) {
            OK(pente_trainer_free(trainers[i]));
            OK(pente_sgd_free(sgds[i]));
        }
        OK(pente_mse_free(mse));
        OK(pente_layer_free(flat));
        OK(pente_layer_free(nested));
        matrix_free(&x);
        matrix_free(&y);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes), cmocka_unit_test(test_rows_are_independent), cmocka_unit_test(test_steps),
        cmocka_unit_test(test_fit),    cmocka_unit_test(test_not_finite),           cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
