/* Several threads when memory runs out: fewer do it, or one, to the same bits. */
#include "allocator.h"

#include <string.h>

enum { ROWS = 6000, INPUTS = 90, OUTPUTS = 40, MOST = 64 };

static pente_matrix x, y, out;

typedef struct outcome {
    pente_status step, forward;
    uint64_t hash;
} outcome;

/* A first step and inference with several threads, when so many allocations succeed in each. */
static outcome try_with(int64_t threads, long count) {
    training t = training_new(PENTE_FLOAT32, INPUTS, OUTPUTS, PENTE_MEAN, 0.01);
    outcome result;
    double loss = 0;
    OK(pente_threads_set(threads));
    fill(&out, 0);
    atomic_store(&allowed, count);
    result.step = pente_trainer_step(t.trainer, &x, &y, NULL, &loss);
    atomic_store(&allowed, count);
    result.forward = pente_layer_forward(t.model.layer, NULL, &x, &out);
    atomic_store(&allowed, -1);
    result.hash = hash_matrix(hash_bytes(FIRST_HASH, &loss, sizeof loss), &out);
    result.hash = hash_matrix(hash_matrix(result.hash, &t.model.weight), &t.model.bias_gradient);
    training_free(&t);
    OK(pente_threads_set(1));
    return result;
}

static void test_fewer_threads_when_memory_runs_out(void **state) {
    (void)state;
    skip_unless_counting();
    x = matrix_random(PENTE_FLOAT32, ROWS, INPUTS, INPUTS);
    y = matrix_random(PENTE_FLOAT32, ROWS, OUTPUTS, OUTPUTS);
    out = matrix_new(PENTE_FLOAT32, ROWS, OUTPUTS, OUTPUTS);
    outcome alone = try_with(1, -1);
    assert_true(try_with(4, -1).hash == alone.hash); /* the stacks that libc keeps are there from now on */
    long live = atomic_load(&live_blocks);
    int refused = 0;
    for (long count = 0; count < MOST; count++) {
        outcome several = try_with(4, count);
        assert_true(several.step == PENTE_OK || several.step == PENTE_OUT_OF_MEMORY);
        assert_true(several.forward == PENTE_OK || several.forward == PENTE_OUT_OF_MEMORY);
        if (several.step == PENTE_OK && several.forward == PENTE_OK) {
            assert_true(several.hash == alone.hash);
        } else {
            refused++;
        }
    }
    assert_in_range(refused, 1, MOST / 2);
    assert_int_equal(atomic_load(&live_blocks), live);
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&out);
}

/* Steps of a size that there has been allocate nothing, with threads as without. */
static void test_no_allocation_in_later_steps(void **state) {
    (void)state;
    skip_unless_counting();
    x = matrix_random(PENTE_FLOAT32, ROWS, INPUTS, INPUTS);
    y = matrix_random(PENTE_FLOAT32, ROWS, OUTPUTS, OUTPUTS);
    training t = training_new(PENTE_FLOAT32, INPUTS, OUTPUTS, PENTE_MEAN, 0.01);
    OK(pente_threads_set(4));
    OK(pente_trainer_step(t.trainer, &x, &y, NULL, NULL));
    long before = atomic_load(&allocations);
    for (int i = 0; i < 5; i++) OK(pente_trainer_step(t.trainer, &x, &y, NULL, NULL));
    assert_int_equal(atomic_load(&allocations), before);
    OK(pente_threads_set(1));
    training_free(&t);
    matrix_free(&x);
    matrix_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fewer_threads_when_memory_runs_out),
        cmocka_unit_test(test_no_allocation_in_later_steps),
    };
    return cmocka_run_group_tests_name("allocation_threads", tests, NULL, NULL);
}
