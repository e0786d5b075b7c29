/* What the tests of chains, of layers of one's own and of files share: layers of all kinds, and all that is in them. */
#ifndef PENTE_TEST_LAYERS_H
#define PENTE_TEST_LAYERS_H

#include "support.h"

pente_layer *linear_new(pente_dtype dtype, int64_t inputs, int64_t outputs, uint64_t seed);
pente_layer *activation_new(pente_dtype dtype, pente_activation activation);
pente_layer *scaler_new(pente_dtype dtype, int64_t features); /* with a mean and a scale that are not 0 and 1 */

/* A chain of these layers; the handles given are freed. */
#define CHAIN(...) chain_taking((pente_layer *const[]){__VA_ARGS__}, COUNT(((pente_layer *const[]){__VA_ARGS__})))
pente_layer *chain_taking(pente_layer *const *layers, size_t count);

/* 13 columns to 2, through scaler, linear, tanh, linear, leaky relu, linear. */
enum { TALL_INPUTS = 13, TALL_OUTPUTS = 2 };
pente_layer *tall_chain_new(pente_dtype dtype, uint64_t seed);

/* A parameter or its gradient, as a live view. */
pente_matrix parameter_of(const pente_layer *layer, const char *name);
pente_matrix gradient_of(const pente_layer *layer, const char *name);

/* All gradients are random afterwards, so that a change shows. */
void fill_gradients(pente_layer *layer);

/* Copies of all of a layer's parameters and gradients. */
typedef struct snapshot {
    int64_t count;
    pente_matrix parameters[16], gradients[16];
} snapshot;

snapshot snapshot_new(const pente_layer *layer);
void snapshot_free(snapshot *snapshot);
bool same_snapshots(const snapshot *a, const snapshot *b);
bool is_as_in(const pente_layer *layer, const snapshot *snapshot);
/* The same names, parameters and gradients, in the same order. */
bool same_layers(const pente_layer *a, const pente_layer *b);

pente_sgd *sgd_of(pente_layer *layer, double lr, double momentum);
pente_trainer *trainer_of(pente_layer *layer, const pente_mse *mse, pente_sgd *sgd);

/* ---- A layer of one's own ---- */

typedef enum mistake { NO_MISTAKE, NO_TRANSPOSE, WRONG_SIGN, NO_DIVISOR, FIRST_X, LAST_X } mistake;

/* y = x W^T / divisor + b, in plain loops, with the parameters and initial values of a linear layer. The callbacks can
 * be told to fail, when half of their output is written, and backward to be wrong. */
typedef struct affine {
    pente_layer *layer;
    double divisor;                           /* 0 stands for 1 */
    pente_status forward_fails, backward_fails; /* with this status */
    int64_t failing_rows;                     /* and with batches of so many rows alone; 0: with any */
    mistake mistake;
    void (*inside)(struct affine *affine);    /* called within both callbacks, or NULL */
    void *of_inside;
    int forwards, backwards, releases, wrong; /* wrong: how often the arguments were not as the header says */
    int depth, deepest;                       /* of callbacks within callbacks */
    double first_x[64], last_x[64];
} affine;

void affine_new(affine *affine, pente_dtype dtype, int64_t inputs, int64_t outputs, uint64_t seed);
pente_custom_options affine_options(affine *affine, pente_dtype dtype, int64_t inputs, int64_t outputs);

#endif
