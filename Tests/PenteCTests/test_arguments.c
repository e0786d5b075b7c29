/* Every function of the header, each of its arguments, everything that can be wrong with it: a refusal says what is
 * wrong and changes nothing. The list of functions is held against exports.txt, the first argument. */
#include "files.h"
#include "refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- How to call each function with an array of values ---- */

#define CALL(name, ...) \
    static pente_status call_##name(const value *a) { return pente_##name(__VA_ARGS__); }

CALL(linear_new, a[0].i, a[1].i, a[2].p, a[3].p)
CALL(activation_new, (pente_activation)a[0].i, a[1].p, a[2].p)
CALL(scaler_new, a[0].i, (pente_dtype)a[1].i, a[2].p)
CALL(scaler_fit, a[0].p, a[1].p)
CALL(chain_new, a[0].p, a[1].i, a[2].p)
CALL(chain_get_layer, a[0].p, a[1].i, a[2].p)
CALL(custom_new, a[0].p, a[1].p)
CALL(layer_free, a[0].p)
CALL(layer_get_info, a[0].p, a[1].p)
CALL(layer_get_parameter_info, a[0].p, a[1].i, a[2].p)
CALL(layer_parameter_name, a[0].p, a[1].i, a[2].p, a[3].z)
CALL(layer_get_parameter, a[0].p, a[1].p, a[2].p)
CALL(layer_get_gradient, a[0].p, a[1].p, a[2].p)
CALL(layer_set_parameter, a[0].p, a[1].p, a[2].p)
CALL(layer_parameter_view, a[0].p, a[1].p, a[2].p)
CALL(layer_gradient_view, a[0].p, a[1].p, a[2].p)
CALL(layer_zero_gradients, a[0].p)
CALL(layer_reset_parameters, a[0].p, (uint64_t)a[1].i)
CALL(layer_save, a[0].p, a[1].p, a[2].p)
CALL(layer_load, a[0].p, a[1].p)
CALL(layer_load_parameters, a[0].p, a[1].p, a[2].p)
CALL(context_new, a[0].p, a[1].p)
CALL(context_free, a[0].p)
CALL(layer_forward, a[0].p, a[1].p, a[2].p, a[3].p)
CALL(layer_backward, a[0].p, a[1].p, a[2].p, a[3].p)
CALL(mse_new, a[0].p, a[1].p)
CALL(mse_free, a[0].p)
CALL(mse_forward, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p)
CALL(mse_forward_elements, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p)
CALL(mse_backward, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p, a[6].p)
CALL(sgd_new, a[0].p, a[1].i, a[2].p, a[3].p)
CALL(sgd_free, a[0].p)
CALL(sgd_add_group, a[0].p, a[1].p, a[2].i, a[3].p)
CALL(sgd_get_options, a[0].p, a[1].i, a[2].p)
CALL(sgd_set_options, a[0].p, a[1].i, a[2].p)
CALL(sgd_set_lr, a[0].p, a[1].i, a[2].d)
CALL(sgd_get_info, a[0].p, a[1].p)
CALL(sgd_step, a[0].p)
CALL(sgd_zero_gradients, a[0].p)
CALL(sgd_clip_gradients, a[0].p, a[1].d, a[2].p)
CALL(sgd_get_parameter_info, a[0].p, a[1].i, a[2].p)
CALL(sgd_get_momentum_buffer, a[0].p, a[1].i, a[2].p)
CALL(sgd_set_state, a[0].p, a[1].p, a[2].i, a[3].p, a[4].i, a[5].i)
CALL(trainer_new, a[0].p, a[1].p, a[2].p, a[3].p)
CALL(trainer_free, a[0].p)
CALL(trainer_set_max_gradient_norm, a[0].p, a[1].d)
CALL(trainer_step, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p)
CALL(trainer_fit, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p)
CALL(gradcheck, a[0].p, a[1].p, a[2].p, a[3].p, a[4].p, a[5].p)
CALL(threads_set, a[0].i)

/* ---- The functions and their arguments ---- */

#define HANDLE(name, kind) {name, kind, false, false, WORLD(good[kind])}
#define HANDLE_OR_NULL(name, kind) {name, kind, true, false, WORLD(good[kind])}
#define MATRIX_AT(name, member) {name, MATRIX, false, false, WORLD(now.member)}
#define MATRIX_OR_NULL(name, member) {name, MATRIX, true, false, WORLD(now.member)}
#define OPTIONS(kind, member) {"options", kind, true, false, WORLD(now.member)}
#define STRUCT(name, kind, member) {name, kind, false, false, WORLD(now.member)}
#define OUTPUT(name, member) {name, OUT, false, false, WORLD(now.member)}
#define OUTPUT_OR_NULL(name, member) {name, OUT, true, false, WORLD(now.member)}
#define NUMBER(name, kind, number) {name, kind, false, true, number}
#define PARAMETER_NAME {"name", NAME, false, false, WORLD(now.numbers.name)}
#define FILE_PATH {"path", PATH, false, false, WORLD(now.numbers.path)}
#define FUNCTION(name, ...) {"pente_" #name, call_##name, {__VA_ARGS__}}

static const function functions[] = {
    FUNCTION(linear_new, NUMBER("in_features", SIZE, N), NUMBER("out_features", SIZE, P),
             OPTIONS(LINEAR_OPTIONS, linear_options), OUTPUT("layer", made)),
    FUNCTION(activation_new, NUMBER("activation", ACTIVATION, PENTE_LEAKY_RELU),
             OPTIONS(ACTIVATION_OPTIONS, activation_options), OUTPUT("layer", made)),
    FUNCTION(scaler_new, NUMBER("features", SIZE, N), NUMBER("dtype", DTYPE, PENTE_FLOAT64), OUTPUT("scaler", made)),
    FUNCTION(scaler_fit, {"scaler", LAYER, false, false, WORLD(scaler)}, MATRIX_AT("x", x)),
    FUNCTION(chain_new, STRUCT("layers", LAYERS, chain_layers), NUMBER("count", COUNT_OF_LAYERS, 2),
             OUTPUT("chain", made)),
    FUNCTION(chain_get_layer, {"chain", LAYER, false, false, WORLD(chain)}, NUMBER("index", INDEX, 0),
             OUTPUT("layer", made)),
    FUNCTION(custom_new, STRUCT("options", CUSTOM_OPTIONS, custom_options), OUTPUT("layer", made)),
    FUNCTION(layer_free, HANDLE_OR_NULL("layer", LAYER)),
    FUNCTION(layer_get_info, HANDLE("layer", LAYER), STRUCT("info", LAYER_INFO, info)),
    FUNCTION(layer_get_parameter_info, HANDLE("layer", LAYER), NUMBER("index", INDEX, 0),
             STRUCT("info", PARAMETER_INFO, parameter_info)),
    FUNCTION(layer_parameter_name, HANDLE("layer", LAYER), NUMBER("index", INDEX, 0), OUTPUT("name", numbers.name),
             NUMBER("capacity", CAPACITY, 16)),
    FUNCTION(layer_get_parameter, HANDLE("layer", LAYER), PARAMETER_NAME, MATRIX_AT("value", value)),
    FUNCTION(layer_get_gradient, HANDLE("layer", LAYER), PARAMETER_NAME, MATRIX_AT("value", value)),
    FUNCTION(layer_set_parameter, HANDLE("layer", LAYER), PARAMETER_NAME, MATRIX_AT("value", value)),
    FUNCTION(layer_parameter_view, HANDLE("layer", LAYER), PARAMETER_NAME, OUTPUT("view", view)),
    FUNCTION(layer_gradient_view, HANDLE("layer", LAYER), PARAMETER_NAME, OUTPUT("view", view)),
    FUNCTION(layer_zero_gradients, HANDLE("layer", LAYER)),
    FUNCTION(layer_reset_parameters, HANDLE("layer", LAYER), NUMBER("seed", SEED, 7)),
    FUNCTION(layer_save, HANDLE("layer", LAYER), HANDLE_OR_NULL("sgd", SGD), FILE_PATH),
    FUNCTION(layer_load, FILE_PATH, OUTPUT("layer", made)),
    FUNCTION(layer_load_parameters, HANDLE("layer", LAYER), HANDLE_OR_NULL("sgd", SGD), FILE_PATH),
    FUNCTION(context_new, HANDLE("layer", LAYER), OUTPUT("context", made)),
    FUNCTION(context_free, HANDLE_OR_NULL("context", CONTEXT)),
    FUNCTION(layer_forward, HANDLE("layer", LAYER), HANDLE_OR_NULL("context", CONTEXT),
             MATRIX_AT("x", x), MATRIX_AT("y", y)),
    FUNCTION(layer_backward, HANDLE("layer", LAYER), HANDLE("context", CONTEXT),
             MATRIX_AT("grad_output", grad_output), MATRIX_OR_NULL("grad_input", grad_input)),
    FUNCTION(mse_new, OPTIONS(MSE_OPTIONS, mse_options), OUTPUT("mse", made)),
    FUNCTION(mse_free, HANDLE_OR_NULL("mse", MSE)),
    FUNCTION(mse_forward, HANDLE("mse", MSE), MATRIX_AT("prediction", prediction), MATRIX_AT("target", target),
             MATRIX_OR_NULL("sample_weight", sample_weight), OUTPUT("loss", numbers.loss)),
    FUNCTION(mse_forward_elements, {"mse", MSE, false, false, WORLD(none_mse)}, MATRIX_AT("prediction", prediction),
             MATRIX_AT("target", target), MATRIX_OR_NULL("sample_weight", sample_weight),
             MATRIX_AT("squares", squares)),
    FUNCTION(mse_backward, HANDLE("mse", MSE), MATRIX_AT("prediction", prediction), MATRIX_AT("target", target),
             MATRIX_OR_NULL("sample_weight", sample_weight), MATRIX_OR_NULL("grad_output", upstream),
             MATRIX_OR_NULL("grad_prediction", grad_prediction), MATRIX_OR_NULL("grad_target", grad_target)),
    FUNCTION(sgd_new, STRUCT("layers", LAYERS, layers), NUMBER("count", COUNT_OF_LAYERS, 2),
             OPTIONS(SGD_OPTIONS, sgd_options), OUTPUT("sgd", made)),
    FUNCTION(sgd_free, HANDLE_OR_NULL("sgd", SGD)),
    FUNCTION(sgd_add_group, HANDLE("sgd", SGD), STRUCT("layers", LAYERS, further_layers),
             NUMBER("count", COUNT_OF_LAYERS, 2), OPTIONS(SGD_OPTIONS, sgd_options)),
    FUNCTION(sgd_get_options, HANDLE("sgd", SGD), NUMBER("group", INDEX, 0),
             STRUCT("options", READ_OPTIONS, read_options)),
    FUNCTION(sgd_set_options, HANDLE("sgd", SGD), NUMBER("group", INDEX, 0), OPTIONS(SGD_OPTIONS, sgd_options)),
    FUNCTION(sgd_set_lr, HANDLE("sgd", SGD), NUMBER("group", INDEX, 0), {"lr", RATE, false, true, 0}),
    FUNCTION(sgd_get_info, HANDLE("sgd", SGD), STRUCT("info", SGD_INFO, sgd_info)),
    FUNCTION(sgd_step, HANDLE("sgd", SGD)),
    FUNCTION(sgd_zero_gradients, HANDLE("sgd", SGD)),
    FUNCTION(sgd_clip_gradients, HANDLE("sgd", SGD), {"max_norm", NORM, false, true, 0},
             OUTPUT_OR_NULL("norm", numbers.loss)),
    FUNCTION(sgd_get_parameter_info, HANDLE("sgd", SGD), NUMBER("index", INDEX, 0),
             STRUCT("info", SGD_PARAMETER_INFO, sgd_parameter_info)),
    FUNCTION(sgd_get_momentum_buffer, HANDLE("sgd", SGD), NUMBER("index", INDEX, 0), MATRIX_AT("value", value)),
    FUNCTION(sgd_set_state, HANDLE("sgd", SGD), STRUCT("options", SGD_OPTIONS, sgd_options),
             NUMBER("group_count", COUNT_THERE, 1), STRUCT("momentum_buffers", BUFFERS, buffers),
             NUMBER("parameter_count", COUNT_THERE, 2), NUMBER("step_count", STEP_COUNT, 7)),
    FUNCTION(trainer_new, HANDLE("layer", LAYER), HANDLE("mse", MSE), HANDLE("sgd", SGD), OUTPUT("trainer", made)),
    FUNCTION(trainer_free, HANDLE_OR_NULL("trainer", TRAINER)),
    FUNCTION(trainer_set_max_gradient_norm, HANDLE("trainer", TRAINER), {"max_norm", RATE, false, true, 0}),
    FUNCTION(trainer_step, HANDLE("trainer", TRAINER), MATRIX_AT("x", x), MATRIX_AT("y", target),
             MATRIX_OR_NULL("sample_weight", sample_weight), OUTPUT_OR_NULL("loss", numbers.loss)),
    FUNCTION(trainer_fit, HANDLE("trainer", TRAINER), MATRIX_AT("x", x), MATRIX_AT("y", target),
             OPTIONS(FIT_OPTIONS, fit_options), {"report", FIT_REPORT, true, false, WORLD(now.fit_report)}),
    FUNCTION(gradcheck, {"layer", LAYER, true, false, WORLD(layer64)}, HANDLE_OR_NULL("mse", MSE),
             MATRIX_AT("x", x64), MATRIX_OR_NULL("target", target64), OPTIONS(GRADCHECK_OPTIONS, gradcheck_options),
             STRUCT("report", GRADCHECK_REPORT, gradcheck_report)),
    FUNCTION(threads_set, NUMBER("count", COUNT_OF_THREADS, 1)),
};

/* The functions that cannot fail; test_static_strings has them. */
static const char *const infallible[] = {"pente_last_error", "pente_status_name", "pente_threads_get", "pente_version"};

/* ---- One function's test ---- */

/* Frees what a call made, of whatever kind it is. */
static void free_made(void *made) {
    int freed = (pente_layer_free(made) == PENTE_OK) + (pente_context_free(made) == PENTE_OK) +
                (pente_mse_free(made) == PENTE_OK) + (pente_sgd_free(made) == PENTE_OK) +
                (pente_trainer_free(made) == PENTE_OK);
    assert_int_equal(freed, 1);
}

static void call_rightly(world *w, const function *f, outcome *seen) {
    value a[7];
    void *nothing = w->now.made;
    right_values(w, f, a);
    OK(f->call(a));
    if (w->now.made != nothing) free_made(w->now.made);
    probe(w, seen);
}

static void test_function(void **state) {
    const function *f = *state;
    world *w = world_new(), *twin = world_new();
    static outcome seen, expected;
    int complaints = attempt_all_kinds(w, f);
    for (size_t i = 0; i < special_case_count; i++) {
        const special_case *special = &special_cases[i];
        value a[7];
        if (strcmp(special->function, f->name) != 0) continue;
        right_values(w, f, a);
        special->spoil(w, a);
        complaints += attempt(w, f, a, special->allowed, special->says, special->what);
    }
    call_rightly(w, f, &seen);
    call_rightly(twin, f, &expected);
    assert_memory_equal(&seen.numbers, &expected.numbers, sizeof seen.numbers);
    assert_memory_equal(&seen, &expected, sizeof seen);
    world_free(w);
    world_free(twin);
    assert_int_equal(complaints, 0);
}

/* ---- The rest ---- */

static void test_free_of_null(void **state) {
    (void)state;
    OK(pente_layer_free(NULL));
    OK(pente_context_free(NULL));
    OK(pente_mse_free(NULL));
    OK(pente_sgd_free(NULL));
    OK(pente_trainer_free(NULL));
}

/* The numbers near a token, of the one layer that there is, are no tokens. */
static int count_neighbours(const pente_layer *layer) {
    int count = 0;
    for (int bit = 0; bit < 64; bit++) {
        for (int sign = -1; sign <= 1; sign++) {
            uintptr_t step = (uintptr_t)1 << bit, token = (uintptr_t)layer;
            token = sign < 0 ? token - step : sign > 0 ? token + step : token ^ step;
            pente_layer_info info = PENTE_LAYER_INFO_INIT;
            pente_status status = pente_layer_get_info((const pente_layer *)token, &info);
            count += status != PENTE_INVALID_HANDLE;
        }
    }
    return count;
}

static void test_neighbours_of_handles(void **state) {
    (void)state;
    pente_sgd *sgd = NULL;
    for (int round = 0; round < 3; round++) {
        pente_layer *layer = NULL;
        OK(pente_linear_new(2, 2, NULL, &layer));
        assert_int_equal(count_neighbours(layer), 0);
        /* The layer lives on in sgd, where no token leads to it. */
        OK(pente_sgd_new(&layer, 1, NULL, &sgd));
        OK(pente_layer_free(layer));
        assert_int_equal(count_neighbours(layer), 0);
        OK(pente_sgd_free(sgd));
        assert_int_equal(count_neighbours(layer), 0);
    }
}

static void test_static_strings(void **state) {
    (void)state;
    static const char *const names[] = {"PENTE_OK",             "PENTE_INVALID_HANDLE", "PENTE_INVALID_ARGUMENT",
                                        "PENTE_SHAPE_MISMATCH", "PENTE_DTYPE_MISMATCH", "PENTE_INVALID_STATE",
                                        "PENTE_BUSY",           "PENTE_OUT_OF_MEMORY",  "PENTE_NOT_FINITE",
                                        "PENTE_FILE_ERROR",     "PENTE_INVALID_FILE"};
    static const pente_status others[] = {-1, 11, 31, 32, 255, 256, 999, 1001, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < COUNT(names); i++) assert_string_equal(pente_status_name((pente_status)i), names[i]);
    for (size_t i = 0; i < COUNT(others); i++) assert_string_equal(pente_status_name(others[i]), "unknown status");
    assert_string_equal(pente_status_name(PENTE_USER), "PENTE_USER");
    assert_int_equal(pente_version(), PENTE_VERSION);
}

/* First of all tests: no call has failed yet. */
static void test_last_error(void **state) {
    (void)state;
    assert_string_equal(pente_last_error(), "");
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_zero_gradients(NULL));
    char kept[256];
    snprintf(kept, sizeof kept, "%s", pente_last_error());
    pente_mse *mse = mse_new(PENTE_SUM);
    OK(pente_mse_free(mse));
    assert_string_equal(pente_last_error(), kept);

    /* A name from the caller may be long, and is cut. */
    static char name[5000];
    pente_matrix view = {0};
    model m = model_new(PENTE_FLOAT32, 1, 1, true, 0);
    for (size_t before = 0; before < 4; before++) { /* the cut falls between characters, wherever they stand */
        memset(name, 'n', before);
        for (size_t i = before; i + 2 < sizeof name; i += 2) memcpy(name + i, "\u00e9", 2);
        REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_view(m.layer, name, &view));
        size_t length = strlen(pente_last_error());
        assert_true(length >= 250 && length <= 255);
        assert_false((unsigned char)pente_last_error()[length - 1] == 0xc3); /* the first half of a character */
    }
    model_free(&m);
}

static bool is_covered(const char *name) {
    for (size_t i = 0; i < COUNT(functions); i++) {
        if (!strcmp(functions[i].name, name)) return true;
    }
    for (size_t i = 0; i < COUNT(infallible); i++) {
        if (!strcmp(infallible[i], name)) return true;
    }
    print_error("%s has no test\n", name);
    return false;
}

static void test_all_exports_are_covered(void **state) {
    FILE *file = fopen(*state, "r");
    char line[100];
    size_t count = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        assert_true(is_covered(line));
        count++;
    }
    fclose(file);
    assert_int_equal(count, COUNT(functions) + COUNT(infallible));
}

static void test_all_special_cases_have_a_function(void **state) {
    (void)state;
    for (size_t i = 0; i < special_case_count; i++) assert_true(is_covered(special_cases[i].function));
}

int main(int count, char **arguments) {
    char *exports = count > 1 ? arguments[1] : "Tests/PenteCTests/exports.txt";
    struct CMUnitTest tests[6 + COUNT(functions)] = {
        cmocka_unit_test(test_last_error),
        cmocka_unit_test(test_free_of_null),
        cmocka_unit_test(test_neighbours_of_handles),
        cmocka_unit_test(test_static_strings),
        cmocka_unit_test_prestate(test_all_exports_are_covered, exports),
        cmocka_unit_test(test_all_special_cases_have_a_function),
    };
    for (size_t i = 0; i < COUNT(functions); i++) {
        tests[6 + i] = (struct CMUnitTest){functions[i].name, test_function, NULL, NULL, (void *)&functions[i]};
    }
    return cmocka_run_group_tests_name("arguments", tests, directory_new, directory_free);
}
