/* Not run but compiled, as C11 and as C++17 by each compiler with all warnings: the header needs no other before it,
 * and what it defines may be used. The array sizes hold the ABI: none of these numbers may ever change. */
#include <pente.h>

#define HOLDS(name, condition) typedef char name[(condition) ? 1 : -1]

#if defined(__LP64__)
HOLDS(size_of_matrix, sizeof(pente_matrix) == 40);
HOLDS(size_of_linear_options, sizeof(pente_linear_options) == 24);
HOLDS(size_of_activation_options, sizeof(pente_activation_options) == 24);
HOLDS(size_of_custom_parameter, sizeof(pente_custom_parameter) == 56);
HOLDS(size_of_custom_options, sizeof(pente_custom_options) == 80);
HOLDS(size_of_layer_info, sizeof(pente_layer_info) == 64);
HOLDS(size_of_parameter_info, sizeof(pente_parameter_info) == 32);
HOLDS(size_of_mse_options, sizeof(pente_mse_options) == 16);
HOLDS(size_of_sgd_options, sizeof(pente_sgd_options) == 48);
HOLDS(size_of_sgd_info, sizeof(pente_sgd_info) == 32);
HOLDS(size_of_sgd_parameter_info, sizeof(pente_sgd_parameter_info) == 40);
HOLDS(size_of_epoch, sizeof(pente_epoch) == 40);
HOLDS(size_of_fit_options, sizeof(pente_fit_options) == 208);
HOLDS(size_of_progress, sizeof(pente_progress) == 64);
HOLDS(size_of_source_options, sizeof(pente_source_options) == 72);
HOLDS(size_of_source_info, sizeof(pente_source_info) == 48);
HOLDS(size_of_checkpoint_info, sizeof(pente_checkpoint_info) == 24);
HOLDS(size_of_fit_report, sizeof(pente_fit_report) == 32);
HOLDS(size_of_gradcheck_options, sizeof(pente_gradcheck_options) == 32);
HOLDS(size_of_gradcheck_report, sizeof(pente_gradcheck_report) == 136);
#endif

HOLDS(statuses, PENTE_OK == 0 && PENTE_INVALID_HANDLE == 1 && PENTE_INVALID_ARGUMENT == 2 &&
                    PENTE_SHAPE_MISMATCH == 3 && PENTE_DTYPE_MISMATCH == 4 && PENTE_INVALID_STATE == 5 &&
                    PENTE_BUSY == 6 && PENTE_OUT_OF_MEMORY == 7 && PENTE_NOT_FINITE == 8 &&
                    PENTE_FILE_ERROR == 9 && PENTE_INVALID_FILE == 10 && PENTE_USER == 1000);
HOLDS(dtypes, PENTE_FLOAT32 == 1 && PENTE_FLOAT64 == 2);
HOLDS(activations, PENTE_RELU == 1 && PENTE_LEAKY_RELU == 2 && PENTE_TANH == 3 && PENTE_SIGMOID == 4 &&
                       PENTE_SOFTPLUS == 5);
HOLDS(kinds, PENTE_LINEAR == 1 && PENTE_ACTIVATION == 2 && PENTE_SCALER == 3 && PENTE_CHAIN == 4 && PENTE_CUSTOM == 5);
HOLDS(reductions, PENTE_MEAN == 1 && PENTE_SUM == 2 && PENTE_NONE == 3 && PENTE_BATCH_MEAN == 4 &&
                      PENTE_OUTPUT_MEAN == 5);
HOLDS(stop_reasons, PENTE_STOP_EPOCHS == 1 && PENTE_STOP_EARLY == 2 && PENTE_STOP_CALLBACK == 3 &&
                        PENTE_STOP_REQUEST == 4);

pente_status use_the_header(const float *numbers, const double *doubles);

pente_status use_the_header(const float *numbers, const double *doubles) {
    pente_linear_options linear_options = PENTE_LINEAR_OPTIONS_INIT;
    pente_activation_options activation_options = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_custom_options custom_options = PENTE_CUSTOM_OPTIONS_INIT;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_parameter_info parameter_info = PENTE_PARAMETER_INFO_INIT;
    pente_sgd_info sgd_info = PENTE_SGD_INFO_INIT;
    pente_sgd_parameter_info sgd_parameter_info = PENTE_SGD_PARAMETER_INFO_INIT;
    pente_mse_options mse_options = PENTE_MSE_OPTIONS_INIT;
    pente_sgd_options sgd_options = PENTE_SGD_OPTIONS_INIT;
    pente_fit_options fit_options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report fit_report = PENTE_FIT_REPORT_INIT;
    pente_source_options source_options = PENTE_SOURCE_OPTIONS_INIT;
    pente_source_info source_info = PENTE_SOURCE_INFO_INIT;
    pente_checkpoint_info checkpoint_info = PENTE_CHECKPOINT_INFO_INIT;
    pente_gradcheck_options gradcheck_options = PENTE_GRADCHECK_OPTIONS_INIT;
    pente_gradcheck_report gradcheck_report = PENTE_GRADCHECK_REPORT_INIT;
    pente_matrix x = pente_float32_matrix(numbers, 3, 2), y = pente_float64_matrix(doubles, 3, 2);
    pente_dtype dtype = PENTE_FLOAT32;
    pente_reduction reduction = PENTE_MEAN;
    pente_stop_reason reason = PENTE_STOP_EPOCHS;
    pente_activation activation = PENTE_TANH;
    pente_layer_kind kind = PENTE_CUSTOM;
    pente_custom_parameter parameter = {"weight", x, 2};
    custom_options.parameters = &parameter;
    linear_options.dtype = dtype;
    mse_options.reduction = reduction;
    fit_options.validation_x = &x;
    fit_options.validation_y = &y;
    return pente_version() == PENTE_VERSION && linear_options.struct_size && info.struct_size &&
                   mse_options.struct_size && sgd_options.struct_size && fit_options.validation_x &&
                   activation_options.struct_size && custom_options.parameters && parameter_info.struct_size &&
                   sgd_info.struct_size && sgd_parameter_info.struct_size && info.kind != kind &&
                   info.activation != activation && fit_report.stop_reason != reason &&
                   gradcheck_options.struct_size && gradcheck_report.struct_size && source_options.struct_size &&
                   source_info.struct_size && checkpoint_info.struct_size
               ? PENTE_OK
               : PENTE_INVALID_ARGUMENT;
}
