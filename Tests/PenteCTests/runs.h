/* The runs of Tests/data/bits.txt, which says what a run is. */
#ifndef PENTE_TEST_RUNS_H
#define PENTE_TEST_RUNS_H

#include "support.h"

enum { PASS, STEPS, FIT, PARTS };

/* A line of the table. */
typedef struct run {
    char description[200], layers[50]; /* description: the line up to its hashes */
    char hashes[PARTS][9];
    pente_dtype dtype;
    pente_reduction reduction;
    pente_sgd_options sgd;
    double scale, clip;
    int rows, is_weighted, batch, shuffle;
} run;

/* Whether a line is a run. */
bool read_run(const char *line, run *run);

/* How many multiply-adds its rows take. */
int64_t size_of_run(const run *run);

/* The hashes that a run gives: by a trainer's steps and fits, or by hand. */
void hash_run(const run *run, bool by_hand, char hashes[PARTS][9]);

#endif
