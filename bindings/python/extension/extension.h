/* The insides of pente._pente, which is thin: check, translate, call libpente, translate back.
 *
 * Every type is a heap type; CustomLayer alone is for subclasses. Objects are built by tp_new, but for CustomLayer's,
 * which __init__ builds, so that a subclass may have arguments of its own. A call that may run long lets go of the GIL;
 * what an object keeps between calls is changed only with the GIL held, and only by a call that has marked the object
 * busy. */
#ifndef PENTE_EXTENSION_H
#define PENTE_EXTENSION_H

#include <Python.h>
#include <structmember.h>

#include <pente.h>

/* The headers of Python 3.12 and newer think that these need no reference, as they do in 3.11, which we run on too. */
#pragma GCC poison Py_RETURN_NONE Py_RETURN_TRUE Py_RETURN_FALSE Py_RETURN_NOTIMPLEMENTED

/* ---- Module: module.c ------------------------------------------------------------------------------------------- */

enum {
    MATRIX_TYPE,
    LAYER_TYPE, /* the base of those from LINEAR_TYPE to SOFTPLUS_TYPE */
    LINEAR_TYPE,
    CHAIN_TYPE,
    SCALER_TYPE,
    CUSTOM_TYPE,
    RELU_TYPE, /* the activations in pente_activation's order */
    LEAKY_RELU_TYPE,
    TANH_TYPE,
    SIGMOID_TYPE,
    SOFTPLUS_TYPE,
    LOSS_TYPE,
    SGD_TYPE,
    TRAINER_TYPE,
    SOURCE_TYPE, /* the base of those that follow */
    NPY_SOURCE_TYPE,
    BATCH_SOURCE_TYPE,
    TYPE_COUNT
};

typedef struct {
    PyObject *module; /* borrowed: it has this */
    PyTypeObject *types[TYPE_COUNT];
} module_state;

extern PyType_Spec matrix_spec, layer_spec, linear_spec, chain_spec, scaler_spec, custom_spec, relu_spec,
    leaky_relu_spec, tanh_spec, sigmoid_spec, softplus_spec, loss_spec, sgd_spec, trainer_spec, source_spec,
    npy_source_spec, batch_source_spec;

/* The state of the module that made the type, or made the type that a class was derived from. NULL and an exception
 * when the garbage collector has cleared the type: what it clears later may call us still. */
module_state *state_of_type(PyTypeObject *type);

/* A layer has it in a field. */
static inline module_state *state_of(PyObject *object) {
    return state_of_type(Py_TYPE(object));
}

/* ---- The GIL ---------------------------------------------------------------------------------------------------- */

/* How many multiply-adds are worth letting go of the GIL for: some microseconds. Getting it back costs 0.1, or up to
 * the switch interval of 5000 where other threads want it too. */
#define GIL_THRESHOLD (1 << 16)
#define LONG_WORK (2.0 * GIL_THRESHOLD)

/* What a thread needs to get back the GIL that it has let go of: a callback of libpente's finds it here. Else NULL. */
extern _Thread_local PyThreadState *released_thread __attribute__((tls_model("initial-exec")));

static inline void release_gil(double work) {
    if (work > GIL_THRESHOLD) released_thread = PyEval_SaveThread();
}

/* Whether there was something to regain. */
static inline int regain_gil(void) {
    PyThreadState *thread = released_thread;
    if (!thread) return 0;
    released_thread = NULL;
    PyEval_RestoreThread(thread);
    return 1;
}

/* ---- Arguments: arguments.c ------------------------------------------------------------------------------------- */

/* Sorts the arguments of a fast call into `values`, one for each of `names` (which ends with NULL); the first
 * `required` must be there. None, and nothing, is NULL. */
int parse_arguments(const char *function, const char *const *names, Py_ssize_t required, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *kwnames, PyObject **values);

/* The same for tp_call: `args` is a tuple, and `kwargs` a dict or NULL. */
int parse_call(const char *function, const char *const *names, Py_ssize_t required, PyObject *args, PyObject *kwargs,
               PyObject **values);

/* A whole number of 64 bits, and a float; NULL leaves the number as it is. The error has the argument's name. */
int integer_from(PyObject *object, const char *name, int64_t *number);
int float_from(PyObject *object, const char *name, double *number);

/* A seed is a whole number of 64 bits; None or NULL asks the system for a fresh one. */
int seed_from(PyObject *object, uint64_t *seed);

int dtype_converter(PyObject *object, void *dtype);
const char *dtype_name(pente_dtype dtype);

/* As PyObject_GetAttrString, whose names, another object each time, would fill Python's caches. */
PyObject *attribute(PyObject *object, const char *name);

/* A new reference, or NULL, perhaps with an exception: of a key's __eq__, which PyDict_GetItemString would drop. */
PyObject *dict_item(PyObject *dict, const char *name);

/* Calls a function or class of one of the package's Python modules; the format is Py_BuildValue's, of a tuple. */
PyObject *call_python(const char *module, const char *name, const char *format, ...);

/* For a tp_richcompare: whether it is == or != of two objects of one type, which is all that ours answer. */
static inline int can_compare(PyObject *op, PyObject *other, int operation) {
    return Py_IS_TYPE(other, Py_TYPE(op)) && (operation == Py_EQ || operation == Py_NE);
}

/* Such a tp_richcompare, by a function of pente._objects. */
PyObject *compare_by(PyObject *op, PyObject *other, int operation, const char *name);

/* "... is in use by another call"; as PyErr_Format, returns NULL. */
PyObject *raise_busy(PyObject *object);

/* ---- Buffers: buffers.c ----------------------------------------------------------------------------------------- */

/* A caller's buffer and the matrix that lies in it. Zeroed, it is no buffer. */
typedef struct {
    Py_buffer view;   /* during the call; and after it, if it is to be kept and is safe from the garbage collector, */
    PyObject *memory; /* or else this memoryview */
    pente_matrix matrix;
    const char *name; /* of the argument */
} Buffer;

enum {
    AS_COLUMN = 1, /* 1-D is a column, where else it is one row */
    WRITABLE = 2,
    KEPT = 4,     /* buffers_keep may follow */
    ANYWHERE = 8, /* for memcpy alone: it need not be aligned */
};

/* dtype 0: either. On failure there is an exception, and nothing to release. */
int buffer_get(Buffer *buffer, PyObject *object, const char *name, pente_dtype dtype, int flags);

/* The three that a loss or a training step takes: two matrices, and a sample weight or NULL. dtype 0: the first's. */
int buffers_get(Buffer buffers[3], PyObject *const objects[3], const char *const names[3], pente_dtype dtype,
                int flags);

/* Keeps `fresh` beyond the call, in an object; what the object kept so far is then in `fresh`, to be released. */
void buffers_keep(Buffer *kept, Buffer *fresh, int count);

/* Harmless where there is none. Runs the exporter's code, so objects must be consistent before it. */
void buffers_release(Buffer *buffers, int count);

static inline const pente_matrix *buffer_matrix(const Buffer *buffer) {
    return buffer->matrix.dtype ? &buffer->matrix : NULL;
}

int buffers_traverse(const Buffer *buffers, int count, visitproc visit, void *arg);

/* 0 if it is neither float32 nor float64. */
pente_dtype buffer_dtype(const Py_buffer *view);

/* "float32", or `of_format` and the format. */
PyObject *buffer_dtype_text(const Py_buffer *view, const char *of_format);

/* A buffer of any layout for reading: the object's own, by DLPack, or by NumPy's array protocol. 1 if it has none, or
 * -1 and an exception, in which the object is `name`. */
int view_get(Py_buffer *view, PyObject *object, const char *name);
int refuse_access(const char *name); /* -1: the argument, and what the exception that is set says of it */

/* What a callback returns when it has raised an exception, which is to come out of the call that led to it. */
#define RAISED PENTE_USER

/* Raises what a failed status means, in libpente's words, and returns NULL. Of the buffers (which may be none), those
 * that were 1-D are named if a shape is at fault. Must follow the failed call at once: the words are the thread's. */
PyObject *raise_status(pente_status status, const Buffer *buffers, int count);

/* The same where a result went to `out`, which is `word` to libpente. */
PyObject *raise_result_status(pente_status status, const Buffer *buffer, const char *word);

/* What libpente said last, without the function's name; and the OSError that it is with a system's error. */
const char *last_message(void);
PyObject *raise_system_error(int error);

/* 0, or -1 and an exception. */
static inline int check(pente_status status) {
    return status == PENTE_OK ? 0 : (raise_status(status, NULL, 0), -1);
}

/* ---- Matrix: matrix.c, and dlpack.c for how other libraries share its memory ------------------------------------ */

typedef struct {
    PyObject_HEAD
    void *data;
    PyObject *owner; /* of the data; NULL: it is our own */
    pente_dtype dtype;
    int ndim;
    Py_ssize_t shape[2]; /* a vector's first and only dimension is shape[0] */
    Py_ssize_t strides[2];
} Matrix;

static inline Py_ssize_t item_size(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? sizeof(float) : sizeof(double);
}

/* A new matrix, not yet filled; its ndim is 2, or 1 for one row that is a vector. */
PyObject *matrix_new(module_state *state, pente_dtype dtype, int64_t rows, int64_t columns, int ndim);

PyObject *matrix_copy(module_state *state, const pente_matrix *matrix, int ndim);

/* A Matrix as libpente knows it. */
pente_matrix matrix_of(PyObject *matrix);

/* A copy of a Matrix, with memory of its own. */
PyObject *matrix_duplicate(PyObject *matrix);

/* __dlpack__ and __dlpack_device__. */
PyObject *matrix_dlpack(PyObject *op, PyObject *args, PyObject *kwargs);
PyObject *matrix_dlpack_device(PyObject *op, PyObject *ignored);

/* An array of another library, which has __dlpack__, as a buffer to be released like any other. 0, or -1 and an
 * exception. */
int dlpack_get(Py_buffer *view, PyObject *object, const char *name);

/* A view of memory that lives as long as `owner`. */
PyObject *matrix_view(module_state *state, const pente_matrix *matrix, int ndim, PyObject *owner);

/* Where a result goes: `out` if the caller gave it, whose buffer is acquired, else a new matrix. Returns a reference;
 * `buffer` is zeroed. */
PyObject *result_get(module_state *state, PyObject *out, pente_dtype dtype, int64_t rows, int64_t columns,
                     Buffer *buffer);

/* ---- Layers: layer.c -------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    module_state *state; /* whose module it keeps */
    pente_layer *layer;  /* NULL: a CustomLayer whose __init__ has not run */
    pente_layer_info info;
    pente_context *context; /* made by the first forward */
    Buffer x;               /* that the context borrows until backward */
    int busy;               /* a call uses context and x */
    double row_work;        /* multiply-adds for a row of x, */
    double column_work;     /* and for each of its columns */
} Layer;

/* An object for the layer behind the handle, which it takes over, also on failure. A state of NULL is a failure. */
PyObject *layer_wrap(module_state *state, pente_layer *handle);

/* Gives an object of a type of layer its handle, which it takes over, also on failure. */
int layer_set(Layer *self, pente_layer *handle);

/* A new object, without a handle yet. */
Layer *layer_alloc(PyTypeObject *type);

/* The object as a layer, or NULL and an exception if its __init__ has not run. */
Layer *layer_ready(PyObject *object);

static inline int is_layer(module_state *state, PyObject *object) {
    return PyObject_TypeCheck(object, state->types[LAYER_TYPE]);
}

/* A layer or an iterable of them, all of them ready, as a tuple. */
PyObject *layers_tuple(module_state *state, PyObject *layers);

/* Their handles, to be freed by PyMem_Free. */
pente_layer **layers_handles(PyObject *tuple);

static inline double layer_work(const Layer *self, const Buffer *x) {
    return (double)x->matrix.rows * (self->row_work + self->column_work * (double)x->matrix.columns);
}

/* What each type of layer has in its slots. */
int layer_clear(PyObject *op);
int layer_traverse(PyObject *op, visitproc visit, void *arg);
void layer_dealloc(PyObject *op);
#define LAYER_LIFE {Py_tp_dealloc, layer_dealloc}, {Py_tp_traverse, layer_traverse}, {Py_tp_clear, layer_clear}
#define LAYER_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE)

/* Looks up a chain's layers, or takes `layers`, a tuple of them. chain.c */
int chain_fill(Layer *chain, PyObject *layers);

/* The getter of a parameter or its gradient by name, whose closure is a parameter_view. parameters.c */
PyObject *layer_view(PyObject *op, void *closure);

typedef struct {
    const char *name;
    pente_status (*view)(const pente_layer *, const char *, pente_matrix *);
    int ndim;
} parameter_view;

/* Getters and methods of all layers: parameters.c and files.c. */
PyObject *layer_parameters(PyObject *op, void *closure);
PyObject *layer_gradients(PyObject *op, void *closure);
PyObject *layer_state_dict(PyObject *op, PyObject *ignored);
PyObject *layer_load_state_dict(PyObject *op, PyObject *mapping);
PyObject *layer_save(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *layer_load(PyObject *type, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
extern const char state_dict_doc[], load_state_dict_doc[], save_doc[], load_doc[], load_parameters_doc[];
PyObject *layer_load_parameters(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* ---- CustomLayer: custom.c, and callbacks.c for what libpente calls ---------------------------------------------- */

/* What libpente keeps of the object, for as long as it keeps the layer, which may outlive the object. */
typedef struct {
    PyObject *object; /* borrowed; NULL when it has gone */
} Link;

typedef struct {
    Layer base;
    Link *link;
    PyObject *functions; /* forward and backward, each perhaps None; a tuple, for what ends a long chain of objects
                            without going ever deeper into the stack is in tuples. Or NULL */
    PyObject *names; /* of the parameters: a tuple of str, */
    PyObject *ranks; /* and bytes, one each */
} Custom;

pente_status custom_forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                            void *link);
pente_status custom_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *link);

/* ---- Objects that others look into ------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    pente_mse *mse;
    pente_reduction reduction;
    Buffer inputs[3]; /* prediction, target, sample_weight: from the call until backward */
    PyObject *target_grad;
    int busy; /* a call uses the inputs */
} Loss;

typedef struct {
    PyObject_HEAD
    pente_sgd *sgd;
    PyObject *layers; /* a tuple of them for each group: what a CustomLayer's handle calls back is its object */
    pente_sgd_options defaults;
    int64_t group_count;
    double parameters; /* how many numbers a step changes */
} SGD;

/* Its methods: sgd_state.c. */
PyObject *sgd_state_dict(PyObject *op, PyObject *ignored);
PyObject *sgd_load_state_dict(PyObject *op, PyObject *mapping);

/* The getter of the groups' options, and all of a group's, which a dict must have: sgd.c. `of` names the dict. */
PyObject *sgd_groups(PyObject *op, void *closure);
int sgd_take_options(PyObject *dict, const char *of, pente_sgd_options *options);

typedef struct {
    PyObject_HEAD
    pente_trainer *trainer;
    PyObject *layer;
    PyObject *optimizer;
    PyObject *loss;
    double max_grad_norm; /* 0: None */
} Trainer;

/* fit.c */
PyObject *trainer_fit(PyObject *op, PyObject *args, PyObject *kwargs);
extern const char fit_doc[];

/* sums.c */
PyObject *trainer_accumulate(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *trainer_apply_sums(PyObject *op, PyObject *ignored);
PyObject *trainer_get_sums(PyObject *op, void *closure);
int trainer_set_sums(PyObject *op, PyObject *value, void *closure);

/* ---- Sources: source.c, and batches.c for what libpente calls ---------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    pente_source *source; /* NULL while it is made */
    pente_source_info info;
    int busy; /* a fit has it */
} Source;

/* Gives it its handle, which it takes over, also on failure. */
int source_set(Source *self, pente_source *handle);

/* Before and after a fit that goes through it so many times. If an exception of the source's made the fit fail with the
 * status, and there is no other, it is set in the end. */
int source_begin(module_state *state, Source *source, int64_t epochs);
void source_end(module_state *state, Source *source, pente_status status);

/* gradcheck(layer, x, ...): gradcheck.c */
PyObject *gradcheck(PyObject *module, PyObject *args, PyObject *kwargs);
extern const char gradcheck_doc[];

/* threads.c */
PyObject *set_num_threads(PyObject *module, PyObject *object);
PyObject *get_num_threads(PyObject *module, PyObject *unused);
extern const char set_num_threads_doc[], get_num_threads_doc[];

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS
#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

#endif
