/* What fit's callbacks may do, and what they may not. */
#include "layers.h"

#include <math.h>
#include <stdlib.h>

/* ---- on_epoch ---- */

typedef struct visit {
    const training *training;
    const pente_matrix *x, *y, *prediction;
    pente_status forward, set_lr, loss, step, fit, read;
    int64_t calls, stop_at;
} visit;

/* What on_epoch may do, and what it may not. */
static int32_t visit_epoch(const pente_epoch *epoch, void *user_data) {
    visit *v = user_data;
    double loss = 0;
    pente_matrix view;
    v->calls++;
    v->forward |= pente_layer_forward(v->training->model.layer, NULL, v->x, v->prediction);
    v->loss |= pente_mse_forward(v->training->mse, v->prediction, v->y, NULL, &loss);
    v->read |= pente_layer_parameter_view(v->training->model.layer, "weight", &view);
    v->set_lr |= pente_sgd_set_lr(v->training->sgd, 0, 0.1 / (double)(epoch->epoch + 1));
    v->step |= pente_trainer_step(v->training->trainer, v->x, v->y, NULL, NULL);
    v->fit |= pente_trainer_fit(v->training->trainer, v->x, v->y, NULL, NULL);
    if (!isnan(epoch->validation_loss)) abort();
    return v->calls == v->stop_at;
}

/* A schedule by callback is the schedule by hand. */
static void test_on_epoch(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    training plain = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_matrix prediction = matrix_new(PENTE_FLOAT32, 20, 2, 2);
    visit v = {.training = &t, .x = &x, .y = &y, .prediction = &prediction, .stop_at = 4};
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 9;
    options.batch_size = 6;
    options.shuffle = 0;
    options.on_epoch = visit_epoch;
    options.user_data = &v;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_int_equal(v.calls, 4);
    assert_int_equal(report.epochs, 4);
    assert_int_equal(report.stop_reason, PENTE_STOP_CALLBACK);
    assert_int_equal(report.best_epoch, 0);
    assert_int_equal(v.forward | v.loss | v.read | v.set_lr, PENTE_OK);
    assert_int_equal(v.step, PENTE_BUSY);
    assert_int_equal(v.fit, PENTE_BUSY);
    for (int epoch = 1; epoch <= 4; epoch++) {
        for (int64_t first = 0; first < 20; first += 6) {
            int64_t rows = first + 6 < 20 ? 6 : 20 - first;
            pente_matrix some_x = rows_of(&x, first, rows), some_y = rows_of(&y, first, rows);
            OK(pente_trainer_step(plain.trainer, &some_x, &some_y, NULL, NULL));
        }
        OK(pente_sgd_set_lr(plain.sgd, 0, 0.1 / (epoch + 1)));
    }
    assert_true(same_model(&t.model, &plain.model));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&prediction);
    training_free(&t);
    training_free(&plain);
}

typedef struct newcomer {
    const training *training;
    const model *model;
} newcomer;

static int32_t add_layer(const pente_epoch *epoch, void *user_data) {
    newcomer *n = user_data;
    if (epoch->epoch > 1) return 0;
    return pente_sgd_add_group(n->training->sgd, &n->model->layer, 1, NULL) != PENTE_BUSY;
}

/* A run works with the groups that it began with; what it locked is let go, and the group can join afterwards. */
static void test_add_group_in_callback(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    model joined = model_new(PENTE_FLOAT32, 2, 2, true, 1);
    newcomer n = {&t, &joined};
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 3;
    options.on_epoch = add_layer;
    options.user_data = &n;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_int_equal(report.epochs, 3);
    OK(pente_sgd_add_group(t.sgd, &joined.layer, 1, NULL));
    OK(pente_layer_zero_gradients(joined.layer));
    OK(pente_layer_zero_gradients(t.model.layer));
    OK(pente_trainer_step(t.trainer, &x, &y, NULL, NULL));
    model_free(&joined);
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
}

static int32_t free_all(const pente_epoch *epoch, void *user_data) {
    training *t = user_data;
    if (epoch->epoch > 1) return 0;
    pente_status status = pente_trainer_free(t->trainer) | pente_sgd_free(t->sgd) | pente_mse_free(t->mse) |
                          pente_layer_free(t->model.layer);
    return status != PENTE_OK;
}

/* The handles of a fit under way may be freed: it goes on to its end. */
static void test_free_in_callback(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 3;
    options.on_epoch = free_all;
    options.user_data = &t;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_int_equal(report.stop_reason, PENTE_STOP_EPOCHS);
    REFUSED(PENTE_INVALID_HANDLE, pente_trainer_free(t.trainer));
    matrix_free(&x);
    matrix_free(&y);
}

typedef struct chain_visit {
    pente_layer *chain, *child;
    pente_sgd *sgd;
    pente_trainer *trainer;
    const pente_matrix *x, *y;
    int wrong;
} chain_visit;

/* What is said of the layer holds for those in a chain: read, and not written. */
static int32_t visit_chain(const pente_epoch *epoch, void *user_data) {
    chain_visit *v = user_data;
    (void)epoch;
    pente_matrix y = matrix_copy(v->y), view, weight = matrix_new(PENTE_FLOAT32, 4, 3, 3);
    pente_layer *again = NULL;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    v->wrong += pente_layer_forward(v->chain, NULL, v->x, &y) != PENTE_OK;
    v->wrong += pente_layer_get_parameter(v->child, "weight", &weight) != PENTE_OK;
    v->wrong += pente_layer_parameter_view(v->chain, "0.weight", &view) != PENTE_OK;
    v->wrong += pente_chain_get_layer(v->chain, 1, &again) != PENTE_OK;
    v->wrong += pente_layer_free(again) != PENTE_OK;
    v->wrong += pente_sgd_get_info(v->sgd, &info) != PENTE_OK || info.step_count == 0;
    v->wrong += pente_layer_set_parameter(v->child, "weight", &weight) != PENTE_BUSY;
    v->wrong += pente_layer_zero_gradients(v->chain) != PENTE_BUSY;
    v->wrong += pente_layer_reset_parameters(v->chain, 1) != PENTE_BUSY;
    v->wrong += pente_layer_reset_parameters(v->child, 1) != PENTE_BUSY;
    v->wrong += pente_trainer_step(v->trainer, v->x, v->y, NULL, NULL) != PENTE_BUSY;
    v->wrong += pente_sgd_set_lr(v->sgd, 0, 0.01) != PENTE_OK;
    matrix_free(&y);
    matrix_free(&weight);
    return 0;
}

static void test_on_epoch_of_a_chain(void **state) {
    (void)state;
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    chain_visit v = {.x = &x, .y = &y};
    v.chain = CHAIN(linear_new(PENTE_FLOAT32, 3, 4, 1), activation_new(PENTE_FLOAT32, PENTE_TANH),
                    linear_new(PENTE_FLOAT32, 4, 2, 1));
    v.sgd = sgd_of(v.chain, 0.1, 0.5);
    v.trainer = trainer_of(v.chain, mse, v.sgd);
    OK(pente_chain_get_layer(v.chain, 0, &v.child));
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 3;
    options.on_epoch = visit_chain;
    options.user_data = &v;
    OK(pente_trainer_fit(v.trainer, &x, &y, &options, NULL));
    assert_int_equal(v.wrong, 0);
    OK(pente_trainer_free(v.trainer));
    OK(pente_sgd_free(v.sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(v.child));
    OK(pente_layer_free(v.chain));
    matrix_free(&x);
    matrix_free(&y);
}

/* ---- should_stop ---- */

typedef struct request {
    const training *training;
    const pente_matrix *x, *y;
    int calls, wrong;
} request;

/* Everything is being written while this is asked. */
static int32_t stop_third_time(void *user_data) {
    request *r = user_data;
    const training *t = r->training;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_matrix view;
    r->wrong += pente_layer_forward(t->model.layer, NULL, r->x, r->y) != PENTE_BUSY;
    r->wrong += pente_layer_parameter_view(t->model.layer, "weight", &view) != PENTE_BUSY;
    r->wrong += pente_sgd_set_lr(t->sgd, 0, 1) != PENTE_BUSY;
    r->wrong += pente_sgd_get_options(t->sgd, 0, &options) != PENTE_BUSY;
    r->wrong += pente_sgd_step(t->sgd) != PENTE_BUSY;
    r->wrong += pente_trainer_step(t->trainer, r->x, r->y, NULL, NULL) != PENTE_BUSY;
    return ++r->calls == 3;
}

static void test_should_stop(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 1e-6);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    request r = {&t, &x, &y, 0, 0};
    options.epochs = INT64_MAX;
    options.should_stop = stop_third_time;
    options.user_data = &r;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_int_equal(r.calls, 3);
    assert_int_equal(r.wrong, 0);
    assert_int_equal(report.stop_reason, PENTE_STOP_REQUEST);
    assert_true(report.epochs >= 1 && report.epochs < INT64_MAX);
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
}

static int32_t stop_at_once(void *user_data) {
    ++*(int *)user_data;
    return 1;
}

/* Rows enough that the question comes in the middle of an epoch. The next run begins with the seed's first order again,
 * and learns what one does that follows nothing: lr was 0 until then, and there is no momentum. */
static void test_after_a_stop(void **state) {
    (void)state;
    enum { ROWS = 60000 };
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0);
    training fresh = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0);
    pente_matrix x = matrix_random(PENTE_FLOAT32, ROWS, 3, 3), y = matrix_random(PENTE_FLOAT32, ROWS, 2, 2);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    pente_sgd_options no_momentum = options_of(0, 0, 0, 0, 0, 0);
    int asked = 0;
    OK(pente_sgd_set_options(t.sgd, 0, &no_momentum));
    OK(pente_sgd_set_options(fresh.sgd, 0, &no_momentum));
    options.epochs = INT64_MAX;
    options.batch_size = 7;
    options.should_stop = stop_at_once;
    options.user_data = &asked;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_true(asked == 1 && report.stop_reason == PENTE_STOP_REQUEST);
    options.epochs = 1;
    options.should_stop = NULL;
    OK(pente_sgd_set_lr(t.sgd, 0, 1e-5));
    OK(pente_sgd_set_lr(fresh.sgd, 0, 1e-5));
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, NULL));
    OK(pente_trainer_fit(fresh.trainer, &x, &y, &options, NULL));
    assert_true(same_model(&t.model, &fresh.model));
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
    training_free(&fresh);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_epoch),
        cmocka_unit_test(test_add_group_in_callback),
        cmocka_unit_test(test_free_in_callback),
        cmocka_unit_test(test_on_epoch_of_a_chain),
        cmocka_unit_test(test_should_stop),
        cmocka_unit_test(test_after_a_stop),
    };
    return cmocka_run_group_tests_name("callbacks", tests, NULL, NULL);
}
