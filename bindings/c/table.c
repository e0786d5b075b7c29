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

int numbers_read(numbers *n, const char *path) {
    size_t size;
    char *text = read_file(path, &size);
    if (text == NULL) return -1;

    const char *at = text;
    n->columns = 1;
    for (; *at != '\0' && *at != '\n'; at++) n->columns += *at == ',';
    if (*at == '\n') at++;

    int result = -1;
    /* A number has a digit and what ends it: the file's size bounds the memory, whatever its header promises. */
    n->values = (double *)malloc((size / 2 + 1) * sizeof(double));
    if (n->values == NULL)
        perror(path);
    else
        result = parse(path, at, text + size, n->columns, n->values, &n->rows);
    if (result != 0) numbers_free(n);
    free(text);
    return result;
}

void numbers_free(numbers *n) {
    free(n->values);
    n->values = NULL;
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
    numbers n;
    if (numbers_read(&n, path) != 0) return -1;

    int result = -1;
    t->rows = n.rows;
    t->features = n.columns - targets;
    t->targets = targets;
    if (targets < 1 || targets >= n.columns)
        fail(path, 1, "there must be at least one target, and a feature before it");
    else if (standardise(path, n.values, n.rows, n.columns) == 0)
        result = split(n.values, t);
    numbers_free(&n);
    return result;
}

void table_free(table *t) {
    free(t->x);
    free(t->y);
    t->x = t->y = NULL;
}

static pente_status parameters_write(FILE *file, const pente_layer *layer) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_status status = pente_layer_get_info(layer, &info);
    for (int64_t k = 0; status == PENTE_OK && k < info.parameter_count; k++) {
        char name[256];
        pente_matrix p;
        status = pente_layer_parameter_name(layer, k, name, sizeof name);
        if (status == PENTE_OK) status = pente_layer_parameter_view(layer, name, &p);
        if (status != PENTE_OK) break;
        for (int64_t i = 0; i < p.rows; i++) {
            for (int64_t j = 0; j < p.columns; j++) {
                int64_t at = i * p.row_stride + j;
                fprintf(file, "%s %" PRId64 " %" PRId64 " ", name, i, j);
                if (p.dtype == PENTE_FLOAT32)
                    fprintf(file, "%.9g\n", (double)((const float *)p.data)[at]);
                else
                    fprintf(file, "%.17g\n", ((const double *)p.data)[at]);
            }
        }
    }
    return status;
}

int result_write(const char *path, const series *measured, int64_t count, const pente_layer *layer) {
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    for (const series *s = measured; s < measured + count; s++)
        for (int64_t i = 0; i < s->count; i++) fprintf(file, "%s %" PRId64 " %.17g\n", s->name, i + 1, s->values[i]);
    pente_status status = parameters_write(file, layer);
    if (status != PENTE_OK) fprintf(stderr, "%s: %s: %s\n", path, pente_status_name(status), pente_last_error());
    int failed = ferror(file);
    if (fclose(file) != 0 || failed) {
        perror(path);
        return -1;
    }
    return status == PENTE_OK ? 0 : -1;
}
