/* fit: epochs of mini-batches. What it reports, when it stops, and that a failure leaves no trace. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An epoch of batches by hand, over the rows in this order; gives the epoch's loss. A batch whose weights are all zero
 * has nothing to say, and is left out. */
static double plain_epoch(const training *t, pente_reduction reduction, const pente_matrix *x, const pente_matrix *y,
                          const pente_matrix *weight, const int64_t *order, int64_t batch_size) {
    bool averages = reduction == PENTE_MEAN || reduction == PENTE_BATCH_MEAN;
    double sum = 0, weights_met = 0;
    for (int64_t first = 0; first < x->rows; first += batch_size) {
        int64_t rows = x->rows - first < batch_size ? x->rows - first : batch_size;
        pente_matrix some_x = matrix_new(x->dtype, rows, x->columns, x->columns);
        pente_matrix some_y = matrix_new(y->dtype, rows, y->columns, y->columns);
        pente_matrix some_weight = matrix_new(x->dtype, rows, 1, 1);
        double loss = 0, batch_weight = 0;
        for (int64_t i = 0; i < rows; i++) {
            int64_t from = order[first + i];
            for (int64_t j = 0; j < x->columns; j++) put(&some_x, i, j, get(x, from, j));
            for (int64_t j = 0; j < y->columns; j++) put(&some_y, i, j, get(y, from, j));
            put(&some_weight, i, 0, weight ? get(weight, from, 0) : 1);
            batch_weight += get(&some_weight, i, 0);
        }
        if (batch_weight > 0) {
            OK(pente_trainer_step(t->trainer, &some_x, &some_y, weight ? &some_weight : NULL, &loss));
        }
        sum += averages ? loss * batch_weight : loss;
        weights_met += batch_weight;
        matrix_free(&some_x);
        matrix_free(&some_y);
        matrix_free(&some_weight);
    }
    return averages ? sum / weights_met : sum;
}

typedef struct plan {
    int64_t q, batch_size;
    int shuffle, weighted, validated;
    pente_reduction reduction;
} plan;

/* fit gives the bits of the same batches by hand, and their losses. */
static void check_fit(pente_dtype dtype, plan p) {
    enum { EPOCHS = 3 };
    bool sums = p.reduction == PENTE_SUM || p.reduction == PENTE_OUTPUT_MEAN;
    training fitted = training_new(dtype, 5, 2, p.reduction, sums ? 1e-5 : 0.05);
    training plain = training_new(dtype, 5, 2, p.reduction, sums ? 1e-5 : 0.05);
    pente_matrix x = matrix_random(dtype, p.q, 5, 7), y = matrix_random(dtype, p.q, 2, 3);
    pente_matrix weight = matrix_random(dtype, p.q, 1, 2);
    pente_matrix validation_x = matrix_random(dtype, 9, 5, 5), validation_y = matrix_random(dtype, 9, 2, 2);
    pente_matrix prediction = matrix_new(dtype, 9, 2, 2);
    for (int64_t i = 0; i < p.q; i++) put(&weight, i, 0, i % 8 < 4 && i ? 0 : 1.5 + get(&weight, i, 0));

    double training_losses[EPOCHS + 1] = {-1, -1, -1, -1}, validation_losses[EPOCHS + 1] = {-1, -1, -1, -1};
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = EPOCHS;
    options.batch_size = p.batch_size;
    options.shuffle = p.shuffle;
    options.seed = 77;
    options.sample_weight = p.weighted ? &weight : NULL;
    options.validation_x = p.validated ? &validation_x : NULL;
    options.validation_y = p.validated ? &validation_y : NULL;
    options.training_losses = training_losses;
    options.validation_losses = validation_losses;
    OK(pente_trainer_fit(fitted.trainer, &x, &y, &options, &report));
    assert_int_equal(report.epochs, EPOCHS);
    assert_int_equal(report.stop_reason, PENTE_STOP_EPOCHS);

    int64_t *order = malloc((size_t)p.q * sizeof *order), best = 0;
    mt19937 generator;
    mt19937_seed(&generator, 77);
    for (int64_t i = 0; i < p.q; i++) order[i] = i;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        if (p.shuffle) random_order(&generator, order, p.q);
        double loss = plain_epoch(&plain, p.reduction, &x, &y, p.weighted ? &weight : NULL, order, p.batch_size);
        assert_true(fabs(training_losses[epoch] - loss) <= 1e-12 * loss);
        if (p.validated) {
            OK(pente_layer_forward(plain.model.layer, NULL, &validation_x, &prediction));
            OK(pente_mse_forward(plain.mse, &prediction, &validation_y, NULL, &loss));
            assert_memory_equal(&loss, &validation_losses[epoch], sizeof loss);
            if (best == 0 || loss < validation_losses[best - 1]) best = epoch + 1;
        } else {
            assert_true(isnan(validation_losses[epoch]));
        }
    }
    assert_true(training_losses[EPOCHS] == -1 && validation_losses[EPOCHS] == -1);
    assert_int_equal(report.best_epoch, best);
    assert_true(same_model(&fitted.model, &plain.model));

    free(order);
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&weight);
    matrix_free(&validation_x);
    matrix_free(&validation_y);
    matrix_free(&prediction);
    training_free(&fitted);
    training_free(&plain);
}

static void test_batches(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{1, 1},    {10, 3},  {32, 8},   {33, 32},   {50, 1},
                                       {20, 100}, {700, 1}, {700, 32}, {700, 600}, {2600, 1030}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int flags = 0; flags < 8; flags++) {
            plan p = {sizes[i][0], sizes[i][1], flags & 1, flags >> 1 & 1, flags >> 2, PENTE_MEAN};
            check_fit(PENTE_FLOAT32, p);
            check_fit(PENTE_FLOAT64, p);
        }
    }
}

static void test_reductions(void **state) {
    (void)state;
    static const pente_reduction reductions[] = {PENTE_SUM, PENTE_BATCH_MEAN, PENTE_OUTPUT_MEAN};
    for (size_t i = 0; i < COUNT(reductions); i++) {
        for (int weighted = 0; weighted < 2; weighted++) {
            check_fit(PENTE_FLOAT32, (plan){45, 7, 1, weighted, 1, reductions[i]});
        }
    }
}

/* NULL options are the macro's: one epoch, batches of 32, shuffled by seed 0. */
static void test_default_options(void **state) {
    (void)state;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    training one = training_new(PENTE_FLOAT32, 3, 1, PENTE_MEAN, 0.1);
    training two = training_new(PENTE_FLOAT32, 3, 1, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 100, 3, 3), y = matrix_random(PENTE_FLOAT32, 100, 1, 1);
    OK(pente_trainer_fit(one.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_fit(two.trainer, &x, &y, &options, NULL));
    assert_true(same_model(&one.model, &two.model));
    matrix_free(&x);
    matrix_free(&y);
    training_free(&one);
    training_free(&two);
}

/* ---- Runs that go on ---- */

typedef struct numbers {
    int64_t next, last;
    bool are_right;
} numbers;

static int32_t note_epoch(const pente_epoch *epoch, void *user_data) {
    numbers *n = user_data;
    n->are_right = n->are_right && epoch->epoch == n->next++ && epoch->epochs == n->last;
    return 0;
}

/* One run of six epochs, in one piece and in pieces that begin where the last one ended: the same numbers, the same
 * shuffles, the same bits. */
static void check_pieces(const int64_t *pieces, int64_t count, int shuffle, int64_t q) {
    training whole = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.05);
    training parts = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.05);
    pente_matrix x = matrix_random(PENTE_FLOAT32, q, 3, 3), y = matrix_random(PENTE_FLOAT32, q, 2, 2);
    double losses[6], losses_of_parts[6];
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 6;
    options.batch_size = 7;
    options.shuffle = shuffle;
    options.seed = 11;
    options.training_losses = losses;
    OK(pente_trainer_fit(whole.trainer, &x, &y, &options, NULL));
    options.on_epoch = note_epoch;
    for (int64_t i = 0; i < count; i++) {
        numbers n = {options.first_epoch + 1, options.first_epoch + pieces[i], true};
        options.epochs = pieces[i];
        options.training_losses = losses_of_parts + options.first_epoch;
        options.user_data = &n;
        OK(pente_trainer_fit(parts.trainer, &x, &y, &options, &report));
        assert_true(n.are_right && n.next == n.last + 1 && report.epochs == pieces[i]);
        options.first_epoch += pieces[i];
    }
    assert_memory_equal(losses, losses_of_parts, sizeof losses);
    assert_true(same_model(&whole.model, &parts.model));
    matrix_free(&x);
    matrix_free(&y);
    training_free(&whole);
    training_free(&parts);
}

static void test_first_epoch(void **state) {
    (void)state;
    static const int64_t pieces[][6] = {{1, 5}, {3, 3}, {5, 1}, {2, 1, 3}, {1, 1, 1, 1, 1, 1}};
    static const int64_t counts[] = {2, 2, 2, 3, 6};
    static const int64_t rows[] = {1, 2, 30, 700}; /* 699 draws are more than the generator's state holds */
    for (size_t i = 0; i < COUNT(pieces); i++) {
        for (size_t k = 0; k < COUNT(rows); k++) {
            for (int shuffle = 0; shuffle < 2; shuffle++) check_pieces(pieces[i], counts[i], shuffle, rows[k]);
        }
    }
}

static int32_t stop_at_once(void *user_data) {
    ++*(int *)user_data;
    return 1;
}

/* Numbers near the end of the line: a number of epochs that does not fit it is refused; shuffles that would take years
 * to skip can be stopped. The best epoch is counted from this run's first. */
static void test_first_epoch_far_away(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.05);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    numbers n = {INT64_MAX, INT64_MAX, true};
    int asked = 0;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.shuffle = 0;
    options.first_epoch = INT64_MAX - 1;
    options.on_epoch = note_epoch;
    options.user_data = &n;
    options.validation_x = &x;
    options.validation_y = &y;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_true(n.are_right && report.epochs == 1 && report.best_epoch == 1);
    options.epochs = 2;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_non_null(strstr(pente_last_error(), "epoch"));
    options.first_epoch = -1;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    assert_non_null(strstr(pente_last_error(), "first_epoch"));

    options.first_epoch = INT64_MAX / 2;
    options.shuffle = 1;
    options.on_epoch = NULL;
    options.should_stop = stop_at_once;
    options.user_data = &asked;
    alarm(60);
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    alarm(0);
    assert_true(asked == 1 && report.epochs == 0 && report.stop_reason == PENTE_STOP_REQUEST);
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
}

/* ---- Early stopping ---- */

enum { MOST = 60 };

typedef struct diary {
    const training *training;
    pente_matrix weights[MOST + 1], biases[MOST + 1]; /* after each epoch */
    double losses[MOST + 1];
    int64_t epochs, stop_at;
} diary;

static int32_t write_diary(const pente_epoch *epoch, void *user_data) {
    diary *d = user_data;
    d->epochs++;
    if (epoch->epoch != d->epochs || epoch->epochs != MOST || epoch->struct_size != sizeof *epoch) abort();
    d->weights[d->epochs] = matrix_copy(&d->training->model.weight);
    d->biases[d->epochs] = matrix_copy(&d->training->model.bias);
    d->losses[d->epochs] = epoch->validation_loss;
    return d->epochs == d->stop_at ? -3 : 0;
}

/* The training set pulls the weights through the validation set's best point and beyond it. */
static void check_early_stop(int64_t patience, int64_t stop_at, double lr, double min_delta,
                             pente_stop_reason expected) {
    training t = training_new(PENTE_FLOAT64, 2, 1, PENTE_MEAN, lr);
    pente_matrix x = matrix_random(PENTE_FLOAT64, 40, 2, 2), y = matrix_new(PENTE_FLOAT64, 40, 1, 1);
    pente_matrix validation_y = matrix_new(PENTE_FLOAT64, 40, 1, 1);
    diary d = {.training = &t, .stop_at = stop_at};
    for (int64_t i = 0; i < 40; i++) {
        put(&y, i, 0, 4 * get(&x, i, 0) + 2);
        put(&validation_y, i, 0, 2 * get(&x, i, 0) + 1);
    }
    fill(&t.model.weight, 0);
    fill(&t.model.bias, 0);

    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = MOST;
    options.batch_size = 40;
    options.validation_x = &x;
    options.validation_y = &validation_y;
    options.patience = patience;
    options.min_delta = min_delta;
    options.on_epoch = write_diary;
    options.user_data = &d;
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, &report));

    int64_t best = 1;
    for (int64_t i = 2; i <= d.epochs; i++) {
        if (d.losses[i] < d.losses[best] - min_delta) best = i;
    }
    assert_int_equal(report.stop_reason, expected);
    assert_int_equal(report.epochs, d.epochs);
    assert_int_equal(report.best_epoch, best);
    if (expected == PENTE_STOP_EARLY) assert_int_equal(d.epochs, best + patience);
    int64_t kept = patience ? best : d.epochs;
    assert_true(kept > 1);
    SAME_BITS(t.model.weight, d.weights[kept]);
    SAME_BITS(t.model.bias, d.biases[kept]);
    for (int64_t i = 1; i <= d.epochs; i++) {
        matrix_free(&d.weights[i]);
        matrix_free(&d.biases[i]);
    }
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&validation_y);
    training_free(&t);
}

static void test_early_stop(void **state) {
    (void)state;
    check_early_stop(3, 0, 0.05, 0, PENTE_STOP_EARLY);
    check_early_stop(1, 0, 0.05, 0, PENTE_STOP_EARLY);
    check_early_stop(3, 0, 0.05, 0.01, PENTE_STOP_EARLY);
    check_early_stop(MOST, 0, 0.05, 0, PENTE_STOP_EPOCHS);
    check_early_stop(MOST, 30, 0.05, 0, PENTE_STOP_CALLBACK);
    check_early_stop(0, 0, 0.05, 0, PENTE_STOP_EPOCHS);
    check_early_stop(0, 7, 0.05, 0, PENTE_STOP_CALLBACK);
}

/* ---- A failure leaves no trace ---- */

static void check_failure(double lr, double spoiled, int64_t patience) {
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.05);
    training twin = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.05);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 50, 3, 3), y = matrix_random(PENTE_FLOAT32, 50, 2, 2);
    pente_matrix good = matrix_copy(&x);
    double losses[500];
    for (int i = 0; i < 500; i++) losses[i] = -5;
    OK(pente_trainer_fit(t.trainer, &x, &y, NULL, NULL));
    OK(pente_trainer_fit(twin.trainer, &x, &y, NULL, NULL));

    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    options.epochs = 500;
    options.batch_size = 8;
    options.shuffle = 0;
    options.validation_x = &good;
    options.validation_y = &y;
    options.patience = patience;
    options.training_losses = options.validation_losses = losses;
    put(&x, 49, 2, spoiled);
    OK(pente_sgd_set_lr(t.sgd, 0, lr));
    REFUSED(PENTE_NOT_FINITE, pente_trainer_fit(t.trainer, &x, &y, &options, &report));
    for (int i = 0; i < 500; i++) assert_true(losses[i] == -5);
    assert_true(report.epochs == 0 && report.best_epoch == 0 && report.stop_reason == 0);
    assert_true(same_model(&t.model, &twin.model));
    OK(pente_sgd_set_lr(t.sgd, 0, 0.05));
    OK(pente_trainer_fit(t.trainer, &good, &y, NULL, NULL));
    OK(pente_trainer_fit(twin.trainer, &good, &y, NULL, NULL));
    assert_true(same_model(&t.model, &twin.model));
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&good);
    training_free(&t);
    training_free(&twin);
}

static void test_failure(void **state) {
    (void)state;
    check_failure(0.05, NAN, 0);
    check_failure(0.05, INFINITY, 0);
    check_failure(0.05, NAN, 500);
    check_failure(100, 0.5, 0); /* a large lr: some epochs go well, as it seems */
    check_failure(100, 0.5, 500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),    cmocka_unit_test(test_reductions), cmocka_unit_test(test_default_options),
        cmocka_unit_test(test_early_stop), cmocka_unit_test(test_failure),    cmocka_unit_test(test_first_epoch),
        cmocka_unit_test(test_first_epoch_far_away),
    };
    return cmocka_run_group_tests_name("fit", tests, NULL, NULL);
}
