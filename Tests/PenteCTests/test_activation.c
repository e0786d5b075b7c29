/* Activations: values and derivatives against libm's long double, each element by itself, wherever it stands. */
#include "layers.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const pente_activation all[] = {PENTE_RELU, PENTE_LEAKY_RELU, PENTE_TANH, PENTE_SIGMOID, PENTE_SOFTPLUS};
static const double slope = 0.01;

static pente_layer *leaky_new(pente_dtype dtype, double negative_slope) {
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_layer *layer = NULL;
    options.dtype = dtype;
    options.negative_slope = negative_slope;
    OK(pente_activation_new(PENTE_LEAKY_RELU, &options, &layer));
    return layer;
}

/* ---- What is right ---- */

static long double in(pente_dtype dtype, double value) {
    return dtype == PENTE_FLOAT32 ? (long double)(float)value : (long double)value;
}

static long double value_of(pente_activation activation, pente_dtype dtype, long double x) {
    switch (activation) {
    case PENTE_RELU: return x > 0 ? x : isnan(x) ? x : 0;
    case PENTE_LEAKY_RELU: return x > 0 ? x : in(dtype, slope) * x;
    case PENTE_TANH: return tanhl(x);
    case PENTE_SIGMOID: return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
    default: return x > 0 ? x + log1pl(expl(-x)) : log1pl(expl(x));
    }
}

/* The header's formula, with the library's own y where it has one. */
static long double derivative_of(pente_activation activation, pente_dtype dtype, long double x, long double y) {
    switch (activation) {
    case PENTE_RELU: return !(x <= 0); /* so that a NaN lets through what comes from above, as PyTorch's */
    case PENTE_LEAKY_RELU: return x > 0 ? 1 : in(dtype, slope);
    case PENTE_TANH: return (1 - y) * (1 + y);
    case PENTE_SIGMOID: return y * (1 - y);
    default: return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
    }
}

/* The distance from |value| to the next number of the dtype. */
static long double ulp(pente_dtype dtype, long double value) {
    if (dtype == PENTE_FLOAT32) {
        float magnitude = fabsf((float)value);
        if (magnitude >= FLT_MAX) return FLT_MAX * (long double)FLT_EPSILON;
        return (long double)nextafterf(magnitude, INFINITY) - (long double)magnitude;
    }
    double magnitude = fabs((double)value);
    if (magnitude >= DBL_MAX) return DBL_MAX * (long double)DBL_EPSILON;
    return (long double)nextafter(magnitude, INFINITY) - (long double)magnitude;
}

/* Valgrind computes long double as double, which is no judge of double. */
static bool can_judge(pente_dtype dtype) {
    volatile long double one = 1, more = one + 0x1p-60L;
    return dtype == PENTE_FLOAT32 || more != one;
}

static void expect_near(const char *what, pente_activation activation, pente_dtype dtype, double x, double got,
                        long double wanted, long double tolerance) {
    if (isnan(wanted) ? isnan(got) : (long double)got == wanted) return;
    if (!isinf(got) && fabsl((long double)got - wanted) <= tolerance) return;
    /* Beyond the largest number lies infinity. */
    if (isinf(got) && fabsl(wanted) > (dtype == PENTE_FLOAT32 ? FLT_MAX : DBL_MAX)) return;
    fail_msg("activation %d in dtype %d: %s at %a (%.17g) is %.17g, not %.17Lg", activation, dtype, what, x, x, got,
             wanted);
}

/* ---- Numbers from all over the line ---- */

enum { COLUMNS = 29 };

/* Powers of two of either sign with several mantissas, from denormal numbers to the largest; a fine grid where the
 * functions bend; special values. */
static pente_matrix numbers_new(pente_dtype dtype) {
    static const double mantissas[] = {1, 1.0625, 1.4142135623730951, 1.7320508075688772, 1.9999998807907104};
    static const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, FLT_MIN, -FLT_MIN, 1, -1, 88.7, -88.7, 89,
                                     -89, -103.9, -104, 709.7, -709.7, 710, -710, -745, -746, 20, -20, 9.01, 18.7};
    int lowest = dtype == PENTE_FLOAT32 ? -149 : -1074, highest = dtype == PENTE_FLOAT32 ? 127 : 1023;
    double reach = dtype == PENTE_FLOAT32 ? 110 : 760;
    int64_t count = (int64_t)(2 * COUNT(mantissas)) * (highest - lowest + 1) + 8000 + (int64_t)COUNT(special), done = 0;
    pente_matrix m = matrix_new(dtype, (count + COLUMNS - 1) / COLUMNS, COLUMNS, COLUMNS + 2);
    fill(&m, 0.5);
    for (int exponent = lowest; exponent <= highest; exponent++) {
        for (size_t k = 0; k < 2 * COUNT(mantissas); k++, done++) {
            double magnitude = ldexp(mantissas[k / 2], exponent);
            put(&m, done / COLUMNS, done % COLUMNS, k % 2 ? magnitude : -magnitude);
        }
    }
    for (int i = 0; i < 8000; i++, done++) {
        put(&m, done / COLUMNS, done % COLUMNS, i % 2 ? random_number() * reach : random_number() * 4);
    }
    for (size_t i = 0; i < COUNT(special); i++, done++) put(&m, done / COLUMNS, done % COLUMNS, special[i]);
    return m;
}

static void check_values(pente_activation activation, pente_dtype dtype) {
    pente_layer *layer = activation_new(dtype, activation);
    pente_context *context = NULL;
    pente_matrix x = numbers_new(dtype), y = matrix_new(dtype, x.rows, COLUMNS, COLUMNS + 1);
    pente_matrix ones = matrix_new(dtype, x.rows, COLUMNS, COLUMNS);
    pente_matrix grad_input = matrix_new(dtype, x.rows, COLUMNS, COLUMNS + 3);
    bool exact = activation == PENTE_RELU || activation == PENTE_LEAKY_RELU;
    /* 1 - y^2 is formed from a y that is rounded, and near 1 that rounding is all there is. */
    long double absolute = activation == PENTE_TANH ? ulp(dtype, 1) : 0;
    fill(&ones, 1);
    OK(pente_context_new(layer, &context));
    OK(pente_layer_forward(layer, context, &x, &y));
    OK(pente_layer_backward(layer, context, &ones, &grad_input));
    for (int64_t i = 0; i < x.rows; i++) {
        for (int64_t j = 0; j < COLUMNS; j++) {
            double at = get(&x, i, j), value = get(&y, i, j);
            long double wanted = value_of(activation, dtype, (long double)at);
            long double derivative = derivative_of(activation, dtype, (long double)at, (long double)value);
            expect_near("y", activation, dtype, at, value, wanted, (exact ? 0.5L : 4) * ulp(dtype, wanted));
            expect_near("dy/dx", activation, dtype, at, get(&grad_input, i, j), derivative,
                        (exact ? 0 : 4 * ulp(dtype, derivative)) + absolute);
        }
    }
    assert_true(gap_is_untouched(&x) && gap_is_untouched(&y) && gap_is_untouched(&grad_input));
    OK(pente_context_free(context));
    OK(pente_layer_free(layer));
    pente_matrix *matrices[] = {&x, &y, &ones, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_values_of_float32(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(all); i++) check_values(all[i], PENTE_FLOAT32);
}

static void test_values_of_float64(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) check_values(all[i], PENTE_FLOAT64); /* these need no judge with more digits */
    if (!can_judge(PENTE_FLOAT64)) skip();
    for (size_t i = 2; i < COUNT(all); i++) check_values(all[i], PENTE_FLOAT64);
}

/* At the ends of the line, and in its middle, the value is known. */
static void test_limits(void **state) {
    (void)state;
    static const struct {
        pente_activation activation;
        double x, y, derivative;
    } cases[] = {
        {PENTE_RELU, INFINITY, INFINITY, 1},       {PENTE_RELU, -INFINITY, 0, 0},    {PENTE_RELU, 0.0, 0, 0},
        {PENTE_RELU, -0.0, 0, 0},                  {PENTE_TANH, INFINITY, 1, 0},     {PENTE_TANH, -INFINITY, -1, 0},
        {PENTE_TANH, 0.0, 0, 1},                   {PENTE_TANH, 1e30, 1, 0},         {PENTE_TANH, -1e30, -1, 0},
        {PENTE_SIGMOID, INFINITY, 1, 0},           {PENTE_SIGMOID, -INFINITY, 0, 0}, {PENTE_SIGMOID, 0.0, 0.5, 0.25},
        {PENTE_SIGMOID, -0.0, 0.5, 0.25},          {PENTE_SIGMOID, 1e30, 1, 0},      {PENTE_SIGMOID, -1e30, 0, 0},
        {PENTE_SOFTPLUS, INFINITY, INFINITY, 1},   {PENTE_SOFTPLUS, -INFINITY, 0, 0}, {PENTE_SOFTPLUS, -1e30, 0, 0},
        {PENTE_LEAKY_RELU, INFINITY, INFINITY, 1},
    };
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            pente_layer *layer = activation_new(dtype, cases[i].activation);
            pente_context *context = NULL;
            pente_matrix x = matrix_new(dtype, 1, 1, 1), y = matrix_new(dtype, 1, 1, 1);
            pente_matrix one = matrix_new(dtype, 1, 1, 1), grad_input = matrix_new(dtype, 1, 1, 1);
            put(&x, 0, 0, cases[i].x);
            put(&one, 0, 0, 1);
            OK(pente_context_new(layer, &context));
            OK(pente_layer_forward(layer, context, &x, &y));
            OK(pente_layer_backward(layer, context, &one, &grad_input));
            assert_true(get(&y, 0, 0) == cases[i].y && get(&grad_input, 0, 0) == cases[i].derivative);
            OK(pente_context_free(context));
            OK(pente_layer_free(layer));
            pente_matrix *matrices[] = {&x, &y, &one, &grad_input};
            for (size_t k = 0; k < COUNT(matrices); k++) matrix_free(matrices[k]);
        }
    }
}

/* The negative slope as it is in the dtype; one that the dtype does not hold is refused. */
static void test_slopes(void **state) {
    (void)state;
    static const double slopes[] = {0, 0.01, 0.2, 1, -0.5, 3, 1e-30};
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (size_t i = 0; i < COUNT(slopes); i++) {
            pente_layer *layer = leaky_new(dtype, slopes[i]);
            pente_layer_info info = PENTE_LAYER_INFO_INIT;
            pente_matrix x = matrix_random(dtype, 3, 11, 11), y = matrix_new(dtype, 3, 11, 11);
            OK(pente_layer_forward(layer, NULL, &x, &y));
            for (int64_t k = 0; k < 33; k++) {
                double at = get(&x, k / 11, k % 11);
                double wanted = dtype == PENTE_FLOAT32 ? (float)slopes[i] * (float)at : slopes[i] * at;
                assert_true(get(&y, k / 11, k % 11) == (at > 0 ? at : wanted));
            }
            OK(pente_layer_get_info(layer, &info));
            assert_true(in(dtype, info.negative_slope) == in(dtype, slopes[i]));
            OK(pente_layer_free(layer));
            matrix_free(&x);
            matrix_free(&y);
        }
    }
    for (pente_activation kind = PENTE_RELU; kind <= PENTE_SOFTPLUS; kind++) {
        pente_layer *layer = activation_new(PENTE_FLOAT32, kind);
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        OK(pente_layer_get_info(layer, &info));
        assert_true(info.activation == kind && (info.negative_slope == 0) == (kind != PENTE_LEAKY_RELU));
        OK(pente_layer_free(layer));
    }
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_layer *layer = NULL;
    options.negative_slope = 1e39;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_activation_new(PENTE_LEAKY_RELU, &options, &layer));
    OK(pente_activation_new(PENTE_RELU, &options, &layer)); /* which ignores it */
    OK(pente_layer_free(layer));
    options.dtype = PENTE_FLOAT64;
    OK(pente_activation_new(PENTE_LEAKY_RELU, &options, &layer));
    OK(pente_layer_free(layer));
}

/* ---- Wherever an element stands ---- */

/* In a vector, in a tail, in any row, an element has the bits that it has alone; so has its gradient. */
static void check_alone(pente_activation activation, pente_dtype dtype) {
    pente_layer *layer = activation_new(dtype, activation);
    pente_context *context = NULL;
    OK(pente_context_new(layer, &context));
    for (int64_t columns = 1; columns <= 37; columns += columns < 20 ? 1 : 17) {
        pente_matrix x = matrix_random(dtype, 3, columns, columns + columns % 3), kept = matrix_copy(&x);
        pente_matrix grad_output = matrix_random(dtype, 3, columns, columns);
        pente_matrix y = matrix_new(dtype, 3, columns, columns + 1);
        pente_matrix grad_input = matrix_new(dtype, 3, columns, columns + 2);
        OK(pente_layer_forward(layer, context, &x, &y));
        OK(pente_layer_backward(layer, context, &grad_output, &grad_input));
        for (int64_t k = 0; k < 3 * columns; k++) {
            pente_matrix one_x = rows_of(&x, k / columns, 1), one_g = rows_of(&grad_output, k / columns, 1);
            pente_matrix one_y = matrix_new(dtype, 1, 1, 1), one_grad = matrix_new(dtype, 1, 1, 1);
            one_x.data = (char *)one_x.data + (size_t)(k % columns) * element_size(dtype);
            one_g.data = (char *)one_g.data + (size_t)(k % columns) * element_size(dtype);
            one_x.columns = one_g.columns = 1;
            OK(pente_layer_forward(layer, context, &one_x, &one_y));
            OK(pente_layer_backward(layer, context, &one_g, &one_grad));
            assert_true(get(&one_y, 0, 0) == get(&y, k / columns, k % columns));
            assert_true(get(&one_grad, 0, 0) == get(&grad_input, k / columns, k % columns));
            /* grad_output times the derivative, to within their roundings. */
            long double at = (long double)get(&one_x, 0, 0), value = (long double)get(&one_y, 0, 0);
            long double wanted = derivative_of(activation, dtype, at, value) * (long double)get(&one_g, 0, 0);
            assert_true(fabsl((long double)get(&one_grad, 0, 0) - wanted) <= 8 * ulp(dtype, 1) * fabsl(wanted));
            matrix_free(&one_y);
            matrix_free(&one_grad);
        }
        SAME_BITS(x, kept);
        assert_true(gap_is_untouched(&y) && gap_is_untouched(&grad_input));
        pente_matrix *matrices[] = {&x, &kept, &y, &grad_output, &grad_input};
        for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    }
    OK(pente_context_free(context));
    OK(pente_layer_free(layer));
}

static void test_elements_are_independent(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(all); i++) {
        check_alone(all[i], PENTE_FLOAT32);
        check_alone(all[i], PENTE_FLOAT64);
    }
}

/* Any number of columns, as many out as in; a context serves one width after another. */
static void test_shapes(void **state) {
    (void)state;
    pente_layer *layer = activation_new(PENTE_FLOAT32, PENTE_TANH);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 4, 3, 3), y = matrix_random(PENTE_FLOAT32, 4, 2, 2);
    pente_matrix kept = matrix_copy(&y), narrow = x, wide = matrix_new(PENTE_FLOAT32, 4, 3, 3);
    pente_context *context = NULL;
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(layer, NULL, &x, &y));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_forward(layer, NULL, &x, &x)); /* not in place */
    OK(pente_context_new(layer, &context));
    narrow.columns = 2;
    OK(pente_layer_forward(layer, context, &narrow, &y));
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_backward(layer, context, &kept, &wide));
    OK(pente_layer_backward(layer, context, &kept, NULL));
    OK(pente_layer_zero_gradients(layer));
    OK(pente_context_free(context));
    OK(pente_layer_free(layer));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&kept);
    matrix_free(&wide);
}

static void test_names(void **state) {
    (void)state;
    const char *names[] = {"ReLU()", "LeakyReLU()", "Tanh()", "Sigmoid()", "Softplus()"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char words[100];
        pente_layer *layer = activation_new(PENTE_FLOAT64, PENTE_RELU + (pente_activation)i), *none = NULL;
        REFUSED(PENTE_INVALID_ARGUMENT, pente_chain_get_layer(layer, 0, &none));
        snprintf(words, sizeof words, "pente_chain_get_layer: chain is %s, which is no chain", names[i]);
        assert_string_equal(pente_last_error(), words);
        OK(pente_layer_free(layer));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_of_float32), cmocka_unit_test(test_values_of_float64),
        cmocka_unit_test(test_limits),            cmocka_unit_test(test_slopes),
        cmocka_unit_test(test_elements_are_independent), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("activation", tests, NULL, NULL);
}
