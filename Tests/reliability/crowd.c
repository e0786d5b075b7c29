#define _POSIX_C_SOURCE 200809L
#include "crowd.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 24, MANY = 20000, N = CROWD_COLUMNS };

/* ---- Visitors ---- */

_Thread_local visitor *crowd_visitor;

visitor visitor_new(uint64_t seed) {
    return (visitor){.random = seed * 0x9e3779b97f4a7c15, .large = malloc(MANY * N * sizeof(double))};
}

void visitor_free(visitor *v) { free(v->large); }

int64_t below(visitor *v, int64_t bound) {
    v->random ^= v->random << 13;
    v->random ^= v->random >> 7;
    v->random ^= v->random << 17;
    return (int64_t)((v->random >> 20) % (uint64_t)bound);
}

/* ---- Handles ---- */

typedef enum kind { LAYER, CHAIN, CONTEXT, MSE, SGD, TRAINER, KINDS } kind;
enum { PLACES = 12 };

/* Those of one dtype have even places, those of the other odd ones. */
static void *_Atomic handles[KINDS][PLACES];
static const char *directory;
static pente_matrix x[2], y[2], weights[2];

static pente_status let_go(visitor *v, kind kind, void *handle) {
    switch (kind) {
        case CONTEXT: return CALL(v, 0, pente_context_free, handle);
        case MSE: return CALL(v, 0, pente_mse_free, handle);
        case SGD: return CALL(v, 0, pente_sgd_free, handle);
        case TRAINER: return CALL(v, 0, pente_trainer_free, handle);
        default: return CALL(v, 0, pente_layer_free, handle);
    }
}

static int64_t place_of(visitor *v, pente_dtype dtype) { return 2 * below(v, PLACES / 2) + dtype - 1; }

/* In the place of another, which is freed, whoever uses it. */
static void put_in(visitor *v, kind kind, pente_dtype dtype, void *handle) {
    if (!handle) return;
    void *former = atomic_exchange_explicit(&handles[kind][place_of(v, dtype)], handle, memory_order_relaxed);
    if (former) let_go(v, kind, former);
    v->stale = former;
}

/* One of them; now and then a freed one, one of another kind or dtype, or a number. */
static void *any(visitor *v, kind kind, pente_dtype dtype) {
    switch (below(v, 60)) {
        case 0: return v->stale;
        case 1: return atomic_load_explicit(&handles[below(v, KINDS)][below(v, PLACES)], memory_order_relaxed);
        case 2: return (void *)(uintptr_t)(0xa51ull << 52 | (uint64_t)below(v, 1 << 30) << 4);
        default: return atomic_load_explicit(&handles[kind][place_of(v, dtype)], memory_order_relaxed);
    }
}

static void *any_layer(visitor *v, pente_dtype dtype) { return any(v, below(v, 2) ? LAYER : CHAIN, dtype); }
static pente_dtype any_dtype(visitor *v) { return (pente_dtype)(1 + below(v, 2)); }

/* ---- Matrices ---- */

static pente_matrix first_rows(const pente_matrix *m, int64_t rows) {
    return (pente_matrix){m->data, rows, m->columns, m->row_stride, m->dtype};
}
static pente_matrix examples(visitor *v, pente_dtype dtype) {
    return first_rows(&x[dtype - 1], v->depth == 1 && below(v, 16) == 0 ? MANY : ROWS);
}
static pente_matrix alike(const pente_matrix *m, const pente_matrix *of) { return first_rows(m, of->rows); }

/* ---- Making ---- */

static void make_layer(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_linear_options linear = PENTE_LINEAR_OPTIONS_INIT;
    pente_activation_options activation = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_layer *layer = NULL;
    linear.dtype = activation.dtype = dtype;
    linear.seed = (uint64_t)below(v, 100);
    switch (below(v, 6)) {
        case 0: CALL(v, 0, pente_activation_new, (pente_activation)(1 + below(v, 5)), &activation, &layer); break;
        case 1: CALL(v, 0, pente_scaler_new, N, dtype, &layer); break;
        case 2: layer = own_new(v, dtype); break;
        case 3: CALL(v, ARGUMENT, pente_chain_get_layer, any(v, CHAIN, dtype), below(v, 3), &layer); break;
        default: CALL(v, 0, pente_linear_new, N, N, &linear, &layer); break;
    }
    put_in(v, LAYER, dtype, layer);
}

static void make_chain(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_layer *layers[3] = {any(v, LAYER, dtype), any(v, LAYER, dtype), any(v, LAYER, dtype)}, *chain = NULL;
    CALL(v, ARGUMENT | SHAPE | DTYPE, pente_chain_new, layers, 1 + below(v, 3), &chain);
    put_in(v, CHAIN, dtype, chain);
}

static void make_context(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_context *context = NULL;
    CALL(v, 0, pente_context_new, any_layer(v, dtype), &context);
    put_in(v, CONTEXT, dtype, context);
}

static void make_mse(visitor *v) {
    pente_mse_options options = PENTE_MSE_OPTIONS_INIT;
    pente_mse *mse = NULL;
    options.reduction = (pente_reduction)(1 + below(v, 5));
    CALL(v, 0, pente_mse_new, &options, &mse);
    put_in(v, MSE, any_dtype(v), mse);
}

static pente_sgd_options any_options(visitor *v) {
    return options_of(1e-3, (double)below(v, 3) / 4, 0, (double)below(v, 2) / 100, 0, (int)below(v, 2));
}

/* With a trainer, so that some fit together. */
static void make_sgd(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_layer *layers[2] = {any_layer(v, dtype), any_layer(v, dtype)};
    pente_sgd_options options = any_options(v);
    pente_sgd *sgd = NULL;
    pente_trainer *trainer = NULL;
    if (CALL(v, ARGUMENT | DTYPE, pente_sgd_new, layers, 1 + below(v, 2), &options, &sgd)) return;
    CALL(v, ARGUMENT, pente_trainer_new, layers[0], any(v, MSE, any_dtype(v)), sgd, &trainer);
    put_in(v, SGD, dtype, sgd);
    put_in(v, TRAINER, dtype, trainer);
}

/* Its place goes on to name it. */
static void let_one_go(visitor *v) {
    kind kind = (enum kind)below(v, KINDS);
    let_go(v, kind, any(v, kind, any_dtype(v)));
}

/* ---- Layers ---- */

static const char *any_name(visitor *v) {
    static const char *const some[] = {"weight", "bias", "0.weight", "1.weight", "0.bias", "mean", "a", "0.a"};
    return some[below(v, (int64_t)COUNT(some))];
}

static int64_t rows_of_parameter(const char *name) { return strstr(name, "weight") ? N : 1; }
static int64_t columns_of_parameter(const char *name) { return name[strlen(name) - 1] == 'a' ? 1 : N; }

static void copy_parameter(visitor *v) {
    double numbers[N * N];
    pente_dtype dtype = any_dtype(v);
    pente_layer *layer = any_layer(v, dtype);
    const char *name = any_name(v);
    int64_t columns = columns_of_parameter(name);
    pente_matrix value = {numbers, rows_of_parameter(name), columns, columns, dtype};
    int allowed = ARGUMENT | SHAPE | DTYPE;
    CALL(v, allowed, pente_layer_get_gradient, layer, name, &value);
    if (CALL(v, allowed, pente_layer_get_parameter, layer, name, &value)) return;
    CALL(v, allowed, pente_layer_set_parameter, any_layer(v, dtype), name, &value);
}

static void look_at_layer(visitor *v) {
    pente_layer *layer = any_layer(v, any_dtype(v));
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    pente_parameter_info parameter = PENTE_PARAMETER_INFO_INIT;
    pente_matrix view;
    char name[100];
    int64_t index = below(v, 3);
    if (!CALL(v, 0, pente_layer_get_info, layer, &info) && info.in_features != 0 && info.in_features != N) {
        complain("pente_layer_get_info", "another layer's");
    }
    CALL(v, ARGUMENT, pente_layer_get_parameter_info, layer, index, &parameter);
    CALL(v, ARGUMENT, pente_layer_parameter_name, layer, index, name, sizeof name);
    CALL(v, ARGUMENT, pente_layer_parameter_view, layer, any_name(v), &view);
    CALL(v, ARGUMENT, pente_layer_gradient_view, layer, any_name(v), &view);
}

static void write_layer(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_layer *layer = any_layer(v, dtype);
    switch (below(v, 3)) {
        case 0: CALL(v, 0, pente_layer_zero_gradients, layer); break;
        case 1: CALL(v, 0, pente_layer_reset_parameters, layer, (uint64_t)below(v, 9)); break;
        default: {
            pente_matrix in = examples(v, dtype);
            CALL(v, ARGUMENT | DTYPE | SHAPE, pente_scaler_fit, layer, &in);
        }
    }
}

/* With a context that is mostly another layer's, unless it is made for the occasion. */
static void pass(visitor *v) {
    double small[2][ROWS * N];
    pente_dtype dtype = any_dtype(v);
    pente_layer *layer = any_layer(v, dtype);
    pente_context *context = below(v, 3) ? NULL : any(v, CONTEXT, dtype), *fresh = NULL;
    pente_matrix in = examples(v, dtype), gradient = alike(&y[dtype - 1], &in);
    pente_matrix out = {in.rows == MANY ? v->large : small[0], in.rows, N, N, dtype};
    pente_matrix grad_input = {small[1], in.rows, N, N, dtype};
    if (!context && below(v, 2) && !CALL(v, 0, pente_context_new, layer, &fresh)) context = fresh;
    if (!CALL(v, PASS, pente_layer_forward, layer, context, &in, &out) && context) {
        CALL(v, PASS | STATE, pente_layer_backward, layer, context, &gradient, in.rows == MANY ? NULL : &grad_input);
    }
    put_in(v, CONTEXT, dtype, fresh);
}

static void lose(visitor *v) {
    double loss, squares[ROWS * N];
    pente_dtype dtype = any_dtype(v);
    pente_mse *mse = any(v, MSE, any_dtype(v));
    pente_matrix prediction = first_rows(&x[dtype - 1], ROWS), target = first_rows(&y[dtype - 1], ROWS);
    pente_matrix weight = first_rows(&weights[dtype - 1], ROWS), out = {squares, ROWS, N, N, dtype};
    const pente_matrix *weighted = below(v, 2) ? &weight : NULL;
    /* The elements and the sum are not for the same losses. */
    CALL(v, ARGUMENT, pente_mse_forward, mse, &prediction, &target, weighted, &loss);
    CALL(v, ARGUMENT, pente_mse_forward_elements, mse, &prediction, &target, weighted, &out);
    CALL(v, 0, pente_mse_backward, mse, &prediction, &target, weighted, NULL, &out, NULL);
}

/* ---- Training ---- */

static void look_at_sgd(visitor *v) {
    double numbers[N * N];
    pente_dtype dtype = any_dtype(v);
    pente_sgd *sgd = any(v, SGD, dtype);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    pente_sgd_parameter_info parameter = PENTE_SGD_PARAMETER_INFO_INIT;
    CALL(v, 0, pente_sgd_get_options, sgd, 0, &options);
    CALL(v, 0, pente_sgd_get_info, sgd, &info);
    if (CALL(v, ARGUMENT, pente_sgd_get_parameter_info, sgd, below(v, 2), &parameter)) return;
    pente_matrix value = {numbers, parameter.rows, parameter.columns, parameter.columns, dtype};
    CALL(v, STATE | SHAPE | DTYPE | ARGUMENT, pente_sgd_get_momentum_buffer, sgd, below(v, 2), &value);
}

static void write_sgd(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_sgd *sgd = any(v, SGD, dtype);
    pente_sgd_options options = any_options(v);
    pente_layer *layer = any_layer(v, dtype);
    const pente_matrix *none[2] = {NULL};
    double norm;
    switch (below(v, 7)) {
        case 0: CALL(v, ARGUMENT | DTYPE, pente_sgd_add_group, sgd, &layer, 1, &options); break;
        case 1: CALL(v, 0, pente_sgd_set_options, sgd, 0, &options); break;
        case 2: CALL(v, ARGUMENT, pente_sgd_set_state, sgd, &options, 1, none, 1 + below(v, 2), below(v, 9)); break;
        case 3: CALL(v, 0, pente_sgd_step, sgd); break;
        case 4: CALL(v, 0, pente_sgd_zero_gradients, sgd); break;
        case 5: CALL(v, FINITE, pente_sgd_clip_gradients, sgd, 0.5, &norm); break;
        default: CALL(v, 0, pente_sgd_set_lr, sgd, 0, 1e-3);
    }
}

static int32_t on_epoch(const pente_epoch *epoch, void *user_data) {
    visitor *v = user_data;
    (void)epoch;
    if (v->depth < 3) crowd_act(v);
    if (v->fork_within && !v->is_child && below(v, 10) == 0) v->is_child = v->fork_within();
    return below(v, 20) == 0;
}

static int32_t should_stop(void *user_data) { return below(user_data, 20) == 0; }

static void train(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_trainer *trainer = any(v, TRAINER, dtype);
    pente_matrix in = examples(v, dtype), target = alike(&y[dtype - 1], &in), weight = alike(&weights[dtype - 1], &in);
    const pente_matrix *weighted = below(v, 3) ? NULL : &weight;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    double loss;
    switch (below(v, 8)) {
        case 0: CALL(v, 0, pente_trainer_set_max_gradient_norm, trainer, (double)below(v, 2)); break;
        case 1:
            options.epochs = 3;
            options.batch_size = in.rows / 3;
            options.sample_weight = weighted;
            options.validation_x = &in;
            options.validation_y = &target;
            options.patience = below(v, 3);
            options.on_epoch = on_epoch;
            options.should_stop = should_stop;
            options.user_data = v;
            /* STATE: within a layer's callback it has no on_epoch. */
            CALL(v, PASS | FINITE | STATE, pente_trainer_fit, trainer, &in, &target, &options, NULL);
            break;
        default: CALL(v, PASS | FINITE, pente_trainer_step, trainer, &in, &target, weighted, &loss);
    }
}

static pente_status read_rows(int64_t first, const pente_matrix *in, const pente_matrix *out,
                              const pente_matrix *sample_weight, int64_t *count, void *user_data) {
    (void)sample_weight, (void)user_data;
    *count = first >= 40 ? 0 : in->rows < 40 - first ? in->rows : 40 - first;
    for (int64_t i = 0; i < *count * N; i++) {
        put(in, 0, i, 0.25);
        put(out, 0, i, 0.5);
    }
    return PENTE_OK;
}

/* Sources of one's own, and of files that all share; sums; and where a run is. */
static void stream(visitor *v) {
    pente_dtype dtype = any_dtype(v);
    pente_trainer *trainer = any(v, TRAINER, dtype);
    pente_matrix in = examples(v, dtype), target = alike(&y[dtype - 1], &in);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_source_options described = PENTE_SOURCE_OPTIONS_INIT;
    pente_source_info source_info = PENTE_SOURCE_INFO_INIT;
    pente_checkpoint_info info = PENTE_CHECKPOINT_INFO_INIT;
    pente_source *source = NULL;
    double sums[4096], loss;
    int64_t count = 0;
    char path[1000], run[1000];
    const char *paths[] = {path};
    snprintf(path, sizeof path, "%s/rows-%d.npy", directory, (int)dtype);
    snprintf(run, sizeof run, "%s/run.safetensors", directory);
    switch (below(v, 6)) {
        case 0: CALL(v, PASS | FINITE, pente_trainer_accumulate, trainer, &in, &target, NULL); break;
        case 1:
            if (CALL(v, 0, pente_trainer_get_sum_count, trainer, &count) != PENTE_OK || count > 4096) break;
            if (CALL(v, ARGUMENT, pente_trainer_get_sums, trainer, sums, count) != PENTE_OK) break;
            CALL(v, ARGUMENT, pente_trainer_set_sums, trainer, sums, count);
            break;
        case 2: CALL(v, FINITE | STATE, pente_trainer_apply_sums, trainer, &loss); break;
        case 3: CALL(v, FILES, pente_checkpoint_get_info, run, &info); break;
        default:
            described.dtype = dtype;
            described.inputs = described.outputs = N;
            described.rows = below(v, 2) ? 40 : -1;
            described.read = read_rows;
            if (below(v, 2)) CALL(v, 0, pente_source_new, &described, &source);
            else CALL(v, FILES, pente_npy_source_new, paths, 1, paths, 1, NULL, 0, &source);
            if (!source) break;
            CALL(v, 0, pente_source_get_info, source, &source_info);
            options.epochs = 2;
            options.batch_size = 1 + below(v, 30);
            options.shuffle_window = below(v, 2) ? 16 : 0;
            if (below(v, 20) == 0) options.checkpoint_path = run;
            CALL(v, PASS | FINITE | STATE | FILES, pente_trainer_fit_source, trainer, source, &options, NULL);
            CALL(v, 0, pente_source_free, source);
    }
}

static void check(visitor *v) {
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    pente_dtype dtype = below(v, 8) ? PENTE_FLOAT64 : PENTE_FLOAT32;
    pente_matrix in = first_rows(&x[dtype - 1], 3), target = first_rows(&y[dtype - 1], 3);
    CALL(v, PASS | FINITE, pente_gradcheck, any_layer(v, dtype), any(v, MSE, dtype), &in, &target, NULL, &report);
}

/* ---- The rest ---- */

static void use_files(visitor *v) {
    char path[1000];
    pente_dtype dtype = any_dtype(v);
    pente_layer *layer = any_layer(v, dtype), *loaded = NULL;
    pente_sgd *sgd = below(v, 2) ? NULL : any(v, SGD, dtype);
    snprintf(path, sizeof path, "%s/shared-%d.safetensors", directory, (int)below(v, 3));
    switch (below(v, 4)) {
        case 0: CALL(v, ARGUMENT, pente_layer_save, layer, sgd, path); break;
        case 1:
            CALL(v, ARGUMENT | SHAPE | DTYPE | FILES, pente_layer_load_parameters, layer, sgd, path);
            break;
        default: /* one with a layer of one's own in it cannot be made of a file */
            CALL(v, FILES, pente_layer_load, path, &loaded);
            if (loaded) CALL(v, 0, pente_layer_free, loaded);
    }
}

static void set_threads(visitor *v) {
    CALL(v, 0, pente_threads_set, 1 + below(v, 6));
    if (pente_threads_get() < 1 || pente_threads_get() > 6) complain("pente_threads_get", "another count");
    if (pente_version() != PENTE_VERSION || strcmp(pente_status_name(PENTE_BUSY), "PENTE_BUSY") != 0) {
        complain("pente_version, or pente_status_name", "something else");
    }
}

static const struct {
    void (*act)(visitor *v);
    int weight;
} things[] = {{make_layer, 8},     {make_chain, 4},    {make_context, 3}, {make_mse, 2},    {make_sgd, 6},   {let_one_go, 1},
              {copy_parameter, 8}, {look_at_layer, 6}, {write_layer, 5},  {pass, 12},      {lose, 5},       {look_at_sgd, 5},
              {write_sgd, 12},     {train, 20},        {check, 2},        {use_files, 1},  {set_threads, 1},
              {stream, 5}};

void crowd_act(visitor *v) {
    int sum = 0;
    for (size_t i = 0; i < COUNT(things); i++) sum += things[i].weight;
    int64_t left = below(v, sum);
    size_t thing = 0;
    while ((left -= things[thing].weight) >= 0) thing++;
    crowd_visitor = v;
    v->depth++;
    things[thing].act(v);
    v->depth--;
    atomic_fetch_add_explicit(&v->acts, 1, memory_order_relaxed);
}

void crowd_begin(const char *place) {
    directory = place;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        x[dtype - 1] = matrix_random(dtype, MANY, N, N);
        y[dtype - 1] = matrix_random(dtype, MANY, N, N);
        weights[dtype - 1] = matrix_new(dtype, MANY, 1, 1);
        fill(&weights[dtype - 1], 0.5);
        char path[1000];
        pente_matrix rows = first_rows(&x[dtype - 1], 50);
        snprintf(path, sizeof path, "%s/rows-%d.npy", directory, (int)dtype);
        write_npy(path, &rows);
    }
}

void crowd_end(void) {
    visitor last = {0};
    for (int k = 0; k < KINDS; k++) {
        for (int i = 0; i < PLACES; i++) {
            if (handles[k][i]) let_go(&last, (kind)k, handles[k][i]);
        }
    }
    own_end();
    for (int i = 0; i < 2; i++) {
        matrix_free(&x[i]);
        matrix_free(&y[i]);
        matrix_free(&weights[i]);
    }
}
