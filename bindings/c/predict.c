/* Predicts with a model that `pente train` has written, a line for each row: predict DATA.csv MODEL.safetensors
 * The model's features are the data's first columns, in their order. cc predict.c table.c -lpente -lm */
#include <pente.h>
#include <stdio.h>
#include <stdlib.h>
#include "table.h"

int main(int argc, char **argv) {
    numbers n;
    if (argc != 3 || numbers_read(&n, argv[1]) != 0) return 1;

    pente_layer *layer = NULL;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_status status = pente_layer_load(argv[2], &layer);
    if (status == PENTE_OK) status = pente_layer_get_info(layer, &info);

    double *y = (double *)calloc((size_t)n.rows, (size_t)(info.out_features + 1) * sizeof(double));
    pente_matrix x = {n.values, n.rows, info.in_features, n.columns, PENTE_FLOAT64};
    pente_matrix prediction = pente_float64_matrix(y, n.rows, info.out_features);
    if (status == PENTE_OK) status = pente_layer_forward(layer, NULL, &x, &prediction);
    if (status != PENTE_OK) fprintf(stderr, "%s: %s\n", argv[0], pente_last_error());

    for (int64_t i = 0; status == PENTE_OK && i < n.rows * info.out_features; i++)
        printf("%.17g%c", y[i], (i + 1) % info.out_features == 0 ? '\n' : ',');

    free(y);
    pente_layer_free(layer);
    numbers_free(&n);
    return status == PENTE_OK && fflush(stdout) == 0 ? 0 : 1;
}
