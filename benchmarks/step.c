/* Times a trainer's step: step SECONDS Q N P prints the microseconds of one of a linear layer, averaged over about that
 * long. With more widths, step SECONDS Q N ... P, it is a chain of linear layers with relu between them. */
#include <pente.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(pente_status status) {
    if (status == PENTE_OK) return;
    fprintf(stderr, "step: %s: %s\n", pente_status_name(status), pente_last_error());
    exit(1);
}

static float *numbers(int64_t count) {
    float *values = (float *)malloc((size_t)count * sizeof *values);
    if (values == NULL) exit(1);
    for (int64_t i = 0; i < count; i++) values[i] = (float)((i * 7919) % 1000) / 1000 - 0.5f;
    return values;
}

enum { MAX_WIDTHS = 8 };

static pente_layer *network(const int64_t *widths, int count) {
    pente_layer *layers[2 * MAX_WIDTHS], *relu, *chain;
    check(pente_activation_new(PENTE_RELU, NULL, &relu));
    for (int i = 0; i + 1 < count; i++) {
        check(pente_linear_new(widths[i], widths[i + 1], NULL, &layers[2 * i]));
        layers[2 * i + 1] = relu;
    }
    if (count == 2) {
        chain = layers[0];
    } else {
        check(pente_chain_new(layers, 2 * count - 3, &chain));
        for (int i = 0; i + 1 < count; i++) check(pente_layer_free(layers[2 * i]));
    }
    check(pente_layer_free(relu));
    return chain;
}

int main(int argc, char **argv) {
    int64_t widths[MAX_WIDTHS];
    int count = argc - 3;
    if (count < 2 || count > MAX_WIDTHS) {
        fprintf(stderr, "usage: %s SECONDS Q N ... P\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < count; i++) widths[i] = atoll(argv[3 + i]);
    int64_t q = atoll(argv[2]), n = widths[0], p = widths[count - 1];
    float *x_data = numbers(q * n), *y_data = numbers(q * p);
    pente_matrix x = pente_float32_matrix(x_data, q, n), y = pente_float32_matrix(y_data, q, p);
    pente_layer *layer = network(widths, count);
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    check(pente_mse_new(NULL, &mse));
    check(pente_sgd_new(&layer, 1, NULL, &sgd));
    check(pente_trainer_new(layer, mse, sgd, &trainer));

    double start = 0, elapsed = 0;
    int64_t steps = 0;
    for (int64_t burst = 1; elapsed < atof(argv[1]); burst *= 2) {
        if (burst == 2) start = now(), steps = 0; /* the first step allocates */
        for (int64_t i = 0; i < burst; i++) check(pente_trainer_step(trainer, &x, &y, NULL, NULL));
        steps += burst;
        if (burst > 1) elapsed = now() - start;
    }
    printf("%.3f\n", elapsed / (double)steps * 1e6);

    pente_trainer_free(trainer);
    pente_sgd_free(sgd);
    pente_mse_free(mse);
    pente_layer_free(layer);
    free(x_data);
    free(y_data);
    return 0;
}
