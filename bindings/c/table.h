/* What the examples need around the library: a table of numbers to train on, and a file for what came out. */
#ifndef TABLE_H
#define TABLE_H

#include <pente.h>

/* The numbers of a CSV file. */
typedef struct numbers {
    int64_t rows;
    int64_t columns;
    double *values; /* rows x columns */
} numbers;

/* Reads a header line and then lines of numbers. Returns 0, or -1 after saying on stderr what was wrong; then there is
 * nothing to free. So do all functions here. */
int numbers_read(numbers *n, const char *path);
void numbers_free(numbers *n);

/* Standardised features and targets of a CSV file: every column has mean 0 and variance 1. */
typedef struct table {
    int64_t rows;
    int64_t features;
    int64_t targets;
    float *x; /* rows x features */
    float *y; /* rows x targets */
} table;

/* Reads a CSV file whose last `targets` columns are the targets. */
int table_read(table *t, const char *path, int64_t targets);
void table_free(table *t);

/* What was measured, epoch by epoch. */
typedef struct series {
    const char *name;
    const double *values;
    int64_t count;
} series;

/* Writes the series and the layer's parameters as text that reads back to the same bits. */
int result_write(const char *path, const series *measured, int64_t count, const pente_layer *layer);

#endif
