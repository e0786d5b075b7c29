/* What callbacks may call: Pente on other handles; on their own they get a status, at once, and never themselves. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include "layers.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { Q = 6, N = 3, P = 2 };

/* A layer of one's own between others, and all that may be at work when its callbacks run. */
typedef struct scene {
    affine own;
    pente_layer *sibling, *chain;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, target, grad_input;
    int wrong, calls;
    pente_status seen; /* of the last call within a callback */
    /* Strangers to all that. */
    training other;
    pente_matrix other_x, other_y;
} scene;

static void scene_new(scene *s, pente_dtype dtype) {
    memset(s, 0, sizeof *s);
    affine_new(&s->own, dtype, 4, 4, 2);
    s->sibling = linear_new(dtype, N, 4, 1);
    pente_layer *last = linear_new(dtype, 4, P, 3);
    OK(pente_chain_new((pente_layer *[]){s->sibling, s->own.layer, last}, 3, &s->chain));
    OK(pente_layer_free(last));
    s->mse = mse_new(PENTE_MEAN);
    s->sgd = sgd_of(s->chain, 0.01, 0.5);
    s->trainer = trainer_of(s->chain, s->mse, s->sgd);
    OK(pente_context_new(s->chain, &s->context));
    s->x = matrix_random(dtype, Q, N, N);
    s->y = matrix_random(dtype, Q, P, P);
    s->target = matrix_random(dtype, Q, P, P);
    s->grad_input = matrix_random(dtype, Q, N, N);
    s->own.of_inside = s;
    s->other = training_new(PENTE_FLOAT32, 5, 2, PENTE_MEAN, 0.1);
    s->other_x = matrix_random(PENTE_FLOAT32, 30, 5, 5);
    s->other_y = matrix_random(PENTE_FLOAT32, 30, 2, 2);
    alarm(120); /* a call that waits for itself would hang the tests */
}

static void scene_free(scene *s) {
    alarm(0);
    s->own.inside = NULL;
    /* Nothing is left locked. */
    if (s->chain) {
        OK(pente_trainer_step(s->trainer, &s->x, &s->target, NULL, NULL));
        OK(pente_layer_zero_gradients(s->sibling));
        OK(pente_trainer_free(s->trainer));
        OK(pente_context_free(s->context));
        OK(pente_sgd_free(s->sgd));
        OK(pente_mse_free(s->mse));
        pente_layer *layers[] = {s->sibling, s->own.layer, s->chain};
        for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    }
    assert_int_equal(s->own.releases, 1);
    assert_int_equal(s->own.wrong, 0);
    assert_int_equal(s->own.deepest, 1);
    training_free(&s->other);
    pente_matrix *matrices[] = {&s->x, &s->y, &s->target, &s->grad_input, &s->other_x, &s->other_y};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

/* ---- The calls that run callbacks ---- */

static pente_status infer(scene *s) { return pente_layer_forward(s->chain, NULL, &s->x, &s->y); }
static pente_status infer_alone(scene *s) {
    pente_matrix x = matrix_random(s->x.dtype, 2, 4, 4), y = matrix_random(s->x.dtype, 2, 4, 4);
    pente_status status = pente_layer_forward(s->own.layer, NULL, &x, &y);
    matrix_free(&x);
    matrix_free(&y);
    return status;
}
static pente_status forward(scene *s) { return pente_layer_forward(s->chain, s->context, &s->x, &s->y); }
static pente_status backward(scene *s) {
    return pente_layer_backward(s->chain, s->context, &s->target, &s->grad_input);
}
static pente_status step(scene *s) { return pente_trainer_step(s->trainer, &s->x, &s->target, NULL, NULL); }
static pente_status fit(scene *s) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.batch_size = 4;
    options.validation_x = &s->x;
    options.validation_y = &s->target;
    return pente_trainer_fit(s->trainer, &s->x, &s->target, &options, NULL);
}
static pente_status check(scene *s) {
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    return pente_gradcheck(s->chain, s->mse, &s->x, &s->target, NULL, &report);
}

static const struct {
    const char *name;
    pente_status (*run)(scene *s);
} outer[] = {{"inference", infer}, {"the layer alone", infer_alone}, {"forward", forward}, {"backward", backward},
             {"step", step},       {"fit", fit},                     {"gradcheck", check}};

/* Runs each with the same function inside the callbacks. backward comes after forward, as it must. */
static void run_all(void (*inside)(affine *own), pente_status expected) {
    scene s;
    scene_new(&s, PENTE_FLOAT64);
    s.own.inside = inside;
    for (size_t i = 0; i < COUNT(outer); i++) {
        int calls = s.calls;
        if (outer[i].run == backward && expected != PENTE_OK) { /* the forward before it has failed */
            s.own.inside = NULL;
            OK(forward(&s));
            s.own.inside = inside;
        }
        pente_status status = outer[i].run(&s);
        if (status != expected || s.wrong || s.calls == calls) {
            fail_msg("%s: status %d, %d wrong of %d calls inside, the last gave %d; %s", outer[i].name, (int)status,
                     s.wrong, s.calls - calls, (int)s.seen, pente_last_error());
        }
    }
    scene_free(&s);
}

/* ---- On other handles ---- */

static void count(scene *s, pente_status status, bool is_right) {
    s->seen = status;
    s->calls++;
    s->wrong += !is_right;
}

static int32_t go_on(const pente_epoch *epoch, void *of_nobody) {
    (void)epoch, (void)of_nobody;
    return 0;
}

static void use_others(affine *own) {
    scene *s = own->of_inside;
    double loss = 0;
    pente_matrix y = matrix_new(PENTE_FLOAT32, 30, 2, 2);
    pente_status status = pente_layer_forward(s->other.model.layer, NULL, &s->other_x, &y);
    count(s, status, status == PENTE_OK);
    status = pente_trainer_step(s->other.trainer, &s->other_x, &s->other_y, NULL, &loss);
    count(s, status, status == PENTE_OK);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    status = pente_trainer_fit(s->other.trainer, &s->other_x, &s->other_y, &options, NULL);
    count(s, status, status == PENTE_OK);
    options.on_epoch = go_on; /* would wait for who reads the other layer */
    status = pente_trainer_fit(s->other.trainer, &s->other_x, &s->other_y, &options, NULL);
    count(s, status, status == PENTE_INVALID_STATE);
    status = pente_mse_forward(s->mse, &y, &s->other_y, NULL, &loss); /* never written, so nobody's own */
    count(s, status, status == PENTE_OK);
    pente_layer *made = NULL;
    status = pente_linear_new(2, 2, NULL, &made);
    count(s, status, status == PENTE_OK);
    status = pente_layer_free(made);
    count(s, status, status == PENTE_OK);
    status = pente_layer_zero_gradients(NULL);
    count(s, status, status == PENTE_INVALID_HANDLE);
    matrix_free(&y);
}

static void test_others(void **state) {
    (void)state;
    run_all(use_others, PENTE_OK);
}

/* The status of a call within is a status to return; its words come out too. */
static void fail_by_another(affine *own) {
    scene *s = own->of_inside;
    s->seen = pente_layer_forward(s->other.model.layer, NULL, &s->other_y, &s->other_x);
    s->calls++;
    own->forward_fails = own->backward_fails = s->seen;
}

static void test_status_of_another(void **state) {
    (void)state;
    scene s;
    scene_new(&s, PENTE_FLOAT64);
    OK(forward(&s));
    s.own.inside = fail_by_another;
    for (size_t i = 0; i < COUNT(outer); i++) {
        if (outer[i].run == backward) {
            s.own.inside = NULL;
            s.own.forward_fails = PENTE_OK;
            OK(forward(&s));
            s.own.inside = fail_by_another;
        }
        REFUSED(PENTE_SHAPE_MISMATCH, outer[i].run(&s));
        if (!strstr(pente_last_error(), "returned 3: pente_layer_forward: x is ")) {
            fail_msg("%s: the message lacks its cause: %s", outer[i].name, pente_last_error());
        }
    }
    s.own.forward_fails = s.own.backward_fails = PENTE_OK;
    scene_free(&s);
}

/* ---- On their own ---- */

static void read_own(affine *own) {
    scene *s = own->of_inside;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_matrix value = matrix_new(s->x.dtype, 4, 4, 4), view;
    pente_layer *layer = NULL;
    pente_status statuses[] = {pente_layer_get_info(own->layer, &info),
                               pente_layer_get_info(s->chain, &info),
                               pente_layer_get_info(s->sibling, &info),
                               pente_layer_get_parameter(own->layer, "weight", &value),
                               pente_layer_get_parameter(s->chain, "1.weight", &value),
                               pente_layer_parameter_view(s->sibling, "weight", &view),
                               pente_sgd_get_options(s->sgd, 0, &options),
                               pente_chain_get_layer(s->chain, 0, &layer)};
    for (size_t i = 0; i < COUNT(statuses); i++) {
        count(s, statuses[i], statuses[i] == PENTE_OK || statuses[i] == PENTE_BUSY);
    }
    if (layer && pente_layer_free(layer)) s->wrong++;
    matrix_free(&value);
}

static void test_reading(void **state) {
    (void)state;
    run_all(read_own, PENTE_OK);
}

/* What would run the layer again. */
static void run_own(affine *own) {
    scene *s = own->of_inside;
    pente_matrix x = matrix_random(s->x.dtype, 2, 4, 4), y = matrix_random(s->x.dtype, 2, 4, 4);
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    pente_status statuses[] = {pente_layer_forward(own->layer, NULL, &x, &y),
                               infer(s),
                               forward(s),
                               backward(s),
                               step(s),
                               fit(s),
                               check(s),
                               pente_gradcheck(own->layer, NULL, &x, NULL, NULL, &report)};
    for (size_t i = 0; i < COUNT(statuses); i++) {
        /* In forward there is no pass yet to go back through, and either may be found first. */
        count(s, statuses[i], statuses[i] == PENTE_BUSY || (i == 3 && statuses[i] == PENTE_INVALID_STATE));
    }
    matrix_free(&x);
    matrix_free(&y);
}

static void test_running(void **state) {
    (void)state;
    run_all(run_own, PENTE_OK);
}

/* What would write the layer while it is at work. */
static void write_own(affine *own) {
    scene *s = own->of_inside;
    pente_matrix value = matrix_random(s->x.dtype, 4, 4, 4);
    pente_status statuses[] = {pente_layer_set_parameter(own->layer, "weight", &value),
                               pente_layer_zero_gradients(own->layer),
                               pente_layer_load_parameters(own->layer, NULL, "/dev/null"),
                               pente_sgd_step(s->sgd),
                               pente_sgd_zero_gradients(s->sgd)};
    for (size_t i = 0; i < COUNT(statuses); i++) {
        count(s, statuses[i], statuses[i] == PENTE_BUSY || (i == 2 && statuses[i] == PENTE_INVALID_FILE));
    }
    matrix_free(&value);
}

/* And what would write the chain around it. */
static void write_chain(affine *own) {
    scene *s = own->of_inside;
    pente_matrix value = matrix_random(s->x.dtype, 4, 3, 3);
    pente_status statuses[] = {pente_layer_set_parameter(s->chain, "0.weight", &value),
                               pente_layer_set_parameter(s->sibling, "weight", &value),
                               pente_layer_zero_gradients(s->chain),
                               pente_layer_zero_gradients(s->sibling),
                               pente_layer_reset_parameters(s->chain, 1),
                               pente_layer_reset_parameters(s->sibling, 1)};
    for (size_t i = 0; i < COUNT(statuses); i++) count(s, statuses[i], statuses[i] == PENTE_BUSY);
    matrix_free(&value);
}

static void test_writing(void **state) {
    (void)state;
    run_all(write_own, PENTE_OK);
    scene s;
    scene_new(&s, PENTE_FLOAT64);
    s.own.inside = write_chain;
    snapshot before = snapshot_new(s.chain);
    for (size_t i = 0; i < COUNT(outer); i++) {
        if (outer[i].run != infer_alone) OK(outer[i].run(&s));
        if (i == 2) assert_true(is_as_in(s.chain, &before));
    }
    assert_true(s.calls > 0 && s.wrong == 0);
    snapshot_free(&before);
    scene_free(&s);
}

/* ---- Freeing ---- */

static void free_own(affine *own) {
    scene *s = own->of_inside;
    own->inside = NULL;
    pente_status statuses[] = {pente_layer_free(own->layer),   pente_layer_free(s->chain), pente_layer_free(s->sibling),
                               pente_sgd_free(s->sgd),         pente_mse_free(s->mse),
                               pente_trainer_free(s->trainer), pente_context_free(s->context)};
    for (size_t i = 0; i < COUNT(statuses); i++) count(s, statuses[i], statuses[i] == PENTE_OK);
    s->wrong += own->releases != 0; /* it is at work */
}

/* The handles of a call under way may be freed: it goes on to its end, and then the layer goes. */
static void test_freeing(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(outer); i++) {
        scene s;
        scene_new(&s, PENTE_FLOAT64);
        if (outer[i].run == backward) OK(forward(&s));
        s.own.inside = free_own;
        OK(outer[i].run(&s));
        assert_true(s.calls == 7 && s.wrong == 0);
        assert_int_equal(s.own.releases, 1);
        REFUSED(PENTE_INVALID_HANDLE, outer[i].run(&s));
        s.chain = NULL;
        scene_free(&s);
    }
}

/* ---- Two that call each other ---- */

static void run_the_other(affine *own) {
    affine *other = own->of_inside;
    pente_matrix x = matrix_random(PENTE_FLOAT64, 2, 2, 2), y = matrix_random(PENTE_FLOAT64, 2, 2, 2);
    own->wrong += pente_layer_forward(other->layer, NULL, &x, &y) != (other->depth ? PENTE_BUSY : PENTE_OK);
    matrix_free(&x);
    matrix_free(&y);
}

static void test_each_other(void **state) {
    (void)state;
    affine one = {0}, two = {0};
    affine_new(&one, PENTE_FLOAT64, 2, 2, 1);
    affine_new(&two, PENTE_FLOAT64, 2, 2, 1);
    one.inside = two.inside = run_the_other;
    one.of_inside = &two;
    two.of_inside = &one;
    pente_matrix x = matrix_random(PENTE_FLOAT64, 3, 2, 2), y = matrix_random(PENTE_FLOAT64, 3, 2, 2);
    alarm(120);
    OK(pente_layer_forward(one.layer, NULL, &x, &y));
    alarm(0);
    assert_true(one.forwards == 1 && two.forwards == 1 && one.wrong == 0 && two.wrong == 0);
    OK(pente_layer_free(one.layer));
    OK(pente_layer_free(two.layer));
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others),  cmocka_unit_test(test_status_of_another), cmocka_unit_test(test_reading),
        cmocka_unit_test(test_running), cmocka_unit_test(test_writing),           cmocka_unit_test(test_freeing),
        cmocka_unit_test(test_each_other),
    };
    return cmocka_run_group_tests_name("custom's calls", tests, NULL, NULL);
}
