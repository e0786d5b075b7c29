/* What a chain is made of: names, shapes that must fit, chains within chains, initial parameters from one generator. */
#include "layers.h"
#include "oracle.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is the number in the message, by itself? */
static bool says_number(int64_t number) {
    const char *message = pente_last_error();
    for (const char *c = message; *c; c++) {
        char *end = NULL;
        if (!isdigit((unsigned char)*c) || (c > message && isalnum((unsigned char)c[-1]))) continue;
        if (strtoll(c, &end, 10) == number) return true;
        c = end - 1;
    }
    print_error("%s\n    does not say %d\n", message, (int)number);
    return false;
}

static pente_layer_info info_of(const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    assert_int_equal(info.struct_size, sizeof info);
    return info;
}

/* ---- Names, infos ---- */

typedef struct named {
    const char *name;
    int64_t rows, columns;
    int32_t rank, trained;
} named;

static void check_names(pente_layer *layer, const named *expected, int64_t count) {
    assert_int_equal(info_of(layer).parameter_count, count);
    for (int64_t i = 0; i < count; i++) {
        char name[64];
        pente_parameter_info info = PENTE_PARAMETER_INFO_INIT;
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        assert_string_equal(name, expected[i].name);
        OK(pente_layer_get_parameter_info(layer, i, &info));
        pente_matrix view = parameter_of(layer, name), gradient = gradient_of(layer, name);
        pente_matrix value = matrix_random(view.dtype, view.rows, view.columns, view.columns + 1);
        assert_true(info.rows == expected[i].rows && info.columns == expected[i].columns);
        assert_true(view.rows == info.rows && view.columns == info.columns);
        assert_true(gradient.rows == info.rows && gradient.columns == info.columns);
        assert_true(info.rank == expected[i].rank && info.trained == expected[i].trained);
        assert_int_equal(info.struct_size, sizeof info);
        OK(pente_layer_set_parameter(layer, name, &value));
        SAME_BITS(view, value);
        matrix_free(&value);
    }
    char name[64];
    pente_parameter_info info = PENTE_PARAMETER_INFO_INIT;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_name(layer, count, name, sizeof name));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_get_parameter_info(layer, count, &info));
}

static void test_names(void **state) {
    (void)state;
    static const named of_tall[] = {{"0.mean", 1, 13, 1, 0}, {"0.scale", 1, 13, 1, 0}, {"1.weight", 8, 13, 2, 1},
                                    {"1.bias", 1, 8, 1, 1},  {"3.weight", 5, 8, 2, 1}, {"3.bias", 1, 5, 1, 1},
                                    {"5.weight", 2, 5, 2, 1}, {"5.bias", 1, 2, 1, 1}};
    static const named of_nested[] = {{"1.0.mean", 1, 2, 1, 0},     {"1.0.scale", 1, 2, 1, 0},
                                      {"1.2.0.weight", 3, 2, 2, 1}, {"1.2.0.bias", 1, 3, 1, 1},
                                      {"2.weight", 4, 3, 2, 1},     {"2.bias", 1, 4, 1, 1}};
    static const named of_own[] = {{"0.weight", 3, 2, 2, 1}, {"0.bias", 1, 3, 1, 1}};
    static const char *const absent[] = {"", "0", "0.", "1.weigh", "weight", "01.weight", "1.weight.", "6.weight",
                                         "-1.weight", "2.weight", "1..weight", "+1.weight"};
    pente_layer *tall = tall_chain_new(PENTE_FLOAT32, 1);
    check_names(tall, of_tall, COUNT(of_tall));
    for (size_t i = 0; i < COUNT(absent); i++) {
        pente_matrix view = {0};
        REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_view(tall, absent[i], &view));
        REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_get_parameter(tall, absent[i], &view));
    }
    OK(pente_layer_free(tall));

    pente_layer *inner = CHAIN(linear_new(PENTE_FLOAT64, 2, 3, 1), activation_new(PENTE_FLOAT64, PENTE_RELU));
    pente_layer *middle = CHAIN(scaler_new(PENTE_FLOAT64, 2), activation_new(PENTE_FLOAT64, PENTE_TANH), inner);
    pente_layer *nested = CHAIN(activation_new(PENTE_FLOAT64, PENTE_TANH), middle, linear_new(PENTE_FLOAT64, 3, 4, 1));
    check_names(nested, of_nested, COUNT(of_nested));
    OK(pente_layer_free(nested));

    affine own = {0};
    affine_new(&own, PENTE_FLOAT32, 2, 3, 1);
    pente_layer *of_custom = CHAIN(own.layer);
    check_names(of_custom, of_own, COUNT(of_own));
    OK(pente_layer_free(of_custom));
    assert_int_equal(own.releases, 1);
}

/* The eleventh layer's parameters are "10.weight" and "10.bias", in the layers' order and not in the alphabet's. */
static void test_many_layers(void **state) {
    (void)state;
    pente_layer *layers[120], *chain = NULL;
    for (int i = 0; i < 120; i++) layers[i] = linear_new(PENTE_FLOAT32, 1 + i % 3, 1 + (i + 1) % 3, (uint64_t)i);
    OK(pente_chain_new(layers, 120, &chain));
    for (int i = 0; i < 120; i++) {
        char name[16], expected[16];
        for (int k = 0; k < 2; k++) {
            OK(pente_layer_parameter_name(chain, 2 * i + k, name, sizeof name));
            snprintf(expected, sizeof expected, "%d.%s", i, k ? "bias" : "weight");
            assert_string_equal(name, expected);
            const char *own = strchr(expected, '.') + 1;
            assert_ptr_equal(parameter_of(chain, name).data, parameter_of(layers[i], own).data);
        }
    }
    for (int i = 0; i < 120; i++) OK(pente_layer_free(layers[i]));
    OK(pente_layer_free(chain));
}

static void test_infos(void **state) {
    (void)state;
    pente_layer *chain = CHAIN(activation_new(PENTE_FLOAT64, PENTE_SOFTPLUS), linear_new(PENTE_FLOAT64, 3, 4, 1),
                               activation_new(PENTE_FLOAT64, PENTE_LEAKY_RELU), scaler_new(PENTE_FLOAT64, 4));
    static const pente_layer_info expected[] = {
        {0, 0, 0, 0, PENTE_FLOAT64, PENTE_ACTIVATION, 0, PENTE_SOFTPLUS, 0},
        {0, 3, 4, 2, PENTE_FLOAT64, PENTE_LINEAR, 0, 0, 0},
        {0, 0, 0, 0, PENTE_FLOAT64, PENTE_ACTIVATION, 0, PENTE_LEAKY_RELU, 0.01},
        {0, 4, 4, 2, PENTE_FLOAT64, PENTE_SCALER, 0, 0, 0},
        {0, 3, 4, 4, PENTE_FLOAT64, PENTE_CHAIN, 4, 0, 0},
    };
    for (int i = 0; i < 5; i++) {
        pente_layer *layer = chain;
        if (i < 4) OK(pente_chain_get_layer(chain, i, &layer));
        pente_layer_info info = info_of(layer);
        assert_true(info.in_features == expected[i].in_features && info.out_features == expected[i].out_features);
        assert_true(info.parameter_count == expected[i].parameter_count && info.dtype == expected[i].dtype);
        assert_true(info.kind == expected[i].kind && info.layer_count == expected[i].layer_count);
        assert_true(info.activation == expected[i].activation && info.negative_slope == expected[i].negative_slope);
        if (i < 4) OK(pente_layer_free(layer));
    }
    OK(pente_layer_free(chain));
}

/* ---- What does not fit ---- */

static void check_refusal(pente_status status, pente_layer *const *layers, int64_t count) {
    pente_layer *chain = (pente_layer *)&chain, *kept = chain;
    REFUSED(status, pente_chain_new(layers, count, &chain));
    assert_ptr_equal(chain, kept);
}

static void test_shapes(void **state) {
    (void)state;
    pente_layer *three_to_four = linear_new(PENTE_FLOAT32, 3, 4, 1), *five_to_two = linear_new(PENTE_FLOAT32, 5, 2, 1);
    pente_layer *tanh = activation_new(PENTE_FLOAT32, PENTE_TANH), *scaler = scaler_new(PENTE_FLOAT32, 7);
    pente_layer *wide = linear_new(PENTE_FLOAT64, 4, 4, 1), *chain = NULL;
    OK(pente_chain_new(&three_to_four, 1, &chain));
    check_refusal(PENTE_SHAPE_MISMATCH, (pente_layer *[]){three_to_four, five_to_two}, 2);
    assert_true(says_number(0) && says_number(1) && says_number(4) && says_number(5));
    check_refusal(PENTE_SHAPE_MISMATCH, (pente_layer *[]){three_to_four, tanh, five_to_two}, 3);
    assert_true(says_number(0) && says_number(2) && says_number(4) && says_number(5));
    check_refusal(PENTE_SHAPE_MISMATCH, (pente_layer *[]){tanh, five_to_two, tanh, scaler}, 4);
    assert_true(says_number(1) && says_number(3) && says_number(2) && says_number(7));
    check_refusal(PENTE_SHAPE_MISMATCH, (pente_layer *[]){tanh, chain, tanh, scaler}, 4);
    assert_true(says_number(1) && says_number(3) && says_number(4) && says_number(7));
    check_refusal(PENTE_DTYPE_MISMATCH, (pente_layer *[]){three_to_four, wide}, 2);
    assert_true(says_number(1));
    /* A number of columns must come from somewhere. */
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){tanh}, 1);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){tanh, tanh}, 2);
    pente_layer *all[] = {three_to_four, five_to_two, tanh, scaler, wide, chain};
    for (size_t i = 0; i < COUNT(all); i++) OK(pente_layer_free(all[i]));
}

static void test_passes_of_wrong_shape(void **state) {
    (void)state;
    pente_layer *chain = CHAIN(activation_new(PENTE_FLOAT32, PENTE_TANH), linear_new(PENTE_FLOAT32, 3, 4, 1),
                               activation_new(PENTE_FLOAT32, PENTE_RELU));
    pente_matrix x = matrix_random(PENTE_FLOAT32, 5, 3, 3), y = matrix_random(PENTE_FLOAT32, 5, 4, 4);
    pente_matrix narrow_x = x, narrow_y = y, kept = matrix_copy(&y), weight = parameter_of(chain, "1.weight");
    narrow_x.columns = 2;
    narrow_y.columns = 3;
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(chain, NULL, &narrow_x, &y));
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(chain, NULL, &x, &narrow_y));
    /* The memory of the layers inside is the chain's. */
    pente_matrix over = {weight.data, 1, 4, 4, PENTE_FLOAT32}, row = rows_of(&x, 4, 1);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_forward(chain, NULL, &row, &over));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_set_parameter(chain, "1.weight", &weight));
    SAME_BITS(y, kept);
    OK(pente_layer_free(chain));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&kept);
}

/* ---- Depth ---- */

/* 64 chains one in another are taken, and work; a further one is not. */
static void test_depth(void **state) {
    (void)state;
    pente_layer *chain = linear_new(PENTE_FLOAT32, 2, 2, 1), *plain = linear_new(PENTE_FLOAT32, 2, 2, 1);
    char name[200] = "", expected[200] = "weight";
    for (int depth = 1; depth <= 64; depth++) {
        chain = CHAIN(chain);
        memmove(expected + 2, expected, strlen(expected) + 1);
        memcpy(expected, "0.", 2);
    }
    check_refusal(PENTE_INVALID_ARGUMENT, &chain, 1);
    assert_true(says_number(64));
    OK(pente_layer_parameter_name(chain, 0, name, sizeof name));
    assert_string_equal(name, expected);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgds[] = {sgd_of(chain, 0.1, 0.5), sgd_of(plain, 0.1, 0.5)};
    pente_trainer *trainers[] = {trainer_of(chain, mse, sgds[0]), trainer_of(plain, mse, sgds[1])};
    pente_matrix x = matrix_random(PENTE_FLOAT32, 10, 2, 2), y = matrix_random(PENTE_FLOAT32, 10, 2, 2);
    for (int i = 0; i < 2; i++) OK(pente_trainer_step(trainers[i], &x, &y, NULL, NULL));
    pente_matrix weights[] = {parameter_of(chain, expected), parameter_of(plain, "weight")};
    SAME_BITS(weights[0], weights[1]);
    for (int i = 0; i < 2; i++) {
        OK(pente_trainer_free(trainers[i]));
        OK(pente_sgd_free(sgds[i]));
    }
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(plain));
    matrix_free(&x);
    matrix_free(&y);
}

/* ---- Initial parameters ---- */

/* Is the parameter U(-bound, bound) from the generator, to within rounding? */
static bool is_drawn(mt19937 *generator, const pente_matrix *m, double bound) {
    for (int64_t i = 0; i < m->rows; i++) {
        for (int64_t j = 0; j < m->columns; j++) {
            double u = 0;
            if (m->dtype == PENTE_FLOAT32) {
                u = (mt19937_draw(generator) & 0xffffff) * 0x1p-24;
            } else {
                uint64_t high = mt19937_draw(generator), low = mt19937_draw(generator);
                u = (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
            }
            double expected = (2 * u - 1) * bound, error = fabs(get(m, i, j) - expected);
            if (error > (m->dtype == PENTE_FLOAT32 ? 1e-7 : 1e-15)) return false;
        }
    }
    return true;
}

/* All linear layers, also of the chains inside, draw in their order from one generator; other layers stay. */
static void test_reset_parameters(void **state) {
    (void)state;
    static const char *const names[] = {"1.weight", "1.bias", "2.1.weight", "2.1.bias", "3.weight", "3.bias"};
    static const double inputs[] = {4, 4, 6, 6, 3, 3};
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        affine own = {0};
        affine_new(&own, dtype, 2, 2, 5);
        pente_layer *chain = CHAIN(scaler_new(dtype, 4), linear_new(dtype, 4, 6, 1),
                                   CHAIN(activation_new(dtype, PENTE_TANH), linear_new(dtype, 6, 3, 2)),
                                   linear_new(dtype, 3, 2, 3), own.layer);
        fill_gradients(chain);
        snapshot before = snapshot_new(chain);
        OK(pente_layer_reset_parameters(chain, (UINT64_C(9) << 32) + 77)); /* the low 32 bits count */
        snapshot after = snapshot_new(chain);
        mt19937 generator;
        mt19937_seed(&generator, 77);
        for (int i = 0; i < 6; i++) {
            pente_matrix parameter = parameter_of(chain, names[i]);
            assert_true(is_drawn(&generator, &parameter, 1 / sqrt(inputs[i])));
        }
        for (int64_t i = 0; i < before.count; i++) {
            bool is_linear = i >= 2 && i < 8;
            SAME_BITS(before.gradients[i], after.gradients[i]);
            if (!is_linear) SAME_BITS(before.parameters[i], after.parameters[i]);
        }
        pente_layer *linear = linear_new(dtype, 4, 6, 77), *first = NULL;
        OK(pente_chain_get_layer(chain, 1, &first));
        OK(pente_layer_zero_gradients(first));
        assert_true(same_layers(first, linear));
        OK(pente_layer_reset_parameters(linear, 1));
        OK(pente_layer_reset_parameters(linear, 77));
        assert_true(same_layers(first, linear));
        OK(pente_layer_free(first));
        OK(pente_layer_free(linear));
        OK(pente_layer_free(chain));
        snapshot_free(&before);
        snapshot_free(&after);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_many_layers),           cmocka_unit_test(test_infos),
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_passes_of_wrong_shape), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_reset_parameters),
    };
    return cmocka_run_group_tests_name("chain's structure", tests, NULL, NULL);
}
