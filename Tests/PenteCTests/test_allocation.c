/* Which calls allocate, and what happens when they cannot: this program's malloc counts, and fails on request. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The allocator that stands before libc's ---- */

static atomic_long allocations, live_blocks; /* of all threads */
static atomic_long allowed = -1;             /* how many more succeed; -1: all */
static atomic_long refused;

static bool may_allocate(void) {
    atomic_fetch_add(&allocations, 1);
    long left = atomic_load(&allowed);
    while (left > 0 && !atomic_compare_exchange_weak(&allowed, &left, left - 1)) {}
    if (left != 0) return true;
    atomic_fetch_add(&refused, 1);
    errno = ENOMEM;
    return false;
}

static void *counted(void *block) {
    if (block) atomic_fetch_add(&live_blocks, 1);
    return block;
}

/* A function of libc's, looked up once; void * is not a function pointer in ISO C, hence the copy. */
#define NEXT(type, name, parameters)            \
    static type(*next) parameters;              \
    if (!next) {                                \
        void *symbol = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &symbol, sizeof next);    \
    }

void *malloc(size_t size) {
    NEXT(void *, malloc, (size_t))
    return may_allocate() ? counted(next(size)) : NULL;
}

void *calloc(size_t count, size_t size) {
    NEXT(void *, calloc, (size_t, size_t))
    return may_allocate() ? counted(next(count, size)) : NULL;
}

void *realloc(void *old, size_t size) {
    NEXT(void *, realloc, (void *, size_t))
    if (!may_allocate()) return NULL;
    void *block = next(old, size);
    return old ? block : counted(block);
}

void *aligned_alloc(size_t alignment, size_t size) {
    NEXT(void *, aligned_alloc, (size_t, size_t))
    return may_allocate() ? counted(next(alignment, size)) : NULL;
}

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    NEXT(int, posix_memalign, (void **, size_t, size_t))
    if (!may_allocate()) return ENOMEM;
    int error = next(pointer, alignment, size);
    if (!error) atomic_fetch_add(&live_blocks, 1);
    return error;
}

void free(void *block) {
    NEXT(void, free, (void *))
    if (block) atomic_fetch_sub(&live_blocks, 1);
    next(block);
}

/* Valgrind puts its own allocator before this one. */
static void skip_unless_counting(void) {
    long before = atomic_load(&allocations);
    void *volatile block = malloc(100);
    free(block);
    if (atomic_load(&allocations) == before) skip();
}

/* ---- What is under test ---- */

enum { Q = 40, N = 7, P = 3 };

typedef struct bench {
    model model, other;
    pente_mse *mse, *none;
    pente_sgd *sgd;
    pente_trainer *trainer;
    pente_context *context;
    pente_matrix x, y, x64, y64, out, grad_input;
    model model64;
    void *made;
    double losses[3];
    pente_gradcheck_report report;
} bench;

static bench bench_new(void) {
    bench b = {.model = model_new(PENTE_FLOAT32, N, P, true, 1), .other = model_new(PENTE_FLOAT32, N, P, true, 2),
               .model64 = model_new(PENTE_FLOAT64, N, P, true, 3), .mse = mse_new(PENTE_MEAN),
               .none = mse_new(PENTE_NONE), .report = PENTE_GRADCHECK_REPORT_INIT};
    b.sgd = sgd_new(&b.model, 0.1, 0.9);
    b.trainer = trainer_new(&b.model, b.mse, b.sgd);
    b.x = matrix_random(PENTE_FLOAT32, Q, N, N);
    b.y = matrix_random(PENTE_FLOAT32, Q, P, P);
    b.out = matrix_random(PENTE_FLOAT32, Q, P, P);
    b.grad_input = matrix_random(PENTE_FLOAT32, Q, N, N);
    b.x64 = matrix_random(PENTE_FLOAT64, Q, N, N);
    b.y64 = matrix_random(PENTE_FLOAT64, Q, P, P);
    OK(pente_context_new(b.model.layer, &b.context));
    return b;
}

static void bench_free(bench *b) {
    OK(pente_context_free(b->context));
    OK(pente_trainer_free(b->trainer));
    OK(pente_sgd_free(b->sgd));
    OK(pente_mse_free(b->mse));
    OK(pente_mse_free(b->none));
    model_free(&b->model);
    model_free(&b->other);
    model_free(&b->model64);
    pente_matrix *matrices[] = {&b->x, &b->y, &b->out, &b->grad_input, &b->x64, &b->y64};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static pente_status make_linear(bench *b) { return pente_linear_new(N, P, NULL, (pente_layer **)&b->made); }
static pente_status make_context(bench *b) { return pente_context_new(b->model.layer, (pente_context **)&b->made); }
static pente_status make_mse(bench *b) { return pente_mse_new(NULL, (pente_mse **)&b->made); }
static pente_status make_sgd(bench *b) {
    return pente_sgd_new(&b->other.layer, 1, NULL, (pente_sgd **)&b->made);
}
static pente_status make_trainer(bench *b) {
    return pente_trainer_new(b->model.layer, b->mse, b->sgd, (pente_trainer **)&b->made);
}
static pente_status add_group(bench *b) { return pente_sgd_add_group(b->sgd, &b->other.layer, 1, NULL); }
static pente_status infer(bench *b) { return pente_layer_forward(b->model.layer, NULL, &b->x, &b->out); }
static pente_status forward(bench *b) { return pente_layer_forward(b->model.layer, b->context, &b->x, &b->out); }
static pente_status backward(bench *b) {
    return pente_layer_backward(b->model.layer, b->context, &b->y, &b->grad_input);
}
static pente_status loss(bench *b) { return pente_mse_forward(b->mse, &b->out, &b->y, NULL, b->losses); }
static pente_status squares(bench *b) {
    pente_matrix prediction = rows_of(&b->out, 0, Q / 2), result = rows_of(&b->out, Q / 2, Q / 2);
    pente_matrix target = rows_of(&b->y, 0, Q / 2);
    return pente_mse_forward_elements(b->none, &prediction, &target, NULL, &result);
}
static pente_status loss_backward(bench *b) {
    pente_matrix prediction = rows_of(&b->out, 0, Q / 2), result = rows_of(&b->out, Q / 2, Q / 2);
    pente_matrix target = rows_of(&b->y, 0, Q / 2);
    return pente_mse_backward(b->mse, &prediction, &target, NULL, NULL, &result, NULL);
}
static pente_status sgd_step(bench *b) { return pente_sgd_step(b->sgd); }
static pente_status trainer_step(bench *b) { return pente_trainer_step(b->trainer, &b->x, &b->y, NULL, b->losses); }
static pente_status fit(bench *b) {
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    options.epochs = 3;
    options.batch_size = 16;
    options.validation_x = &b->x;
    options.validation_y = &b->y;
    options.patience = 3;
    options.training_losses = b->losses;
    return pente_trainer_fit(b->trainer, &b->x, &b->y, &options, NULL);
}
static pente_status check(bench *b) {
    return pente_gradcheck(b->model64.layer, b->mse, &b->x64, &b->y64, NULL, &b->report);
}

typedef struct action {
    const char *name;
    pente_status (*run)(bench *b);
} action;

/* In this order each has what it needs from those before it. */
static const action actions[] = {
    {"linear_new", make_linear},       {"context_new", make_context}, {"mse_new", make_mse},
    {"sgd_new", make_sgd},             {"trainer_new", make_trainer}, {"inference", infer},
    {"forward", forward},              {"backward", backward},        {"mse_forward", loss},
    {"mse_forward_elements", squares}, {"mse_backward", loss_backward}, {"sgd_step", sgd_step},
    {"trainer_step", trainer_step},    {"fit", fit},                  {"sgd_add_group", add_group},
    {"gradcheck", check},
};

static void free_made(bench *b) {
    pente_status ignored[] = {pente_layer_free(b->made), pente_context_free(b->made), pente_mse_free(b->made),
                              pente_sgd_free(b->made), pente_trainer_free(b->made)};
    (void)ignored;
    b->made = NULL;
}

static bool same_benches(const bench *a, const bench *b) {
    return same_model(&a->model, &b->model) && same_model(&a->other, &b->other) &&
           same_model(&a->model64, &b->model64) && same_bits("out", &a->out, &b->out) &&
           same_bits("grad_input", &a->grad_input, &b->grad_input) &&
           memcmp(a->losses, b->losses, sizeof a->losses) == 0;
}

static bench bench_copy(const bench *b) {
    bench copy = *b;
    pente_matrix *matrices[] = {&copy.out, &copy.grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) *matrices[i] = matrix_copy(matrices[i]);
    model *models[] = {&copy.model, &copy.other, &copy.model64};
    for (size_t i = 0; i < COUNT(models); i++) {
        models[i]->weight = matrix_copy(&models[i]->weight);
        models[i]->bias = matrix_copy(&models[i]->bias);
        models[i]->weight_gradient = matrix_copy(&models[i]->weight_gradient);
        models[i]->bias_gradient = matrix_copy(&models[i]->bias_gradient);
    }
    return copy;
}

static void bench_copy_free(bench *copy) {
    matrix_free(&copy->out);
    matrix_free(&copy->grad_input);
    model *models[] = {&copy->model, &copy->other, &copy->model64};
    for (size_t i = 0; i < COUNT(models); i++) {
        matrix_free(&models[i]->weight);
        matrix_free(&models[i]->bias);
        matrix_free(&models[i]->weight_gradient);
        matrix_free(&models[i]->bias_gradient);
    }
}

/* What a child process found; DONE is the call that had memory enough. */
enum { REFUSED_WELL, DONE, WRONG_STATUS, CHANGED_STATE, FAILED_AFTERWARDS, OTHER_BITS, LEAKED };
static const char *const findings[] = {"was refused", "was done", "gave another status", "changed something",
                                       "failed with memory again", "gave other bits with memory again", "leaked"};

/* Lets so many allocations succeed, then none. A refused call changes nothing; with memory again it goes as it goes
 * for the twin, that always had memory; and in the end every block is freed. */
static int try_with(const action *action, long count, bench *b, bench *twin, long live_before) {
    bench before = bench_copy(b);
    atomic_store(&refused, 0);
    atomic_store(&allowed, count);
    pente_status status = action->run(b);
    atomic_store(&allowed, -1);
    bool changed = status != PENTE_OK && (b->made || !same_benches(b, &before));
    bench_copy_free(&before);
    if (status == PENTE_OK) return DONE;
    if (status != PENTE_OUT_OF_MEMORY || atomic_load(&refused) == 0) return WRONG_STATUS;
    if (changed) return CHANGED_STATE;
    if (action->run(b) != PENTE_OK || action->run(twin) != PENTE_OK) return FAILED_AFTERWARDS;
    if (!same_benches(b, twin)) return OTHER_BITS;
    free_made(b);
    free_made(twin);
    bench_free(b);
    bench_free(twin);
    return atomic_load(&live_blocks) == live_before ? REFUSED_WELL : LEAKED;
}

/* Each try in a process of its own: one that crashes is a finding like the others. Returns how many went wrong. */
static int exhaust(const action *action, bench *b, bench *twin, long live_before) {
    int wrong = 0;
    for (long count = 0; count < 1000; count++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            static const int signals[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE};
            for (size_t i = 0; i < COUNT(signals); i++) signal(signals[i], SIG_DFL); /* cmocka catches them */
            _exit(try_with(action, count, b, twin, live_before));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == DONE) break;
        if (WIFEXITED(status) && WEXITSTATUS(status) == REFUSED_WELL) continue;
        wrong++;
        print_error("%s with %ld allocations %s %d\n", action->name, count,
                    WIFEXITED(status) ? findings[WEXITSTATUS(status)] : "died of signal",
                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
    OK(action->run(b));
    OK(action->run(twin));
    free_made(b);
    free_made(twin);
    return wrong;
}

static bench run_all_actions(void) {
    bench b = bench_new();
    for (size_t i = 0; i < COUNT(actions); i++) {
        OK(actions[i].run(&b));
        free_made(&b);
    }
    return b;
}

static void copy_data(const pente_matrix *to, const pente_matrix *from) {
    memcpy(to->data, from->data, (size_t)(from->rows * from->columns) * element_size(from->dtype));
}

static void test_out_of_memory(void **state) {
    (void)state;
    skip_unless_counting();
    /* Once for what the library allocates for good: its table of handles, thread-local memory. */
    bench first = run_all_actions(), second = run_all_actions();
    bench_free(&first);
    bench_free(&second);

    long live_before = atomic_load(&live_blocks);
    bench b = bench_new(), twin = bench_new();
    int wrong = 0;
    copy_data(&twin.x, &b.x);
    copy_data(&twin.y, &b.y);
    copy_data(&twin.x64, &b.x64);
    copy_data(&twin.y64, &b.y64);
    copy_data(&twin.out, &b.out);
    copy_data(&twin.grad_input, &b.grad_input);
    for (size_t i = 0; i < COUNT(actions); i++) wrong += exhaust(&actions[i], &b, &twin, live_before);
    bench_free(&b);
    bench_free(&twin);
    assert_int_equal(wrong, 0);
}

/* Small objects have a reserve; when that is spent too, calls are refused, and what was made can be freed. */
static void test_reserve_is_spent(void **state) {
    (void)state;
    skip_unless_counting();
    enum { MOST = 20000 };
    static pente_mse *made[MOST];
    int count = 0;
    pente_status status = PENTE_OK;
    /* Once for the table of handles, whose growth would else be refused first. */
    for (int i = 0; i < MOST; i++) OK(pente_mse_new(NULL, &made[i]));
    for (int i = 0; i < MOST; i++) OK(pente_mse_free(made[i]));
    atomic_store(&allowed, 0);
    while (count < MOST && (status = pente_mse_new(NULL, &made[count])) == PENTE_OK) count++;
    pente_status freed = pente_mse_free(NULL);
    for (int i = 0; i < count; i++) freed |= pente_mse_free(made[i]);
    atomic_store(&allowed, -1);
    assert_int_equal(status, PENTE_OUT_OF_MEMORY);
    assert_int_equal(freed, PENTE_OK);
    OK(pente_mse_new(NULL, &made[0]));
    OK(pente_mse_free(made[0]));
}

/* After the first step of a size no step of that size, or of a smaller one, allocates. */
static void test_no_allocation(void **state) {
    (void)state;
    skip_unless_counting();
    static const int64_t largest[] = {1, 40, 3000};
    for (size_t i = 0; i < COUNT(largest); i++) {
        for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
            model m = model_new(dtype, 13, 3, true, 1);
            pente_mse *mse = mse_new(PENTE_MEAN);
            pente_sgd *sgd = sgd_new(&m, 0.01, 0.9);
            pente_trainer *trainer = trainer_new(&m, mse, sgd);
            pente_matrix x = matrix_random(dtype, largest[i], 13, 13), y = matrix_random(dtype, largest[i], 3, 3);
            pente_matrix weight = matrix_new(dtype, largest[i], 1, 1);
            double loss = 0;
            fill(&weight, 1);
            OK(pente_trainer_step(trainer, &x, &y, &weight, &loss));
            long before = atomic_load(&allocations);
            for (int step = 0; step < 20; step++) {
                pente_matrix some_x = rows_of(&x, 0, 1 + (step * 7) % x.rows), some_y = y, some_weight = weight;
                some_y.rows = some_weight.rows = some_x.rows;
                OK(pente_trainer_step(trainer, &some_x, &some_y, step % 2 ? &some_weight : NULL, &loss));
                OK(pente_trainer_step(trainer, &x, &y, NULL, NULL));
            }
            assert_int_equal(atomic_load(&allocations) - before, 0);
            OK(pente_trainer_free(trainer));
            OK(pente_sgd_free(sgd));
            OK(pente_mse_free(mse));
            model_free(&m);
            matrix_free(&x);
            matrix_free(&y);
            matrix_free(&weight);
        }
    }
}

/* A context's second pass of a size allocates nothing either. */
static void test_context_is_reused(void **state) {
    (void)state;
    skip_unless_counting();
    bench b = bench_new();
    OK(forward(&b));
    OK(backward(&b));
    long before = atomic_load(&allocations);
    for (int pass = 0; pass < 5; pass++) {
        OK(forward(&b));
        OK(backward(&b));
    }
    assert_int_equal(atomic_load(&allocations) - before, 0);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_context_is_reused),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_reserve_is_spent),
    };
    return cmocka_run_group_tests_name("allocation", tests, NULL, NULL);
}
