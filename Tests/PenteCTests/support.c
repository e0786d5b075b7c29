#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void expect_status(pente_status got, pente_status wanted, const char *call, const char *file, int line) {
    if (got == wanted) return;
    print_error("%s\n    gave %s (%d), not %s (%d); the last error is: %s\n", call, pente_status_name(got), (int)got,
                pente_status_name(wanted), (int)wanted, pente_last_error());
    _fail(file, line);
}

/* ---- Random numbers: splitmix64 ---- */

static _Thread_local uint64_t random_state = 20260101;

uint64_t random_bits(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

double random_number(void) {
    return (double)(random_bits() >> 11) * 0x1p-52 - 1.0;
}

int64_t random_below(int64_t bound) {
    return (int64_t)(random_bits() % (uint64_t)bound);
}

/* ---- Matrices ---- */

enum { PATTERN = 0xA5 };

size_t element_size(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? sizeof(float) : sizeof(double);
}

static char *address(const pente_matrix *matrix, int64_t i, int64_t j) {
    return (char *)matrix->data + (size_t)(i * matrix->row_stride + j) * element_size(matrix->dtype);
}

/* Tools that see each step outside of a block of malloc's; and qemu, whose AVX2 faults at lanes that are masked out. */
static bool is_watched(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#endif
#endif
    const char *preloaded = getenv("LD_PRELOAD");
    return getenv("PENTE_EMULATED") || (preloaded && strstr(preloaded, "vgpreload"));
}

/* What lies before the data. */
typedef struct mapping {
    void *start;
    size_t size;
} mapping;

pente_matrix matrix_new(pente_dtype dtype, int64_t rows, int64_t columns, int64_t row_stride) {
    pente_matrix matrix = {NULL, rows, columns, row_stride, dtype};
    size_t size = (size_t)((rows - 1) * row_stride + columns) * element_size(dtype);
    if (is_watched()) {
        matrix.data = malloc(size);
        if (!matrix.data) abort();
    } else {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        size_t pages = (sizeof(mapping) + size + page - 1) / page * page;
        mapping mapping = {.size = pages + page};
        mapping.start = mmap(NULL, mapping.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping.start == MAP_FAILED || mprotect((char *)mapping.start + pages, page, PROT_NONE)) abort();
        matrix.data = (char *)mapping.start + pages - size;
        memcpy((char *)matrix.data - sizeof mapping, &mapping, sizeof mapping);
    }
    memset(matrix.data, PATTERN, size);
    return matrix;
}

pente_matrix matrix_random(pente_dtype dtype, int64_t rows, int64_t columns, int64_t row_stride) {
    pente_matrix matrix = matrix_new(dtype, rows, columns, row_stride);
    fill_random(&matrix);
    return matrix;
}

pente_matrix matrix_copy(const pente_matrix *matrix) {
    pente_matrix copy = matrix_new(matrix->dtype, matrix->rows, matrix->columns, matrix->columns);
    for (int64_t i = 0; i < matrix->rows; i++) {
        memcpy(address(&copy, i, 0), address(matrix, i, 0), (size_t)matrix->columns * element_size(matrix->dtype));
    }
    return copy;
}

void matrix_free(pente_matrix *matrix) {
    if (!matrix->data || is_watched()) {
        free(matrix->data);
    } else {
        mapping mapping;
        memcpy(&mapping, (char *)matrix->data - sizeof mapping, sizeof mapping);
        if (munmap(mapping.start, mapping.size)) abort();
    }
    matrix->data = NULL;
}

double get(const pente_matrix *matrix, int64_t i, int64_t j) {
    const void *element = address(matrix, i, j);
    return matrix->dtype == PENTE_FLOAT32 ? (double)*(const float *)element : *(const double *)element;
}

void put(const pente_matrix *matrix, int64_t i, int64_t j, double value) {
    void *element = address(matrix, i, j);
    if (matrix->dtype == PENTE_FLOAT32) {
        *(float *)element = (float)value;
    } else {
        *(double *)element = value;
    }
}

void fill(const pente_matrix *matrix, double value) {
    for (int64_t i = 0; i < matrix->rows; i++) {
        for (int64_t j = 0; j < matrix->columns; j++) put(matrix, i, j, value);
    }
}

void fill_random(const pente_matrix *matrix) {
    for (int64_t i = 0; i < matrix->rows; i++) {
        for (int64_t j = 0; j < matrix->columns; j++) put(matrix, i, j, random_number());
    }
}

pente_matrix rows_of(const pente_matrix *matrix, int64_t first, int64_t rows) {
    pente_matrix block = *matrix;
    block.data = address(matrix, first, 0);
    block.rows = rows;
    return block;
}

bool same_bits(const char *what, const pente_matrix *a, const pente_matrix *b) {
    if (a->rows != b->rows || a->columns != b->columns || a->dtype != b->dtype) {
        print_error("%s: the shapes differ\n", what);
        return false;
    }
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t j = 0; j < a->columns; j++) {
            if (memcmp(address(a, i, j), address(b, i, j), element_size(a->dtype)) == 0) continue;
            print_error("%s: %lldx%lld, element (%lld, %lld) is %a against %a\n", what, (long long)a->rows,
                        (long long)a->columns, (long long)i, (long long)j, get(a, i, j), get(b, i, j));
            return false;
        }
    }
    return true;
}

bool gap_is_untouched(const pente_matrix *matrix) {
    for (int64_t i = 0; i + 1 < matrix->rows; i++) {
        const unsigned char *end = (const unsigned char *)address(matrix, i + 1, 0);
        for (const unsigned char *c = (const unsigned char *)address(matrix, i, matrix->columns); c < end; c++) {
            if (*c != PATTERN) return false;
        }
    }
    return true;
}

uint64_t hash_bytes(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

uint64_t hash_matrix(uint64_t hash, const pente_matrix *matrix) {
    for (int64_t i = 0; i < matrix->rows; i++) {
        hash = hash_bytes(hash, address(matrix, i, 0), (size_t)matrix->columns * element_size(matrix->dtype));
    }
    return hash;
}

/* ---- Models ---- */

model model_new(pente_dtype dtype, int64_t inputs, int64_t outputs, bool bias, uint64_t seed) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = dtype;
    options.bias = bias;
    options.seed = seed;
    model model = {0};
    OK(pente_linear_new(inputs, outputs, &options, &model.layer));
    OK(pente_layer_parameter_view(model.layer, "weight", &model.weight));
    OK(pente_layer_gradient_view(model.layer, "weight", &model.weight_gradient));
    if (bias) {
        OK(pente_layer_parameter_view(model.layer, "bias", &model.bias));
        OK(pente_layer_gradient_view(model.layer, "bias", &model.bias_gradient));
    }
    return model;
}

void model_free(model *model) {
    OK(pente_layer_free(model->layer));
}

bool same_model(const model *a, const model *b) {
    if (!same_bits("weight", &a->weight, &b->weight)) return false;
    if (!same_bits("weight's gradient", &a->weight_gradient, &b->weight_gradient)) return false;
    if (!a->bias.data) return true;
    return same_bits("bias", &a->bias, &b->bias) &&
           same_bits("bias's gradient", &a->bias_gradient, &b->bias_gradient);
}

pente_sgd_options options_of(double lr, double momentum, double dampening, double weight_decay, int nesterov,
                             int maximize) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = lr;
    options.momentum = momentum;
    options.dampening = dampening;
    options.weight_decay = weight_decay;
    options.nesterov = nesterov;
    options.maximize = maximize;
    return options;
}

pente_sgd *sgd_new(const model *model, double lr, double momentum) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = lr;
    options.momentum = momentum;
    pente_sgd *sgd = NULL;
    OK(pente_sgd_new(&model->layer, 1, &options, &sgd));
    return sgd;
}

pente_mse *mse_new(pente_reduction reduction) {
    pente_mse_options options = PENTE_MSE_OPTIONS_INIT;
    options.reduction = reduction;
    pente_mse *mse = NULL;
    OK(pente_mse_new(&options, &mse));
    return mse;
}

pente_trainer *trainer_new(const model *model, const pente_mse *mse, pente_sgd *sgd) {
    pente_trainer *trainer = NULL;
    OK(pente_trainer_new(model->layer, mse, sgd, &trainer));
    return trainer;
}

training training_new(pente_dtype dtype, int64_t inputs, int64_t outputs, pente_reduction reduction, double lr) {
    training t = {.model = model_new(dtype, inputs, outputs, true, 6), .mse = mse_new(reduction)};
    t.sgd = sgd_new(&t.model, lr, 0.5);
    t.trainer = trainer_new(&t.model, t.mse, t.sgd);
    return t;
}

void training_free(training *t) {
    OK(pente_trainer_free(t->trainer));
    OK(pente_sgd_free(t->sgd));
    OK(pente_mse_free(t->mse));
    model_free(&t->model);
}
