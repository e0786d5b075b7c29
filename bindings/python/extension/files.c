/* Layers in files. */
#include "extension.h"

#include <errno.h>

/* A path as Python sees it, and as the system does. */
typedef struct {
    PyObject *path;  /* str or bytes */
    PyObject *bytes; /* without a NUL inside */
} file_path;

static int path_get(file_path *file, PyObject *object) {
    *file = (file_path){PyOS_FSPath(object), NULL};
    if (file->path && PyUnicode_FSConverter(file->path, &file->bytes)) return 0;
    Py_CLEAR(file->path);
    return -1;
}

static void path_release(file_path *file) {
    Py_DECREF(file->bytes);
    Py_DECREF(file->path);
}

/* Raises what a failed call on a file means: the system's own error, with the path, or libpente's words about it. What
 * is in a file is a value, also where its dtype is wrong. */
static void raise_file_status(pente_status status, int error, const file_path *file) {
    if (status == PENTE_FILE_ERROR) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, file->path);
    } else {
        raise_status(status == PENTE_DTYPE_MISMATCH ? PENTE_INVALID_FILE : status, NULL, 0);
    }
}

/* The arguments of save and load_parameters: a path, and an SGD or nothing. */
static int parse_path(Layer *self, const char *function, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                      file_path *file, pente_sgd **sgd) {
    static const char *const names[] = {"path", "optimizer", NULL};
    PyObject *values[2];
    if (!self || parse_arguments(function, names, 1, args, nargs, kwnames, values) < 0) return -1;
    if (values[1] && !Py_IS_TYPE(values[1], self->state->types[SGD_TYPE])) {
        PyErr_Format(PyExc_TypeError, "optimizer must be an SGD or None, not %R", values[1]);
        return -1;
    }
    *sgd = values[1] ? ((SGD *)values[1])->sgd : NULL;
    return path_get(file, values[0]);
}

const char save_doc[] =
    "save($self, path, optimizer=None)\n--\n\n"
    "Writes the layer to a safetensors file, and the optimizer's state if it is given: whole, or not at all. An "
    "OSError if the system refuses.\n\n"
    ">>> chain = pente.Chain(pente.Linear(3, 4), pente.Tanh(), pente.Linear(4, 1))\n"
    ">>> chain.save('model.safetensors')";

PyObject *layer_save(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    Layer *self = layer_ready(op);
    file_path file;
    pente_sgd *sgd;
    if (parse_path(self, "save", args, nargs, kwnames, &file, &sgd) < 0) return NULL;
    const char *path = PyBytes_AsString(file.bytes);
    release_gil(LONG_WORK);
    pente_status status = pente_layer_save(self->layer, sgd, path);
    int error = errno;
    regain_gil();
    if (status != PENTE_OK) raise_file_status(status, error, &file);
    path_release(&file);
    return status == PENTE_OK ? Py_NewRef(Py_None) : NULL;
}

const char load_parameters_doc[] =
    "load_parameters($self, path, optimizer=None)\n--\n\n"
    "Sets this layer's parameters, and the optimizer's state if it is given, to those of a file with the same names, "
    "shapes and dtype; all of it or, on an error, nothing. An OSError if the file cannot be read, a ValueError if what "
    "it holds does not fit.\n\n"
    ">>> layer, other = pente.Linear(3, 2, seed=0), pente.Linear(3, 2, seed=1)\n"
    ">>> other.save('other.safetensors')\n"
    ">>> layer.load_parameters('other.safetensors')\n"
    ">>> layer == other\n"
    "True";

PyObject *layer_load_parameters(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    Layer *self = layer_ready(op);
    file_path file;
    pente_sgd *sgd;
    if (parse_path(self, "load_parameters", args, nargs, kwnames, &file, &sgd) < 0) return NULL;
    const char *path = PyBytes_AsString(file.bytes);
    release_gil(LONG_WORK);
    pente_status status = pente_layer_load_parameters(self->layer, sgd, path);
    int error = errno;
    regain_gil();
    if (status != PENTE_OK) raise_file_status(status, error, &file);
    path_release(&file);
    return status == PENTE_OK ? Py_NewRef(Py_None) : NULL;
}

static int check_class(PyObject *layer, PyObject *type, PyObject *path) {
    int right = PyObject_IsInstance(layer, type);
    if (right) return right < 0 ? -1 : 0;
    PyObject *found = PyType_GetName(Py_TYPE(layer)), *wanted = PyType_GetName((PyTypeObject *)type);
    if (found && wanted)
        PyErr_Format(PyExc_ValueError, "%S holds a %U, but a %U is wanted", path, found, wanted);
    Py_XDECREF(wanted);
    Py_XDECREF(found);
    return -1;
}

const char load_doc[] =
    "load($type, path)\n--\n\n"
    "The layer in a safetensors file, if it is of this class: Layer.load takes any. An OSError if the file cannot be "
    "read, a ValueError if it holds another class or is damaged. A CustomLayer is in no file: see load_parameters.\n\n"
    ">>> layer = pente.Linear(3, 2)\n"
    ">>> layer.save('layer.safetensors')\n"
    ">>> pente.Linear.load('layer.safetensors') == layer\n"
    "True";

PyObject *layer_load(PyObject *type, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"path", NULL};
    module_state *state = state_of_type((PyTypeObject *)type);
    PyObject *value, *layer = NULL;
    file_path file;
    if (!state || parse_arguments("load", names, 1, args, nargs, kwnames, &value) < 0 || path_get(&file, value) < 0)
        return NULL;
    const char *path = PyBytes_AsString(file.bytes);
    pente_layer *handle = NULL;
    release_gil(LONG_WORK);
    pente_status status = pente_layer_load(path, &handle);
    int error = errno;
    regain_gil();
    if (status != PENTE_OK)
        raise_file_status(status, error, &file);
    else
        layer = layer_wrap(state, handle);
    if (layer && check_class(layer, type, file.path) < 0) Py_CLEAR(layer);
    path_release(&file);
    return layer;
}
