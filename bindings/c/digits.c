/* Trains a chain of layers to read handwritten digits, with pente_trainer_fit, and saves it.
 *
 *     digits DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS]
 */
#include <pente.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

enum { DIGITS = 10, EPOCHS = 30, MAX_EPOCHS = 1000 };

/* Returns from the calling function when a call fails; main says why and frees everything. */
#define TRY(call)                                      \
    do {                                               \
        pente_status try_status = (call);              \
        if (try_status != PENTE_OK) return try_status; \
    } while (0)

/* ---- The images, and a column for each digit: 1 for the one that it is, else 0 ---- */

typedef struct images {
    pente_matrix x, y;           /* to train on */
    pente_matrix test_x, test_y; /* every fifth row of the file */
} images;

static void set(const pente_matrix *m, int64_t i, int64_t j, double value) {
    if (m->dtype == PENTE_FLOAT32)
        ((float *)m->data)[i * m->row_stride + j] = (float)value;
    else
        ((double *)m->data)[i * m->row_stride + j] = value;
}

static double get(const pente_matrix *m, int64_t i, int64_t j) {
    int64_t at = i * m->row_stride + j;
    return m->dtype == PENTE_FLOAT32 ? (double)((const float *)m->data)[at] : ((const double *)m->data)[at];
}

/* A matrix of zeros; its data is NULL if there is no memory. */
static pente_matrix zeros(int64_t rows, int64_t columns, pente_dtype dtype) {
    pente_matrix m = {NULL, rows, columns, columns, dtype};
    m.data = calloc((size_t)(rows * columns), dtype == PENTE_FLOAT32 ? sizeof(float) : sizeof(double));
    return m;
}

static void images_free(images *data) {
    free(data->x.data);
    free(data->y.data);
    free(data->test_x.data);
    free(data->test_y.data);
}

static int images_split(images *data, const numbers *n, const char *path, pente_dtype dtype) {
    int64_t pixels = n->columns - 1, test = n->rows / 5;
    data->x = zeros(n->rows - test, pixels, dtype);
    data->y = zeros(n->rows - test, DIGITS, dtype);
    data->test_x = zeros(test, pixels, dtype);
    data->test_y = zeros(test, DIGITS, dtype);
    if (data->x.data == NULL || data->y.data == NULL || data->test_x.data == NULL || data->test_y.data == NULL) {
        perror(path);
        return -1;
    }
    for (int64_t i = 0; i < n->rows; i++) {
        const double *row = n->values + i * n->columns;
        int is_test = i % 5 == 4;
        int64_t k = is_test ? i / 5 : i - i / 5;
        int64_t digit = row[pixels] >= 0 && row[pixels] < 10 ? (int64_t)row[pixels] : -1;
        if ((double)digit != row[pixels]) {
            fprintf(stderr, "%s:%" PRId64 ": the last column must be a digit\n", path, i + 2);
            return -1;
        }
        for (int64_t j = 0; j < pixels; j++) set(is_test ? &data->test_x : &data->x, k, j, row[j] / 16);
        set(is_test ? &data->test_y : &data->y, k, digit, 1);
    }
    return 0;
}

static int images_read(images *data, const char *path, pente_dtype dtype) {
    numbers n;
    if (numbers_read(&n, path) != 0) return -1;
    int result = images_split(data, &n, path, dtype);
    numbers_free(&n);
    return result;
}

/* ---- The network ---- */

typedef struct model {
    pente_layer *linear[3];
    pente_layer *relu;
    pente_layer *chain;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} model;

static pente_status model_new(model *m, int64_t pixels, pente_dtype dtype) {
    const int64_t widths[] = {pixels, 64, 32, DIGITS};
    pente_linear_options linear = PENTE_LINEAR_OPTIONS_INIT;
    pente_activation_options relu = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_sgd_options sgd = PENTE_SGD_OPTIONS_INIT;
    linear.dtype = relu.dtype = dtype;
    sgd.lr = 0.2;
    sgd.momentum = 0.9;
    for (int i = 0; i < 3; i++) TRY(pente_linear_new(widths[i], widths[i + 1], &linear, &m->linear[i]));
    TRY(pente_activation_new(PENTE_RELU, &relu, &m->relu));
    pente_layer *layers[] = {m->linear[0], m->relu, m->linear[1], m->relu, m->linear[2]};
    TRY(pente_chain_new(layers, 5, &m->chain));
    TRY(pente_layer_reset_parameters(m->chain, 0)); /* one seed for all of them */
    TRY(pente_mse_new(NULL, &m->mse));
    TRY(pente_sgd_new(&m->chain, 1, &sgd, &m->sgd));
    return pente_trainer_new(m->chain, m->mse, m->sgd, &m->trainer);
}

static void model_free(model *m) {
    pente_trainer_free(m->trainer);
    pente_sgd_free(m->sgd);
    pente_mse_free(m->mse);
    pente_layer_free(m->chain);
    pente_layer_free(m->relu);
    for (int i = 0; i < 3; i++) pente_layer_free(m->linear[i]);
}

static int32_t show(const pente_epoch *epoch, void *user_data) {
    (void)user_data;
    printf("epoch %3" PRId64 "/%" PRId64 "  loss %.6f  validation %.6f\n", epoch->epoch, epoch->epochs,
           epoch->training_loss, epoch->validation_loss);
    return 0; /* go on */
}

static pente_status fit(model *m, const images *data, int64_t epochs, double *losses, double *validation_losses) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT; /* shuffled with seed 0 */
    options.epochs = epochs;
    options.batch_size = 32;
    options.validation_x = &data->test_x;
    options.validation_y = &data->test_y;
    options.on_epoch = show;
    options.training_losses = losses;
    options.validation_losses = validation_losses;
    return pente_trainer_fit(m->trainer, &data->x, &data->y, &options, NULL);
}

static int64_t largest(const pente_matrix *m, int64_t row) {
    int64_t best = 0;
    for (int64_t j = 1; j < m->columns; j++)
        if (get(m, row, j) > get(m, row, best)) best = j;
    return best;
}

/* How many of the test images the model reads right. */
static pente_status count_right(const model *m, const images *data, const pente_matrix *prediction, int64_t *right) {
    TRY(pente_layer_forward(m->chain, NULL, &data->test_x, prediction));
    *right = 0;
    for (int64_t i = 0; i < prediction->rows; i++) *right += largest(prediction, i) == largest(&data->test_y, i);
    return PENTE_OK;
}

/* ---- The program ---- */

static int run(model *m, const images *data, char **argv, int64_t epochs) {
    double losses[MAX_EPOCHS], validation_losses[MAX_EPOCHS];
    int64_t right = 0;
    pente_matrix prediction = zeros(data->test_x.rows, DIGITS, data->x.dtype);
    if (prediction.data == NULL) {
        perror(argv[0]);
        return 1;
    }
    pente_status status = model_new(m, data->x.columns, data->x.dtype);
    if (status == PENTE_OK) status = fit(m, data, epochs, losses, validation_losses);
    if (status == PENTE_OK) status = count_right(m, data, &prediction, &right);
    if (status == PENTE_OK) status = pente_layer_save(m->chain, NULL, argv[4]);
    free(prediction.data);
    if (status != PENTE_OK) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], pente_status_name(status), pente_last_error());
        return 1;
    }
    double accuracy = (double)right / (double)prediction.rows;
    printf("test accuracy %.4f\n", accuracy);
    const series measured[] = {
        {"loss", losses, epochs}, {"validation_loss", validation_losses, epochs}, {"accuracy", &accuracy, 1}};
    return result_write(argv[3], measured, 3, m->chain) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    int is_float32 = argc > 2 && strcmp(argv[2], "float32") == 0;
    int is_float64 = argc > 2 && strcmp(argv[2], "float64") == 0;
    int64_t epochs = EPOCHS;
    if (argc == 6) epochs = strtoll(argv[5], NULL, 10);
    if (argc < 5 || argc > 6 || !(is_float32 || is_float64) || epochs < 1 || epochs > MAX_EPOCHS) {
        fprintf(stderr, "usage: %s DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS, up to %d]\n",
                argv[0], MAX_EPOCHS);
        return 2;
    }
    images data;
    memset(&data, 0, sizeof data);
    model m = {{NULL, NULL, NULL}, NULL, NULL, NULL, NULL, NULL};
    int result = 1;
    if (images_read(&data, argv[1], is_float32 ? PENTE_FLOAT32 : PENTE_FLOAT64) == 0)
        result = run(&m, &data, argv, epochs);
    model_free(&m);
    images_free(&data);
    return result;
}
