/* Where numbers, memory and patience end. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A layer is held once, however often it is named: its holders are counted in 24 bits. Where there is no memory for an
 * optimizer of that size, that is the answer. */
static void test_one_layer_many_times(void **state) {
    (void)state;
    enum { COUNT_OF_NAMES = 1 << 24 };
    model m = model_new(PENTE_FLOAT32, 2, 2, true, 0);
    pente_layer **layers = malloc(COUNT_OF_NAMES * sizeof *layers);
    pente_sgd *sgd = NULL;
    for (int i = 0; i < COUNT_OF_NAMES; i++) layers[i] = m.layer;
    pente_status status = pente_sgd_new(layers, COUNT_OF_NAMES, NULL, &sgd);
    assert_true(status == PENTE_INVALID_ARGUMENT || status == PENTE_OUT_OF_MEMORY);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(layers, 1000, NULL, &sgd));
    OK(pente_layer_zero_gradients(m.layer));
    free(layers);
    model_free(&m);
}

/* The stride of a single row says nothing, and may be anything. */
static void test_stride_of_one_row(void **state) {
    (void)state;
    float numbers[8] = {0};
    model m = model_new(PENTE_FLOAT32, 3, 2, true, 0);
    pente_matrix x = {numbers, 1, 3, INT64_MAX, PENTE_FLOAT32}, y = {numbers + 4, 1, 2, INT64_MAX / 2, PENTE_FLOAT32};
    OK(pente_layer_forward(m.layer, NULL, &x, &y));
    y.data = numbers + 1;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_forward(m.layer, NULL, &x, &y));
    model_free(&m);
}

/* Of a struct of another size, nothing but its size is read: what follows is no memory. */
static void test_structs_at_the_end_of_a_page(void **state) {
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    void *end = pages + page - sizeof(size_t);
    size_t size = sizeof(size_t);
    memcpy(end, &size, sizeof size);

    training t = training_new(PENTE_FLOAT64, 3, 2, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT64, 4, 3, 3), y = matrix_random(PENTE_FLOAT64, 4, 2, 2);
    pente_layer *layer = NULL;
    pente_mse *mse = NULL;
    pente_sgd *sgd = NULL;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_linear_new(1, 1, end, &layer));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_activation_new(PENTE_RELU, end, &layer));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_custom_new(end, &layer));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_get_info(t.model.layer, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_get_parameter_info(t.model.layer, 0, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_get_info(t.sgd, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_mse_new(end, &mse));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&t.model.layer, 1, end, &sgd));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_get_options(t.sgd, 0, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_set_options(t.sgd, 0, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_fit(t.trainer, &x, &y, end, NULL));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_fit(t.trainer, &x, &y, NULL, end));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_gradcheck(t.model.layer, t.mse, &x, &y, end, &report));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_gradcheck(t.model.layer, t.mse, &x, &y, NULL, end));
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
    munmap(pages, 2 * page);
}

/* An infinite difference is no proof that a gradient is right, though its tolerance is infinite too. */
static void test_gradcheck_of_infinity(void **state) {
    (void)state;
    double x = 1e154, target = 0;
    pente_matrix prediction = pente_float64_matrix(&x, 1, 1), zero = pente_float64_matrix(&target, 1, 1);
    pente_mse *mse = mse_new(PENTE_SUM);
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    options.eps = 1e154;
    OK(pente_gradcheck(NULL, mse, &prediction, &zero, &options, &report));
    assert_int_equal(report.passed, 0);
    OK(pente_mse_free(mse));
}

/* Weights whose mean divides by what float32 does not hold would make a gradient infinite, or nothing. */
static void test_sample_weights_out_of_range(void **state) {
    (void)state;
    float one = 1, zero = 0, weights[] = {1e-39f, 3e38f};
    double loss = 0;
    pente_mse *mse = mse_new(PENTE_MEAN);
    for (int i = 0; i < 2; i++) {
        pente_matrix prediction = pente_float32_matrix(&one, 1, 1), target = pente_float32_matrix(&zero, 1, 1);
        pente_matrix weight = pente_float32_matrix(&weights[i], 1, 1);
        REFUSED(PENTE_INVALID_ARGUMENT, pente_mse_forward(mse, &prediction, &target, &weight, &loss));
    }
    OK(pente_mse_free(mse));
}

/* A step writes all layers of the optimizer, so x must lie in none of them. */
static void test_x_in_another_layer(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    model other = model_new(PENTE_FLOAT32, 3, 4, true, 1);
    pente_matrix y = matrix_random(PENTE_FLOAT32, 4, 2, 2);
    OK(pente_trainer_step(t.trainer, &other.weight, &y, NULL, NULL));
    OK(pente_sgd_add_group(t.sgd, &other.layer, 1, NULL));
    REFUSED(PENTE_INVALID_ARGUMENT, pente_trainer_step(t.trainer, &other.weight, &y, NULL, NULL));
    matrix_free(&y);
    model_free(&other);
    training_free(&t);
}

/* ---- Widths that no memory holds ---- */

static pente_status never(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                          void *user_data) {
    (void)parameters, (void)x, (void)y, (void)user_data;
    abort();
}

static pente_status never_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                                   const pente_matrix *grad_output, const pente_matrix *grad_input,
                                   const pente_matrix *gradients, void *user_data) {
    (void)grad_output, (void)grad_input, (void)gradients;
    return never(parameters, x, y, user_data);
}

static pente_status custom_new(int64_t inputs, int64_t outputs, pente_layer **layer) {
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    options.in_features = inputs;
    options.out_features = outputs;
    options.forward = never;
    options.backward = never_backward;
    return pente_custom_new(&options, layer);
}

/* A layer of one's own takes no memory for its columns, so it may say a large number; a pass that would need room for
 * them is refused. */
static void check_enormous_width(int64_t width, int64_t rows, bool bent) {
    pente_matrix x = matrix_new(PENTE_FLOAT64, rows, 1, 1), y = matrix_new(PENTE_FLOAT64, rows, 1, 1);
    fill(&x, 0);
    fill(&y, 0);
    model linear = model_new(PENTE_FLOAT64, 1, 1, true, 1);
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    pente_layer *layers[] = {linear.layer, NULL, NULL, NULL}, *chain = NULL;
    pente_context *context = NULL;
    options.dtype = PENTE_FLOAT64;
    OK(custom_new(1, width, &layers[1]));
    OK(bent ? pente_activation_new(PENTE_TANH, &options, &layers[2]) : custom_new(width, width, &layers[2]));
    OK(custom_new(width, 1, &layers[3]));
    OK(pente_chain_new(layers, 4, &chain));
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_new(&(model){.layer = chain}, 0.1, 0.5);
    pente_trainer *trainer = trainer_new(&(model){.layer = chain}, mse, sgd);
    OK(pente_context_new(chain, &context));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_layer_forward(chain, NULL, &x, &y));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_layer_forward(chain, context, &x, &y));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_trainer_step(trainer, &x, &y, NULL, NULL));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_trainer_fit(trainer, &x, &y, NULL, NULL));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_gradcheck(chain, mse, &x, &y, NULL, &report));
    REFUSED(PENTE_OUT_OF_MEMORY, pente_gradcheck(layers[1], NULL, &x, NULL, NULL, &report));
    assert_true(get(&y, 0, 0) == 0);
    OK(pente_context_free(context));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    for (int i = 0; i < 4; i++) OK(pente_layer_free(layers[i]));
    matrix_free(&x);
    matrix_free(&y);
}

static void test_enormous_widths(void **state) {
    (void)state;
    static const int64_t refused[] = {INT64_C(1) << 60, INT64_C(1) << 61, INT64_C(1) << 62, INT64_MAX - 1, INT64_MAX};
    static const int64_t rows[] = {1, 3, 1 << 22};
    pente_layer *none = NULL;
    for (size_t i = 0; i < COUNT(refused); i++) {
        REFUSED(PENTE_INVALID_ARGUMENT, custom_new(refused[i], refused[i], &none));
        REFUSED(PENTE_INVALID_ARGUMENT, custom_new(1, refused[i], &none));
        REFUSED(PENTE_INVALID_ARGUMENT, custom_new(refused[i], 1, &none));
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        check_enormous_width(INT64_C(1) << 40, rows[i], false);
        check_enormous_width(INT64_C(1) << 40, rows[i], true);
    }
}

/* ---- A fit beside readers that never pause ---- */

static atomic_bool has_begun, is_done;

static void *read_without_pause(void *layer) {
    pente_matrix x = matrix_random(PENTE_FLOAT32, 500, 3, 3), y = matrix_new(PENTE_FLOAT32, 500, 2, 2);
    while (!atomic_load(&has_begun)) usleep(100);
    while (!atomic_load(&is_done)) {
        pente_status status = pente_layer_forward(layer, NULL, &x, &y);
        if (status != PENTE_OK && status != PENTE_BUSY) abort();
    }
    matrix_free(&x);
    matrix_free(&y);
    return NULL;
}

static int32_t pause_a_little(const pente_epoch *epoch, void *user_data) {
    (void)epoch, (void)user_data;
    atomic_store(&has_begun, true);
    usleep(2000);
    return 0;
}

static void test_fit_among_readers(void **state) {
    (void)state;
    training t = training_new(PENTE_FLOAT32, 3, 2, PENTE_MEAN, 0.1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 20, 3, 3), y = matrix_random(PENTE_FLOAT32, 20, 2, 2);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pthread_t readers[4];
    alarm(120); /* a fit that never came back would hang the tests */
    options.epochs = 20;
    options.on_epoch = pause_a_little;
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&readers[i], NULL, read_without_pause, t.model.layer), 0);
    OK(pente_trainer_fit(t.trainer, &x, &y, &options, NULL));
    atomic_store(&is_done, true);
    for (int i = 0; i < 4; i++) pthread_join(readers[i], NULL);
    alarm(0);
    OK(pente_layer_zero_gradients(t.model.layer));
    matrix_free(&x);
    matrix_free(&y);
    training_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_layer_many_times),
        cmocka_unit_test(test_stride_of_one_row),
        cmocka_unit_test(test_structs_at_the_end_of_a_page),
        cmocka_unit_test(test_gradcheck_of_infinity),
        cmocka_unit_test(test_sample_weights_out_of_range),
        cmocka_unit_test(test_x_in_another_layer),
        cmocka_unit_test(test_enormous_widths),
        cmocka_unit_test(test_fit_among_readers),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
