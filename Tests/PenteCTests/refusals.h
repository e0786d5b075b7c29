/* The machinery of test_arguments: every function, each of its arguments, everything that can be wrong with it.
 *
 * A function is a row: how to call it with an array of values, and where in a world its right values are. A world is
 * one of each handle and all the memory that the library may be given. Each refused call must leave the whole world
 * as it was, and the right call that follows must do to it what it does to a twin that saw no refused call. */
#ifndef PENTE_TEST_REFUSALS_H
#define PENTE_TEST_REFUSALS_H

#include "support.h"

enum { Q = 4, N = 3, P = 2, TABLE_COLUMNS = 8 };

typedef enum kind {
    LAYER,
    CONTEXT,
    MSE,
    SGD,
    TRAINER,
    SOURCE,
    HANDLE_KINDS,

    MATRIX = HANDLE_KINDS,
    LINEAR_OPTIONS,
    ACTIVATION_OPTIONS,
    CUSTOM_OPTIONS,
    MSE_OPTIONS,
    SGD_OPTIONS,
    FIT_OPTIONS,
    GRADCHECK_OPTIONS,
    SOURCE_OPTIONS,
    READ_OPTIONS, /* options that are an output */
    LAYER_INFO,
    PARAMETER_INFO,
    SGD_INFO,
    SGD_PARAMETER_INFO,
    FIT_REPORT,
    GRADCHECK_REPORT,
    SOURCE_INFO,
    CHECKPOINT_INFO,
    POINTER_KINDS,

    OUT = POINTER_KINDS, /* a pointer that need not be NULL, and that is all */
    LAYERS,
    BUFFERS,
    PATHS,
    NAME,
    PATH,
    SIZE,
    COUNT_OF_LAYERS,
    COUNT_THERE, /* of as many things as there are */
    COUNT_OF_THREADS,
    INDEX,
    CAPACITY,
    STEP_COUNT,
    RATE, /* 0 or more */
    NORM, /* above 0 */
    ACTIVATION,
    DTYPE,
    SEED /* which cannot be wrong */
} kind;

typedef union value {
    void *p;
    int64_t i;
    double d;
    size_t z;
} value;

typedef struct argument {
    const char *name;
    kind kind;
    bool optional;
    bool is_number; /* where is the number itself */
    size_t where;   /* of the right value: an offset into the world; a handle lies there, other things start there */
} argument;

typedef struct function {
    const char *name;
    pente_status (*call)(const value *a);
    argument arguments[8]; /* up to one without a name */
} function;

extern const function functions[];
extern const size_t function_count;

/* Has the table, or the list of those that cannot fail, a function of this name? */
bool is_covered(const char *name);
/* For cmocka; *state is the path of exports.txt. */
void test_all_exports_are_covered(void **state);

/* Frees what a call made, of whatever kind it is. */
void free_made(void *made);

/* What calls may read and write. There are no pointers in it, so twins can be compared byte for byte. */
typedef struct numbers {
    float x[Q * N + 64], y[Q * P + 64], grad_output[Q * P + 64], grad_input[Q * N + 64];
    float prediction[Q * P + 64], target[Q * P + 64], sample_weight[Q + 64], squares[Q * P + 64];
    float upstream[8], upstream_elements[Q * P + 64], grad_prediction[Q * P + 64], grad_target[Q * P + 64];
    float weight[P * N + 64], value[P * N + 64], table[Q * TABLE_COLUMNS + 64];
    double x64[Q * N + 64], target64[Q * P + 64];
    double loss, training_losses[4], validation_losses[4], sums[P * N + P + 3];
    int64_t sum_count;
    char name[16], path[200], checkpoint[200], x_path[200], y_path[200], weight_path[200];
} numbers;

typedef struct memory {
    numbers numbers;
    pente_matrix x, y, grad_output, grad_input, prediction, target, sample_weight, squares, upstream,
        upstream_elements, grad_prediction, grad_target, weight, value, x64, target64, fit_weight, validation_x,
        validation_y, view;
    pente_linear_options linear_options;
    pente_activation_options activation_options;
    pente_custom_parameter custom_parameters[2];
    pente_custom_options custom_options;
    pente_mse_options mse_options;
    pente_sgd_options sgd_options, read_options;
    pente_fit_options fit_options, source_fit_options;
    pente_source_options source_options;
    pente_gradcheck_options gradcheck_options;
    pente_layer_info info;
    pente_parameter_info parameter_info;
    pente_sgd_info sgd_info;
    pente_sgd_parameter_info sgd_parameter_info;
    pente_fit_report fit_report;
    pente_gradcheck_report gradcheck_report;
    pente_source_info source_info;
    pente_checkpoint_info checkpoint_info;
    const char *x_paths[1], *y_paths[1], *weight_paths[1];
    pente_layer *layers[3], *further_layers[3], *chain_layers[3];
    pente_matrix weight_buffer, bias_buffer;
    const pente_matrix *buffers[2];
    void *made;
} memory;

typedef struct world {
    void *good[HANDLE_KINDS];  /* layer: 3 to 2, float32; its context has seen a forward pass over x */
    void *freed[HANDLE_KINDS];
    pente_layer *other_layer, *layer64, *bare_layer; /* bare_layer is in no optimizer */
    pente_layer *activation, *scaler, *chain;        /* chain is layer and activation */
    pente_context *other_context, *fresh_context;
    pente_mse *none_mse;
    pente_matrix weight_view, bias_view, gradient_view; /* of layer */
    pente_matrix gradcheck_weight_view;                 /* of layer64 */
    pente_matrix mean_view;                             /* of scaler */
    memory now, pristine;
} world;

#define WORLD(member) offsetof(world, member)

/* A wrong call that no table of wrong values makes. It starts from right values and a world to spoil. */
typedef struct special_case {
    const char *function, *what;
    const char *says; /* words that the message must hold, besides the function's name; "a|b" is a or b */
    unsigned allowed; /* a set of statuses */
    void (*spoil)(world *w, value *a);
} special_case;

/* Sets of statuses */
#define ONLY(status) (1u << (status))
#define BAD_ARGUMENT ONLY(PENTE_INVALID_ARGUMENT)
#define BAD_HANDLE ONLY(PENTE_INVALID_HANDLE)
#define BAD_SHAPE ONLY(PENTE_SHAPE_MISMATCH)
#define BAD_DTYPE ONLY(PENTE_DTYPE_MISMATCH)
#define BAD_STATE ONLY(PENTE_INVALID_STATE)
#define BAD_FILE ONLY(PENTE_INVALID_FILE)

world *world_new(void);
void world_free(world *w);

/* What can be seen of the parameters and gradients of the world's layers, and of pending passes and momentum. */
typedef struct outcome {
    numbers numbers;
    float parameters[64], gradients[64], buffers[16];
    double parameters64[16], gradients64[16];
    int64_t steps;
    pente_status statuses[32];
    int count;
} outcome;

void look(world *w, outcome *seen);  /* changes nothing */
void probe(world *w, outcome *seen); /* runs a backward pass and two steps */

/* The right values of a function's arguments. */
void right_values(world *w, const function *f, value *a);

/* Makes one wrong call and complains about all that is not as the header says. Returns how much. */
int attempt(world *w, const function *f, const value *a, unsigned allowed, const char *says, const char *what);

/* Wrong fields of one argument's struct. */
int attempt_edits(world *w, const function *f, value *a, int i);

/* Everything that is wrong in general with an argument of its kind. */
int attempt_all_kinds(world *w, const function *f);

extern const special_case special_cases[];
extern const size_t special_case_count;

#endif
