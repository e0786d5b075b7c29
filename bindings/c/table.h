/* What both examples need around the library: a table of numbers to train on, and a file for what came out. */
#ifndef TABLE_H
#define TABLE_H

#include <pente.h>

/* Standardised features and targets of a CSV file: every column has mean 0 and variance 1. */
typedef struct table {
    int64_t rows;
    int64_t features;
    int64_t targets;
    float *x; /* rows x features */
    float *y; /* rows x targets */
} table;

/* Reads a header line and then lines of numbers, whose last `targets` columns are the targets. Returns 0, or -1 after
 * saying on stderr what was wrong; then there is nothing to free. */
int table_read(table *t, const char *path, int64_t targets);
void table_free(table *t);

/* Writes losses and parameters as text that reads back to the same bits. Returns 0, or -1 after a message. */
int result_write(const char *path, const double *losses, int64_t epochs, const pente_matrix *weight,
                 const pente_matrix *bias);

#endif
