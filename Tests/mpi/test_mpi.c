/* One scenario under mpirun: test_mpi SCENARIO [FILE]. Ranks hold uneven shards of 400 rows; each computes for itself what one
 * process makes of all of them, and compares. check.sh runs the scenarios. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pente_mpi.h"

enum { ROWS = 400, INPUTS = 5, OUTPUTS = 3 };

static double x[ROWS * INPUTS], y[ROWS * OUTPUTS], weight[ROWS];
static int rank, size, die_at, stop_at;

#define EXPECT(condition)                                                                                     \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            fprintf(stderr, "rank %d: line %d: %s (%s; %s)\n", rank, __LINE__, #condition, pente_last_error(), \
                    pente_mpi_last_error());                                                                  \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                                     \
        }                                                                                                     \
    } while (0)
#define OK(call) EXPECT((call) == PENTE_OK)

typedef struct model {
    pente_layer *layer;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} model;

static model make_model(int inputs, uint64_t seed) {
    model m;
    pente_linear_options linear = PENTE_LINEAR_OPTIONS_INIT;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    linear.dtype = PENTE_FLOAT64;
    linear.seed = seed;
    options.lr = 0.05;
    options.momentum = 0.9;
    OK(pente_linear_new(inputs, OUTPUTS, &linear, &m.layer));
    OK(pente_mse_new(NULL, &m.mse));
    OK(pente_sgd_new(&m.layer, 1, &options, &m.sgd));
    OK(pente_trainer_new(m.layer, m.mse, m.sgd, &m.trainer));
    return m;
}

static void free_model(model m) {
    OK(pente_trainer_free(m.trainer));
    OK(pente_sgd_free(m.sgd));
    OK(pente_mse_free(m.mse));
    OK(pente_layer_free(m.layer));
}

static void make_data(void) {
    uint64_t state = 1;
    for (int i = 0; i < ROWS * (INPUTS + OUTPUTS); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        double number = (double)(state >> 11) / (double)(1ull << 53) - 0.5;
        if (i < ROWS * INPUTS) x[i] = number;
        else y[i - ROWS * INPUTS] = number;
    }
    for (int i = 0; i < ROWS; i++) weight[i] = i % 4;
}

/* Of a rank: rank 1 of more than two has none. */
static int first_row(int r) {
    if (r == size) return ROWS;
    if (size > 2) return r == 0 ? 0 : r <= 2 ? 101 : 101 + (ROWS - 101) * (r - 2) / (size - 2);
    return r == 0 ? 0 : 101;
}

static int row_count(int r) {
    return first_row(r + 1) - first_row(r);
}

typedef struct shard {
    pente_matrix x, y, weight;
    pente_matrix *xs, *ys, *weights; /* NULL without rows */
} shard;

static void take_shard(shard *s, int first, int count) {
    s->x = pente_float64_matrix(x + first * INPUTS, count, INPUTS);
    s->y = pente_float64_matrix(y + first * OUTPUTS, count, OUTPUTS);
    s->weight = pente_float64_matrix(weight + first, count, 1);
    s->xs = count > 0 ? &s->x : NULL;
    s->ys = count > 0 ? &s->y : NULL;
    s->weights = count > 0 ? &s->weight : NULL;
}

static pente_matrix parameter(model m) {
    pente_matrix view;
    OK(pente_layer_parameter_view(m.layer, "weight", &view));
    return view;
}

static void expect_close(model a, model b, double tolerance) {
    const double *p = parameter(a).data, *q = parameter(b).data;
    double largest = 0, difference = 0;
    for (int i = 0; i < INPUTS * OUTPUTS; i++) {
        largest = fmax(largest, fabs(q[i]));
        difference = fmax(difference, fabs(p[i] - q[i]));
    }
    EXPECT(difference <= tolerance * largest);
}

static void print_bits(model m) {
    const unsigned char *bytes = parameter(m).data;
    if (rank == 0)
        for (int i = 0; i < INPUTS * OUTPUTS * 8; i++) printf("%02x%s", bytes[i], i % 40 == 39 ? "\n" : "");
}

/* Steps of all rows. */
static void follow(int in_order) {
    model own = make_model(INPUTS, (uint64_t)rank), all = make_model(INPUTS, 0);
    pente_mpi *mpi;
    shard mine, whole;
    take_shard(&mine, first_row(rank), row_count(rank));
    take_shard(&whole, 0, ROWS);
    OK(pente_mpi_new(MPI_COMM_WORLD, own.trainer, own.layer, own.sgd, &mpi));
    OK(pente_mpi_set_in_order(mpi, in_order));
    for (int step = 0; step < 50; step++) {
        double loss, expected;
        OK(pente_mpi_step(mpi, mine.xs, mine.ys, step % 2 ? mine.weights : NULL, &loss));
        OK(pente_trainer_step(all.trainer, whole.xs, whole.ys, step % 2 ? whole.weights : NULL, &expected));
        EXPECT(fabs(loss - expected) <= 1e-12 * expected);
        OK(pente_mpi_verify(mpi));
    }
    expect_close(own, all, 1e-12);
    print_bits(own);
    pente_mpi_free(mpi);
    free_model(own);
    free_model(all);
}

/* Epochs of batches, of which some ranks have fewer than others. */
static void fit(void) {
    enum { BATCH = 16, EPOCHS = 4 };
    static double batch_x[ROWS * INPUTS], batch_y[ROWS * OUTPUTS];
    model own = make_model(INPUTS, (uint64_t)rank), all = make_model(INPUTS, 0);
    pente_mpi *mpi;
    shard mine;
    pente_mpi_fit_options options = PENTE_MPI_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    double losses[EPOCHS];
    take_shard(&mine, first_row(rank), row_count(rank));
    OK(pente_mpi_new(MPI_COMM_WORLD, own.trainer, own.layer, own.sgd, &mpi));
    options.fit.epochs = EPOCHS;
    options.fit.batch_size = BATCH;
    options.fit.shuffle = 0;
    options.fit.training_losses = losses;
    OK(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, &report));
    EXPECT(report.epochs == EPOCHS && report.stop_reason == PENTE_STOP_EPOCHS);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        double total = 0;
        for (int step = 0, count = 1; count > 0; step++) {
            count = 0;
            for (int r = 0; r < size; r++)
                for (int i = step * BATCH; i < (step + 1) * BATCH && i < row_count(r); i++, count++) {
                    memcpy(batch_x + count * INPUTS, x + (first_row(r) + i) * INPUTS, INPUTS * sizeof *x);
                    memcpy(batch_y + count * OUTPUTS, y + (first_row(r) + i) * OUTPUTS, OUTPUTS * sizeof *y);
                }
            pente_matrix bx = pente_float64_matrix(batch_x, count, INPUTS),
                         by = pente_float64_matrix(batch_y, count, OUTPUTS);
            double loss = 0;
            if (count > 0) OK(pente_trainer_step(all.trainer, &bx, &by, NULL, &loss));
            total += loss * count;
        }
        EXPECT(fabs(losses[epoch] - total / ROWS) <= 1e-12 * losses[epoch]);
    }
    expect_close(own, all, 1e-12);
    /* Shuffled, for the bits of another run. */
    options.fit.shuffle = 1;
    OK(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL));
    OK(pente_mpi_verify(mpi));
    print_bits(own);
    pente_mpi_free(mpi);
    free_model(own);
    free_model(all);
}

static void expect_failure(pente_status status, pente_status expected, const char *words, int culprit) {
    char who[32];
    snprintf(who, sizeof who, "rank %d: ", culprit);
    EXPECT(status == expected);
    EXPECT(strncmp(pente_mpi_last_error(), who, strlen(who)) == 0 && strstr(pente_mpi_last_error(), words) != NULL);
}

static int32_t act_on_epoch(const pente_epoch *epoch, void *user_data) {
    (void)user_data;
    if (rank == size - 1 && epoch->epoch == die_at) raise(SIGKILL);
    return rank == size - 1 && epoch->epoch == stop_at;
}

/* What goes wrong on the last rank, goes wrong on all; and they can go on. */
static void errors(void) {
    int last = size - 1;
    model other = make_model(rank == last ? INPUTS - 1 : INPUTS, 0), own = make_model(INPUTS, 0);
    pente_mpi *mpi = NULL;
    shard mine;
    double loss, bad = x[first_row(last) * INPUTS];
    pente_mpi_fit_options options = PENTE_MPI_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    take_shard(&mine, first_row(rank), row_count(rank));
    if (size > 1) {
        expect_failure(pente_mpi_new(MPI_COMM_WORLD, other.trainer, other.layer, other.sgd, &mpi), PENTE_MPI_DIFFERENT,
                       "in_features is 4 here, but 5 on rank 0", last);
        EXPECT(mpi == NULL);
    }
    OK(pente_mpi_new(MPI_COMM_WORLD, own.trainer, own.layer, own.sgd, &mpi));

    if (rank == last) mine.x.columns = INPUTS - 1;
    expect_failure(pente_mpi_step(mpi, mine.xs, mine.ys, NULL, &loss), PENTE_SHAPE_MISMATCH, "5 columns", last);
    expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_SHAPE_MISMATCH, "5 columns", last);
    mine.x.columns = INPUTS;

    x[first_row(last) * INPUTS] = NAN;
    expect_failure(pente_mpi_step(mpi, mine.xs, mine.ys, NULL, &loss), PENTE_NOT_FINITE, "nan", last);
    options.fit.epochs = 3;
    expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_NOT_FINITE, "row 0 of x, column 0", last);
    x[first_row(last) * INPUTS] = bad;

    if (size > 1) {
        if (rank == last) options.fit.epochs = 4;
        expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_MPI_DIFFERENT, "epochs is 4 here", last);
        options.fit.epochs = 3;
    }
    options.fit.checkpoint_path = "/no/such/directory/file"; /* rank 0 finds out at the end of an epoch */
    expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_FILE_ERROR, "/no/such", 0);
    options.fit.checkpoint_epochs = 0; /* or of the run */
    expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_FILE_ERROR, "/no/such", 0);
    options.fit.checkpoint_path = NULL;

    options.fit.on_epoch = act_on_epoch;
    for (stop_at = 1; stop_at <= 3; stop_at++) {
        OK(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, &report));
        EXPECT(report.epochs == stop_at || report.epochs == stop_at + 1);
        OK(pente_mpi_verify(mpi));
    }
    stop_at = 0;
    if (size > 1) {
        if (rank == last) ((double *)parameter(own).data)[4] += 1e-9;
        expect_failure(pente_mpi_verify(mpi), PENTE_MPI_DIFFERENT, "hash", last);
        expect_failure(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL), PENTE_MPI_DIFFERENT, "hash", last);
    }
    OK(pente_mpi_broadcast(mpi));
    OK(pente_mpi_verify(mpi));
    OK(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, &report));
    EXPECT(report.epochs == 3);
    pente_mpi_free(mpi);
    free_model(own);
    free_model(other);
}

/* A run of ten epochs, each one step of all rows; killed in epoch `die_at`, it is to be run again, with any number of
 * ranks. */
static void run_or_die(const char *path) {
    model own = make_model(INPUTS, (uint64_t)rank), all = make_model(INPUTS, 0);
    pente_mpi *mpi;
    shard mine, whole;
    pente_mpi_fit_options options = PENTE_MPI_FIT_OPTIONS_INIT;
    take_shard(&mine, first_row(rank), row_count(rank));
    take_shard(&whole, 0, ROWS);
    OK(pente_mpi_new(MPI_COMM_WORLD, own.trainer, own.layer, own.sgd, &mpi));
    options.fit.epochs = 10;
    options.fit.batch_size = ROWS;
    options.fit.shuffle = 0;
    options.fit.on_epoch = act_on_epoch;
    options.fit.checkpoint_path = path;
    options.fit.resume = 1;
    OK(pente_mpi_fit(mpi, mine.xs, mine.ys, NULL, &options, NULL));
    for (int step = 0; step < 10; step++) OK(pente_trainer_step(all.trainer, whole.xs, whole.ys, NULL, NULL));
    expect_close(own, all, 1e-12);
    pente_mpi_free(mpi);
    free_model(own);
    free_model(all);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    make_data();
    const char *scenario = argc > 1 ? argv[1] : "";
    if (strcmp(scenario, "follow") == 0) follow(0);
    else if (strcmp(scenario, "in_order") == 0) follow(1);
    else if (strcmp(scenario, "fit") == 0) fit();
    else if (strcmp(scenario, "errors") == 0) errors();
    else if (strcmp(scenario, "run") == 0 && argc > 2) {
        if (argc > 3) die_at = atoi(argv[3]);
        run_or_die(argv[2]);
    } else EXPECT(!"a scenario");
    MPI_Finalize();
    if (rank == 0) printf("%s with %d ranks: passed\n", scenario, size);
    return 0;
}
