#define _POSIX_C_SOURCE 200809L
#include "lives.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N = 40, P = 20, ROWS = 2500, FEW = 60 };

typedef struct life {
    const char *path;
    pente_dtype dtype;
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    uint64_t hash;
} life;

static pente_matrix x[2], y[2];
static uint64_t expected[LIVES];
static const char *directory;

static pente_matrix view(const pente_matrix *m, int64_t rows, int64_t columns) {
    return (pente_matrix){m->data, rows, columns, m->row_stride, m->dtype};
}
static pente_matrix examples(const life *l, int64_t rows, int64_t columns) {
    return view(&x[l->dtype - 1], rows, columns);
}
static pente_matrix targets(const life *l, int64_t rows, int64_t columns) {
    return view(&y[l->dtype - 1], rows, columns);
}

/* ---- What a life has ---- */

static bool linear(const life *l, int64_t inputs, int64_t outputs, pente_layer **layer) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = l->dtype;
    options.seed = 7;
    return !pente_linear_new(inputs, outputs, &options, layer);
}

static bool activation(const life *l, pente_layer **layer) {
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    options.dtype = l->dtype;
    return !pente_activation_new(PENTE_TANH, &options, layer);
}

/* The layers' handles are not needed any more. */
static bool chain(pente_layer **layers, int64_t count, pente_layer **made) {
    bool well = !pente_chain_new(layers, count, made);
    for (int64_t i = 0; i < count; i++) well = !pente_layer_free(layers[i]) && well;
    return well;
}

static bool make_trainer(life *l, double momentum) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.01;
    options.momentum = momentum;
    return !pente_mse_new(NULL, &l->mse) && !pente_sgd_new(&l->layer, 1, &options, &l->sgd) &&
           !pente_trainer_new(l->layer, l->mse, l->sgd, &l->trainer);
}

static bool train(life *l, int steps, int64_t rows, int64_t inputs, int64_t outputs) {
    pente_matrix in = examples(l, rows, inputs), out = targets(l, rows, outputs);
    for (int i = 0; i < steps; i++) {
        double loss = 0;
        if (pente_trainer_step(l->trainer, &in, &out, NULL, &loss)) return false;
        l->hash = hash_bytes(l->hash, &loss, sizeof loss);
    }
    return true;
}

/* Parameters, gradients and what it says of x go into the hash. */
static bool look(life *l, int64_t rows, int64_t inputs, int64_t outputs) {
    static _Thread_local double numbers[ROWS * P];
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    if (pente_layer_get_info(l->layer, &info)) return false;
    for (int64_t i = 0; i < info.parameter_count; i++) {
        char name[64];
        pente_parameter_info of = PENTE_PARAMETER_INFO_INIT;
        if (pente_layer_parameter_name(l->layer, i, name, sizeof name)) return false;
        if (pente_layer_get_parameter_info(l->layer, i, &of)) return false;
        pente_matrix value = {numbers, of.rows, of.columns, of.columns, l->dtype};
        if (pente_layer_get_parameter(l->layer, name, &value)) return false;
        l->hash = hash_matrix(l->hash, &value);
        if (pente_layer_get_gradient(l->layer, name, &value)) return false;
        l->hash = hash_matrix(l->hash, &value);
    }
    pente_matrix in = examples(l, rows, inputs), out = {numbers, rows, outputs, outputs, l->dtype};
    if (pente_layer_forward(l->layer, NULL, &in, &out)) return false;
    l->hash = hash_matrix(l->hash, &out);
    return true;
}

/* ---- The lives ---- */

static bool live_shortly(life *l) {
    l->dtype = PENTE_FLOAT32;
    return linear(l, 9, 5, &l->layer) && make_trainer(l, 0.5) && train(l, 6, FEW, 9, 5) && look(l, FEW, 9, 5);
}

static int32_t visit(const pente_epoch *epoch, void *user_data) {
    life *l = user_data;
    bool well = look(l, 8, 9, 3) && !pente_sgd_set_lr(l->sgd, 0, 0.01 / (double)epoch->epoch);
    return !well;
}

static bool live_with_a_fit(life *l) {
    l->dtype = PENTE_FLOAT64;
    pente_layer *layers[4] = {NULL};
    pente_matrix in = examples(l, FEW, 9), out = targets(l, FEW, 3);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    double losses[3] = {0};
    options.epochs = 3;
    options.batch_size = 16;
    options.validation_x = &in;
    options.validation_y = &out;
    options.patience = 2;
    options.on_epoch = visit;
    options.user_data = l;
    options.training_losses = losses;
    if (pente_scaler_new(9, l->dtype, &layers[0]) || pente_scaler_fit(layers[0], &in)) return false;
    if (!linear(l, 9, 6, &layers[1]) || !activation(l, &layers[2]) || !linear(l, 6, 3, &layers[3])) return false;
    if (!chain(layers, 4, &l->layer) || !make_trainer(l, 0.9)) return false;
    if (pente_trainer_set_max_gradient_norm(l->trainer, 0.5)) return false;
    if (pente_trainer_fit(l->trainer, &in, &out, &options, &report)) return false;
    l->hash = hash_bytes(l->hash, losses, sizeof losses);
    return report.stop_reason == PENTE_STOP_EPOCHS && look(l, FEW, 9, 3);
}

static bool live_with_threads(life *l) {
    l->dtype = PENTE_FLOAT32;
    return linear(l, N, P, &l->layer) && make_trainer(l, 0.9) && train(l, 3, ROWS, N, P) && look(l, ROWS, N, P);
}

static pente_status square(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                           void *user_data) {
    (void)parameters;
    for (int64_t i = 0; i < in->rows * in->columns; i++) put(out, 0, i, get(in, 0, i) * get(in, 0, i));
    return *(bool *)user_data ? PENTE_OK : PENTE_USER;
}

static pente_status square_backward(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                                    const pente_matrix *grad_output, const pente_matrix *grad_input,
                                    const pente_matrix *gradients, void *user_data) {
    (void)parameters, (void)out, (void)gradients;
    for (int64_t i = 0; i < in->rows * in->columns; i++) {
        put(grad_input, 0, i, 2 * get(in, 0, i) * get(grad_output, 0, i));
    }
    return *(bool *)user_data ? PENTE_OK : PENTE_USER;
}

static void release(void *user_data) { *(bool *)user_data = false; }

/* By the single calls. */
static bool live_with_a_layer_of_its_own(life *l) {
    l->dtype = PENTE_FLOAT32;
    bool is_alive = true;
    double numbers[FEW * 5], gradients[FEW * 5];
    pente_layer *layers[2] = {NULL};
    pente_context *context = NULL;
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.forward = square;
    options.backward = square_backward;
    options.release = release;
    options.user_data = &is_alive;
    pente_matrix in = examples(l, FEW, 9), target = targets(l, FEW, 5);
    pente_matrix out = {numbers, FEW, 5, 5, l->dtype}, gradient = {gradients, FEW, 5, 5, l->dtype};
    bool well = linear(l, 9, 5, &layers[0]) && !pente_custom_new(&options, &layers[1]) &&
                chain(layers, 2, &l->layer) && make_trainer(l, 0) && !pente_context_new(l->layer, &context);
    for (int i = 0; i < 4 && well; i++) {
        well = !pente_sgd_zero_gradients(l->sgd) && !pente_layer_forward(l->layer, context, &in, &out) &&
               !pente_mse_backward(l->mse, &out, &target, NULL, NULL, &gradient, NULL) &&
               !pente_layer_backward(l->layer, context, &gradient, NULL) && !pente_sgd_step(l->sgd);
    }
    well = well && train(l, 2, FEW, 9, 5) && look(l, FEW, 9, 5);
    /* Whoever lets go of the layer last has it released. */
    well = !pente_context_free(context) && !pente_trainer_free(l->trainer) && !pente_sgd_free(l->sgd) &&
           !pente_layer_free(l->layer) && well && !is_alive;
    l->trainer = NULL, l->sgd = NULL, l->layer = NULL;
    return well;
}

static bool live_with_files(life *l) {
    l->dtype = PENTE_FLOAT64;
    pente_layer *layers[2] = {NULL}, *loaded = NULL;
    bool well = linear(l, 9, 5, &layers[0]) && activation(l, &layers[1]) && chain(layers, 2, &l->layer) &&
                make_trainer(l, 0.9) && train(l, 2, FEW, 9, 5) && !pente_layer_save(l->layer, l->sgd, l->path) &&
                train(l, 1, FEW, 9, 5) && !pente_layer_load_parameters(l->layer, l->sgd, l->path) &&
                train(l, 2, FEW, 9, 5) && look(l, FEW, 9, 5) && !pente_layer_load(l->path, &loaded);
    if (!well) return false;
    well = !pente_layer_free(l->layer);
    l->layer = loaded;
    return well && look(l, FEW, 9, 5);
}

static bool (*const lives[LIVES])(life *) = {live_shortly, live_with_a_fit, live_with_threads,
                                              live_with_a_layer_of_its_own, live_with_files};

/* 0 if something went wrong. */
static uint64_t hash_of(int number, const char *path) {
    life l = {.path = path, .hash = FIRST_HASH};
    bool well = lives[number](&l);
    if (!well) fprintf(stderr, "life %d: %s\n", number, pente_last_error());
    well = !pente_trainer_free(l.trainer) && !pente_sgd_free(l.sgd) && !pente_mse_free(l.mse) &&
           !pente_layer_free(l.layer) && well;
    return well ? l.hash : 0;
}

bool live(int life, int number) {
    char path[1000];
    snprintf(path, sizeof path, "%s/life-%d-%d.safetensors", directory, (int)getpid(), number);
    uint64_t hash = hash_of(life, path);
    if (life == LIFE_WITH_FILES) unlink(path);
    if (hash == expected[life]) return true;
    fprintf(stderr, "life %d: %s\n", life, hash ? "other bits" : "failed");
    return false;
}

void lives_begin(const char *place) {
    char path[1000];
    directory = place;
    snprintf(path, sizeof path, "%s/life.safetensors", directory);
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        x[dtype - 1] = matrix_random(dtype, ROWS, N, N);
        y[dtype - 1] = matrix_random(dtype, ROWS, P, P);
    }
    for (int i = 0; i < LIVES; i++) assert_true((expected[i] = hash_of(i, path)) != 0);
    unlink(path);
}

void lives_end(void) {
    for (int i = 0; i < 2; i++) {
        matrix_free(&x[i]);
        matrix_free(&y[i]);
    }
}
