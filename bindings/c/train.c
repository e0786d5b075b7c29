/* Trains a linear model on a CSV file with pente_trainer_fit.
 *
 *     train DATA.csv TARGET_COUNT [RESULT_FILE]
 */
#include <pente.h>

#include <inttypes.h>
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
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} model;

static pente_status model_new(model *m, int64_t features, int64_t targets) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.01;
    options.momentum = 0.9;
    TRY(pente_linear_new(features, targets, NULL, &m->layer)); /* float32, with bias, seed 0 */
    TRY(pente_mse_new(NULL, &m->mse));
    TRY(pente_sgd_new(&m->layer, 1, &options, &m->sgd));
    return pente_trainer_new(m->layer, m->mse, m->sgd, &m->trainer);
}

static void model_free(model *m) {
    pente_trainer_free(m->trainer);
    pente_sgd_free(m->sgd);
    pente_mse_free(m->mse);
    pente_layer_free(m->layer);
}

static int32_t show(const pente_epoch *epoch, void *user_data) {
    (void)user_data;
    if (epoch->epoch % 20 == 0)
        printf("epoch %3" PRId64 "/%" PRId64 "  loss %.6f\n", epoch->epoch, epoch->epochs, epoch->training_loss);
    return 0; /* go on */
}

static pente_status fit(model *m, const table *data, double *losses) {
    pente_matrix x = pente_float32_matrix(data->x, data->rows, data->features);
    pente_matrix y = pente_float32_matrix(data->y, data->rows, data->targets);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT; /* shuffled with seed 0 */
    options.epochs = EPOCHS;
    options.batch_size = 32;
    options.on_epoch = show;
    options.training_losses = losses;
    return pente_trainer_fit(m->trainer, &x, &y, &options, NULL);
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
    pente_status status = model_new(&m, data.features, data.targets);
    if (status == PENTE_OK) status = fit(&m, &data, losses);

    int result = 0;
    if (status != PENTE_OK) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], pente_status_name(status), pente_last_error());
        result = 1;
    } else if (argc == 4 && result_write(argv[3], &measured, 1, m.layer) != 0) {
        result = 1;
    }
    model_free(&m);
    table_free(&data);
    return result;
}
