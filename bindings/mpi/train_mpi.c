/* Trains a linear model on a CSV file, of whose rows each rank has a share.
 *
 *     mpirun -n 2 train_mpi DATA.csv TARGET_COUNT [CHECKPOINT]
 *
 * With a checkpoint, a run that was killed goes on where it was, with any number of ranks.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../c/table.h"
#include "pente_mpi.h"

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
    pente_mpi *mpi;
} model;

static pente_status model_new(model *m, int64_t features, int64_t targets) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.lr = 0.05;
    options.momentum = 0.9;
    TRY(pente_linear_new(features, targets, NULL, &m->layer));
    TRY(pente_mse_new(NULL, &m->mse));
    TRY(pente_sgd_new(&m->layer, 1, &options, &m->sgd));
    TRY(pente_trainer_new(m->layer, m->mse, m->sgd, &m->trainer));
    return pente_mpi_new(MPI_COMM_WORLD, m->trainer, m->layer, m->sgd, &m->mpi);
}

static void model_free(model *m) {
    pente_mpi_free(m->mpi);
    pente_trainer_free(m->trainer);
    pente_sgd_free(m->sgd);
    pente_mse_free(m->mse);
    pente_layer_free(m->layer);
}

static int32_t show(const pente_epoch *epoch, void *user_data) {
    const int *rank = user_data;
    if (*rank == 0 && epoch->epoch % 50 == 0)
        printf("epoch %3" PRId64 "/%" PRId64 "  loss %.6f\n", epoch->epoch, epoch->epochs, epoch->training_loss);
    return 0;
}

/* All rows make one batch, so that the losses are those of one process, whatever the number of ranks. */
static pente_status fit(model *m, const table *data, int rank, int size, const char *checkpoint) {
    int64_t first = data->rows * rank / size, count = data->rows * (rank + 1) / size - first;
    pente_matrix x = pente_float32_matrix(data->x + first * data->features, count, data->features);
    pente_matrix y = pente_float32_matrix(data->y + first * data->targets, count, data->targets);
    pente_mpi_fit_options options = PENTE_MPI_FIT_OPTIONS_INIT;
    options.fit.epochs = 200;
    options.fit.batch_size = data->rows;
    options.fit.on_epoch = show;
    options.fit.user_data = &rank;
    options.fit.checkpoint_path = checkpoint;
    options.fit.checkpoint_epochs = 50;
    options.fit.resume = checkpoint != NULL;
    return pente_mpi_fit(m->mpi, count > 0 ? &x : NULL, count > 0 ? &y : NULL, NULL, &options, NULL);
}

int main(int argc, char **argv) {
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    table data;
    if (argc < 3 || argc > 4 || table_read(&data, argv[1], strtoll(argv[2], NULL, 10)) != 0) {
        if (rank == 0) fprintf(stderr, "usage: %s DATA.csv TARGET_COUNT [CHECKPOINT]\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    model m = {NULL, NULL, NULL, NULL, NULL};
    pente_status status = model_new(&m, data.features, data.targets);
    if (status == PENTE_OK) status = fit(&m, &data, rank, size, argc == 4 ? argv[3] : NULL);
    if (status != PENTE_OK) {
        const char *why = m.trainer != NULL ? pente_mpi_last_error() : pente_last_error();
        fprintf(stderr, "%s: %s: %s\n", argv[0], pente_status_name(status), why);
    }
    model_free(&m);
    table_free(&data);
    MPI_Finalize();
    return status != PENTE_OK;
}
