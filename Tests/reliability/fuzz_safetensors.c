/* Files for pente_layer_load and pente_layer_load_parameters. What loads is saved, and comes back to the same bits; what
 * does not has changed nothing, and a status and a message say why. */
#include "fuzz.h"

#include <pente.h>
#include <string.h>

static void require_refusal(pente_status status, const char *function) {
    REQUIRE(status == PENTE_INVALID_FILE || status == PENTE_SHAPE_MISMATCH || status == PENTE_DTYPE_MISMATCH);
    const char *message = pente_last_error();
    REQUIRE(strncmp(message, function, strlen(function)) == 0 && strlen(message) > strlen(function) + 10);
}

/* ---- What is in a layer, and in an optimizer, as one number (FNV-1a) ---- */

static uint64_t hash(uint64_t hash, const void *data, size_t size) {
    for (const uint8_t *byte = data; size-- > 0; byte++) hash = (hash ^ *byte) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_matrix(uint64_t h, const pente_matrix *matrix) {
    size_t element = matrix->dtype == PENTE_FLOAT32 ? 4 : 8;
    h = hash(h, &matrix->columns, sizeof matrix->columns);
    for (int64_t i = 0; i < matrix->rows; i++)
        h = hash(h, (const char *)matrix->data + (size_t)(i * matrix->row_stride) * element,
                 (size_t)matrix->columns * element);
    return h;
}

static uint64_t hash_layer(const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    REQUIRE(pente_layer_get_info(layer, &info) == PENTE_OK);
    for (int64_t k = 0; k < info.parameter_count; k++) {
        char name[512];
        pente_matrix values, gradients;
        REQUIRE(pente_layer_parameter_name(layer, k, name, sizeof name) == PENTE_OK);
        REQUIRE(pente_layer_parameter_view(layer, name, &values) == PENTE_OK);
        REQUIRE(pente_layer_gradient_view(layer, name, &gradients) == PENTE_OK);
        h = hash_matrix(hash_matrix(hash(h, name, strlen(name)), &values), &gradients);
    }
    return h;
}

static uint64_t hash_sgd(const pente_sgd *sgd, pente_dtype dtype) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    double memory[64];
    REQUIRE(pente_sgd_get_info(sgd, &info) == PENTE_OK);
    uint64_t h = hash(UINT64_C(0xcbf29ce484222325), &info.step_count, sizeof info.step_count);
    for (int64_t i = 0; i < info.group_count; i++) {
        pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
        REQUIRE(pente_sgd_get_options(sgd, i, &options) == PENTE_OK);
        h = hash(h, &options, sizeof options);
    }
    for (int64_t i = 0; i < info.parameter_count; i++) {
        pente_sgd_parameter_info parameter = PENTE_SGD_PARAMETER_INFO_INIT;
        REQUIRE(pente_sgd_get_parameter_info(sgd, i, &parameter) == PENTE_OK);
        h = hash(h, &parameter.has_momentum_buffer, sizeof parameter.has_momentum_buffer);
        if (!parameter.has_momentum_buffer) continue;
        REQUIRE(parameter.rows * parameter.columns <= 64);
        pente_matrix buffer = {memory, parameter.rows, parameter.columns, parameter.columns, dtype};
        REQUIRE(pente_sgd_get_momentum_buffer(sgd, i, &buffer) == PENTE_OK);
        h = hash_matrix(h, &buffer);
    }
    return h;
}

/* ---- A layer that the file holds ---- */

static void check_load(const char *path) {
    pente_layer *layer = NULL, *again = NULL;
    pente_status status = pente_layer_load(path, &layer);
    if (status != PENTE_OK) {
        require_refusal(status, "pente_layer_load: ");
        REQUIRE(layer == NULL);
        return;
    }
    accepted++;
    const char *saved = fuzz_path("saved");
    REQUIRE(pente_layer_save(layer, NULL, saved) == PENTE_OK);
    REQUIRE(pente_layer_load(saved, &again) == PENTE_OK);
    REQUIRE(hash_layer(layer) == hash_layer(again));
    REQUIRE(pente_layer_load_parameters(again, NULL, path) == PENTE_OK);
    REQUIRE(hash_layer(layer) == hash_layer(again));
    pente_layer_free(layer);
    pente_layer_free(again);
}

/* ---- Parameters for layers that are there, with an optimizer or without ---- */

enum { TARGETS = 4 };

static const char *const kinds[TARGETS] = {"linear32", "chain32", "chain64", "nested32"};

typedef struct target {
    pente_dtype dtype;
    pente_layer *layer, *twin;
    pente_sgd *sgd, *twin_sgd;
} target;

static target targets[TARGETS];

static pente_layer *chain_of(pente_layer **layers, int64_t count) {
    pente_layer *chain = NULL;
    REQUIRE(pente_chain_new(layers, count, &chain) == PENTE_OK);
    for (int64_t i = 0; i < count; i++) pente_layer_free(layers[i]);
    return chain;
}

static pente_layer *layer_new(int index) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_activation_options leaky = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_layer *layers[4];
    options.dtype = leaky.dtype = index == 2 ? PENTE_FLOAT64 : PENTE_FLOAT32;
    REQUIRE(pente_linear_new(3, 2, &options, &layers[0]) == PENTE_OK);
    if (index == 0) return layers[0];
    REQUIRE(pente_activation_new(PENTE_LEAKY_RELU, &leaky, &layers[1]) == PENTE_OK);
    options.bias = 0;
    REQUIRE(pente_linear_new(2, 1, &options, &layers[2]) == PENTE_OK);
    pente_layer *chain = chain_of(layers, 3);
    if (index != 3) return chain;
    layers[1] = chain;
    REQUIRE(pente_scaler_new(3, options.dtype, &layers[0]) == PENTE_OK);
    return chain_of(layers, 2);
}

static pente_sgd *sgd_new(pente_layer *layer) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_sgd *sgd = NULL;
    options.lr = 0.1;
    options.momentum = 0.5;
    REQUIRE(pente_sgd_new(&layer, 1, &options, &sgd) == PENTE_OK && pente_sgd_step(sgd) == PENTE_OK);
    return sgd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < TARGETS; i++) {
        target *t = &targets[i];
        t->dtype = i == 2 ? PENTE_FLOAT64 : PENTE_FLOAT32;
        t->layer = layer_new(i);
        t->twin = layer_new(i);
        t->sgd = sgd_new(t->layer);
        t->twin_sgd = sgd_new(t->twin);
        REQUIRE(pente_layer_save(t->layer, t->sgd, fuzz_path(kinds[i])) == PENTE_OK);
    }
    return 0;
}

/* Both in one call or neither; a file from which they came gives a twin the same. */
static void check_load_parameters(target *t, const char *path, pente_sgd *sgd, pente_sgd *twin_sgd) {
    uint64_t layer = hash_layer(t->layer), optimizer = hash_sgd(t->sgd, t->dtype);
    pente_status status = pente_layer_load_parameters(t->layer, sgd, path);
    if (status != PENTE_OK) require_refusal(status, "pente_layer_load_parameters: ");
    if (status != PENTE_OK) REQUIRE(layer == hash_layer(t->layer));
    if (status != PENTE_OK || sgd == NULL) REQUIRE(optimizer == hash_sgd(t->sgd, t->dtype));
    if (status != PENTE_OK) return;
    const char *saved = fuzz_path("saved");
    REQUIRE(pente_layer_save(t->layer, sgd, saved) == PENTE_OK);
    REQUIRE(pente_layer_load_parameters(t->twin, twin_sgd, saved) == PENTE_OK);
    REQUIRE(hash_layer(t->layer) == hash_layer(t->twin));
    if (sgd != NULL) REQUIRE(hash_sgd(sgd, t->dtype) == hash_sgd(twin_sgd, t->dtype));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file("input", data, size);
    check_load(path);
    for (int i = 0; i < TARGETS; i++) {
        target *t = &targets[i];
        uint64_t before = hash_layer(t->layer) ^ hash_sgd(t->sgd, t->dtype);
        check_load_parameters(t, path, NULL, NULL);
        check_load_parameters(t, path, t->sgd, t->twin_sgd);
        if (before != (hash_layer(t->layer) ^ hash_sgd(t->sgd, t->dtype)))
            REQUIRE(pente_layer_load_parameters(t->layer, t->sgd, fuzz_path(kinds[i])) == PENTE_OK);
    }
    return 0;
}
