/* Calls of the library whose outcomes are looked at, and counted for all processes that come of this one. */
#ifndef PENTE_CALLS_H
#define PENTE_CALLS_H

#include "support.h"

#include <stdatomic.h>

#define FUNCTIONS(X) \
    X(pente_activation_new) X(pente_checkpoint_get_info) X(pente_npy_source_new) X(pente_source_free) \
    X(pente_source_get_info) X(pente_source_new) X(pente_trainer_accumulate) X(pente_trainer_apply_sums) \
    X(pente_trainer_fit_source) X(pente_trainer_get_sum_count) X(pente_trainer_get_sums) \
    X(pente_trainer_set_sums) X(pente_chain_get_layer) X(pente_chain_new) X(pente_context_free) X(pente_context_new) \
    X(pente_custom_new) X(pente_gradcheck) X(pente_layer_backward) X(pente_layer_forward) X(pente_layer_free) \
    X(pente_layer_get_gradient) X(pente_layer_get_info) X(pente_layer_get_parameter) \
    X(pente_layer_get_parameter_info) X(pente_layer_gradient_view) X(pente_layer_load) \
    X(pente_layer_load_parameters) X(pente_layer_parameter_name) X(pente_layer_parameter_view) \
    X(pente_layer_reset_parameters) X(pente_layer_save) X(pente_layer_set_parameter) X(pente_layer_zero_gradients) \
    X(pente_linear_new) X(pente_mse_backward) X(pente_mse_forward) X(pente_mse_forward_elements) X(pente_mse_free) \
    X(pente_mse_new) X(pente_scaler_fit) X(pente_scaler_new) X(pente_sgd_add_group) X(pente_sgd_clip_gradients) \
    X(pente_sgd_free) X(pente_sgd_get_info) X(pente_sgd_get_momentum_buffer) X(pente_sgd_get_options) \
    X(pente_sgd_get_parameter_info) X(pente_sgd_new) X(pente_sgd_set_lr) X(pente_sgd_set_options) \
    X(pente_sgd_set_state) X(pente_sgd_step) X(pente_sgd_zero_gradients) X(pente_threads_set) X(pente_trainer_fit) \
    X(pente_trainer_free) X(pente_trainer_new) X(pente_trainer_set_max_gradient_norm) X(pente_trainer_step)

#define NUMBER(function) NUMBER_##function,
#define NAME(function) #function,
enum { FUNCTIONS(NUMBER) FUNCTION_COUNT };

/* Statuses as a set. Any call may be refused for its handles. */
enum {
    ALWAYS = 1 << PENTE_OK | 1 << PENTE_INVALID_HANDLE | 1 << PENTE_BUSY,
    ARGUMENT = 1 << PENTE_INVALID_ARGUMENT,
    SHAPE = 1 << PENTE_SHAPE_MISMATCH,
    DTYPE = 1 << PENTE_DTYPE_MISMATCH,
    STATE = 1 << PENTE_INVALID_STATE,
    FINITE = 1 << PENTE_NOT_FINITE,
    FILES = 1 << PENTE_FILE_ERROR | 1 << PENTE_INVALID_FILE,
    UNKNOWN_PLACE = 14,
    USERS_PLACE = 15, /* a callback's own */
    USERS = 1 << USERS_PLACE,
    STATUSES = 16,
    PASS = ARGUMENT | SHAPE | DTYPE | USERS,
};

/* Who makes calls, in a thread of his own. */
typedef struct visitor {
    uint64_t random;
    int depth;                  /* of calls from callbacks */
    const char *_Atomic where;  /* the function that he is in, or was last */
    atomic_long acts;
    void *stale;                /* a handle that is, or will be, freed */
    double *large;              /* room for results of many rows */
    bool (*fork_within)(void);  /* called from callbacks now and then, or NULL; true: this is the child */
    bool is_child;
} visitor;

/* The function is known to whoever looks for one that hangs. Nothing here orders the threads: that would hide races. */
#define CALL(v, allowed, function, ...) \
    (atomic_store_explicit(&(v)->where, #function, memory_order_relaxed), \
     outcome(NUMBER_##function, function(__VA_ARGS__), allowed))
pente_status outcome(int function, pente_status status, int allowed);

/* Tells what went wrong, and counts it. */
void complain(const char *who, const char *what);
long wrong_count(void);

void calls_begin(void);
/* Tells how often they ended how. Unless they were few, each function is to have succeeded at least once, and to be busy is
 * to have come up. */
void calls_end(bool were_few);

#endif
