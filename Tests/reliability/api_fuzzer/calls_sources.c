/* Calls that make sources of data, or read them. */
#include "fuzzer.h"

#include <stdlib.h>
#include <string.h>

/* On another thread, at another time: the bytes have no part in it. */
static pente_status read_rows(int64_t first, const pente_matrix *x, const pente_matrix *y,
                              const pente_matrix *sample_weight, int64_t *count, void *user_data) {
    int64_t rows = (int64_t)(intptr_t)user_data, few = x->rows < 7 ? x->rows : 7;
    if (rows >= 100) return first >= 20 ? PENTE_USER + 7 : PENTE_INVALID_STATE; /* one that fails */
    *count = first >= rows ? 0 : rows - first < few ? rows - first : few;
    for (int64_t i = 0; i < *count; i++) {
        for (int64_t j = 0; j < x->columns; j++) put_number(x, i, j, (double)((first + i + j) % 5) / 4);
        for (int64_t j = 0; j < y->columns; j++) put_number(y, i, j, (double)((first + i + j) % 3) / 2);
        if (sample_weight) put_number(sample_weight, i, 0, (double)(i % 2));
    }
    return PENTE_OK;
}

static void add_source(void *handle, pente_dtype dtype, int64_t inputs, int64_t outputs) {
    object like = {.info = {.dtype = dtype, .in_features = inputs, .out_features = outputs}};
    add_object(SOURCE, handle, &like);
}

static int64_t columns_of(int64_t features) {
    return features > 0 ? features : 3;
}

void call_pente_source_new(void) {
    static const int64_t wrong[] = {0, -1, -2, INT64_MIN, INT64_MAX};
    const object *o = choose(TRAINER);
    pente_source_options options = PENTE_SOURCE_OPTIONS_INIT;
    int64_t rows = 1 + below(60);
    options.dtype = o->info.dtype;
    options.inputs = columns_of(o->info.in_features);
    options.outputs = o->info.out_features > 0 ? o->info.out_features : options.inputs;
    if (options.inputs > 10000 || options.outputs > 10000) return; /* no window of them may have room */
    options.has_sample_weight = one_in(3);
    options.rows = one_in(2) ? rows : -1;
    options.read = read_rows;
    options.user_data = (void *)(intptr_t)(one_in(8) ? 100 : rows);
    if (hostile()) {
        switch (below(5)) {
        case 0: options.dtype = below(5); break;
        case 1: options.inputs = wrong[below(5)]; break;
        case 2: options.outputs = wrong[below(5)]; break;
        case 3: options.rows = wrong[below(4)]; break; /* the last would be right, and too many to shuffle */
        default: options.read = NULL; break;
        }
    }
    const pente_source_options *given = options_argument(&options, sizeof options);
    pente_source **source = HANDLE_OUTPUT();
    if (CALL(pente_source_new(given, source)) == PENTE_OK)
        add_source(*source, options.dtype, options.inputs, options.outputs);
}

void call_pente_npy_source_new(void) {
    const object *o = choose(TRAINER);
    int64_t rows = 1 + below(60), inputs = columns_of(o->info.in_features);
    int64_t outputs = o->info.out_features > 0 ? o->info.out_features : inputs;
    if (inputs > 200 || outputs > 200) return;
    const char **x = carve(2 * sizeof *x), **y = carve(sizeof *y);
    x[0] = x[1] = npy_argument(o->info.dtype, rows, inputs);
    y[0] = hostile() ? path_argument() : npy_argument(o->info.dtype, rows, outputs);
    pente_source **source = HANDLE_OUTPUT();
    int64_t x_count = hostile() ? below(4) - 1 : 1, y_count = hostile() ? below(3) - 1 : 1;
    int64_t weight_count = hostile() ? below(3) - 1 : 0;
    if (x_count > 2) x_count = 2;
    if (CALL(pente_npy_source_new(x, x_count, y, y_count, NULL, weight_count, source)) == PENTE_OK)
        free_handle(SOURCE, *source); /* its files may be others by the next call */
}

void call_pente_source_get_info(void) {
    void *source = handle_of(choose(SOURCE), SOURCE, false);
    pente_source_info info = PENTE_SOURCE_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_source_get_info(source, given));
}

void call_pente_checkpoint_get_info(void) {
    char *path = path_argument();
    pente_checkpoint_info info = PENTE_CHECKPOINT_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_checkpoint_get_info(path, given));
}

static bool is_alike(const object *source, const object *trainer) {
    int64_t inputs = columns_of(trainer->info.in_features);
    int64_t outputs = trainer->info.out_features > 0 ? trainer->info.out_features : source->info.in_features;
    return source->info.dtype == trainer->info.dtype &&
           (source->info.in_features == inputs || trainer->info.in_features == 0) && source->info.out_features == outputs;
}

bool fits_some_trainer(const object *source, const object *to) {
    (void)to;
    for (int i = 0; i < MOST_OBJECTS; i++)
        if (objects[TRAINER][i].handle && is_alike(source, &objects[TRAINER][i])) return true;
    return false;
}

void call_pente_trainer_fit_source(void) {
    const object *t = choose(TRAINER);
    const object *s = one_in(8) ? choose(SOURCE) : choose_where(SOURCE, is_alike, t);
    void *trainer = handle_of(t, TRAINER, false), *source = handle_of(s, SOURCE, false);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 1 + below(3);
    options.batch_size = 1 + below(20);
    options.shuffle = one_in(2);
    options.shuffle_window = hostile() ? -1 : below(40);
    const pente_fit_options *given = options_argument(&options, sizeof options);
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    pente_fit_report *report_given = one_in(8) ? NULL : report_argument(&report, sizeof report);
    (void)CALL(pente_trainer_fit_source(trainer, source, given, report_given));
}
