/* The crowd's layers of one's own: y = a x, and perhaps a call that comes back, or a fork. */
#define _POSIX_C_SOURCE 200809L
#include "crowd.h"

#include <stdlib.h>

static atomic_long made_layers, released_layers;

typedef struct own {
    atomic_int runs;
} own;

static pente_status come_back(own *o, pente_status status) {
    visitor *v = crowd_visitor;
    if (atomic_fetch_add_explicit(&o->runs, 1, memory_order_relaxed) != 0) {
        complain("a callback", "runs twice at a time");
    }
    if (v->depth < 3 && below(v, 4) == 0) crowd_act(v);
    if (v->fork_within && !v->is_child && below(v, 200) == 0) v->is_child = v->fork_within();
    atomic_fetch_sub_explicit(&o->runs, 1, memory_order_relaxed);
    return below(v, 50) == 0 ? PENTE_USER + 7 : status;
}

static pente_status own_forward(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                                void *user_data) {
    for (int64_t i = 0; i < in->rows * in->columns; i++) put(out, 0, i, get(&parameters[0], 0, 0) * get(in, 0, i));
    return come_back(user_data, PENTE_OK);
}

static pente_status own_backward(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                                 const pente_matrix *grad_output, const pente_matrix *grad_input,
                                 const pente_matrix *gradients, void *user_data) {
    double sum = 0;
    (void)out;
    for (int64_t i = 0; i < in->rows * in->columns; i++) {
        sum += get(in, 0, i) * get(grad_output, 0, i);
        put(grad_input, 0, i, get(&parameters[0], 0, 0) * get(grad_output, 0, i));
    }
    put(&gradients[0], 0, 0, sum);
    return come_back(user_data, PENTE_OK);
}

static void own_release(void *user_data) {
    own *o = user_data;
    if (atomic_load(&o->runs) != 0) complain("release", "of a layer that runs");
    free(o);
    atomic_fetch_add_explicit(&released_layers, 1, memory_order_relaxed);
}

pente_layer *own_new(visitor *v, pente_dtype dtype) {
    const float one_float = 1;
    const double one_double = 1;
    own *o = calloc(1, sizeof *o);
    pente_layer *layer = NULL;
    pente_matrix one = dtype == PENTE_FLOAT32 ? pente_float32_matrix(&one_float, 1, 1)
                                              : pente_float64_matrix(&one_double, 1, 1);
    const pente_custom_parameter a = {"a", one, 2};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = dtype;
    options.in_features = options.out_features = CROWD_COLUMNS;
    options.parameters = &a;
    options.parameter_count = 1;
    options.forward = own_forward;
    options.backward = own_backward;
    options.release = own_release;
    options.user_data = o;
    if (CALL(v, 0, pente_custom_new, &options, &layer)) {
        free(o);
    } else {
        atomic_fetch_add_explicit(&made_layers, 1, memory_order_relaxed);
    }
    return layer;
}

void own_end(void) {
    if (made_layers != released_layers) complain("release", "was not called once for each layer");
}
