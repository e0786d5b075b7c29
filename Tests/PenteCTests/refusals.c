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

/* "4x3", or "3 columns" */
static int count_shapes(const char *text) {
    int count = 0;
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
        if (argument->kind == LR) a[i].d = 0.5;
    }
}

/* ---- Fields of structs ---- */

typedef struct edit {
    kind kind;
    const char *what, *says; /* says NULL: the argument's name */
    size_t offset, size;
    bool is_real;
    int64_t integer;
    double real;
    unsigned allowed;
} edit;

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define INTEGER(kind, type, field, number) \
    {kind, #field " " #number, #field, FIELD(type, field), false, number, 0, BAD_ARGUMENT}
#define REAL(kind, type, field, number) \
    {kind, #field " " #number, #field, FIELD(type, field), true, 0, number, BAD_ARGUMENT}
#define STRUCT_SIZE(kind, type, number) \
    {kind, "struct_size " #number, "struct_size", FIELD(type, struct_size), false, number, 0, BAD_ARGUMENT}
#define STRUCT_SIZES(kind, type)                                                        \
    STRUCT_SIZE(kind, type, 0), STRUCT_SIZE(kind, type, sizeof(size_t)),                \
        STRUCT_SIZE(kind, type, sizeof(type) - 1), STRUCT_SIZE(kind, type, sizeof(type) + 1), \
        STRUCT_SIZE(kind, type, sizeof(type) + 8), STRUCT_SIZE(kind, type, -1)
#define IN_MATRIX(field, number, allowed) \
    {MATRIX, #field " " #number, NULL, FIELD(pente_matrix, field), false, number, 0, allowed}
#define NOT_FINITE(kind, type, field) \
    REAL(kind, type, field, NAN), REAL(kind, type, field, INFINITY), REAL(kind, type, field, -INFINITY)

static const edit edits[] = {
    IN_MATRIX(data, 0, BAD_ARGUMENT),
    IN_MATRIX(rows, 0, BAD_ARGUMENT),
    IN_MATRIX(rows, -1, BAD_ARGUMENT),
    IN_MATRIX(rows, INT64_MIN, BAD_ARGUMENT),
    IN_MATRIX(columns, 0, BAD_ARGUMENT),
    IN_MATRIX(columns, -1, BAD_ARGUMENT),
    IN_MATRIX(columns, INT64_MIN, BAD_ARGUMENT),
    IN_MATRIX(columns, INT64_MAX, BAD_ARGUMENT), /* row_stride is below it */
    IN_MATRIX(row_stride, 0, BAD_ARGUMENT),
    IN_MATRIX(row_stride, -1, BAD_ARGUMENT),
    IN_MATRIX(row_stride, INT64_MIN, BAD_ARGUMENT),
    IN_MATRIX(rows, INT64_C(1) << 62, BAD_ARGUMENT | BAD_SHAPE),
    IN_MATRIX(rows, INT64_MAX, BAD_ARGUMENT | BAD_SHAPE),
    IN_MATRIX(dtype, 0, BAD_ARGUMENT),
    IN_MATRIX(dtype, 3, BAD_ARGUMENT),
    IN_MATRIX(dtype, -1, BAD_ARGUMENT),

    STRUCT_SIZES(LINEAR_OPTIONS, pente_linear_options),
    INTEGER(LINEAR_OPTIONS, pente_linear_options, dtype, 0),
    INTEGER(LINEAR_OPTIONS, pente_linear_options, dtype, 3),
    INTEGER(LINEAR_OPTIONS, pente_linear_options, dtype, -1),

    STRUCT_SIZES(MSE_OPTIONS, pente_mse_options),
    INTEGER(MSE_OPTIONS, pente_mse_options, reduction, 0),
    INTEGER(MSE_OPTIONS, pente_mse_options, reduction, 6),
    INTEGER(MSE_OPTIONS, pente_mse_options, reduction, -1),

    STRUCT_SIZES(SGD_OPTIONS, pente_sgd_options),
    REAL(SGD_OPTIONS, pente_sgd_options, lr, -1e-9),
    NOT_FINITE(SGD_OPTIONS, pente_sgd_options, lr),
    REAL(SGD_OPTIONS, pente_sgd_options, momentum, -0.5),
    NOT_FINITE(SGD_OPTIONS, pente_sgd_options, momentum),
    NOT_FINITE(SGD_OPTIONS, pente_sgd_options, dampening),
    REAL(SGD_OPTIONS, pente_sgd_options, weight_decay, -0.5),
    NOT_FINITE(SGD_OPTIONS, pente_sgd_options, weight_decay),
    INTEGER(SGD_OPTIONS, pente_sgd_options, nesterov, 1), /* momentum is 0 */

    STRUCT_SIZES(FIT_OPTIONS, pente_fit_options),
    INTEGER(FIT_OPTIONS, pente_fit_options, epochs, 0),
    INTEGER(FIT_OPTIONS, pente_fit_options, epochs, -1),
    INTEGER(FIT_OPTIONS, pente_fit_options, batch_size, 0),
    INTEGER(FIT_OPTIONS, pente_fit_options, batch_size, INT64_MIN),
    INTEGER(FIT_OPTIONS, pente_fit_options, patience, -1),
    REAL(FIT_OPTIONS, pente_fit_options, min_delta, -1e-9),
    NOT_FINITE(FIT_OPTIONS, pente_fit_options, min_delta),
    INTEGER(FIT_OPTIONS, pente_fit_options, validation_x, 0), /* validation_y is there */
    INTEGER(FIT_OPTIONS, pente_fit_options, validation_y, 0),

    STRUCT_SIZES(GRADCHECK_OPTIONS, pente_gradcheck_options),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, eps, 0),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, eps, -1e-6),
    NOT_FINITE(GRADCHECK_OPTIONS, pente_gradcheck_options, eps),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, atol, -1e-6),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, atol, NAN),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, rtol, -1e-6),
    REAL(GRADCHECK_OPTIONS, pente_gradcheck_options, rtol, NAN),

    STRUCT_SIZES(READ_OPTIONS, pente_sgd_options),
    STRUCT_SIZES(LAYER_INFO, pente_layer_info),
    STRUCT_SIZES(FIT_REPORT, pente_fit_report),
    STRUCT_SIZES(GRADCHECK_REPORT, pente_gradcheck_report),
};

static void apply(const edit *edit, void *object) {
    char *field = (char *)object + edit->offset;
    if (edit->is_real) {
        memcpy(field, &edit->real, sizeof edit->real);
    } else if (edit->size == sizeof(int32_t)) {
        int32_t number = (int32_t)edit->integer;
        memcpy(field, &number, sizeof number);
    } else {
        memcpy(field, &edit->integer, sizeof edit->integer);
    }
}

static int attempt_edits(world *w, const function *f, value *a, int i) {
    const argument *argument = &f->arguments[i];
    int complaints = 0;
    for (size_t k = 0; k < COUNT(edits); k++) {
        char what[200];
        if (edits[k].kind != argument->kind) continue;
        apply(&edits[k], a[i].p);
        snprintf(what, sizeof what, "%s: %s", argument->name, edits[k].what);
        complaints += attempt(w, f, a, edits[k].allowed, edits[k].says ? edits[k].says : argument->name, what);
    }
    return complaints;
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

    matrix->rows += 1;
    snprintf(what, sizeof what, "%s a row longer", name);
    complaints += attempt(w, f, a, BAD_SHAPE, all_matrices(f), what);

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

static int attempt_numbers(world *w, const function *f, const value *a, int i) {
    static const int64_t sizes[] = {0, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 62, INT64_C(1) << 61, INT64_C(1) << 50};
    static const int64_t indices[] = {-1, 2, 3, INT64_MIN, INT64_MAX, INT64_C(1) << 32};
    static const double rates[] = {-1e-9, NAN, INFINITY, -INFINITY};
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
    case INDEX:
        for (size_t k = 0; k < COUNT(indices); k++) {
            complaints += attempt_value(w, f, a, i, (value){.i = indices[k]}, BAD_ARGUMENT);
        }
        break;
    case CAPACITY: /* "weight" takes 7 */
        for (size_t k = 0; k < 7; k++) complaints += attempt_value(w, f, a, i, (value){.z = k}, BAD_ARGUMENT);
        break;
    case LR:
        for (size_t k = 0; k < COUNT(rates); k++) {
            complaints += attempt_value(w, f, a, i, (value){.d = rates[k]}, BAD_ARGUMENT);
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
        if (!argument->optional && !argument->is_number && argument->kind != LR) {
            unsigned allowed = argument->kind < HANDLE_KINDS ? BAD_HANDLE : BAD_ARGUMENT;
            complaints += attempt_value(w, f, a, i, (value){.p = NULL}, allowed);
        }
        if (argument->kind < HANDLE_KINDS) complaints += attempt_handles(w, f, a, i);
        if (argument->kind >= MATRIX && argument->kind < POINTER_KINDS) complaints += attempt_edits(w, f, a, i);
        if (argument->kind == MATRIX) complaints += attempt_matrix(w, f, a, i);
        if (argument->kind == NAME) complaints += attempt_names(w, f, a, i);
        complaints += attempt_numbers(w, f, a, i);
    }
    return complaints;
}
