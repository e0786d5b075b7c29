/* Scalers: means and standard deviations against long double, y = (x - mean) / scale, and no optimizer changes them. */
#include "layers.h"

#include <float.h>
#include <math.h>

static long double epsilon_of(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? FLT_EPSILON : DBL_EPSILON;
}

/* Mean and standard deviation of a column, in two passes. */
static void moments(const pente_matrix *x, int64_t column, long double *mean, long double *deviation) {
    long double sum = 0, squares = 0;
    for (int64_t i = 0; i < x->rows; i++) sum += (long double)get(x, i, column);
    *mean = sum / (long double)x->rows;
    for (int64_t i = 0; i < x->rows; i++) {
        long double residual = (long double)get(x, i, column) - *mean;
        squares += residual * residual;
    }
    *deviation = sqrtl(squares / (long double)x->rows);
}

/* ---- fit ---- */

/* Each column around a place of its own, up to 10^6 times its width from 0. */
static void check_fit(pente_dtype dtype, int64_t q, int64_t n) {
    pente_layer *scaler = NULL;
    pente_matrix x = matrix_random(dtype, q, n, n + 2);
    OK(pente_scaler_new(n, dtype, &scaler));
    pente_matrix mean = parameter_of(scaler, "mean"), scale = parameter_of(scaler, "scale");
    for (int64_t j = 0; j < n; j++) {
        assert_true(get(&mean, 0, j) == 0 && get(&scale, 0, j) == 1);
        double far = j % 3 < 2 ? 0 : dtype == PENTE_FLOAT32 ? 1e3 : 1e6, unit = pow(10, (double)(j % 5) - 2);
        for (int64_t i = 0; i < q; i++) put(&x, i, j, (get(&x, i, j) + far) * unit);
    }
    pente_matrix kept = matrix_copy(&x);
    for (int again = 0; again < 2; again++) { /* the second fit starts from what the first has set */
        OK(pente_scaler_fit(scaler, &x));
        for (int64_t j = 0; j < n; j++) {
            long double m, d;
            moments(&x, j, &m, &d);
            if (q == 1) d = 1;
            /* A sum in float64 of q numbers that are `far` off: its rounding, and then the dtype's. */
            long double rounding = (long double)DBL_EPSILON * (fabsl(m) + d) * 2 * (4 + sqrtl((long double)q));
            assert_true(fabsl((long double)get(&mean, 0, j) - m) <= epsilon_of(dtype) * fabsl(m) + rounding);
            assert_true(fabsl((long double)get(&scale, 0, j) - d) <= 2 * epsilon_of(dtype) * d + rounding);
        }
    }
    SAME_BITS(x, kept);
    assert_true(gap_is_untouched(&x));
    OK(pente_layer_free(scaler));
    matrix_free(&x);
    matrix_free(&kept);
}

static void test_fit(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 3, 64, 65, 1500}, columns[] = {1, 2, 7, 8, 16, 33};
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(columns); j++) {
            check_fit(PENTE_FLOAT32, rows[i], columns[j]);
            check_fit(PENTE_FLOAT64, rows[i], columns[j]);
        }
    }
}

/* Columns that a sum of squares by itself, or one in float32, would get wrong. */
static void test_hard_columns(void **state) {
    (void)state;
    enum { ROWS = 1001 };
    pente_matrix x = matrix_new(PENTE_FLOAT64, ROWS, 6, 6), x32 = matrix_new(PENTE_FLOAT32, ROWS, 3, 3);
    pente_layer *scaler = NULL, *scaler32 = NULL;
    for (int64_t i = 0; i < ROWS; i++) {
        put(&x, i, 0, 1e9 + (double)(i % 2));          /* far from 0 for its width */
        put(&x, i, 1, i % 2 ? 1e150 : -1e150);         /* squares near the largest number */
        put(&x, i, 2, i % 2 ? 1e-160 : -1e-160);       /* squares below the smallest */
        put(&x, i, 3, 0.1);                            /* constant, and no sum of such numbers is exact */
        put(&x, i, 4, -1e300);                         /* constant, and its sum is beyond the largest number */
        put(&x, i, 5, i ? 1e-12 : 1);
        put(&x32, i, 0, i % 2 ? 16777215 : 16777216);  /* one unit of float32 apart */
        put(&x32, i, 1, i % 2 ? 3e38 : -3e38);         /* a sum of squares beyond float32 */
        put(&x32, i, 2, 0.1);
    }
    OK(pente_scaler_new(6, PENTE_FLOAT64, &scaler));
    OK(pente_scaler_new(3, PENTE_FLOAT32, &scaler32));
    OK(pente_scaler_fit(scaler32, &x32));
    pente_matrix mean = parameter_of(scaler32, "mean"), scale = parameter_of(scaler32, "scale");
    assert_true(fabs(get(&scale, 0, 0) - 0.5) < 1e-4 && get(&scale, 0, 1) > 2.9e38 && get(&scale, 0, 2) == 1);
    assert_true(get(&mean, 0, 2) == (double)0.1f);
    x.columns = 4;
    pente_layer *four = NULL;
    OK(pente_scaler_new(4, PENTE_FLOAT64, &four));
    OK(pente_scaler_fit(four, &x));
    mean = parameter_of(four, "mean"), scale = parameter_of(four, "scale");
    assert_true(fabs(get(&scale, 0, 0) - 0.5) < 1e-6 && fabs(get(&scale, 0, 1) / 1e150 - 1) < 1e-2);
    assert_true(get(&scale, 0, 3) == 1 && get(&mean, 0, 3) == 0.1);
    /* Too small for its square to be a number: it may pass for constant, but scales are never 0 or NaN. */
    assert_true(get(&scale, 0, 2) == 1 || fabs(get(&scale, 0, 2) / 1e-160 - 1) < 1e-2);
    x.columns = 6;
    pente_status status = pente_scaler_fit(scaler, &x);
    mean = parameter_of(scaler, "mean"), scale = parameter_of(scaler, "scale");
    if (status == PENTE_OK) { /* -1e300 a thousand times: right, or refused and left alone */
        assert_true(get(&mean, 0, 4) == -1e300 && get(&scale, 0, 4) == 1);
    } else {
        assert_int_equal(status, PENTE_INVALID_ARGUMENT);
        for (int64_t j = 0; j < 6; j++) assert_true(get(&mean, 0, j) == 0 && get(&scale, 0, j) == 1);
    }
    pente_layer *scalers[] = {scaler, scaler32, four};
    for (size_t i = 0; i < COUNT(scalers); i++) OK(pente_layer_free(scalers[i]));
    matrix_free(&x);
    matrix_free(&x32);
}

/* In any column. */
static void test_deviation_out_of_range(void **state) {
    (void)state;
    pente_layer *scaler = scaler_new(PENTE_FLOAT32, 3);
    snapshot before = snapshot_new(scaler);
    for (int64_t j = 0; j < 3; j++) {
        pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3);
        for (int64_t i = 0; i < 20; i++) put(&x, i, j, i % 2 ? 1e-42 : -1e-42);
        REFUSED(PENTE_INVALID_ARGUMENT, pente_scaler_fit(scaler, &x));
        assert_true(is_as_in(scaler, &before));
        matrix_free(&x);
    }
    snapshot_free(&before);
    OK(pente_layer_free(scaler));
}

static void test_not_finite(void **state) {
    (void)state;
    static const double culprits[] = {NAN, INFINITY, -INFINITY};
    pente_layer *scaler = scaler_new(PENTE_FLOAT32, 3), *linear = linear_new(PENTE_FLOAT32, 3, 3, 1);
    snapshot before = snapshot_new(scaler);
    for (size_t i = 0; i < COUNT(culprits); i++) {
        pente_matrix x = matrix_random(PENTE_FLOAT32, 70, 3, 3);
        put(&x, 69, 2, culprits[i]);
        REFUSED(PENTE_INVALID_ARGUMENT, pente_scaler_fit(scaler, &x));
        assert_true(is_as_in(scaler, &before));
        put(&x, 69, 2, 1);
        x.columns = 2;
        REFUSED(PENTE_SHAPE_MISMATCH, pente_scaler_fit(scaler, &x));
        x.columns = 3;
        REFUSED(PENTE_INVALID_ARGUMENT, pente_scaler_fit(linear, &x));
        assert_true(is_as_in(scaler, &before));
        matrix_free(&x);
    }
    snapshot_free(&before);
    OK(pente_layer_free(scaler));
    OK(pente_layer_free(linear));
}

/* ---- The layer ---- */

static double scaled(pente_dtype dtype, double x, double mean, double scale) {
    if (dtype == PENTE_FLOAT64) return (x - mean) / scale;
    float difference = (float)x - (float)mean;
    return (double)(difference / (float)scale);
}

static void check_passes(pente_dtype dtype, int64_t q, int64_t n) {
    pente_layer *scaler = scaler_new(dtype, n);
    pente_context *context = NULL;
    pente_matrix x = matrix_random(dtype, q, n, n + 1), y = matrix_new(dtype, q, n, n + 2);
    pente_matrix grad_output = matrix_random(dtype, q, n, n + 3), grad_input = matrix_new(dtype, q, n, n + 1);
    pente_matrix mean = parameter_of(scaler, "mean"), scale = parameter_of(scaler, "scale");
    OK(pente_context_new(scaler, &context));
    OK(pente_layer_forward(scaler, context, &x, &y));
    OK(pente_layer_backward(scaler, context, &grad_output, &grad_input));
    for (int64_t i = 0; i < q; i++) {
        for (int64_t j = 0; j < n; j++) {
            double s = get(&scale, 0, j);
            assert_true(get(&y, i, j) == scaled(dtype, get(&x, i, j), get(&mean, 0, j), s));
            assert_true(get(&grad_input, i, j) == scaled(dtype, get(&grad_output, i, j), 0, s));
        }
    }
    const char *const names[] = {"mean", "scale"};
    for (int k = 0; k < 2; k++) {
        pente_matrix gradient = gradient_of(scaler, names[k]);
        for (int64_t j = 0; j < n; j++) assert_true(get(&gradient, 0, j) == 0);
    }
    assert_true(gap_is_untouched(&y) && gap_is_untouched(&grad_input));
    OK(pente_context_free(context));
    OK(pente_layer_free(scaler));
    pente_matrix *matrices[] = {&x, &y, &grad_output, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_passes(void **state) {
    (void)state;
    for (int64_t n = 1; n < 36; n += 1 + n / 9) {
        check_passes(PENTE_FLOAT32, 3, n);
        check_passes(PENTE_FLOAT64, 3, n);
    }
    check_passes(PENTE_FLOAT32, 1500, 5);
}

/* What unscaled features are to training, in one picture: the same chain diverges without its scaler. */
static void test_why(void **state) {
    (void)state;
    pente_matrix x = matrix_random(PENTE_FLOAT32, 40, 2, 2), y = matrix_new(PENTE_FLOAT32, 40, 1, 1);
    pente_layer *scaler = NULL, *linear = linear_new(PENTE_FLOAT32, 2, 1, 1), *chain = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    double loss = 0;
    for (int64_t i = 0; i < 40; i++) {
        put(&y, i, 0, 3 * get(&x, i, 0) - get(&x, i, 1));
        put(&x, i, 0, 1e3 * get(&x, i, 0) + 5e3);
    }
    OK(pente_scaler_new(2, PENTE_FLOAT32, &scaler));
    OK(pente_scaler_fit(scaler, &x));
    OK(pente_chain_new((pente_layer *[]){scaler, linear}, 2, &chain));
    pente_sgd *sgds[] = {sgd_of(chain, 0.1, 0), sgd_of(linear, 0.1, 0)};
    pente_trainer *trainers[] = {trainer_of(chain, mse, sgds[0]), trainer_of(linear, mse, sgds[1])};
    snapshot before = snapshot_new(scaler);
    for (int step = 0; step < 100; step++) OK(pente_trainer_step(trainers[0], &x, &y, NULL, &loss));
    assert_true(loss < 1e-6 && is_as_in(scaler, &before));
    pente_status status = PENTE_OK;
    for (int step = 0; step < 100 && !status; step++) status = pente_trainer_step(trainers[1], &x, &y, NULL, &loss);
    assert_int_equal(status, PENTE_NOT_FINITE);
    snapshot_free(&before);
    for (int i = 0; i < 2; i++) {
        OK(pente_trainer_free(trainers[i]));
        OK(pente_sgd_free(sgds[i]));
    }
    OK(pente_mse_free(mse));
    pente_layer *layers[] = {scaler, linear, chain};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit),    cmocka_unit_test(test_hard_columns), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_passes), cmocka_unit_test(test_why),          cmocka_unit_test(test_deviation_out_of_range),
    };
    return cmocka_run_group_tests_name("scaler", tests, NULL, NULL);
}
