/* Threads and chains: what is said of a layer holds for those in a chain too. Assertions jump, so they stay in the main
 * thread; the others count what went wrong. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include "layers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 6, Q = 70 };

static atomic_int wrong, busy, done;

/* Counts a status that is neither OK nor allowed; true for OK. */
static bool went_well(pente_status status, pente_status allowed) {
    if (status == PENTE_OK) return true;
    atomic_fetch_add(status == allowed ? &busy : &wrong, 1);
    return false;
}

static void expect(bool condition) {
    if (!condition) atomic_fetch_add(&wrong, 1);
}

/* Each body is given its number's part of an array. A hang is a failure, not a wait. */
static void run_threads(void *(*body)(void *), void *arguments, size_t size, int count) {
    pthread_t threads[THREADS];
    atomic_store(&wrong, 0);
    atomic_store(&busy, 0);
    alarm(300);
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, body, (char *)arguments + (size_t)i * size), 0);
    }
    for (int i = 0; i < count; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    alarm(0);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* ---- Readers share ---- */

typedef struct reader {
    pente_layer *chain;
    pente_matrix x, expected;
} reader;

static void *read_chain(void *argument) {
    const reader *r = argument;
    pente_matrix y = matrix_new(PENTE_FLOAT32, Q, TALL_OUTPUTS, TALL_OUTPUTS);
    pente_matrix weight = matrix_new(PENTE_FLOAT32, 8, TALL_INPUTS, TALL_INPUTS);
    pente_context *context = NULL;
    went_well(pente_context_new(r->chain, &context), PENTE_OK);
    for (int i = 0; i < 200; i++) {
        pente_layer *child = NULL;
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        fill(&y, 0);
        went_well(pente_layer_forward(r->chain, i % 2 ? context : NULL, &r->x, &y), PENTE_OK);
        expect(memcmp(y.data, r->expected.data, Q * TALL_OUTPUTS * sizeof(float)) == 0);
        went_well(pente_chain_get_layer(r->chain, 1, &child), PENTE_OK);
        went_well(pente_layer_get_parameter(child, "weight", &weight), PENTE_OK);
        went_well(pente_layer_get_parameter(r->chain, "1.weight", &weight), PENTE_OK);
        went_well(pente_layer_get_info(child, &info), PENTE_OK);
        went_well(pente_layer_free(child), PENTE_OK);
    }
    went_well(pente_context_free(context), PENTE_OK);
    matrix_free(&y);
    matrix_free(&weight);
    return NULL;
}

static void test_readers_share(void **state) {
    (void)state;
    reader r = {tall_chain_new(PENTE_FLOAT32, 1), matrix_random(PENTE_FLOAT32, Q, TALL_INPUTS, TALL_INPUTS),
                matrix_new(PENTE_FLOAT32, Q, TALL_OUTPUTS, TALL_OUTPUTS)};
    OK(pente_layer_forward(r.chain, NULL, &r.x, &r.expected));
    run_threads(read_chain, &r, 0, THREADS);
    assert_int_equal(atomic_load(&busy), 0);
    OK(pente_layer_free(r.chain));
    matrix_free(&r.x);
    matrix_free(&r.expected);
}

/* ---- Trainers that share ---- */

typedef struct learner {
    pente_layer *chain;
    pente_trainer *trainer;
    pente_matrix x, y;
    int steps;
} learner;

static learner learner_new(pente_layer *chain) {
    learner l = {.chain = chain};
    l.x = matrix_random(PENTE_FLOAT32, Q, 4, 4);
    l.y = matrix_random(PENTE_FLOAT32, Q, 2, 2);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(chain, 0.01, 0.5);
    l.trainer = trainer_of(chain, mse, sgd);
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    return l;
}

static void learner_free(learner *l) {
    OK(pente_trainer_free(l->trainer));
    OK(pente_layer_free(l->chain));
    matrix_free(&l->x);
    matrix_free(&l->y);
}

static void *learn(void *argument) {
    learner *l = argument;
    for (int i = 0; i < 200; i++) {
        if (went_well(pente_trainer_step(l->trainer, &l->x, &l->y, NULL, NULL), PENTE_BUSY)) l->steps++;
        if (i % 20 == 0) went_well(pente_trainer_fit(l->trainer, &l->x, &l->y, NULL, NULL), PENTE_BUSY);
    }
    return NULL;
}

/* One activation in the chains of two threads is in neither's way. */
static void test_shared_activation(void **state) {
    (void)state;
    pente_layer *tanh = activation_new(PENTE_FLOAT32, PENTE_TANH);
    learner shared[2], separate[2];
    for (int i = 0; i < 2; i++) {
        pente_layer *chain = NULL, *first = linear_new(PENTE_FLOAT32, 4, 3, (uint64_t)i);
        pente_layer *last = linear_new(PENTE_FLOAT32, 3, 2, 7);
        OK(pente_chain_new((pente_layer *[]){first, tanh, last, tanh}, 4, &chain));
        OK(pente_layer_free(first));
        OK(pente_layer_free(last));
        shared[i] = learner_new(chain);
        first = linear_new(PENTE_FLOAT32, 4, 3, (uint64_t)i);
        last = linear_new(PENTE_FLOAT32, 3, 2, 7);
        separate[i] = learner_new(CHAIN(first, activation_new(PENTE_FLOAT32, PENTE_TANH), last,
                                        activation_new(PENTE_FLOAT32, PENTE_TANH)));
        memcpy(separate[i].x.data, shared[i].x.data, Q * 4 * sizeof(float));
        memcpy(separate[i].y.data, shared[i].y.data, Q * 2 * sizeof(float));
    }
    OK(pente_layer_free(tanh));
    run_threads(learn, shared, sizeof shared[0], 2);
    assert_int_equal(atomic_load(&busy), 0);
    for (int i = 0; i < 2; i++) {
        (void)learn(&separate[i]);
        assert_true(same_layers(shared[i].chain, separate[i].chain));
        learner_free(&shared[i]);
        learner_free(&separate[i]);
    }
}

/* Chains that share what is trained, one forward and one backward in their order: each step is done or refused, and
 * none waits for another that waits for it. */
static void test_shared_parameters(void **state) {
    (void)state;
    pente_layer *one = linear_new(PENTE_FLOAT32, 4, 4, 1), *two = linear_new(PENTE_FLOAT32, 4, 4, 2);
    pente_layer *lasts[] = {linear_new(PENTE_FLOAT32, 4, 2, 3), linear_new(PENTE_FLOAT32, 4, 2, 4)};
    pente_layer *chains[2] = {NULL, NULL};
    learner learners[THREADS];
    OK(pente_chain_new((pente_layer *[]){one, two, lasts[0]}, 3, &chains[0]));
    OK(pente_chain_new((pente_layer *[]){two, one, lasts[1]}, 3, &chains[1]));
    for (int i = 0; i < THREADS; i++) learners[i] = learner_new(chains[i % 2]);
    run_threads(learn, learners, sizeof learners[0], THREADS);
    for (int i = 0; i < THREADS; i++) {
        OK(pente_trainer_step(learners[i].trainer, &learners[i].x, &learners[i].y, NULL, NULL)); /* nothing is locked */
        OK(pente_trainer_free(learners[i].trainer));
        matrix_free(&learners[i].x);
        matrix_free(&learners[i].y);
    }
    pente_layer *layers[] = {one, two, lasts[0], lasts[1], chains[0], chains[1]};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
}

/* ---- A child and its chain ---- */

/* Whoever writes a child keeps the chain's readers out, so a result is that of one state: with all weights equal and no
 * bias, all of y is equal. */
typedef struct family {
    pente_layer *chain, *child;
    bool is_writer;
} family;

static void *write_or_read(void *argument) {
    const family *f = argument;
    pente_matrix value = matrix_new(PENTE_FLOAT32, 40, 30, 30), x = matrix_new(PENTE_FLOAT32, 20, 30, 30);
    pente_matrix y = matrix_new(PENTE_FLOAT32, 20, 40, 40);
    fill(&x, 1);
    for (int i = 0; i < 500; i++) {
        fill(&value, i % 32);
        if (f->is_writer) {
            went_well(pente_layer_set_parameter(f->child, "weight", &value), PENTE_BUSY);
        } else if (went_well(pente_layer_forward(f->chain, NULL, &x, &y), PENTE_BUSY)) {
            bool all_equal = true;
            for (int64_t k = 0; k < 20 * 40; k++) all_equal = all_equal && get(&y, k / 40, k % 40) == get(&y, 0, 0);
            expect(all_equal);
        }
    }
    matrix_free(&value);
    matrix_free(&x);
    matrix_free(&y);
    return NULL;
}

static void test_no_torn_child(void **state) {
    (void)state;
    family members[THREADS];
    pente_layer *child = model_new(PENTE_FLOAT32, 30, 40, false, 1).layer, *chain = NULL;
    pente_layer *relu = activation_new(PENTE_FLOAT32, PENTE_RELU);
    pente_matrix weight = parameter_of(child, "weight");
    fill(&weight, 1);
    OK(pente_chain_new((pente_layer *[]){relu, child, relu}, 3, &chain));
    for (int i = 0; i < THREADS; i++) members[i] = (family){chain, child, i % 3 == 0};
    run_threads(write_or_read, members, sizeof members[0], THREADS);
    pente_layer *layers[] = {child, relu, chain};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
}

/* While the chain is at work, which one of its callbacks holds up, another thread finds it and its children busy. */
typedef struct witness {
    affine own;
    pente_layer *chain, *sibling;
    pente_trainer *trainer;
    pente_matrix value, x, y;
    bool is_written; /* the chain is, not only read */
    int visits;
} witness;

static void *look_on(void *argument) {
    witness *w = argument;
    pente_matrix back = matrix_copy(&w->value), x = matrix_random(PENTE_FLOAT32, 2, 3, 3);
    pente_matrix y = matrix_random(PENTE_FLOAT32, 2, 3, 3), two_y = matrix_random(PENTE_FLOAT32, 2, 2, 2);
    pente_status read = w->is_written ? PENTE_BUSY : PENTE_OK;
    expect(pente_layer_set_parameter(w->sibling, "weight", &w->value) == PENTE_BUSY);
    expect(pente_layer_zero_gradients(w->sibling) == PENTE_BUSY);
    expect(pente_layer_zero_gradients(w->chain) == PENTE_BUSY);
    expect(pente_layer_zero_gradients(w->own.layer) == PENTE_BUSY);
    expect(pente_layer_get_parameter(w->sibling, "weight", &back) == read);
    expect(pente_layer_forward(w->sibling, NULL, &x, &y) == read);
    expect(pente_layer_forward(w->own.layer, NULL, &x, &y) == PENTE_BUSY); /* its callback is running */
    expect(pente_layer_forward(w->chain, NULL, &x, &two_y) == PENTE_BUSY);
    pente_matrix *matrices[] = {&back, &x, &y, &two_y};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    return NULL;
}

static void let_another_look_on(affine *own) {
    witness *w = own->of_inside;
    pthread_t thread;
    w->visits++;
    expect(pthread_create(&thread, NULL, look_on, w) == 0);
    pthread_join(thread, NULL);
}

static void test_child_of_a_running_chain(void **state) {
    (void)state;
    witness w = {.value = matrix_random(PENTE_FLOAT32, 3, 3, 3), .x = matrix_random(PENTE_FLOAT32, 4, 3, 3),
                 .y = matrix_random(PENTE_FLOAT32, 4, 2, 2), .sibling = linear_new(PENTE_FLOAT32, 3, 3, 1)};
    affine_new(&w.own, PENTE_FLOAT32, 3, 3, 1);
    pente_layer *last = linear_new(PENTE_FLOAT32, 3, 2, 1);
    OK(pente_chain_new((pente_layer *[]){w.sibling, w.own.layer, last}, 3, &w.chain));
    learner l = {.chain = w.chain, .x = w.x, .y = w.y};
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_of(w.chain, 0.01, 0.5);
    l.trainer = trainer_of(w.chain, mse, sgd);
    w.own.inside = let_another_look_on;
    w.own.of_inside = &w;
    atomic_store(&wrong, 0);
    alarm(120);
    pente_matrix out = matrix_copy(&w.y);
    OK(pente_layer_forward(w.chain, NULL, &w.x, &out));
    assert_true(w.visits == 1 && atomic_load(&wrong) == 0);
    w.is_written = true;
    OK(pente_trainer_step(l.trainer, &w.x, &w.y, NULL, NULL));
    assert_true(w.visits == 3 && atomic_load(&wrong) == 0);
    OK(pente_trainer_fit(l.trainer, &w.x, &w.y, NULL, NULL));
    assert_true(w.visits == 5 && atomic_load(&wrong) == 0);
    alarm(0);
    OK(pente_trainer_free(l.trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    pente_layer *layers[] = {w.sibling, w.own.layer, last, w.chain};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
    assert_int_equal(w.own.releases, 1);
    pente_matrix *matrices[] = {&w.value, &w.x, &w.y, &out};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

/* ---- Two threads on one layer of one's own ---- */

static atomic_int running;

static void expect_to_be_alone(affine *own) {
    (void)own;
    expect(atomic_fetch_add(&running, 1) == 0);
    for (volatile int i = 0; i < 100; i++) {}
    atomic_fetch_sub(&running, 1);
}

static void *run_custom(void *argument) {
    const reader *r = argument;
    pente_matrix y = matrix_copy(&r->expected);
    for (int i = 0; i < 500; i++) {
        fill(&y, 0);
        if (!went_well(pente_layer_forward(r->chain, NULL, &r->x, &y), PENTE_BUSY)) continue;
        expect(memcmp(y.data, r->expected.data, Q * 2 * sizeof(float)) == 0);
        atomic_fetch_add(&done, 1);
    }
    matrix_free(&y);
    return NULL;
}

/* Each call is done or busy; callbacks of one layer never run side by side, be it alone or in chains. */
static void test_one_custom_layer(void **state) {
    (void)state;
    affine own = {.inside = expect_to_be_alone};
    affine_new(&own, PENTE_FLOAT32, 3, 2, 1);
    reader readers[2] = {{own.layer, matrix_random(PENTE_FLOAT32, Q, 3, 3), matrix_new(PENTE_FLOAT32, Q, 2, 2)}};
    readers[1] = readers[0];
    OK(pente_chain_new(&own.layer, 1, &readers[1].chain));
    OK(pente_layer_forward(own.layer, NULL, &readers[0].x, &readers[0].expected));
    run_threads(run_custom, readers, sizeof readers[0], 2);
    assert_true(atomic_load(&done) > 0 && own.wrong == 0);
    for (int i = 0; i < 2; i++) OK(pente_layer_free(readers[i].chain));
    assert_int_equal(own.releases, 1);
    matrix_free(&readers[0].x);
    matrix_free(&readers[0].expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_share),
        cmocka_unit_test(test_shared_activation),
        cmocka_unit_test(test_shared_parameters),
        cmocka_unit_test(test_no_torn_child),
        cmocka_unit_test(test_child_of_a_running_chain),
        cmocka_unit_test(test_one_custom_layer),
    };
    return cmocka_run_group_tests_name("threads and chains", tests, NULL, NULL);
}
