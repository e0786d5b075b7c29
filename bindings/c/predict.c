/* Predicts with a model that `python -m pente train` has written, or a save in any language. The first columns of the
 * data go in, as many as the model takes; a line for each row comes out, which reads back to the same bits.
 *
 *     predict DATA.csv MODEL.safetensors
 */
#include <pente.h>

#include <stdio.h>
#include <stdlib.h>

#include "table.h"

/* Returns from the calling function when a call fails; main says why and frees everything. */
#define TRY(call)                                      \
    do {                                               \
        pente_status try_status = (call);              \
        if (try_status != PENTE_OK) return try_status; \
    } while (0)

/* `narrow` has room for the data, and y for the predictions, whatever the model's dtype. */
static pente_status predict(const pente_layer *layer, const pente_layer_info *info, const numbers *n, float *narrow,
                            void *y) {
    int64_t used = n->columns < info->in_features ? n->columns : info->in_features; /* too few are refused */
    pente_matrix x = {n->values, n->rows, used, n->columns, info->dtype};
    pente_matrix prediction = {y, n->rows, info->out_features, info->out_features, info->dtype};
    if (info->dtype == PENTE_FLOAT32) {
        for (int64_t i = 0; i < n->rows * n->columns; i++) narrow[i] = (float)n->values[i];
        x.data = narrow;
    }
    TRY(pente_layer_forward(layer, NULL, &x, &prediction));
    for (int64_t i = 0; i < n->rows * info->out_features; i++) {
        if (info->dtype == PENTE_FLOAT32)
            printf("%.9g", (double)((const float *)y)[i]);
        else
            printf("%.17g", ((const double *)y)[i]);
        putchar((i + 1) % info->out_features == 0 ? '\n' : ',');
    }
    return PENTE_OK;
}

static pente_status load(const char *path, pente_layer **layer, pente_layer_info *info) {
    TRY(pente_layer_load(path, layer));
    return pente_layer_get_info(*layer, info);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s DATA.csv MODEL.safetensors\n", argv[0]);
        return 2;
    }
    numbers n;
    if (numbers_read(&n, argv[1]) != 0) return 1;

    pente_layer *layer = NULL;
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    int result = 1;
    pente_status status = load(argv[2], &layer, &info);
    float *narrow = (float *)malloc((size_t)(n.rows * n.columns) * sizeof(float));
    void *y = calloc((size_t)n.rows, (size_t)(info.out_features + 1) * sizeof(double));
    if (narrow == NULL || y == NULL) {
        perror(argv[0]);
    } else {
        if (status == PENTE_OK) status = predict(layer, &info, &n, narrow, y);
        if (status != PENTE_OK)
            fprintf(stderr, "%s: %s: %s\n", argv[0], pente_status_name(status), pente_last_error());
        else if (fflush(stdout) != 0)
            perror(argv[0]);
        else
            result = 0;
    }
    free(y);
    free(narrow);
    pente_layer_free(layer);
    numbers_free(&n);
    return result;
}
