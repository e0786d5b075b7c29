#include "workout.h"

#include "files.h"

#include <string.h>

enum { INPUTS = 13, HIDDEN = 24, OUTPUTS = 3 };

static uint64_t hash_layer(uint64_t hash, const pente_layer *layer) {
    snapshot s = snapshot_new(layer);
    for (int64_t i = 0; i < s.count; i++) hash = hash_matrix(hash_matrix(hash, &s.parameters[i]), &s.gradients[i]);
    snapshot_free(&s);
    return hash;
}

/* Numbers that are made without arithmetic, some of them subnormal. */
static void fill_bits(const pente_matrix *matrix, uint64_t seed) {
    static const uint64_t exponents[] = {127, 126, 125, 124, 0};
    for (int64_t i = 0; i < matrix->rows; i++) {
        for (int64_t j = 0; j < matrix->columns; j++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            uint64_t exponent = exponents[(seed >> 40) % 5], sign = seed >> 63;
            uint64_t wide = sign << 63 | (exponent ? exponent + 896 : 0) << 52 | seed >> 12;
            uint32_t single = (uint32_t)(sign << 31 | exponent << 23 | seed >> 41);
            size_t at = (size_t)(i * matrix->row_stride + j);
            if (matrix->dtype == PENTE_FLOAT32) {
                memcpy((float *)matrix->data + at, &single, sizeof single);
            } else {
                memcpy((double *)matrix->data + at, &wide, sizeof wide);
            }
        }
    }
}

static uint64_t check_gradients(uint64_t hash, const pente_mse *mse, const pente_matrix *x, const pente_matrix *y) {
    pente_matrix few_x = rows_of(x, 0, 5), few_y = rows_of(y, 0, 5);
    pente_layer *chain = CHAIN(linear_new(PENTE_FLOAT64, INPUTS, OUTPUTS, 1), activation_new(PENTE_FLOAT64, PENTE_TANH));
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    OK(pente_gradcheck(chain, mse, &few_x, &few_y, NULL, &report));
    double numbers[] = {report.analytic, report.numeric, report.error, report.tolerance};
    OK(pente_layer_free(chain));
    return hash_bytes(hash, numbers, sizeof numbers);
}

static uint64_t fit(uint64_t hash, pente_trainer *trainer, const pente_matrix *x, const pente_matrix *y) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_matrix validation_x = rows_of(x, 0, x->rows / 4), validation_y = rows_of(y, 0, y->rows / 4);
    double losses[2][3] = {{0}};
    options.epochs = 3;
    options.batch_size = x->rows / 3;
    options.seed = 5;
    options.validation_x = &validation_x;
    options.validation_y = &validation_y;
    options.patience = 2;
    options.training_losses = losses[0];
    options.validation_losses = losses[1];
    OK(pente_trainer_set_max_gradient_norm(trainer, 0.3));
    OK(pente_trainer_fit(trainer, x, y, &options, NULL));
    return hash_bytes(hash, losses, sizeof losses);
}

static uint64_t go_on_from_file(uint64_t hash, const pente_layer *chain, const pente_sgd *sgd) {
    pente_layer *loaded = NULL;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    OK(pente_layer_save(chain, sgd, path_of("workout")));
    OK(pente_layer_load(path_of("workout"), &loaded));
    pente_sgd *resumed = sgd_of(loaded, 0.5, 0);
    OK(pente_layer_load_parameters(loaded, resumed, path_of("workout")));
    OK(pente_sgd_get_options(resumed, 0, &options));
    double numbers[] = {options.lr, options.momentum, options.dampening, options.weight_decay};
    bytes file = bytes_of(path_of("workout"));
    hash = hash_bytes(hash_bytes(hash_layer(hash, loaded), numbers, sizeof numbers), file.data, file.size);
    bytes_free(&file);
    OK(pente_sgd_free(resumed));
    OK(pente_layer_free(loaded));
    return hash;
}

static uint64_t train(uint64_t hash, pente_dtype dtype, bool large) {
    int64_t rows = large ? 3000 : 150;
    pente_matrix x = matrix_new(dtype, rows, INPUTS, INPUTS + 1), y = matrix_new(dtype, rows, OUTPUTS, OUTPUTS);
    pente_matrix out = matrix_new(dtype, rows, OUTPUTS, OUTPUTS), grad_input = matrix_new(dtype, rows, INPUTS, INPUTS);
    pente_layer *scaler = NULL;
    pente_sgd_options options = options_of(1.0 / 30, 0.9 / 1.1, 0, 1e-3 / 7, 1, 0);
    pente_sgd *sgd = NULL;
    pente_context *context = NULL;
    double loss = 0, norm = 0;
    fill_bits(&x, 1);
    fill_bits(&y, 2);
    OK(pente_scaler_new(INPUTS, dtype, &scaler));
    OK(pente_scaler_fit(scaler, &x));
    pente_layer *chain = CHAIN(scaler, linear_new(dtype, INPUTS, HIDDEN, 1), activation_new(dtype, PENTE_TANH),
                               linear_new(dtype, HIDDEN, HIDDEN, 2), activation_new(dtype, PENTE_SOFTPLUS),
                               linear_new(dtype, HIDDEN, OUTPUTS, 3));
    pente_mse *mse = mse_new(PENTE_MEAN);
    OK(pente_sgd_new(&chain, 1, &options, &sgd));
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    OK(pente_context_new(chain, &context));
    for (int step = 0; step < 3; step++) {
        OK(pente_layer_forward(chain, context, &x, &out));
        OK(pente_mse_forward(mse, &out, &y, NULL, &loss));
        OK(pente_layer_backward(chain, context, &y, &grad_input));
        OK(pente_sgd_clip_gradients(sgd, 0.7, &norm));
        OK(pente_sgd_step(sgd));
        hash = hash_matrix(hash_matrix(hash, &out), &grad_input);
        OK(pente_trainer_step(trainer, &x, &y, NULL, &loss));
        hash = hash_bytes(hash_bytes(hash, &loss, sizeof loss), &norm, sizeof norm);
    }
    hash = hash_layer(fit(hash, trainer, &x, &y), chain);
    if (!large) hash = go_on_from_file(hash, chain, sgd); /* it waits for the disk */
    if (dtype == PENTE_FLOAT64) hash = check_gradients(hash, mse, &x, &y);
    OK(pente_context_free(context));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    pente_matrix *matrices[] = {&x, &y, &out, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    return hash;
}

uint64_t workout(bool large) {
    return train(train(FIRST_HASH, PENTE_FLOAT32, large), PENTE_FLOAT64, large);
}
