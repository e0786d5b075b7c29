/* Wrong calls that no table of wrong values makes: overlaps, state, and what must fit together. */
#include "refusals.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Overlaps. `over` moves an output's data; nothing else of it changes. ---- */

static void over(pente_matrix *output, const pente_matrix *other, int64_t elements) {
    output->data = (char *)other->data + elements * (int64_t)element_size(other->dtype);
}

/* Puts x at columns 0..2 of the table, and the output at `column`. */
static void in_table(world *w, pente_matrix *input, pente_matrix *output, int64_t column) {
    input->data = w->now.numbers.table;
    output->data = w->now.numbers.table + column;
    input->row_stride = output->row_stride = TABLE_COLUMNS;
}

/* A function that spoils a world `w`, or a call's values `a`. */
#define SPOIL(name, ...)                       \
    static void name(world *w, value *a) {     \
        (void)w;                               \
        (void)a;                               \
        __VA_ARGS__;                           \
    }

SPOIL(y_over_x, over(&w->now.y, &w->now.x, 0))
SPOIL(y_over_end_of_x, over(&w->now.y, &w->now.x, Q * N - 1))
SPOIL(y_before_x, over(&w->now.y, &w->now.x, -(Q * P - 1)))
SPOIL(y_over_weight, over(&w->now.y, &w->weight_view, 0))
SPOIL(y_over_end_of_weight, over(&w->now.y, &w->weight_view, P * N - 1))
SPOIL(y_over_bias, over(&w->now.y, &w->bias_view, 0))
SPOIL(y_over_last_column, in_table(w, &w->now.x, &w->now.y, N - 1))
SPOIL(y_around_the_row, in_table(w, &w->now.x, &w->now.y, TABLE_COLUMNS - 1))
SPOIL(foreign_context, a[1].p = w->other_context)

SPOIL(no_forward, a[1].p = w->fresh_context)
SPOIL(shorter_grad_output, w->now.grad_output.rows = w->now.grad_input.rows = Q - 1)
SPOIL(longer_grad_output, w->now.grad_output.rows = w->now.grad_input.rows = Q + 1)
SPOIL(grad_input_over_grad_output, over(&w->now.grad_input, &w->now.grad_output, 0))
SPOIL(grad_input_over_end, over(&w->now.grad_input, &w->now.grad_output, Q * P - 1))
SPOIL(grad_input_over_x, over(&w->now.grad_input, &w->now.x, 0))
SPOIL(grad_input_over_end_of_x, over(&w->now.grad_input, &w->now.x, Q * N - 1))
SPOIL(grad_input_over_weight, over(&w->now.grad_input, &w->weight_view, 0))
SPOIL(grad_input_over_gradient, over(&w->now.grad_input, &w->gradient_view, 0))
SPOIL(grad_output_over_gradient, over(&w->now.grad_output, &w->gradient_view, 0))

SPOIL(squares_over_prediction, over(&w->now.squares, &w->now.prediction, 0))
SPOIL(squares_over_end_of_target, over(&w->now.squares, &w->now.target, Q * P - 1))
SPOIL(squares_over_weight, over(&w->now.squares, &w->now.sample_weight, 0))
SPOIL(grad_over_prediction, over(&w->now.grad_prediction, &w->now.prediction, 0))
SPOIL(grad_over_target, over(&w->now.grad_target, &w->now.target, 1))
SPOIL(grad_over_sample_weight, over(&w->now.grad_target, &w->now.sample_weight, 0))
SPOIL(grad_over_upstream, over(&w->now.grad_prediction, &w->now.upstream, 0))
SPOIL(grad_over_grad, over(&w->now.grad_target, &w->now.grad_prediction, Q * P - 1))
SPOIL(both_grads_null, a[5].p = a[6].p = NULL)

SPOIL(x_over_weight, over(&w->now.x, &w->weight_view, 0))
SPOIL(target_over_end_of_weight, over(&w->now.target, &w->weight_view, P * N - 1))
SPOIL(step_weight_over_bias, over(&w->now.sample_weight, &w->bias_view, 0))
SPOIL(x_over_gradient, over(&w->now.x, &w->gradient_view, 0))
SPOIL(value_over_weight, over(&w->now.value, &w->weight_view, 0))
SPOIL(value_over_gradient, over(&w->now.value, &w->gradient_view, 0))
SPOIL(value_over_end_of_weight, over(&w->now.value, &w->weight_view, P * N - 1))
SPOIL(x64_over_weight, over(&w->now.x64, &w->gradcheck_weight_view, 0))

/* ---- Sample weights ---- */

SPOIL(negative_weight, w->now.numbers.sample_weight[Q - 1] = -1e-30f)
SPOIL(nan_weight, w->now.numbers.sample_weight[0] = NAN)
SPOIL(infinite_weight, w->now.numbers.sample_weight[1] = INFINITY)
SPOIL(zero_weights, memset(w->now.numbers.sample_weight, 0, Q * sizeof(float)))
SPOIL(wide_weights, w->now.sample_weight.columns = w->now.sample_weight.row_stride = P)
SPOIL(row_of_weights, w->now.sample_weight.rows = 1)

/* ---- What must fit together ---- */

SPOIL(enormous_layer, a[0].i = a[1].i = INT64_C(1) << 31)
SPOIL(bias_in_little_room, a[1].i = 1; a[3].z = 4)
SPOIL(none_loss, a[0].p = w->none_mse)
SPOIL(mean_loss, a[0].p = w->good[MSE])
SPOIL(none_loss_to_train, a[1].p = w->none_mse)
SPOIL(layer_of_no_sgd, a[0].p = w->bare_layer)
SPOIL(layer_of_other_dtype, a[0].p = w->layer64)
SPOIL(group_1, a[1].i = 1)
SPOIL(nesterov_with_dampening, w->now.sgd_options.nesterov = 1; w->now.sgd_options.momentum = 0.5;
      w->now.sgd_options.dampening = 0.25)

SPOIL(null_inside, w->now.layers[1] = w->now.further_layers[1] = w->now.chain_layers[1] = NULL)
SPOIL(freed_inside, w->now.layers[0] = w->now.further_layers[0] = w->now.chain_layers[0] = w->freed[LAYER])
SPOIL(mse_inside, w->now.layers[1] = w->now.further_layers[1] = w->now.chain_layers[1] = w->good[MSE])
SPOIL(twice_inside, w->now.layers[1] = w->now.layers[0]; w->now.further_layers[1] = w->now.further_layers[0];
      w->now.chain_layers[0] = w->now.chain_layers[1] = w->scaler)
SPOIL(in_a_chain_too, w->now.layers[1] = w->chain; w->now.further_layers[1] = w->chain)
SPOIL(there_already, w->now.further_layers[1] = w->good[LAYER])
SPOIL(mixed_dtypes, w->now.layers[1] = w->now.further_layers[1] = w->now.chain_layers[1] = w->layer64)
SPOIL(nothing_to_train, w->now.layers[0] = w->scaler; w->now.layers[1] = w->activation)

SPOIL(tall_buffer, w->now.bias_buffer.rows = 2; w->now.bias_buffer.columns = 1)
SPOIL(buffer64, w->now.bias_buffer.dtype = PENTE_FLOAT64; w->now.bias_buffer.data = w->now.numbers.x64)
SPOIL(buffer_without_data, w->now.bias_buffer.data = NULL)

/* ---- Layers of other kinds ---- */

SPOIL(unfit_layers, w->now.chain_layers[1] = w->other_layer)
SPOIL(no_columns, w->now.chain_layers[0] = w->activation)
SPOIL(no_chain, a[0].p = w->good[LAYER])
SPOIL(no_scaler, a[0].p = w->good[LAYER])
SPOIL(x_over_mean, over(&w->now.x, &w->mean_view, 0))
SPOIL(parameter_without_name, w->now.custom_parameters[1].name = NULL)
SPOIL(parameter_with_dot, w->now.custom_parameters[1].name = "a.b")
SPOIL(same_names, w->now.custom_parameters[1].name = "weight")
SPOIL(no_vector, w->now.custom_parameters[0].rank = 1)
SPOIL(rank_of_3, w->now.custom_parameters[0].rank = 3)
SPOIL(value64, w->now.custom_parameters[0].value = w->now.x64)
SPOIL(value_without_data, w->now.custom_parameters[1].value.data = NULL)

/* ---- Files ---- */

SPOIL(sgd_of_another, a[0].p = w->bare_layer)
SPOIL(parameters64, a[0].p = w->layer64; a[1].p = NULL)
SPOIL(other_shape, a[0].p = w->other_layer; a[1].p = NULL)
SPOIL(other_names, a[0].p = w->scaler; a[1].p = NULL)

/* ---- fit ---- */

SPOIL(too_many_epochs, w->now.fit_options.first_epoch = INT64_MAX - 2)
SPOIL(patience_alone, w->now.fit_options.validation_x = w->now.fit_options.validation_y = NULL)
SPOIL(short_fit_weight, w->now.fit_weight.rows = Q - 1)
SPOIL(fit_weight64, w->now.fit_weight.dtype = PENTE_FLOAT64; w->now.fit_weight.data = w->now.numbers.x64)
SPOIL(wide_validation_x, w->now.validation_x.columns = w->now.validation_x.row_stride = N + 1)
SPOIL(long_validation_y, w->now.validation_y.rows = Q + 1)
SPOIL(narrow_validation_y, w->now.validation_y.columns = 1)
SPOIL(no_validation_data, w->now.validation_x.data = NULL)
SPOIL(validation_y64, w->now.validation_y.dtype = PENTE_FLOAT64)
SPOIL(nan_in_x, w->now.numbers.x[Q * N - 1] = NAN)
SPOIL(nan_in_target, w->now.numbers.target[Q * P - 1] = NAN)
SPOIL(infinity_in_x, w->now.numbers.x[0] = INFINITY)

/* ---- gradcheck ---- */

SPOIL(mse_without_target, a[3].p = NULL)
SPOIL(target_without_mse, a[1].p = NULL)
SPOIL(nothing_to_check, a[0].p = a[1].p = a[3].p = NULL)
SPOIL(float32_layer, a[0].p = w->good[LAYER])

const special_case special_cases[] = {
    {"pente_linear_new", "2^31 x 2^31", "in_features|out_features", BAD_ARGUMENT | ONLY(PENTE_OUT_OF_MEMORY),
     enormous_layer},
    {"pente_scaler_fit", "a linear layer", "scaler", BAD_ARGUMENT, no_scaler},
    {"pente_scaler_fit", "NaN in x", "x", BAD_ARGUMENT, nan_in_x},
    {"pente_scaler_fit", "infinity in x", "x", BAD_ARGUMENT, infinity_in_x},
    {"pente_scaler_fit", "x over mean", "x", BAD_ARGUMENT, x_over_mean},
    {"pente_chain_new", "NULL in layers", "layers", BAD_HANDLE, null_inside},
    {"pente_chain_new", "a freed layer in layers", "layers", BAD_HANDLE, freed_inside},
    {"pente_chain_new", "an mse in layers", "layers", BAD_HANDLE, mse_inside},
    {"pente_chain_new", "a layer twice", "layers", BAD_ARGUMENT, twice_inside},
    {"pente_chain_new", "float32 and float64", "layers", BAD_DTYPE, mixed_dtypes},
    {"pente_chain_new", "layers that do not fit", "layers", BAD_SHAPE, unfit_layers},
    {"pente_chain_new", "no number of columns", "layers", BAD_ARGUMENT, no_columns},
    {"pente_chain_get_layer", "a linear layer", "chain", BAD_ARGUMENT, no_chain},
    {"pente_custom_new", "a parameter without a name", "name|parameters", BAD_ARGUMENT, parameter_without_name},
    {"pente_custom_new", "a dot in a name", "name", BAD_ARGUMENT, parameter_with_dot},
    {"pente_custom_new", "a name twice", "name", BAD_ARGUMENT, same_names},
    {"pente_custom_new", "a vector of two rows", "rank", BAD_ARGUMENT, no_vector},
    {"pente_custom_new", "a rank of 3", "rank", BAD_ARGUMENT, rank_of_3},
    {"pente_custom_new", "a float64 value", "value", BAD_DTYPE, value64},
    {"pente_custom_new", "a value without data", "value", BAD_ARGUMENT, value_without_data},
    {"pente_layer_save", "an sgd of another layer", "sgd", BAD_ARGUMENT, sgd_of_another},
    {"pente_layer_load_parameters", "an sgd of another layer", "sgd", BAD_ARGUMENT, sgd_of_another},
    {"pente_layer_load_parameters", "a float64 layer", "weight", BAD_DTYPE, parameters64},
    {"pente_layer_load_parameters", "a layer of another shape", "weight", BAD_SHAPE, other_shape},
    {"pente_layer_load_parameters", "a scaler", "mean", BAD_FILE, other_names},
    {"pente_layer_parameter_name", "4 bytes for bias", "capacity|name", BAD_ARGUMENT, bias_in_little_room},
    {"pente_layer_get_parameter", "value over weight", "value", BAD_ARGUMENT, value_over_weight},
    {"pente_layer_get_parameter", "value over weight's end", "value", BAD_ARGUMENT, value_over_end_of_weight},
    {"pente_layer_get_gradient", "value over its gradient", "value", BAD_ARGUMENT, value_over_gradient},
    {"pente_layer_get_gradient", "value over weight", "value", BAD_ARGUMENT, value_over_weight},
    {"pente_layer_set_parameter", "value over weight's end", "value", BAD_ARGUMENT, value_over_end_of_weight},

    {"pente_layer_forward", "y over x", "y", BAD_ARGUMENT, y_over_x},
    {"pente_layer_forward", "y over x's last element", "y", BAD_ARGUMENT, y_over_end_of_x},
    {"pente_layer_forward", "y's last element over x", "y", BAD_ARGUMENT, y_before_x},
    {"pente_layer_forward", "y over weight", "y", BAD_ARGUMENT, y_over_weight},
    {"pente_layer_forward", "y over weight's last element", "y", BAD_ARGUMENT, y_over_end_of_weight},
    {"pente_layer_forward", "y over bias", "y", BAD_ARGUMENT, y_over_bias},
    {"pente_layer_forward", "y over a column of x", "y", BAD_ARGUMENT, y_over_last_column},
    {"pente_layer_forward", "y over x's next row", "y", BAD_ARGUMENT, y_around_the_row},
    {"pente_layer_forward", "another layer's context", "context", BAD_ARGUMENT, foreign_context},

    {"pente_layer_backward", "no forward", "context|forward", BAD_STATE, no_forward},
    {"pente_layer_backward", "another layer's context", "context", BAD_ARGUMENT | BAD_STATE, foreign_context},
    {"pente_layer_backward", "fewer rows than x", "grad_output", BAD_SHAPE, shorter_grad_output},
    {"pente_layer_backward", "more rows than x", "grad_output", BAD_SHAPE, longer_grad_output},
    {"pente_layer_backward", "grad_input over grad_output", "grad_input", BAD_ARGUMENT, grad_input_over_grad_output},
    {"pente_layer_backward", "grad_input over grad_output's end", "grad_input", BAD_ARGUMENT, grad_input_over_end},
    {"pente_layer_backward", "grad_input over x", "grad_input", BAD_ARGUMENT, grad_input_over_x},
    {"pente_layer_backward", "grad_input over x's end", "grad_input", BAD_ARGUMENT, grad_input_over_end_of_x},
    {"pente_layer_backward", "grad_input over weight", "grad_input", BAD_ARGUMENT, grad_input_over_weight},
    {"pente_layer_backward", "grad_input over a gradient", "grad_input", BAD_ARGUMENT, grad_input_over_gradient},
    {"pente_layer_backward", "grad_output over a gradient", "grad_output", BAD_ARGUMENT, grad_output_over_gradient},

    {"pente_mse_forward", "a NONE loss", "mse|reduction|PENTE_NONE", BAD_ARGUMENT, none_loss},
    {"pente_mse_forward", "a negative weight", "sample_weight", BAD_ARGUMENT, negative_weight},
    {"pente_mse_forward", "a NaN weight", "sample_weight", BAD_ARGUMENT, nan_weight},
    {"pente_mse_forward", "an infinite weight", "sample_weight", BAD_ARGUMENT, infinite_weight},
    {"pente_mse_forward", "weights all zero", "sample_weight", BAD_ARGUMENT, zero_weights},
    {"pente_mse_forward", "weights 4x2", "sample_weight", BAD_SHAPE, wide_weights},
    {"pente_mse_forward", "weights 1x1", "sample_weight", BAD_SHAPE, row_of_weights},
    {"pente_mse_forward_elements", "a MEAN loss", "mse|reduction|PENTE_NONE", BAD_ARGUMENT, mean_loss},
    {"pente_mse_forward_elements", "a negative weight", "sample_weight", BAD_ARGUMENT, negative_weight},
    {"pente_mse_forward_elements", "squares over prediction", "squares", BAD_ARGUMENT, squares_over_prediction},
    {"pente_mse_forward_elements", "squares over target's end", "squares", BAD_ARGUMENT, squares_over_end_of_target},
    {"pente_mse_forward_elements", "squares over weights", "squares", BAD_ARGUMENT, squares_over_weight},
    {"pente_mse_backward", "a NONE loss, a 1x1 grad_output", "grad_output", BAD_SHAPE, none_loss},
    {"pente_mse_backward", "a NaN weight", "sample_weight", BAD_ARGUMENT, nan_weight},
    {"pente_mse_backward", "weights all zero", "sample_weight", BAD_ARGUMENT, zero_weights},
    {"pente_mse_backward", "no output", "grad_prediction|grad_target", BAD_ARGUMENT, both_grads_null},
    {"pente_mse_backward", "gradient over prediction", "grad_prediction", BAD_ARGUMENT, grad_over_prediction},
    {"pente_mse_backward", "gradient over target", "grad_target", BAD_ARGUMENT, grad_over_target},
    {"pente_mse_backward", "gradient over weights", "grad_target", BAD_ARGUMENT, grad_over_sample_weight},
    {"pente_mse_backward", "gradient over grad_output", "grad_prediction", BAD_ARGUMENT, grad_over_upstream},
    {"pente_mse_backward", "gradient over gradient", "grad_target|grad_prediction", BAD_ARGUMENT, grad_over_grad},

    {"pente_sgd_new", "NULL in layers", "layers", BAD_HANDLE, null_inside},
    {"pente_sgd_new", "a freed layer in layers", "layers", BAD_HANDLE, freed_inside},
    {"pente_sgd_new", "an mse in layers", "layers", BAD_HANDLE, mse_inside},
    {"pente_sgd_new", "a layer twice", "layers", BAD_ARGUMENT, twice_inside},
    {"pente_sgd_new", "a layer and its chain", "layers", BAD_ARGUMENT, in_a_chain_too},
    {"pente_sgd_new", "nothing to train", "layers", BAD_ARGUMENT, nothing_to_train},
    {"pente_sgd_new", "float32 and float64", "layers", BAD_DTYPE, mixed_dtypes},
    {"pente_sgd_new", "nesterov and dampening", "nesterov|dampening", BAD_ARGUMENT, nesterov_with_dampening},
    {"pente_sgd_add_group", "NULL in layers", "layers", BAD_HANDLE, null_inside},
    {"pente_sgd_add_group", "a freed layer in layers", "layers", BAD_HANDLE, freed_inside},
    {"pente_sgd_add_group", "an mse in layers", "layers", BAD_HANDLE, mse_inside},
    {"pente_sgd_add_group", "a layer twice", "layers", BAD_ARGUMENT, twice_inside},
    {"pente_sgd_add_group", "a layer of group 0", "layers", BAD_ARGUMENT, there_already},
    {"pente_sgd_add_group", "a chain of group 0", "layers", BAD_ARGUMENT, in_a_chain_too},
    {"pente_sgd_add_group", "float32 and float64", "layers", BAD_DTYPE, mixed_dtypes},
    {"pente_sgd_add_group", "nesterov and dampening", "nesterov|dampening", BAD_ARGUMENT, nesterov_with_dampening},
    {"pente_sgd_set_options", "nesterov and dampening", "nesterov|dampening", BAD_ARGUMENT, nesterov_with_dampening},
    {"pente_sgd_set_options", "group 1", "group", BAD_ARGUMENT, group_1},
    {"pente_sgd_get_options", "group 1", "group", BAD_ARGUMENT, group_1},
    {"pente_sgd_set_lr", "group 1", "group", BAD_ARGUMENT, group_1},
    {"pente_sgd_set_state", "nesterov and dampening", "nesterov|dampening", BAD_ARGUMENT, nesterov_with_dampening},
    {"pente_sgd_set_state", "the last buffer 2x1", "momentum_buffers", BAD_SHAPE, tall_buffer},
    {"pente_sgd_set_state", "the last buffer float64", "momentum_buffers", BAD_DTYPE, buffer64},
    {"pente_sgd_set_state", "the last buffer NULL inside", "momentum_buffers", BAD_ARGUMENT, buffer_without_data},

    {"pente_trainer_new", "a NONE loss", "mse|reduction|PENTE_NONE", BAD_ARGUMENT, none_loss_to_train},
    {"pente_trainer_new", "a layer that sgd lacks", "sgd|layer", BAD_ARGUMENT, layer_of_no_sgd},
    {"pente_trainer_new", "a float64 layer", "sgd|layer", BAD_ARGUMENT | BAD_DTYPE, layer_of_other_dtype},
    {"pente_trainer_step", "x over weight", "x", BAD_ARGUMENT, x_over_weight},
    {"pente_trainer_step", "x over a gradient", "x", BAD_ARGUMENT, x_over_gradient},
    {"pente_trainer_step", "y over weight's end", "y", BAD_ARGUMENT, target_over_end_of_weight},
    {"pente_trainer_step", "weights over bias", "sample_weight", BAD_ARGUMENT, step_weight_over_bias},
    {"pente_trainer_step", "a negative weight", "sample_weight", BAD_ARGUMENT, negative_weight},
    {"pente_trainer_step", "weights all zero", "sample_weight", BAD_ARGUMENT, zero_weights},
    {"pente_trainer_step", "NaN in x", "loss", ONLY(PENTE_NOT_FINITE), nan_in_x},
    {"pente_trainer_step", "NaN in y", "loss", ONLY(PENTE_NOT_FINITE), nan_in_target},
    {"pente_trainer_step", "infinity in x", "loss", ONLY(PENTE_NOT_FINITE), infinity_in_x},
    {"pente_trainer_fit", "x over weight", "x", BAD_ARGUMENT, x_over_weight},
    {"pente_trainer_fit", "y over weight's end", "y", BAD_ARGUMENT, target_over_end_of_weight},
    {"pente_trainer_fit", "too many epochs", "first_epoch|epochs", BAD_ARGUMENT, too_many_epochs},
    {"pente_trainer_fit", "patience alone", "patience|validation_x", BAD_ARGUMENT, patience_alone},
    {"pente_trainer_fit", "too few weights", "sample_weight", BAD_SHAPE, short_fit_weight},
    {"pente_trainer_fit", "float64 weights", "sample_weight", BAD_DTYPE, fit_weight64},
    {"pente_trainer_fit", "a negative weight", "sample_weight", BAD_ARGUMENT, negative_weight},
    {"pente_trainer_fit", "a wide validation_x", "validation_x", BAD_SHAPE, wide_validation_x},
    {"pente_trainer_fit", "a long validation_y", "validation_y|validation_x", BAD_SHAPE, long_validation_y},
    {"pente_trainer_fit", "a narrow validation_y", "validation_y", BAD_SHAPE, narrow_validation_y},
    {"pente_trainer_fit", "no validation data", "validation_x", BAD_ARGUMENT, no_validation_data},
    {"pente_trainer_fit", "a float64 validation_y", "validation_y", BAD_DTYPE, validation_y64},
    {"pente_trainer_fit", "NaN in the last row of x", "loss", ONLY(PENTE_NOT_FINITE), nan_in_x},
    {"pente_trainer_fit", "NaN in the last row of y", "loss", ONLY(PENTE_NOT_FINITE), nan_in_target},

    {"pente_gradcheck", "mse without target", "target", BAD_ARGUMENT, mse_without_target},
    {"pente_gradcheck", "target without mse", "mse|target", BAD_ARGUMENT, target_without_mse},
    {"pente_gradcheck", "x alone", "layer|mse", BAD_ARGUMENT | BAD_HANDLE, nothing_to_check},
    {"pente_gradcheck", "a float32 layer", "layer|x", BAD_DTYPE, float32_layer},
    {"pente_gradcheck", "x over weight", "x", BAD_ARGUMENT, x64_over_weight},
};
const size_t special_case_count = COUNT(special_cases);
