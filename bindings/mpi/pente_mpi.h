/* Pente on MPI: one model, trained by several processes, each of which has rows of its own. Compile pente_mpi.c into your
 * program with mpicc; libpente.so knows nothing of MPI.
 *
 *     pente_mpi *mpi;
 *     pente_mpi_new(MPI_COMM_WORLD, trainer, layer, sgd, &mpi);     // all have rank 0's parameters then
 *     pente_mpi_fit(mpi, x, y, NULL, &options, &report);            // each with its own rows
 *     pente_mpi_free(mpi);
 *
 * All functions but pente_mpi_last_error are collective: every rank of the communicator calls them, in the same order, each
 * with handles of its own of the same model. If one rank's call fails, every rank's does, with the same status and a
 * message that names the rank: nobody waits for it. A rank whose process dies is mpirun's affair, which ends the others
 * and names it. What an MPI function returns that is no success comes out as PENTE_MPI_FAILED.
 *
 * Ranks give the sum of their gradients with one MPI_Allreduce a step, in float64. An MPI that adds in an order that depends
 * on the number of ranks and numbers alone (as Open MPI and MPICH do on a network that is one) gives the same bits in
 * every run with the same number of ranks; pente_mpi_options.in_order does not rely on it.
 *
 * Copyright (c) 2026 The Pente authors. SPDX-License-Identifier: MIT */
#ifndef PENTE_MPI_H
#define PENTE_MPI_H

#include <mpi.h>
#include <pente.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PENTE_MPI_FAILED = PENTE_USER + 900,   /* an MPI function failed; the message is MPI's */
    PENTE_MPI_DIFFERENT = PENTE_USER + 901 /* the ranks do not have the same model, parameters or options */
};

/* A trainer of each rank on a communicator. */
typedef struct pente_mpi pente_mpi;

/* Duplicates the communicator, looks whether all ranks' models are alike, and broadcasts rank 0's. The trainer, its layer
 * and its optimizer remain yours, and must be there until pente_mpi_free. */
pente_status pente_mpi_new(MPI_Comm comm, pente_trainer *trainer, pente_layer *layer, pente_sgd *sgd, pente_mpi **mpi);
void pente_mpi_free(pente_mpi *mpi);

/* With 1, ranks gather everybody's sums and add them in the order of the ranks: the same bits whatever the MPI and the network do, at
 * the price of as many times the numbers as there are ranks. 0, as at first: MPI_Allreduce. */
pente_status pente_mpi_set_in_order(pente_mpi *mpi, int in_order);

/* Gives all ranks the parameters of rank 0's layer, scalers' among them, and its optimizer's options and state. */
pente_status pente_mpi_broadcast(pente_mpi *mpi);

/* Compares a hash of all parameters and momentum buffers; a rank that differs from rank 0 is PENTE_MPI_DIFFERENT. */
pente_status pente_mpi_verify(pente_mpi *mpi);

/* One step of all ranks' rows together: that of pente_trainer_step on all of them, but for rounding. x, y and sample_weight
 * are this rank's, or all NULL if it has none. loss (or NULL) is that of all rows. */
pente_status pente_mpi_step(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y,
                            const pente_matrix *sample_weight, double *loss);

typedef struct pente_mpi_fit_options {
    pente_fit_options fit; /* batch_size is a rank's; sample_weight its own rows'. seed is the same in all, and each rank
                              shuffles its rows with seed + rank. validation_x, validation_y and epochs are the same in all.
                              Rank 0's checkpoint_path alone is written; with resume it reads the file, if it is there, and
                              all go on behind its last whole epoch, with any number of ranks. reduce is not yours, and
                              patience, best and losses are this run's */
    int64_t verify_epochs; /* pente_mpi_verify after every so many epochs; 0: not */
} pente_mpi_fit_options;

#define PENTE_MPI_FIT_OPTIONS_INIT {PENTE_FIT_OPTIONS_INIT, 1}

/* pente_trainer_fit, or pente_trainer_fit_source with x and y NULL, on all ranks' rows. A rank without rows has x, y and
 * source NULL. */
pente_status pente_mpi_fit(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y, pente_source *source,
                           const pente_mpi_fit_options *options, pente_fit_report *report);

/* What was wrong in this thread's last call of this file that failed: the same in all ranks. */
const char *pente_mpi_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
