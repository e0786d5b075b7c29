#include "layers.h"

#include <stdio.h>
#include <string.h>

pente_layer *linear_new(pente_dtype dtype, int64_t inputs, int64_t outputs, uint64_t seed) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = dtype;
    options.seed = seed;
    pente_layer *layer = NULL;
    OK(pente_linear_new(inputs, outputs, &options, &layer));
    return layer;
}

pente_layer *activation_new(pente_dtype dtype, pente_activation activation) {
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    options.dtype = dtype;
    pente_layer *layer = NULL;
    OK(pente_activation_new(activation, &options, &layer));
    return layer;
}

pente_layer *scaler_new(pente_dtype dtype, int64_t features) {
    pente_layer *scaler = NULL;
    OK(pente_scaler_new(features, dtype, &scaler));
    pente_matrix mean = parameter_of(scaler, "mean"), scale = parameter_of(scaler, "scale");
    for (int64_t j = 0; j < features; j++) {
        put(&mean, 0, j, (double)j / 16 - 0.5);
        put(&scale, 0, j, 0.7 + (double)j / 8);
    }
    return scaler;
}

pente_layer *chain_taking(pente_layer *const *layers, size_t count) {
    pente_layer *chain = NULL;
    OK(pente_chain_new(layers, (int64_t)count, &chain));
    for (size_t i = 0; i < count; i++) OK(pente_layer_free(layers[i]));
    return chain;
}

pente_layer *tall_chain_new(pente_dtype dtype, uint64_t seed) {
    return CHAIN(scaler_new(dtype, TALL_INPUTS), linear_new(dtype, TALL_INPUTS, 8, seed),
                 activation_new(dtype, PENTE_TANH), linear_new(dtype, 8, 5, seed + 1),
                 activation_new(dtype, PENTE_LEAKY_RELU), linear_new(dtype, 5, TALL_OUTPUTS, seed + 2));
}

pente_matrix parameter_of(const pente_layer *layer, const char *name) {
    pente_matrix view = {0};
    OK(pente_layer_parameter_view(layer, name, &view));
    return view;
}

pente_matrix gradient_of(const pente_layer *layer, const char *name) {
    pente_matrix view = {0};
    OK(pente_layer_gradient_view(layer, name, &view));
    return view;
}

static int64_t parameter_count(const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    return info.parameter_count;
}

void fill_gradients(pente_layer *layer) {
    for (int64_t i = 0; i < parameter_count(layer); i++) {
        char name[300];
        pente_parameter_info info = PENTE_PARAMETER_INFO_INIT;
        OK(pente_layer_get_parameter_info(layer, i, &info));
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        pente_matrix gradient = gradient_of(layer, name);
        if (info.trained) fill_random(&gradient);
    }
}

/* ---- Snapshots ---- */

snapshot snapshot_new(const pente_layer *layer) {
    snapshot s = {.count = parameter_count(layer)};
    assert_true(s.count <= (int64_t)COUNT(s.parameters));
    for (int64_t i = 0; i < s.count; i++) {
        char name[300];
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        pente_matrix parameter = parameter_of(layer, name), gradient = gradient_of(layer, name);
        s.parameters[i] = matrix_copy(&parameter);
        s.gradients[i] = matrix_copy(&gradient);
    }
    return s;
}

void snapshot_free(snapshot *s) {
    for (int64_t i = 0; i < s->count; i++) {
        matrix_free(&s->parameters[i]);
        matrix_free(&s->gradients[i]);
    }
}

bool same_snapshots(const snapshot *a, const snapshot *b) {
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++) {
        char what[50];
        snprintf(what, sizeof what, "parameter %d", (int)i);
        if (!same_bits(what, &a->parameters[i], &b->parameters[i])) return false;
        snprintf(what, sizeof what, "parameter %d's gradient", (int)i);
        if (!same_bits(what, &a->gradients[i], &b->gradients[i])) return false;
    }
    return true;
}

bool is_as_in(const pente_layer *layer, const snapshot *s) {
    snapshot now = snapshot_new(layer);
    bool same = same_snapshots(&now, s);
    snapshot_free(&now);
    return same;
}

bool same_layers(const pente_layer *a, const pente_layer *b) {
    snapshot of_b = snapshot_new(b);
    bool same = is_as_in(a, &of_b);
    for (int64_t i = 0; same && i < of_b.count; i++) {
        char name[300], other[300];
        OK(pente_layer_parameter_name(a, i, name, sizeof name));
        OK(pente_layer_parameter_name(b, i, other, sizeof other));
        same = !strcmp(name, other);
    }
    snapshot_free(&of_b);
    return same;
}

pente_sgd *sgd_of(pente_layer *layer, double lr, double momentum) {
    return sgd_new(&(model){.layer = layer}, lr, momentum);
}

pente_trainer *trainer_of(pente_layer *layer, const pente_mse *mse, pente_sgd *sgd) {
    return trainer_new(&(model){.layer = layer}, mse, sgd);
}

/* ---- A layer of one's own ---- */

static bool is_contiguous(const pente_matrix *m, int64_t rows, int64_t columns) {
    return m->data && m->rows == rows && m->columns == columns && m->row_stride == columns;
}

/* The callback's status: 0, or the one that it has been told to fail with. */
static pente_status status_of(const affine *a, pente_status fails, const pente_matrix *x) {
    return a->failing_rows == 0 || a->failing_rows == x->rows ? fails : PENTE_OK;
}

static void enter(affine *a) {
    a->depth++;
    if (a->depth > a->deepest) a->deepest = a->depth;
    if (a->inside && a->depth == 1) a->inside(a);
}

static void remember(affine *a, const pente_matrix *x) {
    if (x->rows * x->columns > (int64_t)COUNT(a->last_x)) return;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) a->last_x[i * x->columns + j] = get(x, i, j);
    }
    if (a->forwards == 1) memcpy(a->first_x, a->last_x, sizeof a->first_x);
}

static pente_status affine_forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                   void *user_data) {
    affine *a = user_data;
    const pente_matrix *weight = &parameters[0], *bias = &parameters[1];
    double divisor = a->divisor != 0 ? a->divisor : 1;
    a->forwards++;
    a->wrong += !is_contiguous(weight, y->columns, x->columns) || !is_contiguous(bias, 1, y->columns);
    a->wrong += !is_contiguous(y, x->rows, weight->rows) || x->row_stride < x->columns;
    a->wrong += weight->dtype != x->dtype || y->dtype != x->dtype;
    enter(a);
    remember(a, x);
    pente_status status = status_of(a, a->forward_fails, x);
    for (int64_t i = 0; i < (status ? (x->rows + 1) / 2 : x->rows); i++) {
        for (int64_t k = 0; k < y->columns; k++) {
            double sum = 0;
            for (int64_t j = 0; j < x->columns; j++) sum += get(x, i, j) * get(weight, k, j);
            put(y, i, k, sum / divisor + get(bias, 0, k));
        }
    }
    a->depth--;
    return status;
}

static bool all_zero(const pente_matrix *m) {
    for (int64_t i = 0; i < m->rows; i++) {
        for (int64_t j = 0; j < m->columns; j++) {
            if (get(m, i, j) != 0) return false;
        }
    }
    return true;
}

static void add_gradients(const affine *a, const pente_matrix *x, const pente_matrix *grad_output,
                          const pente_matrix *gradients, int64_t i) {
    double divisor = a->divisor != 0 && a->mistake != NO_DIVISOR ? a->divisor : 1;
    for (int64_t k = 0; k < grad_output->columns; k++) {
        double g = get(grad_output, i, k);
        for (int64_t j = 0; j < x->columns; j++) {
            double x_element = a->mistake == FIRST_X  ? a->first_x[i * x->columns + j]
                               : a->mistake == LAST_X ? a->last_x[i * x->columns + j]
                                                      : get(x, i, j);
            put(&gradients[0], k, j, get(&gradients[0], k, j) + g * x_element / divisor);
        }
        put(&gradients[1], 0, k, get(&gradients[1], 0, k) + (a->mistake == WRONG_SIGN ? -g : g));
    }
}

static pente_status affine_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                    const pente_matrix *grad_output, const pente_matrix *grad_input,
                                    const pente_matrix *gradients, void *user_data) {
    affine *a = user_data;
    const pente_matrix *weight = &parameters[0];
    double divisor = a->divisor != 0 ? a->divisor : 1;
    a->backwards++;
    a->wrong += !is_contiguous(y, x->rows, weight->rows) || !is_contiguous(grad_output, x->rows, weight->rows);
    a->wrong += !is_contiguous(grad_input, x->rows, x->columns) || x->row_stride < x->columns;
    a->wrong += !is_contiguous(&gradients[0], weight->rows, weight->columns) || !all_zero(&gradients[0]);
    a->wrong += !is_contiguous(&gradients[1], 1, weight->rows) || !all_zero(&gradients[1]);
    enter(a);
    pente_status status = status_of(a, a->backward_fails, x);
    for (int64_t i = 0; i < (status ? (x->rows + 1) / 2 : x->rows); i++) {
        for (int64_t j = 0; j < x->columns; j++) {
            double sum = 0;
            for (int64_t k = 0; k < weight->rows; k++) {
                double w = a->mistake == NO_TRANSPOSE ? get(weight, j, k) : get(weight, k, j);
                sum += get(grad_output, i, k) * w;
            }
            put(grad_input, i, j, sum / divisor);
        }
        add_gradients(a, x, grad_output, gradients, i);
    }
    a->depth--;
    return status;
}

static void affine_release(void *user_data) {
    affine *a = user_data;
    a->releases++;
}

pente_custom_options affine_options(affine *a, pente_dtype dtype, int64_t inputs, int64_t outputs) {
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = dtype;
    options.in_features = inputs;
    options.out_features = outputs;
    options.forward = affine_forward;
    options.backward = affine_backward;
    options.release = affine_release;
    options.user_data = a;
    return options;
}

void affine_new(affine *a, pente_dtype dtype, int64_t inputs, int64_t outputs, uint64_t seed) {
    model start = model_new(dtype, inputs, outputs, true, seed);
    const pente_custom_parameter parameters[] = {{"weight", start.weight, 2}, {"bias", start.bias, 1}};
    pente_custom_options options = affine_options(a, dtype, inputs, outputs);
    options.parameters = parameters;
    options.parameter_count = 2;
    OK(pente_custom_new(&options, &a->layer));
    model_free(&start); /* the values have been copied */
}
