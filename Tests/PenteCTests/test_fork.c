/* fork: a child goes on where its parent stood, and comes to the same bits, threads or no threads. */
#define _DEFAULT_SOURCE /* fork, usleep */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

enum { N = 40, P = 12, ROWS = 3000 };

typedef struct result {
    float weight[P * N];
    double loss;
} result;

static pente_matrix x, y;

static bool train(pente_trainer *trainer, pente_layer *layer, result *r) {
    pente_matrix weight = pente_float32_matrix(r->weight, P, N);
    for (int step = 0; step < 6; step++) {
        if (pente_trainer_step(trainer, &x, &y, NULL, &r->loss)) return false;
    }
    return pente_layer_get_parameter(layer, "weight", &weight) == PENTE_OK;
}

/* Handles of its own, as a process of data loading or of a server makes them. */
static bool train_anew(result *r) {
    pente_layer *layer = NULL;
    pente_mse *mse = NULL;
    pente_sgd *sgd = NULL;
    pente_trainer *trainer = NULL;
    bool well = !pente_linear_new(N, P, NULL, &layer) && !pente_mse_new(NULL, &mse) &&
                !pente_sgd_new(&layer, 1, NULL, &sgd) && !pente_trainer_new(layer, mse, sgd, &trainer) &&
                train(trainer, layer, r);
    return !pente_trainer_free(trainer) && !pente_sgd_free(sgd) && !pente_mse_free(mse) && !pente_layer_free(layer) &&
           well;
}

static void write_all(int file, const result *r) {
    const char *bytes = (const char *)r;
    for (size_t done = 0; done < sizeof *r;) {
        ssize_t count = write(file, bytes + done, sizeof *r - done);
        if (count <= 0) _exit(1);
        done += (size_t)count;
    }
}

static void read_all(int file, result *r) {
    char *bytes = (char *)r;
    for (size_t done = 0; done < sizeof *r;) {
        ssize_t count = read(file, bytes + done, sizeof *r - done);
        assert_true(count > 0);
        done += (size_t)count;
    }
}

/* The child's answer. It has ten minutes: a hang is a failure, not a wait. */
static void run_child(pente_trainer *trainer, pente_layer *layer, result *going_on, result *anew) {
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        result r;
        alarm(600);
        memset(&r, 0, sizeof r);
        if (!train(trainer, layer, &r)) _exit(2);
        write_all(ends[1], &r);
        if (!train_anew(&r)) _exit(3);
        write_all(ends[1], &r);
        _exit(0);
    }
    close(ends[1]);
    read_all(ends[0], going_on);
    read_all(ends[0], anew);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_child_trains_to_the_same_bits(void **state) {
    (void)state;
    static result mine, mine_anew, childs, childs_anew;
    model m = model_new(PENTE_FLOAT32, N, P, true, 5);
    pente_mse *mse = mse_new(PENTE_MEAN);
    pente_sgd *sgd = sgd_new(&m, 0.01, 0.9);
    pente_trainer *trainer = trainer_new(&m, mse, sgd);
    x = matrix_random(PENTE_FLOAT32, ROWS, N, N);
    y = matrix_random(PENTE_FLOAT32, ROWS, P, P);
    for (int generation = 0; generation < 2; generation++) {
        /* From the second time on, whatever threads the library starts have been started. */
        run_child(trainer, m.layer, &childs, &childs_anew);
        assert_true(train(trainer, m.layer, &mine));
        assert_true(train_anew(&mine_anew));
        assert_memory_equal(&childs, &mine, sizeof mine);
        assert_memory_equal(&childs_anew, &mine_anew, sizeof mine_anew);
    }
    OK(pente_trainer_free(trainer));
    OK(pente_sgd_free(sgd));
    OK(pente_mse_free(mse));
    model_free(&m);
    matrix_free(&x);
    matrix_free(&y);
}

/* ---- A fork while other threads are in the library: no lock of theirs may stay locked in the child ---- */

static atomic_bool is_over;

static void *keep_busy(void *argument) {
    static _Thread_local result r;
    while (!atomic_load(&is_over)) {
        if (!train_anew(&r)) atomic_store((atomic_bool *)argument, true);
    }
    return NULL;
}

static void test_fork_during_calls(void **state) {
    (void)state;
    atomic_bool has_failed = false;
    pthread_t threads[2];
    x = matrix_random(PENTE_FLOAT32, 3, N, N);
    y = matrix_random(PENTE_FLOAT32, 3, P, P);
    atomic_store(&is_over, false);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, &has_failed), 0);
    for (int i = 0; i < 25; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            static result r;
            alarm(60);
            /* exec, not exit: the other threads' stacks are gone, and what they held would count as leaked. */
            if (train_anew(&r)) execlp("true", "true", (char *)NULL);
            _exit(1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_false(atomic_load(&has_failed));
    matrix_free(&x);
    matrix_free(&y);
}

/* ---- A fork within a fit's callback, while other threads are in calls that the child will never see end ---- */

/* Runs a callback of the reader's until it is told to return; or sets options, again and again. */
typedef struct other_thread {
    pthread_t thread;
    pente_layer *chain;
    pente_sgd *sgd;
    pente_matrix x, y;
    atomic_bool is_within, is_over;
} other_thread;

static pente_status wait_within(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                                void *user_data) {
    other_thread *other = user_data;
    (void)parameters;
    memcpy(out->data, in->data, (size_t)(in->rows * in->columns) * sizeof(float));
    atomic_store(&other->is_within, true);
    while (!atomic_load(&other->is_over)) usleep(100);
    return PENTE_OK;
}

static pente_status refuse(const pente_matrix *parameters, const pente_matrix *in, const pente_matrix *out,
                           const pente_matrix *grad_output, const pente_matrix *grad_input,
                           const pente_matrix *gradients, void *user_data) {
    (void)parameters, (void)in, (void)out, (void)grad_output, (void)grad_input, (void)gradients, (void)user_data;
    return PENTE_USER;
}

static void *read_for_long(void *argument) {
    other_thread *other = argument;
    pente_status status = pente_layer_forward(other->chain, NULL, &other->x, &other->y);
    return (void *)(intptr_t)status;
}

static void *set_options(void *argument) {
    other_thread *other = argument;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    options.momentum = 0.5;
    atomic_store(&other->is_within, true);
    while (!atomic_load(&other->is_over)) {
        pente_status status = pente_sgd_set_options(other->sgd, 0, &options);
        if (status != PENTE_OK && status != PENTE_BUSY) return (void *)(intptr_t)status;
    }
    return NULL;
}

typedef struct forking_fit {
    other_thread other;
    void *(*body)(void *);
    pid_t child;
} forking_fit;

static int32_t fork_in_first_epoch(const pente_epoch *epoch, void *user_data) {
    forking_fit *f = user_data;
    if (epoch->epoch > 1) return 0;
    if (pthread_create(&f->other.thread, NULL, f->body, &f->other)) return 1;
    while (!atomic_load(&f->other.is_within)) usleep(100);
    f->child = fork();
    if (f->child == 0) {
        alarm(60);
        return 0;
    }
    atomic_store(&f->other.is_over, true);
    return 0;
}

enum { FORKING_EPOCHS = 3 };

static pente_status fit(training *t, forking_fit *f) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = FORKING_EPOCHS;
    options.on_epoch = f ? fork_in_first_epoch : NULL;
    options.user_data = f;
    return pente_trainer_fit(t->trainer, &x, &y, &options, NULL);
}

/* In the child, whose fit ended so: the bits of one that nobody disturbed or, of one that is refused, those from before. */
static bool is_right(training *t, pente_status status, pente_status allowed) {
    training same = training_new(PENTE_FLOAT32, N, P, PENTE_MEAN, 0.001);
    if (status == PENTE_OK) OK(fit(&same, NULL));
    bool well = (status == PENTE_OK || status == allowed) && same_bits("weight", &t->model.weight, &same.model.weight);
    training_free(&same);
    /* What the other thread was reading is read for ever. All the rest is as ever, or never waits. */
    pente_status step = pente_trainer_step(t->trainer, &x, &y, NULL, NULL);
    well = well && (step == PENTE_OK || step == PENTE_BUSY) && !pente_layer_forward(t->model.layer, NULL, &x, &y);
    return well && !pente_trainer_free(t->trainer) && !pente_sgd_free(t->sgd) && !pente_mse_free(t->mse) &&
           !pente_layer_free(t->model.layer);
}

static void fit_and_fork(void *(*body)(void *), pente_status allowed) {
    void *result = NULL;
    int status = 0;
    training t = training_new(PENTE_FLOAT32, N, P, PENTE_MEAN, 0.001);
    forking_fit f = {.body = body, .child = -1};
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    pente_layer *layers[2] = {t.model.layer, NULL};
    x = matrix_random(PENTE_FLOAT32, 30, N, N);
    y = matrix_random(PENTE_FLOAT32, 30, P, P);
    options.forward = wait_within;
    options.backward = refuse;
    options.user_data = &f.other;
    OK(pente_custom_new(&options, &layers[1]));
    OK(pente_chain_new(layers, 2, &f.other.chain));
    f.other.sgd = t.sgd;
    f.other.x = x;
    f.other.y = matrix_random(PENTE_FLOAT32, 30, P, P);
    pente_status ended = fit(&t, &f);
    if (f.child == 0) {
        if (is_right(&t, ended, allowed)) execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    assert_int_equal(ended, PENTE_OK);
    assert_int_equal(waitpid(f.child, &status, 0), f.child);
    assert_int_equal(status, 0);
    pthread_join(f.other.thread, &result);
    assert_null(result);
    OK(pente_layer_free(f.other.chain));
    OK(pente_layer_free(layers[1]));
    training_free(&t);
    matrix_free(&f.other.y);
    matrix_free(&x);
    matrix_free(&y);
}

static void test_fork_in_a_fit_beside_a_reader(void **state) {
    (void)state;
    fit_and_fork(read_for_long, PENTE_OK);
}

static void test_fork_in_a_fit_beside_a_writer(void **state) {
    (void)state;
    for (int i = 0; i < (RUNNING_ON_VALGRIND ? 2 : 50); i++) fit_and_fork(set_options, PENTE_BUSY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_trains_to_the_same_bits),
        cmocka_unit_test(test_fork_during_calls),
        cmocka_unit_test(test_fork_in_a_fit_beside_a_reader),
        cmocka_unit_test(test_fork_in_a_fit_beside_a_writer),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
