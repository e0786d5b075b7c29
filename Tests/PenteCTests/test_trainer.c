/* A trainer's step is the calls it stands for, to the bit; a loss that is not finite changes nothing; handles go in
 * any order. */
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <valgrind/valgrind.h>

/* The same training twice: by trainer.step, and by the calls that it stands for. */
typedef struct pair {
    model fused, plain;
    pente_sgd *fused_sgd, *plain_sgd;
    pente_mse *mse;
    pente_trainer *trainer;
    pente_context *context;
} pair;

static pair pair_new(pente_dtype dtype, int64_t n, int64_t p, bool bias, pente_reduction reduction) {
    pair pair = {.fused = model_new(dtype, n, p, bias, 4), .plain = model_new(dtype, n, p, bias, 4)};
    double lr = reduction == PENTE_SUM || reduction == PENTE_OUTPUT_MEAN ? 1e-6 : 0.01;
    pair.fused_sgd = sgd_new(&pair.fused, lr, 0.9);
    pair.plain_sgd = sgd_new(&pair.plain, lr, 0.9);
    pair.mse = mse_new(reduction);
    pair.trainer = trainer_new(&pair.fused, pair.mse, pair.fused_sgd);
    OK(pente_context_new(pair.plain.layer, &pair.context));
    return pair;
}

static void pair_free(pair *pair) {
    OK(pente_trainer_free(pair->trainer));
    OK(pente_context_free(pair->context));
    OK(pente_mse_free(pair->mse));
    OK(pente_sgd_free(pair->fused_sgd));
    OK(pente_sgd_free(pair->plain_sgd));
    model_free(&pair->fused);
    model_free(&pair->plain);
}

static double plain_step(const pair *pair, const pente_matrix *x, const pente_matrix *y, const pente_matrix *weight) {
    pente_matrix prediction = matrix_new(y->dtype, y->rows, y->columns, y->columns);
    pente_matrix gradient = matrix_new(y->dtype, y->rows, y->columns, y->columns);
    double loss = 0;
    OK(pente_sgd_zero_gradients(pair->plain_sgd));
    OK(pente_layer_forward(pair->plain.layer, pair->context, x, &prediction));
    OK(pente_mse_forward(pair->mse, &prediction, y, weight, &loss));
    OK(pente_mse_backward(pair->mse, &prediction, y, weight, NULL, &gradient, NULL));
    OK(pente_layer_backward(pair->plain.layer, pair->context, &gradient, NULL));
    OK(pente_sgd_step(pair->plain_sgd));
    matrix_free(&prediction);
    matrix_free(&gradient);
    return loss;
}

/* Rows lie up to so many numbers apart. */
static void check_steps(pair *pair, int64_t q, bool weighted, int64_t gap) {
    pente_dtype dtype = pair->fused.weight.dtype;
    int64_t n = pair->fused.weight.columns, p = pair->fused.weight.rows;
    pente_matrix x = matrix_random(dtype, q, n, n + random_below(gap + 1));
    pente_matrix y = matrix_random(dtype, q, p, p + random_below(gap + 1));
    pente_matrix weight = matrix_random(dtype, q, 1, 1);
    for (int64_t i = 0; i < q; i++) put(&weight, i, 0, i % 4 == 3 ? 0 : fabs(get(&weight, i, 0)));
    put(&weight, 0, 0, 0.5);
    for (int step = 0; step < 3; step++) {
        double loss = -1, expected = plain_step(pair, &x, &y, weighted ? &weight : NULL);
        OK(pente_trainer_step(pair->trainer, &x, &y, weighted ? &weight : NULL, &loss));
        assert_memory_equal(&loss, &expected, sizeof loss);
        assert_true(same_model(&pair->fused, &pair->plain));
    }
    OK(pente_trainer_step(pair->trainer, &x, &y, NULL, NULL));
    (void)plain_step(pair, &x, &y, NULL);
    assert_true(same_model(&pair->fused, &pair->plain));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&weight);
}

static void test_step_is_the_calls(void **state) {
    (void)state;
    /* One output has a kernel of its own, which goes about x in another way for each of these numbers of inputs. */
    static const int64_t widths[][2] = {{1, 1},  {2, 1},   {4, 1}, {13, 1}, {3, 2}, {17, 5}, {8, 16}, {33, 40},
                                        {70, 3}, {2, 130}, {3, 1}, {7, 1},  {8, 1}, {21, 1}, {37, 1}, {70, 1},
                                        {5, 1},  {6, 1},   {9, 1}, {15, 1}, {16, 1}, {23, 1}, {32, 1}, {40, 1}};
    static const int64_t rows[] = {1, 5, 8, 16, 33, 64, 65, 257, 513, 1025, 1500, 2049, 4};
    for (size_t i = 0; i < COUNT(widths); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            pair pair = pair_new(dtype, widths[i][0], widths[i][1], i != 2, PENTE_MEAN);
            for (size_t j = 0; j < COUNT(rows); j++) {
                if (widths[i][0] * widths[i][1] > 100 && rows[j] > 600) continue;
                /* Most kernels are for these. */
                if (!RUNNING_ON_VALGRIND || rows[j] < 300) check_steps(&pair, rows[j], false, 0);
                check_steps(&pair, rows[j], (i + j) % 2, 2);
            }
            pair_free(&pair);
        }
    }
}

/* More than two megabytes of x are read in another way than less, whatever the widths, in one block of rows or in several. */
static void test_step_on_much_data(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{4300, 131, 2}, {2300, 250, 9}, {2065, 262, 16}, {200, 2700, 11}, {70000, 9, 3}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            if (RUNNING_ON_VALGRIND && i % 2 == (dtype == PENTE_FLOAT32)) continue; /* fifty times slower */
            pair pair = pair_new(dtype, shapes[i][1], shapes[i][2], i != 1, PENTE_MEAN);
            check_steps(&pair, shapes[i][0], i % 2, 2);
            pair_free(&pair);
        }
    }
}

/* What a trainer keeps from one step to the next of the same shape is not the numbers, nor where they are, nor the options. */
static void test_steps_of_one_shape(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 4, 1}, {1, 21, 1}, {20, 4, 1}, {7, 5, 3}, {300, 33, 40}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            int64_t q = shapes[i][0], n = shapes[i][1], p = shapes[i][2];
            pair pair = pair_new(dtype, n, p, true, PENTE_MEAN);
            for (int step = 0; step < 24; step++) {
                pente_matrix x = matrix_random(dtype, q, n, n + random_below(3));
                pente_matrix y = matrix_random(dtype, q, p, p + random_below(3));
                pente_matrix weight = matrix_random(dtype, q, 1, 1);
                for (int64_t r = 0; r < q; r++) put(&weight, r, 0, 0.5 + fabs(get(&weight, r, 0)));
                pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
                options.lr = 0.001 * (1 + step % 5);
                options.momentum = step % 8 < 4 ? 0.9 : 0;
                options.maximize = step % 3 == 0;
                if (step % 4 == 0) {
                    OK(pente_sgd_set_options(pair.fused_sgd, 0, &options));
                    OK(pente_sgd_set_options(pair.plain_sgd, 0, &options));
                }
                const pente_matrix *used = step % 6 < 3 ? &weight : NULL;
                double loss = -1, expected = plain_step(&pair, &x, &y, used);
                OK(pente_trainer_step(pair.trainer, &x, &y, used, &loss));
                assert_memory_equal(&loss, &expected, sizeof loss);
                assert_true(same_model(&pair.fused, &pair.plain));
                matrix_free(&x);
                matrix_free(&y);
                matrix_free(&weight);
            }
            pair_free(&pair);
        }
    }
}

static void test_step_with_each_reduction(void **state) {
    (void)state;
    static const pente_reduction reductions[] = {PENTE_MEAN, PENTE_SUM, PENTE_BATCH_MEAN, PENTE_OUTPUT_MEAN};
    for (size_t i = 0; i < COUNT(reductions); i++) {
        for (int weighted = 0; weighted < 2; weighted++) {
            pair pair = pair_new(PENTE_FLOAT32, 6, 3, true, reductions[i]);
            check_steps(&pair, 7, weighted, 2);
            check_steps(&pair, 1100, weighted, 2);
            pair_free(&pair);
        }
    }
}

/* One step: the loss is that before the update, and the gradients that are left are right. */
static void test_gradients_are_left(void **state) {
    (void)state;
    pair pair = pair_new(PENTE_FLOAT64, 5, 2, true, PENTE_MEAN);
    pente_matrix x = matrix_random(PENTE_FLOAT64, 30, 5, 5), y = matrix_random(PENTE_FLOAT64, 30, 2, 2);
    pente_matrix prediction = matrix_new(PENTE_FLOAT64, 30, 2, 2), gradient = matrix_new(PENTE_FLOAT64, 30, 2, 2);
    double loss = 0;
    OK(pente_layer_forward(pair.fused.layer, NULL, &x, &prediction));
    for (int64_t i = 0; i < 30; i++) {
        for (int64_t j = 0; j < 2; j++) put(&gradient, i, j, 2.0 / 60 * (get(&prediction, i, j) - get(&y, i, j)));
    }
    OK(pente_trainer_step(pair.trainer, &x, &y, NULL, &loss));
    assert_true(fabs(loss - mse_loss(PENTE_MEAN, &prediction, &y, NULL)) <= 8 * DBL_EPSILON * loss);
    assert_true(is_product("gradient", &pair.fused.weight_gradient, &gradient, true, &x, false, NULL));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&prediction);
    matrix_free(&gradient);
    pair_free(&pair);
}

/* Wherever the NaN stands, nothing changes: not the parameters, not the gradients, not the momentum. */
static void check_refusal(pair *pair, const pente_matrix *x, const pente_matrix *y, pente_matrix *spoiled,
                          int64_t row) {
    static const double culprits[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT(culprits); i++) {
        double loss = -7, good = get(spoiled, row, 0);
        put(spoiled, row, 0, culprits[i]);
        pente_matrix weight = matrix_copy(&pair->fused.weight), gradient = matrix_copy(&pair->fused.weight_gradient);
        pente_status status = pente_trainer_step(pair->trainer, x, y, NULL, &loss);
        assert_int_equal(status, PENTE_NOT_FINITE);
        assert_non_null(strstr(pente_last_error(), "loss"));
        assert_true(loss == -7);
        SAME_BITS(weight, pair->fused.weight);
        SAME_BITS(gradient, pair->fused.weight_gradient);
        put(spoiled, row, 0, good);
        matrix_free(&weight);
        matrix_free(&gradient);
    }
}

static void test_not_finite(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        static const int64_t rows[] = {1, 40, 1300};
        for (size_t i = 0; i < COUNT(rows); i++) {
            pair pair = pair_new(dtype, 6, 3, true, PENTE_MEAN);
            check_steps(&pair, rows[i], false, 2);
            pente_matrix x = matrix_random(dtype, rows[i], 6, 6), y = matrix_random(dtype, rows[i], 3, 3);
            check_refusal(&pair, &x, &y, &x, 0);
            check_refusal(&pair, &x, &y, &x, rows[i] - 1);
            check_refusal(&pair, &x, &y, &y, rows[i] - 1);
            /* The momentum shows in the steps that follow. */
            check_steps(&pair, rows[i], false, 2);
            matrix_free(&x);
            matrix_free(&y);
            pair_free(&pair);
        }
    }
}

/* sgd may hold more than the trainer trains. */
static void test_further_layers(void **state) {
    (void)state;
    model trained = model_new(PENTE_FLOAT32, 2, 1, true, 1), other = model_new(PENTE_FLOAT32, 3, 3, true, 2);
    model twin = model_new(PENTE_FLOAT32, 3, 3, true, 2);
    pente_layer *layers[] = {trained.layer, other.layer};
    pente_sgd *sgd = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_trainer *trainer = NULL;
    pente_matrix x = matrix_random(PENTE_FLOAT32, 4, 2, 2), y = matrix_random(PENTE_FLOAT32, 4, 1, 1);
    OK(pente_sgd_new(layers, 2, NULL, &sgd));
    OK(pente_trainer_new(trained.layer, mse, sgd, &trainer));
    fill_random(&other.weight_gradient);
    /* zero_gradients clears them all, and a step with gradient 0 stands still. */
    OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
    assert_true(same_model(&other, &twin));
    OK(pente_trainer_free(trainer));
    OK(pente_mse_free(mse));
    OK(pente_sgd_free(sgd));
    matrix_free(&x);
    matrix_free(&y);
    model_free(&trained);
    model_free(&other);
    model_free(&twin);
}

static void free_one(int which, pente_layer *layer, pente_context *context, pente_mse *mse, pente_sgd *sgd,
                     pente_trainer *trainer) {
    switch (which) {
    case 0: OK(pente_layer_free(layer)); break;
    case 1: OK(pente_context_free(context)); break;
    case 2: OK(pente_mse_free(mse)); break;
    case 3: OK(pente_sgd_free(sgd)); break;
    default: OK(pente_trainer_free(trainer)); break;
    }
}

static void check_order(int permutation) {
    int order[5] = {0, 1, 2, 3, 4};
    for (int i = 0; i < 4; i++) {
        int j = i + permutation % (5 - i), kept = order[i];
        permutation /= 5 - i;
        order[i] = order[j];
        order[j] = kept;
    }
    model m = model_new(PENTE_FLOAT32, 3, 2, true, 1);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_new(&m, 0.1, 0.9);
    pente_trainer *trainer = trainer_new(&m, mse, sgd);
    pente_context *context = NULL;
    pente_matrix x = matrix_random(PENTE_FLOAT32, 4, 3, 3), y = matrix_random(PENTE_FLOAT32, 4, 2, 2);
    bool trainer_is_there = true;
    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, context, &x, &y));
    for (int i = 0; i < 5; i++) {
        free_one(order[i], m.layer, context, mse, sgd, trainer);
        if (order[i] == 4) trainer_is_there = false;
        pente_status wanted = trainer_is_there ? PENTE_OK : PENTE_INVALID_HANDLE;
        REFUSED(wanted, pente_trainer_step(trainer, &x, &y, NULL, NULL));
    }
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_free(m.layer));
    REFUSED(PENTE_INVALID_HANDLE, pente_context_free(context));
    REFUSED(PENTE_INVALID_HANDLE, pente_mse_free(mse));
    REFUSED(PENTE_INVALID_HANDLE, pente_sgd_free(sgd));
    REFUSED(PENTE_INVALID_HANDLE, pente_trainer_free(trainer));
    matrix_free(&x);
    matrix_free(&y);
}

/* All 120 orders of freeing five handles; after each the trainer, while it is there, still trains. */
static void test_free_in_any_order(void **state) {
    (void)state;
    for (int permutation = 0; permutation < 120; permutation++) check_order(permutation);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_is_the_calls),  cmocka_unit_test(test_step_on_much_data),
        cmocka_unit_test(test_steps_of_one_shape), cmocka_unit_test(test_step_with_each_reduction),
        cmocka_unit_test(test_gradients_are_left), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_further_layers),     cmocka_unit_test(test_free_in_any_order),
    };
    return cmocka_run_group_tests_name("trainer", tests, NULL, NULL);
}
