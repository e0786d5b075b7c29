/* Callbacks that fail: their status comes out of every call that leads to them, and nothing has changed. */
#include "layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { Q = 20, N = 3, P = 2, VALIDATION_ROWS = 7 };

static const pente_status statuses[] = {PENTE_USER + 7,   PENTE_BUSY,          PENTE_USER,          INT32_MAX,
                                        PENTE_NOT_FINITE, PENTE_OUT_OF_MEMORY, PENTE_INVALID_STATE, PENTE_FILE_ERROR};

/* Where the layer of one's own stands. */
typedef enum place { ALONE, ONLY, FIRST, MIDDLE, LAST, NESTED, PLACES } place;

/* Training around one such layer. Two of a kind go the same way, unless a failure leaves a trace. */
typedef struct rig {
    affine own;
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
} rig;

static void rig_new(rig *r, pente_dtype dtype, place place) {
    memset(r, 0, sizeof *r);
    switch (place) {
    case ALONE:
    case ONLY:
        affine_new(&r->own, dtype, N, P, 4);
        r->layer = place == ALONE ? r->own.layer : CHAIN(r->own.layer);
        break;
    case FIRST:
        affine_new(&r->own, dtype, N, 4, 4);
        r->layer = CHAIN(r->own.layer, activation_new(dtype, PENTE_TANH), linear_new(dtype, 4, P, 1));
        break;
    case MIDDLE:
        affine_new(&r->own, dtype, 4, 5, 4);
        r->layer = CHAIN(linear_new(dtype, N, 4, 1), r->own.layer, linear_new(dtype, 5, P, 1));
        break;
    case LAST:
        affine_new(&r->own, dtype, 4, P, 4);
        r->layer = CHAIN(scaler_new(dtype, N), linear_new(dtype, N, 4, 1), r->own.layer);
        break;
    default:
        affine_new(&r->own, dtype, 4, 4, 4);
        r->layer = CHAIN(linear_new(dtype, N, 4, 1), CHAIN(activation_new(dtype, PENTE_TANH), r->own.layer),
                         linear_new(dtype, 4, P, 1));
        break;
    }
    r->mse = mse_new(PENTE_MEAN);
    r->sgd = sgd_of(r->layer, 0.05, 0.9);
    r->trainer = trainer_of(r->layer, r->mse, r->sgd);
    OK(pente_context_new(r->layer, &r->context));
}

static void rig_free(rig *r) {
    OK(pente_context_free(r->context));
    OK(pente_trainer_free(r->trainer));
    OK(pente_sgd_free(r->sgd));
    OK(pente_mse_free(r->mse));
    assert_int_equal(r->own.releases, 0);
    OK(pente_layer_free(r->layer));
    assert_int_equal(r->own.releases, 1);
    assert_int_equal(r->own.wrong, 0);
}

/* What a test has: two of a kind, and what goes in and comes out. */
typedef struct bench {
    rig rig, twin;
    pente_matrix x, y, target, grad_output, grad_input, y_kept, grad_input_kept;
} bench;

static void bench_new(bench *b, pente_dtype dtype, place place) {
    rig_new(&b->rig, dtype, place);
    rig_new(&b->twin, dtype, place);
    b->x = matrix_random(dtype, Q, N, N + place % 2); /* some are contiguous: nobody may write there at once */
    b->y = matrix_random(dtype, Q, P, P + place % 2);
    b->target = matrix_random(dtype, Q, P, P);
    b->grad_output = matrix_random(dtype, Q, P, P);
    b->grad_input = matrix_random(dtype, Q, N, N + place % 2);
    b->y_kept = matrix_copy(&b->y);
    b->grad_input_kept = matrix_copy(&b->grad_input);
}

static void bench_free(bench *b) {
    rig_free(&b->rig);
    rig_free(&b->twin);
    pente_matrix *matrices[] = {&b->x,          &b->y,      &b->target,         &b->grad_output,
                                &b->grad_input, &b->y_kept, &b->grad_input_kept};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void set_failure(affine *own, pente_status forward, pente_status backward, int64_t rows) {
    own->forward_fails = forward;
    own->backward_fails = backward;
    own->failing_rows = rows;
}

/* The message begins with the function, as all do, and then names the callback and what it gave. */
static void check_message(const char *function, const char *callback, pente_status status) {
    const char *message = pente_last_error(), *rest = message + strlen(function);
    char number[20];
    snprintf(number, sizeof number, "%d", (int)status);
    bool names_status = strstr(rest, number) || (status < PENTE_USER && strstr(rest, pente_status_name(status)));
    bool names_function = !strncmp(message, function, strlen(function)) && rest[0] == ':';
    if (names_function && names_status && strstr(rest, callback)) return;
    fail_msg("the message does not name %s, %s and %d: %s", function, callback, (int)status, message);
}

/* The parameters, the gradients, and what shows in the next steps: the momentum. */
static void check_no_trace(bench *b) {
    set_failure(&b->rig.own, PENTE_OK, PENTE_OK, 0);
    assert_true(same_layers(b->rig.layer, b->twin.layer));
    for (int step = 0; step < 2; step++) {
        double losses[2] = {-1, -2};
        OK(pente_trainer_step(b->rig.trainer, &b->x, &b->target, NULL, &losses[0]));
        OK(pente_trainer_step(b->twin.trainer, &b->x, &b->target, NULL, &losses[1]));
        assert_memory_equal(&losses[0], &losses[1], sizeof losses[0]);
    }
    assert_true(same_layers(b->rig.layer, b->twin.layer));
    pente_sgd_info info = PENTE_SGD_INFO_INIT, twins = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_info(b->rig.sgd, &info));
    OK(pente_sgd_get_info(b->twin.sgd, &twins));
    assert_int_equal(info.step_count, twins.step_count);
}

/* ---- Passes ---- */

static void check_forward(bench *b, pente_status status) {
    affine *own = &b->rig.own;
    pente_matrix former = matrix_new(b->y.dtype, Q, P, P);
    set_failure(own, PENTE_OK, PENTE_OK, 0);
    OK(pente_layer_forward(b->rig.layer, b->rig.context, &b->x, &former));
    matrix_free(&former);
    set_failure(own, status, PENTE_OK, 0);
    REFUSED(status, pente_layer_forward(b->rig.layer, NULL, &b->x, &b->y));
    check_message("pente_layer_forward", "forward", status);
    SAME_BITS(b->y, b->y_kept);
    REFUSED(status, pente_layer_forward(b->rig.layer, b->rig.context, &b->x, &b->y));
    SAME_BITS(b->y, b->y_kept);
    assert_true(b->y.row_stride == P || gap_is_untouched(&b->y));
    /* The context's former pass is lost; the next works. */
    set_failure(own, PENTE_OK, PENTE_OK, 0);
    REFUSED(PENTE_INVALID_STATE, pente_layer_backward(b->rig.layer, b->rig.context, &b->grad_output, NULL));
    check_no_trace(b);
}

static void check_backward(bench *b, pente_status status) {
    rig *r = &b->rig;
    pente_matrix prediction = matrix_new(b->y.dtype, Q, P, P), grad_input = matrix_new(b->y.dtype, Q, N, N);
    fill_gradients(r->layer);
    snapshot before = snapshot_new(r->layer);
    OK(pente_layer_forward(r->layer, r->context, &b->x, &prediction));
    set_failure(&r->own, PENTE_OK, status, 0);
    for (int i = 0; i < 2; i++) {
        REFUSED(status, pente_layer_backward(r->layer, r->context, &b->grad_output, i ? NULL : &b->grad_input));
        check_message("pente_layer_backward", "backward", status);
        SAME_BITS(b->grad_input, b->grad_input_kept);
        assert_true(is_as_in(r->layer, &before));
    }
    /* The pass is there still. */
    set_failure(&r->own, PENTE_OK, PENTE_OK, 0);
    OK(pente_layer_zero_gradients(r->layer));
    OK(pente_layer_zero_gradients(b->twin.layer));
    OK(pente_layer_backward(r->layer, r->context, &b->grad_output, &grad_input));
    pente_matrix expected = matrix_new(b->y.dtype, Q, N, N);
    OK(pente_layer_forward(b->twin.layer, b->twin.context, &b->x, &prediction));
    OK(pente_layer_backward(b->twin.layer, b->twin.context, &b->grad_output, &expected));
    SAME_BITS(grad_input, expected);
    check_no_trace(b);
    snapshot_free(&before);
    matrix_free(&prediction);
    matrix_free(&grad_input);
    matrix_free(&expected);
}

/* ---- Steps and fits ---- */

static void check_step(bench *b, pente_status forward, pente_status backward) {
    pente_status status = forward ? forward : backward;
    double loss = -7;
    set_failure(&b->rig.own, forward, backward, 0);
    REFUSED(status, pente_trainer_step(b->rig.trainer, &b->x, &b->target, NULL, &loss));
    check_message("pente_trainer_step", forward ? "forward" : "backward", status);
    assert_true(loss == -7);
    check_no_trace(b);
}

/* Fails with batches of failing_rows: the last of an epoch, when others have been learnt, or the validation set. */
static void check_fit(bench *b, pente_status forward, pente_status backward, int64_t failing_rows, int shuffle) {
    pente_status status = forward ? forward : backward;
    pente_matrix validation_x = rows_of(&b->x, 3, VALIDATION_ROWS);
    pente_matrix validation_y = rows_of(&b->target, 3, VALIDATION_ROWS);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    double losses[4] = {-5, -5, -5, -5};
    options.epochs = 2;
    options.batch_size = 8; /* 8, 8, 4 */
    options.shuffle = shuffle;
    options.validation_x = &validation_x;
    options.validation_y = &validation_y;
    options.training_losses = losses;
    options.validation_losses = losses + 2;
    set_failure(&b->rig.own, forward, backward, failing_rows);
    REFUSED(status, pente_trainer_fit(b->rig.trainer, &b->x, &b->target, &options, &report));
    check_message("pente_trainer_fit", forward ? "forward" : "backward", status);
    for (int i = 0; i < 4; i++) assert_true(losses[i] == -5);
    assert_true(report.epochs == 0 && report.stop_reason == 0 && report.best_epoch == 0);
    check_no_trace(b);
}

static void test_failures(void **state) {
    (void)state;
    for (int place = ALONE; place < PLACES; place++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            bench b;
            bench_new(&b, dtype, (enum place)place);
            check_no_trace(&b); /* from here on there is momentum */
            for (size_t i = 0; i < COUNT(statuses); i++) {
                if (i > 1 && (place + (int)i) % 3) continue;
                check_forward(&b, statuses[i]);
                check_backward(&b, statuses[i]);
                check_step(&b, statuses[i], PENTE_OK);
                check_step(&b, PENTE_OK, statuses[i]);
                check_fit(&b, statuses[i], PENTE_OK, 4, 0);
                check_fit(&b, PENTE_OK, statuses[i], 4, 1);
                check_fit(&b, statuses[i], PENTE_OK, VALIDATION_ROWS, 1);
            }
            bench_free(&b);
        }
    }
}

/* An optimizer that has made no step has no momentum, and after a first run that failed it has none still: a buffer of
 * zeros is something else, if there is dampening. */
static void test_first_failure(void **state) {
    (void)state;
    bench b;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    bench_new(&b, PENTE_FLOAT64, LAST);
    options.lr = 0.05;
    options.momentum = 0.9;
    options.dampening = 0.5;
    OK(pente_sgd_set_options(b.rig.sgd, 0, &options));
    OK(pente_sgd_set_options(b.twin.sgd, 0, &options));
    check_fit(&b, PENTE_USER, PENTE_OK, 4, 0);
    bench_free(&b);
}

/* In the second epoch: the first has changed everything, and all of it is taken back. */
typedef struct late {
    affine *own;
    pente_layer *layer;
    snapshot before;
    bool has_changed;
} late;

static int32_t fail_from_now_on(const pente_epoch *epoch, void *user_data) {
    late *l = user_data;
    (void)epoch;
    pente_matrix now = l->before.parameters[0];
    char name[32];
    if (pente_layer_parameter_name(l->layer, 0, name, sizeof name)) return 1;
    if (pente_layer_parameter_view(l->layer, name, &now)) return 1;
    l->has_changed = memcmp(now.data, l->before.parameters[0].data, element_size(now.dtype)) != 0;
    l->own->forward_fails = PENTE_USER + 3;
    return 0;
}

static void test_late_failure(void **state) {
    (void)state;
    bench b;
    bench_new(&b, PENTE_FLOAT32, MIDDLE);
    check_no_trace(&b);
    late l = {&b.rig.own, b.rig.layer, snapshot_new(b.rig.layer), false};
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 3;
    options.on_epoch = fail_from_now_on;
    options.user_data = &l;
    REFUSED(PENTE_USER + 3, pente_trainer_fit(b.rig.trainer, &b.x, &b.target, &options, NULL));
    assert_true(l.has_changed);
    assert_true(is_as_in(b.rig.layer, &l.before));
    check_no_trace(&b);
    snapshot_free(&l.before);
    bench_free(&b);
}

/* ---- gradcheck ---- */

static void test_gradcheck(void **state) {
    (void)state;
    for (int place = ALONE; place < PLACES; place++) {
        bench b;
        bench_new(&b, PENTE_FLOAT64, (enum place)place);
        check_no_trace(&b);
        pente_matrix x = rows_of(&b.x, 0, 4), target = rows_of(&b.target, 0, 4);
        for (int i = 0; i < 4; i++) {
            pente_status forward = i % 2 ? PENTE_USER + 9 : PENTE_OK, backward = i % 2 ? PENTE_OK : PENTE_USER + 9;
            static const pente_gradcheck_report untouched = PENTE_GRADCHECK_REPORT_INIT; /* its padding is zero */
            pente_gradcheck_report report;
            memcpy(&report, &untouched, sizeof report);
            snapshot before = snapshot_new(b.rig.layer);
            set_failure(&b.rig.own, forward, backward, 0);
            REFUSED(PENTE_USER + 9, i < 2 ? pente_gradcheck(b.rig.layer, b.rig.mse, &x, &target, NULL, &report)
                                          : pente_gradcheck(b.rig.layer, NULL, &x, NULL, NULL, &report));
            check_message("pente_gradcheck", i % 2 ? "forward" : "backward", PENTE_USER + 9);
            assert_memory_equal(&report, &untouched, sizeof report);
            assert_true(is_as_in(b.rig.layer, &before));
            snapshot_free(&before);
            check_no_trace(&b);
        }
        bench_free(&b);
    }
}

/* What is refused before any callback runs does not run one. */
static void test_no_call_for_nothing(void **state) {
    (void)state;
    bench b;
    bench_new(&b, PENTE_FLOAT32, LAST);
    pente_matrix narrow = b.x;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    narrow.columns = N - 1;
    REFUSED(PENTE_SHAPE_MISMATCH, pente_layer_forward(b.rig.layer, NULL, &narrow, &b.y));
    REFUSED(PENTE_SHAPE_MISMATCH, pente_trainer_step(b.rig.trainer, &narrow, &b.target, NULL, NULL));
    REFUSED(PENTE_INVALID_STATE, pente_layer_backward(b.rig.layer, b.rig.context, &b.grad_output, NULL));
    REFUSED(PENTE_DTYPE_MISMATCH, pente_gradcheck(b.rig.layer, NULL, &b.x, NULL, NULL, &report));
    assert_true(b.rig.own.forwards == 0 && b.rig.own.backwards == 0);
    put(&b.x, Q - 1, 0, NAN);
    REFUSED(PENTE_NOT_FINITE, pente_trainer_step(b.rig.trainer, &b.x, &b.target, NULL, NULL));
    assert_int_equal(b.rig.own.forwards, 1);
    put(&b.x, Q - 1, 0, 1);
    check_no_trace(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_first_failure),
        cmocka_unit_test(test_late_failure),
        cmocka_unit_test(test_gradcheck),
        cmocka_unit_test(test_no_call_for_nothing),
    };
    return cmocka_run_group_tests_name("custom's failures", tests, NULL, NULL);
}
