/* Pente: the smallest thing that trains. Linear layers, activations, chains of them and layers of your own, mean
 * squared error and stochastic gradient descent with exact, hand-derived gradients, in one shared library that needs
 * libc alone.
 *
 * Copyright (c) 2026 The Pente authors. SPDX-License-Identifier: MIT
 *
 * What is not in this file is not API. Rules that hold for every function:
 *
 * Status    What can fail returns a pente_status; 0 is PENTE_OK. On failure no output is written, no state has
 *           changed, nothing is left to free, and pente_last_error() says which argument was wrong, what it was and
 *           what was expected. Nothing here aborts, prints, or installs a signal handler.
 * Handles   A handle (pente_layer *, ...) is a token, never to be dereferenced. NULL, freed, made up, of another kind, or
 *           of another copy of the library in the process: each is answered with PENTE_INVALID_HANDLE. An object that
 *           holds another (a trainer its layer) keeps it alive: you may free your handle as soon as you no longer use it
 *           yourself.
 * Memory    The library never keeps, frees or reallocates your memory, with one exception that says so: a context
 *           borrows x from forward to backward. Results go into memory that you give. No output matrix may overlap
 *           an input or another output, and no matrix that a call is given may overlap the parameters and gradients
 *           that it writes; such a call is PENTE_INVALID_ARGUMENT.
 *           A call takes up to 24 KB of stack, and more for chains that nest: see there.
 * Threads   Different handles are free to run side by side. Calls that only read a handle may share it, 1023 at once; a
 *           call that writes to a handle in use elsewhere (or reads one that is being written) returns PENTE_BUSY at
 *           once and does nothing. Each function says below what it writes. Freeing a handle that another thread is
 *           using is safe: the object goes when that call ends.
 *           No function may be called in a signal handler, nor be left by longjmp, nor its thread be cancelled in it
 *           (pthread_cancel). Signals may interrupt it: what they interrupt goes on.
 * Fork      A child of fork() may use all handles, and goes on with the call in whose callback it was made. What another
 *           thread was using at that moment is in use for ever there: PENTE_BUSY, unless it was only read and is only
 *           read; it can be freed, but never goes. No call waits for a thread that the child does not have: a fit goes
 *           on after its callback as if none were there, so the child's own should have ended their calls by then.
 * Numbers   The same input gives the same bits. The thread's floating-point modes (rounding, flushing to zero, traps) do
 *           not change them: each call sets those that a thread starts with, and on return the caller's again; callbacks
 *           run within. Status flags may be raised, and none is cleared.
 * Shapes    X is q x n (a row an example), W is n x p and stored transposed, b is p, Y and predictions are q x p.
 *           Nothing broadcasts. q, n and p are at least 1.
 */
#ifndef PENTE_H
#define PENTE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define PENTE_API __attribute__((visibility("default")))
#define PENTE_MUST_CHECK __attribute__((visibility("default"), warn_unused_result))
#else
#define PENTE_API
#define PENTE_MUST_CHECK
#endif

/* ---- Version ---------------------------------------------------------------------------------------------------- */

#define PENTE_VERSION_MAJOR 0
#define PENTE_VERSION_MINOR 1
#define PENTE_VERSION_PATCH 0
#define PENTE_VERSION (PENTE_VERSION_MAJOR * 10000 + PENTE_VERSION_MINOR * 100 + PENTE_VERSION_PATCH)

/* The PENTE_VERSION of the library that is loaded, to be compared with that of the header. */
PENTE_API int32_t pente_version(void);

/* ---- Status ----------------------------------------------------------------------------------------------------- */

typedef int32_t pente_status;

enum {
    PENTE_OK = 0,
    PENTE_INVALID_HANDLE = 1,   /* NULL, freed, made up, or a handle of another kind */
    PENTE_INVALID_ARGUMENT = 2, /* NULL data, a size below 1, an option out of range, outputs that overlap, ... */
    PENTE_SHAPE_MISMATCH = 3,   /* two shapes that do not fit; the message names both */
    PENTE_DTYPE_MISMATCH = 4,   /* float32 where float64 was expected, or the reverse */
    PENTE_INVALID_STATE = 5,    /* backward without a forward before it, no momentum buffer yet */
    PENTE_BUSY = 6,             /* the handle is in use by another call */
    PENTE_OUT_OF_MEMORY = 7,
    PENTE_NOT_FINITE = 8,       /* the loss of a training step is no finite number of the layer's dtype, or the norm of
                                   gradients that are to be clipped is not finite */
    PENTE_FILE_ERROR = 9,       /* a file could not be opened, read or written; errno says why */
    PENTE_INVALID_FILE = 10,    /* a file's contents are not what they should be */
    PENTE_USER = 1000           /* this and higher numbers are never Pente's: they are your callbacks' */
};

/* The constant's name, "PENTE_OK" and so on, or "unknown status". A static string. */
PENTE_API const char *pente_status_name(pente_status status);

/* What was wrong in the calling thread's last failed call, as "pente_layer_forward: x is 32×7, but ...": UTF-8, cut at
 * 255 bytes; "" before the first failure. A success leaves it as it is. Valid until this thread's next failed call. */
PENTE_API const char *pente_last_error(void);

/* ---- Threads ---------------------------------------------------------------------------------------------------- */

/* How many threads a call may use for its arithmetic, the calling one among them: 1 to 256, and 1 until you say
 * otherwise: a guest starts no threads unasked. The numbers are the same for any count, to the bit.
 *
 * Training steps, fits and inference use them, but for chains with layers of your own; work of less than some 20
 * microseconds goes on the calling thread alone, as does work of less than some 0.2 milliseconds that does not come one
 * after the other. The threads are started when there is first work for them, and kept, with memory to work in; they
 * watch for more of it for some 0.2 milliseconds, and then sleep. Callbacks and signals never run on them. They are one
 * call's at a time: others that would have them go on their own threads alone, as does all that starts when no threads,
 * or no memory for them, are to be had.
 *
 * May be called at any time, by any thread; it holds for the calls and steps that begin later. Threads that are too many
 * end: with 1 they are gone when it returns, unless a call on another thread is using them, with whose step they go.
 * A child of fork() has none of them, and starts its own. The library stays loaded after dlclose, for their sake. */
PENTE_MUST_CHECK pente_status pente_threads_set(int64_t count);
PENTE_API int64_t pente_threads_get(void);

/* ---- Matrices --------------------------------------------------------------------------------------------------- */

typedef int32_t pente_dtype;

enum {
    PENTE_FLOAT32 = 1, /* float */
    PENTE_FLOAT64 = 2  /* double */
};

/* A view of the caller's memory. Element (i, j) is at data + i * row_stride + j, counted in elements: with a
 * row_stride above columns it is a block of columns of a wider table. Inputs are never written through data. */
typedef struct pente_matrix {
    void *data; /* aligned for its dtype */
    int64_t rows;
    int64_t columns;
    int64_t row_stride; /* >= columns */
    pente_dtype dtype;
} pente_matrix;

/* Views of contiguous memory. */
static inline pente_matrix pente_float32_matrix(const float *data, int64_t rows, int64_t columns) {
    pente_matrix matrix = {(void *)data, rows, columns, columns, PENTE_FLOAT32};
    return matrix;
}

static inline pente_matrix pente_float64_matrix(const double *data, int64_t rows, int64_t columns) {
    pente_matrix matrix = {(void *)data, rows, columns, columns, PENTE_FLOAT64};
    return matrix;
}

/* ---- Options ---------------------------------------------------------------------------------------------------- */

/* Each options or report struct starts with its own size, which must be that of this header; a later library will take
 * the sizes of earlier headers too. Start from its _INIT macro:
 *     pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
 * Where a function takes options, NULL stands for the macro's values. */

/* ---- Layers ----------------------------------------------------------------------------------------------------- */

/* A known function h with an explicit derivative: forward, backward and parameters, which it holds with their
 * gradients. The kinds: linear, activation, scaler, chain, and custom for a function of your own. A chain holds other
 * layers: what is said of a call that reads or writes a layer holds for a chain's layers too. */
typedef struct pente_layer pente_layer;

/* What a forward pass keeps for its backward pass, with the workspace of both; reused from step to step, so that only
 * the first allocates. One context serves one pass at a time; use one a thread. */
typedef struct pente_context pente_context;

typedef struct pente_linear_options {
    size_t struct_size;
    pente_dtype dtype; /* of the parameters, and so of every matrix that the layer meets */
    int32_t bias;      /* 0: no bias */
    uint64_t seed;     /* of the initial weights; as with torch.manual_seed's CPU generator, its low 32 bits count */
} pente_linear_options;

#define PENTE_LINEAR_OPTIONS_INIT {sizeof(pente_linear_options), PENTE_FLOAT32, 1, 0}

/* Makes a linear layer, Y = X W + b. Parameters: "weight" is out_features x in_features (the transpose of W), "bias"
 * is 1 x out_features. Their initial values are torch.nn.Linear's for the seed, bit for bit:
 * U(-1/sqrt(n), 1/sqrt(n)) from MT19937, weight first. */
PENTE_MUST_CHECK pente_status pente_linear_new(int64_t in_features, int64_t out_features,
                                               const pente_linear_options *options, pente_layer **layer);

typedef int32_t pente_activation;

/* Each with its derivative dy/dx, element by element; a is the negative slope. */
enum {
    PENTE_RELU = 1,       /* y = max(x, 0)                dy/dx = 0 where x <= 0, else 1 */
    PENTE_LEAKY_RELU = 2, /* y = x where x > 0, else a x  dy/dx = 1 where x > 0, else a */
    PENTE_TANH = 3,       /* y = tanh x                   dy/dx = 1 - y^2 */
    PENTE_SIGMOID = 4,    /* y = 1 / (1 + e^-x)           dy/dx = y (1 - y) */
    PENTE_SOFTPLUS = 5    /* y = log(1 + e^x)             dy/dx = 1 / (1 + e^-x) */
};

typedef struct pente_activation_options {
    size_t struct_size;
    pente_dtype dtype;
    double negative_slope; /* of PENTE_LEAKY_RELU, finite in the dtype; the others ignore it */
} pente_activation_options;

#define PENTE_ACTIVATION_OPTIONS_INIT {sizeof(pente_activation_options), PENTE_FLOAT32, 0.01}

/* Makes an activation, for any number of columns. It has no parameters: chains in different threads may share it. */
PENTE_MUST_CHECK pente_status pente_activation_new(pente_activation activation,
                                                   const pente_activation_options *options, pente_layer **layer);

/* Makes a scaler, y = (x - mean) / scale for each column: unscaled features are why training diverges. Its parameters
 * "mean" and "scale", vectors, begin as 0 and 1; pente_scaler_fit or pente_layer_set_parameter sets them, and no
 * optimizer does. */
PENTE_MUST_CHECK pente_status pente_scaler_new(int64_t features, pente_dtype dtype, pente_layer **scaler);

/* Sets mean and scale to the columns' means and standard deviations (divided by q), from sums in float64; the scale
 * of a column that is constant is 1. What is not finite is refused. Writes the scaler. */
PENTE_MUST_CHECK pente_status pente_scaler_fit(pente_layer *scaler, const pente_matrix *x);

/* Makes a chain: each layer's output is the next one's input. It keeps its layers (count >= 1, all of one dtype), so
 * you may free your handles, or go on to use them: they share their parameters with the chain. The names of its
 * parameters are those that torch.nn.Sequential gives, as "0.weight". Chains nest, 64 deep (on a stack of 128 KB or
 * more). No parameter may be in a chain twice; one activation may stand in several places. At least one layer must
 * have a number of columns of its own. */
PENTE_MUST_CHECK pente_status pente_chain_new(pente_layer *const *layers, int64_t count, pente_layer **chain);

/* Gives a further handle, to be freed like any other, to the chain's layer `index` (from 0). Reads that layer. */
PENTE_MUST_CHECK pente_status pente_chain_get_layer(const pente_layer *chain, int64_t index, pente_layer **layer);

/* A parameter of a layer of your own. */
typedef struct pente_custom_parameter {
    const char *name;   /* 1 to 63 bytes of UTF-8, no dot, no control character; no other parameter of the layer has it */
    pente_matrix value; /* its shape and initial value, which is copied */
    int32_t rank;       /* 2; or 1 for a vector, of one row */
} pente_custom_parameter;

/* A layer of your own: y = h(x, parameters).
 *
 * A callback returns 0, or a status that comes out of the call that led to it, unchanged: Pente's from a call of your
 * own, or one from PENTE_USER on. That call then fails as calls do, with nothing half-done. Callbacks run on the
 * thread that made the call, see the batch as a whole, and must return (no longjmp, no exception). They may call Pente
 * on other handles; a call that needs theirs (this layer, and the chain, context, optimizer or trainer that is at
 * work) is refused with PENTE_BUSY as a rule, and never waits. So a fit within one has no on_epoch: after it, a fit waits
 * for those who read its layers, and that is PENTE_INVALID_STATE. While one runs, other threads' calls that would run
 * this layer are PENTE_BUSY. They keep nothing from one call to the next: between a forward and its backward others may
 * come, and backward is given all that it needs.
 *
 * Each of `parameters` and `gradients` is an array of parameter_count matrices, in your order. All matrices have
 * contiguous rows one behind another, and are yours until you return. x, y, grad_output and parameters are to be read,
 * except for y in forward. */
typedef struct pente_custom_options {
    size_t struct_size;
    pente_dtype dtype;
    int64_t in_features;  /* 1 to 2^40; or 0, with out_features 0: any number of columns, and as many go out */
    int64_t out_features;
    const pente_custom_parameter *parameters; /* or NULL, with parameter_count 0 */
    int64_t parameter_count;
    /* Writes y = h(x). */
    pente_status (*forward)(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                            void *user_data);
    /* Given y = h(x) and grad_output = dL/dy, writes all of grad_input = dL/dx, and of gradients = dL/dparameters for
     * this batch (0 at first). */
    pente_status (*backward)(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *user_data);
    /* Called once, when the layer has gone, on the thread that let go of it last; or NULL. Not after a failed
     * pente_custom_new. */
    void (*release)(void *user_data);
    void *user_data;
} pente_custom_options;

#define PENTE_CUSTOM_OPTIONS_INIT \
    {sizeof(pente_custom_options), PENTE_FLOAT32, 0, 0, NULL, 0, NULL, NULL, NULL, NULL}

PENTE_MUST_CHECK pente_status pente_custom_new(const pente_custom_options *options, pente_layer **layer);

/* Frees the handle; NULL does nothing. A second time is PENTE_INVALID_HANDLE, and harmless. So with every _free. */
PENTE_API pente_status pente_layer_free(pente_layer *layer);

typedef int32_t pente_layer_kind;

enum {
    PENTE_LINEAR = 1,
    PENTE_ACTIVATION = 2,
    PENTE_SCALER = 3,
    PENTE_CHAIN = 4,
    PENTE_CUSTOM = 5
};

typedef struct pente_layer_info {
    size_t struct_size;
    int64_t in_features;     /* 0: any number of columns, and as many go out; so for an activation */
    int64_t out_features;
    int64_t parameter_count; /* of parameters by name: for a linear layer 2 with a bias, 1 without */
    pente_dtype dtype;
    pente_layer_kind kind;
    int64_t layer_count;     /* of a chain; else 0 */
    pente_activation activation; /* of an activation; else 0 */
    double negative_slope;       /* of a leaky relu; else 0 */
} pente_layer_info;

#define PENTE_LAYER_INFO_INIT {sizeof(pente_layer_info), 0, 0, 0, 0, 0, 0, 0, 0.0}

/* Reads the layer. */
PENTE_MUST_CHECK pente_status pente_layer_get_info(const pente_layer *layer, pente_layer_info *info);

typedef struct pente_parameter_info {
    size_t struct_size;
    int64_t rows;
    int64_t columns;
    int32_t rank;    /* 2; or 1 for a vector, as a bias is: rows is 1, and files know it as `columns` numbers */
    int32_t trained; /* 0: no optimizer changes it, and its gradient stays 0; so for a scaler's */
} pente_parameter_info;

#define PENTE_PARAMETER_INFO_INIT {sizeof(pente_parameter_info), 0, 0, 0, 0}

/* What is known of parameter `index` (from 0). Reads the layer. */
PENTE_MUST_CHECK pente_status pente_layer_get_parameter_info(const pente_layer *layer, int64_t index,
                                                             pente_parameter_info *info);

/* Copies the name of parameter `index` (from 0), with its NUL, to `name`, which holds `capacity` bytes. Reads. */
PENTE_MUST_CHECK pente_status pente_layer_parameter_name(const pente_layer *layer, int64_t index, char *name,
                                                         size_t capacity);

/* Copies a parameter, or its gradient, out to `value`, which has its shape and dtype. Reads the layer. */
PENTE_MUST_CHECK pente_status pente_layer_get_parameter(const pente_layer *layer, const char *name,
                                                        const pente_matrix *value);
PENTE_MUST_CHECK pente_status pente_layer_get_gradient(const pente_layer *layer, const char *name,
                                                       const pente_matrix *value);

/* Copies `value` in. Writes the layer. */
PENTE_MUST_CHECK pente_status pente_layer_set_parameter(pente_layer *layer, const char *name,
                                                        const pente_matrix *value);

/* Gives a view of the layer's own memory, valid while the layer lives (the handle, or a chain, context, optimizer or
 * trainer that holds it); the address never changes. To write through it is to write the layer: keep other threads
 * off it. */
PENTE_MUST_CHECK pente_status pente_layer_parameter_view(const pente_layer *layer, const char *name,
                                                         pente_matrix *view);
PENTE_MUST_CHECK pente_status pente_layer_gradient_view(const pente_layer *layer, const char *name,
                                                        pente_matrix *view);

/* Sets every gradient to 0. Writes the layer. */
PENTE_MUST_CHECK pente_status pente_layer_zero_gradients(pente_layer *layer);

/* Gives the linear layer, or all linear layers of a chain in their order, new initial parameters from one generator:
 * what torch.manual_seed(seed) and building the same nn.Sequential gives. Other layers stay as they are. Writes the
 * layer. */
PENTE_MUST_CHECK pente_status pente_layer_reset_parameters(pente_layer *layer, uint64_t seed);

/* Makes a context for passes of this layer alone, which it keeps alive. */
PENTE_MUST_CHECK pente_status pente_context_new(const pente_layer *layer, pente_context **context);
PENTE_API pente_status pente_context_free(pente_context *context);

/* y = layer(x); x is q x in_features, y is q x out_features. A row's result depends on that row alone, bit for bit, if
 * no linear layer has 16 outputs or more, 16 of at least 128 inputs apart (but for layers of your own); if one has, rows go
 * in groups of eight, and the last rows of a batch, fewer than eight, may differ in the last place from what they give in a
 * larger one. With a context, x's memory is borrowed until the backward pass: leave it be; if a callback fails, or is at
 * work for another call, the context's former pass is lost. NULL: inference, nothing is kept. Reads the layer, writes the
 * context. */
PENTE_MUST_CHECK pente_status pente_layer_forward(const pente_layer *layer, pente_context *context,
                                                  const pente_matrix *x, const pente_matrix *y);

/* The gradients of any loss L that comes after, given grad_output = dL/dy (q x out_features), for the x of the
 * context's last forward, once for each forward. grad_input = dL/dx (q x in_features, or NULL) is written, the
 * parameters' gradients are added to. For a linear layer
 *     grad_input = grad_output W^T;
 *     weight's gradient += (x^T grad_output)^T, bias's gradient += 1^T grad_output.
 * The parameters must be those of the forward pass. Writes the layer and the context. */
PENTE_MUST_CHECK pente_status pente_layer_backward(pente_layer *layer, pente_context *context,
                                                   const pente_matrix *grad_output, const pente_matrix *grad_input);

/* ---- Mean squared error ----------------------------------------------------------------------------------------- */

/* A loss. It is never written, so threads may share one. */
typedef struct pente_mse pente_mse;

typedef int32_t pente_reduction;

/* The divisor N of (1/N) sum of (prediction - target)^2. With sample weights each row's squares are multiplied by its
 * weight, and the sum of the weights stands in for q. */
enum {
    PENTE_MEAN = 1,        /* q p, as PyTorch's "mean" */
    PENTE_SUM = 2,         /* 1 */
    PENTE_NONE = 3,        /* 1, and no sum: the q x p squares */
    PENTE_BATCH_MEAN = 4,  /* q */
    PENTE_OUTPUT_MEAN = 5  /* p */
};

typedef struct pente_mse_options {
    size_t struct_size;
    pente_reduction reduction;
} pente_mse_options;

#define PENTE_MSE_OPTIONS_INIT {sizeof(pente_mse_options), PENTE_MEAN}

PENTE_MUST_CHECK pente_status pente_mse_new(const pente_mse_options *options, pente_mse **mse);
PENTE_API pente_status pente_mse_free(pente_mse *mse);

/* The loss of a prediction, q x p, against a target of the same shape, summed in float64; sample_weight is q x 1,
 * finite and >= 0, or NULL; all zeros are refused where N counts them. All matrices of a call are of one dtype. A
 * PENTE_NONE loss is refused here: see below. */
PENTE_MUST_CHECK pente_status pente_mse_forward(const pente_mse *mse, const pente_matrix *prediction,
                                                const pente_matrix *target, const pente_matrix *sample_weight,
                                                double *loss);

/* The (weighted) squares themselves, q x p: the forward of PENTE_NONE, and of no other. */
PENTE_MUST_CHECK pente_status pente_mse_forward_elements(const pente_mse *mse, const pente_matrix *prediction,
                                                         const pente_matrix *target,
                                                         const pente_matrix *sample_weight,
                                                         const pente_matrix *squares);

/* grad_prediction = (2/N) (prediction - target) grad_output and grad_target = -grad_prediction; either may be NULL,
 * not both. grad_output is the upstream gradient dL/dloss: 1 x 1, or q x p for PENTE_NONE; NULL stands for ones. */
PENTE_MUST_CHECK pente_status pente_mse_backward(const pente_mse *mse, const pente_matrix *prediction,
                                                 const pente_matrix *target, const pente_matrix *sample_weight,
                                                 const pente_matrix *grad_output, const pente_matrix *grad_prediction,
                                                 const pente_matrix *grad_target);

/* ---- Stochastic gradient descent -------------------------------------------------------------------------------- */

/* The optimizer: layers in groups, each with options of its own, and their momentum buffers. Keeps the layers alive. */
typedef struct pente_sgd pente_sgd;

/* torch.optim.SGD's step, for each parameter t with gradient g:
 *     maximize: g = -g;  weight_decay != 0: g = g + weight_decay t;
 *     momentum != 0: buf = g on the first step, then momentum buf + (1 - dampening) g;
 *                    g = g + momentum buf if nesterov, else buf;
 *     t = t - lr g.
 * Each of these updates is one fused multiply-add in the parameter's dtype; momentum buf rounds by itself, and so does
 * 1 - dampening. A buffer outlives a momentum of 0.
 * lr, momentum and weight_decay are finite and >= 0, dampening finite; nesterov wants momentum > 0, dampening 0. */
typedef struct pente_sgd_options {
    size_t struct_size;
    double lr;
    double momentum;
    double dampening;
    double weight_decay;
    int32_t nesterov;
    int32_t maximize;
} pente_sgd_options;

#define PENTE_SGD_OPTIONS_INIT {sizeof(pente_sgd_options), 1e-3, 0.0, 0.0, 0.0, 0, 0}

/* Makes an optimizer whose group 0 is `layers` (count >= 1, each parameter once, at least one to train, of one
 * dtype). */
PENTE_MUST_CHECK pente_status pente_sgd_new(pente_layer *const *layers, int64_t count,
                                            const pente_sgd_options *options, pente_sgd **sgd);
PENTE_API pente_status pente_sgd_free(pente_sgd *sgd);

/* Adds a group of further layers, with options of its own; its index is one above the last. Writes sgd. */
PENTE_MUST_CHECK pente_status pente_sgd_add_group(pente_sgd *sgd, pente_layer *const *layers, int64_t count,
                                                  const pente_sgd_options *options);

/* Reads or replaces a group's options; they hold from the next step on. get reads sgd, the others write it. */
PENTE_MUST_CHECK pente_status pente_sgd_get_options(const pente_sgd *sgd, int64_t group, pente_sgd_options *options);
PENTE_MUST_CHECK pente_status pente_sgd_set_options(pente_sgd *sgd, int64_t group, const pente_sgd_options *options);
PENTE_MUST_CHECK pente_status pente_sgd_set_lr(pente_sgd *sgd, int64_t group, double lr);

typedef struct pente_sgd_info {
    size_t struct_size;
    int64_t group_count;
    int64_t step_count;      /* how many steps it has made, its trainers' among them */
    int64_t parameter_count; /* that it trains, in all groups */
} pente_sgd_info;

#define PENTE_SGD_INFO_INIT {sizeof(pente_sgd_info), 0, 0, 0}

/* Reads sgd. */
PENTE_MUST_CHECK pente_status pente_sgd_get_info(const pente_sgd *sgd, pente_sgd_info *info);

/* One step for every parameter of every group, from its gradient. Writes sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_sgd_step(pente_sgd *sgd);

/* Sets the gradients of all its layers to 0. Writes the layers. */
PENTE_MUST_CHECK pente_status pente_sgd_zero_gradients(pente_sgd *sgd);

/* Clips the gradients of all parameters that it trains by their norm, as torch.nn.utils.clip_grad_norm_: where
 * max_norm / (norm + 1e-6) is below 1, each is multiplied by it. The norm, which is written to norm (or NULL) as it was
 * before, is the square root of the sum of all their squares, in float64; one that is not finite is PENTE_NOT_FINITE.
 * max_norm is finite and > 0. Writes sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_sgd_clip_gradients(pente_sgd *sgd, double max_norm, double *norm);

/* An optimizer's state: each group's options, each parameter's momentum buffer, and the step count. Parameters have
 * the numbers that they have in a torch.optim.SGD's state_dict: from 0 on, group after group, in each those that it
 * trains of its layers in turn. */
typedef struct pente_sgd_parameter_info {
    size_t struct_size;
    int64_t group;
    int64_t rows;
    int64_t columns;
    int32_t rank;                /* 2; or 1 for a vector, as in pente_parameter_info */
    int32_t has_momentum_buffer; /* 0: its next step with momentum is its first */
} pente_sgd_parameter_info;

#define PENTE_SGD_PARAMETER_INFO_INIT {sizeof(pente_sgd_parameter_info), 0, 0, 0, 0, 0}

/* What is known of parameter `index`. Reads sgd. */
PENTE_MUST_CHECK pente_status pente_sgd_get_parameter_info(const pente_sgd *sgd, int64_t index,
                                                           pente_sgd_parameter_info *info);

/* Copies the momentum buffer of parameter `index` out to `value`, which has its shape and dtype. Without a buffer it is
 * PENTE_INVALID_STATE. Reads sgd. */
PENTE_MUST_CHECK pente_status pente_sgd_get_momentum_buffer(const pente_sgd *sgd, int64_t index,
                                                            const pente_matrix *value);

/* Sets the whole state: group_count options and parameter_count buffers (NULL: it has none), which are as many as it
 * has groups and parameters, and are copied; and step_count >= 0. With it, and the parameters, a run goes on to the
 * same bits as the one that it is from. Within a fit it is PENTE_BUSY. Writes sgd. */
PENTE_MUST_CHECK pente_status pente_sgd_set_state(pente_sgd *sgd, const pente_sgd_options *options,
                                                  int64_t group_count, const pente_matrix *const *momentum_buffers,
                                                  int64_t parameter_count, int64_t step_count);

/* ---- Training --------------------------------------------------------------------------------------------------- */

/* Layer, loss and optimizer together, and the workspace for their steps. Keeps all three alive. */
typedef struct pente_trainer pente_trainer;

/* sgd must hold all of the layer's parameters; a PENTE_NONE loss is refused, since there is no one number to descend.
 * */
PENTE_MUST_CHECK pente_status pente_trainer_new(pente_layer *layer, const pente_mse *mse, pente_sgd *sgd,
                                                pente_trainer **trainer);
PENTE_API pente_status pente_trainer_free(pente_trainer *trainer);

/* zero_gradients, forward, loss, backward and step in one call, to the same bits, reading x once. The gradients are
 * left in the layer. loss (or NULL) is the loss before the update. A loss that is not finite in the layer's dtype is
 * PENTE_NOT_FINITE, and nothing changes. Allocates when q or the number of threads is larger than ever before,
 * and else not. Writes the trainer, the sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_trainer_step(pente_trainer *trainer, const pente_matrix *x, const pente_matrix *y,
                                                 const pente_matrix *sample_weight, double *loss);

/* Has each step from now on, fit's too, clip the gradients before its update, as pente_sgd_clip_gradients between
 * backward and step does, to the same bits; a norm that is not finite is then PENTE_NOT_FINITE, and nothing changes.
 * max_norm is finite and >= 0; 0, as at first: it clips nothing. Writes the trainer. */
PENTE_MUST_CHECK pente_status pente_trainer_set_max_gradient_norm(pente_trainer *trainer, double max_norm);

/* A step whose batch lies in several places: machines, processes, or turns of one. Each accumulates the gradients of its
 * rows; the sums of all, added element by element, are those of the whole batch, whose step is `apply`. It is the step
 * of all rows at once, but for rounding; for the same sums it has the same bits. */

/* Adds the gradients of these rows to those that are accumulated already; the layer stays as it is. Several calls make
 * one batch, of rows for which there is no room at once. Sample weights may be all 0. A sum of squares that is not finite
 * is PENTE_NOT_FINITE, and nothing is added. Writes the trainer, the sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_trainer_accumulate(pente_trainer *trainer, const pente_matrix *x,
                                                       const pente_matrix *y, const pente_matrix *sample_weight);

/* How many numbers the sums are: one for each number of the layer's trained parameters, in their order, and three.
 * Reads trainer. */
PENTE_MUST_CHECK pente_status pente_trainer_get_sum_count(const pente_trainer *trainer, int64_t *count);

/* Copies what is accumulated to `sums`, of as many numbers, whatever the layer's dtype: the gradients of the *sum* of all
 * squares (times their sample weights), that sum, the number of rows (or the sum of their weights), and the same times
 * y's columns. Reads trainer. */
PENTE_MUST_CHECK pente_status pente_trainer_get_sums(const pente_trainer *trainer, double *sums, int64_t count);

/* Replaces what is accumulated: by so many finite numbers, of which the last two are not negative; or, with NULL and 0, by
 * nothing. Writes trainer. */
PENTE_MUST_CHECK pente_status pente_trainer_set_sums(pente_trainer *trainer, const double *sums, int64_t count);

/* The step of the batch that is accumulated, as pente_trainer_step's of all its rows. Nothing is accumulated then; if it
 * fails, all is as it was. Without rows it is PENTE_INVALID_STATE. Writes the trainer, the sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_trainer_apply_sums(pente_trainer *trainer, double *loss);

/* What a callback learns at the end of an epoch. */
typedef struct pente_epoch {
    size_t struct_size;
    int64_t epoch;          /* from 1, or first_epoch + 1 */
    int64_t epochs;         /* the last one's number, if all that were asked for are done */
    double training_loss;   /* of the epoch's batches as they were met: their average over rows, or over sample weights
                               (for PENTE_SUM and PENTE_OUTPUT_MEAN their sum) */
    double validation_loss; /* after the epoch; NaN without a validation set */
} pente_epoch;

/* How far a run is. */
typedef struct pente_progress {
    size_t struct_size;
    int64_t epoch;          /* the one under way: from 1, or first_epoch + 1 */
    int64_t epochs;         /* the last one's number, if all that were asked for are done */
    int64_t row;            /* how many rows of the epoch are done */
    int64_t rows;           /* how many there are; -1: that is not known before the first epoch's end */
    double loss;            /* of the epoch so far, as training_loss */
    double rows_per_second; /* of this run so far */
    double seconds_left;    /* until all epochs are done, at that rate; NaN while rows is not known */
} pente_progress;

/* Callbacks run on the thread that called fit, and must return (no longjmp, no exception). */
typedef struct pente_fit_options {
    size_t struct_size;
    int64_t epochs;                    /* >= 1, of this run */
    int64_t batch_size;                /* >= 1; the last batch of an epoch may be smaller. One whose sample weights are
                                          all 0 is passed over */
    int32_t shuffle;                   /* 0: rows in order; else a new torch.randperm order for each epoch */
    uint64_t seed;                     /* of the shuffles: the generator is seeded once, as by manual_seed */
    int64_t first_epoch;               /* >= 0: epochs that an earlier run has done. This run's numbers and shuffles go
                                          on from there, so that a resumed run is as one that was never interrupted
                                          (but for patience, which begins anew) */
    const pente_matrix *sample_weight; /* q x 1, or NULL */
    const pente_matrix *validation_x;  /* with validation_y, or NULL both */
    const pente_matrix *validation_y;
    int64_t patience; /* stop after so many epochs without a better validation loss, and give back the best
                         parameters, however the run ends; 0: neither. Wants a validation set. */
    double min_delta; /* a loss is better if it is lower by more than this; finite, >= 0 */
    int32_t (*on_epoch)(const pente_epoch *epoch, void *user_data); /* after each epoch, or NULL; not 0: stop. It may
                         read the layers (to predict) and the optimizer, and set the optimizer's options; whatever else
                         writes them is PENTE_BUSY, from this thread as from others */
    int32_t (*should_stop)(void *user_data); /* asked some ten times a second, between blocks of rows, or NULL; not 0:
                         stop before the next update. The trainer, its layer and its optimizer are busy meanwhile */
    void *user_data;
    double *training_losses;   /* `epochs` numbers, the first report.epochs of them written; or NULL */
    double *validation_losses; /* likewise */
    double *learning_rates;    /* likewise, of group 0: that each epoch was trained with */
    void (*on_progress)(const pente_progress *progress, void *user_data); /* some ten times a second, between two steps,
                         or NULL. The trainer, its layer and its optimizer are busy meanwhile */
    int64_t shuffle_window;      /* of a source: the rows among which they are shuffled, of which memory holds twice as
                                    many; 0: as many as take 8 MB. See pente_trainer_fit_source */
    const char *checkpoint_path; /* where the run is kept, as pente_layer_save writes it, with how far it is; or NULL. It
                                    is written when the run ends, too. The sgd must hold the layer's parameters alone */
    int64_t checkpoint_epochs;   /* after every so many epochs (and their on_epoch); 0: not after an epoch as such */
    double checkpoint_seconds;   /* as soon as so many seconds have gone by since the last, between two steps; 0: not by
                                    the time */
    int32_t resume;              /* not 0: goes on with the run that the file at checkpoint_path holds, if there is a
                                    file, to the same bits as if it had never been interrupted; with the same data and
                                    options, but for epochs, patience and min_delta. The report and the losses are
                                    those of all of it. Callbacks are not called again for what is done */
    pente_status (*reduce)(double *sums, int64_t count, void *user_data); /* the fit is one of several, each in a process of
                         its own with rows of its own, that train one model; or NULL. It is called once a step, with the
                         same count in all of them, and gives each of them the sum of all, element by element: MPI's
                         allreduce. They begin with the same parameters, optimizers and options (batch_size is of one of
                         them), and end with the same. Each epoch lasts until none has rows left. If one stops, all do,
                         before the next update; checkpoints are written at an epoch's end alone. A status that is not
                         0 comes out of the fit, unchanged. The trainer, its layer and its optimizer are busy meanwhile */
    double *schedule;       /* numbers of your own that belong to the run, such as where a schedule of learning rates is,
                               which on_epoch may change: a checkpoint keeps them as they are when it is written, and
                               resume sets them. Or NULL */
    int64_t schedule_count; /* how many */
} pente_fit_options;

#define PENTE_FIT_OPTIONS_INIT                                                                                       \
    {sizeof(pente_fit_options), 1, 32, 1, 0, 0, NULL, NULL, NULL, 0, 0.0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, \
     1, 0.0, 0, NULL, NULL, 0}

typedef int32_t pente_stop_reason;

enum {
    PENTE_STOP_EPOCHS = 1,   /* all epochs are done */
    PENTE_STOP_EARLY = 2,    /* patience ran out */
    PENTE_STOP_CALLBACK = 3, /* on_epoch said stop */
    PENTE_STOP_REQUEST = 4   /* should_stop said stop; the epoch under way is not counted, its steps are kept */
};

typedef struct pente_fit_report {
    size_t struct_size;
    int64_t epochs;     /* done in this run */
    int64_t best_epoch; /* of this run, from 1: the last with a better validation loss; 0 without one that is finite */
    pente_stop_reason stop_reason;
} pente_fit_report;

#define PENTE_FIT_REPORT_INIT {sizeof(pente_fit_report), 0, 0, 0}

/* Trains on q examples for some epochs of mini-batches. x and y are read where they are; a batch's rows are gathered
 * only when shuffled. report may be NULL. On failure (PENTE_NOT_FINITE and a callback's status among them) the
 * parameters, gradients and momentum are as they were before the call. Writes the trainer, the sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_trainer_fit(pente_trainer *trainer, const pente_matrix *x, const pente_matrix *y,
                                                const pente_fit_options *options, pente_fit_report *report);

/* ---- Data that is not in memory ----------------------------------------------------------------------------------- */

/* Where the rows of a fit come from: files, or what you make of anything. One fit at a time has it. */
typedef struct pente_source pente_source;

/* Makes a source of NumPy's .npy files, versions 1 to 3 of the format, all of float32 or all of float64, little-endian,
 * in C order: x of q x inputs, y of q x outputs, and sample weights of q x 1, or none with sample_weight_count 0. What has
 * one dimension is of one column. Each of the three may be several files, whose rows follow one another, and not cut at
 * the same rows. All are opened and looked at now, and one of each three at a time from then on. They are read, not
 * mapped: a mapped file that shrinks would end the process. */
PENTE_MUST_CHECK pente_status pente_npy_source_new(const char *const *x_paths, int64_t x_count,
                                                   const char *const *y_paths, int64_t y_count,
                                                   const char *const *sample_weight_paths,
                                                   int64_t sample_weight_count, pente_source **source);

/* A source of your own.
 *
 * `read` is called on a thread that the library starts for the time of a fit, one call at a time; it returns 0, or a
 * status that comes out of the fit, unchanged: Pente's from a call of your own, or one from PENTE_USER on. It must
 * return (no longjmp, no exception), and the fit does not before it has; it may call Pente on handles that the fit does
 * not use. In a child that is forked in a callback of the fit, it is called on the thread of the fit. */
typedef struct pente_source_options {
    size_t struct_size;
    pente_dtype dtype;
    int64_t inputs;  /* the columns of x, 1 to 2^40 */
    int64_t outputs; /* and of y */
    int32_t has_sample_weight;
    int64_t rows; /* how many there are: any of them may be asked for, in any order. Or -1, unknown: they are asked for
                     from the first to the last, and so in each epoch, and shuffled within the window alone; and a child
                     of fork() cannot go on with them: PENTE_INVALID_STATE */
    /* Fills x, y and sample_weight (NULL if there are none) with rows from number `first` on, as many as they have or
     * there are, and sets *count to how many those are: at least 1, and 0 only behind the last row. */
    pente_status (*read)(int64_t first, const pente_matrix *x, const pente_matrix *y, const pente_matrix *sample_weight,
                         int64_t *count, void *user_data);
    /* Called once, when the source has gone, on the thread that let go of it last; or NULL. Not after a failed
     * pente_source_new. */
    void (*release)(void *user_data);
    void *user_data;
} pente_source_options;

#define PENTE_SOURCE_OPTIONS_INIT {sizeof(pente_source_options), PENTE_FLOAT32, 0, 0, 0, -1, NULL, NULL, NULL}

PENTE_MUST_CHECK pente_status pente_source_new(const pente_source_options *options, pente_source **source);
PENTE_API pente_status pente_source_free(pente_source *source);

typedef struct pente_source_info {
    size_t struct_size;
    pente_dtype dtype;
    int64_t inputs;
    int64_t outputs;
    int32_t has_sample_weight;
    int64_t rows; /* -1: unknown */
} pente_source_info;

#define PENTE_SOURCE_INFO_INIT {sizeof(pente_source_info), 0, 0, 0, 0, 0}

/* What is known of a source. Reads source. */
PENTE_MUST_CHECK pente_status pente_source_get_info(const pente_source *source, pente_source_info *info);

/* pente_trainer_fit with the rows of a source of the layer's dtype (and options.sample_weight NULL). A thread of its own
 * reads ahead, so that the disk and the arithmetic overlap; it ends with the call. Memory is taken for the window and the
 * one that is read meanwhile, each of shuffle_window rows or a batch, whatever is more, and for some 4 MB where rows come
 * in order.
 *
 * Shuffled, rows come to a window in blocks, of which 32 fill it, both of whole batches: each epoch has an order of the
 * blocks (the last one, if it is not full, stays the last), torch.randperm's from a generator of its own that
 * seed + 0x9e3779b9 * (epoch + 1) seeds, epochs from 0, and each window an order of its rows, torch.randperm's from the
 * one generator that `seed` seeds. A window that holds all rows shuffles as pente_trainer_fit does. The bits are those
 * of the same rows in memory in the same order.
 *
 * A number that is not finite is PENTE_NOT_FINITE with the file and row it is from, a file that has become shorter
 * PENTE_INVALID_FILE with the first row that is not there. Writes the source, the trainer, the sgd and its layers. */
PENTE_MUST_CHECK pente_status pente_trainer_fit_source(pente_trainer *trainer, pente_source *source,
                                                       const pente_fit_options *options, pente_fit_report *report);

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* Files are safetensors: a layer's parameters by their names, with the shapes that torch.nn.Linear and nn.Sequential
 * give them, and, in the entry "pente" of the metadata, how the layer is built. A path is the system's, in its own
 * encoding. A file that is written is on the disk, whole, under another name before it takes the place of an old one,
 * whose permissions it gets; where the path is a link, the link's target is replaced. What is no regular file, or a
 * link that leads nowhere, is PENTE_FILE_ERROR. A save that fails leaves no other file; one whose process is killed may
 * leave ".pente-" and sixteen letters beside the path, which is in no later save's way and may be removed. Of how a
 * layer is built there is room for 1 MB: some ten thousand layers; and for 500,000 names, where a parameter has one in
 * each of the chains that it is in. */

/* Writes the layer to a file; and if sgd is not NULL, which must hold the layer's parameters and no others, its
 * options, momentum buffers ("sgd.0.weight.momentum_buffer") and step count. What another process, or another call of
 * this function, writes to the same path at the same time is whole as well: the last one stays. Reads the layer and
 * sgd. */
PENTE_MUST_CHECK pente_status pente_layer_save(const pente_layer *layer, const pente_sgd *sgd, const char *path);

/* Makes the layer that a file holds: one that pente_layer_save wrote, without layers of your own in it, or any file
 * of a "weight" and perhaps a "bias" alone, which is a linear layer. */
PENTE_MUST_CHECK pente_status pente_layer_load(const char *path, pente_layer **layer);

/* Sets the parameters of a layer that is there already, of any kind, from a file with the same names, shapes and
 * dtype, whoever wrote it; and if sgd is not NULL, all that pente_layer_save wrote of one whose groups have the same
 * parameters. A run that is resumed so goes on to the same bits as one that was never interrupted (see first_epoch).
 * Without sgd, what the file holds of an optimizer is passed over. Writes the layer and sgd. */
PENTE_MUST_CHECK pente_status pente_layer_load_parameters(pente_layer *layer, pente_sgd *sgd, const char *path);

typedef struct pente_checkpoint_info {
    size_t struct_size;
    int64_t epochs; /* done, those before first_epoch among them */
    int64_t row;    /* done in the next one */
} pente_checkpoint_info;

#define PENTE_CHECKPOINT_INFO_INIT {sizeof(pente_checkpoint_info), 0, 0}

/* How far the run is that a file holds (checkpoint_path); PENTE_INVALID_FILE if it holds none. */
PENTE_MUST_CHECK pente_status pente_checkpoint_get_info(const char *path, pente_checkpoint_info *info);

/* ---- Gradient check --------------------------------------------------------------------------------------------- */

typedef struct pente_gradcheck_options {
    size_t struct_size;
    double eps;  /* the step of the central differences, > 0 */
    double atol; /* an element passes if |analytic - numeric| <= atol + rtol |numeric| */
    double rtol;
} pente_gradcheck_options;

#define PENTE_GRADCHECK_OPTIONS_INIT {sizeof(pente_gradcheck_options), 1e-6, 1e-5, 1e-3}

typedef struct pente_gradcheck_report {
    size_t struct_size;
    int32_t passed;
    int64_t checked;         /* how many elements */
    char worst[64];          /* where the error is largest for its tolerance: "x", "target" or a parameter's name, */
    int64_t row, column;     /* and its element */
    double analytic, numeric;
    double error, tolerance; /* |analytic - numeric|, atol + rtol |numeric| */
} pente_gradcheck_report;

#define PENTE_GRADCHECK_REPORT_INIT {sizeof(pente_gradcheck_report), 0, 0, {0}, 0, 0, 0.0, 0.0, 0.0, 0.0}

/* Compares every analytic gradient of L = mse(layer(x), target), with respect to x, each trained parameter and
 * target, with central differences (L(v + eps) - L(v - eps)) / (2 eps), in float64 alone: for any layer, chains and
 * your own included. layer NULL: x is the prediction. mse and target NULL: L is the sum of layer(x) times fixed
 * pseudo-random numbers; a PENTE_NONE loss is summed likewise. A check that fails is PENTE_OK with report.passed 0.
 * At a kink (a relu at 0) the two differ by right. Other forward passes come between that of x and its backward, so a
 * layer of your own that remembers an x of its own fails. The layer is as before afterwards, to the bit; it counts as
 * written meanwhile. */
PENTE_MUST_CHECK pente_status pente_gradcheck(pente_layer *layer, const pente_mse *mse, const pente_matrix *x,
                                              const pente_matrix *target, const pente_gradcheck_options *options,
                                              pente_gradcheck_report *report);

#ifdef __cplusplus
}
#endif

#endif
