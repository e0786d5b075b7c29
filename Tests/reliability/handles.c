/* handles [all]: a place in the table of handles that is used again until its generations are used up; and, with "all", as
 * many handles as there can be, which takes some 2 GB. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* The layout in Sources/PenteC/Handles.swift: the place in bits 4 to 27, then 24 bits of generation, of which every second
 * one is a handle's. They begin somewhere in the first quarter. */
enum { GENERATIONS = 1 << 24, PLACES = (64 << 18) - 64 };

static uint64_t place_of(const void *handle) { return (uint64_t)(uintptr_t)handle >> 4 & 0xffffff; }

/* How many handles of its place are left, itself among them. */
static long left_from(const void *handle) {
    return (GENERATIONS - (long)((uint64_t)(uintptr_t)handle >> 28 & 0xffffff) + 1) / 2;
}

/* No handle comes twice: a place is left for another one when its generations are used up. */
static void test_generations(void **state) {
    (void)state;
    pente_mse *first = mse_new(PENTE_MEAN), *mse = first, *last = first;
    uint64_t place = place_of(first);
    long uses = 0;
    assert_true(left_from(first) > GENERATIONS / 2 * 3 / 4 - 100);
    for (; place_of(mse) == place && uses <= GENERATIONS; uses++) {
        assert_true(uses == 0 || mse > last);
        OK(pente_mse_free(mse));
        last = mse;
        mse = mse_new(PENTE_MEAN);
    }
    assert_int_equal(uses, left_from(first));
    REFUSED(PENTE_INVALID_HANDLE, pente_mse_free(first));
    REFUSED(PENTE_INVALID_HANDLE, pente_mse_free(last));
    for (int i = 0; i < 100; i++) {
        pente_mse *other = mse_new(PENTE_MEAN);
        assert_true(place_of(other) != place);
        OK(pente_mse_free(other));
    }
    OK(pente_mse_free(mse));
}

/* One that is held by another object when its last generation ends is left by whoever lets go of it. */
static void test_last_generation_that_is_held(void **state) {
    (void)state;
    pente_layer *layer = NULL, *next = NULL;
    pente_context *context = NULL;
    pente_mse *used[2] = {mse_new(PENTE_MEAN), mse_new(PENTE_MEAN)}; /* where the test before was: the layer's place is new */
    OK(pente_activation_new(PENTE_RELU, NULL, &layer));
    uint64_t place = place_of(layer);
    for (long left = left_from(layer); left > 1; left--) {
        OK(pente_layer_free(layer));
        OK(pente_activation_new(PENTE_RELU, NULL, &layer));
    }
    assert_int_equal(place_of(layer), place);
    OK(pente_context_new(layer, &context));
    OK(pente_layer_free(layer));
    REFUSED(PENTE_INVALID_HANDLE, pente_layer_free(layer));
    OK(pente_context_free(context));
    OK(pente_activation_new(PENTE_RELU, NULL, &next));
    assert_true(place_of(next) != place);
    OK(pente_layer_free(next));
    for (int i = 0; i < 2; i++) OK(pente_mse_free(used[i]));
}

static void test_as_many_as_there_can_be(void **state) {
    (void)state;
    pente_mse **all = calloc(PLACES, sizeof *all), *more = NULL;
    pente_status status = PENTE_OK;
    long count = 0;
    assert_non_null(all);
    while (count < PLACES && !(status = pente_mse_new(NULL, &all[count]))) count++;
    if (count == PLACES) status = pente_mse_new(NULL, &more);
    assert_int_equal(status, PENTE_OUT_OF_MEMORY);
    assert_string_equal(pente_last_error(), "pente_mse_new: out of memory: too many handles");
    assert_null(more);
    assert_true(count > PLACES - 8); /* but for the places that the other tests used up */
    OK(pente_mse_free(all[1]));
    OK(pente_mse_new(NULL, &all[1]));
    for (long i = 0; i < count; i++) OK(pente_mse_free(all[i]));
    free(all);
}

int main(int count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_last_generation_that_is_held),
        cmocka_unit_test(test_as_many_as_there_can_be),
    };
    bool has_all = count > 1 && strcmp(arguments[1], "all") == 0;
    return has_all ? cmocka_run_group_tests_name("handles", tests, NULL, NULL)
                   : _cmocka_run_group_tests("handles", tests, COUNT(tests) - 1, NULL, NULL);
}
