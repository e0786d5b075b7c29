/* Trains on files that are larger than the memory there is: big DIRECTORY MEGABYTES LIMIT
 *
 * The process may take LIMIT megabytes of memory of its own (RLIMIT_DATA: what is not a file's), of which it says how much it
 * had at most; in order and shuffled. The files hold numbers, no holes. */
#define _GNU_SOURCE
#include <pente.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { INPUTS = 1024, OUTPUTS = 4, ROWS = 256 };

static void require(int is_right, const char *what) {
    if (is_right) return;
    fprintf(stderr, "big: %s: %s\n", what, pente_last_error());
    exit(1);
}

static void write_npy(const char *path, long rows, long columns) {
    static float block[ROWS * INPUTS];
    char header[129], text[128];
    FILE *file = fopen(path, "wb");
    require(file != NULL, path);
    snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%ld, %ld), }", rows, columns);
    snprintf(header, sizeof header, "%-117s\n", text);
    require(fwrite("\x93NUMPY\1\0\x76\0", 10, 1, file) == 1 && fwrite(header, 118, 1, file) == 1, path);
    for (long row = 0; row < rows; row += ROWS) {
        size_t count = (size_t)((rows - row < ROWS ? rows - row : ROWS) * columns);
        for (size_t i = 0; i < count; i++) block[i] = (float)((row + (long)i) * 2654435761 % 1000) / 1000 - 0.5f;
        require(fwrite(block, sizeof *block, count, file) == count, path);
    }
    require(fclose(file) == 0, path);
}

static long anonymous;

/* Looks at what the process has now, in kB. */
static void look(const pente_progress *progress, void *user_data) {
    char line[200];
    long now = 0;
    FILE *status = fopen("/proc/self/status", "r");
    (void)progress, (void)user_data;
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "RssAnon: %ld", &now) == 1) break;
    if (status) fclose(status);
    if (now > anonymous) anonymous = now;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    char x_path[500], y_path[500];
    long rows = atol(argv[2]) * 1000000 / (4 * (INPUTS + OUTPUTS)), limit = atol(argv[3]) << 20;
    snprintf(x_path, sizeof x_path, "%s/big-x.npy", argv[1]);
    snprintf(y_path, sizeof y_path, "%s/big-y.npy", argv[1]);
    write_npy(x_path, rows, INPUTS);
    write_npy(y_path, rows, OUTPUTS);
    const struct rlimit data = {(rlim_t)limit, (rlim_t)limit};
    require(setrlimit(RLIMIT_DATA, &data) == 0, "setrlimit");
    void *all = malloc((size_t)rows * INPUTS * sizeof(float));
    require(all == NULL, "the limit limits nothing");

    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_source *source;
    const char *x = x_path, *y = y_path;
    require(!pente_linear_new(INPUTS, OUTPUTS, NULL, &layer) && !pente_mse_new(NULL, &mse) &&
                !pente_sgd_new(&layer, 1, NULL, &sgd) && !pente_trainer_new(layer, mse, sgd, &trainer) &&
                !pente_npy_source_new(&x, 1, &y, 1, NULL, 0, &source),
            "setting up");
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
        double loss;
        anonymous = 0;
        options.batch_size = ROWS;
        options.shuffle = shuffle;
        options.on_progress = look;
        options.training_losses = &loss;
        require(!pente_trainer_fit_source(trainer, source, &options, NULL), "fit");
        look(NULL, NULL);
        printf("big: %s MB of file %s: %ld kB of memory at most, loss %.6f\n", argv[2], shuffle ? "shuffled" : "in order",
               anonymous, loss);
        require(anonymous << 10 <= limit && loss > 0 && loss < 10, "too much memory, or no loss");
    }
    unlink(x_path);
    unlink(y_path);
    return 0;
}
