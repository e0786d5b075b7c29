/* How every function is called with an array of values, and where in a world its right values are. */
#include "refusals.h"

#include <stdio.h>
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
CALL(trainer_accumulate, a[0].p, a[1].p, a[2].p, a[3].p)
CALL(trainer_get_sum_count, a[0].p, a[1].p)
CALL(trainer_get_sums, a[0].p, a[1].p, a[2].i)
CALL(trainer_set_sums, a[0].p, a[1].p, a[2].i)
CALL(trainer_apply_sums, a[0].p, a[1].p)
CALL(trainer_fit_source, a[0].p, a[1].p, a[2].p, a[3].p)
CALL(npy_source_new, a[0].p, a[1].i, a[2].p, a[3].i, a[4].p, a[5].i, a[6].p)
CALL(source_new, a[0].p, a[1].p)
CALL(source_free, a[0].p)
CALL(source_get_info, a[0].p, a[1].p)
CALL(checkpoint_get_info, a[0].p, a[1].p)
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

const function functions[] = {
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
    FUNCTION(trainer_accumulate, HANDLE("trainer", TRAINER), MATRIX_AT("x", x), MATRIX_AT("y", target),
             MATRIX_OR_NULL("sample_weight", sample_weight)),
    FUNCTION(trainer_get_sum_count, HANDLE("trainer", TRAINER), OUTPUT("count", numbers.sum_count)),
    FUNCTION(trainer_get_sums, HANDLE("trainer", TRAINER), OUTPUT("sums", numbers.sums),
             NUMBER("count", COUNT_THERE, P * N + P + 3)),
    FUNCTION(trainer_set_sums, HANDLE("trainer", TRAINER), OUTPUT("sums", numbers.x64),
             NUMBER("count", COUNT_THERE, P * N + P + 3)),
    FUNCTION(trainer_apply_sums, HANDLE("trainer", TRAINER), OUTPUT_OR_NULL("loss", numbers.loss)),
    FUNCTION(trainer_fit_source, HANDLE("trainer", TRAINER), HANDLE("source", SOURCE),
             OPTIONS(FIT_OPTIONS, source_fit_options), {"report", FIT_REPORT, true, false, WORLD(now.fit_report)}),
    FUNCTION(npy_source_new, STRUCT("x_paths", PATHS, x_paths), NUMBER("x_count", COUNT_OF_LAYERS, 1),
             STRUCT("y_paths", PATHS, y_paths), NUMBER("y_count", COUNT_OF_LAYERS, 1),
             STRUCT("sample_weight_paths", PATHS, weight_paths), NUMBER("sample_weight_count", STEP_COUNT, 1),
             OUTPUT("source", made)),
    FUNCTION(source_new, STRUCT("options", SOURCE_OPTIONS, source_options), OUTPUT("source", made)),
    FUNCTION(source_free, HANDLE_OR_NULL("source", SOURCE)),
    FUNCTION(source_get_info, HANDLE("source", SOURCE), STRUCT("info", SOURCE_INFO, source_info)),
    FUNCTION(checkpoint_get_info, {"path", PATH, false, false, WORLD(now.numbers.checkpoint)},
             STRUCT("info", CHECKPOINT_INFO, checkpoint_info)),
    FUNCTION(gradcheck, {"layer", LAYER, true, false, WORLD(layer64)}, HANDLE_OR_NULL("mse", MSE),
             MATRIX_AT("x", x64), MATRIX_OR_NULL("target", target64), OPTIONS(GRADCHECK_OPTIONS, gradcheck_options),
             STRUCT("report", GRADCHECK_REPORT, gradcheck_report)),
    FUNCTION(threads_set, NUMBER("count", COUNT_OF_THREADS, 1)),
};

const size_t function_count = COUNT(functions);

/* The functions that cannot fail; test_static_strings of test_arguments has them. */
static const char *const infallible[] = {"pente_last_error", "pente_status_name", "pente_threads_get", "pente_version"};

void free_made(void *made) {
    int freed = (pente_layer_free(made) == PENTE_OK) + (pente_context_free(made) == PENTE_OK) +
                (pente_mse_free(made) == PENTE_OK) + (pente_sgd_free(made) == PENTE_OK) +
                (pente_trainer_free(made) == PENTE_OK) + (pente_source_free(made) == PENTE_OK);
    assert_int_equal(freed, 1);
}

bool is_covered(const char *name) {
    for (size_t i = 0; i < function_count; i++) {
        if (!strcmp(functions[i].name, name)) return true;
    }
    for (size_t i = 0; i < COUNT(infallible); i++) {
        if (!strcmp(infallible[i], name)) return true;
    }
    print_error("%s has no test\n", name);
    return false;
}

void test_all_exports_are_covered(void **state) {
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
    assert_int_equal(count, function_count + COUNT(infallible));
}
