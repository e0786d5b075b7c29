/* CustomLayer: a layer with a function of the user's own. */
#include "extension.h"

#include <stdlib.h>
#include <string.h>

/* ---- Life ------------------------------------------------------------------------------------------------------- */

/* What a subclass's __init__ takes is its own affair, so nothing is looked at here. */
static PyObject *custom_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    return (PyObject *)layer_alloc(type);
}

static int custom_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(((Custom *)op)->functions);
    return layer_traverse(op, visit, arg);
}

static int custom_clear(PyObject *op) {
    Py_CLEAR(((Custom *)op)->functions);
    return layer_clear(op);
}

static void custom_dealloc(PyObject *op) {
    Custom *self = (Custom *)op;
    PyObject_GC_UnTrack(op);
    if (self->link) self->link->object = NULL;
    custom_clear(op);
    Py_CLEAR(self->names);
    Py_CLEAR(self->ranks);
    layer_dealloc(op);
}

static PyObject *custom_repr(PyObject *op) {
    const Layer *self = (Layer *)op;
    PyObject *name = PyType_GetName(Py_TYPE(op)), *text = NULL;
    const char *dtype = dtype_name(self->info.dtype);
    if (name && !self->layer)
        text = PyUnicode_FromFormat("<%U, not ready>", name);
    else if (name && self->info.in_features)
        text = PyUnicode_FromFormat("%U(in_features=%lld, out_features=%lld, dtype='%s')", name,
                                    (long long)self->info.in_features, (long long)self->info.out_features, dtype);
    else if (name)
        text = PyUnicode_FromFormat("%U(in_features=None, out_features=None, dtype='%s')", name, dtype);
    Py_XDECREF(name);
    return text;
}

/* ---- Making it -------------------------------------------------------------------------------------------------- */

static int features_from(PyObject *object, const char *name, int64_t *features) {
    if (object == Py_None) return 0;
    if (integer_from(object, name, features) < 0) return -1;
    if (*features >= 1) return 0;
    PyErr_Format(PyExc_ValueError, "%s is %lld, but must be at least 1, or None for any number", name,
                 (long long)*features);
    return -1;
}

static int function_from(PyObject **function, const char *name) {
    if (*function == Py_None) *function = NULL;
    if (!*function || PyCallable_Check(*function)) return 0;
    PyErr_Format(PyExc_TypeError, "%s must be callable or None, not %R", name, *function);
    return -1;
}

/* The parameters as they were given, and as libpente takes them. */
typedef struct {
    PyObject *names; /* as Custom's */
    PyObject *ranks;
    Buffer *values;
    pente_custom_parameter *list;
    Py_ssize_t count; /* of the values acquired */
} Parameters;

static int add_parameter(Parameters *parameters, PyObject *name, PyObject *value, pente_dtype dtype) {
    Py_ssize_t i = parameters->count, length;
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "the name of a parameter must be a str, not %R", name);
        return -1;
    }
    const char *text = PyUnicode_AsUTF8AndSize(name, &length); /* lives as long as the name */
    if (!text) return -1;
    if (strlen(text) != (size_t)length) {
        PyErr_Format(PyExc_ValueError, "the name of a parameter is %R, but must be without control characters", name);
        return -1;
    }
    if (PyTuple_SetItem(parameters->names, i, Py_NewRef(name)) < 0 ||
        buffer_get(&parameters->values[i], value, text, dtype, 0) < 0)
        return -1;
    int rank = parameters->values[i].view.ndim;
    PyBytes_AsString(parameters->ranks)[i] = (char)rank;
    parameters->list[i] = (pente_custom_parameter){text, parameters->values[i].matrix, rank};
    parameters->count++;
    return 0;
}

static void parameters_release(Parameters *parameters) {
    for (Py_ssize_t i = 0; i < parameters->count; i++) buffers_release(&parameters->values[i], 1);
    PyMem_Free(parameters->list);
    PyMem_Free(parameters->values);
    Py_XDECREF(parameters->ranks);
    Py_XDECREF(parameters->names);
}

/* Of a mapping or None. */
static int parameters_get(Parameters *parameters, PyObject *mapping, pente_dtype dtype) {
    *parameters = (Parameters){0};
    PyObject *named = mapping == Py_None
                          ? PyDict_New()
                          : PyObject_CallFunctionObjArgs((PyObject *)&PyDict_Type, mapping, NULL);
    if (!named) return -1;
    Py_ssize_t count = PyDict_Size(named);
    parameters->names = PyTuple_New(count);
    parameters->ranks = PyBytes_FromStringAndSize(NULL, count);
    parameters->values = PyMem_Calloc(count + 1, sizeof *parameters->values);
    parameters->list = PyMem_Calloc(count + 1, sizeof *parameters->list);
    int failed = !parameters->names || !parameters->ranks ? -1 : 0;
    if (!parameters->values || !parameters->list) failed = (PyErr_NoMemory(), -1);
    PyObject *name, *value;
    for (Py_ssize_t position = 0; !failed && PyDict_Next(named, &position, &name, &value);)
        failed = add_parameter(parameters, name, value, dtype);
    if (failed) parameters_release(parameters);
    Py_DECREF(named);
    return failed;
}

/* The handle's, when the layer has gone; with or without the GIL. */
static void release_link(void *link) {
    free(link);
}

static int make(Custom *self, pente_custom_options *options, PyObject *functions, const Parameters *parameters) {
    Link *link = malloc(sizeof *link);
    if (!link) return PyErr_NoMemory(), -1;
    *link = (Link){(PyObject *)self};
    pente_layer *handle;
    options->parameters = parameters->list;
    options->parameter_count = parameters->count;
    options->forward = custom_forward;
    options->backward = custom_backward;
    options->release = release_link;
    options->user_data = link;
    if (check(pente_custom_new(options, &handle)) < 0) {
        free(link);
        return -1;
    }
    if (layer_set(&self->base, handle) < 0) return -1;
    self->link = link;
    self->functions = Py_NewRef(functions);
    self->names = Py_NewRef(parameters->names);
    self->ranks = Py_NewRef(parameters->ranks);
    return 0;
}

static int refuse_second_init(PyObject *op) {
    PyObject *name = PyType_GetName(Py_TYPE(op));
    if (name) PyErr_Format(PyExc_RuntimeError, "this %U is made already; CustomLayer.__init__ is for once", name);
    Py_XDECREF(name);
    return -1;
}

static int custom_init(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"in_features", "out_features", "forward", "backward", "parameters", "dtype", NULL};
    Custom *self = (Custom *)op;
    pente_custom_options options = PENTE_CUSTOM_OPTIONS_INIT;
    PyObject *in_features = Py_None, *out_features = Py_None, *mapping = Py_None;
    PyObject *forward = NULL, *backward = NULL;
    Parameters parameters;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOOOO&:CustomLayer", names, &in_features, &out_features, &forward,
                                     &backward, &mapping, dtype_converter, &options.dtype) ||
        features_from(in_features, "in_features", &options.in_features) < 0 ||
        features_from(out_features, "out_features", &options.out_features) < 0 ||
        function_from(&forward, "forward") < 0 || function_from(&backward, "backward") < 0)
        return -1;
    if (!options.in_features != !options.out_features) {
        PyErr_Format(PyExc_ValueError,
                     "in_features is %R, but out_features is %R; a layer of any width has None for both", in_features,
                     out_features);
        return -1;
    }
    if (parameters_get(&parameters, mapping, options.dtype) < 0) return -1;
    PyObject *functions = PyTuple_Pack(2, forward ? forward : Py_None, backward ? backward : Py_None);
    int failed = !functions         ? -1
                 : self->base.layer ? refuse_second_init(op)
                                    : make(self, &options, functions, &parameters);
    Py_XDECREF(functions);
    parameters_release(&parameters);
    return failed;
}

/* ---- The methods that a subclass may define --------------------------------------------------------------------- */

/* Of the two, 0 or 1; borrowed. */
static PyObject *function_of(PyObject *op, Py_ssize_t index) {
    PyObject *functions = ((Custom *)op)->functions;
    return functions ? PyTuple_GetItem(functions, index) : Py_None;
}

static PyObject *call_function(PyObject *op, Py_ssize_t index, const char *name, PyObject *args, PyObject *kwargs) {
    PyObject *function = function_of(op, index), *result = NULL;
    if (function != Py_None) {
        Py_INCREF(function);
        result = PyObject_Call(function, args, kwargs);
        Py_DECREF(function);
        return result;
    }
    PyObject *type = PyType_GetName(Py_TYPE(op));
    if (type)
        PyErr_Format(PyExc_NotImplementedError,
                     "%U has no compute_%s: define it in the class, or give CustomLayer a function %s", type, name,
                     name);
    Py_XDECREF(type);
    return NULL;
}

static PyObject *custom_compute_forward(PyObject *op, PyObject *args, PyObject *kwargs) {
    return call_function(op, 0, "forward", args, kwargs);
}

static PyObject *custom_compute_backward(PyObject *op, PyObject *args, PyObject *kwargs) {
    return call_function(op, 1, "backward", args, kwargs);
}

static PyObject *custom_reduce(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    if (!layer_ready(op)) return NULL;
    return call_python("pente._objects", "reduce_custom", "(OOO)", op, function_of(op, 0), function_of(op, 1));
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyMethodDef custom_methods[] = {
    {"compute_forward", KEYWORDS(custom_compute_forward),
     "compute_forward($self, x, /, **parameters)\n--\n\n"
     "To be defined: y, (rows, out_features), for x, (rows, in_features), as any array of the layer's "
     "dtype. All arguments are copies. This one calls the function forward, or raises NotImplementedError.\n\n"
     ">>> layer = pente.CustomLayer(forward=lambda x: np.square(x), dtype='float64')\n"
     ">>> layer.compute_forward(np.array([[3.0]])).tolist()\n"
     "[[9.0]]"},
    {"compute_backward", KEYWORDS(custom_compute_backward),
     "compute_backward($self, x, y, grad_output, /, **parameters)\n--\n\n"
     "To be defined: the gradient of x, (rows, in_features), for y = compute_forward(x) and the gradient of y; with "
     "parameters (that, {name: gradient of the parameter}). This one calls the function backward, or raises "
     "NotImplementedError.\n\n"
     ">>> layer = pente.CustomLayer(backward=lambda x, y, grad_output: 2 * x * grad_output, dtype='float64')\n"
     ">>> layer.compute_backward(np.array([[3.0]]), np.array([[9.0]]), np.array([[1.0]])).tolist()\n"
     "[[6.0]]"},
    {"__reduce__", custom_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nFor pickle and copy."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot custom_slots[] = {
    {Py_tp_doc,
     "CustomLayer(in_features=None, out_features=None, forward=None, backward=None, parameters=None, dtype='float32')"
     "\n--\n\n"
     "A layer of your own: two functions, forward(x, **parameters) and backward(x, y, grad_output, **parameters), or a "
     "class derived from this one with methods compute_forward and compute_backward, which have the same arguments. "
     "They get copies, may call Pente on other objects, and must not remember x from one call to the next; what they "
     "raise comes out of the call that led to them. parameters is a dict of initial values, 1-D or 2-D, which are "
     "copied; an optimizer trains them. With in_features and out_features None, x may have any number of columns, and "
     "as many go out. gradcheck finds mistakes.\n\n"
     ">>> class Square(pente.CustomLayer):\n"
     "...     def compute_forward(self, x):\n"
     "...         return np.square(x)\n"
     "...     def compute_backward(self, x, y, grad_output):\n"
     "...         return 2 * np.asarray(x) * np.asarray(grad_output)\n"
     ">>> square = Square(dtype='float64')\n"
     ">>> square.predict(np.array([[1.0, 2.0, 3.0]])).tolist()\n"
     "[[1.0, 4.0, 9.0]]\n"
     ">>> bool(pente.gradcheck(square, np.array([[1.0, 2.0, 3.0]])))\n"
     "True"},
    {Py_tp_new, custom_new},
    {Py_tp_init, custom_init},
    {Py_tp_dealloc, custom_dealloc},
    {Py_tp_traverse, custom_traverse},
    {Py_tp_clear, custom_clear},
    {Py_tp_repr, custom_repr},
    {Py_tp_methods, custom_methods},
    {0, NULL},
};

PyType_Spec custom_spec = {
    .name = "pente.CustomLayer",
    .basicsize = sizeof(Custom),
    .flags = LAYER_FLAGS | Py_TPFLAGS_BASETYPE,
    .slots = custom_slots,
};
