/* gradcheck: right layers pass, a tolerance of nothing fails and says where, and the layer is as it was. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_and_losses),
        cmocka_unit_test(test_loss_alone),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests_name("gradcheck", tests, NULL, NULL);
}
