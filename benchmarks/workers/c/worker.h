/* What a worker program in C is made of: worker.c has main and the protocol (see benchmarks/README.md), the program the
 * functions named worker_*. */
#ifndef WORKER_H
#define WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_WIDTHS = 8 };

/* What is to be timed: a task on q rows of widths[0] columns, in a table of `stride` columns. With more than two widths
 * the model is a chain of linear layers with relu between them. */
struct job {
    char task[32];
    bool is_float64;
    int64_t q, stride, batch;
    double lr;
    int count; /* of widths */
    int64_t widths[MAX_WIDTHS];
};

/* The numbers that all contenders train on: rows x columns of a fixed pattern, which begins at `phase`, in memory that
 * is aligned to 64 bytes, and on huge pages where that makes a difference. The caller frees it. */
void *pattern(bool is_float64, int64_t rows, int64_t columns, int phase, double scale);
/* The same memory, zeroed. */
void *zeros(size_t bytes);

/* Answers the command under way with "refused" and the reason; always false. */
bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The program's part. start takes the arguments after the number of threads, and gives the number of threads that there
 * will be, or 0 with the reason why there is nothing to time in worker_version. */
extern char worker_version[256];
int worker_start(int threads, int argc, char **argv);
bool worker_setup(const struct job *job); /* false: refused */
double worker_check(void);                /* after two calls: what all contenders must agree on, or NaN */
void worker_run(int64_t calls);
void worker_free(void);

#endif
