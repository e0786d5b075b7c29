/* Which calls of chains, custom layers and files allocate, and what happens when they cannot. */
#include "allocator.h"
#include "files.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q = 12, N = 3, P = 2 };

/* A chain with each kind of layer, and the same without the layer of one's own, which can be loaded. */
typedef struct bench {
    affine own, made_own;
    pente_layer *chain, *plain, *scaler;
    pente_mse *mse;
    pente_sgd *sgd, *plain_sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, out, grad_input;
    pente_layer *made;
    double losses[2];
    const char *name; /* of its files */
} bench;

static bench *bench_new(bench *b, const char *name) {
    memset(b, 0, sizeof *b);
    b->name = name;
    affine_new(&b->own, PENTE_FLOAT64, 4, 4, 1);
    b->chain = CHAIN(scaler_new(PENTE_FLOAT64, N), CHAIN(linear_new(PENTE_FLOAT64, N, 4, 1), b->own.layer),
                     activation_new(PENTE_FLOAT64, PENTE_TANH), linear_new(PENTE_FLOAT64, 4, P, 2));
    b->plain = CHAIN(scaler_new(PENTE_FLOAT64, N), CHAIN(linear_new(PENTE_FLOAT64, N, 4, 1)),
                     activation_new(PENTE_FLOAT64, PENTE_LEAKY_RELU), linear_new(PENTE_FLOAT64, 4, P, 2));
    OK(pente_chain_get_layer(b->chain, 0, &b->scaler));
    b->mse = mse_new(PENTE_MEAN);
    b->sgd = sgd_of(b->chain, 0.01, 0.9);
    b->plain_sgd = sgd_of(b->plain, 0.01, 0.9);
    b->trainer = trainer_of(b->chain, b->mse, b->sgd);
    OK(pente_context_new(b->chain, &b->context));
    b->x = matrix_new(PENTE_FLOAT64, Q, N, N);
    b->y = matrix_new(PENTE_FLOAT64, Q, P, P);
    b->out = matrix_new(PENTE_FLOAT64, Q, P, P);
    b->grad_input = matrix_new(PENTE_FLOAT64, Q, N, N);
    /* A twin has the same numbers. */
    for (int64_t k = 0; k < Q * N; k++) put(&b->x, k / N, k % N, (double)(k * 7 % 11 - 5) / 8);
    for (int64_t k = 0; k < Q * P; k++) put(&b->y, k / P, k % P, (double)(k * 5 % 13 - 6) / 8);
    OK(pente_sgd_step(b->plain_sgd));
    OK(pente_layer_save(b->plain, b->plain_sgd, path_of(b->name)));
    return b;
}

static void bench_free(void *argument) {
    bench *b = argument;
    OK(pente_context_free(b->context));
    OK(pente_trainer_free(b->trainer));
    OK(pente_sgd_free(b->sgd));
    OK(pente_sgd_free(b->plain_sgd));
    OK(pente_mse_free(b->mse));
    pente_layer *layers[] = {b->chain, b->plain, b->scaler};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    assert_int_equal(b->own.releases, 1);
    pente_matrix *matrices[] = {&b->x, &b->y, &b->out, &b->grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void free_made(void *argument) {
    bench *b = argument;
    OK(pente_layer_free(b->made));
    b->made = NULL;
}

static uint64_t hash_layer(uint64_t hash, const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    for (int64_t i = 0; i < info.parameter_count; i++) {
        char name[64];
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        pente_matrix parameter = parameter_of(layer, name), gradient = gradient_of(layer, name);
        hash = hash_matrix(hash_matrix(hash, &parameter), &gradient);
    }
    return hash;
}

static uint64_t fingerprint(void *argument) {
    bench *b = argument;
    bool has_made = b->made != NULL;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    bytes file = {NULL, 0};
    uint64_t hash = hash_bytes(FIRST_HASH, &has_made, sizeof has_made);
    OK(pente_sgd_get_info(b->sgd, &info));
    hash = hash_bytes(hash_layer(hash_layer(hash, b->chain), b->plain), &info.step_count, sizeof info.step_count);
    hash = hash_matrix(hash_matrix(hash, &b->out), &b->grad_input);
    file = bytes_of(path_of(b->name));
    hash = hash_bytes(hash, file.data, file.size);
    bytes_free(&file);
    int files = count_files(), releases = b->own.releases + b->made_own.releases * (b->made == NULL);
    hash = hash_bytes(hash_bytes(hash, &files, sizeof files), &releases, sizeof releases);
    return hash_bytes(hash, b->losses, sizeof b->losses);
}

/* ---- The calls ---- */

static pente_status make_activation(void *argument) {
    bench *b = argument;
    return pente_activation_new(PENTE_TANH, NULL, &b->made);
}
static pente_status make_scaler(void *argument) {
    bench *b = argument;
    return pente_scaler_new(40, PENTE_FLOAT32, &b->made);
}
static pente_status make_chain(void *argument) {
    bench *b = argument;
    pente_layer *const layers[] = {b->scaler, b->scaler};
    return pente_chain_new(layers, 1, &b->made);
}
static pente_status get_layer(void *argument) {
    bench *b = argument;
    return pente_chain_get_layer(b->chain, 1, &b->made);
}
static pente_status make_custom(void *argument) {
    bench *b = argument;
    pente_custom_options options = affine_options(&b->made_own, PENTE_FLOAT64, N, N);
    const pente_custom_parameter parameters[] = {{"weight", b->x, 2}, {"bias", rows_of(&b->x, 0, 1), 1}};
    options.parameters = parameters;
    options.parameter_count = 2;
    return pente_custom_new(&options, &b->made);
}
static pente_status fit_scaler(void *argument) {
    bench *b = argument;
    return pente_scaler_fit(b->scaler, &b->x);
}
static pente_status reset(void *argument) {
    bench *b = argument;
    return pente_layer_reset_parameters(b->chain, 9);
}
static pente_status infer(void *argument) {
    bench *b = argument;
    return pente_layer_forward(b->chain, NULL, &b->x, &b->out);
}
static pente_status forward(void *argument) {
    bench *b = argument;
    return pente_layer_forward(b->chain, b->context, &b->x, &b->out);
}
static pente_status backward(void *argument) {
    bench *b = argument;
    return pente_layer_backward(b->chain, b->context, &b->y, &b->grad_input);
}
static pente_status step(void *argument) {
    bench *b = argument;
    return pente_trainer_step(b->trainer, &b->x, &b->y, NULL, &b->losses[0]);
}
static pente_status fit(void *argument) {
    bench *b = argument;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 2;
    options.batch_size = 5;
    options.validation_x = &b->x;
    options.validation_y = &b->y;
    options.patience = 2;
    options.training_losses = b->losses;
    return pente_trainer_fit(b->trainer, &b->x, &b->y, &options, NULL);
}
static pente_status check(void *argument) {
    bench *b = argument;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    return pente_gradcheck(b->chain, b->mse, &b->x, &b->y, NULL, &report);
}
static pente_status save(void *argument) {
    bench *b = argument;
    return pente_layer_save(b->plain, b->plain_sgd, path_of(b->name));
}
static pente_status load(void *argument) {
    bench *b = argument;
    return pente_layer_load(path_of(b->name), &b->made);
}
static pente_status load_parameters(void *argument) {
    bench *b = argument;
    return pente_layer_load_parameters(b->plain, b->plain_sgd, path_of(b->name));
}

#define TRIAL(name, run) {name, run, fingerprint, free_made, bench_free}

/* In this order each has what it needs from those before it. */
static const trial trials[] = {
    TRIAL("activation_new", make_activation), TRIAL("scaler_new", make_scaler),   TRIAL("chain_new", make_chain),
    TRIAL("chain_get_layer", get_layer),      TRIAL("custom_new", make_custom),   TRIAL("scaler_fit", fit_scaler),
    TRIAL("reset_parameters", reset),         TRIAL("inference", infer),          TRIAL("forward", forward),
    TRIAL("backward", backward),              TRIAL("trainer_step", step),        TRIAL("fit", fit),
    TRIAL("gradcheck", check),                TRIAL("save", save),                TRIAL("load", load),
    TRIAL("load_parameters", load_parameters),
};

static void run_all_trials(const char *name) {
    bench b;
    bench_new(&b, name);
    for (size_t i = 0; i < COUNT(trials); i++) {
        OK(trials[i].run(&b));
        free_made(&b);
    }
    bench_free(&b);
}

static void test_out_of_memory(void **state) {
    (void)state;
    skip_unless_counting();
    run_all_trials("bench"); /* once for what is allocated for good */
    run_all_trials("twin");
    long live_before = atomic_load(&live_blocks);
    bench b, twin;
    int wrong = 0;
    bench_new(&b, "bench");
    bench_new(&twin, "twin");
    for (size_t i = 0; i < COUNT(trials); i++) wrong += exhaust(&trials[i], &b, &twin, live_before);
    bench_free(&b);
    bench_free(&twin);
    assert_int_equal(wrong, 0);
    assert_int_equal(count_files(), 2);
}

/* ---- A large chain, whose names and descriptions take more than any reserve for small objects ---- */

typedef struct large {
    pente_layer *chain;
    pente_sgd *sgd;
    void *made;
    const char *name;
} large;

static void large_new(large *l, const char *name) {
    enum { LENGTH = 400 };
    pente_layer *layers[LENGTH];
    *l = (large){.name = name};
    for (int i = 0; i < LENGTH; i++) layers[i] = linear_new(PENTE_FLOAT32, 2, 2, (uint64_t)i);
    l->chain = chain_taking(layers, LENGTH);
    l->sgd = sgd_of(l->chain, 0.1, 0.5);
    OK(pente_sgd_step(l->sgd));
    OK(pente_layer_save(l->chain, l->sgd, path_of(name)));
}

static void large_free(void *argument) {
    large *l = argument;
    OK(pente_sgd_free(l->sgd));
    OK(pente_layer_free(l->chain));
}

static void large_free_made(void *argument) {
    large *l = argument;
    pente_status ignored[] = {pente_layer_free(l->made), pente_sgd_free(l->made), pente_context_free(l->made)};
    (void)ignored;
    l->made = NULL;
}

static uint64_t large_fingerprint(void *argument) {
    large *l = argument;
    bool has_made = l->made != NULL;
    int files = count_files();
    uint64_t hash = hash_bytes(hash_bytes(FIRST_HASH, &has_made, sizeof has_made), &files, sizeof files);
    bytes file = bytes_of(path_of(l->name));
    hash = hash_bytes(hash_layer(hash, l->chain), file.data, file.size);
    bytes_free(&file);
    return hash;
}

static pente_status nest_large(void *argument) {
    large *l = argument;
    return pente_chain_new(&l->chain, 1, (pente_layer **)&l->made);
}
static pente_status get_large_layer(void *argument) {
    large *l = argument;
    return pente_chain_get_layer(l->chain, 399, (pente_layer **)&l->made);
}
static pente_status make_large_sgd(void *argument) {
    large *l = argument;
    return pente_sgd_new(&l->chain, 1, NULL, (pente_sgd **)&l->made);
}
static pente_status make_large_context(void *argument) {
    large *l = argument;
    return pente_context_new(l->chain, (pente_context **)&l->made);
}
static pente_status get_large_info(void *argument) {
    large *l = argument;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    return pente_layer_get_info(l->chain, &info);
}
static pente_status ask_for_another_name(void *argument) {
    large *l = argument;
    pente_matrix view = {0};
    pente_status status = pente_layer_parameter_view(l->chain, "400.weight", &view);
    return status == PENTE_INVALID_ARGUMENT ? PENTE_OK : status;
}
static pente_status save_large(void *argument) {
    large *l = argument;
    return pente_layer_save(l->chain, l->sgd, path_of(l->name));
}
static pente_status load_large(void *argument) {
    large *l = argument;
    return pente_layer_load(path_of(l->name), (pente_layer **)&l->made);
}
static pente_status load_large_parameters(void *argument) {
    large *l = argument;
    return pente_layer_load_parameters(l->chain, l->sgd, path_of(l->name));
}

#define LARGE(name, run) {name, run, large_fingerprint, large_free_made, large_free}

static const trial large_trials[] = {
    LARGE("nesting a large chain", nest_large),      LARGE("getting a large chain's layer", get_large_layer),
    LARGE("a large chain's sgd", make_large_sgd),    LARGE("a large chain's context", make_large_context),
    LARGE("a large chain's info", get_large_info),   LARGE("another name", ask_for_another_name),
    LARGE("saving a large chain", save_large),       LARGE("loading a large chain", load_large),
    LARGE("loading parameters", load_large_parameters),
};

static void test_large_chain(void **state) {
    (void)state;
    skip_unless_counting();
    large l, twin;
    int wrong = 0;
    large_new(&l, "bench"); /* once for what is allocated for good, as the table of handles */
    large_new(&twin, "twin");
    for (size_t i = 0; i < COUNT(large_trials); i++) {
        OK(large_trials[i].run(&l));
        OK(large_trials[i].run(&twin));
        large_free_made(&l);
        large_free_made(&twin);
    }
    large_free(&l);
    large_free(&twin);
    long live_before = atomic_load(&live_blocks);
    dense = 4, sparse = 1; /* of thousands */
    large_new(&l, "bench");
    large_new(&twin, "twin");
    for (size_t i = 0; i < COUNT(large_trials); i++) wrong += exhaust(&large_trials[i], &l, &twin, live_before);
    large_free(&l);
    large_free(&twin);
    assert_int_equal(wrong, 0);
    assert_int_equal(count_files(), 2);
}

/* ---- What allocates nothing ---- */

static void check_no_allocation(pente_layer *layer, pente_dtype dtype, int64_t q) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(layer, 1e-4, 0.9);
    pente_trainer *trainer = trainer_of(layer, mse, sgd);
    pente_context *context = NULL;
    pente_matrix x = matrix_random(dtype, q, info.in_features, info.in_features + 1);
    pente_matrix y = matrix_random(dtype, q, info.out_features, info.out_features);
    pente_matrix out = matrix_random(dtype, q, info.out_features, info.out_features + 1);
    pente_matrix grad_input = matrix_random(dtype, q, info.in_features, info.in_features);
    OK(pente_context_new(layer, &context));
    long before = 0;
    for (int round = 0; round < 4; round++) {
        if (round == 1) before = atomic_load(&allocations);
        int64_t rows = round == 2 ? (q + 1) / 2 : q; /* and a smaller batch allocates nothing either */
        pente_matrix some_x = rows_of(&x, 0, rows), some_y = rows_of(&y, 0, rows), some_out = rows_of(&out, 0, rows);
        pente_matrix some_grad_input = rows_of(&grad_input, 0, rows);
        OK(pente_trainer_step(trainer, &some_x, &some_y, NULL, NULL));
        OK(pente_layer_forward(layer, context, &some_x, &some_out));
        OK(pente_layer_backward(layer, context, &some_y, &some_grad_input));
        OK(pente_layer_forward(layer, context, &some_x, &some_out));
        OK(pente_layer_backward(layer, context, &some_y, NULL));
    }
    assert_int_equal(atomic_load(&allocations) - before, 0);
    OK(pente_context_free(context));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(layer));
    pente_matrix *matrices[] = {&x, &y, &out, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static void test_no_allocation(void **state) {
    if (getenv("PENTE_CHECKED")) skip(); /* whose callbacks get copies */
    (void)state;
    skip_unless_counting();
    static const int64_t rows[] = {1, 40, 1500};
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            affine alone = {0}, inside = {0};
            affine_new(&alone, dtype, 4, 3, 1);
            affine_new(&inside, dtype, 4, 3, 1);
            check_no_allocation(tall_chain_new(dtype, 1), dtype, rows[i]);
            check_no_allocation(CHAIN(CHAIN(tall_chain_new(dtype, 1)), linear_new(dtype, 2, 3, 1)), dtype, rows[i]);
            check_no_allocation(alone.layer, dtype, rows[i]);
            check_no_allocation(CHAIN(linear_new(dtype, 5, 4, 1), inside.layer, activation_new(dtype, PENTE_SIGMOID)),
                                dtype, rows[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_large_chain),
    };
    return cmocka_run_group_tests_name("allocation of layers", tests, directory_new, directory_free);
}
