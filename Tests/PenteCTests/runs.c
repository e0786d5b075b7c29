#include "runs.h"

#include "layers.h"
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Hashes: CRC-32, as zlib's ---- */

static uint32_t crc_bytes(uint32_t crc, const void *data, size_t size) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const unsigned char *bytes = data;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static uint32_t crc_number(uint32_t crc, double number) { return crc_bytes(crc, &number, sizeof number); }

/* Of a matrix without gaps. */
static uint32_t crc_matrix(uint32_t crc, const pente_matrix *m) {
    return crc_bytes(crc, m->data, (size_t)(m->rows * m->columns) * element_size(m->dtype));
}

static uint32_t crc_layer(uint32_t crc, const pente_layer *layer) {
    snapshot s = snapshot_new(layer);
    for (int64_t i = 0; i < s.count; i++) crc = crc_matrix(crc_matrix(crc, &s.parameters[i]), &s.gradients[i]);
    snapshot_free(&s);
    return crc;
}

/* ---- What a run is made of ---- */

enum { X = 1, Y, SHIFT }; /* the seeds of numbers */

static pente_matrix numbers(pente_dtype dtype, int64_t rows, int64_t columns, uint64_t seed, double scale) {
    pente_matrix m = matrix_new(dtype, rows, columns, columns);
    for (int64_t k = 0; k < rows * columns; k++) {
        uint64_t z = (seed << 32 | (uint64_t)k) * 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        z ^= z >> 31;
        put(&m, k / columns, k % columns, ((double)(z >> 11) * 0x1p-52 - 1) * scale);
    }
    return m;
}

/* y = (x + a)^2, where a is a vector; each operation rounds once. */
static pente_status shift_forward(const pente_matrix *a, const pente_matrix *x, const pente_matrix *y, void *user_data) {
    (void)user_data;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) {
            put(y, i, j, get(x, i, j) + get(a, 0, j));
            put(y, i, j, get(y, i, j) * get(y, i, j));
        }
    }
    return PENTE_OK;
}

static pente_status shift_backward(const pente_matrix *a, const pente_matrix *x, const pente_matrix *y,
                                   const pente_matrix *grad_output, const pente_matrix *grad_input,
                                   const pente_matrix *gradients, void *user_data) {
    (void)y, (void)user_data;
    for (int64_t i = 0; i < x->rows; i++) {
        for (int64_t j = 0; j < x->columns; j++) {
            put(grad_input, i, j, get(x, i, j) + get(a, 0, j));
            put(grad_input, i, j, 2 * get(grad_input, i, j) * get(grad_output, i, j));
            put(gradients, 0, j, get(gradients, 0, j) + get(grad_input, i, j));
        }
    }
    return PENTE_OK;
}

static pente_layer *shift_new(pente_dtype dtype, int64_t width) {
    pente_custom_parameter a = {"a", numbers(dtype, 1, width, SHIFT, 1), 1};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = dtype;
    options.in_features = options.out_features = width;
    options.parameters = &a;
    options.parameter_count = 1;
    options.forward = shift_forward;
    options.backward = shift_backward;
    pente_layer *layer = NULL;
    OK(pente_custom_new(&options, &layer));
    matrix_free(&a.value);
    return layer;
}

/* The layer that a word stands for; its seed is its place. */
static pente_layer *layer_of(const char *word, pente_dtype dtype, int64_t *width, int place) {
    static const char *const activations[] = {"relu", "leaky_relu", "tanh", "sigmoid", "softplus"};
    for (size_t i = 0; i < COUNT(activations); i++) {
        if (!strcmp(word, activations[i])) return activation_new(dtype, PENTE_RELU + (pente_activation)i);
    }
    if (!strcmp(word, "shift")) return shift_new(dtype, *width);
    pente_layer *layer = NULL;
    if (!strcmp(word, "scaler")) {
        OK(pente_scaler_new(*width, dtype, &layer));
        return layer;
    }
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = dtype;
    options.seed = (uint64_t)place;
    options.bias = !strchr(word, 'w');
    int64_t outputs = atoi(word);
    OK(pente_linear_new(*width, outputs, &options, &layer));
    *width = outputs;
    return layer;
}

/* A run under way: without a trainer it goes by hand. */
typedef struct work {
    const run *run;
    pente_layer *layer;
    pente_context *context;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_matrix x, y, weight;
} work;

static pente_matrix new_like(const pente_matrix *m) { return matrix_new(m->dtype, m->rows, m->columns, m->columns); }

/* By hand, the last two layers of three or more are a chain within the chain. */
static work work_new(const run *r, bool by_hand) {
    work w = {.run = r};
    char words[sizeof r->layers];
    int64_t width = atoi(strcpy(words, r->layers));
    w.x = numbers(r->dtype, r->rows, width, X, r->scale);
    pente_layer *layers[10];
    size_t count = 0;
    strtok(words, ":");
    for (char *word = strtok(NULL, ":"); word; word = strtok(NULL, ":"), count++) {
        layers[count] = layer_of(word, r->dtype, &width, (int)count);
        if (!strcmp(word, "scaler")) OK(pente_scaler_fit(layers[count], &w.x));
    }
    if (by_hand && count > 2) {
        layers[count - 2] = chain_taking(layers + count - 2, 2);
        count--;
    }
    w.layer = count == 1 ? layers[0] : chain_taking(layers, count);
    w.y = numbers(r->dtype, r->rows, width, Y, 1);
    w.weight = matrix_new(r->dtype, r->rows, 1, 1);
    for (int64_t i = 0; i < r->rows; i++) put(&w.weight, i, 0, (double)(i % 5) / 2);
    w.mse = mse_new(r->reduction);
    OK(pente_context_new(w.layer, &w.context));
    if (r->reduction == PENTE_NONE) return w;
    OK(pente_sgd_new(&w.layer, 1, &r->sgd, &w.sgd));
    if (!by_hand) {
        w.trainer = trainer_of(w.layer, w.mse, w.sgd);
        OK(pente_trainer_set_max_gradient_norm(w.trainer, r->clip));
    }
    return w;
}

static void work_free(work *w) {
    OK(pente_trainer_free(w->trainer));
    OK(pente_sgd_free(w->sgd));
    OK(pente_mse_free(w->mse));
    OK(pente_context_free(w->context));
    OK(pente_layer_free(w->layer));
    matrix_free(&w->x);
    matrix_free(&w->y);
    matrix_free(&w->weight);
}

static const pente_matrix *weight_of(const work *w, const pente_matrix *weight) {
    return w->run->is_weighted ? weight : NULL;
}

/* ---- The parts of a run ---- */

static uint32_t pass(work *w) {
    const pente_matrix *weight = weight_of(w, &w->weight);
    pente_matrix prediction = new_like(&w->y), grad_input = new_like(&w->x), squares = new_like(&w->y);
    pente_matrix grad_prediction = new_like(&w->y);
    OK(pente_layer_forward(w->layer, w->context, &w->x, &prediction));
    OK(pente_layer_backward(w->layer, w->context, &w->y, &grad_input));
    OK(pente_mse_backward(w->mse, &prediction, &w->y, weight, NULL, &grad_prediction, NULL));
    uint32_t crc = crc_matrix(crc_matrix(crc_layer(0, w->layer), &prediction), &grad_input);
    crc = crc_matrix(crc, &grad_prediction);
    if (w->run->reduction == PENTE_NONE) {
        OK(pente_mse_forward_elements(w->mse, &prediction, &w->y, weight, &squares));
        crc = crc_matrix(crc, &squares);
    } else {
        double loss = 0;
        OK(pente_mse_forward(w->mse, &prediction, &w->y, weight, &loss));
        crc = crc_number(crc, loss);
    }
    matrix_free(&prediction);
    matrix_free(&grad_input);
    matrix_free(&squares);
    matrix_free(&grad_prediction);
    return crc;
}

/* A step for some rows, and its loss. */
static double step(work *w, const pente_matrix *x, const pente_matrix *y, const pente_matrix *all_weights) {
    const pente_matrix *weight = weight_of(w, all_weights);
    double loss = 0;
    if (w->trainer) {
        OK(pente_trainer_step(w->trainer, x, y, weight, &loss));
        return loss;
    }
    pente_matrix prediction = new_like(y), grad = new_like(y);
    OK(pente_sgd_zero_gradients(w->sgd));
    OK(pente_layer_forward(w->layer, w->context, x, &prediction));
    OK(pente_mse_forward(w->mse, &prediction, y, weight, &loss));
    OK(pente_mse_backward(w->mse, &prediction, y, weight, NULL, &grad, NULL));
    OK(pente_layer_backward(w->layer, w->context, &grad, NULL));
    if (w->run->clip > 0) OK(pente_sgd_clip_gradients(w->sgd, w->run->clip, NULL));
    OK(pente_sgd_step(w->sgd));
    matrix_free(&prediction);
    matrix_free(&grad);
    return loss;
}

static uint32_t steps(work *w) {
    uint32_t crc = 0;
    for (int i = 0; i < 3; i++) crc = crc_number(crc, step(w, &w->x, &w->y, &w->weight));
    return crc_layer(crc, w->layer);
}

static pente_matrix gather(const pente_matrix *m, const int64_t *rows, int64_t count) {
    pente_matrix some = matrix_new(m->dtype, count, m->columns, m->columns);
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < m->columns; j++) put(&some, i, j, get(m, rows[i], j));
    }
    return some;
}

/* An epoch of batches, and its loss. */
static double epoch_by_hand(work *w, const int64_t *order) {
    const run *r = w->run;
    bool is_mean = r->reduction == PENTE_MEAN || r->reduction == PENTE_BATCH_MEAN;
    double sum = 0, weights = 0;
    for (int64_t first = 0; first < r->rows; first += r->batch) {
        int64_t count = r->rows - first < r->batch ? r->rows - first : r->batch;
        pente_matrix x = gather(&w->x, order + first, count), y = gather(&w->y, order + first, count);
        pente_matrix weight = gather(&w->weight, order + first, count);
        double total = 0;
        for (int64_t i = 0; i < count; i++) total += r->is_weighted ? get(&weight, i, 0) : 1;
        if (total > 0) {
            double loss = step(w, &x, &y, &weight);
            sum += is_mean ? loss * total : loss;
            weights += total;
        }
        matrix_free(&x);
        matrix_free(&y);
        matrix_free(&weight);
    }
    return is_mean ? sum / weights : sum;
}

enum { EPOCHS = 2, SHUFFLE = 7 };

static void fit_by_hand(work *w, double *training_losses, double *validation_losses) {
    int64_t *order = malloc((size_t)w->run->rows * sizeof *order);
    pente_matrix prediction = new_like(&w->y);
    mt19937 generator;
    if (!order) abort();
    mt19937_seed(&generator, SHUFFLE);
    for (int64_t i = 0; i < w->run->rows; i++) order[i] = i;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        if (w->run->shuffle) random_order(&generator, order, w->run->rows);
        training_losses[epoch] = epoch_by_hand(w, order);
        OK(pente_layer_forward(w->layer, NULL, &w->x, &prediction));
        OK(pente_mse_forward(w->mse, &prediction, &w->y, NULL, &validation_losses[epoch]));
    }
    matrix_free(&prediction);
    free(order);
}

static uint32_t fit(work *w) {
    double losses[2 * EPOCHS];
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = EPOCHS;
    options.batch_size = w->run->batch;
    options.shuffle = w->run->shuffle;
    options.seed = SHUFFLE;
    options.sample_weight = weight_of(w, &w->weight);
    options.validation_x = &w->x;
    options.validation_y = &w->y;
    options.training_losses = losses;
    options.validation_losses = losses + EPOCHS;
    if (w->trainer) {
        OK(pente_trainer_fit(w->trainer, &w->x, &w->y, &options, NULL));
    } else {
        fit_by_hand(w, losses, losses + EPOCHS);
    }
    return crc_layer(crc_bytes(0, losses, sizeof losses), w->layer);
}

void hash_run(const run *r, bool by_hand, char hashes[PARTS][9]) {
    static uint32_t (*const parts[PARTS])(work *) = {pass, steps, fit};
    work w = work_new(r, by_hand);
    for (int part = 0; part < PARTS; part++) {
        if (part == PASS || w.sgd) {
            snprintf(hashes[part], 9, "%08x", (unsigned)parts[part](&w));
        } else {
            strcpy(hashes[part], "-");
        }
    }
    work_free(&w);
}

/* ---- Reading the table ---- */

bool read_run(const char *line, run *r) {
    static const char *const reductions[] = {"mean", "sum", "none", "batch_mean", "output_mean"};
    char dtype[10], reduction[20];
    int end = 0;
    *r = (run){.sgd = PENTE_SGD_OPTIONS_INIT};
    if (sscanf(line, "%9s %49s %d %lf %19s %d %lf %lf %lf %lf %d %d %lf %d %d%n %8s %8s %8s", dtype, r->layers, &r->rows,
               &r->scale, reduction, &r->is_weighted, &r->sgd.lr, &r->sgd.momentum, &r->sgd.dampening,
               &r->sgd.weight_decay, &r->sgd.nesterov, &r->sgd.maximize, &r->clip, &r->batch, &r->shuffle, &end,
               r->hashes[PASS], r->hashes[STEPS], r->hashes[FIT]) < 15) {
        return false;
    }
    snprintf(r->description, sizeof r->description, "%.*s", end, line);
    r->dtype = strcmp(dtype, "float64") ? PENTE_FLOAT32 : PENTE_FLOAT64;
    for (size_t i = 0; i < COUNT(reductions); i++) {
        if (!strcmp(reduction, reductions[i])) r->reduction = PENTE_MEAN + (pente_reduction)i;
    }
    return true;
}

int64_t size_of_run(const run *r) {
    char *p = NULL;
    int64_t width = strtol(r->layers, &p, 10), size = 0;
    while (*p == ':') {
        int64_t outputs = strtol(p + 1, &p, 10);
        p += strcspn(p, ":");
        if (outputs == 0) continue;
        size += width * outputs;
        width = outputs;
    }
    return r->rows * size;
}
