/* Stochastic gradient descent against the header's four lines, bit for bit. */
#include "oracle.h"

#include <math.h>
#include <string.h>

/* A model's twin, that the oracle steps. */
typedef struct twin {
    pente_matrix weight, bias, weight_buffer, bias_buffer;
    bool weight_has_buffer, bias_has_buffer;
} twin;

static twin twin_new(const model *m) {
    twin t = {.weight = matrix_copy(&m->weight), .bias = matrix_copy(&m->bias)};
    t.weight_buffer = matrix_random(t.weight.dtype, t.weight.rows, t.weight.columns, t.weight.columns);
    t.bias_buffer = matrix_random(t.bias.dtype, 1, t.bias.columns, t.bias.columns);
    return t;
}

static void twin_free(twin *t) {
    matrix_free(&t->weight);
    matrix_free(&t->bias);
    matrix_free(&t->weight_buffer);
    matrix_free(&t->bias_buffer);
}

static void twin_step(twin *t, const model *m, const pente_sgd_options *options) {
    sgd_update(options, &t->weight, &m->weight_gradient, &t->weight_buffer, &t->weight_has_buffer);
    sgd_update(options, &t->bias, &m->bias_gradient, &t->bias_buffer, &t->bias_has_buffer);
}

static void expect_same(const model *m, const twin *t) {
    SAME_BITS(m->weight, t->weight);
    SAME_BITS(m->bias, t->bias);
}

static void fill_gradients(const model *m) {
    fill_random(&m->weight_gradient);
    fill_random(&m->bias_gradient);
}

static void check_options(pente_dtype dtype, const pente_sgd_options *options) {
    static const int64_t sizes[][2] = {{1, 1}, {3, 7}, {17, 5}, {40, 33}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        model m = model_new(dtype, sizes[i][0], sizes[i][1], true, 9);
        twin t = twin_new(&m);
        pente_sgd *sgd = NULL;
        OK(pente_sgd_new(&m.layer, 1, options, &sgd));
        for (int step = 0; step < 4; step++) {
            fill_gradients(&m);
            pente_matrix kept = matrix_copy(&m.weight_gradient);
            twin_step(&t, &m, options);
            OK(pente_sgd_step(sgd));
            expect_same(&m, &t);
            SAME_BITS(m.weight_gradient, kept);
            matrix_free(&kept);
        }
        OK(pente_sgd_free(sgd));
        twin_free(&t);
        model_free(&m);
    }
}

static void test_options(void **state) {
    (void)state;
    static const double momenta[] = {0, 0.9, 1}, dampenings[] = {0, 0.3, 1, -0.5}, decays[] = {0, 0.01, 1};
    for (size_t i = 0; i < COUNT(momenta); i++) {
        for (size_t j = 0; j < COUNT(dampenings); j++) {
            for (size_t k = 0; k < COUNT(decays); k++) {
                for (int flags = 0; flags < 4; flags++) {
                    int nesterov = flags & 1, maximize = flags >> 1;
                    if (nesterov && (momenta[i] == 0 || dampenings[j] != 0)) continue;
                    pente_sgd_options o = options_of(0.1, momenta[i], dampenings[j], decays[k], nesterov, maximize);
                    check_options(PENTE_FLOAT32, &o);
                    check_options(PENTE_FLOAT64, &o);
                }
            }
        }
    }
    pente_sgd_options still = options_of(0, 0.9, 0, 0.1, 0, 0);
    check_options(PENTE_FLOAT32, &still);
}

/* A product that is half a unit in a parameter's last place, but for a little: an update that is rounded twice goes astray. */
static void test_updates_near_a_tie(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        double large = ldexp(1, dtype == PENTE_FLOAT32 ? 24 : 53), u = 1 / large;
        const double parameters[] = {large, large + 2, -large, -large - 2, -large + 1};
        model m = model_new(dtype, COUNT(parameters), 3, true, 1);
        pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
        pente_sgd *sgd = sgd_new(&m, 0.1, 0);
        for (int round = 0; round < 1000; round++) {
            double i = (double)(1 + random_below(dtype == PENTE_FLOAT32 ? 1 << 11 : 1 << 28));
            const double gradients[] = {1 + 2 * i * u, 1 + 2 * floor(i / 2) * u, -1 - 2 * i * u};
            for (int64_t k = 0; k < 3; k++) {
                for (int64_t j = 0; j < m.weight.columns; j++) {
                    put(&m.weight, k, j, parameters[j]);
                    put(&m.weight_gradient, k, j, gradients[k]);
                }
            }
            twin t = twin_new(&m);
            options.lr = 1 - i * u;
            OK(pente_sgd_set_options(sgd, 0, &options));
            twin_step(&t, &m, &options);
            OK(pente_sgd_step(sgd));
            expect_same(&m, &t);
            twin_free(&t);
        }
        OK(pente_sgd_free(sgd));
        model_free(&m);
    }
}

static void test_default_options(void **state) {
    (void)state;
    const pente_sgd_options defaults = PENTE_SGD_OPTIONS_INIT;
    model m = model_new(PENTE_FLOAT32, 3, 2, true, 1);
    twin t = twin_new(&m);
    pente_sgd *sgd = NULL;
    OK(pente_sgd_new(&m.layer, 1, NULL, &sgd));
    fill_gradients(&m);
    twin_step(&t, &m, &defaults);
    OK(pente_sgd_step(sgd));
    expect_same(&m, &t);
    OK(pente_sgd_free(sgd));
    twin_free(&t);
    model_free(&m);
}

/* Options that change between steps. A buffer starts with the first step that has momentum, and is then kept. */
static void test_changing_options(void **state) {
    (void)state;
    const pente_sgd_options phases[] = {options_of(0.1, 0, 0, 0, 0, 0),      options_of(0.1, 0.9, 0.5, 0, 0, 0),
                                        options_of(0.2, 0.9, 0.5, 0.1, 0, 0), options_of(0.2, 0, 0, 0.1, 0, 0),
                                        options_of(0.2, 0.5, 0, 0.1, 1, 1)};
    model m = model_new(PENTE_FLOAT32, 5, 3, true, 1);
    twin t = twin_new(&m);
    pente_sgd *sgd = NULL;
    OK(pente_sgd_new(&m.layer, 1, NULL, &sgd));
    for (size_t i = 0; i < COUNT(phases); i++) {
        pente_sgd_options read = PENTE_SGD_OPTIONS_INIT;
        OK(pente_sgd_set_options(sgd, 0, &phases[i]));
        OK(pente_sgd_get_options(sgd, 0, &read));
        assert_memory_equal(&read, &phases[i], sizeof read);
        for (int step = 0; step < 3; step++) {
            fill_gradients(&m);
            twin_step(&t, &m, &phases[i]);
            OK(pente_sgd_step(sgd));
            expect_same(&m, &t);
        }
    }
    pente_sgd_options slower = phases[COUNT(phases) - 1];
    slower.lr = 0.01;
    OK(pente_sgd_set_lr(sgd, 0, slower.lr));
    twin_step(&t, &m, &slower);
    OK(pente_sgd_step(sgd));
    expect_same(&m, &t);

    /* NULL stands for the macro's values. */
    const pente_sgd_options defaults = PENTE_SGD_OPTIONS_INIT;
    pente_sgd_options read = slower;
    OK(pente_sgd_set_options(sgd, 0, NULL));
    OK(pente_sgd_get_options(sgd, 0, &read));
    assert_memory_equal(&read, &defaults, sizeof read);
    OK(pente_sgd_free(sgd));
    twin_free(&t);
    model_free(&m);
}

/* Three layers in two groups, the second added later; each has its options, none touches the other's. */
static void test_groups(void **state) {
    (void)state;
    const pente_sgd_options first = options_of(0.1, 0.9, 0, 0, 0, 0), second = options_of(0.3, 0, 0, 0.5, 0, 1);
    model models[] = {model_new(PENTE_FLOAT64, 3, 2, true, 1), model_new(PENTE_FLOAT64, 4, 4, true, 2),
                      model_new(PENTE_FLOAT64, 1, 9, true, 3)};
    twin twins[3];
    pente_layer *layers[3];
    pente_sgd *sgd = NULL;
    for (int i = 0; i < 3; i++) {
        twins[i] = twin_new(&models[i]);
        layers[i] = models[i].layer;
        fill_gradients(&models[i]);
    }
    OK(pente_sgd_new(layers, 1, &first, &sgd));
    OK(pente_sgd_step(sgd));
    twin_step(&twins[0], &models[0], &first);
    OK(pente_sgd_add_group(sgd, layers + 1, 2, &second));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_add_group(sgd, layers + 2, 1, NULL));
    for (int step = 0; step < 3; step++) {
        OK(pente_sgd_step(sgd));
        for (int i = 0; i < 3; i++) {
            twin_step(&twins[i], &models[i], i == 0 ? &first : &second);
            expect_same(&models[i], &twins[i]);
        }
    }
    pente_sgd_options read = PENTE_SGD_OPTIONS_INIT;
    OK(pente_sgd_set_lr(sgd, 1, 0.25));
    OK(pente_sgd_get_options(sgd, 0, &read));
    assert_memory_equal(&read, &first, sizeof read);
    OK(pente_sgd_get_options(sgd, 1, &read));
    assert_true(read.lr == 0.25 && read.weight_decay == 0.5 && read.maximize == 1);

    OK(pente_sgd_zero_gradients(sgd));
    for (int i = 0; i < 3; i++) {
        for (int64_t j = 0; j < models[i].bias.columns; j++) assert_true(get(&models[i].bias_gradient, 0, j) == 0);
    }
    /* sgd holds the layers: handles may go first. The views stay good as long as it lives. */
    for (int i = 0; i < 3; i++) {
        model_free(&models[i]);
        fill_gradients(&models[i]);
    }
    OK(pente_sgd_step(sgd));
    twin_step(&twins[0], &models[0], &first);
    expect_same(&models[0], &twins[0]);
    OK(pente_sgd_free(sgd));
    for (int i = 0; i < 3; i++) twin_free(&twins[i]);
}

/* Two optimizers may hold one layer; each has its own momentum. */
static void test_two_optimizers(void **state) {
    (void)state;
    const pente_sgd_options options = options_of(0.1, 0.9, 0.5, 0, 0, 0);
    model m = model_new(PENTE_FLOAT32, 2, 2, true, 1);
    twin one = twin_new(&m), two = twin_new(&m);
    pente_sgd *sgds[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) OK(pente_sgd_new(&m.layer, 1, &options, &sgds[i]));
    for (int step = 0; step < 6; step++) {
        twin *t = step % 2 ? &two : &one, *other = step % 2 ? &one : &two;
        fill_gradients(&m);
        twin_step(t, &m, &options);
        OK(pente_sgd_step(sgds[step % 2]));
        expect_same(&m, t);
        memcpy(other->weight.data, t->weight.data, 4 * sizeof(float));
        memcpy(other->bias.data, t->bias.data, 2 * sizeof(float));
    }
    for (int i = 0; i < 2; i++) OK(pente_sgd_free(sgds[i]));
    twin_free(&one);
    twin_free(&two);
    model_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),          cmocka_unit_test(test_default_options),
        cmocka_unit_test(test_updates_near_a_tie),
        cmocka_unit_test(test_changing_options), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_two_optimizers),
    };
    return cmocka_run_group_tests_name("sgd", tests, NULL, NULL);
}
