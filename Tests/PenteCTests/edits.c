/* Fields of structs, with values that are wrong. */
#include "refusals.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

    STRUCT_SIZES(ACTIVATION_OPTIONS, pente_activation_options),
    INTEGER(ACTIVATION_OPTIONS, pente_activation_options, dtype, 0),
    INTEGER(ACTIVATION_OPTIONS, pente_activation_options, dtype, 3),
    INTEGER(ACTIVATION_OPTIONS, pente_activation_options, dtype, -1),
    NOT_FINITE(ACTIVATION_OPTIONS, pente_activation_options, negative_slope),
    REAL(ACTIVATION_OPTIONS, pente_activation_options, negative_slope, 1e39), /* of a float32 */

    STRUCT_SIZES(CUSTOM_OPTIONS, pente_custom_options),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, dtype, 0),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, dtype, 3),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, dtype, -1),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, in_features, 0), /* out_features is not */
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, in_features, -1),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, in_features, INT64_MIN),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, out_features, 0),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, out_features, -1),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, out_features, INT64_MIN),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, parameters, 0), /* there are two */
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, parameter_count, -1),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, parameter_count, INT64_MIN),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, forward, 0),
    INTEGER(CUSTOM_OPTIONS, pente_custom_options, backward, 0),

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
    INTEGER(FIT_OPTIONS, pente_fit_options, first_epoch, -1),
    INTEGER(FIT_OPTIONS, pente_fit_options, first_epoch, INT64_MIN),
    INTEGER(FIT_OPTIONS, pente_fit_options, patience, -1),
    REAL(FIT_OPTIONS, pente_fit_options, min_delta, -1e-9),
    NOT_FINITE(FIT_OPTIONS, pente_fit_options, min_delta),
    INTEGER(FIT_OPTIONS, pente_fit_options, validation_x, 0), /* validation_y is there */
    INTEGER(FIT_OPTIONS, pente_fit_options, validation_y, 0),
    INTEGER(FIT_OPTIONS, pente_fit_options, shuffle_window, -1),
    INTEGER(FIT_OPTIONS, pente_fit_options, checkpoint_epochs, -1),
    REAL(FIT_OPTIONS, pente_fit_options, checkpoint_seconds, -1e-9),
    NOT_FINITE(FIT_OPTIONS, pente_fit_options, checkpoint_seconds),
    INTEGER(FIT_OPTIONS, pente_fit_options, schedule_count, -1),
    INTEGER(FIT_OPTIONS, pente_fit_options, schedule_count, 1), /* schedule is NULL */
    INTEGER(FIT_OPTIONS, pente_fit_options, schedule_count, INT64_MAX),

    STRUCT_SIZES(SOURCE_OPTIONS, pente_source_options),
    INTEGER(SOURCE_OPTIONS, pente_source_options, dtype, 0),
    INTEGER(SOURCE_OPTIONS, pente_source_options, dtype, 3),
    INTEGER(SOURCE_OPTIONS, pente_source_options, dtype, -1),
    INTEGER(SOURCE_OPTIONS, pente_source_options, inputs, 0),
    INTEGER(SOURCE_OPTIONS, pente_source_options, inputs, INT64_MIN),
    INTEGER(SOURCE_OPTIONS, pente_source_options, inputs, INT64_MAX),
    INTEGER(SOURCE_OPTIONS, pente_source_options, outputs, 0),
    INTEGER(SOURCE_OPTIONS, pente_source_options, outputs, INT64_MIN),
    INTEGER(SOURCE_OPTIONS, pente_source_options, outputs, INT64_MAX),
    INTEGER(SOURCE_OPTIONS, pente_source_options, rows, 0),
    INTEGER(SOURCE_OPTIONS, pente_source_options, rows, -2),
    INTEGER(SOURCE_OPTIONS, pente_source_options, rows, INT64_MIN),
    INTEGER(SOURCE_OPTIONS, pente_source_options, read, 0),

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
    STRUCT_SIZES(PARAMETER_INFO, pente_parameter_info),
    STRUCT_SIZES(SGD_INFO, pente_sgd_info),
    STRUCT_SIZES(SGD_PARAMETER_INFO, pente_sgd_parameter_info),
    STRUCT_SIZES(FIT_REPORT, pente_fit_report),
    STRUCT_SIZES(GRADCHECK_REPORT, pente_gradcheck_report),
    STRUCT_SIZES(SOURCE_INFO, pente_source_info),
    STRUCT_SIZES(CHECKPOINT_INFO, pente_checkpoint_info),
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

int attempt_edits(world *w, const function *f, value *a, int i) {
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
