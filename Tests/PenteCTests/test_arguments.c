/* Every function of the header, each of its arguments, everything that can be wrong with it: a refusal says what is
 * wrong and changes nothing. The list of functions is held against exports.txt, the first argument. */
#include "files.h"
#include "refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- One function's test ---- */

static void call_rightly(world *w, const function *f, outcome *seen) {
    value a[7];
    void *nothing = w->now.made;
    right_values(w, f, a);
    OK(f->call(a));
    if (w->now.made != nothing) free_made(w->now.made);
    probe(w, seen);
}

static void test_function(void **state) {
    const function *f = *state;
    world *w = world_new(), *twin = world_new();
    static outcome seen, expected;
    int complaints = attempt_all_kinds(w, f);
    for (size_t i = 0; i < special_case_count; i++) {
        const special_case *special = &special_cases[i];
        value a[7];
        if (strcmp(special->function, f->name) != 0) continue;
        right_values(w, f, a);
        special->spoil(w, a);
        complaints += attempt(w, f, a, special->allowed, special->says, special->what);
    }
    call_rightly(w, f, &seen);
    call_rightly(twin, f, &expected);
    assert_memory_equal(&seen.numbers, &expected.numbers, sizeof seen.numbers);
    assert_memory_equal(&seen, &expected, sizeof seen);
    world_free(w);
    world_free(twin);
    assert_int_equal(complaints, 0);
}

/* ---- The rest ---- */

static void test_free_of_null(void **state) {
    (void)state;
    OK(pente_layer_free(NULL));
    OK(pente_context_free(NULL));
    OK(pente_mse_free(NULL));
    OK(pente_sgd_free(NULL));
    OK(pente_trainer_free(NULL));
    OK(pente_source_free(NULL));
}

/* The numbers near a token, of the one layer that there is, are no tokens. */
static int count_neighbours(const pente_layer *layer) {
    int count = 0;
    for (int bit = 0; bit < 64; bit++) {
        for (int sign = -1; sign <= 1; sign++) {
            uintptr_t step = (uintptr_t)1 << bit, token = (uintptr_t)layer;
            token = sign < 0 ? token - step : sign > 0 ? token + step : token ^ step;
            pente_layer_info info = PENTE_LAYER_INFO_INIT;
            pente_status status = pente_layer_get_info((const pente_layer *)token, &info);
            count += status != PENTE_INVALID_HANDLE;
        }
    }
    return count;
}

static void test_neighbours_of_handles(void **state) {
    (void)state;
    pente_sgd *sgd = NULL;
    for (int round = 0; round < 3; round++) {
        pente_layer *layer = NULL;
        OK(pente_linear_new(2, 2, NULL, &layer));
        assert_int_equal(count_neighbours(layer), 0);
        /* The layer lives on in sgd, where no token leads to it. */
        OK(pente_sgd_new(&layer, 1, NULL, &sgd));
        OK(pente_layer_free(layer));
        assert_int_equal(count_neighbours(layer), 0);
        OK(pente_sgd_free(sgd));
        assert_int_equal(count_neighbours(layer), 0);
    }
}

static void test_static_strings(void **state) {
    (void)state;
    static const char *const names[] = {"PENTE_OK",             "PENTE_INVALID_HANDLE", "PENTE_INVALID_ARGUMENT",
                                        "PENTE_SHAPE_MISMATCH", "PENTE_DTYPE_MISMATCH", "PENTE_INVALID_STATE",
                                        "PENTE_BUSY",           "PENTE_OUT_OF_MEMORY",  "PENTE_NOT_FINITE",
                                        "PENTE_FILE_ERROR",     "PENTE_INVALID_FILE"};
    static const pente_status others[] = {-1, 11, 31, 32, 255, 256, 999, 1001, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < COUNT(names); i++) assert_string_equal(pente_status_name((pente_status)i), names[i]);
    for (size_t i = 0; i < COUNT(others); i++) assert_string_equal(pente_status_name(others[i]), "unknown status");
    assert_string_equal(pente_status_name(PENTE_USER), "PENTE_USER");
    assert_int_equal(pente_version(), PENTE_VERSION);
}

/* First of all tests: no call has failed yet. */
static void test_last_error(void **state) {
    (void)state;
    assert_string_equal(pente_last_error(), "");
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_zero_gradients(NULL));
    char kept[256];
    snprintf(kept, sizeof kept, "%s", pente_last_error());
    pente_mse *mse = mse_new(PENTE_SUM);
    OK(pente_mse_free(mse));
    assert_string_equal(pente_last_error(), kept);

    /* A name from the caller may be long, and is cut. */
    static char name[5000];
    pente_matrix view = {0};
    model m = model_new(PENTE_FLOAT32, 1, 1, true, 0);
    for (size_t before = 0; before < 4; before++) { /* the cut falls between characters, wherever they stand */
        memset(name, 'n', before);
        for (size_t i = before; i + 2 < sizeof name; i += 2) memcpy(name + i, "\u00e9", 2);
        REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_parameter_view(m.layer, name, &view));
        size_t length = strlen(pente_last_error());
        assert_true(length >= 250 && length <= 255);
        assert_false((unsigned char)pente_last_error()[length - 1] == 0xc3); /* the first half of a character */
    }
    model_free(&m);
}

static void test_all_special_cases_have_a_function(void **state) {
    (void)state;
    for (size_t i = 0; i < special_case_count; i++) assert_true(is_covered(special_cases[i].function));
}

int main(int count, char **arguments) {
    char *exports = count > 1 ? arguments[1] : "Tests/PenteCTests/exports.txt";
    struct CMUnitTest tests[100] = { /* those without a name are none */
        cmocka_unit_test(test_last_error),
        cmocka_unit_test(test_free_of_null),
        cmocka_unit_test(test_neighbours_of_handles),
        cmocka_unit_test(test_static_strings),
        cmocka_unit_test_prestate(test_all_exports_are_covered, exports),
        cmocka_unit_test(test_all_special_cases_have_a_function),
    };
    for (size_t i = 0; i < function_count; i++) {
        tests[6 + i] = (struct CMUnitTest){functions[i].name, test_function, NULL, NULL, (void *)&functions[i]};
    }
    return cmocka_run_group_tests_name("arguments", tests, directory_new, directory_free);
}
