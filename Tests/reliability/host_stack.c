/* Threads with little stack: every function, and training, on one of 64 KB; and how deep each goes, as what it leaves of
 * a painted stack shows. With an argument it prints the figures. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, pthread_attr_setstack */
#include "files.h"
#include "refusals.h"
#include "workout.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STACK = 64 << 10, GUARD = 64 << 10, PAINT = 0xA5, MOST = 24 << 10 };

static bool prints;

/* What is run, on which stack, and where it began there. */
typedef struct run {
    void (*body)(void *argument);
    void *argument;
    unsigned char *stack, *top;
} run;

static void *start(void *argument) {
    run *r = argument;
    r->top = (unsigned char *)__builtin_frame_address(0);
    memset(r->stack, PAINT, (size_t)(r->top - r->stack) - 1024); /* all that is free, but for memset's own frame */
    r->body(r->argument);
    return NULL;
}

/* Runs it on a stack of this size, with a guard below; returns how many bytes of that it has used. */
static long depth_of(void (*body)(void *argument), void *argument, size_t size) {
    unsigned char *memory = mmap(NULL, GUARD + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED && mprotect(memory, GUARD, PROT_NONE) == 0);
    run r = {body, argument, memory + GUARD, NULL};
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, r.stack, size), 0);
    assert_int_equal(pthread_create(&thread, &attributes, start, &r), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    unsigned char *lowest = r.stack;
    while (*lowest == PAINT) lowest++;
    long depth = r.top - lowest;
    munmap(memory, GUARD + size);
    return depth;
}

/* ---- Every function ---- */

typedef struct call {
    const function *function;
    value arguments[8];
    pente_status status;
} call;

static void make_call(void *argument) {
    call *c = argument;
    c->status = c->function->call(c->arguments);
}

static void check_depth(const char *name, long depth, long most) {
    if (prints) print_message("%6ld %s\n", depth, name);
    if (depth > most) fail_msg("%s uses %ld bytes of stack", name, depth);
}

static void test_every_function(void **state) {
    (void)state;
    for (size_t k = 0; k < function_count; k++) {
        world *w = world_new();
        call right = {&functions[k], {{0}}, 0}, wrong = {&functions[k], {{0}}, 0};
        right_values(w, right.function, right.arguments);
        long refused = depth_of(make_call, &wrong, STACK), done = depth_of(make_call, &right, STACK);
        OK(right.status);
        check_depth(functions[k].name, done > refused ? done : refused, MOST);
        if (w->now.made != w->pristine.made) free_made(w->now.made);
        world_free(w);
    }
}

/* ---- All kinds of training ---- */

static void work_out(void *argument) {
    uint64_t *bits = argument;
    *bits = workout(*bits != 0);
}

static void test_training(void **state) {
    (void)state;
    for (int large = 0; large < 2; large++) {
        uint64_t expected = workout(large), bits = (uint64_t)large;
        OK(pente_threads_set(large ? 3 : 1));
        check_depth(large ? "training, several threads" : "training", depth_of(work_out, &bits, STACK), MOST);
        OK(pente_threads_set(1));
        assert_true(bits == expected);
    }
}

/* ---- Chains in chains, which want twice as much ---- */

enum { DEEPEST = 64 };

/* Makes, trains, saves and loads a chain so many levels deep. */
static void use_nested(void *argument) {
    int depth = *(int *)argument;
    pente_layer *chain = linear_new(PENTE_FLOAT32, 3, 2, 1), *loaded = NULL;
    for (int i = 0; i < depth; i++) chain = CHAIN(chain);
    pente_matrix x = matrix_random(PENTE_FLOAT32, 9, 3, 3), y = matrix_random(PENTE_FLOAT32, 9, 2, 2);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(chain, 0.01, 0.9);
    pente_trainer *trainer = trainer_of(chain, mse, sgd);
    OK(pente_trainer_fit(trainer, &x, &y, NULL, NULL));
    OK(pente_layer_save(chain, sgd, path_of("nested")));
    OK(pente_layer_load(path_of("nested"), &loaded));
    OK(pente_layer_load_parameters(chain, sgd, path_of("nested")));
    OK(pente_layer_forward(loaded, NULL, &x, &y));
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    OK(pente_layer_free(chain));
    OK(pente_layer_free(loaded));
    matrix_free(&x);
    matrix_free(&y);
}

static void test_nested_chains(void **state) {
    (void)state;
    for (int depth = 1; depth <= DEEPEST; depth *= 4) {
        char name[40];
        snprintf(name, sizeof name, "chains %d deep", depth);
        check_depth(name, depth_of(use_nested, &depth, 2 * STACK), 2 * STACK);
    }
}

int main(int count, char **arguments) {
    (void)arguments;
    prints = count > 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_function),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_nested_chains),
    };
    return cmocka_run_group_tests_name("host_stack", tests, directory_new, directory_free);
}
