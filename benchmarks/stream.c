/* Training from .npy files beside training from memory, and beside dd: stream DIRECTORY MEGABYTES ROUNDS.
 *
 * Each round times an epoch from memory, an epoch from files that are in the page cache, an epoch from files that are
 * not, and dd's reading of these; the figures are medians of the rounds' ratios. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pente.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct shape {
    int64_t inputs, outputs, batch;
    int32_t shuffle;
} shape;

static const shape shapes[] = {{512, 4, 1024, 0}, {512, 4, 256, 0}, {64, 10, 1024, 0}, {64, 10, 32, 0},  {32, 1, 32, 0},
                               {784, 10, 128, 0}, {512, 4, 1024, 1}, {64, 10, 32, 1},  {32, 1, 32, 1},   {784, 10, 128, 1}};

static void require(pente_status status) {
    if (status == PENTE_OK) return;
    fprintf(stderr, "%s\n", pente_last_error());
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) exit(1);
    return memory;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void write_npy(const char *path, const float *data, int64_t rows, int64_t columns) {
    char header[128], text[118];
    FILE *file = fopen(path, "wb");
    int length = snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                          (long long)rows, (long long)columns);
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\1\0\x76\0", 10);
    memcpy(header + 10, text, (size_t)length);
    header[127] = '\n';
    if (file == NULL || fwrite(header, 128, 1, file) != 1 ||
        fwrite(data, sizeof *data, (size_t)(rows * columns), file) != (size_t)(rows * columns) || fflush(file) != 0 ||
        fsync(fileno(file)) != 0 || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

/* Out of the page cache. */
static void forget(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0 || posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) != 0) exit(1);
    close(file);
}

static int compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static pente_trainer *make_trainer(const shape *s) {
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    require(pente_linear_new(s->inputs, s->outputs, NULL, &layer));
    require(pente_mse_new(NULL, &mse));
    require(pente_sgd_new(&layer, 1, NULL, &sgd));
    require(pente_trainer_new(layer, mse, sgd, &trainer));
    pente_layer_free(layer);
    pente_mse_free(mse);
    pente_sgd_free(sgd);
    return trainer;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    char paths[2][512], command[600];
    int64_t megabytes = atoll(argv[2]);
    int rounds = atoi(argv[3]);
    double *ratios = allocate(sizeof *ratios * 3 * (size_t)rounds);
    snprintf(paths[0], sizeof paths[0], "%s/x.npy", argv[1]);
    snprintf(paths[1], sizeof paths[1], "%s/y.npy", argv[1]);
    snprintf(command, sizeof command, "dd if='%s' of=/dev/null bs=1M status=none", paths[0]);
    const char *x_path = paths[0], *y_path = paths[1];
    printf("%d MB; speed of an epoch from the page cache / from memory, from disk / of dd, and from disk / from memory\n", (int)megabytes);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        int64_t rows = megabytes * 1000000 / 4 / (s->inputs + s->outputs);
        float *x = allocate(sizeof *x * (size_t)(rows * s->inputs)), *y = allocate(sizeof *y * (size_t)(rows * s->outputs));
        for (int64_t e = 0; e < rows * s->inputs; e++) x[e] = (float)(e * 2654435761u % 1000) / 1000 - 0.5f;
        for (int64_t e = 0; e < rows * s->outputs; e++) y[e] = (float)(e % 7) / 7;
        write_npy(x_path, x, rows, s->inputs);
        write_npy(y_path, y, rows, s->outputs);
        pente_matrix X = pente_float32_matrix(x, rows, s->inputs), Y = pente_float32_matrix(y, rows, s->outputs);
        pente_trainer *trainer = make_trainer(s);
        pente_source *source;
        require(pente_npy_source_new(&x_path, 1, &y_path, 1, NULL, 0, &source));
        pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
        options.batch_size = s->batch;
        options.shuffle = s->shuffle;
        for (int round = -1; round < rounds; round++) {
            double times[5];
            times[0] = seconds();
            require(pente_trainer_fit(trainer, &X, &Y, &options, NULL));
            times[1] = seconds();
            require(pente_trainer_fit_source(trainer, source, &options, NULL));
            times[2] = seconds();
            forget(x_path);
            forget(y_path);
            double start = seconds();
            require(pente_trainer_fit_source(trainer, source, &options, NULL));
            times[3] = seconds() - start;
            forget(x_path);
            start = seconds();
            if (system(command) != 0) return 1;
            times[4] = seconds() - start;
            if (round < 0) continue;
            double memory = times[1] - times[0];
            ratios[round] = memory / (times[2] - times[1]);
            ratios[rounds + round] = times[4] / times[3];
            ratios[2 * rounds + round] = memory / times[3];
        }
        printf("%4d -> %-3d batch %-5d %-10s %.2f  %.2f  %.2f\n", (int)s->inputs, (int)s->outputs, (int)s->batch,
               s->shuffle ? "shuffled" : "in order", median(ratios, rounds), median(ratios + rounds, rounds),
               median(ratios + 2 * rounds, rounds));
        fflush(stdout);
        pente_source_free(source);
        pente_trainer_free(trainer);
        free(x);
        free(y);
    }
    unlink(x_path);
    unlink(y_path);
    free(ratios);
    return 0;
}
