/* The same bits on any processor: what was computed here is what was computed elsewhere. The numbers below change with
 * the order of the arithmetic and with nothing else. If they change on purpose, write the new ones here and say so in
 * the changelog. Run natively and under valgrind, which knows no AVX-512, this covers two of the library's levels. */
#include "support.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* FNV-1a over the elements' bytes */
static uint64_t hash(uint64_t h, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

static uint64_t hash_matrix(uint64_t h, const pente_matrix *m) {
    for (int64_t i = 0; i < m->rows; i++) {
        pente_matrix row = rows_of(m, i, 1);
        h = hash(h, row.data, (size_t)m->columns * element_size(m->dtype));
    }
    return h;
}

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
    uint64_t h = 0xcbf29ce484222325;
    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, context, &x, &prediction));
    OK(pente_layer_backward(m.layer, context, &y, &grad_input));
    h = hash_matrix(h, &prediction);
    h = hash_matrix(h, &grad_input);
    h = hash_model(h, &m);
    for (int step = 0; step < 3; step++) {
        double loss = 0;
        OK(pente_trainer_step(trainer, &x, &y, NULL, &loss));
        h = hash(h, &loss, sizeof loss);
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
    {50, 13, 1, PENTE_MEAN, {0x24832c260b4e95ac, 0xcbbd419fa24b8f07}},
    {1500, 13, 1, PENTE_MEAN, {0x869576ba19eba9be, 0xa979b46d31de361f}},
    {333, 17, 5, PENTE_SUM, {0x020f1ae022f6be66, 0x34db29c3c234ba66}},
    {70, 64, 40, PENTE_BATCH_MEAN, {0x6c99ecebdb9dcc30, 0xc5dfe3ca399cf74e}},
    {1100, 8, 33, PENTE_OUTPUT_MEAN, {0x9328fe12438e41ba, 0xa543fbb56ac34fc5}},
    {40, 600, 3, PENTE_MEAN, {0x3028242122c4ffcd, 0x933aabe304398644}},
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits)};
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
