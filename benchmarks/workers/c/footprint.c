/* What training costs in memory: footprint Q N P prints how many allocations 100 steps after the first make, the bytes
 * of the data and parameters, and the process's peak memory in bytes. Its own malloc and so on are glibc's, counted. */
#include <pente.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static long allocations;

void *malloc(size_t size) { return allocations++, __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return allocations++, __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return allocations++, __libc_realloc(block, size); }
void *aligned_alloc(size_t alignment, size_t size) { return allocations++, __libc_memalign(alignment, size); }
int posix_memalign(void **pointer, size_t alignment, size_t size) {
    *pointer = aligned_alloc(alignment, size);
    return *pointer == NULL ? ENOMEM : 0;
}

static void check(pente_status status) {
    if (status == PENTE_OK) return;
    fprintf(stderr, "footprint: %s: %s\n", pente_status_name(status), pente_last_error());
    exit(1);
}

static long peak_memory(void) {
    FILE *file = fopen("/proc/self/status", "r");
    long kilobytes = 0;
    for (char line[256]; file != NULL && fgets(line, sizeof line, file) != NULL;)
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = atol(line + 6);
    if (file != NULL) fclose(file);
    return kilobytes * 1024;
}

static float *numbers(int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    if (values == NULL) exit(1);
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 1000) / 1000 - 0.5f;
    return values;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int64_t q = atoll(argv[1]), n = atoll(argv[2]), p = atoll(argv[3]);
    pente_matrix x = pente_float32_matrix(numbers(q * n), q, n), y = pente_float32_matrix(numbers(q * p), q, p);
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    check(pente_linear_new(n, p, NULL, &layer));
    check(pente_mse_new(NULL, &mse));
    check(pente_sgd_new(&layer, 1, NULL, &sgd));
    check(pente_trainer_new(layer, mse, sgd, &trainer));
    check(pente_trainer_step(trainer, &x, &y, NULL, NULL));
    long before = allocations;
    for (int i = 0; i < 100; i++) check(pente_trainer_step(trainer, &x, &y, NULL, NULL));
    long made = allocations - before;
    printf("%ld %lld %ld\n", made, (long long)sizeof(float) * (q * n + q * p + n * p + p),
           peak_memory());
    return 0;
}
