/* The job of Sources/consumer, in C: what the Swift programs' numbers are compared with.
 *
 *     reference MODEL.safetensors
 */
#include <pente.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 64, INPUTS = 5, HIDDEN = 8, OUTPUTS = 3, MANY = 2048, WIDTH = 64, EPOCHS = 5, STEPS = 10 };

#define TRY(call)                                                                        \
    do {                                                                                 \
        pente_status try_status = (call);                                                \
        if (try_status != PENTE_OK) {                                                    \
            fprintf(stderr, "%s: %s\n", pente_status_name(try_status), pente_last_error()); \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

static void fill(float *x, float *y, int64_t rows, int64_t inputs, int64_t outputs) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < inputs; j++) x[i * inputs + j] = (float)((i * 7 + j * 5) % 13) / 8 - 0.75f;
        for (int64_t k = 0; k < outputs; k++) y[i * outputs + k] = (float)((i * 3 + k * 11) % 17) / 16;
    }
}

static void print_floats(const char *name, const float *values, int count) {
    printf("%s", name);
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        printf(" %08" PRIx32, bits);
    }
    printf("\n");
}

static void print_doubles(const char *name, const double *values, int count) {
    printf("%s", name);
    for (int i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, values + i, sizeof bits);
        printf(" %016" PRIx64, bits);
    }
    printf("\n");
}

static pente_layer *linear_new(int64_t inputs, int64_t outputs, uint64_t seed) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_layer *layer;
    options.seed = seed;
    TRY(pente_linear_new(inputs, outputs, &options, &layer));
    return layer;
}

static pente_sgd *sgd_new(pente_layer *layer, double lr, double momentum) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_sgd *sgd;
    options.lr = lr;
    options.momentum = momentum;
    TRY(pente_sgd_new(&layer, 1, &options, &sgd));
    return sgd;
}

static void train_linear(const pente_mse *mse, const pente_matrix *x, const pente_matrix *y) {
    static float weight[OUTPUTS * INPUTS], bias[OUTPUTS];
    double losses[EPOCHS];
    pente_layer *layer = linear_new(INPUTS, OUTPUTS, 1);
    pente_sgd *sgd = sgd_new(layer, 0.05, 0.9);
    pente_trainer *trainer;
    pente_fit_options fit = PENTE_FIT_OPTIONS_INIT;
    TRY(pente_trainer_new(layer, mse, sgd, &trainer));
    fit.epochs = EPOCHS;
    fit.batch_size = 16;
    fit.seed = 2;
    fit.training_losses = losses;
    TRY(pente_trainer_fit(trainer, x, y, &fit, NULL));
    pente_matrix weight_view = pente_float32_matrix(weight, OUTPUTS, INPUTS);
    pente_matrix bias_view = pente_float32_matrix(bias, 1, OUTPUTS);
    TRY(pente_layer_get_parameter(layer, "weight", &weight_view));
    TRY(pente_layer_get_parameter(layer, "bias", &bias_view));
    print_doubles("linear losses", losses, EPOCHS);
    print_floats("linear weight", weight, OUTPUTS * INPUTS);
    print_floats("linear bias", bias, OUTPUTS);
    TRY(pente_trainer_free(trainer));
    TRY(pente_sgd_free(sgd));
    TRY(pente_layer_free(layer));
}

static void train_chain(const pente_mse *mse, const pente_matrix *x, const pente_matrix *y, const char *path) {
    static float predicted[FEW * OUTPUTS], gradients[FEW * OUTPUTS];
    double losses[STEPS];
    pente_matrix prediction = pente_float32_matrix(predicted, FEW, OUTPUTS);
    pente_matrix gradient = pente_float32_matrix(gradients, FEW, OUTPUTS);
    pente_layer *layers[3] = {linear_new(INPUTS, HIDDEN, 0), NULL, linear_new(HIDDEN, OUTPUTS, 0)}, *chain, *loaded;
    pente_context *context;
    TRY(pente_activation_new(PENTE_TANH, NULL, &layers[1]));
    TRY(pente_chain_new(layers, 3, &chain));
    for (int i = 0; i < 3; i++) TRY(pente_layer_free(layers[i]));
    TRY(pente_layer_reset_parameters(chain, 3));
    TRY(pente_context_new(chain, &context));
    pente_sgd *sgd = sgd_new(chain, 0.1, 0);
    for (int i = 0; i < STEPS; i++) {
        TRY(pente_sgd_zero_gradients(sgd));
        TRY(pente_layer_forward(chain, context, x, &prediction));
        TRY(pente_mse_forward(mse, &prediction, y, NULL, &losses[i]));
        TRY(pente_mse_backward(mse, &prediction, y, NULL, NULL, &gradient, NULL));
        TRY(pente_layer_backward(chain, context, &gradient, NULL));
        TRY(pente_sgd_step(sgd));
    }
    TRY(pente_layer_save(chain, NULL, path));
    TRY(pente_layer_load(path, &loaded));
    print_doubles("chain losses", losses, STEPS);
    TRY(pente_layer_forward(chain, NULL, x, &prediction));
    print_floats("chain predicts", predicted, FEW * OUTPUTS);
    TRY(pente_layer_forward(loaded, NULL, x, &prediction));
    print_floats("loaded predicts", predicted, FEW * OUTPUTS);
    pente_status status = pente_layer_forward(chain, NULL, y, &prediction);
    printf("error %" PRId32 " %s\n", status, pente_last_error() + strlen("pente_layer_forward: "));
    TRY(pente_context_free(context));
    TRY(pente_sgd_free(sgd));
    TRY(pente_layer_free(chain));
    TRY(pente_layer_free(loaded));
}

static void train_many(const pente_mse *mse) {
    static float x[MANY * WIDTH], y[MANY * WIDTH];
    double losses[2];
    pente_layer *layer = linear_new(WIDTH, WIDTH, 4);
    pente_sgd *sgd = sgd_new(layer, 0.1, 0);
    pente_trainer *trainer;
    pente_matrix x_view = pente_float32_matrix(x, MANY, WIDTH), y_view = pente_float32_matrix(y, MANY, WIDTH);
    fill(x, y, MANY, WIDTH, WIDTH);
    TRY(pente_trainer_new(layer, mse, sgd, &trainer));
    for (int i = 0; i < 2; i++) TRY(pente_trainer_step(trainer, &x_view, &y_view, NULL, &losses[i]));
    print_doubles("many losses", losses, 2);
    TRY(pente_trainer_free(trainer));
    TRY(pente_sgd_free(sgd));
    TRY(pente_layer_free(layer));
}

int main(int argc, char **argv) {
    static float x[FEW * INPUTS], y[FEW * OUTPUTS];
    pente_matrix x_view = pente_float32_matrix(x, FEW, INPUTS), y_view = pente_float32_matrix(y, FEW, OUTPUTS);
    pente_mse *mse;
    if (argc != 2) return 2;
    fill(x, y, FEW, INPUTS, OUTPUTS);
    TRY(pente_mse_new(NULL, &mse));
    train_linear(mse, &x_view, &y_view);
    train_chain(mse, &x_view, &y_view, argv[1]);
    train_many(mse);
    TRY(pente_mse_free(mse));
    return 0;
}
