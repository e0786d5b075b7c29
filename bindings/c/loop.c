/* Trains a linear model on a CSV file, with the training loop written out: every step on all rows at once.
 *
 *     loop DATA.csv TARGET_COUNT [RESULT_FILE]
 */
#include <pente.h>

#include <stdio.h>
#include <stdlib.h>

#include "table.h"

enum { EPOCHS = 200 };

/* Returns from the calling function when a call fails; main says why and frees everything. */
#define TRY(call)                                      \
    do {                                               \
        pente_status try_status = (call);              \
        if (try_status != PENTE_OK) return try_status; \
    } while (0)

typedef struct model {
    pente_layer *layer;
    pente_context *context;
    pente_mse *mse;
    pente_sgd *sgd;
} model;

static pente_status model_new(model *m, int64_t features, int64_t targets) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.01;
    options.momentum = 0.9;
    TRY(pente_linear_new(features, targets, NULL, &m->layer)); /* float32, with bias, seed 0 */
    TRY(pente_context_new(m->layer, &m->context));
    TRY(pente_mse_new(NULL, &m->mse));
    return pente_sgd_new(&m->layer, 1, &options, &m->sgd);
}

static void model_free(model *m) {
    pente_sgd_free(m->sgd);
    pente_mse_free(m->mse);
    pente_context_free(m->context);
    pente_layer_free(m->layer);
}

/* `scratch` holds two matrices of y's shape. */
static pente_status train(model *m, const table *data, float *scratch, double *losses) {
    pente_matrix x = pente_float32_matrix(data->x, data->rows, data->features);
    pente_matrix y = pente_float32_matrix(data->y, data->rows, data->targets);
    pente_matrix prediction = pente_float32_matrix(scratch, data->rows, data->targets);
    pente_matrix gradient = pente_float32_matrix(scratch + data->rows * data->targets, data->rows, data->targets);

    /* README: begin */
    for (int epoch = 1; epoch <= EPOCHS; epoch++) {
        TRY(pente_sgd_zero_gradients(m->sgd));
        TRY(pente_layer_forward(m->layer, m->context, &x, &prediction));
        TRY(pente_mse_forward(m->mse, &prediction, &y, NULL, &losses[epoch - 1]));
        TRY(pente_mse_backward(m->mse, &prediction, &y, NULL, NULL, &gradient, NULL));
        TRY(pente_layer_backward(m->layer, m->context, &gradient, NULL));
        TRY(pente_sgd_step(m->sgd));
        if (epoch % 20 == 0) printf("epoch %3d/%d  loss %.6f\n", epoch, EPOCHS, losses[epoch - 1]);
    }
    /* README: end */
    return PENTE_OK;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: %s DATA.csv TARGET_COUNT [RESULT_FILE]\n", argv[0]);
        return 2;
    }
    table data;
    if (table_read(&data, argv[1], strtoll(argv[2], NULL, 10)) != 0) return 1;

    model m = {NULL, NULL, NULL, NULL};
    double losses[EPOCHS];
    const series measured = {"loss", losses, EPOCHS};
    int result = 1;
    float *scratch = (float *)malloc((size_t)(2 * data.rows * data.targets) * sizeof(float));
    if (scratch == NULL) {
        perror(argv[0]);
    } else {
        pente_status status = model_new(&m, data.features, data.targets);
        if (status == PENTE_OK) status = train(&m, &data, scratch, losses);
        if (status != PENTE_OK)
            fprintf(stderr, "%s: %s: %s\n", argv[0], pente_status_name(status), pente_last_error());
        else
            result = argc == 4 && result_write(argv[3], &measured, 1, m.layer) != 0;
    }
    free(scratch);
    model_free(&m);
    table_free(&data);
    return result;
}
