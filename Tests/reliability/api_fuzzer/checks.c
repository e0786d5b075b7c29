/* What is looked at around each call. */
#include "fuzzer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t calls_made;

/* ---- Broken promises, and counts of calls ---- */

void broken(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "\n%s: ", depth < 0 ? "in between" : functions[THIS->function].name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n  the last error: %s\n", pente_last_error());
    va_end(arguments);
    abort();
}

enum { STATUSES = PENTE_INVALID_FILE + 2 }; /* the last: a callback's */
static uint64_t counts[128][STATUSES];

static void count(pente_status status) {
    calls_made++;
    counts[THIS->function][status < 0 || status >= STATUSES - 1 ? STATUSES - 1 : status]++;
}

void count_success(void) {
    count(PENTE_OK);
}

static bool may_fail(const char *name) {
    static const char *const never[] = {"pente_version", "pente_status_name", "pente_last_error", "pente_threads_get"};
    for (size_t i = 0; i < COUNT(never); i++) {
        if (!strcmp(name, never[i])) return false;
    }
    return true;
}

bool print_counts(void) {
    static const char *const titles[] = {"ok",   "handle", "argument", "shape",  "dtype", "state",
                                         "busy", "memory", "finite",   "no file", "file",  "user"};
    bool all_seen = true;
    uint64_t failures = 0;
    printf("%-34s", "calls by function and status");
    for (int s = 0; s < STATUSES; s++) printf(" %9s", titles[s]);
    printf("\n");
    for (int i = 0; i < function_count; i++) {
        uint64_t failed = 0;
        printf("%-34s", functions[i].name);
        for (int s = 0; s < STATUSES; s++) {
            printf(" %9llu", (unsigned long long)counts[i][s]);
            if (s) failed += counts[i][s];
        }
        bool seen = counts[i][0] && (failed || !may_fail(functions[i].name));
        printf("%s\n", seen ? "" : "  <- not seen both ways");
        failures += failed;
        all_seen &= seen;
    }
    printf("%llu calls, of which %llu failed\n", (unsigned long long)calls_made, (unsigned long long)failures);
    fflush(stdout);
    return all_seen;
}

/* ---- State: all that can be seen of it. Memory is cheap to look at; optimizers are asked now and then. ---- */

UNCHECKED uint64_t hash_bytes(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    size_t i = 0;
    for (uint64_t word; i + 8 <= size; i += 8) {
        __builtin_memcpy(&word, bytes + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
    }
    for (; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

UNCHECKED uint64_t hash_matrix(uint64_t hash, const pente_matrix *m) {
    for (int64_t i = 0; i < m->rows; i++) {
        size_t stride = (size_t)m->row_stride * size_of(m->dtype);
        hash = hash_bytes(hash, (char *)m->data + (size_t)i * stride, (size_t)m->columns * size_of(m->dtype));
    }
    return hash;
}

static uint64_t hash_layer(const object *o) {
    uint64_t hash = 1;
    for (int i = 0; i < o->parameter_count; i++) {
        hash = hash_matrix(hash_matrix(hash, &o->parameters[i]), &o->gradients[i]);
    }
    return hash;
}

/* What an optimizer says of itself; that it is busy, if it is. */
static uint64_t hash_sgd(const object *o) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    pente_status status = pente_sgd_get_info(o->handle, &info);
    uint64_t hash = hash_bytes((uint64_t)status, &info, sizeof info);
    for (int64_t i = 0; i < info.group_count && !status; i++) {
        pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
        status = pente_sgd_get_options(o->handle, i, &options);
        hash = hash_bytes(hash, &options, sizeof options);
    }
    for (int64_t i = 0; i < info.parameter_count && !status; i++) {
        static double numbers[1 << 15];
        pente_sgd_parameter_info parameter = PENTE_SGD_PARAMETER_INFO_INIT;
        status = pente_sgd_get_parameter_info(o->handle, i, &parameter);
        hash = hash_bytes(hash, &parameter, sizeof parameter);
        if (!parameter.has_momentum_buffer || parameter.rows * parameter.columns > (int64_t)COUNT(numbers)) continue;
        pente_matrix value = {numbers, parameter.rows, parameter.columns, parameter.columns, o->info.dtype};
        PROMISED(pente_sgd_get_momentum_buffer(o->handle, i, &value) == PENTE_OK, "no momentum buffer");
        hash = hash_matrix(hash, &value);
    }
    return hash;
}

typedef struct state {
    bool is_whole;
    int64_t threads;
    struct {
        const void *handle;
        uint64_t hash;
    } layers[MOST_OBJECTS], sgds[MOST_OBJECTS];
    char message[256];
} state;
static state states[DEEPEST + 1];

static void look(state *s) {
    for (int i = 0; i < MOST_OBJECTS; i++) {
        const object *layer = &objects[LAYER][i], *sgd = &objects[SGD][i];
        s->layers[i].handle = layer->handle;
        s->layers[i].hash = layer->handle ? hash_layer(layer) : 0;
        s->sgds[i].handle = s->is_whole ? sgd->handle : NULL;
        s->sgds[i].hash = s->sgds[i].handle ? hash_sgd(sgd) : 0;
    }
    s->threads = pente_threads_get();
}

void state_begin(int level) {
    state *s = &states[level];
    s->is_whole = calls_made % 8 == 0;
    look(s);
    strncpy(s->message, pente_last_error(), sizeof s->message - 1);
}

/* Of what has been there all the time. */
void state_compare(int level, const char *after) {
    const state *before = &states[level];
    state now = {.is_whole = before->is_whole};
    look(&now);
    for (int i = 0; i < MOST_OBJECTS; i++) {
        PROMISED(now.layers[i].handle != before->layers[i].handle || now.layers[i].hash == before->layers[i].hash,
                 "%s, and a layer's parameters or gradients changed", after);
        PROMISED(now.sgds[i].handle != before->sgds[i].handle || now.sgds[i].hash == before->sgds[i].hash,
                 "%s, and an optimizer changed", after);
    }
    PROMISED(now.threads == before->threads, "%s, and the number of threads changed", after);
}

uint64_t state_hash(int level) {
    uint64_t hash = 2;
    for (int i = 0; i < MOST_OBJECTS; i++) {
        const object *layer = &objects[LAYER][i];
        hash = hash * 31 + (layer->handle ? hash_layer(layer) : 0);
    }
    const frame *f = &frames[level];
    for (int i = 0; i < f->output_count; i++) {
        if (!f->outputs[i].varies) hash = hash_matrix(hash, &f->outputs[i].matrix);
    }
    return hash;
}

/* ---- The twin ---- */

enum { MOST_CALLS = 1 << 16 };
static struct {
    pente_status status;
    bool is_left_out; /* it failed, and nothing happened within it */
    uint64_t hash;
} history[MOST_CALLS];
static int call_number;
static enum turn turn;

void twin_begin(enum turn next) {
    turn = next;
    call_number = 0;
}

bool has_twin(void) {
    return turn != ALONE;
}

pente_status skipped_status(void) {
    return history[call_number++].status;
}

static void remember_call(int number, pente_status status) {
    if (turn == ALONE || number >= MOST_CALLS) return;
    uint64_t hash = status ? 0 : state_hash(depth);
    if (turn == SECOND) {
        PROMISED(status == history[number].status, "gave %d, but %d with failed calls before it", (int)status,
                 (int)history[number].status);
        PROMISED(hash == history[number].hash, "a failed call before it made a difference");
    }
    history[number].status = status;
    history[number].is_left_out = status && THIS->callbacks == 0;
    history[number].hash = hash;
}

/* ---- Around a call ---- */

static int numbers[DEEPEST + 1];

bool begin_call(void) {
    if (turn == SECOND && call_number < MOST_CALLS && history[call_number].is_left_out) return false;
    numbers[depth] = call_number++;
    state_begin(depth);
    save_memory(THIS);
    return true;
}

static bool is_utf8(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        int more = *c < 0x80 ? 0 : *c < 0xc2 ? -1 : *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : *c < 0xf5 ? 3 : -1;
        if (more < 0) return false;
        for (c++; more > 0; more--, c++) {
            if ((*c & 0xc0) != 0x80) return false;
        }
    }
    return true;
}

static void check_message(void) {
    const char *message = pente_last_error(), *name = functions[THIS->function].name;
    size_t length = strlen(name);
    PROMISED(strncmp(message, name, length) == 0 && message[length] == ':' && strlen(message) > length + 2,
             "the message does not begin with the function's name");
    PROMISED(strlen(message) <= 255 && is_utf8(message), "the message is too long, or no UTF-8");
}

/* Can a call of this function, with no other threads about, give this status? */
static bool is_possible(pente_status status) {
    const frame *f = THIS;
    const char *name = functions[f->function].name;
    switch (status) {
    case PENTE_INVALID_HANDLE: return f->has_bad_handle;
    case PENTE_BUSY: return depth > 0 || f->callbacks > 0;
    case PENTE_OUT_OF_MEMORY: return f->hostility > 0;
    case PENTE_FILE_ERROR:
    case PENTE_INVALID_FILE:
        return strstr(name, "_load") || strstr(name, "_save") || strstr(name, "_npy_") || strstr(name, "_checkpoint_") ||
               strstr(name, "_fit");
    case PENTE_USER + 7: return strstr(name, "_fit_source"); /* its source's */
    default: return status > 0 && status < PENTE_INVALID_FILE;
    }
}

/* All others leave the layers and optimizers that there are as they were. */
static bool only_reads(const char *name) {
    static const char *const changes[] = {"_step", "_backward", "_fit", "_load_parameters", "_set", "_zero", "_clip",
                                          "_add_group", "_reset", "_apply"};
    for (size_t i = 0; i < COUNT(changes); i++) {
        if (strstr(name, changes[i]) && strcmp(name, "pente_mse_backward")) return false;
    }
    return true;
}

pente_status end_call(pente_status status) {
    frame *f = THIS;
    const char *name = functions[f->function].name;
    count(status);
    compare_memory(f, status == PENTE_OK);
    if (status) {
        check_message();
        PROMISED(status == f->callback_status || is_possible(status), "gave %d, of which there is no reason",
                 (int)status);
        if (!f->was_written) state_compare(depth, "failed");
    } else {
        PROMISED(!f->has_bad_handle, "took a handle that is none");
        PROMISED(!f->has_huge_view, "took a view of more than the others");
        PROMISED(!f->callback_status, "went on after a callback's failure");
        PROMISED(f->callbacks || !strcmp(states[depth].message, pente_last_error()), "succeeded, and left a message");
        if (only_reads(name) && !f->callbacks && !writes_parameters(f)) state_compare(depth, "is to read alone");
        if (depth > 0 && !only_reads(name)) {
            for (int i = 0; i < depth; i++) frames[i].was_written = true;
        }
    }
    remember_call(numbers[depth], status);
    return status;
}
