/* save PATH SEED: writes a layer of that seed, for check_disks.sh. */
#include <pente.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_layer *layer = NULL;
    if (argc != 3) return 2;
    options.seed = strtoull(argv[2], NULL, 10);
    pente_status status = pente_linear_new(300, 70, &options, &layer);
    if (status == PENTE_OK) status = pente_layer_save(layer, NULL, argv[1]);
    if (status != PENTE_OK) fprintf(stderr, "%s\n", pente_last_error());
    pente_layer_free(layer);
    return status == PENTE_OK ? 0 : 1;
}
