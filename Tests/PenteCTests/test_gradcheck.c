/* gradcheck: right layers pass, a tolerance of nothing fails and says where, and the layer is as it was. */
#include "layers.h"
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct setting {
    model model;
    pente_matrix x, target;
} setting;

static setting setting_new(int64_t q, int64_t n, int64_t p, bool bias) {
    setting s = {.model = model_new(PENTE_FLOAT64, n, p, bias, 8),
                 .x = matrix_random(PENTE_FLOAT64, q, n, n + 1),
                 .target = matrix_random(PENTE_FLOAT64, q, p, p + 2)};
    fill_random(&s.model.weight_gradient);
    if (bias) fill_random(&s.model.bias_gradient);
    return s;
}

static void setting_free(setting *s) {
    matrix_free(&s->x);
    matrix_free(&s->target);
    model_free(&s->model);
}

/* The report's numbers fit together, and its place exists. */
static void check_report(const setting *s, const pente_gradcheck_options *options, const pente_gradcheck_report *r) {
    pente_matrix place = s->x;
    if (!strcmp(r->worst, "target")) {
        place = s->target;
    } else if (!strcmp(r->worst, "weight")) {
        place = s->model.weight;
    } else if (!strcmp(r->worst, "bias")) {
        place = s->model.bias;
    } else {
        assert_string_equal(r->worst, "x");
    }
    assert_true(r->row >= 0 && r->row < place.rows && r->column >= 0 && r->column < place.columns);
    assert_true(r->error == fabs(r->analytic - r->numeric));
    double tolerance = options->atol + options->rtol * fabs(r->numeric);
    assert_true(fabs(r->tolerance - tolerance) <= 2 * DBL_EPSILON * tolerance);
    assert_int_equal(r->passed, r->error <= r->tolerance);
    assert_int_equal(r->struct_size, sizeof *r);
}

/* Passes as it should, fails when nothing is tolerated, and leaves all as it was. */
static void check(setting *s, pente_layer *layer, pente_mse *mse, int64_t checked) {
    pente_matrix x = matrix_copy(&s->x), target = matrix_copy(&s->target);
    pente_matrix weight = matrix_copy(&s->model.weight), gradient = matrix_copy(&s->model.weight_gradient);
    const pente_matrix *target_or_null = mse ? &s->target : NULL;
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    OK(pente_gradcheck(layer, mse, &s->x, target_or_null, NULL, &report));
    assert_int_equal(report.passed, 1);
    assert_int_equal(report.checked, checked);
    check_report(s, &options, &report);

    options.atol = 0;
    options.rtol = 0;
    options.eps = 0.3; /* no sum of squares of such numbers is exact */
    OK(pente_gradcheck(layer, mse, &s->x, target_or_null, &options, &report));
    assert_int_equal(report.passed, 0);
    assert_int_equal(report.checked, checked);
    check_report(s, &options, &report);

    SAME_BITS(s->x, x);
    SAME_BITS(s->target, target);
    SAME_BITS(s->model.weight, weight);
    SAME_BITS(s->model.weight_gradient, gradient);
    assert_true(gap_is_untouched(&s->x) && gap_is_untouched(&s->target));
    matrix_free(&x);
    matrix_free(&target);
    matrix_free(&weight);
    matrix_free(&gradient);
}

static void test_layers_and_losses(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{2, 3, 2}, {5, 7, 3}, {17, 9, 8}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        int64_t q = shapes[i][0], n = shapes[i][1], p = shapes[i][2];
        for (int bias = 0; bias < 2; bias++) {
            setting s = setting_new(q, n, p, bias);
            int64_t of_layer = q * n + p * n + (bias ? p : 0);
            for (pente_reduction reduction = PENTE_MEAN; reduction <= PENTE_OUTPUT_MEAN; reduction++) {
                pente_mse *mse = mse_new(reduction);
                check(&s, s.model.layer, mse, of_layer + q * p);
                OK(pente_mse_free(mse));
            }
            check(&s, s.model.layer, NULL, of_layer);
            setting_free(&s);
        }
    }
}

/* Without a layer, x is the prediction. */
static void test_loss_alone(void **state) {
    (void)state;
    setting s = setting_new(6, 4, 4, true);
    pente_mse *mse = mse_new(PENTE_MEAN);
    check(&s, NULL, mse, 2 * 6 * 4);
    OK(pente_mse_free(mse));
    setting_free(&s);
}

/* The numbers of the report are the gradient's: for one weight and one example they can be worked out. */
static void test_numbers(void **state) {
    (void)state;
    setting s = setting_new(1, 1, 1, false);
    pente_mse *mse = mse_new(PENTE_SUM);
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    double x = get(&s.x, 0, 0), w = get(&s.model.weight, 0, 0), residual = x * w - get(&s.target, 0, 0);
    OK(pente_gradcheck(s.model.layer, mse, &s.x, &s.target, &options, &report));
    double want = !strcmp(report.worst, "x") ? 2 * residual * w
                  : !strcmp(report.worst, "weight") ? 2 * residual * x
                                                    : -2 * residual;
    assert_true(fabs(report.analytic - want) <= 1e-14 && fabs(report.numeric - want) <= 1e-8);
    assert_int_equal(report.checked, 3);
    OK(pente_mse_free(mse));
    setting_free(&s);
}

/* A comparison with NaN must not count as passed. */
static void test_not_finite(void **state) {
    (void)state;
    setting s = setting_new(3, 2, 2, true);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    put(&s.x, 1, 1, NAN);
    pente_status status = pente_gradcheck(s.model.layer, mse, &s.x, &s.target, NULL, &report);
    assert_true(status != PENTE_OK || !report.passed);
    OK(pente_mse_free(mse));
    setting_free(&s);
}

/* ---- Layers of all kinds ---- */

/* x stays away from 0, where a relu has no derivative. */
static pente_matrix away_from_0(int64_t q, int64_t n) {
    pente_matrix x = matrix_random(PENTE_FLOAT64, q, n, n + 1);
    for (int64_t i = 0; i < q; i++) {
        for (int64_t j = 0; j < n; j++) put(&x, i, j, get(&x, i, j) + (get(&x, i, j) < 0 ? -0.01 : 0.01));
    }
    return x;
}

/* Passes with and without a loss, and leaves all as it was. Frees the layer. */
static void check_layer(pente_layer *layer, int64_t n, int64_t p, int64_t trained) {
    enum { ROWS = 5 };
    pente_matrix x = away_from_0(ROWS, n), target = matrix_random(PENTE_FLOAT64, ROWS, p, p), kept = matrix_copy(&x);
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    fill_gradients(layer);
    snapshot before = snapshot_new(layer);
    for (pente_reduction reduction = 0; reduction <= PENTE_OUTPUT_MEAN; reduction++) {
        pente_mse *mse = reduction ? mse_new(reduction) : NULL;
        pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
        OK(pente_gradcheck(layer, mse, &x, mse ? &target : NULL, NULL, &report));
        if (!report.passed) fail_msg("%s: %g, not %g", report.worst, report.analytic, report.numeric);
        assert_int_equal(report.checked, ROWS * n + trained + (mse ? ROWS * p : 0));
        OK(pente_mse_free(mse));
    }
    /* Nothing that has a curve or a rounding passes when nothing is tolerated. */
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    options.atol = options.rtol = 0;
    OK(pente_gradcheck(layer, NULL, &x, NULL, &options, &report));
    assert_int_equal(report.passed, 0);
    assert_true(is_as_in(layer, &before));
    SAME_BITS(x, kept);
    snapshot_free(&before);
    OK(pente_layer_free(layer));
    pente_matrix *matrices[] = {&x, &target, &kept};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_layers_of_all_kinds(void **state) {
    (void)state;
    for (pente_activation a = PENTE_RELU; a <= PENTE_SOFTPLUS; a++) {
        check_layer(activation_new(PENTE_FLOAT64, a), 6, 6, 0);
        check_layer(CHAIN(activation_new(PENTE_FLOAT64, a), linear_new(PENTE_FLOAT64, 4, 3, 1)), 4, 3, 15);
    }
    check_layer(scaler_new(PENTE_FLOAT64, 7), 7, 7, 0);
    check_layer(tall_chain_new(PENTE_FLOAT64, 3), 13, 2, 13 * 8 + 8 + 8 * 5 + 5 + 5 * 2 + 2);
    affine alone = {.divisor = 3}, inside = {.divisor = 0.5};
    affine_new(&alone, PENTE_FLOAT64, 4, 3, 1);
    affine_new(&inside, PENTE_FLOAT64, 3, 5, 2);
    check_layer(alone.layer, 4, 3, 15);
    check_layer(CHAIN(CHAIN(scaler_new(PENTE_FLOAT64, 2), linear_new(PENTE_FLOAT64, 2, 3, 1)), inside.layer,
                      activation_new(PENTE_FLOAT64, PENTE_SIGMOID)), 2, 5, 9 + 20);
    assert_true(alone.wrong == 0 && inside.wrong == 0);
}

/* A layer of one's own whose backward is wrong is caught, and the report says where. */
static void check_mistake(mistake mistake, const char *culprit, bool in_chain, bool with_loss) {
    affine own = {.divisor = 4, .mistake = mistake};
    affine_new(&own, PENTE_FLOAT64, 3, 3, 1); /* square: a missing transpose fits */
    pente_layer *layer = own.layer;
    if (in_chain) {
        layer = CHAIN(linear_new(PENTE_FLOAT64, 2, 3, 2), own.layer, activation_new(PENTE_FLOAT64, PENTE_TANH));
    }
    pente_matrix x = matrix_random(PENTE_FLOAT64, 4, in_chain ? 2 : 3, 3);
    pente_matrix target = matrix_random(PENTE_FLOAT64, 4, 3, 3);
    pente_mse *mse = with_loss ? mse_new(PENTE_MEAN) : NULL;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    OK(pente_gradcheck(layer, mse, &x, mse ? &target : NULL, NULL, &report));
    if (report.passed != (mistake == NO_MISTAKE) || (culprit && strcmp(report.worst, culprit) != 0)) {
        fail_msg("mistake %d: passed %d, worst at %s: %g against %g", (int)mistake, (int)report.passed, report.worst,
                 report.analytic, report.numeric);
    }
    assert_int_equal(own.wrong, 0);
    OK(pente_mse_free(mse));
    OK(pente_layer_free(layer));
    matrix_free(&x);
    matrix_free(&target);
}

static void test_mistakes(void **state) {
    (void)state;
    for (int with_loss = 0; with_loss < 2; with_loss++) {
        for (int in_chain = 0; in_chain < 2; in_chain++) {
            const char *weight = in_chain ? "1.weight" : "weight", *bias = in_chain ? "1.bias" : "bias";
            check_mistake(NO_MISTAKE, NULL, in_chain, with_loss);
            check_mistake(WRONG_SIGN, bias, in_chain, with_loss);
            check_mistake(NO_DIVISOR, weight, in_chain, with_loss);
            check_mistake(FIRST_X, weight, in_chain, with_loss);
            check_mistake(LAST_X, weight, in_chain, with_loss);
            /* In a chain, what lies before the layer is wrong with it. */
            check_mistake(NO_TRANSPOSE, in_chain ? NULL : "x", in_chain, with_loss);
        }
    }
}

/* ---- A name that the report has no room for ---- */

static pente_status scale_forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                  void *data) {
    (void)data;
    put(y, 0, 0, get(&parameters[0], 0, 0) * get(x, 0, 0));
    return PENTE_OK;
}

/* Without the parameter's gradient. */
static pente_status scale_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                   const pente_matrix *grad_output, const pente_matrix *grad_input,
                                   const pente_matrix *gradients, void *data) {
    (void)x, (void)y, (void)gradients, (void)data;
    put(grad_input, 0, 0, get(&parameters[0], 0, 0) * get(grad_output, 0, 0));
    return PENTE_OK;
}

static void test_long_name(void **state) {
    (void)state;
    double number = 3, input = 2;
    char name[63] = "", shown[63] = "0.";
    memset(name, 'a', 60);
    memset(shown + 2, 'a', 60);
    memcpy(name + 60, "\xc3\xa9", 2); /* the 63rd and 64th byte of its name in the chain: no room for the NUL */
    pente_custom_parameter parameter = {name, pente_float64_matrix(&number, 1, 1), 2};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    options.in_features = options.out_features = options.parameter_count = 1;
    options.parameters = &parameter;
    options.forward = scale_forward;
    options.backward = scale_backward;
    pente_layer *layer = NULL;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    pente_matrix x = pente_float64_matrix(&input, 1, 1);
    OK(pente_custom_new(&options, &layer));
    layer = CHAIN(layer);
    OK(pente_gradcheck(layer, NULL, &x, NULL, NULL, &report));
    assert_int_equal(report.passed, 0);
    assert_string_equal(report.worst, shown);
    OK(pente_layer_free(layer));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_and_losses),
        cmocka_unit_test(test_loss_alone),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_layers_of_all_kinds),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_long_name),
    };
    return cmocka_run_group_tests_name("gradcheck", tests, NULL, NULL);
}
