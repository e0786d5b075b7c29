/* The same bits on any processor: what was computed here is what was computed elsewhere. The numbers below change with
 * the order of the arithmetic and with nothing else. If they change on purpose, write the new ones here and say so in
 * the changelog. Run natively and under valgrind, which knows no AVX-512, this covers two of the library's levels. */
#include "layers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t hash_model(uint64_t h, const model *m) {
    h = hash_matrix(h, &m->weight);
    h = hash_matrix(h, &m->bias);
    h = hash_matrix(h, &m->weight_gradient);
    return hash_matrix(h, &m->bias_gradient);
}

/* A pass, some steps and a fit. */
static uint64_t train(pente_dtype dtype, int64_t q, int64_t n, int64_t p, pente_reduction reduction) {
    model m = model_new(dtype, n, p, true, 12);
    pente_mse *mse = mse_new(reduction);
    pente_sgd *sgd = sgd_new(&m, 1e-4, 0.9);
    pente_trainer *trainer = trainer_new(&m, mse, sgd);
    pente_context *context = NULL;
    pente_matrix x = matrix_random(dtype, q, n, n + 1), y = matrix_random(dtype, q, p, p);
    pente_matrix prediction = matrix_new(dtype, q, p, p), grad_input = matrix_new(dtype, q, n, n);
    uint64_t h = FIRST_HASH;
    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, context, &x, &prediction));
    OK(pente_layer_backward(m.layer, context, &y, &grad_input));
    h = hash_matrix(h, &prediction);
    h = hash_matrix(h, &grad_input);
    h = hash_model(h, &m);
    for (int step = 0; step < 3; step++) {
        double loss = 0;
        OK(pente_trainer_step(trainer, &x, &y, NULL, &loss));
        h = hash_bytes(h, &loss, sizeof loss);
    }
    OK(pente_trainer_fit(trainer, &x, &y, NULL, NULL));
    h = hash_model(h, &m);
    OK(pente_context_free(context));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    model_free(&m);
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&prediction);
    matrix_free(&grad_input);
    return h;
}

static const struct {
    int64_t q, n, p;
    pente_reduction reduction;
    uint64_t bits[2]; /* of float32, of float64 */
} cases[] = {
    {1, 1, 1, PENTE_MEAN, {0x4133bdb58aa706f5, 0x8a62d91c34cc719f}},
    {50, 13, 1, PENTE_MEAN, {0x2c20c63fd77b6394, 0xcbbd419fa24b8f07}},
    {1500, 13, 1, PENTE_MEAN, {0x9d67b91198768b4b, 0xe36bc7274cacd7c4}},
    {333, 17, 5, PENTE_SUM, {0xb2447ee949f66efa, 0xff82c17b8c73306f}},
    {70, 64, 40, PENTE_BATCH_MEAN, {0xb32bebf389c556df, 0x9d8d863541c9c8f1}},
    {1100, 8, 33, PENTE_OUTPUT_MEAN, {0x3d7518b89aa4210e, 0x86705724bb4ce6c4}},
    {40, 600, 3, PENTE_MEAN, {0x0c7bc51f7b01e115, 0x933aabe304398644}},
};

static void test_bits(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t bits[2];
        for (int k = 0; k < 2; k++) {
            bits[k] = train(PENTE_FLOAT32 + k, cases[i].q, cases[i].n, cases[i].p, cases[i].reduction);
        }
        if (memcmp(bits, cases[i].bits, sizeof bits) == 0) continue;
        wrong++;
        print_error("cases[%zu] gives {0x%016" PRIx64 ", 0x%016" PRIx64 "}\n", i, bits[0], bits[1]);
    }
    assert_int_equal(wrong, 0);
}

/* ---- Chains ---- */

static uint64_t hash_layer(uint64_t h, const pente_layer *layer) {
    snapshot s = snapshot_new(layer);
    for (int64_t i = 0; i < s.count; i++) h = hash_matrix(hash_matrix(h, &s.parameters[i]), &s.gradients[i]);
    snapshot_free(&s);
    return h;
}

/* A fitted scaler, two linear layers and an activation between them and after them: a pass, some steps and a fit, over
 * numbers from the middle of the line to its ends. */
static uint64_t train_chain(pente_dtype dtype, pente_activation activation, int64_t q) {
    enum { N = 7, P = 3 };
    pente_layer *scaler = NULL;
    pente_matrix x = matrix_random(dtype, q, N, N + 1), y = matrix_random(dtype, q, P, P);
    pente_matrix wide = matrix_random(dtype, q, P, P), grad_input = matrix_new(dtype, q, N, N);
    pente_matrix prediction = matrix_new(dtype, q, P, P), bent = matrix_new(dtype, q, P, P);
    for (int64_t i = 0; i < q; i++) put(&wide, i, i % P, get(&wide, i, i % P) * (dtype == PENTE_FLOAT32 ? 110 : 760));
    OK(pente_scaler_new(N, dtype, &scaler));
    OK(pente_scaler_fit(scaler, &x));
    pente_layer *bend = activation_new(dtype, activation);
    pente_layer *chain = CHAIN(scaler, linear_new(dtype, N, 9, 1), activation_new(dtype, activation),
                               CHAIN(linear_new(dtype, 9, P, 2), activation_new(dtype, activation)));
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(chain, 1e-2, 0.9);
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    pente_context *context = NULL;
    OK(pente_layer_forward(bend, NULL, &wide, &bent));
    uint64_t h = hash_matrix(FIRST_HASH, &bent);
    OK(pente_context_new(chain, &context));
    OK(pente_layer_forward(chain, context, &x, &prediction));
    OK(pente_layer_backward(chain, context, &y, &grad_input));
    h = hash_layer(hash_matrix(hash_matrix(h, &prediction), &grad_input), chain);
    for (int step = 0; step < 3; step++) {
        double loss = 0;
        OK(pente_trainer_step(trainer, &x, &y, NULL, &loss));
        h = hash_bytes(h, &loss, sizeof loss);
    }
    OK(pente_trainer_fit(trainer, &x, &y, NULL, NULL));
    h = hash_layer(h, chain);
    OK(pente_context_free(context));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(bend));
    pente_matrix *matrices[] = {&x, &y, &wide, &grad_input, &prediction, &bent};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    return h;
}

static const struct {
    pente_activation activation;
    int64_t q;
    uint64_t bits[2];
} chains[] = {
    {PENTE_RELU, 50, {0xdf7d727f43903086, 0xb35d906824f4f114}},
    {PENTE_RELU, 1500, {0x1052d755d2b32b0f, 0x557c937051598968}},
    {PENTE_LEAKY_RELU, 50, {0xdea58de65752cf98, 0xdfb47ccf871c7451}},
    {PENTE_LEAKY_RELU, 1500, {0xbb0c737954a4a614, 0x69c65c3d568ad91c}},
    {PENTE_TANH, 50, {0x130095aa0715a301, 0xd2df21cd1db91e05}},
    {PENTE_TANH, 1500, {0x52c78817acdad73f, 0x5268259ac8eb2a61}},
    {PENTE_SIGMOID, 50, {0x4c7e4ed2b2e74861, 0xe74281af2e3bcb0a}},
    {PENTE_SIGMOID, 1500, {0xf2163f76220ec22d, 0xfc455ab938bef3f2}},
    {PENTE_SOFTPLUS, 50, {0x831cfbc0a42f5f76, 0xc658a31ee6ce31ce}},
    {PENTE_SOFTPLUS, 1500, {0xcf3e079acd9b1944, 0xd18c9e409eed2b84}},
};

static void test_chains(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT(chains); i++) {
        uint64_t bits[2];
        for (int k = 0; k < 2; k++) bits[k] = train_chain(PENTE_FLOAT32 + k, chains[i].activation, chains[i].q);
        if (memcmp(bits, chains[i].bits, sizeof bits) == 0) continue;
        wrong++;
        print_error("chains[%zu] gives {0x%016" PRIx64 ", 0x%016" PRIx64 "}\n", i, bits[0], bits[1]);
    }
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits), cmocka_unit_test(test_chains)};
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
