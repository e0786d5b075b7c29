/* The step that an expert writes by hand on a BLAS library, for one linear layer: no checks, all memory there before,
 * one pass over the predictions for bias, residual, loss and the bias's gradient.
 *
 *     blas THREADS LIBRARY.so...     the first that is there
 */
#include "worker.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 }; /* CBLAS's */
enum { MANY = 1 << 15 };                                       /* elements: worth a second thread */

static void *library;
static int threads;

/* Looks a function up; void * is not a function pointer in ISO C, hence the copy. */
static bool look_up(const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

struct task {
    void (*call)(void);
    double (*check)(void);
};

#define REAL float
#define NAME(name) name##_float32
#define CBLAS(name) "cblas_s" name
#include "blas_step.h"
#undef REAL
#undef NAME
#undef CBLAS

#define REAL double
#define NAME(name) name##_float64
#define CBLAS(name) "cblas_d" name
#include "blas_step.h"

static bool is_float64;
static struct task task;

int worker_start(int wanted, int argc, char **argv) {
    threads = wanted;
    for (int i = 0; i < argc && library == NULL; i++) library = dlopen(argv[i], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL || !open_float32() || !open_float64()) {
        snprintf(worker_version, sizeof worker_version, "%s", library ? "no CBLAS in it" : "the library is not there");
        return 0;
    }
    char *(*describe)(void), *(*version)(void);
    void (*set_blis)(int), (*set_openblas)(int);
    if (look_up("openblas_set_num_threads", &set_openblas)) set_openblas(threads);
    if (look_up("bli_thread_set_num_threads", &set_blis)) set_blis(threads);
    if (look_up("openblas_get_config", &describe)) snprintf(worker_version, sizeof worker_version, "%s", describe());
    if (look_up("bli_info_get_version_str", &version))
        snprintf(worker_version, sizeof worker_version, "BLIS %s", version());
    return threads;
}

bool worker_setup(const struct job *job) {
    if (job->count != 2) return refuse("one layer alone");
    if (strcmp(job->task, "step") != 0 && strcmp(job->task, "forward") != 0) return refuse("no such task");
    is_float64 = job->is_float64;
    task = is_float64 ? setup_float64(job) : setup_float32(job);
    return true;
}

double worker_check(void) { return task.check(); }

void worker_run(int64_t calls) {
    for (int64_t i = 0; i < calls; i++) task.call();
}

void worker_free(void) {
    if (is_float64)
        free_float64();
    else
        free_float32();
}
