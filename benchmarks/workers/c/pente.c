/* Pente's tasks: step (a trainer's), gradx (the calls that a step stands for, with the gradient of x), forward, fit (an
 * epoch of shuffled mini-batches) and steps (as many, on the rows in order). */
#include "worker.h"

#include <pente.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct job job;
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, prediction, grad_prediction, grad_x;
    void *memory[5]; /* of the matrices, in this order */
    double loss;
    void (*call)(void);
} model;

static void check(pente_status status) {
    if (status == PENTE_OK) return;
    fprintf(stderr, "%s: %s\n", pente_status_name(status), pente_last_error());
    exit(1);
}

int worker_start(int threads, int argc, char **argv) {
    (void)argc, (void)argv;
    int32_t version = pente_version();
    snprintf(worker_version, sizeof worker_version, "Pente %d.%d.%d", version / 10000, version / 100 % 100,
             version % 100);
    check(pente_threads_set(threads));
    return threads;
}

static void call_step(void) { check(pente_trainer_step(model.trainer, &model.x, &model.y, NULL, &model.loss)); }

static void call_forward(void) { check(pente_layer_forward(model.layer, NULL, &model.x, &model.prediction)); }

static void call_gradx(void) {
    check(pente_sgd_zero_gradients(model.sgd));
    check(pente_layer_forward(model.layer, model.context, &model.x, &model.prediction));
    check(pente_mse_forward(model.mse, &model.prediction, &model.y, NULL, &model.loss));
    check(pente_mse_backward(model.mse, &model.prediction, &model.y, NULL, NULL, &model.grad_prediction, NULL));
    check(pente_layer_backward(model.layer, model.context, &model.grad_prediction, &model.grad_x));
    check(pente_sgd_step(model.sgd));
}

static void call_fit(void) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.batch_size = model.job.batch;
    check(pente_trainer_fit(model.trainer, &model.x, &model.y, &options, NULL));
}

static void call_steps(void) {
    size_t size = model.job.is_float64 ? sizeof(double) : sizeof(float);
    pente_matrix x = model.x, y = model.y;
    for (int64_t first = 0; first < model.x.rows; first += model.job.batch) {
        int64_t rows = model.x.rows - first;
        x.rows = y.rows = rows < model.job.batch ? rows : model.job.batch;
        check(pente_trainer_step(model.trainer, &x, &y, NULL, &model.loss));
        x.data = (char *)x.data + (size_t)(x.rows * x.row_stride) * size;
        y.data = (char *)y.data + (size_t)(y.rows * y.row_stride) * size;
    }
}

static const struct {
    const char *name;
    void (*call)(void);
} tasks[] = {{"step", call_step}, {"forward", call_forward}, {"gradx", call_gradx}, {"fit", call_fit},
             {"steps", call_steps}};

static pente_matrix matrix(int index, int64_t rows, int64_t columns, int64_t stride, void *data) {
    model.memory[index] = data;
    pente_matrix view = {data, rows, columns, stride, model.job.is_float64 ? PENTE_FLOAT64 : PENTE_FLOAT32};
    return view;
}

static pente_layer *linear_layer(int64_t n, int64_t p, int phase) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    bool is_float64 = model.job.is_float64;
    if (is_float64) options.dtype = PENTE_FLOAT64;
    pente_layer *layer;
    check(pente_linear_new(n, p, &options, &layer));
    void *weights = pattern(is_float64, p, n, phase, 1 / sqrt((double)n)), *bias = zeros((size_t)p * sizeof(double));
    pente_matrix weight_matrix = {weights, p, n, n, options.dtype}, bias_matrix = {bias, 1, p, p, options.dtype};
    check(pente_layer_set_parameter(layer, "weight", &weight_matrix));
    check(pente_layer_set_parameter(layer, "bias", &bias_matrix));
    free(weights);
    free(bias);
    return layer;
}

static pente_layer *network(const struct job *job) {
    pente_layer *layers[2 * MAX_WIDTHS], *chain;
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    if (job->is_float64) options.dtype = PENTE_FLOAT64;
    int count = 0;
    for (int i = 0; i + 1 < job->count; i++) {
        if (i > 0) check(pente_activation_new(PENTE_RELU, &options, &layers[count++]));
        layers[count++] = linear_layer(job->widths[i], job->widths[i + 1], 2 + i);
    }
    if (count == 1) return layers[0];
    check(pente_chain_new(layers, count, &chain));
    for (int i = 0; i < count; i++) check(pente_layer_free(layers[i]));
    return chain;
}

bool worker_setup(const struct job *job) {
    model.job = *job;
    model.call = NULL;
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(job->task, tasks[i].name) == 0) model.call = tasks[i].call;
    if (model.call == NULL) return refuse("no such task");
    int64_t n = job->widths[0], p = job->widths[job->count - 1];
    bool is_float64 = job->is_float64;
    size_t size = is_float64 ? sizeof(double) : sizeof(float), outputs = (size_t)(job->q * p) * size;
    model.x = matrix(0, job->q, n, job->stride, pattern(is_float64, job->q, job->stride, 0, 1));
    model.y = matrix(1, job->q, p, p, pattern(is_float64, job->q, p, 1, 1));
    if (model.call == call_forward || model.call == call_gradx) {
        model.prediction = matrix(2, job->q, p, p, zeros(outputs));
    }
    if (model.call == call_gradx) {
        model.grad_prediction = matrix(3, job->q, p, p, zeros(outputs));
        model.grad_x = matrix(4, job->q, n, n, zeros((size_t)(job->q * n) * size));
    }
    model.layer = network(job);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = job->lr;
    check(pente_mse_new(NULL, &model.mse));
    check(pente_sgd_new(&model.layer, 1, &options, &model.sgd));
    check(pente_trainer_new(model.layer, model.mse, model.sgd, &model.trainer));
    check(pente_context_new(model.layer, &model.context));
    return true;
}

static double mean_square(pente_matrix matrix) {
    double sum = 0;
    for (int64_t i = 0; i < matrix.rows * matrix.columns; i++) {
        double value = model.job.is_float64 ? ((double *)matrix.data)[i] : ((float *)matrix.data)[i];
        sum += value * value;
    }
    return sum / (double)(matrix.rows * matrix.columns);
}

double worker_check(void) {
    if (model.call == call_fit || model.call == call_steps) return NAN;
    return model.call == call_forward ? mean_square(model.prediction) : model.loss;
}

void worker_run(int64_t calls) {
    for (int64_t i = 0; i < calls; i++) model.call();
}

void worker_free(void) {
    pente_context_free(model.context);
    pente_trainer_free(model.trainer);
    pente_sgd_free(model.sgd);
    pente_mse_free(model.mse);
    pente_layer_free(model.layer);
    for (size_t i = 0; i < sizeof model.memory / sizeof *model.memory; i++) free(model.memory[i]);
    memset(&model, 0, sizeof model);
}
