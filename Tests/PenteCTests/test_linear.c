/* Linear layers: forward and backward against a triple loop, and rows that know nothing of their batch. */
#include "oracle.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <valgrind/valgrind.h>

typedef struct shape {
    int64_t q, n, p;
} shape;

/* Widths on both sides of the vector sizes, and rows on both sides of the block sizes. */
static const int64_t widths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33};
static const int64_t few_rows[] = {1, 2, 3, 6, 7, 13, 16};
static const int64_t many_rows[] = {63,  64,  65,  127, 128, 129,  255,  256,  257,
                                    511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049};
static const shape long_shapes[] = {{0, 1, 1}, {0, 3, 2}, {0, 8, 16}, {0, 13, 1}};
static const shape large_shapes[] = {{70, 300, 40}, {37, 64, 257}, {130, 129, 65}, {5, 1031, 3}, {3, 2, 1030},
                                     {300, 48, 96}, {3, 270000, 2}, {2, 3, 5000}};

/* The rows' memory that a pass may not touch: a stride beyond the columns, by chance. */
static int64_t stride_for(int64_t columns) {
    return columns + random_below(3) * random_below(5);
}

static void check_pass(pente_dtype dtype, shape s, bool bias) {
    model m = model_new(dtype, s.n, s.p, bias, 7);
    pente_matrix x = matrix_random(dtype, s.q, s.n, stride_for(s.n));
    pente_matrix y = matrix_new(dtype, s.q, s.p, stride_for(s.p));
    pente_matrix inferred = matrix_new(dtype, s.q, s.p, stride_for(s.p));
    pente_matrix grad_output = matrix_random(dtype, s.q, s.p, stride_for(s.p));
    pente_matrix grad_input = matrix_new(dtype, s.q, s.n, stride_for(s.n));
    pente_matrix ones = matrix_new(dtype, s.q, 1, 1);
    pente_context *context = NULL;
    fill(&ones, 1);

    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, NULL, &x, &inferred));
    OK(pente_layer_forward(m.layer, context, &x, &y));
    assert_true(is_product("y", &y, &x, false, &m.weight, true, bias ? &m.bias : NULL));
    SAME_BITS(y, inferred);

    OK(pente_layer_backward(m.layer, context, &grad_output, &grad_input));
    assert_true(is_product("grad_input", &grad_input, &grad_output, false, &m.weight, false, NULL));
    assert_true(is_product("weight's gradient", &m.weight_gradient, &grad_output, true, &x, false, NULL));
    if (bias) assert_true(is_product("bias's gradient", &m.bias_gradient, &ones, true, &grad_output, false, NULL));
    assert_true(gap_is_untouched(&y) && gap_is_untouched(&inferred) && gap_is_untouched(&grad_input));

    OK(pente_context_free(context));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&inferred);
    matrix_free(&grad_output);
    matrix_free(&grad_input);
    matrix_free(&ones);
    model_free(&m);
}

static void check_shape(shape s) {
    for (int bias = 0; bias < 2; bias++) {
        check_pass(PENTE_FLOAT32, s, bias);
        check_pass(PENTE_FLOAT64, s, bias);
    }
}

static void test_widths(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(widths); i++) {
        for (size_t j = 0; j < COUNT(widths); j++) {
            check_shape((shape){few_rows[(i + 5 * j) % COUNT(few_rows)], widths[i], widths[j]});
        }
    }
}

static void test_few_rows(void **state) {
    (void)state;
    for (int64_t q = 1; q <= 33; q++) check_shape((shape){q, 1 + q * 5 % 12, 1 + q * 7 % 19});
}

static void test_many_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(many_rows); i++) {
        shape s = long_shapes[i % COUNT(long_shapes)];
        s.q = many_rows[i];
        check_shape(s);
        s = long_shapes[(i + 1) % COUNT(long_shapes)];
        s.q = many_rows[i];
        check_shape(s);
    }
}

static void test_large(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(large_shapes); i++) {
        if (!RUNNING_ON_VALGRIND) check_shape(large_shapes[i]);
        else check_pass(i % 2 ? PENTE_FLOAT32 : PENTE_FLOAT64, large_shapes[i], i % 2); /* fifty times slower */
    }
}

/* The same pass again adds the same gradients; the first sum is not lost, and nothing else is added. */
static void check_accumulation(pente_dtype dtype, int64_t q) {
    model m = model_new(dtype, 11, 5, true, 3);
    pente_matrix x = matrix_random(dtype, q, 11, 11), y = matrix_new(dtype, q, 5, 5);
    pente_matrix grad_output = matrix_random(dtype, q, 5, 5), ones = matrix_new(dtype, q, 1, 1);
    pente_context *context = NULL;
    fill(&ones, 1);
    OK(pente_context_new(m.layer, &context));
    fill_random(&m.weight_gradient);
    fill_random(&m.bias_gradient);
    for (int pass = 0; pass < 3; pass++) {
        pente_matrix weight_before = matrix_copy(&m.weight_gradient), bias_before = matrix_copy(&m.bias_gradient);
        fill_random(&x);
        OK(pente_layer_forward(m.layer, context, &x, &y));
        OK(pente_layer_backward(m.layer, context, &grad_output, NULL));
        assert_true(is_product("weight's sum", &m.weight_gradient, &grad_output, true, &x, false, &weight_before));
        assert_true(is_product("bias's sum", &m.bias_gradient, &ones, true, &grad_output, false, &bias_before));
        matrix_free(&weight_before);
        matrix_free(&bias_before);
    }
    OK(pente_layer_zero_gradients(m.layer));
    for (int64_t i = 0; i < 5; i++) {
        for (int64_t j = 0; j < 11; j++) assert_true(get(&m.weight_gradient, i, j) == 0);
        assert_true(get(&m.bias_gradient, 0, i) == 0);
    }
    OK(pente_context_free(context));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&grad_output);
    matrix_free(&ones);
    model_free(&m);
}

static void test_accumulation(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 9, 600};
    for (size_t i = 0; i < COUNT(rows); i++) {
        check_accumulation(PENTE_FLOAT32, rows[i]);
        check_accumulation(PENTE_FLOAT64, rows[i]);
    }
}

/* Each row by itself, and in blocks, gives the bits that it gives in the whole batch; for sixteen outputs and more, in
 * blocks of a multiple of eight rows. */
static void check_rows(pente_dtype dtype, shape s) {
    static const int64_t blocks[] = {8, 64, 104, 1, 2, 5, 6, 100};
    model m = model_new(dtype, s.n, s.p, true, 11);
    pente_matrix x = matrix_random(dtype, s.q, s.n, s.n + 1), y = matrix_new(dtype, s.q, s.p, s.p);
    OK(pente_layer_forward(m.layer, NULL, &x, &y));
    for (size_t i = 0; i < (s.p < 16 ? COUNT(blocks) : 3); i++) {
        pente_matrix again = matrix_new(dtype, s.q, s.p, s.p + 3);
        for (int64_t first = 0; first < s.q; first += blocks[i]) {
            int64_t rows = s.q - first < blocks[i] ? s.q - first : blocks[i];
            pente_matrix some_x = rows_of(&x, first, rows), some_y = rows_of(&again, first, rows);
            OK(pente_layer_forward(m.layer, NULL, &some_x, &some_y));
        }
        SAME_BITS(again, y);
        matrix_free(&again);
    }
    matrix_free(&x);
    matrix_free(&y);
    model_free(&m);
}

static void test_rows_are_independent(void **state) {
    (void)state;
    static const shape shapes[] = {{13, 1, 1},   {70, 13, 1},  {71, 17, 2},   {65, 8, 8},     {67, 16, 16},
                                   {64, 33, 15}, {77, 5, 40},  {140, 70, 33}, {1100, 9, 3},   {33, 300, 17},
                                   {29, 600, 1}, {41, 64, 64}, {2050, 4, 1},  {23, 1030, 24}, {19, 3, 300}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        check_rows(PENTE_FLOAT32, shapes[i]);
        check_rows(PENTE_FLOAT64, shapes[i]);
    }
}

/* NaN and infinity go where the mathematics sends them, and to no other row. */
static void test_not_finite_rows(void **state) {
    (void)state;
    model m = model_new(PENTE_FLOAT32, 9, 3, true, 1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 40, 9, 9), y = matrix_new(PENTE_FLOAT32, 40, 3, 3);
    put(&x, 17, 4, NAN);
    OK(pente_layer_forward(m.layer, NULL, &x, &y));
    for (int64_t i = 0; i < 40; i++) {
        for (int64_t j = 0; j < 3; j++) assert_true((isnan(get(&y, i, j)) != 0) == (i == 17));
    }
    matrix_free(&x);
    matrix_free(&y);
    model_free(&m);
}

static void check_backward_once(model *m, pente_context *context, pente_matrix *x, pente_matrix *y) {
    REFUSED(PENTE_INVALID_STATE, pente_layer_backward(m->layer, context, y, NULL));
    OK(pente_layer_forward(m->layer, context, x, y));
    OK(pente_layer_backward(m->layer, context, y, NULL));
    pente_matrix kept = matrix_copy(&m->weight_gradient);
    REFUSED(PENTE_INVALID_STATE, pente_layer_backward(m->layer, context, y, NULL));
    SAME_BITS(m->weight_gradient, kept);
    matrix_free(&kept);
}

/* Backward wants a forward of its own; a context serves batch after batch, and two forwards leave the last. */
static void test_context(void **state) {
    (void)state;
    model m = model_new(PENTE_FLOAT64, 4, 2, true, 1);
    pente_context *context = NULL;
    OK(pente_context_new(m.layer, &context));
    for (int64_t q = 1; q < 6; q++) {
        pente_matrix x = matrix_random(PENTE_FLOAT64, q, 4, 4), y = matrix_new(PENTE_FLOAT64, q, 2, 2);
        check_backward_once(&m, context, &x, &y);
        matrix_free(&x);
        matrix_free(&y);
    }

    pente_matrix first = matrix_random(PENTE_FLOAT64, 3, 4, 4), last = matrix_random(PENTE_FLOAT64, 2, 4, 4);
    pente_matrix y = matrix_new(PENTE_FLOAT64, 3, 2, 2), grad_output = matrix_random(PENTE_FLOAT64, 2, 2, 2);
    pente_matrix short_y = rows_of(&y, 0, 2);
    OK(pente_layer_zero_gradients(m.layer));
    OK(pente_layer_forward(m.layer, context, &first, &y));
    OK(pente_layer_forward(m.layer, context, &last, &short_y));
    OK(pente_layer_backward(m.layer, context, &grad_output, NULL));
    assert_true(is_product("gradient", &m.weight_gradient, &grad_output, true, &last, false, NULL));
    /* A forward that is refused leaves the pass before it. */
    OK(pente_layer_forward(m.layer, context, &last, &short_y));
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(m.layer, context, &first, &short_y));
    OK(pente_layer_backward(m.layer, context, &grad_output, NULL));
    /* Memory that was borrowed may go while a pass is pending: nothing may look at it again. */
    OK(pente_layer_forward(m.layer, context, &first, &y));
    matrix_free(&first);
    OK(pente_layer_forward(m.layer, NULL, &last, &short_y));
    OK(pente_layer_forward(m.layer, context, &last, &short_y));
    OK(pente_layer_backward(m.layer, context, &grad_output, NULL));
    /* A context outlives its layer's handle, and holds the layer. */
    model_free(&m);
    OK(pente_context_free(context));
    matrix_free(&last);
    matrix_free(&y);
    matrix_free(&grad_output);
}

static void test_parameters(void **state) {
    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        model m = model_new(PENTE_FLOAT64, 3, 2, bias, 1);
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        char name[8] = "unset";
        OK(pente_layer_get_info(m.layer, &info));
        assert_int_equal(info.in_features, 3);
        assert_int_equal(info.out_features, 2);
        assert_int_equal(info.parameter_count, 1 + bias);
        assert_int_equal(info.dtype, PENTE_FLOAT64);
        assert_int_equal(info.struct_size, sizeof info);
        OK(pente_layer_parameter_name(m.layer, 0, name, 7)); /* "weight" and its NUL */
        assert_string_equal(name, "weight");
        if (bias) {
            OK(pente_layer_parameter_name(m.layer, 1, name, 5));
            assert_string_equal(name, "bias");
        } else {
            pente_matrix view = {0};
            REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_name(m.layer, 1, name, 8));
            REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_view(m.layer, "bias", &view));
        }

        pente_matrix value = matrix_random(PENTE_FLOAT64, 2, 3, 5), back = matrix_new(PENTE_FLOAT64, 2, 3, 4);
        OK(pente_layer_set_parameter(m.layer, "weight", &value));
        SAME_BITS(value, m.weight);
        OK(pente_layer_get_parameter(m.layer, "weight", &back));
        SAME_BITS(value, back);
        assert_true(gap_is_untouched(&back) && gap_is_untouched(&value));
        fill_random(&m.weight_gradient);
        OK(pente_layer_get_gradient(m.layer, "weight", &back));
        SAME_BITS(back, m.weight_gradient);
        matrix_free(&value);
        matrix_free(&back);
        model_free(&m);
    }
}

/* Each seed has weights of its own, within the bounds; those of seed 0 are the options' default. */
static void test_initial_weights(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        model one = model_new(dtype, 4, 50, true, 1), again = model_new(dtype, 4, 50, true, 1);
        model same_low_bits = model_new(dtype, 4, 50, true, (UINT64_C(7) << 32) + 1);
        model two = model_new(dtype, 4, 50, true, 2);
        assert_true(same_model(&one, &again));
        assert_true(same_model(&one, &same_low_bits));
        assert_true(memcmp(one.weight.data, two.weight.data, 50 * 4 * element_size(dtype)) != 0);
        double low = 0, high = 0;
        for (int64_t i = 0; i < 50; i++) {
            for (int64_t j = 0; j < 4; j++) {
                double weight = get(&one.weight, i, j);
                low = weight < low ? weight : low;
                high = weight > high ? weight : high;
                assert_true(get(&one.weight_gradient, i, j) == 0);
            }
        }
        assert_true(low >= -0.5 && low < -0.4 && high <= 0.5 && high > 0.4);
        model_free(&one);
        model_free(&again);
        model_free(&same_low_bits);
        model_free(&two);
    }
}

/* As the README shows it. */
static void test_an_error_as_it_is_seen(void **state) {
    static float values[32 * 7], results[32];
    pente_layer *layer;
    (void)state;
    assert_int_equal(pente_linear_new(10, 1, NULL, &layer), PENTE_OK);
    pente_matrix x = pente_float32_matrix(values, 32, 7), y = pente_float32_matrix(results, 32, 1);
    if (pente_layer_forward(layer, NULL, &x, &y) != PENTE_OK) puts(pente_last_error());
    assert_string_equal(pente_last_error(), "pente_layer_forward: x is 32×7, but the layer takes 10 columns");
    pente_layer_free(layer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_rows_are_independent),
        cmocka_unit_test(test_not_finite_rows),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_initial_weights),
        cmocka_unit_test(test_an_error_as_it_is_seen),
    };
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
