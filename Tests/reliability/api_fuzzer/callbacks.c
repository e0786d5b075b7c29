/* Callbacks that fail, and that call Pente. */
#include "fuzzer.h"

#include <math.h>
#include <stdlib.h>

/* Layers of one's own that there are. */
static int live_customs;

/* What the bytes make of a callback: calls of its own, and a status. After a few of a call, none. */
static pente_status misbehave(void) {
    static const pente_status statuses[] = {1, 2, 5, 6, 7, 8, 10, 1000, 1001, INT32_MAX, -1, INT32_MIN, 999, 11};
    if (depth < 0) return 0;
    frame *f = THIS;
    if (f->callbacks++ >= 12) return 0;
    int choice = byte();
    if (choice >= 160 && choice < 224 && depth < DEEPEST) {
        for (int i = choice % 3; i >= 0; i--) run_operation(f->hostility);
    }
    return choice < 208 ? 0 : statuses[choice % (int)COUNT(statuses)];
}

static pente_status fail_with(pente_status status) {
    if (status) THIS->callback_status = status;
    return status;
}

static void check_contiguous(const pente_matrix *m, int64_t rows, int64_t columns) {
    PROMISED(m->data && m->rows == rows && m->columns == columns && m->row_stride == columns,
             "a callback's matrix is not as it should be");
}

static pente_status forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                            void *user_data) {
    const pente_custom_options *options = user_data;
    check_contiguous(x, x->rows, options->in_features ? options->in_features : x->columns);
    check_contiguous(y, x->rows, options->out_features ? options->out_features : x->columns);
    pente_status status = misbehave();
    double factor = options->parameter_count ? number_at(&parameters[0], 0, 0) : 0.5;
    for (int64_t i = 0; i < (status ? y->rows / 2 : y->rows); i++) {
        for (int64_t k = 0; k < y->columns; k++) put_number(y, i, k, factor * number_at(x, i, k % x->columns));
    }
    return fail_with(status);
}

static pente_status backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *user_data) {
    const pente_custom_options *options = user_data;
    check_contiguous(grad_output, y->rows, y->columns);
    check_contiguous(grad_input, x->rows, x->columns);
    for (int64_t i = 0; i < options->parameter_count; i++) {
        check_contiguous(&gradients[i], parameters[i].rows, parameters[i].columns);
        PROMISED(number_at(&gradients[i], 0, 0) == 0, "a callback's gradients are not 0 at first");
        put_number(&gradients[i], 0, 0, number_at(x, 0, 0) * number_at(grad_output, 0, 0));
    }
    pente_status status = misbehave();
    for (int64_t i = 0; i < (status ? x->rows / 2 : x->rows); i++) {
        for (int64_t j = 0; j < x->columns; j++) {
            put_number(grad_input, i, j, number_at(grad_output, i, j % y->columns) / 2);
        }
    }
    return fail_with(status);
}

static void release(void *user_data) {
    live_customs--;
    free(user_data);
    misbehave();
}

pente_custom_options custom_options(pente_dtype dtype, int64_t inputs, int64_t outputs) {
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = dtype;
    options.in_features = inputs;
    options.out_features = outputs;
    options.forward = forward;
    options.backward = backward;
    options.release = release;
    options.user_data = malloc(sizeof options);
    if (!options.user_data) abort();
    live_customs++;
    return options;
}

void custom_drop(pente_custom_options *options) {
    live_customs--;
    free(options->user_data);
}

void custom_check(void) {
    PROMISED(live_customs == 0, "%d releases are missing", live_customs);
}

/* It stops runs that would not end. */
int32_t on_epoch(const pente_epoch *epoch, void *user_data) {
    const int64_t *first_epoch = user_data;
    PROMISED(epoch->struct_size == sizeof *epoch && epoch->epoch > *first_epoch, "no epoch");
    return misbehave() != 0 || epoch->epoch - *first_epoch >= 3;
}

/* When it is asked is a matter of time, so the bytes have no part in it. */
int32_t should_stop(void *user_data) {
    (void)user_data;
    return !has_twin();
}
