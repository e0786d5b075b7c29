#define _GNU_SOURCE /* madvise */
#include "worker.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

char worker_version[256];
static double seconds_per_call; /* roughly */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void *zeros(size_t bytes) {
    enum { HUGE_PAGE = 2 << 20 };
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    size_t size = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, size);
    if (block == NULL) {
        fprintf(stderr, "worker: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    if (bytes >= HUGE_PAGE) madvise(block, size, MADV_HUGEPAGE);
    return memset(block, 0, size);
}

void *pattern(bool is_float64, int64_t rows, int64_t columns, int phase, double scale) {
    enum { PERIOD = 1000 };
    size_t count = (size_t)rows * (size_t)columns, size = is_float64 ? sizeof(double) : sizeof(float);
    char *values = zeros(count * size);
    for (size_t i = 0; i < count && i < PERIOD; i++) {
        double value = ((double)((i + (size_t)phase) * 7919 % PERIOD) / PERIOD - 0.5) * scale;
        if (is_float64)
            ((double *)values)[i] = value;
        else
            ((float *)values)[i] = (float)value;
    }
    for (size_t done = PERIOD; done < count; done *= 2) /* each time as much again */
        memcpy(values + done * size, values, (done < count - done ? done : count - done) * size);
    return values;
}

bool refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("refused ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    return false;
}

static double seconds_of(int64_t calls) {
    double start = now();
    worker_run(calls);
    return now() - start;
}

/* Given how long one call took; what is short is timed again, more at once. */
static double calibrated(double seconds) {
    int64_t calls = 1;
    while (seconds < 1e-3) seconds = seconds_of(calls *= 2);
    return seconds / (double)calls;
}

/* Microseconds of a call, over about so many seconds after a warm-up. A call that is long enough warms up itself. */
static void answer_time(double seconds) {
    int64_t burst = (int64_t)fmax(1, seconds / 16 / seconds_per_call), calls = 0;
    if (seconds_per_call < seconds / 4) worker_run(burst);
    double elapsed = 0, start = now();
    while (elapsed < seconds) {
        worker_run(burst);
        calls += burst;
        elapsed = now() - start;
    }
    printf("ok %.6g %lld\n", elapsed / (double)calls * 1e6, (long long)calls);
}

static bool parse(char *words, struct job *job) {
    char *next = NULL, *task = strtok_r(words, " ", &next), *dtype = strtok_r(NULL, " ", &next);
    double numbers[4 + MAX_WIDTHS];
    int count = 0;
    for (char *word; count < 4 + MAX_WIDTHS && (word = strtok_r(NULL, " ", &next)) != NULL;)
        numbers[count++] = atof(word);
    if (task == NULL || dtype == NULL || count < 6) return refuse("setup wants more");
    snprintf(job->task, sizeof job->task, "%s", task);
    job->is_float64 = strcmp(dtype, "float64") == 0;
    job->q = (int64_t)numbers[0], job->stride = (int64_t)numbers[1], job->batch = (int64_t)numbers[2];
    job->lr = numbers[3];
    job->count = count - 4;
    for (int i = 0; i < job->count; i++) job->widths[i] = (int64_t)numbers[4 + i];
    return true;
}

static void answer_setup(char *words) {
    struct job job;
    if (!parse(words, &job) || !worker_setup(&job)) return;
    worker_run(1);
    double seconds = seconds_of(1), check = worker_check();
    seconds_per_call = calibrated(seconds);
    printf("ok %.17g\n", check);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    int threads = worker_start(atoi(argv[1]), argc - 2, argv + 2);
    if (threads == 0) {
        printf("absent %s\n", worker_version);
        return 0;
    }
    printf("ready %d %s\n", threads, worker_version);
    fflush(stdout);
    for (char line[512]; fgets(line, sizeof line, stdin) != NULL; fflush(stdout)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "setup ", 6) == 0) {
            answer_setup(line + 6);
        } else if (strncmp(line, "time ", 5) == 0) {
            answer_time(atof(line + 5));
        } else if (strcmp(line, "free") == 0) {
            worker_free();
            printf("ok\n");
        } else {
            refuse("no such command: %s", line);
        }
    }
    return 0;
}
