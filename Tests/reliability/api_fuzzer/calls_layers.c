/* The calls that make layers, ask and change them, and run them. */
#include "calls.h"

#include <stdint.h>
#include <string.h>

/* ---- Makers ---- */

void call_pente_linear_new(void) {
    int64_t inputs = some_features(), outputs = some_features();
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = some_dtype();
    options.bias = !one_in(4);
    options.seed = byte();
    const pente_linear_options *given = options_argument(&options, sizeof options);
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_linear_new(inputs, outputs, given, layer)) == PENTE_OK) add_object(LAYER, *layer, NULL);
}

void call_pente_activation_new(void) {
    pente_activation activation = hostile() ? below(256) - 128 : 1 + below(5);
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    options.dtype = some_dtype();
    if (one_in(2)) options.negative_slope = real();
    const pente_activation_options *given = options_argument(&options, sizeof options);
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_activation_new(activation, given, layer)) == PENTE_OK) add_object(LAYER, *layer, NULL);
}

void call_pente_scaler_new(void) {
    int64_t features = some_features();
    pente_dtype dtype = some_dtype();
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_scaler_new(features, dtype, layer)) == PENTE_OK) add_object(LAYER, *layer, NULL);
}

void call_pente_scaler_fit(void) {
    const object *o = choose_where(LAYER, is_scaler, NULL);
    void *scaler = handle_of(o, LAYER, false);
    int64_t rows = some_rows();
    pente_matrix *x = matrix_argument(o->info.dtype, rows, columns_in(o), INPUT);
    (void)CALL(pente_scaler_fit(scaler, x));
}

/* Layers whose columns fit one behind the other, unless they are to be bad ones. */
static bool fits_behind(const object *o, const object *last) {
    return o->info.dtype == last->info.dtype && o->parameter_count <= 8 &&
           (!o->info.in_features || !last->info.out_features || o->info.in_features == last->info.out_features);
}

static int chain_layers(void **layers) {
    const object *last = choose(LAYER);
    int count = 1 + below(4);
    layers[0] = handle_of(last, LAYER, false);
    for (int i = 1; i < count; i++) {
        const object *o = choose_where(LAYER, fits_behind, last);
        layers[i] = handle_of(o, LAYER, false);
        if (o->info.out_features) last = o;
    }
    return count;
}

static int64_t count_argument(int64_t count) {
    static const int64_t wrong[] = {0, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 56};
    return hostile() ? wrong[below((int)COUNT(wrong))] : count;
}

void call_pente_chain_new(void) {
    void *layers[4];
    int64_t count = chain_layers(layers);
    void **given = memcpy(carve((size_t)count * sizeof *layers), layers, (size_t)count * sizeof *layers);
    int deeper = one_in(64) ? 1 + below(70) : 0;
    count = count_argument(count);
    if (hostile() && one_in(8)) given = NULL;
    pente_layer **chain = HANDLE_OUTPUT();
    if (CALL(pente_chain_new((pente_layer *const *)given, count, chain)) != PENTE_OK) return;
    const object *made = add_object(LAYER, *chain, NULL);
    void *inner = made->handle;
    for (int i = 0; i < deeper && depth == 0; i++) { /* a chain of a chain of a chain ... */
        pente_layer *outer = NULL, *of[] = {inner};
        if (pente_chain_new(of, 1, &outer) != PENTE_OK) break;
        inner = add_object(LAYER, outer, NULL)->handle;
    }
}

void call_pente_chain_get_layer(void) {
    const object *o = choose_where(LAYER, is_chain, NULL);
    void *chain = handle_of(o, LAYER, false);
    int64_t index = index_below(o->info.layer_count);
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_chain_get_layer(chain, index, layer)) == PENTE_OK) add_object(LAYER, *layer, NULL);
}

void call_pente_custom_new(void) {
    static const char *const parameter_names[] = {"weight", "bias", "x", "\xc3\xa4", "a b"};
    int64_t inputs = some_features(), outputs = some_features();
    if (one_in(4)) inputs = outputs = 0;
    pente_dtype dtype = one_in(2) ? PENTE_FLOAT64 : PENTE_FLOAT32;
    pente_custom_options options = custom_options(dtype, inputs, outputs);
    if (hostile()) options.dtype = some_dtype();
    int count = below(4), first = byte();
    pente_custom_parameter *parameters = carve(sizeof(pente_custom_parameter) * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        int64_t rows = 1 + below(3), columns = 1 + below(4);
        int32_t rank = rows == 1 && one_in(2) ? 1 : 2;
        const pente_matrix *value = matrix_argument(dtype, rows, columns, INPUT);
        parameters[i].name = text_argument(parameter_names[(first + i) % (int)COUNT(parameter_names)]);
        parameters[i].value = value ? *value : (pente_matrix){NULL, 1, 1, 1, dtype};
        parameters[i].rank = hostile() ? below(256) - 128 : rank;
    }
    options.parameters = count || !one_in(2) ? parameters : NULL;
    options.parameter_count = count;
    if (hostile()) {
        options.parameter_count = one_in(2) ? -1 - (int64_t)below(256) : INT64_C(1) << 56;
        options.parameters = one_in(2) ? parameters : NULL;
    }
    if (hostile()) options.forward = NULL;
    if (hostile()) options.backward = NULL;
    *(pente_custom_options *)options.user_data = options;
    const pente_custom_options *given = options_argument(&options, sizeof options);
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_custom_new(given, layer)) == PENTE_OK) {
        add_object(LAYER, *layer, NULL);
    } else {
        custom_drop(&options);
    }
}

void call_pente_layer_load(void) {
    char *path = path_argument();
    pente_layer **layer = HANDLE_OUTPUT();
    if (CALL(pente_layer_load(path, layer)) == PENTE_OK) add_object(LAYER, *layer, NULL);
}

/* ---- Frees ---- */

static void call_free(kind kind) {
    const object *o = choose(kind);
    void *handle = handle_of(o, kind, true);
    object *given = find_live(handle, kind);
    bool is_rare = object_counts[kind] < 4 && !one_in(4); /* let there be some to work with */
    if (given && (is_rare || given->pins)) handle = given = NULL;
    if (given) forget_object(given);                 /* before a release calls back */
    pente_status status = CALL(free_handle(kind, handle));
    PROMISED(!given || status == PENTE_OK, "not freed");
}

void call_pente_layer_free(void) {
    call_free(LAYER);
}

void call_pente_context_free(void) {
    call_free(CONTEXT);
}

void call_pente_mse_free(void) {
    call_free(MSE);
}

void call_pente_sgd_free(void) {
    call_free(SGD);
}

void call_pente_trainer_free(void) {
    call_free(TRAINER);
}

void call_pente_source_free(void) {
    call_free(SOURCE);
}

/* ---- Questions ---- */

void call_pente_layer_get_info(void) {
    const object *o = choose(LAYER);
    void *layer = handle_of(o, LAYER, false);
    pente_layer_info info = PENTE_LAYER_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_layer_get_info(layer, given));
}

void call_pente_layer_get_parameter_info(void) {
    const object *o = choose_where(LAYER, has_parameters, NULL);
    void *layer = handle_of(o, LAYER, false);
    int64_t index = index_below(o->info.parameter_count);
    pente_parameter_info info = PENTE_PARAMETER_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_layer_get_parameter_info(layer, index, given));
}

void call_pente_layer_parameter_name(void) {
    const object *o = choose_where(LAYER, has_parameters, NULL);
    void *layer = handle_of(o, LAYER, false);
    int64_t index = index_below(o->info.parameter_count);
    size_t capacity = hostile() ? (size_t)below(12) : 300;
    char *name = output_argument(capacity, false);
    (void)CALL(pente_layer_parameter_name(layer, index, name, capacity));
}

/* A layer's parameter: which, its name and a matrix of its shape. */
typedef struct named {
    const object *o;
    void *layer;
    char *name;
    pente_matrix *value;
} named;

static named some_parameter(int role) {
    named n = {.o = choose_where(LAYER, has_parameters, NULL)};
    char name[300] = "weight";
    int i = n.o->parameter_count ? below(n.o->parameter_count) : 0;
    n.layer = handle_of(n.o, LAYER, false);
    name_of(n.o, i, name);
    n.name = text_argument(name);
    int64_t rows = n.o->parameter_count ? n.o->parameters[i].rows : 1;
    int64_t columns = n.o->parameter_count ? n.o->parameters[i].columns : 1;
    if (role >= 0) n.value = matrix_argument(n.o->info.dtype, rows, columns, role | LINKED);
    return n;
}

void call_pente_layer_get_parameter(void) {
    named n = some_parameter(OUTPUT);
    (void)CALL(pente_layer_get_parameter(n.layer, n.name, n.value));
}

void call_pente_layer_get_gradient(void) {
    named n = some_parameter(OUTPUT);
    (void)CALL(pente_layer_get_gradient(n.layer, n.name, n.value));
}

void call_pente_layer_set_parameter(void) {
    named n = some_parameter(INPUT);
    (void)CALL(pente_layer_set_parameter(n.layer, n.name, n.value));
}

void call_pente_layer_parameter_view(void) {
    named n = some_parameter(-1);
    pente_matrix *view = output_argument(sizeof *view, true);
    (void)CALL(pente_layer_parameter_view(n.layer, n.name, view));
}

void call_pente_layer_gradient_view(void) {
    named n = some_parameter(-1);
    pente_matrix *view = output_argument(sizeof *view, true);
    (void)CALL(pente_layer_gradient_view(n.layer, n.name, view));
}

/* ---- Changes, and passes ---- */

void call_pente_layer_zero_gradients(void) {
    void *layer = handle_of(choose(LAYER), LAYER, false);
    (void)CALL(pente_layer_zero_gradients(layer));
}

void call_pente_layer_reset_parameters(void) {
    void *layer = handle_of(choose(LAYER), LAYER, false);
    uint64_t seed = one_in(4) ? bits64() : byte();
    (void)CALL(pente_layer_reset_parameters(layer, seed));
}

void call_pente_context_new(void) {
    const object *o = choose(LAYER);
    void *layer = handle_of(o, LAYER, false);
    pente_context **context = HANDLE_OUTPUT();
    if (CALL(pente_context_new(layer, context)) == PENTE_OK) add_object(CONTEXT, *context, find_live(layer, LAYER));
}

static bool has_layer(const object *context, const object *to) {
    (void)to;
    return find_live(context->layer, LAYER) != NULL;
}

static bool is_of_context(const object *layer, const object *context) {
    return layer->handle == context->layer;
}

void call_pente_layer_forward(void) {
    const object *context = choose_where(CONTEXT, has_layer, NULL);
    bool has_context = context->handle && !one_in(4);
    const object *o = has_context ? choose_where(LAYER, is_of_context, context) : choose(LAYER);
    void *layer = handle_of(o, LAYER, false), *given = has_context ? handle_of(context, CONTEXT, true) : NULL;
    int64_t rows = some_rows();
    pente_matrix *x = matrix_argument(o->info.dtype, rows, columns_in(o), INPUT | LINKED | (given ? LASTING : 0));
    if (x && x->rows > 0 && x->rows < 4000) rows = x->rows; /* it may have had to be smaller */
    pente_matrix *y = matrix_argument(o->info.dtype, rows, columns_out(o), OUTPUT | LINKED);
    if (CALL(pente_layer_forward(layer, given, x, y)) != PENTE_OK || !given) return;
    object *used = find_live(given, CONTEXT);
    if (used) used->pending_rows = x->rows;
}

bool has_pass(const object *context, const object *to) {
    return context->pending_rows > 0 && has_layer(context, to);
}

void call_pente_layer_backward(void) {
    const object *c = one_in(4) ? choose(CONTEXT) : choose_where(CONTEXT, has_pass, NULL);
    const object *o = choose_where(LAYER, is_of_context, c);
    void *layer = handle_of(o, LAYER, false), *context = handle_of(c, CONTEXT, false);
    int64_t rows = c->pending_rows ? c->pending_rows : some_rows();
    pente_matrix *grad_output = matrix_argument(o->info.dtype, rows, columns_out(o), INPUT | LINKED);
    pente_matrix *grad_input = matrix_argument(o->info.dtype, rows, columns_in(o), OUTPUT | LINKED | OPTIONAL);
    if (CALL(pente_layer_backward(layer, context, grad_output, grad_input)) != PENTE_OK) return;
    object *used = find_live(context, CONTEXT);
    if (used) used->pending_rows = 0;
}
