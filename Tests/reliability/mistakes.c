/* Users' mistakes that the ordinary library cannot see, and the checked one (make debug) tells of: each is made on purpose,
 * and the words compared. */
#define _GNU_SOURCE
#include "../PenteCTests/support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, ROW = PAGE / (int)sizeof(double) }; /* a row of a matrix is a page */

#define TOLD(status, words, call)                      \
    do {                                               \
        REFUSED(status, call);                         \
        assert_string_equal(pente_last_error(), words); \
    } while (0)

/* Pages of which the first few are there, to be read and perhaps written. */
static double *pages(int count, int there, int protection) {
    char *memory = mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory, (size_t)count * PAGE, PROT_NONE), 0);
    if (there > 0) assert_int_equal(mprotect(memory, (size_t)there * PAGE, protection), 0);
    return (double *)memory;
}

static pente_layer *wide_layer(void) {
    pente_layer *layer = NULL;
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    OK(pente_linear_new(ROW, 1, &options, &layer));
    return layer;
}

/* ---- Memory that is not there ---- */

static void test_matrices(void **state) {
    (void)state;
    pente_layer *layer = wide_layer(), *relu = NULL;
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    options.dtype = PENTE_FLOAT64;
    OK(pente_activation_new(PENTE_RELU, &options, &relu));
    double *two = pages(3, 2, PROT_READ), results[3], good[ROW] = {0};
    pente_matrix x = pente_float64_matrix(two, 3, ROW), y = pente_float64_matrix(results, 3, 1);
    TOLD(PENTE_INVALID_ARGUMENT,
         "pente_layer_forward: x says it is 3×512 with a row_stride of 512, but not all of that is memory that can be read",
         pente_layer_forward(layer, NULL, &x, &y));
    x.rows = y.rows = 2;
    OK(pente_layer_forward(layer, NULL, &x, &y));

    pente_matrix one = pente_float64_matrix(good, 1, ROW), constant = pente_float64_matrix(two, 1, ROW);
    TOLD(PENTE_INVALID_ARGUMENT,
         "pente_layer_forward: y says it is 1×512 with a row_stride of 512, but not all of that is memory that can be written",
         pente_layer_forward(relu, NULL, &one, &constant));

    /* A file that ends before its mapping does. */
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, PAGE), 0);
    double *mapped = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, file, 0);
    assert_true(mapped != MAP_FAILED);
    x.data = mapped;
    TOLD(PENTE_INVALID_ARGUMENT,
         "pente_layer_forward: x says it is 2×512 with a row_stride of 512, but not all of that is memory that can be read",
         pente_layer_forward(layer, NULL, &x, &y));

    /* What lies between the rows need not be there. */
    double *apart = pages(3, 3, PROT_READ | PROT_WRITE);
    assert_int_equal(mprotect(apart + ROW, PAGE, PROT_NONE), 0);
    x = (pente_matrix){apart, 2, ROW, 2 * ROW, PENTE_FLOAT64};
    OK(pente_layer_forward(layer, NULL, &x, &y));

    close(file);
    OK(pente_layer_free(relu));
    OK(pente_layer_free(layer));
}

static void test_other_pointers(void **state) {
    (void)state;
    void *nowhere = pages(1, 0, PROT_READ), *constant = pages(1, 1, PROT_READ);
    pente_layer *layer = NULL;
    pente_layer_info *info = constant;
    TOLD(PENTE_INVALID_ARGUMENT, "pente_linear_new: options is no memory of 24 bytes that can be read",
         pente_linear_new(1, 1, nowhere, &layer));
    TOLD(PENTE_INVALID_ARGUMENT, "pente_linear_new: layer is no memory of 8 bytes that can be written",
         pente_linear_new(1, 1, NULL, constant));
    OK(pente_linear_new(1, 1, NULL, &layer));
    TOLD(PENTE_INVALID_ARGUMENT, "pente_layer_get_info: info is no memory of 64 bytes that can be written",
         pente_layer_get_info(layer, info));
    TOLD(PENTE_INVALID_ARGUMENT, "pente_layer_forward: x is no memory of 40 bytes that can be read",
         pente_layer_forward(layer, NULL, nowhere, NULL));
    OK(pente_layer_free(layer));
}

#ifdef __SANITIZE_ADDRESS__
static void test_asan(void **state) {
    (void)state;
    model model = model_new(PENTE_FLOAT32, 3, 1, true, 1);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 4, 3, 3), y = matrix_new(PENTE_FLOAT32, 5, 1, 1);
    x.rows = 5; /* a row more than there is, in the same page */
    TOLD(PENTE_INVALID_ARGUMENT,
         "pente_layer_forward: x says it is 5×3 with a row_stride of 3, but not all of that is memory that can be read",
         pente_layer_forward(model.layer, NULL, &x, &y));
    matrix_free(&x);
    matrix_free(&y);
    model_free(&model);
}
#endif

/* ---- Between forward and backward ---- */

static void test_between_passes(void **state) {
    (void)state;
    pente_layer *layer = wide_layer();
    pente_context *context = NULL;
    double *numbers = pages(1, 1, PROT_READ | PROT_WRITE), result = 0, gradient = 1;
    pente_matrix x = pente_float64_matrix(numbers, 1, ROW), y = pente_float64_matrix(&result, 1, 1);
    pente_matrix grad_output = pente_float64_matrix(&gradient, 1, 1), bias;
    OK(pente_context_new(layer, &context));
    OK(pente_layer_parameter_view(layer, "bias", &bias));

    OK(pente_layer_forward(layer, context, &x, &y));
    numbers[ROW - 1] = 1;
    TOLD(PENTE_INVALID_STATE,
         "pente_layer_backward: x has changed since the forward pass; it is borrowed until backward",
         pente_layer_backward(layer, context, &grad_output, NULL));
    numbers[ROW - 1] = 0;
    OK(pente_layer_backward(layer, context, &grad_output, NULL));

    OK(pente_layer_forward(layer, context, &x, &y));
    put(&bias, 0, 0, 7);
    TOLD(PENTE_INVALID_STATE, "pente_layer_backward: the layer's parameters have changed since the forward pass",
         pente_layer_backward(layer, context, &grad_output, NULL));

    OK(pente_layer_forward(layer, context, &x, &y));
    assert_int_equal(munmap(numbers, PAGE), 0);
    TOLD(PENTE_INVALID_STATE,
         "pente_layer_backward: the x of the forward pass is gone; it is borrowed until backward",
         pente_layer_backward(layer, context, &grad_output, NULL));
    OK(pente_context_free(context));
    OK(pente_layer_free(layer));
}

/* ---- Callbacks ---- */

enum mistake { NONE, WRITES_X, WRITES_PARAMETER, FORGETS, GOES_BEYOND };

/* y = 2 x, where it is not mistaken. */
static void twice(enum mistake mistake, const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y) {
    int64_t count = x->rows * x->columns;
    double *from = x->data, *to = y->data;
    for (int64_t i = mistake == FORGETS; i < count; i++) to[i] = 2 * from[i];
    if (mistake == WRITES_X) from[0] = 7;
    if (mistake == WRITES_PARAMETER) *(double *)parameters[0].data = 7;
    if (mistake == GOES_BEYOND) to[count] = 7;
}

static enum mistake in_forward, in_backward;

static pente_status forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y, void *data) {
    (void)data;
    twice(in_forward, parameters, x, y);
    return PENTE_OK;
}

static pente_status backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *data) {
    (void)x, (void)y, (void)gradients, (void)data;
    twice(in_backward, parameters, grad_output, grad_input);
    return PENTE_OK;
}

static void test_callbacks(void **state) {
    (void)state;
    double one = 1, numbers[6] = {1, 2, 3, 4, 5, 6}, results[6], gradients[6];
    pente_custom_parameter parameter = {"p", pente_float64_matrix(&one, 1, 1), 2};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    pente_matrix x = pente_float64_matrix(numbers, 2, 3), y = pente_float64_matrix(results, 2, 3);
    pente_matrix grad_input = pente_float64_matrix(gradients, 2, 3);
    pente_layer *layer = NULL;
    pente_context *context = NULL;
    options.dtype = PENTE_FLOAT64;
    options.parameters = &parameter;
    options.parameter_count = 1;
    options.forward = forward;
    options.backward = backward;
    OK(pente_custom_new(&options, &layer));
    OK(pente_context_new(layer, &context));

    struct {
        enum mistake mistake;
        const char *in_forward, *in_backward;
    } cases[] = {
        {WRITES_X, "wrote to x, which it is to read", "wrote to grad_output, which it is to read"},
        {WRITES_PARAMETER, "wrote to a parameter, which it is to read", "wrote to a parameter, which it is to read"},
        {FORGETS, "did not write element 0, 0 of y", "did not write element 0, 0 of grad_input"},
        {GOES_BEYOND, "wrote outside of y", "wrote outside of grad_input"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char words[200];
        in_forward = cases[i].mistake;
        snprintf(words, sizeof words, "pente_layer_forward: the layer's forward callback %s", cases[i].in_forward);
        TOLD(PENTE_INVALID_STATE, words, pente_layer_forward(layer, context, &x, &y));
        in_forward = NONE;
        OK(pente_layer_forward(layer, context, &x, &y));
        assert_true(numbers[0] == 1 && results[5] == 12);
        in_backward = cases[i].mistake;
        snprintf(words, sizeof words, "pente_layer_backward: the layer's backward callback %s", cases[i].in_backward);
        TOLD(PENTE_INVALID_STATE, words, pente_layer_backward(layer, context, &x, &grad_input));
        in_backward = NONE;
        OK(pente_layer_backward(layer, context, &x, &grad_input));
        assert_true(gradients[5] == 12);
    }
    OK(pente_context_free(context));
    OK(pente_layer_free(layer));
}

/* ---- What is said on stderr ---- */

/* What a child that does this writes to stderr, and how it ends. */
static int said_by(void (*act)(void), const char *log, char *said, size_t capacity) {
    int ends[2], status = 0;
    size_t length = 0;
    ssize_t count;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[1]);
        for (int signal_number = 1; signal_number < 32; signal_number++) signal(signal_number, SIG_DFL);
        if (log == NULL) unsetenv("PENTE_LOG");
        else setenv("PENTE_LOG", log, 1);
        act();
        exit(0);
    }
    close(ends[1]);
    while (length + 1 < capacity && (count = read(ends[0], said + length, capacity - 1 - length)) > 0)
        length += (size_t)count;
    said[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void leave_handles(void) {
    pente_layer *layer = NULL, *freed = NULL;
    pente_context *context = NULL;
    pente_status ignored = pente_linear_new(2, 3, NULL, &layer);
    ignored = pente_linear_new(2, 3, NULL, &freed);
    ignored = pente_context_new(layer, &context);
    ignored = pente_layer_free(freed);
    ignored = pente_layer_free(freed); /* once too often, and nobody looks */
    (void)ignored;
}

static void write_beyond_a_parameter(void) {
    pente_layer *layer = NULL;
    pente_matrix bias;
    pente_status ignored = pente_linear_new(2, 3, NULL, &layer);
    ignored = pente_layer_parameter_view(layer, "bias", &bias);
    ((float *)bias.data)[3] = 7;
    ignored = pente_layer_free(layer);
    (void)ignored;
}

static void test_stderr(void **state) {
    (void)state;
    char said[1000];
    assert_int_equal(said_by(leave_handles, NULL, said, sizeof said), 0);
    assert_string_equal(said, "pente: pente_layer_free: layer is not a pente_layer, or was freed\n"
                              "pente: at exit: 1 handle(s) of pente_layer not freed\n"
                              "pente: at exit: 1 handle(s) of pente_context not freed\n");
    assert_int_equal(said_by(leave_handles, "0", said, sizeof said), 0);
    assert_string_equal(said, "");

    int status = said_by(write_beyond_a_parameter, NULL, said, sizeof said);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(said, "RedZones.swift:"));
    assert_non_null(strstr(said, "memory of Pente's was written outside of its bounds"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stderr), /* first: the others' handles are nobody's business there */
        cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_other_pointers),
#ifdef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_asan),
#endif
        cmocka_unit_test(test_between_passes),
        cmocka_unit_test(test_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
