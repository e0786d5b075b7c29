#include "refusals.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What a message must say ---- */

static bool is_word_character(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Is `word` in `text`, and not as a part of another word? The x of 3x4 is not x. */
static bool has_word(const char *text, const char *word, size_t length) {
    for (const char *found = text; *found; found++) {
        if (strncmp(found, word, length) != 0) continue;
        if (found > text && is_word_character(found[-1])) continue;
        if (!is_word_character(found[length])) return true;
    }
    return false;
}

static bool has_any_word(const char *text, const char *words) {
    for (;;) {
        size_t length = strcspn(words, "|");
        if (has_word(text, words, length)) return true;
        if (!words[length]) return false;
        words += length + 1;
    }
}

/* "4x3", "3 columns", "takes 3" */
static int count_shapes(const char *text) {
    int count = 0;
    for (const char *takes = text; (takes = strstr(takes, "takes ")); takes++) {
        count += isdigit((unsigned char)takes[6]) != 0;
    }
    while (*text) {
        char *end = NULL;
        if (!isdigit((unsigned char)*text)) {
            text++;
            continue;
        }
        (void)strtoll(text, &end, 10);
        size_t times = *end == 'x' ? 1 : !strncmp(end, "\u00d7", 2) ? 2 : 0;
        if (times && isdigit((unsigned char)end[times])) {
            count++;
            (void)strtoll(end + times, &end, 10);
        } else if (!strncmp(end, " column", 7) || !strncmp(end, " row", 4)) {
            count++;
        }
        text = end;
    }
    return count;
}

/* ---- An attempt ---- */

static int complain(const function *f, const char *what, const char *complaint, const char *detail) {
    print_error("%s with %s: %s%s\n", f->name, what, complaint, detail);
    return 1;
}

/* Leaves a message that cannot be taken for that of the call under test. */
static void leave_stale_message(const function *f) {
    pente_status status = strcmp(f->name, "pente_sgd_step") ? pente_sgd_step(NULL) : pente_layer_zero_gradients(NULL);
    assert_int_equal(status, PENTE_INVALID_HANDLE);
}

static int check_message(const function *f, pente_status status, const char *says, const char *what) {
    const char *message = pente_last_error();
    size_t length = strlen(f->name);
    if (strncmp(message, f->name, length) != 0 || strncmp(message + length, ": ", 2) != 0) {
        return complain(f, what, "the message does not begin with the function: ", message);
    }
    if (status != PENTE_OUT_OF_MEMORY && !has_any_word(message + length, says)) {
        char detail[400];
        snprintf(detail, sizeof detail, "%s: %s", says, message);
        return complain(f, what, "the message does not name ", detail);
    }
    if (status == PENTE_SHAPE_MISMATCH && count_shapes(message) < 2) {
        return complain(f, what, "the message does not name both shapes: ", message);
    }
    return 0;
}

int attempt(world *w, const function *f, const value *a, unsigned allowed, const char *says, const char *what) {
    static memory kept;
    static outcome before, after;
    int complaints = 0;
    memcpy(&kept, &w->now, sizeof kept);
    look(w, &before);
    leave_stale_message(f);

    pente_status status = f->call(a);

    if (status < 0 || status > 31 || !(allowed & ONLY(status))) {
        complaints += complain(f, what, "the status is ", pente_status_name(status));
    }
    if (status != PENTE_OK) complaints += check_message(f, status, says, what);
    look(w, &after);
    if (memcmp(&kept, &w->now, sizeof kept) != 0) complaints += complain(f, what, "memory was written", "");
    if (memcmp(&before, &after, sizeof before) != 0) complaints += complain(f, what, "a layer has changed", "");
    memcpy(&w->now, &w->pristine, sizeof w->now);
    return complaints;
}

void right_values(world *w, const function *f, value *a) {
    for (int i = 0; f->arguments[i].name; i++) {
        const argument *argument = &f->arguments[i];
        char *place = (char *)w + argument->where;
        if (argument->is_number) {
            a[i].i = (int64_t)argument->where;
        } else if (argument->kind < HANDLE_KINDS) {
            a[i].p = *(void **)place;
        } else {
            a[i].p = place;
        }
        if (argument->kind == RATE || argument->kind == NORM) a[i].d = 0.5;
    }
}

/* ---- Matrices that are right by themselves, and wrong here ---- */

/* Two that do not fit: a message may call either of them the wrong one. */
static const char *all_matrices(const function *f) {
    static char names[200];
    names[0] = 0;
    for (int i = 0; f->arguments[i].name; i++) {
        if (f->arguments[i].kind != MATRIX) continue;
        if (names[0]) strcat(names, "|");
        strcat(names, f->arguments[i].name);
    }
    return names;
}

static int attempt_matrix(world *w, const function *f, value *a, int i) {
    const char *name = f->arguments[i].name;
    pente_matrix *matrix = a[i].p;
    char what[200];
    int complaints = 0;

    if (strcmp(f->name, "pente_scaler_fit") != 0) { /* it takes any number of rows */
        matrix->rows += 1;
        snprintf(what, sizeof what, "%s a row longer", name);
        complaints += attempt(w, f, a, BAD_SHAPE, all_matrices(f), what);
    }

    matrix->columns += 1;
    matrix->row_stride += 1;
    snprintf(what, sizeof what, "%s a column wider", name);
    complaints += attempt(w, f, a, BAD_SHAPE, all_matrices(f), what);

    matrix->dtype = PENTE_FLOAT32 + PENTE_FLOAT64 - matrix->dtype;
    snprintf(what, sizeof what, "%s of the other dtype", name);
    complaints += attempt(w, f, a, BAD_DTYPE, all_matrices(f), what);

    for (int offset = 1; offset < (int)element_size(matrix->dtype); offset++) {
        matrix->data = (char *)matrix->data + offset;
        snprintf(what, sizeof what, "%s %d bytes off its alignment", name, offset);
        complaints += attempt(w, f, a, BAD_ARGUMENT, name, what);
    }

    /* Sizes whose product with 4 or 8 wraps around to a small one, or to a negative one. */
    static const int64_t strides[] = {INT64_MAX, INT64_C(1) << 62, INT64_C(1) << 61, INT64_MAX / 3};
    for (size_t k = 0; k < COUNT(strides); k++) {
        matrix->row_stride = strides[k];
        if (matrix->rows == 1) matrix->rows = 3;
        snprintf(what, sizeof what, "%s's row_stride %lld", name, (long long)strides[k]);
        complaints += attempt(w, f, a, BAD_ARGUMENT | BAD_SHAPE, name, what);
        matrix->columns = matrix->row_stride = strides[k];
        snprintf(what, sizeof what, "%s's columns %lld", name, (long long)strides[k]);
        complaints += attempt(w, f, a, BAD_ARGUMENT | BAD_SHAPE, name, what);
        matrix->rows = matrix->columns = matrix->row_stride = strides[k];
        snprintf(what, sizeof what, "%s's rows and columns %lld", name, (long long)strides[k]);
        complaints += attempt(w, f, a, BAD_ARGUMENT | BAD_SHAPE, name, what);
    }
    return complaints;
}

/* ---- Values by themselves ---- */

static int attempt_value(world *w, const function *f, const value *a, int i, value wrong, unsigned allowed) {
    value spoiled[7];
    char what[200];
    memcpy(spoiled, a, sizeof spoiled);
    spoiled[i] = wrong;
    snprintf(what, sizeof what, "%s = %p", f->arguments[i].name, wrong.p);
    return attempt(w, f, spoiled, allowed, f->arguments[i].name, what);
}

static int attempt_handles(world *w, const function *f, const value *a, int i) {
    kind kind = f->arguments[i].kind;
    char *good = a[i].p;
    char *heap = malloc(64);
    int complaints = 0;
    memset(heap, 1, 64);
    void *const made_up[] = {w->freed[kind], good - 1,     good + 1,     &kind, heap, (void *)UINTPTR_MAX, w,
                             (void *)INTPTR_MAX, w->now.layers, (void *)f->name};
    for (size_t k = 0; k < COUNT(made_up); k++) {
        complaints += attempt_value(w, f, a, i, (value){.p = made_up[k]}, BAD_HANDLE);
    }
    for (int other = 0; other < HANDLE_KINDS; other++) {
        if (other == (int)kind) continue;
        complaints += attempt_value(w, f, a, i, (value){.p = w->good[other]}, BAD_HANDLE);
        complaints += attempt_value(w, f, a, i, (value){.p = w->freed[other]}, BAD_HANDLE);
    }
    for (intptr_t number = 1; number <= 64; number++) {
        complaints += attempt_value(w, f, a, i, (value){.p = (void *)number}, BAD_HANDLE);
    }
    for (int k = 0; k < 64; k++) {
        complaints += attempt_value(w, f, a, i, (value){.p = (void *)(uintptr_t)random_bits()}, BAD_HANDLE);
    }
    free(heap);
    return complaints;
}

static int attempt_names(world *w, const function *f, const value *a, int i) {
    static char very_long[100000];
    memset(very_long, 'w', sizeof very_long - 1);
    char *const wrong[] = {"", "weigh", "weights", "Weight", "weight ", " weight", "bias.", "%s%n", "\xff\xfe",
                           very_long};
    int complaints = 0;
    for (size_t k = 0; k < COUNT(wrong); k++) {
        complaints += attempt_value(w, f, a, i, (value){.p = wrong[k]}, BAD_ARGUMENT);
    }
    return complaints;
}

static int attempt_paths(world *w, const function *f, const value *a, int i) {
    char *const wrong[] = {"", "/no/such/directory/file"};
    int complaints = 0;
    for (size_t k = 0; k < COUNT(wrong); k++) {
        char what[100];
        value spoiled[7];
        memcpy(spoiled, a, sizeof spoiled);
        spoiled[i].p = wrong[k];
        snprintf(what, sizeof what, "the path %s", wrong[k]);
        complaints += attempt(w, f, spoiled, ONLY(PENTE_FILE_ERROR), "No such file or directory", what);
    }
    return complaints;
}

static int attempt_numbers(world *w, const function *f, const value *a, int i) {
    static const int64_t sizes[] = {0, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 62, INT64_C(1) << 61, INT64_C(1) << 50};
    static const int64_t indices[] = {-1, 2, 3, INT64_MIN, INT64_MAX, INT64_C(1) << 32};
    static const double rates[] = {-1e-9, NAN, INFINITY, -INFINITY};
    static const int32_t constants[] = {0, -1, 6, 100, INT32_MIN, INT32_MAX};
    int complaints = 0;
    switch (f->arguments[i].kind) {
    case SIZE: /* the large ones are numbers that no memory could hold */
        for (size_t k = 0; k < COUNT(sizes); k++) {
            unsigned allowed = sizes[k] < 1 ? BAD_ARGUMENT : BAD_ARGUMENT | ONLY(PENTE_OUT_OF_MEMORY);
            complaints += attempt_value(w, f, a, i, (value){.i = sizes[k]}, allowed);
        }
        break;
    case COUNT_OF_LAYERS:
        for (size_t k = 0; k < 3; k++) complaints += attempt_value(w, f, a, i, (value){.i = sizes[k]}, BAD_ARGUMENT);
        break;
    case COUNT_OF_THREADS:
        for (size_t k = 0; k < COUNT(sizes); k++) {
            complaints += attempt_value(w, f, a, i, (value){.i = sizes[k]}, BAD_ARGUMENT);
        }
        break;
    case INDEX:
        for (size_t k = 0; k < COUNT(indices); k++) {
            complaints += attempt_value(w, f, a, i, (value){.i = indices[k]}, BAD_ARGUMENT);
        }
        break;
    case CAPACITY: /* "weight" takes 7 */
        for (size_t k = 0; k < 7; k++) complaints += attempt_value(w, f, a, i, (value){.z = k}, BAD_ARGUMENT);
        break;
    case COUNT_THERE:
        for (size_t k = 0; k < COUNT(sizes); k++) {
            complaints += attempt_value(w, f, a, i, (value){.i = sizes[k]}, BAD_ARGUMENT);
        }
        complaints += attempt_value(w, f, a, i, (value){.i = a[i].i + 1}, BAD_ARGUMENT);
        break;
    case STEP_COUNT:
        complaints += attempt_value(w, f, a, i, (value){.i = -1}, BAD_ARGUMENT);
        complaints += attempt_value(w, f, a, i, (value){.i = INT64_MIN}, BAD_ARGUMENT);
        break;
    case NORM: complaints += attempt_value(w, f, a, i, (value){.d = 0}, BAD_ARGUMENT); /* fall through */
    case RATE:
        for (size_t k = 0; k < COUNT(rates); k++) {
            complaints += attempt_value(w, f, a, i, (value){.d = rates[k]}, BAD_ARGUMENT);
        }
        break;
    case ACTIVATION:
    case DTYPE:
        for (size_t k = 0; k < COUNT(constants); k++) {
            complaints += attempt_value(w, f, a, i, (value){.i = constants[k]}, BAD_ARGUMENT);
        }
        break;
    default: break;
    }
    return complaints;
}

int attempt_all_kinds(world *w, const function *f) {
    int complaints = 0;
    for (int i = 0; f->arguments[i].name; i++) {
        value a[7];
        const argument *argument = &f->arguments[i];
        right_values(w, f, a);
        if (!argument->optional && !argument->is_number && argument->kind != RATE && argument->kind != NORM) {
            unsigned allowed = argument->kind < HANDLE_KINDS ? BAD_HANDLE : BAD_ARGUMENT;
            complaints += attempt_value(w, f, a, i, (value){.p = NULL}, allowed);
        }
        if (argument->kind < HANDLE_KINDS) complaints += attempt_handles(w, f, a, i);
        if (argument->kind >= MATRIX && argument->kind < POINTER_KINDS) complaints += attempt_edits(w, f, a, i);
        if (argument->kind == MATRIX) complaints += attempt_matrix(w, f, a, i);
        if (argument->kind == NAME) complaints += attempt_names(w, f, a, i);
        if (argument->kind == PATH) complaints += attempt_paths(w, f, a, i);
        complaints += attempt_numbers(w, f, a, i);
    }
    return complaints;
}
