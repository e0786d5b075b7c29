/* A world: one of each handle, and all the memory that calls may read and write. */
#include "refusals.h"

#include <stdlib.h>
#include <string.h>

/* Options come from constants, whose padding is zero: valgrind objects to a comparison of bytes never written. */
static const pente_linear_options linear_options = PENTE_LINEAR_OPTIONS_INIT;
static const pente_mse_options mse_options = PENTE_MSE_OPTIONS_INIT;
static const pente_sgd_options sgd_options = PENTE_SGD_OPTIONS_INIT;
static const pente_fit_options fit_options = PENTE_FIT_OPTIONS_INIT;
static const pente_gradcheck_options gradcheck_options = PENTE_GRADCHECK_OPTIONS_INIT;
static const pente_layer_info info = PENTE_LAYER_INFO_INIT;
static const pente_fit_report fit_report = PENTE_FIT_REPORT_INIT;
static const pente_gradcheck_report gradcheck_report = PENTE_GRADCHECK_REPORT_INIT;

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
    m->fit_weight = m->sample_weight;
    m->validation_x = m->x;
    m->validation_y = m->y;
}

static void set_memory(world *w) {
    memory *m = &w->now;
    memset(m, 0xA5, sizeof *m);
    memset(m->numbers.table, 0, sizeof m->numbers.table);
    set_matrices(m);
    memcpy(&m->linear_options, &linear_options, sizeof linear_options);
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
    memcpy(&m->fit_report, &fit_report, sizeof fit_report);
    memcpy(&m->gradcheck_report, &gradcheck_report, sizeof gradcheck_report);
    for (int i = 0; i < Q; i++) m->numbers.sample_weight[i] = (float)(i + 1) / 2;
}

static pente_layer *layer_new(int64_t inputs, int64_t outputs, pente_dtype dtype) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = dtype;
    options.seed = 5;
    pente_layer *layer = NULL;
    OK(pente_linear_new(inputs, outputs, &options, &layer));
    return layer;
}

/* One of each kind, first for freed ones, so that the good ones may stand where they stood. */
static void set_handles(void **handles) {
    pente_layer *layer = layer_new(N, P, PENTE_FLOAT32);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.125;
    options.momentum = 0.75;
    handles[LAYER] = layer;
    OK(pente_context_new(layer, (pente_context **)&handles[CONTEXT]));
    OK(pente_mse_new(NULL, (pente_mse **)&handles[MSE]));
    OK(pente_sgd_new(&layer, 1, &options, (pente_sgd **)&handles[SGD]));
    OK(pente_trainer_new(layer, handles[MSE], handles[SGD], (pente_trainer **)&handles[TRAINER]));
}

static void free_handles(void **handles) {
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
    w->other_layer = layer_new(5, 4, PENTE_FLOAT32);
    w->bare_layer = layer_new(N, P, PENTE_FLOAT32);
    w->layer64 = layer_new(N, P, PENTE_FLOAT64);
    OK(pente_context_new(w->bare_layer, &w->other_context));
    OK(pente_context_new(w->good[LAYER], &w->fresh_context));
    w->none_mse = mse_new(PENTE_NONE);
    OK(pente_layer_parameter_view(w->good[LAYER], "weight", &w->weight_view));
    OK(pente_layer_parameter_view(w->good[LAYER], "bias", &w->bias_view));
    OK(pente_layer_gradient_view(w->good[LAYER], "weight", &w->gradient_view));
    OK(pente_layer_parameter_view(w->layer64, "weight", &w->gradcheck_weight_view));

    set_memory(w);
    /* Gradients, momentum and a pending backward pass: state that a refused call could spoil. */
    memory *m = &w->now;
    OK(pente_trainer_step(w->good[TRAINER], &m->x, &m->target, NULL, NULL));
    OK(pente_layer_forward(w->good[LAYER], w->good[CONTEXT], &m->x, &m->prediction));
    m->layers[0] = w->good[LAYER];
    m->layers[1] = w->bare_layer;
    m->further_layers[0] = w->other_layer;
    m->further_layers[1] = w->bare_layer;
    memcpy(&w->pristine, m, sizeof *m);
    return w;
}

/* The call under test may have been a free. */
static void free_once(pente_status status) {
    assert_true(status == PENTE_OK || status == PENTE_INVALID_HANDLE);
}

void world_free(world *w) {
    free_once(pente_trainer_free(w->good[TRAINER]));
    free_once(pente_sgd_free(w->good[SGD]));
    free_once(pente_mse_free(w->good[MSE]));
    free_once(pente_context_free(w->good[CONTEXT]));
    free_once(pente_layer_free(w->good[LAYER]));
    OK(pente_context_free(w->other_context));
    OK(pente_context_free(w->fresh_context));
    OK(pente_mse_free(w->none_mse));
    OK(pente_layer_free(w->other_layer));
    OK(pente_layer_free(w->bare_layer));
    OK(pente_layer_free(w->layer64));
    free(w);
}

static void copy_out(outcome *seen, pente_layer *layer, void *parameter, void *gradient, int64_t inputs,
                     int64_t outputs, pente_dtype dtype) {
    static const char *const names[] = {"weight", "bias"};
    size_t done = 0;
    for (int i = 0; i < 2; i++) {
        int64_t columns = i == 0 ? inputs : outputs, rows = i == 0 ? outputs : 1;
        size_t offset = done * element_size(dtype);
        pente_matrix to = {(char *)parameter + offset, rows, columns, columns, dtype};
        seen->statuses[seen->count++] = pente_layer_get_parameter(layer, names[i], &to);
        to.data = (char *)gradient + offset;
        seen->statuses[seen->count++] = pente_layer_get_gradient(layer, names[i], &to);
        done += (size_t)(rows * columns);
    }
}

void look(world *w, outcome *seen) {
    memset(seen, 0, sizeof *seen);
    memcpy(&seen->numbers, &w->now.numbers, sizeof seen->numbers);
    copy_out(seen, w->good[LAYER], seen->parameters, seen->gradients, N, P, PENTE_FLOAT32);
    copy_out(seen, w->bare_layer, seen->parameters + 16, seen->gradients + 16, N, P, PENTE_FLOAT32);
    copy_out(seen, w->other_layer, seen->parameters + 32, seen->gradients + 32, 5, 4, PENTE_FLOAT32);
    copy_out(seen, w->layer64, seen->parameters64, seen->gradients64, N, P, PENTE_FLOAT64);
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
