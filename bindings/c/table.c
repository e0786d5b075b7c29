/* Compile with -ffp-contract=off: elsewhere than on plain x86-64 a compiler may fuse the sums below, and then they
 * differ in the last bit from those of the same example in Python or Swift. */
#include "table.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *path, int64_t line, const char *what) {
    fprintf(stderr, "%s:%" PRId64 ": %s\n", path, line, what);
    return -1;
}

/* The whole file with a NUL after it, or NULL. */
static char *read_file(const char *path, size_t *size) {
    char *text = NULL;
    size_t capacity = 0;
    FILE *file = fopen(path, "rb");
    *size = 0;
    if (file != NULL) {
        do {
            capacity += 1 << 16;
            char *larger = (char *)realloc(text, capacity);
            if (larger == NULL) break;
            text = larger;
            *size += fread(text + *size, 1, capacity - *size - 1, file);
        } while (*size == capacity - 1);
        if (ferror(file) || *size == capacity - 1 || text == NULL) {
            free(text);
            text = NULL;
        } else {
            text[*size] = '\0';
        }
        fclose(file);
    }
    if (text == NULL) perror(path);
    return text;
}

/* Parses the lines after the header, `columns` numbers each, into values; counts them in rows. */
static int parse(const char *path, const char *at, const char *end, int64_t columns, double *values, int64_t *rows) {
    for (*rows = 0; at < end; (*rows)++) {
        for (int64_t j = 0; j < columns; j++) {
            char *after;
            *values = strtod(at, &after);
            /* strtod would skip spaces, line ends among them, and take "inf". */
            if (after == at || isspace((unsigned char)*at) || !isfinite(*values++))
                return fail(path, *rows + 2, "a number was expected");
            at = after;
            if (j + 1 < columns && *at++ != ',') return fail(path, *rows + 2, "fewer columns than in the header");
        }
        if (*at == '\r') at++;
        if (at < end && *at++ != '\n') return fail(path, *rows + 2, "no end of line after the last column");
    }
    return *rows > 0 ? 0 : fail(path, 2, "no rows");
}

/* Plain sums in the rows' order, so that every language gets the same bits. */
static int standardise(const char *path, double *values, int64_t rows, int64_t columns) {
    for (int64_t j = 0; j < columns; j++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < rows; i++) sum += values[i * columns + j];
        double mean = sum / (double)rows;
        for (int64_t i = 0; i < rows; i++) {
            double difference = values[i * columns + j] - mean;
            squares += difference * difference;
        }
        double deviation = sqrt(squares / (double)rows);
        if (!(deviation > 0 && isfinite(deviation))) return fail(path, 1, "every column must vary, and stay in range");
        for (int64_t i = 0; i < rows; i++) values[i * columns + j] = (values[i * columns + j] - mean) / deviation;
    }
    return 0;
}

/* Splits the values into features and targets. */
static int split(const double *values, table *t) {
    t->x = (float *)malloc((size_t)(t->rows * t->features) * sizeof(float));
    t->y = (float *)malloc((size_t)(t->rows * t->targets) * sizeof(float));
    if (t->x == NULL || t->y == NULL) {
        perror("table_read");
        table_free(t);
        return -1;
    }
    for (int64_t i = 0; i < t->rows; i++) {
        for (int64_t j = 0; j < t->features; j++) t->x[i * t->features + j] = (float)*values++;
        for (int64_t j = 0; j < t->targets; j++) t->y[i * t->targets + j] = (float)*values++;
    }
    return 0;
}

int table_read(table *t, const char *path, int64_t targets) {
    size_t size;
    char *text = read_file(path, &size);
    if (text == NULL) return -1;

    int64_t columns = 1, lines = 1;
    const char *at = text;
    for (; *at != '\0' && *at != '\n'; at++) columns += *at == ',';
    if (*at == '\n') at++;
    for (const char *c = at; *c != '\0'; c++) lines += *c == '\n';

    int result = -1;
    double *values = NULL;
    t->x = t->y = NULL;
    if (targets < 1 || targets >= columns) {
        fail(path, 1, "there must be at least one target, and a feature before it");
    } else if ((values = (double *)malloc((size_t)(lines * columns) * sizeof(double))) == NULL) {
        perror(path);
    } else if (parse(path, at, text + size, columns, values, &t->rows) == 0 &&
               standardise(path, values, t->rows, columns) == 0) {
        t->features = columns - targets;
        t->targets = targets;
        result = split(values, t);
    }
    free(values);
    free(text);
    return result;
}

void table_free(table *t) {
    free(t->x);
    free(t->y);
    t->x = t->y = NULL;
}

int result_write(const char *path, const double *losses, int64_t epochs, const pente_matrix *weight,
                 const pente_matrix *bias) {
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    const float *w = (const float *)weight->data, *b = (const float *)bias->data;
    for (int64_t i = 0; i < epochs; i++) fprintf(file, "loss %" PRId64 " %.17g\n", i + 1, losses[i]);
    for (int64_t i = 0; i < weight->rows; i++)
        for (int64_t j = 0; j < weight->columns; j++)
            fprintf(file, "weight %" PRId64 " %" PRId64 " %.9g\n", i, j, (double)w[i * weight->row_stride + j]);
    for (int64_t j = 0; j < bias->columns; j++) fprintf(file, "bias %" PRId64 " %.9g\n", j, (double)b[j]);
    int failed = ferror(file);
    if (fclose(file) != 0 || failed) {
        perror(path);
        return -1;
    }
    return 0;
}
