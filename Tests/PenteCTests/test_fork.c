/* fork: a child goes on where its parent stood, and comes to the same bits, threads or no threads. */
#define _POSIX_C_SOURCE 200809L /* fork */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_trains_to_the_same_bits),
        cmocka_unit_test(test_fork_during_calls),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
