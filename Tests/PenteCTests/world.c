/* A world: one of each handle, and all the memory that calls may read and write. */
#include "files.h"
#include "layers.h"
#include "refusals.h"

#include <stdlib.h>
#include <string.h>

/* Options come from constants, whose padding is zero: valgrind objects to a comparison of bytes never written. */
static const pente_linear_options linear_options = PENTE_LINEAR_OPTIONS_INIT;
static const pente_activation_options activation_options = PENTE_ACTIVATION_OPTIONS_INIT;
static const pente_custom_options custom_options = PENTE_CUSTOM_OPTIONS_INIT;
static const pente_mse_options mse_options = PENTE_MSE_OPTIONS_INIT;
static const pente_sgd_options sgd_options = PENTE_SGD_OPTIONS_INIT;
static const pente_fit_options fit_options = PENTE_FIT_OPTIONS_INIT;
static const pente_gradcheck_options gradcheck_options = PENTE_GRADCHECK_OPTIONS_INIT;
static const pente_layer_info info = PENTE_LAYER_INFO_INIT;
static const pente_parameter_info parameter_info = PENTE_PARAMETER_INFO_INIT;
static const pente_sgd_info sgd_info = PENTE_SGD_INFO_INIT;
static const pente_sgd_parameter_info sgd_parameter_info = PENTE_SGD_PARAMETER_INFO_INIT;
static const pente_fit_report fit_report = PENTE_FIT_REPORT_INIT;
static const pente_gradcheck_report gradcheck_report = PENTE_GRADCHECK_REPORT_INIT;
static const pente_source_options source_options = PENTE_SOURCE_OPTIONS_INIT;
static const pente_source_info source_info = PENTE_SOURCE_INFO_INIT;
static const pente_checkpoint_info checkpoint_info = PENTE_CHECKPOINT_INFO_INIT;

static void set(pente_matrix *matrix, void *data, int64_t rows, int64_t columns, pente_dtype dtype) {
    matrix->data = data;
    matrix->rows = rows;
    matrix->columns = columns;
    matrix->row_stride = columns;
    matrix->dtype = dtype;
}

static void set_float(pente_matrix *matrix, float *data, int64_t rows, int64_t columns) {
    set(matrix, data, rows, columns, PENTE_FLOAT32);
    for (int64_t i = 0; i < rows * columns; i++) data[i] = (float)(i * 7 % 11 - 5) / 8;
}

static void set_double(pente_matrix *matrix, double *data, int64_t rows, int64_t columns) {
    set(matrix, data, rows, columns, PENTE_FLOAT64);
    for (int64_t i = 0; i < rows * columns; i++) data[i] = (double)(i * 5 % 13 - 6) / 8;
}

static void set_matrices(memory *m) {
    numbers *n = &m->numbers;
    set_float(&m->x, n->x, Q, N);
    set_float(&m->y, n->y, Q, P);
    set_float(&m->grad_output, n->grad_output, Q, P);
    set_float(&m->grad_input, n->grad_input, Q, N);
    set_float(&m->prediction, n->prediction, Q, P);
    set_float(&m->target, n->target, Q, P);
    set_float(&m->sample_weight, n->sample_weight, Q, 1);
    for (int i = 0; i < Q; i++) n->sample_weight[i] = (float)i / 2;
    set_float(&m->squares, n->squares, Q, P);
    set_float(&m->upstream, n->upstream, 1, 1);
    set_float(&m->upstream_elements, n->upstream_elements, Q, P);
    set_float(&m->grad_prediction, n->grad_prediction, Q, P);
    set_float(&m->grad_target, n->grad_target, Q, P);
    set_float(&m->weight, n->weight, P, N);
    set_float(&m->value, n->value, P, N);
    set_double(&m->x64, n->x64, Q, N);
    set_double(&m->target64, n->target64, Q, P);
    memcpy(m->numbers.name, "weight", sizeof "weight");
    memset(m->numbers.path, 0, sizeof m->numbers.path);
    assert_true(strlen(path_of("world")) < sizeof m->numbers.path);
    strcpy(m->numbers.path, path_of("world"));
    m->fit_weight = m->sample_weight;
    m->validation_x = m->x;
    m->validation_y = m->y;
}

/* No call here runs the layer. */
static pente_status never_forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                  void *user_data) {
    (void)parameters, (void)x, (void)y, (void)user_data;
    abort();
}

static pente_status never_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                   const pente_matrix *grad_output, const pente_matrix *grad_input,
                                   const pente_matrix *gradients, void *user_data) {
    (void)parameters, (void)x, (void)y, (void)grad_output, (void)grad_input, (void)gradients, (void)user_data;
    abort();
}

/* Rows of ones. */
static pente_status read_ones(int64_t first, const pente_matrix *x, const pente_matrix *y,
                              const pente_matrix *sample_weight, int64_t *count, void *user_data) {
    (void)first, (void)sample_weight, (void)user_data;
    for (int64_t i = 0; i < x->rows * N; i++) ((float *)x->data)[i] = 1;
    for (int64_t i = 0; i < y->rows * P; i++) ((float *)y->data)[i] = 1;
    *count = x->rows;
    return PENTE_OK;
}

static void set_path(char *path, const char *name) {
    assert_true(strlen(path_of(name)) < 200);
    memset(path, 0, 200);
    strcpy(path, path_of(name));
}

static void set_sources(memory *m) {
    numbers *n = &m->numbers;
    set_path(n->checkpoint, "world-run");
    set_path(n->x_path, "world-x.npy");
    set_path(n->y_path, "world-y.npy");
    set_path(n->weight_path, "world-weight.npy");
    m->x_paths[0] = n->x_path;
    m->y_paths[0] = n->y_path;
    m->weight_paths[0] = n->weight_path;
    write_npy(n->x_path, &m->x);
    write_npy(n->y_path, &m->target);
    write_npy(n->weight_path, &m->sample_weight);
    memcpy(&m->source_options, &source_options, sizeof source_options);
    m->source_options.inputs = N;
    m->source_options.outputs = P;
    m->source_options.rows = Q;
    m->source_options.read = read_ones;
    memcpy(&m->source_info, &source_info, sizeof source_info);
    memcpy(&m->checkpoint_info, &checkpoint_info, sizeof checkpoint_info);
    m->fit_options.checkpoint_path = n->checkpoint;
    m->source_fit_options = m->fit_options;
    m->source_fit_options.sample_weight = NULL;
}

static void set_memory(world *w) {
    memory *m = &w->now;
    memset(m, 0xA5, sizeof *m);
    memset(m->numbers.table, 0, sizeof m->numbers.table);
    set_matrices(m);
    memcpy(&m->linear_options, &linear_options, sizeof linear_options);
    memcpy(&m->activation_options, &activation_options, sizeof activation_options);
    memcpy(&m->custom_options, &custom_options, sizeof custom_options);
    memset(m->custom_parameters, 0, sizeof m->custom_parameters);
    m->custom_parameters[0].name = "weight";
    set(&m->custom_parameters[0].value, m->numbers.weight, P, N, PENTE_FLOAT32);
    m->custom_parameters[0].rank = 2;
    m->custom_parameters[1].name = "bias";
    set(&m->custom_parameters[1].value, m->numbers.target, 1, P, PENTE_FLOAT32);
    m->custom_parameters[1].rank = 1;
    m->custom_options.in_features = N;
    m->custom_options.out_features = P;
    m->custom_options.parameters = m->custom_parameters;
    m->custom_options.parameter_count = 2;
    m->custom_options.forward = never_forward;
    m->custom_options.backward = never_backward;
    memcpy(&m->mse_options, &mse_options, sizeof mse_options);
    memcpy(&m->sgd_options, &sgd_options, sizeof sgd_options);
    memcpy(&m->read_options, &sgd_options, sizeof sgd_options);
    memcpy(&m->fit_options, &fit_options, sizeof fit_options);
    m->fit_options.epochs = 3;
    m->fit_options.batch_size = 2;
    m->fit_options.sample_weight = &m->fit_weight;
    m->fit_options.validation_x = &m->validation_x;
    m->fit_options.validation_y = &m->validation_y;
    m->fit_options.patience = 2;
    m->fit_options.training_losses = m->numbers.training_losses;
    m->fit_options.validation_losses = m->numbers.validation_losses;
    memcpy(&m->gradcheck_options, &gradcheck_options, sizeof gradcheck_options);
    memcpy(&m->info, &info, sizeof info);
    memcpy(&m->parameter_info, &parameter_info, sizeof parameter_info);
    memcpy(&m->sgd_info, &sgd_info, sizeof sgd_info);
    memcpy(&m->sgd_parameter_info, &sgd_parameter_info, sizeof sgd_parameter_info);
    memcpy(&m->fit_report, &fit_report, sizeof fit_report);
    memcpy(&m->gradcheck_report, &gradcheck_report, sizeof gradcheck_report);
    for (int i = 0; i < Q; i++) m->numbers.sample_weight[i] = (float)(i + 1) / 2;
    set_sources(m);
}

/* One of each kind, first for freed ones, so that the good ones may stand where they stood. */
static void set_handles(void **handles) {
    pente_layer *layer = linear_new(PENTE_FLOAT32, N, P, 5);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.125;
    options.momentum = 0.75;
    handles[LAYER] = layer;
    OK(pente_context_new(layer, (pente_context **)&handles[CONTEXT]));
    OK(pente_mse_new(NULL, (pente_mse **)&handles[MSE]));
    OK(pente_sgd_new(&layer, 1, &options, (pente_sgd **)&handles[SGD]));
    OK(pente_trainer_new(layer, handles[MSE], handles[SGD], (pente_trainer **)&handles[TRAINER]));
    pente_source_options source = PENTE_SOURCE_OPTIONS_INIT;
    source.inputs = N;
    source.outputs = P;
    source.rows = Q;
    source.read = read_ones;
    OK(pente_source_new(&source, (pente_source **)&handles[SOURCE]));
}

static void free_handles(void **handles) {
    OK(pente_source_free(handles[SOURCE]));
    OK(pente_trainer_free(handles[TRAINER]));
    OK(pente_sgd_free(handles[SGD]));
    OK(pente_mse_free(handles[MSE]));
    OK(pente_context_free(handles[CONTEXT]));
    OK(pente_layer_free(handles[LAYER]));
}

world *world_new(void) {
    world *w = calloc(1, sizeof *w);
    if (!w) abort();
    set_handles(w->freed);
    free_handles(w->freed);
    set_handles(w->good);
    w->other_layer = linear_new(PENTE_FLOAT32, 5, 4, 5);
    w->bare_layer = linear_new(PENTE_FLOAT32, N, P, 5);
    w->layer64 = linear_new(PENTE_FLOAT64, N, P, 5);
    w->activation = activation_new(PENTE_FLOAT32, PENTE_TANH);
    w->scaler = scaler_new(PENTE_FLOAT32, N);
    OK(pente_chain_new((pente_layer *[]){w->good[LAYER], w->activation}, 2, &w->chain));
    OK(pente_context_new(w->bare_layer, &w->other_context));
    OK(pente_context_new(w->good[LAYER], &w->fresh_context));
    w->none_mse = mse_new(PENTE_NONE);
    OK(pente_layer_parameter_view(w->good[LAYER], "weight", &w->weight_view));
    OK(pente_layer_parameter_view(w->good[LAYER], "bias", &w->bias_view));
    OK(pente_layer_gradient_view(w->good[LAYER], "weight", &w->gradient_view));
    OK(pente_layer_parameter_view(w->layer64, "weight", &w->gradcheck_weight_view));
    OK(pente_layer_parameter_view(w->scaler, "mean", &w->mean_view));

    set_memory(w);
    OK(pente_layer_save(w->good[LAYER], w->good[SGD], path_of("world")));
    OK(pente_trainer_fit_source(w->good[TRAINER], w->good[SOURCE], &w->now.source_fit_options, NULL)); /* and its file */
    memcpy(w->now.numbers.training_losses, (double[4]){0}, sizeof w->now.numbers.training_losses);
    memcpy(w->now.numbers.validation_losses, (double[4]){0}, sizeof w->now.numbers.validation_losses);
    /* Gradients, momentum and a pending backward pass: state that a refused call could spoil. */
    memory *m = &w->now;
    OK(pente_trainer_step(w->good[TRAINER], &m->x, &m->target, NULL, NULL));
    OK(pente_trainer_accumulate(w->good[TRAINER], &m->x, &m->target, NULL));
    OK(pente_layer_forward(w->good[LAYER], w->good[CONTEXT], &m->x, &m->prediction));
    m->layers[0] = w->good[LAYER];
    m->layers[1] = w->bare_layer;
    m->further_layers[0] = w->other_layer;
    m->further_layers[1] = w->bare_layer;
    m->chain_layers[0] = w->good[LAYER];
    m->chain_layers[1] = w->activation;
    m->weight_buffer = m->value;
    m->bias_buffer = m->target;
    m->bias_buffer.rows = 1;
    m->buffers[0] = &m->weight_buffer;
    m->buffers[1] = &m->bias_buffer;
    memcpy(&w->pristine, m, sizeof *m);
    return w;
}

/* The call under test may have been a free. */
static void free_once(pente_status status) {
    assert_true(status == PENTE_OK || status == PENTE_INVALID_HANDLE);
}

void world_free(world *w) {
    free_once(pente_source_free(w->good[SOURCE]));
    free_once(pente_trainer_free(w->good[TRAINER]));
    free_once(pente_sgd_free(w->good[SGD]));
    free_once(pente_mse_free(w->good[MSE]));
    free_once(pente_context_free(w->good[CONTEXT]));
    free_once(pente_layer_free(w->good[LAYER]));
    OK(pente_context_free(w->other_context));
    OK(pente_context_free(w->fresh_context));
    OK(pente_mse_free(w->none_mse));
    pente_layer *layers[] = {w->other_layer, w->bare_layer, w->layer64, w->activation, w->scaler, w->chain};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    free(w);
}

/* Two parameters and their gradients, one behind the other. */
static void copy_out(outcome *seen, pente_layer *layer, const char *const *names, void *parameter, void *gradient,
                     pente_matrix first, pente_matrix second) {
    pente_matrix places[] = {first, second};
    size_t done = 0;
    for (int i = 0; i < 2; i++) {
        places[i].data = (char *)parameter + done;
        seen->statuses[seen->count++] = pente_layer_get_parameter(layer, names[i], &places[i]);
        places[i].data = (char *)gradient + done;
        seen->statuses[seen->count++] = pente_layer_get_gradient(layer, names[i], &places[i]);
        done += (size_t)(places[i].rows * places[i].columns) * element_size(places[i].dtype);
    }
}

static void copy_linear(outcome *seen, pente_layer *layer, void *parameter, void *gradient, int64_t inputs,
                        int64_t outputs, pente_dtype dtype) {
    static const char *const names[] = {"weight", "bias"};
    pente_matrix weight = {NULL, outputs, inputs, inputs, dtype}, bias = {NULL, 1, outputs, outputs, dtype};
    copy_out(seen, layer, names, parameter, gradient, weight, bias);
}

void look(world *w, outcome *seen) {
    static const char *const of_scaler[] = {"mean", "scale"};
    pente_matrix vector = {NULL, 1, N, N, PENTE_FLOAT32};
    memset(seen, 0, sizeof *seen);
    memcpy(&seen->numbers, &w->now.numbers, sizeof seen->numbers);
    copy_linear(seen, w->good[LAYER], seen->parameters, seen->gradients, N, P, PENTE_FLOAT32);
    copy_linear(seen, w->bare_layer, seen->parameters + 16, seen->gradients + 16, N, P, PENTE_FLOAT32);
    copy_linear(seen, w->other_layer, seen->parameters + 32, seen->gradients + 32, 5, 4, PENTE_FLOAT32);
    copy_linear(seen, w->layer64, seen->parameters64, seen->gradients64, N, P, PENTE_FLOAT64);
    copy_out(seen, w->scaler, of_scaler, seen->parameters + 56, seen->gradients + 56, vector, vector);
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    seen->statuses[seen->count++] = pente_sgd_get_info(w->good[SGD], &info);
    seen->steps = info.step_count;
    pente_matrix buffers[] = {pente_float32_matrix(seen->buffers, P, N), pente_float32_matrix(seen->buffers + 8, 1, P)};
    for (int i = 0; i < 2; i++) {
        seen->statuses[seen->count++] = pente_sgd_get_momentum_buffer(w->good[SGD], i, &buffers[i]);
    }
}

void probe(world *w, outcome *seen) {
    memory *m = &w->now;
    pente_status statuses[4] = {
        pente_layer_backward(w->good[LAYER], w->good[CONTEXT], &m->grad_output, NULL),
        pente_sgd_step(w->good[SGD]),
        pente_sgd_step(w->good[SGD]),
        pente_trainer_step(w->good[TRAINER], &m->x, &m->target, NULL, &m->numbers.loss),
    };
    look(w, seen);
    memcpy(&seen->statuses[seen->count], statuses, sizeof statuses);
    seen->count += 4;
}
