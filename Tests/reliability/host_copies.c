/* The library several times in one process: as the program has it (linked, shared or static), as copies of the file, and
 * in a namespace of its own; and opened and closed again and again. The copies' handles mean nothing to each other. */
#define _GNU_SOURCE /* dlmopen */
#include "files.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCTIONS(each)                                                                                             \
    each(linear_new) each(context_new) each(mse_new) each(sgd_new) each(trainer_new) each(layer_free)               \
        each(context_free) each(mse_free) each(sgd_free) each(trainer_free) each(layer_forward) each(trainer_step) \
            each(mse_forward) each(sgd_get_info) each(layer_get_parameter) each(threads_set) each(last_error)

/* One copy of the library. */
typedef struct library {
#define MEMBER(name) __typeof__(pente_##name) *name;
    FUNCTIONS(MEMBER)
    void *handle;
} library;

static library linked(void) {
    library l = {.handle = NULL};
#define LINKED(name) l.name = pente_##name;
    FUNCTIONS(LINKED)
    return l;
}

static library library_in(void *handle) {
    library l = {.handle = handle};
    if (!handle) fail_msg("%s", dlerror());
    void *symbol;
#define LOOK_UP(name)                  \
    symbol = dlsym(handle, "pente_" #name); \
    assert_non_null(symbol);           \
    memcpy(&l.name, &symbol, sizeof symbol);
    FUNCTIONS(LOOK_UP)
    return l;
}

static const char *library_path;

/* Another file with the same bytes. */
static const char *copy(const char *name) {
    bytes file = bytes_of(library_path);
    const char *path = path_of(name);
    write_bytes(path, file.data, file.size);
    bytes_free(&file);
    return path;
}

/* ---- What each copy does ---- */

enum { ROWS = 3000, INPUTS = 24, OUTPUTS = 6 };

typedef struct objects {
    pente_layer *layer;
    pente_context *context;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} objects;

static objects objects_new(const library *l) {
    objects o;
    assert_int_equal(l->linear_new(INPUTS, OUTPUTS, NULL, &o.layer), PENTE_OK);
    assert_int_equal(l->context_new(o.layer, &o.context), PENTE_OK);
    assert_int_equal(l->mse_new(NULL, &o.mse), PENTE_OK);
    assert_int_equal(l->sgd_new(&o.layer, 1, NULL, &o.sgd), PENTE_OK);
    assert_int_equal(l->trainer_new(o.layer, o.mse, o.sgd, &o.trainer), PENTE_OK);
    return o;
}

static void objects_free(const library *l, const objects *o) {
    assert_int_equal(l->trainer_free(o->trainer), PENTE_OK);
    assert_int_equal(l->sgd_free(o->sgd), PENTE_OK);
    assert_int_equal(l->mse_free(o->mse), PENTE_OK);
    assert_int_equal(l->context_free(o->context), PENTE_OK);
    assert_int_equal(l->layer_free(o->layer), PENTE_OK);
}

static pente_matrix x, y;

static uint64_t step(const library *l, const objects *o) {
    float numbers[OUTPUTS * INPUTS];
    double loss = 0;
    pente_matrix weight = pente_float32_matrix(numbers, OUTPUTS, INPUTS);
    assert_int_equal(l->trainer_step(o->trainer, &x, &y, NULL, &loss), PENTE_OK);
    assert_int_equal(l->layer_get_parameter(o->layer, "weight", &weight), PENTE_OK);
    return hash_bytes(hash_bytes(FIRST_HASH, numbers, sizeof numbers), &loss, sizeof loss);
}

/* How many calls of `l` take one of another copy's handles. */
static int count_taken(const library *l, const objects *others) {
    static float numbers[ROWS * OUTPUTS];
    pente_matrix out = pente_float32_matrix(numbers, ROWS, OUTPUTS);
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    double loss = 0;
    const pente_status statuses[] = {
        l->trainer_step(others->trainer, &x, &y, NULL, &loss), l->layer_forward(others->layer, NULL, &x, &out),
        l->mse_forward(others->mse, &out, &y, NULL, &loss),    l->sgd_get_info(others->sgd, &info),
        l->trainer_free(others->trainer),                      l->sgd_free(others->sgd),
        l->mse_free(others->mse),                              l->context_free(others->context),
        l->layer_free(others->layer),
    };
    int taken = 0;
    for (size_t i = 0; i < COUNT(statuses); i++) taken += statuses[i] != PENTE_INVALID_HANDLE;
    return taken;
}

static void test_copies(void **state) {
    (void)state;
    enum { COPIES = 4, EACH = 40 };
    const library copies[COPIES] = {
        linked(),
        library_in(dlopen(copy("libpente.so.0"), RTLD_NOW | RTLD_LOCAL)),
        library_in(dlopen(copy("libpente-other.so"), RTLD_NOW | RTLD_GLOBAL)),
        library_in(dlmopen(LM_ID_NEWLM, library_path, RTLD_NOW)),
    };
    static objects all[COPIES][EACH];
    int taken = 0;
    for (int i = 0; i < COPIES; i++) {
        assert_int_equal(copies[i].threads_set(1 + i % 3), PENTE_OK);
        for (int k = 0; k < EACH; k++) all[i][k] = objects_new(&copies[i]);
    }
    for (int i = 0; i < COPIES; i++) {
        for (int other = 0; other < COPIES; other++) {
            for (int k = 0; k < EACH && other != i; k++) taken += count_taken(&copies[i], &all[other][k]);
        }
    }
    assert_int_equal(taken, 0);
    for (int round = 0; round < 5; round++) {
        uint64_t expected = step(&copies[0], &all[0][0]);
        for (int i = 1; i < COPIES; i++) assert_true(step(&copies[i], &all[i][0]) == expected);
    }
    for (int i = 0; i < COPIES; i++) {
        for (int k = 0; k < EACH; k++) objects_free(&copies[i], &all[i][k]);
        assert_int_equal(copies[i].threads_set(1), PENTE_OK);
        if (copies[i].handle) assert_int_equal(dlclose(copies[i].handle), 0);
    }
}

/* Workers may be in the middle of something when a host closes the library; its objects are still there when it opens it
 * again. */
static void test_opened_and_closed(void **state) {
    int times = *(int *)*state;
    const char *path = copy("libpente-again.so");
    library l = library_in(dlopen(path, RTLD_NOW | RTLD_LOCAL)), first = linked();
    objects o = objects_new(&l), twin = objects_new(&first);
    assert_int_equal(l.threads_set(3), PENTE_OK);
    for (int i = 0; i < times; i++) {
        assert_true(step(&l, &o) == step(&first, &twin));
        assert_int_equal(dlclose(l.handle), 0);
        l = library_in(dlopen(path, RTLD_NOW | (i % 2 ? RTLD_LOCAL : RTLD_GLOBAL)));
    }
    objects_free(&l, &o);
    objects_free(&first, &twin);
    assert_int_equal(dlclose(l.handle), 0); /* with three threads, which the end of the process takes along */
}

int main(int count, char **arguments) {
    int times = count > 2 ? atoi(arguments[2]) : 100;
    library_path = count > 1 ? arguments[1] : "build/lib/libpente.so.0";
    x = matrix_random(PENTE_FLOAT32, ROWS, INPUTS, INPUTS);
    y = matrix_random(PENTE_FLOAT32, ROWS, OUTPUTS, OUTPUTS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),
        cmocka_unit_test_prestate(test_opened_and_closed, &times),
    };
    int failed = cmocka_run_group_tests_name("host_copies", tests, directory_new, directory_free);
    matrix_free(&x);
    matrix_free(&y);
    return failed;
}
