/* Mean squared error: each reduction, with and without weights, forward and backward, against plain loops. */
#include "oracle.h"

#include <float.h>
#include <math.h>

static const pente_reduction reductions[] = {PENTE_MEAN, PENTE_SUM, PENTE_NONE, PENTE_BATCH_MEAN, PENTE_OUTPUT_MEAN};

typedef struct batch {
    pente_matrix prediction, target, weight;
    const pente_matrix *weight_or_null;
} batch;

static batch batch_new(pente_dtype dtype, int64_t q, int64_t p) {
    batch b = {.prediction = matrix_random(dtype, q, p, p + random_below(4)),
               .target = matrix_random(dtype, q, p, p + random_below(4)),
               .weight = matrix_random(dtype, q, 1, 1 + random_below(4))};
    for (int64_t i = 0; i < q; i++) put(&b.weight, i, 0, i % 5 == 3 ? 0 : fabs(get(&b.weight, i, 0)));
    put(&b.weight, 0, 0, 0.75);
    return b;
}

static void batch_free(batch *b) {
    matrix_free(&b->prediction);
    matrix_free(&b->target);
    matrix_free(&b->weight);
}

static bool is_close(double got, double want, double magnitude, pente_dtype dtype) {
    return fabs(got - want) <= 4 * (dtype == PENTE_FLOAT32 ? FLT_EPSILON : DBL_EPSILON) * magnitude;
}

static void check_forward(const pente_mse *mse, pente_reduction reduction, const batch *b) {
    pente_dtype dtype = b->prediction.dtype;
    const pente_matrix *weight = b->weight_or_null;
    double loss = -1;
    if (reduction != PENTE_NONE) {
        OK(pente_mse_forward(mse, &b->prediction, &b->target, weight, &loss));
        double want = mse_loss(reduction, &b->prediction, &b->target, weight);
        /* The oracle's own sum is a plain one, in double. */
        double terms = (double)(b->prediction.rows * b->prediction.columns);
        assert_true(is_close(loss, want, want * (dtype == PENTE_FLOAT32 ? 4 : 4 + sqrt(terms)), dtype));
        return;
    }
    pente_matrix squares = matrix_new(dtype, b->prediction.rows, b->prediction.columns, b->prediction.columns + 2);
    OK(pente_mse_forward_elements(mse, &b->prediction, &b->target, weight, &squares));
    for (int64_t i = 0; i < squares.rows; i++) {
        for (int64_t j = 0; j < squares.columns; j++) {
            double residual = get(&b->prediction, i, j) - get(&b->target, i, j);
            double want = residual * residual * (weight ? get(weight, i, 0) : 1);
            assert_true(is_close(get(&squares, i, j), want, want + 1e-30, dtype));
        }
    }
    assert_true(gap_is_untouched(&squares));
    matrix_free(&squares);
}

/* Of grad_output: NULL, or of the loss's shape. */
static void check_backward(const pente_mse *mse, pente_reduction reduction, const batch *b, bool upstream) {
    int64_t q = b->prediction.rows, p = b->prediction.columns;
    bool none = reduction == PENTE_NONE;
    pente_dtype dtype = b->prediction.dtype;
    double divisor = mse_divisor(reduction, &b->prediction, b->weight_or_null);
    pente_matrix grad_output = matrix_random(dtype, none ? q : 1, none ? p : 1, none ? p + 1 : 1);
    pente_matrix grad_prediction = matrix_new(dtype, q, p, p + 1), grad_target = matrix_new(dtype, q, p, p);
    pente_matrix alone = matrix_new(dtype, q, p, p);
    const pente_matrix *g = upstream ? &grad_output : NULL;

    OK(pente_mse_backward(mse, &b->prediction, &b->target, b->weight_or_null, g, &grad_prediction, &grad_target));
    for (int64_t i = 0; i < q; i++) {
        for (int64_t j = 0; j < p; j++) {
            double want = 2 / divisor * (get(&b->prediction, i, j) - get(&b->target, i, j));
            if (b->weight_or_null) want *= get(b->weight_or_null, i, 0);
            if (g) want *= none ? get(g, i, j) : get(g, 0, 0);
            assert_true(is_close(get(&grad_prediction, i, j), want, fabs(want) + 1e-30, dtype));
            assert_true(get(&grad_target, i, j) == -get(&grad_prediction, i, j));
        }
    }
    assert_true(gap_is_untouched(&grad_prediction));
    OK(pente_mse_backward(mse, &b->prediction, &b->target, b->weight_or_null, g, &alone, NULL));
    SAME_BITS(alone, grad_prediction);
    OK(pente_mse_backward(mse, &b->prediction, &b->target, b->weight_or_null, g, NULL, &alone));
    SAME_BITS(alone, grad_target);
    matrix_free(&grad_output);
    matrix_free(&grad_prediction);
    matrix_free(&grad_target);
    matrix_free(&alone);
}

static void check_shape(pente_dtype dtype, int64_t q, int64_t p) {
    for (size_t i = 0; i < COUNT(reductions); i++) {
        pente_mse *mse = mse_new(reductions[i]);
        for (int weighted = 0; weighted < 2; weighted++) {
            batch b = batch_new(dtype, q, p);
            b.weight_or_null = weighted ? &b.weight : NULL;
            check_forward(mse, reductions[i], &b);
            check_backward(mse, reductions[i], &b, false);
            check_backward(mse, reductions[i], &b, true);
            batch_free(&b);
        }
        OK(pente_mse_free(mse));
    }
}

static void test_shapes(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 7, 8, 9, 64, 65, 257, 513, 1025, 2049};
    static const int64_t columns[] = {1, 2, 5, 8, 16, 17, 33};
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(columns); j++) {
            if (rows[i] > 300 && j % 3) continue;
            check_shape(PENTE_FLOAT32, rows[i], columns[j]);
            check_shape(PENTE_FLOAT64, rows[i], columns[j]);
        }
    }
}

/* A sum in float would be wrong from the fourth digit on. */
static void test_long_sum(void **state) {
    (void)state;
    enum { LONG = 300000 };
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_matrix prediction = matrix_new(PENTE_FLOAT32, LONG, 1, 1), target = matrix_new(PENTE_FLOAT32, LONG, 1, 1);
    double loss = 0, tenth = (double)0.1f;
    fill(&prediction, tenth);
    fill(&target, 0);
    OK(pente_mse_forward(mse, &prediction, &target, NULL, &loss));
    assert_true(fabs(loss - tenth * tenth) <= FLT_EPSILON * loss);
    matrix_free(&prediction);
    matrix_free(&target);
    OK(pente_mse_free(mse));
}

/* Nor does a plain sum in double do for the weights: of ones, the mean is 1 within a rounding or two. */
static void test_long_sum_of_weights(void **state) {
    (void)state;
    enum { LONG = 3000000 };
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_matrix prediction = matrix_new(PENTE_FLOAT64, LONG, 1, 1), target = matrix_new(PENTE_FLOAT64, LONG, 1, 1);
    pente_matrix weight = matrix_new(PENTE_FLOAT64, LONG, 1, 1);
    double loss = 0;
    fill(&prediction, 1);
    fill(&target, 0);
    fill(&weight, 0.1);
    OK(pente_mse_forward(mse, &prediction, &target, &weight, &loss));
    assert_true(fabs(loss - 1) <= 8 * DBL_EPSILON);
    matrix_free(&prediction);
    matrix_free(&target);
    matrix_free(&weight);
    OK(pente_mse_free(mse));
}

/* Weights of zero count for nothing, and may all be zero where no mean is taken. */
static void test_zero_weights(void **state) {
    (void)state;
    pente_mse *sum = mse_new(PENTE_SUM), *output_mean = mse_new(PENTE_OUTPUT_MEAN), *none = mse_new(PENTE_NONE);
    pente_mse *mean = mse_new(PENTE_MEAN), *batch_mean = mse_new(PENTE_BATCH_MEAN);
    pente_matrix prediction = matrix_random(PENTE_FLOAT64, 4, 2, 2), target = matrix_random(PENTE_FLOAT64, 4, 2, 2);
    pente_matrix zeros = matrix_new(PENTE_FLOAT64, 4, 1, 1), squares = matrix_new(PENTE_FLOAT64, 4, 2, 2);
    double loss = -1;
    fill(&zeros, 0);
    OK(pente_mse_forward(sum, &prediction, &target, &zeros, &loss));
    assert_true(loss == 0);
    loss = -1;
    OK(pente_mse_forward(output_mean, &prediction, &target, &zeros, &loss));
    assert_true(loss == 0);
    OK(pente_mse_forward_elements(none, &prediction, &target, &zeros, &squares));
    assert_true(get(&squares, 3, 1) == 0);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_mse_forward(mean, &prediction, &target, &zeros, &loss));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_mse_forward(batch_mean, &prediction, &target, &zeros, &loss));
    assert_true(loss == 0);
    matrix_free(&prediction);
    matrix_free(&target);
    matrix_free(&zeros);
    matrix_free(&squares);
    OK(pente_mse_free(sum));
    OK(pente_mse_free(output_mean));
    OK(pente_mse_free(none));
    OK(pente_mse_free(mean));
    OK(pente_mse_free(batch_mean));
}

/* An overflow or a NaN in a loss by itself is an answer, not a failure. */
static void test_not_finite_loss(void **state) {
    (void)state;
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_matrix prediction = matrix_random(PENTE_FLOAT64, 3, 2, 2), target = matrix_random(PENTE_FLOAT64, 3, 2, 2);
    double loss = 0;
    put(&prediction, 2, 1, 1e200);
    OK(pente_mse_forward(mse, &prediction, &target, NULL, &loss));
    assert_true(isinf(loss));
    put(&prediction, 2, 1, NAN);
    OK(pente_mse_forward(mse, &prediction, &target, NULL, &loss));
    assert_true(isnan(loss));
    matrix_free(&prediction);
    matrix_free(&target);
    OK(pente_mse_free(mse));
}

/* 2 g / N, where 2 g is beyond the range and the whole is not. */
static void test_large_upstream_gradient(void **state) {
    (void)state;
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_matrix prediction = matrix_new(PENTE_FLOAT64, 4, 1, 1), target = matrix_new(PENTE_FLOAT64, 4, 1, 1);
    pente_matrix upstream = matrix_new(PENTE_FLOAT64, 1, 1, 1), gradient = matrix_new(PENTE_FLOAT64, 4, 1, 1);
    fill(&prediction, 1);
    fill(&target, 0);
    fill(&upstream, 1.5e308);
    OK(pente_mse_backward(mse, &prediction, &target, NULL, &upstream, &gradient, NULL));
    assert_true(get(&gradient, 3, 0) == 1.5e308 / 2);
    pente_matrix *matrices[] = {&prediction, &target, &upstream, &gradient};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    OK(pente_mse_free(mse));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_long_sum),
        cmocka_unit_test(test_long_sum_of_weights),
        cmocka_unit_test(test_zero_weights),
        cmocka_unit_test(test_not_finite_loss),
        cmocka_unit_test(test_large_upstream_gradient),
    };
    return cmocka_run_group_tests_name("mse", tests, NULL, NULL);
}
