/* Chains of so many layers that what is to be locked with them takes more than any reserve, without memory for it. */
#include "allocator.h"
#include "layers.h"

enum { MANY = 2500, SHARING = 30 };

/* Which nobody calls. */
static pente_status forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y, void *data) {
    (void)parameters, (void)x, (void)y, (void)data;
    return PENTE_USER;
}
static pente_status backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *data) {
    (void)grad_output, (void)grad_input, (void)gradients;
    return forward(parameters, x, y, data);
}

typedef struct bench {
    pente_layer *chain, *other, *nested, *sharing[SHARING];
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    void *made;
} bench;

static pente_layer *many(uint64_t seed) {
    pente_layer *layers[MANY];
    for (int i = 0; i < MANY; i++) layers[i] = linear_new(PENTE_FLOAT32, 1, 1, seed + (uint64_t)i);
    return chain_taking(layers, MANY);
}

/* Without parameters, so that other chains may have it more than once. */
static pente_layer *many_of_ones_own(void) {
    pente_layer *layers[MANY];
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.in_features = 1, options.out_features = 1;
    options.dtype = PENTE_FLOAT32;
    options.forward = forward, options.backward = backward;
    for (int i = 0; i < MANY; i++) OK(pente_custom_new(&options, &layers[i]));
    return chain_taking(layers, MANY);
}

static void bench_new(bench *b) {
    pente_layer *shared = many_of_ones_own();
    *b = (bench){.chain = many(1), .other = many(5), .mse = mse_new(PENTE_MEAN)};
    OK(pente_chain_new(&b->chain, 1, &b->nested));
    for (int i = 0; i < SHARING; i++) {
        pente_layer *tanh = activation_new(PENTE_FLOAT32, PENTE_TANH);
        OK(pente_chain_new((pente_layer *[]){shared, tanh}, 2, &b->sharing[i]));
        OK(pente_layer_free(tanh));
    }
    OK(pente_layer_free(shared));
    b->sgd = sgd_of(b->chain, 0.1, 0);
    b->trainer = trainer_of(b->chain, b->mse, b->sgd);
    OK(pente_sgd_add_group(b->sgd, &b->other, 1, NULL));
}

static void bench_free(void *argument) {
    bench *b = argument;
    for (int i = 0; i < SHARING; i++) OK(pente_layer_free(b->sharing[i]));
    OK(pente_trainer_free(b->trainer));
    OK(pente_sgd_free(b->sgd));
    OK(pente_mse_free(b->mse));
    OK(pente_layer_free(b->nested));
    OK(pente_layer_free(b->other));
    OK(pente_layer_free(b->chain));
}

static void free_made(void *argument) {
    bench *b = argument;
    pente_status ignored[] = {pente_layer_free(b->made), pente_sgd_free(b->made), pente_trainer_free(b->made)};
    (void)ignored;
    b->made = NULL;
}

static uint64_t fingerprint(void *argument) {
    bench *b = argument;
    bool has_made = b->made != NULL;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    pente_matrix weight = parameter_of(b->chain, "0.weight");
    OK(pente_sgd_get_info(b->sgd, &info));
    uint64_t hash = hash_bytes(hash_bytes(FIRST_HASH, &has_made, sizeof has_made), &info, sizeof info);
    return hash_matrix(hash, &weight);
}

static pente_status make_trainer(void *argument) {
    bench *b = argument;
    return pente_trainer_new(b->chain, b->mse, b->sgd, (pente_trainer **)&b->made);
}
/* The first since the optimizer has another group. */
static pente_status step(void *argument) {
    bench *b = argument;
    float number = 0.5f;
    pente_matrix x = pente_float32_matrix(&number, 1, 1);
    return pente_trainer_step(b->trainer, &x, &x, NULL, NULL);
}
static pente_status make_sgd(void *argument) {
    bench *b = argument;
    return pente_sgd_new((pente_layer *[]){b->chain, b->other}, 2, NULL, (pente_sgd **)&b->made);
}
/* Each of the chains has the same layers to be locked. */
static pente_status make_chain(void *argument) {
    bench *b = argument;
    return pente_chain_new(b->sharing, SHARING, (pente_layer **)&b->made);
}
static pente_status get_layer(void *argument) {
    bench *b = argument;
    return pente_chain_get_layer(b->nested, 0, (pente_layer **)&b->made);
}

#define TRIAL(name, run) {name, run, fingerprint, free_made, bench_free}

static const trial trials[] = {
    TRIAL("many layers' trainer", make_trainer),   TRIAL("many layers' first step", step),
    TRIAL("many layers' sgd", make_sgd),           TRIAL("a chain of chains of the same layers", make_chain),
    TRIAL("the handle of a chain within", get_layer),
};

static void test_many_layers(void **state) {
    (void)state;
    skip_unless_counting();
    bench b, twin;
    int wrong = 0;
    bench_new(&b); /* once for what is allocated for good, as the table of handles */
    bench_new(&twin);
    for (size_t i = 0; i < COUNT(trials); i++) {
        OK(trials[i].run(&b));
        OK(trials[i].run(&twin));
        free_made(&b);
        free_made(&twin);
    }
    bench_free(&b);
    bench_free(&twin);
    long live_before = atomic_load(&live_blocks);
    dense = 10, sparse = 1; /* of thousands */
    bench_new(&b);
    bench_new(&twin);
    for (size_t i = 0; i < COUNT(trials); i++) wrong += exhaust(&trials[i], &b, &twin, live_before);
    bench_free(&b);
    bench_free(&twin);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_many_layers)};
    return cmocka_run_group_tests_name("many layers without memory", tests, NULL, NULL);
}
