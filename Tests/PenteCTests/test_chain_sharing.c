/* Layers that several hold: one parameter once, one activation anywhere, handles that share, freed in any order. */
#include "layers.h"

static void check_refusal(pente_status status, pente_layer *const *layers, int64_t count) {
    pente_layer *chain = (pente_layer *)&chain, *kept = chain;
    REFUSED(status, pente_chain_new(layers, count, &chain));
    assert_ptr_equal(chain, kept);
}

static void test_one_parameter_twice(void **state) {
    (void)state;
    pente_layer *linear = linear_new(PENTE_FLOAT32, 3, 3, 1), *scaler = scaler_new(PENTE_FLOAT32, 3), *chain = NULL;
    pente_layer *other = linear_new(PENTE_FLOAT32, 3, 3, 1);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){linear, linear}, 2);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){linear, other, linear}, 3);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){scaler, other, scaler}, 3);
    OK(pente_chain_new((pente_layer *[]){scaler, linear}, 2, &chain));
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){chain, other, chain}, 3);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){chain, linear}, 2);
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){scaler, other, chain}, 3);
    pente_layer *further = NULL;
    OK(pente_chain_get_layer(chain, 1, &further));
    check_refusal(PENTE_INVALID_ARGUMENT, (pente_layer *[]){linear, further}, 2);
    /* The same for an optimizer. */
    pente_sgd *sgd = NULL;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new((pente_layer *[]){chain, linear}, 2, NULL, &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new((pente_layer *[]){further, linear}, 2, NULL, &sgd));
    OK(pente_sgd_new(&chain, 1, NULL, &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_add_group(sgd, &further, 1, NULL));
    OK(pente_sgd_add_group(sgd, &other, 1, NULL));
    OK(pente_sgd_free(sgd));
    pente_layer *all[] = {linear, scaler, chain, other, further};
    for (size_t i = 0; i < COUNT(all); i++) OK(pente_layer_free(all[i]));
}

/* One activation in several places of a chain, and in two chains, is as one of its own in each. */
static void test_shared_activation(void **state) {
    (void)state;
    pente_layer *tanh = activation_new(PENTE_FLOAT32, PENTE_TANH);
    pente_layer *shared[2] = {NULL, NULL}, *separate[2];
    pente_matrix x = matrix_random(PENTE_FLOAT32, 9, 4, 4), grad_input[2], y[2], grad_output;
    grad_output = matrix_random(PENTE_FLOAT32, 9, 2, 2);
    for (int i = 0; i < 2; i++) {
        pente_layer *first = linear_new(PENTE_FLOAT32, 4, 3, (uint64_t)i), *last = linear_new(PENTE_FLOAT32, 3, 2, 9);
        OK(pente_chain_new((pente_layer *[]){tanh, first, tanh, tanh, last}, 5, &shared[i]));
        OK(pente_layer_free(first));
        OK(pente_layer_free(last));
        separate[i] = CHAIN(activation_new(PENTE_FLOAT32, PENTE_TANH), linear_new(PENTE_FLOAT32, 4, 3, (uint64_t)i),
                            activation_new(PENTE_FLOAT32, PENTE_TANH), activation_new(PENTE_FLOAT32, PENTE_TANH),
                            linear_new(PENTE_FLOAT32, 3, 2, 9));
        y[i] = matrix_new(PENTE_FLOAT32, 9, 2, 2);
        grad_input[i] = matrix_new(PENTE_FLOAT32, 9, 4, 4);
    }
    OK(pente_layer_free(tanh));
    for (int i = 0; i < 2; i++) {
        pente_layer *pair[] = {shared[i], separate[i]};
        for (int k = 0; k < 2; k++) {
            pente_context *context = NULL;
            OK(pente_context_new(pair[k], &context));
            OK(pente_layer_forward(pair[k], context, &x, &y[k]));
            OK(pente_layer_backward(pair[k], context, &grad_output, &grad_input[k]));
            OK(pente_context_free(context));
        }
        SAME_BITS(y[0], y[1]);
        SAME_BITS(grad_input[0], grad_input[1]);
        assert_true(same_layers(shared[i], separate[i]));
    }
    for (int i = 0; i < 2; i++) {
        OK(pente_layer_free(shared[i]));
        OK(pente_layer_free(separate[i]));
        matrix_free(&y[i]);
        matrix_free(&grad_input[i]);
    }
    matrix_free(&x);
    matrix_free(&grad_output);
}

/* What is written through one handle is seen through the others: they are the same layer. */
static void test_handles_share(void **state) {
    (void)state;
    pente_layer *linear = linear_new(PENTE_FLOAT64, 2, 2, 1), *chain = NULL, *again = NULL, *none = NULL;
    OK(pente_chain_new(&linear, 1, &chain));
    OK(pente_chain_get_layer(chain, 0, &again));
    assert_ptr_not_equal(again, linear);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_chain_get_layer(chain, 1, &none));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_chain_get_layer(chain, -1, &none));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_chain_get_layer(linear, 0, &none));
    assert_null(none);
    assert_ptr_equal(parameter_of(chain, "0.weight").data, parameter_of(linear, "weight").data);
    assert_ptr_equal(parameter_of(again, "weight").data, parameter_of(linear, "weight").data);
    assert_ptr_equal(gradient_of(chain, "0.bias").data, gradient_of(again, "bias").data);
    pente_matrix value = matrix_random(PENTE_FLOAT64, 2, 2, 2), back = matrix_new(PENTE_FLOAT64, 2, 2, 2);
    OK(pente_layer_set_parameter(again, "weight", &value));
    OK(pente_layer_get_parameter(chain, "0.weight", &back));
    SAME_BITS(value, back);
    fill_gradients(chain);
    OK(pente_layer_zero_gradients(linear));
    pente_matrix gradient = gradient_of(chain, "0.weight");
    assert_true(get(&gradient, 1, 1) == 0);
    OK(pente_layer_free(chain));
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_free(chain));
    OK(pente_layer_free(linear));
    OK(pente_layer_get_parameter(again, "weight", &back)); /* it lives as long as one of them does */
    SAME_BITS(value, back);
    OK(pente_layer_free(again));
    matrix_free(&value);
    matrix_free(&back);
}

/* A chain's layers are each its own: handles of two of them are not in each other's way, and keep nothing but their
 * layer alive. */
typedef struct siblings {
    affine own;
    pente_layer *linear;
    pente_status set, read;
} siblings;

static void use_sibling(affine *own) {
    siblings *s = own->of_inside;
    pente_matrix value = matrix_random(PENTE_FLOAT32, 3, 2, 2);
    s->set = pente_layer_set_parameter(s->linear, "weight", &value);
    s->read = pente_layer_get_parameter(s->linear, "weight", &value);
    matrix_free(&value);
}

static void test_siblings(void **state) {
    (void)state;
    siblings s = {.own = {.inside = use_sibling}, .set = -1, .read = -1};
    s.own.of_inside = &s;
    affine_new(&s.own, PENTE_FLOAT32, 3, 2, 1);
    pente_layer *chain = CHAIN(linear_new(PENTE_FLOAT32, 2, 3, 1), s.own.layer), *custom = NULL;
    pente_matrix x = matrix_random(PENTE_FLOAT32, 4, 3, 3), y = matrix_random(PENTE_FLOAT32, 4, 2, 2);
    OK(pente_chain_get_layer(chain, 0, &s.linear));
    OK(pente_chain_get_layer(chain, 1, &custom));
    OK(pente_layer_forward(custom, NULL, &x, &y));
    assert_true(s.set == PENTE_OK && s.read == PENTE_OK);
    OK(pente_layer_free(chain));
    assert_int_equal(s.own.releases, 0);
    OK(pente_layer_free(custom));
    assert_int_equal(s.own.releases, 1);
    OK(pente_layer_free(s.linear));
    matrix_free(&x);
    matrix_free(&y);
}

/* A handle that comes from a chain that was made of a handle that came from a chain ... holds one layer, not all those
 * chains: letting go of it is no deep recursion. */
static void test_chain_after_chain(void **state) {
    (void)state;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 2, 2, 1);
    for (int i = 0; i < 100000; i++) {
        pente_layer *chain = NULL, *again = NULL;
        OK(pente_chain_new(&layer, 1, &chain));
        OK(pente_chain_get_layer(chain, 0, &again));
        OK(pente_layer_free(chain));
        OK(pente_layer_free(layer));
        layer = again;
    }
    OK(pente_layer_zero_gradients(layer));
    OK(pente_layer_free(layer));
}

/* Six handles of which each holds others, freed in every order; those that are left go on working. */
static void check_order(int permutation) {
    pente_layer *linear = linear_new(PENTE_FLOAT32, 2, 3, 1), *inner = NULL, *chain = NULL;
    pente_sgd *sgd = NULL;
    pente_trainer *trainer = NULL;
    pente_context *context = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    float numbers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0};
    pente_matrix x = pente_float32_matrix(numbers, 2, 2), y = pente_float32_matrix(numbers + 4, 2, 3);
    OK(pente_chain_new(&linear, 1, &inner));
    OK(pente_chain_new(&inner, 1, &chain));
    sgd = sgd_of(linear, 0.01, 0.5);
    trainer = trainer_of(chain, mse, sgd);
    OK(pente_context_new(chain, &context));
    OK(pente_mse_free(mse));
    int order[6] = {0, 1, 2, 3, 4, 5};
    for (int i = 0, rest = permutation; i < 6; rest /= 6 - i, i++) {
        int j = i + rest % (6 - i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (int i = 0; i < 6; i++) {
        if (trainer) OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
        if (context && chain) OK(pente_layer_forward(chain, context, &x, &y));
        if (inner) OK(pente_layer_forward(inner, NULL, &x, &y));
        switch (order[i]) {
        case 0: OK(pente_layer_free(linear)); linear = NULL; break;
        case 1: OK(pente_layer_free(inner)); inner = NULL; break;
        case 2: OK(pente_layer_free(chain)); chain = NULL; break;
        case 3: OK(pente_sgd_free(sgd)); sgd = NULL; break;
        case 4: OK(pente_trainer_free(trainer)); trainer = NULL; break;
        default: OK(pente_context_free(context)); context = NULL; break;
        }
    }
}

static void test_free_in_any_order(void **state) {
    (void)state;
    for (int permutation = 0; permutation < 720; permutation++) check_order(permutation);
}

/* ---- Optimizers ---- */

/* A group for each linear layer, with options of its own, is an optimizer for each. The scaler needs none. */
static void test_groups(void **state) {
    (void)state;
    const pente_sgd_options options[] = {options_of(0.1, 0.9, 0, 0, 0, 0), options_of(0.02, 0, 0, 0, 0, 0)};
    pente_layer *linears[2], *twins[2], *scaler = scaler_new(PENTE_FLOAT32, 3), *chain = NULL, *twin = NULL;
    pente_layer *sigmoid = activation_new(PENTE_FLOAT32, PENTE_SIGMOID);
    pente_sgd *sgd = NULL, *twins_sgds[2];
    pente_trainer *trainer = NULL;
    pente_context *context = NULL;
    pente_mse *mse = mse_new(PENTE_MEAN);
    for (int i = 0; i < 2; i++) {
        linears[i] = linear_new(PENTE_FLOAT32, 3 + i, 4 - 2 * i, 7);
        twins[i] = linear_new(PENTE_FLOAT32, 3 + i, 4 - 2 * i, 7);
        OK(pente_sgd_new(&twins[i], 1, &options[i], &twins_sgds[i]));
    }
    OK(pente_chain_new((pente_layer *[]){scaler, linears[0], sigmoid, linears[1]}, 4, &chain));
    OK(pente_chain_new((pente_layer *[]){scaler, twins[0], sigmoid, twins[1]}, 4, &twin));
    OK(pente_context_new(twin, &context));
    OK(pente_sgd_new(&linears[0], 1, &options[0], &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_new(chain, mse, sgd, &trainer)); /* it lacks a layer */
    OK(pente_sgd_add_group(sgd, &linears[1], 1, &options[1]));
    OK(pente_trainer_new(chain, mse, sgd, &trainer));

    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_matrix prediction = matrix_new(PENTE_FLOAT32, 20, 2, 2), gradient = matrix_new(PENTE_FLOAT32, 20, 2, 2);
    for (int step = 0; step < 4; step++) {
        OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
        OK(pente_layer_zero_gradients(twin));
        OK(pente_layer_forward(twin, context, &x, &prediction));
        OK(pente_mse_backward(mse, &prediction, &y, NULL, NULL, &gradient, NULL));
        OK(pente_layer_backward(twin, context, &gradient, NULL));
        for (int i = 0; i < 2; i++) OK(pente_sgd_step(twins_sgds[i]));
        assert_true(same_layers(chain, twin));
    }
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_info(sgd, &info));
    assert_true(info.group_count == 2 && info.step_count == 4 && info.struct_size == sizeof info);

    pente_layer *layers[] = {linears[0], linears[1], twins[0], twins[1], scaler, sigmoid, chain, twin};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    for (int i = 0; i < 2; i++) OK(pente_sgd_free(twins_sgds[i]));
    OK(pente_trainer_free(trainer));
    OK(pente_context_free(context));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    pente_matrix *matrices[] = {&x, &y, &prediction, &gradient};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

/* An optimizer wants something to train; what has nothing may come along. */
static void test_nothing_to_train(void **state) {
    (void)state;
    pente_layer *linear = linear_new(PENTE_FLOAT32, 2, 2, 1), *scaler = scaler_new(PENTE_FLOAT32, 2);
    pente_layer *relu = activation_new(PENTE_FLOAT32, PENTE_RELU), *chain = NULL;
    pente_sgd *sgd = NULL;
    OK(pente_chain_new((pente_layer *[]){scaler, relu}, 2, &chain));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&relu, 1, NULL, &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&scaler, 1, NULL, &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&chain, 1, NULL, &sgd));
    OK(pente_sgd_new((pente_layer *[]){relu, scaler, linear}, 3, NULL, &sgd));
    OK(pente_sgd_step(sgd));
    OK(pente_sgd_zero_gradients(sgd));
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_trainer *trainer = NULL;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_new(scaler, mse, sgd, &trainer));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_new(chain, mse, sgd, &trainer));
    pente_layer *all[] = {linear, scaler, relu, chain};
    for (size_t i = 0; i < COUNT(all); i++) OK(pente_layer_free(all[i]));
    OK(pente_mse_free(mse));
    OK(pente_sgd_free(sgd));
}

/* Steps are counted, whoever makes them; refused ones are not. */
static void test_step_count(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 10, 3, 3), y = matrix_random(PENTE_FLOAT32, 10, 2, 2);
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 2;
    options.batch_size = 4;
    OK(pente_sgd_get_info(t.sgd, &info));
    assert_true(info.group_count == 1 && info.step_count == 0);
    OK(pente_sgd_step(t.sgd));
    OK(pente_trainer_step(t.trainer, &x, &y, NULL, NULL));
    REFUSED(PENTE_SHAPE_MISMATCH, pente_trainer_step(t.trainer, &y, &x, NULL, NULL));
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, NULL));
    OK(pente_sgd_get_info(t.sgd, &info));
    assert_int_equal(info.step_count, 2 + 2 * 3);
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_parameter_twice), cmocka_unit_test(test_shared_activation),
        cmocka_unit_test(test_handles_share),       cmocka_unit_test(test_siblings),
        cmocka_unit_test(test_chain_after_chain),   cmocka_unit_test(test_free_in_any_order),
        cmocka_unit_test(test_groups),              cmocka_unit_test(test_nothing_to_train),
        cmocka_unit_test(test_step_count),
    };
    return cmocka_run_group_tests_name("chain's sharing", tests, NULL, NULL);
}
