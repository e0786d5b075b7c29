/* What ranks cost each other: mpirun -n 2 mpi ROWS ROUNDS. Rank 0 prints JSON.
 *
 * A step of ROWS x 512 -> 4 in float32, shared out: its gradients alone, on all ranks at once, so that they have to share
 * the memory's bandwidth; the step with its allreduce; and allreduces of several sizes by themselves. Medians. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pente_mpi.h"

enum { INPUTS = 512, OUTPUTS = 4, MOST = 1 << 22 };

static void require(pente_status status) {
    if (status == PENTE_OK) return;
    fprintf(stderr, "%s; %s\n", pente_last_error(), pente_mpi_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
    return memory;
}

static int compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

/* How long the slowest rank takes. */
static double slowest(double start) {
    double own = MPI_Wtime() - start, all;
    MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return all;
}

int main(int argc, char **argv) {
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc != 3) MPI_Abort(MPI_COMM_WORLD, 2);
    int64_t rows = atoll(argv[1]) / size;
    int rounds = atoi(argv[2]);
    float *x = allocate(sizeof *x * (size_t)(rows * INPUTS)), *y = allocate(sizeof *y * (size_t)(rows * OUTPUTS));
    for (int64_t e = 0; e < rows * INPUTS; e++) x[e] = (float)(e * 2654435761u % 1000) / 1000 - 0.5f;
    for (int64_t e = 0; e < rows * OUTPUTS; e++) y[e] = (float)(e % 7) / 7;
    pente_matrix X = pente_float32_matrix(x, rows, INPUTS), Y = pente_float32_matrix(y, rows, OUTPUTS);
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_mpi *mpi;
    require(pente_linear_new(INPUTS, OUTPUTS, NULL, &layer));
    require(pente_mse_new(NULL, &mse));
    require(pente_sgd_new(&layer, 1, NULL, &sgd));
    require(pente_trainer_new(layer, mse, sgd, &trainer));
    require(pente_mpi_new(MPI_COMM_WORLD, trainer, layer, sgd, &mpi));

    double *alone = allocate(sizeof *alone * (size_t)rounds), *together = allocate(sizeof *together * (size_t)rounds);
    for (int round = -1; round < rounds; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        require(pente_trainer_accumulate(trainer, &X, &Y, NULL));
        require(pente_trainer_apply_sums(trainer, NULL));
        double gradients = slowest(start);
        require(pente_mpi_broadcast(mpi));
        MPI_Barrier(MPI_COMM_WORLD);
        start = MPI_Wtime();
        require(pente_mpi_step(mpi, &X, &Y, NULL, NULL));
        double step = slowest(start);
        if (round < 0) continue;
        alone[round] = gradients;
        together[round] = step;
    }
    double *ratios = allocate(sizeof *ratios * (size_t)rounds);
    for (int round = 0; round < rounds; round++) ratios[round] = together[round] / alone[round];
    double share = median(ratios, rounds);
    if (rank == 0)
        printf("{\"ranks\": %d, \"rows\": %lld, \"gradients_s\": %.6g, \"step_s\": %.6g, \"step_to_gradients\": %.4f,\n \"allreduce\": [",
               size, (long long)rows * size, median(alone, rounds), median(together, rounds), share);

    double *numbers = calloc(MOST, sizeof *numbers);
    for (int count = 1; count <= MOST; count *= 4) {
        int times = count < 4096 ? 200 : 20;
        double *seconds = allocate(sizeof *seconds * (size_t)times);
        for (int i = 0; i < times; i++) {
            MPI_Barrier(MPI_COMM_WORLD);
            double start = MPI_Wtime();
            MPI_Allreduce(MPI_IN_PLACE, numbers, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            seconds[i] = slowest(start);
        }
        if (rank == 0) printf("%s[%d, %.4g]", count > 1 ? ", " : "", count * 8, median(seconds, times));
        free(seconds);
    }
    if (rank == 0) printf("]}\n");
    pente_mpi_free(mpi);
    MPI_Finalize();
    return 0;
}
