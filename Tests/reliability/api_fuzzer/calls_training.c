/* The calls of losses, optimizers and trainers. */
#include "calls.h"

#include <string.h>

/* ---- Mean squared error ---- */

void call_pente_mse_new(void) {
    pente_mse_options options = PENTE_MSE_OPTIONS_INIT;
    options.reduction = hostile() ? below(256) - 128 : 1 + below(5);
    const pente_mse_options *given = options_argument(&options, sizeof options);
    pente_mse **mse = HANDLE_OUTPUT();
    if (CALL(pente_mse_new(given, mse)) != PENTE_OK) return;
    add_object(MSE, *mse, NULL)->reduction = given ? options.reduction : PENTE_MEAN;
}

static bool is_none(const object *mse, const object *to) {
    (void)to;
    return mse->reduction == PENTE_NONE;
}

static bool is_reduced(const object *mse, const object *to) {
    return !is_none(mse, to);
}

/* A loss and its inputs. */
typedef struct loss {
    void *mse;
    pente_reduction reduction;
    pente_dtype dtype;
    int64_t rows, columns;
    pente_matrix *prediction, *target, *sample_weight;
} loss;

static loss some_loss(bool (*fits)(const object *, const object *)) {
    const object *o = fits && !hostile() ? choose_where(MSE, fits, NULL) : choose(MSE);
    loss l = {.reduction = o->reduction, .dtype = one_in(2) ? PENTE_FLOAT64 : PENTE_FLOAT32};
    l.mse = handle_of(o, MSE, false);
    l.rows = some_rows();
    l.columns = 1 + below(5);
    l.prediction = matrix_argument(l.dtype, l.rows, l.columns, INPUT | LINKED);
    l.target = matrix_argument(l.dtype, l.rows, l.columns, INPUT | LINKED);
    l.sample_weight = matrix_argument(l.dtype, l.rows, 1, INPUT | LINKED | OPTIONAL);
    return l;
}

void call_pente_mse_forward(void) {
    loss l = some_loss(is_reduced);
    double *value = output_argument(sizeof *value, false);
    (void)CALL(pente_mse_forward(l.mse, l.prediction, l.target, l.sample_weight, value));
}

void call_pente_mse_forward_elements(void) {
    loss l = some_loss(is_none);
    pente_matrix *squares = matrix_argument(l.dtype, l.rows, l.columns, OUTPUT | LINKED);
    (void)CALL(pente_mse_forward_elements(l.mse, l.prediction, l.target, l.sample_weight, squares));
}

void call_pente_mse_backward(void) {
    loss l = some_loss(NULL);
    bool is_one = l.reduction != PENTE_NONE;
    pente_matrix *grad_output =
        matrix_argument(l.dtype, is_one ? 1 : l.rows, is_one ? 1 : l.columns, INPUT | LINKED | OPTIONAL);
    pente_matrix *grad_prediction = matrix_argument(l.dtype, l.rows, l.columns, OUTPUT | LINKED | OPTIONAL);
    pente_matrix *grad_target = matrix_argument(l.dtype, l.rows, l.columns, OUTPUT | LINKED | OPTIONAL);
    (void)CALL(pente_mse_backward(l.mse, l.prediction, l.target, l.sample_weight, grad_output, grad_prediction,
                                  grad_target));
}

/* ---- Optimizers ---- */

static pente_sgd_options some_sgd_options(void) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    int choice = byte();
    options.lr = (choice & 3) / 64.0;
    if (choice & 4) options.momentum = 0.5;
    if (choice & 8) options.nesterov = options.momentum > 0;
    if (choice & 16 && !options.nesterov) options.dampening = 0.25;
    if (choice & 32) options.weight_decay = 0.125;
    if (choice & 64) options.maximize = 1;
    if (!hostile()) return options;
    double *const numbers[] = {&options.lr, &options.momentum, &options.dampening, &options.weight_decay};
    *numbers[below(4)] = real();
    options.nesterov = below(3);
    return options;
}

static bool can_join(const object *o, const object *first) {
    return o->info.dtype == first->info.dtype && o->parameter_count <= 12;
}

static bool can_be_trained(const object *o, const object *to) {
    (void)to;
    return o->parameter_count > 0 && o->info.kind != PENTE_SCALER && o->parameter_count <= 16;
}

/* One layer as a rule: several must share no parameter. */
static void **some_layers(const object *first, int64_t *count) {
    static const int64_t wrong[] = {0, -1, INT64_MIN, INT64_MAX};
    *count = one_in(4) ? 2 + below(2) : 1;
    void *layers[3];
    layers[0] = handle_of(first, LAYER, false);
    for (int i = 1; i < *count; i++) layers[i] = handle_of(choose_where(LAYER, can_join, first), LAYER, false);
    void **given = memcpy(carve((size_t)*count * sizeof *layers), layers, (size_t)*count * sizeof *layers);
    if (hostile()) *count = wrong[below((int)COUNT(wrong))];
    return hostile() && one_in(4) ? NULL : given;
}

void call_pente_sgd_new(void) {
    const object *first = choose_where(LAYER, can_be_trained, NULL);
    int64_t count;
    void **layers = some_layers(first, &count);
    pente_sgd_options options = some_sgd_options();
    const pente_sgd_options *given = options_argument(&options, sizeof options);
    pente_sgd **sgd = HANDLE_OUTPUT();
    if (CALL(pente_sgd_new((pente_layer *const *)layers, count, given, sgd)) == PENTE_OK) {
        const object *layer = find_live(layers[0], LAYER);
        add_object(SGD, *sgd, layer ? layer : first);
    }
}

void call_pente_sgd_add_group(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t count;
    void **layers = some_layers(choose_where(LAYER, can_join, o), &count);
    pente_sgd_options options = some_sgd_options();
    const pente_sgd_options *given = options_argument(&options, sizeof options);
    (void)CALL(pente_sgd_add_group(sgd, (pente_layer *const *)layers, count, given));
}

static pente_sgd_info info_of(const object *sgd) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    if (!sgd->handle || pente_sgd_get_info(sgd->handle, &info)) info.group_count = info.parameter_count = 1;
    return info;
}

void call_pente_sgd_get_options(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t group = index_below(info_of(o).group_count);
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT, *given = report_argument(&options, sizeof options);
    (void)CALL(pente_sgd_get_options(sgd, group, given));
}

void call_pente_sgd_set_options(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t group = index_below(info_of(o).group_count);
    pente_sgd_options options = some_sgd_options();
    const pente_sgd_options *given = options_argument(&options, sizeof options);
    (void)CALL(pente_sgd_set_options(sgd, group, given));
}

void call_pente_sgd_set_lr(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t group = index_below(info_of(o).group_count);
    double lr = hostile() ? real() : below(16) / 64.0;
    (void)CALL(pente_sgd_set_lr(sgd, group, lr));
}

void call_pente_sgd_get_info(void) {
    void *sgd = handle_of(choose(SGD), SGD, false);
    pente_sgd_info info = PENTE_SGD_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_sgd_get_info(sgd, given));
}

void call_pente_sgd_step(void) {
    void *sgd = handle_of(choose(SGD), SGD, false);
    (void)CALL(pente_sgd_step(sgd));
}

void call_pente_sgd_zero_gradients(void) {
    void *sgd = handle_of(choose(SGD), SGD, false);
    (void)CALL(pente_sgd_zero_gradients(sgd));
}

void call_pente_sgd_clip_gradients(void) {
    void *sgd = handle_of(choose(SGD), SGD, false);
    double max_norm = hostile() ? real() : (1 + below(64)) / 16.0;
    double *norm = one_in(4) ? NULL : output_argument(sizeof *norm, false);
    (void)CALL(pente_sgd_clip_gradients(sgd, max_norm, norm));
}

void call_pente_sgd_get_parameter_info(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t index = index_below(info_of(o).parameter_count);
    pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT, *given = report_argument(&info, sizeof info);
    (void)CALL(pente_sgd_get_parameter_info(sgd, index, given));
}

/* A matrix of the shape of an optimizer's parameter. */
static pente_matrix *some_buffer(const object *sgd, int64_t index, int role) {
    pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
    if (!sgd->handle || pente_sgd_get_parameter_info(sgd->handle, index, &info)) info.rows = info.columns = 1;
    return matrix_argument(sgd->info.dtype, info.rows, info.columns, role | LINKED);
}

void call_pente_sgd_get_momentum_buffer(void) {
    const object *o = choose(SGD);
    void *sgd = handle_of(o, SGD, false);
    int64_t index = index_below(info_of(o).parameter_count);
    pente_matrix *value = some_buffer(o, index, OUTPUT);
    (void)CALL(pente_sgd_get_momentum_buffer(sgd, index, value));
}

void call_pente_sgd_set_state(void) {
    static const int64_t wrong[] = {0, -1, INT64_MIN, INT64_MAX, 1000};
    const object *o = choose(SGD);
    pente_sgd_info info = info_of(o);
    void *sgd = handle_of(o, SGD, false);
    if (info.group_count > 16 || info.parameter_count > 48) return;
    pente_sgd_options *options = carve(sizeof *options * (size_t)info.group_count);
    for (int64_t i = 0; i < info.group_count; i++) options[i] = some_sgd_options();
    if (hostile()) options[info.group_count - 1].struct_size = (size_t)below(256);
    const pente_matrix **buffers = carve(sizeof *buffers * (size_t)info.parameter_count);
    for (int64_t i = 0; i < info.parameter_count; i++) buffers[i] = some_buffer(o, i, INPUT | OPTIONAL);
    int64_t steps = hostile() ? wrong[below(5)] : below(256);
    if (hostile()) info.group_count = wrong[below(5)];
    if (hostile()) info.parameter_count = wrong[below(5)];
    if (hostile() && one_in(4)) options = NULL;
    if (hostile() && one_in(4)) buffers = NULL;
    (void)CALL(pente_sgd_set_state(sgd, options, info.group_count, buffers, info.parameter_count, steps));
}

/* ---- Trainers ---- */

static bool has_its_layer(const object *sgd, const object *to) {
    (void)to;
    return find_live(sgd->layer, LAYER) != NULL;
}

static bool is_of_sgd(const object *layer, const object *sgd) {
    return layer->handle == sgd->layer;
}

void call_pente_trainer_new(void) {
    const object *o = choose_where(SGD, has_its_layer, NULL);
    const object *l = one_in(8) ? choose(LAYER) : choose_where(LAYER, is_of_sgd, o);
    const object *m = hostile() ? choose(MSE) : choose_where(MSE, is_reduced, NULL);
    void *sgd = handle_of(o, SGD, false);
    void *layer = handle_of(l, LAYER, false);
    void *mse = handle_of(m, MSE, false);
    pente_trainer **trainer = HANDLE_OUTPUT();
    if (CALL(pente_trainer_new(layer, mse, sgd, trainer)) != PENTE_OK) return;
    l = find_live(layer, LAYER);
    add_object(TRAINER, *trainer, l);
}

void call_pente_trainer_set_max_gradient_norm(void) {
    void *trainer = handle_of(choose(TRAINER), TRAINER, false);
    double max_norm = hostile() ? real() : below(64) / 16.0;
    (void)CALL(pente_trainer_set_max_gradient_norm(trainer, max_norm));
}

/* Examples for a trainer: x, y and perhaps sample weights. */
typedef struct examples {
    const object *o;
    void *trainer;
    pente_matrix *x, *y, *sample_weight;
} examples;

static examples some_examples(void) {
    examples e = {.o = choose(TRAINER)};
    e.trainer = handle_of(e.o, TRAINER, false);
    int64_t rows = some_rows();
    e.x = matrix_argument(e.o->info.dtype, rows, columns_in(e.o), INPUT | LINKED);
    if (e.x && e.x->rows > 0 && e.x->rows < 4000) rows = e.x->rows; /* it may have had to be smaller */
    e.y = matrix_argument(e.o->info.dtype, rows, columns_out(e.o), INPUT | LINKED);
    e.sample_weight = matrix_argument(e.o->info.dtype, rows, 1, INPUT | LINKED | OPTIONAL);
    return e;
}

void call_pente_trainer_step(void) {
    examples e = some_examples();
    double *value = one_in(8) ? NULL : output_argument(sizeof *value, false);
    (void)CALL(pente_trainer_step(e.trainer, e.x, e.y, e.sample_weight, value));
}

static void some_validation(pente_fit_options *options, const object *o) {
    int64_t rows = 1 + below(12);
    options->validation_x = matrix_argument(o->info.dtype, rows, columns_in(o), INPUT | LINKED);
    options->validation_y = matrix_argument(o->info.dtype, rows, columns_out(o), INPUT | LINKED);
    if (one_in(2)) options->patience = 1 + below(3);
    if (one_in(4)) options->min_delta = hostile() ? real() : 0.25;
}

static void spoil_fit_options(pente_fit_options *options) {
    static const int64_t wrong[] = {0, -1, INT64_MIN};
    switch (below(6)) {
    case 0: options->epochs = wrong[below(3)]; break;
    case 1: options->batch_size = wrong[below(3)]; break;
    case 2: options->first_epoch = one_in(2) ? INT64_MAX : -1; break;
    case 3: options->patience = one_in(2) ? INT64_MIN : 1; break;
    case 4: options->min_delta = real(); break;
    default: options->validation_x = NULL; break;
    }
}

void call_pente_trainer_fit(void) {
    examples e = some_examples();
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 1 + below(3);
    options.batch_size = one_in(8) ? INT64_MAX : 1 + below(40);
    options.shuffle = one_in(2);
    options.seed = byte();
    options.sample_weight = e.sample_weight;
    if (one_in(4)) options.first_epoch = below(100);
    if (one_in(2)) some_validation(&options, e.o);
    if (one_in(2)) options.on_epoch = on_epoch;
    if (options.on_epoch && one_in(4)) options.epochs = INT64_MAX / 2; /* which it stops */
    if (one_in(4)) options.should_stop = should_stop;
    if (one_in(2)) options.training_losses = output_argument(3 * sizeof(double), false);
    if (one_in(2)) options.validation_losses = output_argument(3 * sizeof(double), false);
    /* Each waits for a disk; and those of a fit that fails afterwards stay. */
    if (one_in(64) && !has_twin()) options.checkpoint_path = path_argument();
    options.resume = options.checkpoint_path && one_in(2);
    if (hostile()) spoil_fit_options(&options);
    int64_t first_epoch = options.first_epoch;
    options.user_data = &first_epoch;
    const pente_fit_options *given = options_argument(&options, sizeof options);
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    pente_fit_report *report_given = one_in(8) ? NULL : report_argument(&report, sizeof report);
    (void)CALL(pente_trainer_fit(e.trainer, e.x, e.y, given, report_given));
}

/* ---- Gradients in several places ---- */

void call_pente_trainer_accumulate(void) {
    examples e = some_examples();
    (void)CALL(pente_trainer_accumulate(e.trainer, e.x, e.y, e.sample_weight));
}

void call_pente_trainer_get_sum_count(void) {
    void *trainer = handle_of(choose(TRAINER), TRAINER, false);
    int64_t *count = output_argument(sizeof *count, false);
    (void)CALL(pente_trainer_get_sum_count(trainer, count));
}

/* How many sums there are, or another number. */
static int64_t some_sum_count(const object *o) {
    int64_t count = 0;
    if (o->handle && pente_trainer_get_sum_count(o->handle, &count) != PENTE_OK) count = 0;
    return hostile() ? count - 1 + below(3) : count;
}

void call_pente_trainer_get_sums(void) {
    const object *o = choose(TRAINER);
    void *trainer = handle_of(o, TRAINER, false);
    int64_t count = some_sum_count(o);
    if (count > 2000) return;
    double *sums = output_argument((size_t)(count > 0 ? count : 1) * sizeof *sums, false);
    (void)CALL(pente_trainer_get_sums(trainer, sums, count));
}

void call_pente_trainer_set_sums(void) {
    const object *o = choose(TRAINER);
    void *trainer = handle_of(o, TRAINER, false);
    int64_t count = one_in(4) ? 0 : some_sum_count(o);
    if (count > 2000) return;
    double *sums = count > 0 ? carve((size_t)count * sizeof *sums) : NULL;
    for (int64_t i = 0; i < count; i++) sums[i] = hostile() ? real() : below(16);
    (void)CALL(pente_trainer_set_sums(trainer, sums, count));
}

void call_pente_trainer_apply_sums(void) {
    void *trainer = handle_of(choose(TRAINER), TRAINER, false);
    double *value = one_in(8) ? NULL : output_argument(sizeof *value, false);
    (void)CALL(pente_trainer_apply_sums(trainer, value));
}

/* ---- Gradient checks: of few elements, for each takes two passes ---- */

static bool is_small_double(const object *o, const object *to) {
    (void)to;
    return o->info.dtype == PENTE_FLOAT64 && o->elements <= 60 && o->info.in_features <= 8 && o->info.out_features <= 8;
}

void call_pente_gradcheck(void) {
    const object *l = choose_where(LAYER, is_small_double, NULL), *m = choose(MSE);
    void *layer = handle_of(l, LAYER, true);
    bool is_sum = one_in(3), is_bad = THIS->has_bad_handle;
    void *mse = is_sum ? NULL : handle_of(m, MSE, false);
    const object *used = find_live(layer, LAYER);
    if (used && !is_small_double(used, NULL)) return;
    int64_t rows = 1 + below(4);
    pente_matrix *x = matrix_argument(PENTE_FLOAT64, rows, columns_in(l), INPUT);
    int64_t columns = layer ? columns_out(l) : columns_in(l);
    pente_matrix *target = NULL;
    if (!is_sum || hostile()) target = matrix_argument(PENTE_FLOAT64, rows, columns, INPUT | LINKED);
    if (!mse && !target) THIS->has_bad_handle = is_bad; /* NULL both is the sum */
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    if (hostile()) options.eps = real();
    if (hostile()) options.atol = real();
    if (hostile()) options.rtol = real();
    const pente_gradcheck_options *given = options_argument(&options, sizeof options);
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    pente_gradcheck_report *report_given = report_argument(&report, sizeof report);
    (void)CALL(pente_gradcheck(layer, mse, x, target, given, report_given));
}
