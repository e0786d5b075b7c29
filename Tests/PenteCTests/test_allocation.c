/* Which calls allocate, and what happens when they cannot. */
#include "allocator.h"

#include <string.h>

enum { Q = 40, N = 7, P = 3 };

typedef struct bench {
    model model, other;
    pente_mse *mse, *none;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, x64, y64, out, grad_input;
    model model64;
    void *made;
    double losses[3];
    pente_gradcheck_report report;
} bench;

static bench bench_new(void) {
    bench b = {.model = model_new(PENTE_FLOAT32, N, P, true, 1), .other = model_new(PENTE_FLOAT32, N, P, true, 2),
               .model64 = model_new(PENTE_FLOAT64, N, P, true, 3), .mse = mse_new(PENTE_MEAN),
               .none = mse_new(PENTE_NONE), .report = PENTE_GRADCHECK_REPORT_INIT};
    b.sgd = sgd_new(&b.model, 0.1, 0.9);
    b.trainer = trainer_new(&b.model, b.mse, b.sgd);
    b.x = matrix_random(PENTE_FLOAT32, Q, N, N);
    b.y = matrix_random(PENTE_FLOAT32, Q, P, P);
    b.out = matrix_random(PENTE_FLOAT32, Q, P, P);
    b.grad_input = matrix_random(PENTE_FLOAT32, Q, N, N);
    b.x64 = matrix_random(PENTE_FLOAT64, Q, N, N);
    b.y64 = matrix_random(PENTE_FLOAT64, Q, P, P);
    OK(pente_context_new(b.model.layer, &b.context));
    return b;
}

static void bench_free(void *argument) {
    bench *b = argument;
    OK(pente_context_free(b->context));
    OK(pente_trainer_free(b->trainer));
    OK(pente_sgd_free(b->sgd));
    OK(pente_mse_free(b->mse));
    OK(pente_mse_free(b->none));
    model_free(&b->model);
    model_free(&b->other);
    model_free(&b->model64);
    pente_matrix *matrices[] = {&b->x, &b->y, &b->out, &b->grad_input, &b->x64, &b->y64};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static pente_status make_linear(void *argument) {
    bench *b = argument;
    return pente_linear_new(N, P, NULL, (pente_layer **)&b->made);
}
static pente_status make_context(void *argument) {
    bench *b = argument;
    return pente_context_new(b->model.layer, (pente_context **)&b->made);
}
static pente_status make_mse(void *argument) {
    bench *b = argument;
    return pente_mse_new(NULL, (pente_mse **)&b->made);
}
static pente_status make_sgd(void *argument) {
    bench *b = argument;
    return pente_sgd_new(&b->other.layer, 1, NULL, (pente_sgd **)&b->made);
}
static pente_status make_trainer(void *argument) {
    bench *b = argument;
    return pente_trainer_new(b->model.layer, b->mse, b->sgd, (pente_trainer **)&b->made);
}
static pente_status add_group(void *argument) {
    bench *b = argument;
    return pente_sgd_add_group(b->sgd, &b->other.layer, 1, NULL);
}
static pente_status infer(void *argument) {
    bench *b = argument;
    return pente_layer_forward(b->model.layer, NULL, &b->x, &b->out);
}
static pente_status forward(void *argument) {
    bench *b = argument;
    return pente_layer_forward(b->model.layer, b->context, &b->x, &b->out);
}
static pente_status backward(void *argument) {
    bench *b = argument;
    return pente_layer_backward(b->model.layer, b->context, &b->y, &b->grad_input);
}
static pente_status loss(void *argument) {
    bench *b = argument;
    return pente_mse_forward(b->mse, &b->out, &b->y, NULL, b->losses);
}
static pente_status squares(void *argument) {
    bench *b = argument;
    pente_matrix prediction = rows_of(&b->out, 0, Q / 2), result = rows_of(&b->out, Q / 2, Q / 2);
    pente_matrix target = rows_of(&b->y, 0, Q / 2);
    return pente_mse_forward_elements(b->none, &prediction, &target, NULL, &result);
}
static pente_status loss_backward(void *argument) {
    bench *b = argument;
    pente_matrix prediction = rows_of(&b->out, 0, Q / 2), result = rows_of(&b->out, Q / 2, Q / 2);
    pente_matrix target = rows_of(&b->y, 0, Q / 2);
    return pente_mse_backward(b->mse, &prediction, &target, NULL, NULL, &result, NULL);
}
static pente_status sgd_step(void *argument) {
    bench *b = argument;
    return pente_sgd_step(b->sgd);
}
static pente_status clip(void *argument) {
    bench *b = argument;
    return pente_sgd_clip_gradients(b->sgd, 1e-3, b->losses);
}
static pente_status set_state(void *argument) {
    bench *b = argument;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    const pente_matrix *const buffers[] = {&b->other.weight, &b->other.bias};
    options.momentum = 0.9;
    return pente_sgd_set_state(b->sgd, &options, 1, buffers, 2, 5);
}
static pente_status trainer_step(void *argument) {
    bench *b = argument;
    return pente_trainer_step(b->trainer, &b->x, &b->y, NULL, b->losses);
}
static pente_status fit(void *argument) {
    bench *b = argument;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 3;
    options.batch_size = 16;
    options.validation_x = &b->x;
    options.validation_y = &b->y;
    options.patience = 3;
    options.training_losses = b->losses;
    return pente_trainer_fit(b->trainer, &b->x, &b->y, &options, NULL);
}
static pente_status check(void *argument) {
    bench *b = argument;
    return pente_gradcheck(b->model64.layer, b->mse, &b->x64, &b->y64, NULL, &b->report);
}

static void free_made(void *argument) {
    bench *b = argument;
    pente_status ignored[] = {pente_layer_free(b->made), pente_context_free(b->made), pente_mse_free(b->made),
                              pente_sgd_free(b->made), pente_trainer_free(b->made)};
    (void)ignored;
    b->made = NULL;
}

static uint64_t fingerprint(void *argument) {
    bench *b = argument;
    const model *models[] = {&b->model, &b->other, &b->model64};
    bool has_made = b->made != NULL;
    uint64_t hash = hash_bytes(FIRST_HASH, &has_made, sizeof has_made);
    for (size_t i = 0; i < COUNT(models); i++) {
        hash = hash_matrix(hash_matrix(hash, &models[i]->weight), &models[i]->weight_gradient);
        hash = hash_matrix(hash_matrix(hash, &models[i]->bias), &models[i]->bias_gradient);
    }
    hash = hash_matrix(hash_matrix(hash, &b->out), &b->grad_input);
    return hash_bytes(hash, b->losses, sizeof b->losses);
}

#define TRIAL(name, run) {name, run, fingerprint, free_made, bench_free}

/* In this order each has what it needs from those before it. */
static const trial trials[] = {
    TRIAL("linear_new", make_linear),       TRIAL("context_new", make_context),
    TRIAL("mse_new", make_mse),             TRIAL("sgd_new", make_sgd),
    TRIAL("trainer_new", make_trainer),     TRIAL("inference", infer),
    TRIAL("forward", forward),              TRIAL("backward", backward),
    TRIAL("mse_forward", loss),             TRIAL("mse_forward_elements", squares),
    TRIAL("mse_backward", loss_backward),   TRIAL("sgd_set_state", set_state),
    TRIAL("sgd_clip_gradients", clip),      TRIAL("sgd_step", sgd_step),
    TRIAL("trainer_step", trainer_step),    TRIAL("fit", fit),
    TRIAL("sgd_add_group", add_group),      TRIAL("gradcheck", check),
};

static bench run_all_trials(void) {
    bench b = bench_new();
    for (size_t i = 0; i < COUNT(trials); i++) {
        OK(trials[i].run(&b));
        free_made(&b);
    }
    return b;
}

static void copy_data(const pente_matrix *to, const pente_matrix *from) {
    memcpy(to->data, from->data, (size_t)(from->rows * from->columns) * element_size(from->dtype));
}

static void test_out_of_memory(void **state) {
    (void)state;
    skip_unless_counting();
    /* Once for what the library allocates for good: its table of handles, thread-local memory. */
    bench first = run_all_trials(), second = run_all_trials();
    bench_free(&first);
    bench_free(&second);

    long live_before = atomic_load(&live_blocks);
    bench b = bench_new(), twin = bench_new();
    int wrong = 0;
    copy_data(&twin.x, &b.x);
    copy_data(&twin.y, &b.y);
    copy_data(&twin.x64, &b.x64);
    copy_data(&twin.y64, &b.y64);
    copy_data(&twin.out, &b.out);
    copy_data(&twin.grad_input, &b.grad_input);
    for (size_t i = 0; i < COUNT(trials); i++) wrong += exhaust(&trials[i], &b, &twin, live_before);
    bench_free(&b);
    bench_free(&twin);
    assert_int_equal(wrong, 0);
}

/* Small objects have a reserve; when that is spent too, calls are refused, and what was made can be freed. */
static void test_reserve_is_spent(void **state) {
    (void)state;
    skip_unless_counting();
    enum { MOST = 20000 };
    static pente_mse *made[MOST];
    int count = 0;
    pente_status status = PENTE_OK;
    /* Once for the table of handles, whose growth would else be refused first. */
    for (int i = 0; i < MOST; i++) OK(pente_mse_new(NULL, &made[i]));
    for (int i = 0; i < MOST; i++) OK(pente_mse_free(made[i]));
    atomic_store(&allowed, 0);
    while (count < MOST && (status = pente_mse_new(NULL, &made[count])) == PENTE_OK) count++;
    pente_status freed = pente_mse_free(NULL);
    for (int i = 0; i < count; i++) freed |= pente_mse_free(made[i]);
    atomic_store(&allowed, -1);
    assert_int_equal(status, PENTE_OUT_OF_MEMORY);
    assert_int_equal(freed, PENTE_OK);
    OK(pente_mse_new(NULL, &made[0]));
    OK(pente_mse_free(made[0]));
}

/* After the first step of a size no step of that size, or of a smaller one, allocates. */
static void test_no_allocation(void **state) {
    (void)state;
    skip_unless_counting();
    static const int64_t largest[] = {1, 40, 3000};
    for (size_t i = 0; i < COUNT(largest); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            model m = model_new(dtype, 13, 3, true, 1);
            pente_mse *mse = mse_new(PENTE_MEAN);
            pente_sgd *sgd = sgd_new(&m, 0.01, 0.9);
            pente_trainer *trainer = trainer_new(&m, mse, sgd);
            pente_matrix x = matrix_random(dtype, largest[i], 13, 13), y = matrix_random(dtype, largest[i], 3, 3);
            pente_matrix weight = matrix_new(dtype, largest[i], 1, 1);
            double loss = 0;
            fill(&weight, 1);
            OK(pente_trainer_step(trainer, &x, &y, &weight, &loss));
            long before = atomic_load(&allocations);
            for (int step = 0; step < 20; step++) {
                OK(pente_trainer_set_max_gradient_norm(trainer, step < 10 ? 0 : 1e-3));
                pente_matrix some_x = rows_of(&x, 0, 1 + (step * 7) % x.rows), some_y = y, some_weight = weight;
                some_y.rows = some_weight.rows = some_x.rows;
                OK(pente_trainer_step(trainer, &some_x, &some_y, step % 2 ? &some_weight : NULL, &loss));
                OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
            }
            assert_int_equal(atomic_load(&allocations) - before, 0);
            OK(pente_trainer_free(trainer));
            OK(pente_sgd_free(sgd));
            OK(pente_mse_free(mse));
            model_free(&m);
            matrix_free(&x);
            matrix_free(&y);
            matrix_free(&weight);
        }
    }
}

/* A context's second pass of a size allocates nothing either. */
static void test_context_is_reused(void **state) {
    (void)state;
    skip_unless_counting();
    bench b = bench_new();
    OK(forward(&b));
    OK(backward(&b));
    long before = atomic_load(&allocations);
    for (int pass = 0; pass < 5; pass++) {
        OK(forward(&b));
        OK(backward(&b));
    }
    assert_int_equal(atomic_load(&allocations) - before, 0);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_context_is_reused),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_reserve_is_spent),
    };
    return cmocka_run_group_tests_name("allocation", tests, NULL, NULL);
}
