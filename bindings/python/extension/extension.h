/* The insides of pente._pente, which is thin: check, translate, call libpente, translate back.
 *
 * Every type is a heap type without subclasses, so Py_TYPE(self) leads to the module's state. Objects are built by
 * tp_new alone. A call that may run long lets go of the GIL; what an object keeps between calls is changed only with
 * the GIL held, and only by a call that has marked the object busy. */
#ifndef PENTE_EXTENSION_H
#define PENTE_EXTENSION_H

#include <Python.h>
#include <structmember.h>

#include <pente.h>

/* ---- Module: module.c ------------------------------------------------------------------------------------------- */

typedef struct {
    PyTypeObject *matrix_type;
    PyTypeObject *linear_type;
    PyTypeObject *loss_type;
    PyTypeObject *sgd_type;
    PyTypeObject *trainer_type;
} module_state;

static inline module_state *state_of(PyObject *object) {
    return PyType_GetModuleState(Py_TYPE(object));
}

extern PyType_Spec matrix_spec, linear_spec, loss_spec, sgd_spec, trainer_spec;

/* ---- The GIL ---------------------------------------------------------------------------------------------------- */

/* How many multiply-adds are worth letting go of the GIL for: some microseconds. Getting it back costs 0.1, or up to
 * the switch interval of 5000 where other threads want it too. */
#define GIL_THRESHOLD (1 << 16)

static inline PyThreadState *release_gil(double work) {
    return work > GIL_THRESHOLD ? PyEval_SaveThread() : NULL;
}

static inline void regain_gil(PyThreadState *thread) {
    if (thread) PyEval_RestoreThread(thread);
}

/* ---- Arguments: arguments.c ------------------------------------------------------------------------------------- */

/* Sorts the arguments of a fast call into `values`, one for each of `names` (which ends with NULL); the first
 * `required` must be there. None, and nothing, is NULL. */
int parse_arguments(const char *function, const char *const *names, Py_ssize_t required, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *kwnames, PyObject **values);

/* A seed is a whole number of 64 bits; None or NULL asks the system for a fresh one. */
int seed_from(PyObject *object, uint64_t *seed);

int dtype_converter(PyObject *object, void *dtype);
const char *dtype_name(pente_dtype dtype);

/* Calls a function or class of one of the package's Python modules; the format is Py_BuildValue's, of a tuple. */
PyObject *call_python(const char *module, const char *name, const char *format, ...);

/* "... is in use by another call"; as PyErr_Format, returns NULL. */
PyObject *raise_busy(const char *what);

/* ---- Buffers: buffers.c ----------------------------------------------------------------------------------------- */

/* A caller's buffer and the matrix that lies in it. Zeroed, it is no buffer. */
typedef struct {
    Py_buffer view;   /* during the call */
    PyObject *memory; /* what holds the memory after the call, if it is to be kept: a memoryview */
    pente_matrix matrix;
    const char *name; /* of the argument */
} Buffer;

enum {
    AS_COLUMN = 1, /* 1-D is a column, where else it is one row */
    WRITABLE = 2,
    KEPT = 4 /* buffers_keep may follow */
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

/* Raises what a failed status means, in libpente's words, and returns NULL. Of the buffers (which may be none), those
 * that were 1-D are named if a shape is at fault. Must follow the failed call at once: the words are the thread's. */
PyObject *raise_status(pente_status status, const Buffer *buffers, int count);

/* 0, or -1 and an exception. */
static inline int check(pente_status status) {
    return status == PENTE_OK ? 0 : (raise_status(status, NULL, 0), -1);
}

/* ---- Matrix: matrix.c ------------------------------------------------------------------------------------------- */

/* A new matrix, not yet filled; its ndim is 2, or 1 for one row that is a vector. */
PyObject *matrix_new(module_state *state, pente_dtype dtype, int64_t rows, int64_t columns, int ndim);

/* A view of memory that lives as long as `owner`. */
PyObject *matrix_view(module_state *state, const pente_matrix *matrix, int ndim, PyObject *owner);

/* Where a result goes: `out` if the caller gave it, else a new matrix. Acquires its buffer; returns a reference. */
PyObject *result_get(module_state *state, PyObject *out, pente_dtype dtype, int64_t rows, int64_t columns,
                     Buffer *buffer);

/* ---- Objects that others look into ------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    pente_layer *layer;
    pente_context *context; /* made by the first forward */
    Buffer x;               /* that the context borrows until backward */
    int busy;               /* a call uses context and x */
    pente_dtype dtype;
    char has_bias;
    long long in_features;
    long long out_features;
} Linear;

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
    pente_sgd *sgd; /* keeps the layers alive */
    pente_sgd_options defaults;
    int64_t group_count;
    double parameters; /* how many numbers a step changes */
} SGD;

/* gradcheck(layer, x, ...): gradcheck.c */
PyObject *gradcheck(PyObject *module, PyObject *args, PyObject *kwargs);
extern const char gradcheck_doc[];

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS
#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

#endif
