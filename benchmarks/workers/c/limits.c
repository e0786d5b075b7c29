/* What the machine can do, in tasks of their own: fma (fused multiply-adds on registers alone), read-S-D (the sum of 512
 * MB, read as S streams side by side, with a prefetch D bytes ahead, or none for 0), and fetch (a number of each line of
 * all rows of X and Y, in a shuffled order, 32 KB of rows ahead). The number that setup answers is the work of a call:
 * floating-point operations, or bytes. */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
typedef float floats __attribute__((vector_size(WIDTH)));
typedef double doubles __attribute__((vector_size(WIDTH)));

enum { REPEATS = 400000, MAX_STREAMS = 8 };
static const size_t BYTES = (size_t)512 << 20;

static int threads, streams, ahead;
static bool is_float64;
static char *memory;
/* Of X and Y: a row's bytes, and where it begins. */
static struct { char *numbers; size_t row; } tables[2];
static uint32_t *order;
static size_t rows;
static double work, sink;

/* Twelve accumulators, which a processor's registers hold, are enough to hide the latency: each is the next
 * multiply-add's only dependency. */
enum { ACCUMULATORS = 12 };
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define DECLARE(i) sum##i = first + i,
#define MULTIPLY_ADD(i) sum##i = sum##i * factor + term;
#define ADD(i) +sum##i
#define DEFINE_FMA(name, vector)                                                          \
    static double name(void) {                                                            \
        vector first = {0}, factor = first + 0.999f, term = first + 0.5f, EACH(DECLARE) total; \
        for (int repeat = 0; repeat < REPEATS; repeat++) { EACH(MULTIPLY_ADD) }           \
        total = EACH(ADD);                                                                \
        return (double)total[0];                                                          \
    }
DEFINE_FMA(fma_float32, floats)
DEFINE_FMA(fma_float64, doubles)

/* A line of 64 bytes into four accumulators, for each stream in turn. */
static inline double read_streams(const char *start, size_t bytes, const int count, const int distance) {
    enum { LINE = 64, VECTORS = LINE / WIDTH };
    floats sums[MAX_STREAMS * VECTORS] = {{0}};
    size_t length = bytes / (size_t)count / LINE * LINE;
    for (size_t offset = 0; offset < length; offset += LINE) {
        for (int stream = 0; stream < count; stream++) {
            const char *line = start + (size_t)stream * length + offset;
            if (distance > 0) __builtin_prefetch(line + distance, 0, 3);
            for (int i = 0; i < VECTORS; i++) sums[stream * VECTORS + i] += ((const floats *)(const void *)line)[i];
        }
    }
    for (int i = 1; i < MAX_STREAMS * VECTORS; i++) sums[0] += sums[i];
    return (double)sums[0][0];
}

static double read_part(const char *start, size_t bytes) {
    switch (streams) {
        case 1: return read_streams(start, bytes, 1, ahead);
        case 2: return read_streams(start, bytes, 2, ahead);
        case 4: return read_streams(start, bytes, 4, ahead);
        default: return read_streams(start, bytes, 8, ahead);
    }
}

static inline float fetch_row(size_t row, const bool is_ahead) {
    float sum = 0;
    for (int i = 0; i < 2; i++) {
        const char *from = tables[i].numbers + row * tables[i].row;
        for (size_t byte = 0; byte < tables[i].row; byte += 64) {
            if (is_ahead) __builtin_prefetch(from + byte, 0, 2);
            else sum += *(const float *)(const void *)(from + byte);
        }
    }
    return sum;
}

static double fetch_part(size_t first, size_t end) {
    size_t distance = 32768 / tables[0].row + 1;
    float sum = 0;
    for (size_t i = first; i < end; i++) {
        if (i + distance < end) fetch_row(order[i + distance], true);
        sum += fetch_row(order[i], false);
    }
    return (double)sum;
}

static double run_part(int part) {
    if (order != NULL) return fetch_part(rows / (size_t)threads * (size_t)part, rows / (size_t)threads * (size_t)(part + 1));
    if (memory != NULL) return read_part(memory + BYTES / (size_t)threads * (size_t)part, BYTES / (size_t)threads);
    return is_float64 ? fma_float64() : fma_float32();
}

int worker_start(int wanted, int argc, char **argv) {
    (void)argc, (void)argv;
    threads = wanted;
    snprintf(worker_version, sizeof worker_version, "vectors of %d bits", 8 * WIDTH);
    return threads;
}

bool worker_setup(const struct job *job) {
    is_float64 = job->is_float64;
    if (sscanf(job->task, "read-%d-%d", &streams, &ahead) == 2) {
        memory = pattern(false, (int64_t)(BYTES / sizeof(float)), 1, 0, 1);
        work = (double)BYTES;
        return true;
    }
    if (strcmp(job->task, "fetch") == 0) {
        size_t size = is_float64 ? sizeof(double) : sizeof(float);
        rows = (size_t)job->q;
        for (int i = 0; i < 2; i++) {
            tables[i].row = (size_t)job->widths[i] * size;
            tables[i].numbers = pattern(is_float64, job->q, job->widths[i], i, 1);
        }
        order = zeros(rows * sizeof *order);
        for (size_t i = 0; i < rows; i++) order[i] = (uint32_t)i;
        uint64_t state = 1;
        for (size_t i = rows - 1; i > 0; i--) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            size_t other = (size_t)(state >> 33) % (i + 1);
            uint32_t number = order[i];
            order[i] = order[other], order[other] = number;
        }
        work = (double)(rows * (tables[0].row + tables[1].row));
        return true;
    }
    size_t lanes = WIDTH / (is_float64 ? sizeof(double) : sizeof(float));
    work = 2.0 * REPEATS * ACCUMULATORS * (double)lanes * threads;
    return strcmp(job->task, "fma") == 0 || refuse("no such task");
}

double worker_check(void) { return work; }

void worker_run(int64_t calls) {
    for (int64_t call = 0; call < calls; call++) {
        double sum = 0;
#pragma omp parallel for reduction(+ : sum) num_threads(threads) schedule(static, 1)
        for (int part = 0; part < threads; part++) sum += run_part(part);
        sink += sum;
    }
}

void worker_free(void) {
    for (int i = 0; i < 2; i++) free(tables[i].numbers), tables[i].numbers = NULL;
    free(order), order = NULL;
    free(memory), memory = NULL;
}
