/* An optimizer's state, read from one and set in another: a run goes on to the same bits there. */
#include "layers.h"

#include <string.h>

/* Four parameters in two groups, the second's layer with one alone; the scaler's are not trained. */
typedef struct run {
    pente_layer *scaler, *one, *two, *chain;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} run;

enum { COUNT_OF_PARAMETERS = 4, INPUTS = 4, HIDDEN = 5, OUTPUTS = 2 };

static run run_new(pente_dtype dtype, uint64_t seed, const pente_sgd_options *first, const pente_sgd_options *second) {
    run r = {.scaler = scaler_new(dtype, INPUTS), .one = linear_new(dtype, INPUTS, HIDDEN, seed),
             .two = linear_new(dtype, HIDDEN, OUTPUTS, seed), .mse = mse_new(PENTE_MEAN)};
    OK(pente_chain_new((pente_layer *[]){r.scaler, r.one, r.two}, 3, &r.chain));
    OK(pente_sgd_new((pente_layer *[]){r.scaler, r.one}, 2, first, &r.sgd));
    OK(pente_sgd_add_group(r.sgd, &r.two, 1, second));
    r.trainer = trainer_of(r.chain, r.mse, r.sgd);
    return r;
}

static void run_free(run *r) {
    OK(pente_trainer_free(r->trainer));
    OK(pente_sgd_free(r->sgd));
    OK(pente_mse_free(r->mse));
    pente_layer *layers[] = {r->chain, r->scaler, r->one, r->two};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
}

/* ---- Reading a state, and setting it ---- */

typedef struct sgd_state {
    pente_sgd_options options[2];
    pente_matrix buffers[COUNT_OF_PARAMETERS];
    const pente_matrix *there[COUNT_OF_PARAMETERS]; /* NULL: no buffer */
    int64_t step_count;
} sgd_state;

static pente_sgd_parameter_info parameter_info(const run *r, int64_t index) {
    pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
    OK(pente_sgd_get_parameter_info(r->sgd, index, &info));
    return info;
}

static void state_get(const run *r, pente_dtype dtype, sgd_state *s) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_info(r->sgd, &info));
    assert_true(info.group_count == 2 && info.parameter_count == COUNT_OF_PARAMETERS);
    s->step_count = info.step_count;
    for (int group = 0; group < 2; group++) {
        s->options[group] = (pente_sgd_options)PENTE_SGD_OPTIONS_INIT;
        OK(pente_sgd_get_options(r->sgd, group, &s->options[group]));
    }
    for (int i = 0; i < COUNT_OF_PARAMETERS; i++) {
        pente_sgd_parameter_info p = parameter_info(r, i);
        s->buffers[i] = matrix_new(dtype, p.rows, p.columns, p.columns + 2);
        s->there[i] = p.has_momentum_buffer ? &s->buffers[i] : NULL;
        if (s->there[i]) OK(pente_sgd_get_momentum_buffer(r->sgd, i, &s->buffers[i]));
        assert_true(gap_is_untouched(&s->buffers[i]));
    }
}

static pente_status state_set(const run *r, const sgd_state *s) {
    return pente_sgd_set_state(r->sgd, s->options, 2, s->there, COUNT_OF_PARAMETERS, s->step_count);
}

static void state_free(sgd_state *s) {
    for (int i = 0; i < COUNT_OF_PARAMETERS; i++) matrix_free(&s->buffers[i]);
}

static void expect_same_state(const run *r, pente_dtype dtype, const sgd_state *expected) {
    sgd_state s;
    state_get(r, dtype, &s);
    assert_memory_equal(s.options, expected->options, sizeof s.options);
    assert_int_equal(s.step_count, expected->step_count);
    for (int i = 0; i < COUNT_OF_PARAMETERS; i++) {
        assert_int_equal(s.there[i] != NULL, expected->there[i] != NULL);
        if (s.there[i]) SAME_BITS(s.buffers[i], expected->buffers[i]);
    }
    state_free(&s);
}

static void copy_parameters(pente_layer *to, const pente_layer *from) {
    snapshot s = snapshot_new(from);
    for (int64_t i = 0; i < s.count; i++) {
        char name[32];
        OK(pente_layer_parameter_name(from, i, name, sizeof name));
        OK(pente_layer_set_parameter(to, name, &s.parameters[i]));
    }
    snapshot_free(&s);
}

/* ---- The tests ---- */

static void test_parameters(void **state) {
    (void)state;
    static const struct {
        int group, rows, columns, rank;
    } expected[] = {{0, HIDDEN, INPUTS, 2}, {0, 1, HIDDEN, 1}, {1, OUTPUTS, HIDDEN, 2}, {1, 1, OUTPUTS, 1}};
    pente_sgd_options options = options_of(0.1, 0.9, 0, 0, 0, 0);
    run r = run_new(PENTE_FLOAT32, 1, NULL, &options);
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < COUNT_OF_PARAMETERS; i++) {
            pente_sgd_parameter_info p = parameter_info(&r, i);
            assert_true(p.group == expected[i].group && p.rows == expected[i].rows &&
                        p.columns == expected[i].columns && p.rank == expected[i].rank);
            assert_int_equal(p.has_momentum_buffer, step > 0 && p.group == 1);
        }
        fill_gradients(r.chain);
        OK(pente_sgd_step(r.sgd));
    }
    pente_matrix value = matrix_new(PENTE_FLOAT32, HIDDEN, INPUTS, INPUTS), kept = matrix_copy(&value);
    REFUSED(PENTE_INVALID_STATE, pente_sgd_get_momentum_buffer(r.sgd, 0, &value));
    assert_string_equal(pente_last_error(), "pente_sgd_get_momentum_buffer: weight has no momentum buffer");
    SAME_BITS(value, kept);
    matrix_free(&value);
    matrix_free(&kept);
    run_free(&r);
}

static void check_resumed(pente_dtype dtype, const pente_sgd_options *first, const pente_sgd_options *second, int at) {
    run whole = run_new(dtype, 1, first, second), resumed = run_new(dtype, 7, NULL, NULL);
    pente_matrix x = matrix_random(dtype, 30, INPUTS, INPUTS), y = matrix_random(dtype, 30, OUTPUTS, OUTPUTS);
    /* A step of its own before, so that what it has prepared and kept is another run's. */
    OK(pente_trainer_step(resumed.trainer, &x, &y, NULL, NULL));
    for (int step = 0; step < 8; step++) {
        if (step == at) {
            sgd_state s;
            state_get(&whole, dtype, &s);
            copy_parameters(resumed.chain, whole.chain);
            OK(state_set(&resumed, &s));
            expect_same_state(&resumed, dtype, &s);
            state_free(&s);
        }
        double loss = -1, expected = -2;
        OK(pente_trainer_step(whole.trainer, &x, &y, NULL, &expected));
        if (step < at) continue;
        OK(pente_trainer_step(resumed.trainer, &x, &y, NULL, &loss));
        assert_memory_equal(&loss, &expected, sizeof loss);
        assert_true(same_layers(resumed.chain, whole.chain));
    }
    sgd_state s;
    state_get(&whole, dtype, &s);
    expect_same_state(&resumed, dtype, &s);
    state_free(&s);
    run_free(&whole);
    run_free(&resumed);
    matrix_free(&x);
    matrix_free(&y);
}

static void test_resumed(void **state) {
    (void)state;
    const pente_sgd_options pairs[][2] = {
        {options_of(0.05, 0.9, 0, 0, 0, 0), options_of(0.1, 0.5, 0.25, 0.01, 0, 0)},
        {options_of(0.1, 0, 0, 0, 0, 0), options_of(0.02, 0.9, 0, 0, 1, 0)},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        for (int at = 0; at < 6; at += 3) {
            check_resumed(PENTE_FLOAT32, &pairs[i][0], &pairs[i][1], at);
            check_resumed(PENTE_FLOAT64, &pairs[i][0], &pairs[i][1], at);
        }
    }
}

/* A buffer that is forgotten begins anew, as the gradient; the others go on. */
static void test_forgotten_buffers(void **state) {
    (void)state;
    pente_sgd_options options = options_of(0.1, 0.9, 0.5, 0, 0, 0);
    run r = run_new(PENTE_FLOAT64, 1, &options, &options);
    for (int step = 0; step < 3; step++) {
        fill_gradients(r.chain);
        OK(pente_sgd_step(r.sgd));
    }
    sgd_state s, after;
    state_get(&r, PENTE_FLOAT64, &s);
    s.there[2] = NULL;
    OK(state_set(&r, &s));
    expect_same_state(&r, PENTE_FLOAT64, &s);
    fill_gradients(r.chain);
    OK(pente_sgd_step(r.sgd));
    state_get(&r, PENTE_FLOAT64, &after);
    pente_matrix first = gradient_of(r.two, "weight"), second = gradient_of(r.two, "bias");
    SAME_BITS(after.buffers[2], first);
    assert_false(same_bits("bias", &after.buffers[3], &second));
    state_free(&s);
    state_free(&after);
    run_free(&r);
}

/* What is wrong with the last of many leaves the first as they were. */
static void test_all_or_nothing(void **state) {
    (void)state;
    pente_sgd_options options = options_of(0.1, 0.9, 0, 0, 0, 0);
    run r = run_new(PENTE_FLOAT32, 1, &options, &options);
    fill_gradients(r.chain);
    OK(pente_sgd_step(r.sgd));
    sgd_state before, wrong;
    state_get(&r, PENTE_FLOAT32, &before);
    state_get(&r, PENTE_FLOAT32, &wrong);
    wrong.options[0].lr = 0.7;
    wrong.step_count = 77;
    wrong.there[1] = NULL;
    fill(&wrong.buffers[0], 7);
    wrong.options[1].lr = -1;
    REFUSED(PENTE_INVALID_ARGUMENT, state_set(&r, &wrong));
    expect_same_state(&r, PENTE_FLOAT32, &before);
    wrong.options[1].lr = 1;
    wrong.buffers[3].columns = 1;
    REFUSED(PENTE_SHAPE_MISMATCH, state_set(&r, &wrong));
    assert_string_equal(pente_last_error(),
                        "pente_sgd_set_state: momentum_buffers[3] is 1\u00d71, but bias is 1\u00d72");
    expect_same_state(&r, PENTE_FLOAT32, &before);
    wrong.buffers[3].columns = OUTPUTS;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_set_state(r.sgd, wrong.options, 1, wrong.there, 4, 1));
    assert_string_equal(pente_last_error(), "pente_sgd_set_state: group_count and parameter_count are 1 and 4, but the "
                                            "optimizer has 2 and 4");
    expect_same_state(&r, PENTE_FLOAT32, &before);
    OK(state_set(&r, &wrong));
    expect_same_state(&r, PENTE_FLOAT32, &wrong);
    state_free(&before);
    state_free(&wrong);
    run_free(&r);
}

/* ---- In a fit's callback ---- */

typedef struct visit {
    const run *run;
    const sgd_state *state;
    pente_status set, clip, limit, info, buffer;
} visit;

static int32_t use_within_fit(const pente_epoch *epoch, void *argument) {
    visit *v = argument;
    pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
    (void)epoch;
    v->set = state_set(v->run, v->state);
    v->clip = pente_sgd_clip_gradients(v->run->sgd, 1, NULL);
    v->limit = pente_trainer_set_max_gradient_norm(v->run->trainer, 1);
    v->info = pente_sgd_get_parameter_info(v->run->sgd, 0, &info);
    v->buffer = pente_sgd_get_momentum_buffer(v->run->sgd, 0, &v->state->buffers[0]);
    return 0;
}

/* The state may be read there, and nothing of it set but the options. */
static void test_within_a_fit(void **state) {
    (void)state;
    pente_sgd_options options = options_of(0.1, 0.9, 0, 0, 0, 0);
    run r = run_new(PENTE_FLOAT32, 1, &options, &options);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 30, INPUTS, INPUTS), y = matrix_random(PENTE_FLOAT32, 30, 2, 2);
    sgd_state s;
    state_get(&r, PENTE_FLOAT32, &s);
    visit v = {.run = &r, .state = &s};
    pente_fit_options fit = PENTE_FIT_OPTIONS_INIT;
    fit.on_epoch = use_within_fit;
    fit.user_data = &v;
    OK(pente_trainer_fit(r.trainer, &x, &y, &fit, NULL));
    assert_true(v.set == PENTE_BUSY && v.clip == PENTE_BUSY && v.limit == PENTE_BUSY);
    assert_true(v.info == PENTE_OK && v.buffer == PENTE_OK);
    state_free(&s);
    run_free(&r);
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters),        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_forgotten_buffers), cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_within_a_fit),
    };
    return cmocka_run_group_tests_name("sgd_state", tests, NULL, NULL);
}
