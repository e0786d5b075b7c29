/* Layers of one's own: what their callbacks are given, that they train like built-in ones, and when they are let go. */
#include "layers.h"
#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool near(const pente_matrix *a, const pente_matrix *b, double tolerance) {
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t j = 0; j < a->columns; j++) {
            if (fabs(get(a, i, j) - get(b, i, j)) <= tolerance) continue;
            print_error("element (%d, %d) is %.17g against %.17g\n", (int)i, (int)j, get(a, i, j), get(b, i, j));
            return false;
        }
    }
    return true;
}

static bool near_layers(const pente_layer *a, const pente_layer *b, double tolerance) {
    snapshot of_a = snapshot_new(a), of_b = snapshot_new(b);
    bool are_near = of_a.count == of_b.count;
    for (int64_t i = 0; are_near && i < of_a.count; i++) {
        are_near = near(&of_a.parameters[i], &of_b.parameters[i], tolerance) &&
                   near(&of_a.gradients[i], &of_b.gradients[i], tolerance);
    }
    snapshot_free(&of_a);
    snapshot_free(&of_b);
    return are_near;
}

/* ---- A linear layer written as one's own ---- */

static void check_passes(pente_dtype dtype, int64_t q) {
    affine own = {0};
    affine_new(&own, dtype, 5, 3, 7);
    pente_matrix weight = parameter_of(own.layer, "weight"), bias = parameter_of(own.layer, "bias");
    pente_matrix weight_gradient = gradient_of(own.layer, "weight"), bias_gradient = gradient_of(own.layer, "bias");
    pente_matrix x = matrix_random(dtype, q, 5, 8), y = matrix_new(dtype, q, 3, 4);
    pente_matrix inferred = matrix_new(dtype, q, 3, 3);
    pente_matrix grad_output = matrix_random(dtype, q, 3, 5), grad_input = matrix_new(dtype, q, 5, 6);
    pente_matrix ones = matrix_new(dtype, q, 1, 1), kept = matrix_copy(&x);
    pente_context *context = NULL;
    fill(&ones, 1);
    OK(pente_context_new(own.layer, &context));
    OK(pente_layer_forward(own.layer, NULL, &x, &inferred));
    for (int pass = 0; pass < 3; pass++) { /* gradients are added to those of the passes before */
        pente_matrix weight_before = matrix_copy(&weight_gradient), bias_before = matrix_copy(&bias_gradient);
        OK(pente_layer_forward(own.layer, context, &x, &y));
        SAME_BITS(y, inferred);
        assert_true(is_product("y", &y, &x, false, &weight, true, &bias));
        OK(pente_layer_backward(own.layer, context, &grad_output, pass == 1 ? NULL : &grad_input));
        assert_true(is_product("grad_input", &grad_input, &grad_output, false, &weight, false, NULL));
        assert_true(is_product("weight's sum", &weight_gradient, &grad_output, true, &x, false, &weight_before));
        assert_true(is_product("bias's sum", &bias_gradient, &ones, true, &grad_output, false, &bias_before));
        matrix_free(&weight_before);
        matrix_free(&bias_before);
    }
    assert_true(own.forwards == 4 && own.backwards == 3 && own.wrong == 0); /* the whole batch at once */
    assert_true(gap_is_untouched(&x) && gap_is_untouched(&y) && gap_is_untouched(&grad_input));
    SAME_BITS(x, kept);
    OK(pente_context_free(context));
    OK(pente_layer_free(own.layer));
    assert_int_equal(own.releases, 1);
    pente_matrix *matrices[] = {&x, &y, &inferred, &grad_output, &grad_input, &ones, &kept};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_passes(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 33, 64, 65, 1500};
    for (size_t i = 0; i < COUNT(rows); i++) {
        check_passes(PENTE_FLOAT32, rows[i]);
        check_passes(PENTE_FLOAT64, rows[i]);
    }
}

/* Trained by steps and by a fit, alone and between other layers, it comes to what a linear layer comes to. */
static void check_training(pente_layer *own, pente_layer *built_in, double tolerance) {
    enum { Q = 50 };
    pente_layer *layers[] = {own, built_in};
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(own, &info));
    pente_matrix x = matrix_random(info.dtype, Q, info.in_features, info.in_features + 1);
    pente_matrix y = matrix_random(info.dtype, Q, info.out_features, info.out_features);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    double losses[2];
    options.epochs = 3;
    options.batch_size = 16;
    options.validation_x = &x;
    options.validation_y = &y;
    options.patience = 3;
    for (int i = 0; i < 2; i++) {
        pente_sgd *sgd = sgd_of(layers[i], 0.05, 0.9);
        pente_trainer *trainer = trainer_of(layers[i], mse, sgd);
        for (int step = 0; step < 20; step++) OK(pente_trainer_step(trainer, &x, &y, NULL, &losses[i]));
        OK(pente_trainer_fit(trainer, &x, &y, &options, NULL));
        OK(pente_trainer_free(trainer));
        OK(pente_sgd_free(sgd));
    }
    assert_true(fabs(losses[0] - losses[1]) <= tolerance);
    assert_true(near_layers(own, built_in, tolerance));
    OK(pente_mse_free(mse));
    for (int i = 0; i < 2; i++) OK(pente_layer_free(layers[i]));
    matrix_free(&x);
    matrix_free(&y);
}

static void test_training(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        double tolerance = dtype == PENTE_FLOAT32 ? 1e-5 : 1e-13;
        affine alone = {0}, first = {0}, middle = {0}, last = {0};
        affine_new(&alone, dtype, 4, 2, 3);
        check_training(alone.layer, linear_new(dtype, 4, 2, 3), tolerance);
        affine_new(&first, dtype, 4, 3, 3);
        check_training(CHAIN(first.layer, activation_new(dtype, PENTE_TANH), linear_new(dtype, 3, 2, 4)),
                       CHAIN(linear_new(dtype, 4, 3, 3), activation_new(dtype, PENTE_TANH), linear_new(dtype, 3, 2, 4)),
                       tolerance);
        affine_new(&middle, dtype, 4, 4, 3);
        check_training(CHAIN(linear_new(dtype, 3, 4, 1), middle.layer, linear_new(dtype, 4, 1, 1)),
                       CHAIN(linear_new(dtype, 3, 4, 1), linear_new(dtype, 4, 4, 3), linear_new(dtype, 4, 1, 1)),
                       tolerance);
        affine_new(&last, dtype, 4, 2, 3);
        check_training(CHAIN(scaler_new(dtype, 4), CHAIN(activation_new(dtype, PENTE_SOFTPLUS), last.layer)),
                       CHAIN(scaler_new(dtype, 4), activation_new(dtype, PENTE_SOFTPLUS), linear_new(dtype, 4, 2, 3)),
                       tolerance);
        affine *const owns[] = {&alone, &first, &middle, &last};
        for (size_t i = 0; i < COUNT(owns); i++) assert_true(owns[i]->wrong == 0 && owns[i]->releases == 1);
    }
}

/* ---- A function without parameters, for any number of columns ---- */

static pente_status square(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                           void *user_data) {
    (void)parameters;
    ++*(int *)user_data;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) put(y, i, j, get(x, i, j) * get(x, i, j));
    }
    return PENTE_OK;
}

static pente_status square_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                    const pente_matrix *grad_output, const pente_matrix *grad_input,
                                    const pente_matrix *gradients, void *user_data) {
    (void)parameters, (void)y, (void)gradients, (void)user_data;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) put(grad_input, i, j, 2 * get(x, i, j) * get(grad_output, i, j));
    }
    return PENTE_OK;
}

static pente_custom_options square_options(int *count) {
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    options.forward = square;
    options.backward = square_backward;
    options.user_data = count;
    return options;
}

/* It has no parameter, so it may stand in several places of a chain; release may be NULL. */
static void test_any_number_of_columns(void **state) {
    (void)state;
    int count = 0;
    pente_custom_options options = square_options(&count);
    pente_layer *squares = NULL, *linear = linear_new(PENTE_FLOAT64, 3, 2, 1), *chain = NULL;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    OK(pente_custom_new(&options, &squares));
    OK(pente_layer_get_info(squares, &info));
    assert_true(info.kind == PENTE_CUSTOM && info.in_features == 0 && info.out_features == 0);
    assert_true(info.parameter_count == 0 && info.dtype == PENTE_FLOAT64 && info.layer_count == 0);
    for (int64_t columns = 1; columns < 9; columns += 3) {
        pente_matrix x = matrix_random(PENTE_FLOAT64, 5, columns + 1, columns + 1);
        pente_matrix y = matrix_new(PENTE_FLOAT64, 5, columns, columns);
        x.columns = columns;
        OK(pente_layer_forward(squares, NULL, &x, &y));
        assert_true(get(&y, 4, columns - 1) == get(&x, 4, columns - 1) * get(&x, 4, columns - 1));
        x.columns = columns + 1;
        REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(squares, NULL, &x, &y));
        matrix_free(&x);
        matrix_free(&y);
    }
    REFUSED(PENTE_INVALID_ARGUMENT, pente_chain_new((pente_layer *[]){squares, squares}, 2, &chain));
    OK(pente_chain_new((pente_layer *[]){squares, linear, squares, squares}, 4, &chain));
    pente_matrix x = matrix_random(PENTE_FLOAT64, 5, 3, 3);
    OK(pente_gradcheck(chain, NULL, &x, NULL, NULL, &report));
    assert_int_equal(report.passed, 1);
    assert_true(count > 3);
    pente_layer *layers[] = {squares, linear, chain};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    matrix_free(&x);
}

/* y = factor x, which trains on batches of any width, one after the other. */
static pente_status scaled(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                           void *user_data) {
    (void)user_data;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) put(y, i, j, get(&parameters[0], 0, 0) * get(x, i, j));
    }
    return PENTE_OK;
}

static pente_status scaled_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                    const pente_matrix *grad_output, const pente_matrix *grad_input,
                                    const pente_matrix *gradients, void *user_data) {
    (void)y, (void)user_data;
    double sum = 0;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) {
            put(grad_input, i, j, get(&parameters[0], 0, 0) * get(grad_output, i, j));
            sum += get(grad_output, i, j) * get(x, i, j);
        }
    }
    put(&gradients[0], 0, 0, sum);
    return PENTE_OK;
}

static void test_any_number_of_columns_trains(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{4, 3}, {4, 9}, {2, 300}, {70, 1}, {70, 40}};
    pente_matrix value = matrix_new(PENTE_FLOAT64, 1, 1, 1);
    const pente_custom_parameter factor = {"factor", value, 2};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    options.parameters = &factor, options.parameter_count = 1;
    options.forward = scaled, options.backward = scaled_backward;
    pente_sgd_options sgd_options = PENTE_SGD_OPTIONS_INIT;
    sgd_options.lr = 0.1;
    pente_layer *layer = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = NULL;
    pente_trainer *trainer = NULL;
    fill(&value, 3);
    OK(pente_custom_new(&options, &layer));
    OK(pente_sgd_new(&layer, 1, &sgd_options, &sgd));
    OK(pente_trainer_new(layer, mse, sgd, &trainer));
    double expected = 3;
    for (size_t i = 0; i < COUNT(shapes); i++) { /* x is 1 and y is 0, so the loss is factor^2 */
        pente_matrix x = matrix_new(PENTE_FLOAT64, shapes[i][0], shapes[i][1], shapes[i][1]);
        pente_matrix y = matrix_new(PENTE_FLOAT64, shapes[i][0], shapes[i][1], shapes[i][1]);
        double loss = 0;
        fill(&x, 1);
        fill(&y, 0);
        OK(pente_trainer_step(trainer, &x, &y, NULL, &loss));
        assert_true(fabs(loss - expected * expected) < 1e-12);
        expected -= 0.1 * 2 * expected;
        matrix_free(&x);
        matrix_free(&y);
    }
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(layer));
    matrix_free(&value);
}

/* ---- Parameters ---- */

/* Values are copied, whatever their stride; names may be 63 bytes; vectors have one row. */
static void test_parameters(void **state) {
    (void)state;
    char long_name[65];
    memset(long_name, 'n', sizeof long_name);
    long_name[63] = 0;
    int count = 0;
    pente_matrix a = matrix_random(PENTE_FLOAT64, 3, 2, 5), b = matrix_random(PENTE_FLOAT64, 1, 4, 4);
    pente_matrix kept = matrix_copy(&a);
    pente_custom_parameter parameters[] = {{"a", a, 2}, {long_name, b, 1}, {"a row, as \u00e4 \"matrix\"", b, 2}};
    pente_custom_options options = square_options(&count);
    options.parameters = parameters;
    options.parameter_count = 3;
    pente_layer *layer = NULL;
    OK(pente_custom_new(&options, &layer));
    fill(&a, 0);
    for (int i = 0; i < 3; i++) {
        char name[64] = "";
        pente_parameter_info info = PENTE_PARAMETER_INFO_INIT;
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        assert_string_equal(name, parameters[i].name);
        OK(pente_layer_get_parameter_info(layer, i, &info));
        assert_true(info.rank == parameters[i].rank && info.trained == 1);
        pente_matrix view = parameter_of(layer, name), gradient = gradient_of(layer, name);
        SAME_BITS(view, *(i ? &b : &kept));
        assert_true(get(&gradient, 0, 0) == 0);
    }
    OK(pente_layer_free(layer));

    static const char *const wrong[] = {NULL, "", "a.b", ".", "tab\t", "\x7f", "\n", "\x01", "__metadata__",
                                        "caf\xe9", "\xc3", "\xed\xa0\x80", "\xc0\xaf"}; /* the last four are no UTF-8 */
    pente_layer *none = NULL;
    for (size_t i = 0; i <= COUNT(wrong); i++) {
        long_name[63] = 'n'; /* 64 bytes now */
        long_name[64] = 0;
        parameters[1].name = i < COUNT(wrong) ? wrong[i] : long_name;
        REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &none));
        assert_non_null(strstr(pente_last_error(), "name"));
    }
    parameters[1].name = "a"; /* twice */
    REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &none));
    parameters[1].name = "b";
    for (int32_t rank = -1; rank <= 3; rank++) { /* a is no vector */
        parameters[0].rank = rank;
        if (rank != 2) REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &none));
    }
    parameters[0].rank = 2;
    parameters[0].value.dtype = PENTE_FLOAT32;
    REFUSED(PENTE_DTYPE_MISMATCH, pente_custom_new(&options, &none));
    parameters[0].value = a;
    parameters[0].value.data = NULL;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &none));
    assert_null(none);
    matrix_free(&a);
    matrix_free(&b);
    matrix_free(&kept);
}

/* ---- release ---- */

/* Once, when the last of all that hold the layer has let go of it; never for a layer that was not made. */
static void test_release(void **state) {
    (void)state;
    affine own = {0}, never = {0};
    affine_new(&own, PENTE_FLOAT32, 2, 2, 1);
    pente_layer *chain = NULL, *further = NULL;
    pente_context *context = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    OK(pente_chain_new(&own.layer, 1, &chain));
    OK(pente_chain_get_layer(chain, 0, &further));
    pente_sgd *sgd = sgd_of(further, 0.1, 0);
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    OK(pente_context_new(own.layer, &context));
    OK(pente_layer_free(own.layer));
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_free(own.layer));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(further));
    OK(pente_sgd_free(sgd));
    OK(pente_context_free(context));
    assert_int_equal(own.releases, 0);
    OK(pente_trainer_free(trainer));
    assert_int_equal(own.releases, 1);
    OK(pente_mse_free(mse));
    assert_true(own.forwards == 0 && own.backwards == 0);

    pente_custom_options options = affine_options(&never, PENTE_FLOAT32, 2, 0);
    pente_layer *layer = NULL;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &layer));
    options.out_features = 2;
    options.parameter_count = 1;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(&options, &layer));
    assert_int_equal(never.releases, 0);
}

typedef struct owner {
    pente_layer *layer;
    pente_status freed, again;
} owner;

static void release_owner(void *user_data) {
    owner *o = user_data;
    o->freed = pente_layer_free(o->layer);
    o->again = pente_layer_free(o->layer);
}

/* release may let go of further layers, that release further ones. */
static void test_release_frees(void **state) {
    (void)state;
    enum { LENGTH = 5 };
    int count = 0;
    owner owners[LENGTH];
    pente_layer *layer = linear_new(PENTE_FLOAT64, 2, 2, 1);
    for (int i = 0; i < LENGTH; i++) {
        pente_custom_options options = square_options(&count);
        owners[i] = (owner){layer, -1, -1};
        options.release = release_owner;
        options.user_data = &owners[i];
        OK(pente_custom_new(&options, &layer));
    }
    OK(pente_layer_free(layer));
    for (int i = 0; i < LENGTH; i++) {
        assert_true(owners[i].freed == PENTE_OK && owners[i].again == PENTE_INVALID_HANDLE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes),     cmocka_unit_test(test_training),
        cmocka_unit_test(test_any_number_of_columns), cmocka_unit_test(test_any_number_of_columns_trains),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_release),    cmocka_unit_test(test_release_frees),
    };
    return cmocka_run_group_tests_name("custom", tests, NULL, NULL);
}
