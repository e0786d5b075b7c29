/* Layer: what all layers have, from their handle to forward and backward. */
#include "extension.h"

/* ---- Life ------------------------------------------------------------------------------------------------------- */

static PyObject *layer_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    PyObject *name = PyType_GetName(type);
    if (name)
        PyErr_Format(PyExc_TypeError,
                     "%U is no layer that can be made: Linear, Chain, Scaler and the activations are, and classes "
                     "derived from CustomLayer, for a function of your own",
                     name);
    Py_XDECREF(name);
    return NULL;
}

Layer *layer_alloc(PyTypeObject *type) {
    module_state *state = state_of_type(type);
    Layer *self = state ? (Layer *)PyType_GenericAlloc(type, 0) : NULL;
    if (!self) return NULL;
    self->state = state;
    Py_INCREF(state->module);
    return self;
}

/* What a function of x costs, in multiply-adds: tanh and its like are some dozen. */
static void estimate_work(Layer *self) {
    if (self->info.kind == PENTE_LINEAR) self->row_work = (double)self->info.in_features * self->info.out_features;
    if (self->info.kind == PENTE_ACTIVATION) self->column_work = 16.0;
    if (self->info.kind == PENTE_SCALER) self->column_work = 2.0;
}

int layer_set(Layer *self, pente_layer *handle) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    if (check(pente_layer_get_info(handle, &info)) < 0) {
        pente_layer_free(handle);
        return -1;
    }
    self->layer = handle;
    self->info = info;
    estimate_work(self);
    return 0;
}

static int type_index(const pente_layer_info *info) {
    switch (info->kind) {
    case PENTE_LINEAR: return LINEAR_TYPE;
    case PENTE_CHAIN: return CHAIN_TYPE;
    case PENTE_SCALER: return SCALER_TYPE;
    case PENTE_ACTIVATION: return RELU_TYPE + info->activation - PENTE_RELU;
    default: return CUSTOM_TYPE;
    }
}

PyObject *layer_wrap(module_state *state, pente_layer *handle) {
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    int known = state && check(pente_layer_get_info(handle, &info)) == 0;
    Layer *self = known ? layer_alloc(state->types[type_index(&info)]) : NULL;
    if (!self) {
        pente_layer_free(handle);
        return NULL;
    }
    if (layer_set(self, handle) < 0 || (info.kind == PENTE_CHAIN && chain_fill(self, NULL) < 0)) Py_CLEAR(self);
    return (PyObject *)self;
}

/* The context goes with the buffer that it borrows. */
int layer_clear(PyObject *op) {
    Layer *self = (Layer *)op;
    pente_context_free(self->context);
    self->context = NULL;
    buffers_release(&self->x, 1);
    return 0;
}

int layer_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Layer *)op)->state->module);
    return buffers_traverse(&((Layer *)op)->x, 1, visit, arg);
}

void layer_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject *module = ((Layer *)op)->state->module;
    PyObject_GC_UnTrack(op);
    layer_clear(op);
    pente_layer_free(((Layer *)op)->layer);
    PyObject_GC_Del(op);
    Py_DECREF(type);
    Py_DECREF(module);
}

Layer *layer_ready(PyObject *object) {
    Layer *self = (Layer *)object;
    if (self->layer) return self;
    PyObject *name = PyType_GetName(Py_TYPE(object));
    if (name)
        PyErr_Format(PyExc_RuntimeError,
                     "this %U is not ready: its __init__ has not called super().__init__(...), which makes the layer",
                     name);
    Py_XDECREF(name);
    return NULL;
}

/* ---- Several ---------------------------------------------------------------------------------------------------- */

PyObject *layers_tuple(module_state *state, PyObject *layers) {
    PyObject *tuple = is_layer(state, layers) ? PyTuple_Pack(1, layers) : PySequence_Tuple(layers);
    for (Py_ssize_t i = 0; tuple && i < PyTuple_Size(tuple); i++) {
        PyObject *layer = PyTuple_GetItem(tuple, i);
        if (!is_layer(state, layer))
            PyErr_Format(PyExc_TypeError, "layers[%zd] must be a Layer, not %R", i, layer);
        else if (layer_ready(layer))
            continue;
        Py_CLEAR(tuple);
    }
    return tuple;
}

pente_layer **layers_handles(PyObject *tuple) {
    Py_ssize_t count = PyTuple_Size(tuple);
    pente_layer **handles = PyMem_Calloc(count + 1, sizeof *handles);
    if (!handles) return PyErr_NoMemory(), NULL;
    for (Py_ssize_t i = 0; i < count; i++) handles[i] = ((Layer *)PyTuple_GetItem(tuple, i))->layer;
    return handles;
}

/* ---- Forward and backward --------------------------------------------------------------------------------------- */

/* Makes the layer's own context and x this call's alone. */
static int claim(Layer *self) {
    if (self->busy) return raise_busy((PyObject *)self), -1;
    if (!self->context && check(pente_context_new(self->layer, &self->context)) < 0) return -1;
    self->busy = 1;
    return 0;
}

/* y = layer(x); for `training` x stays for the backward pass. */
static PyObject *apply(PyObject *op, PyObject *x_object, PyObject *out, int training) {
    Layer *self = layer_ready(op);
    Buffer x = {0}, y = {0}, none = {0};
    PyObject *result = NULL;
    if (!self || buffer_get(&x, x_object, "x", self->info.dtype, training ? KEPT : 0) < 0) return NULL;
    int64_t columns = self->info.out_features ? self->info.out_features : x.matrix.columns;
    result = result_get(self->state, out, self->info.dtype, x.matrix.rows, columns, &y);
    if (!result) goto done;
    if (training && claim(self) < 0) {
        Py_CLEAR(result);
        goto done;
    }
    release_gil(layer_work(self, &x));
    pente_status status = pente_layer_forward(self->layer, training ? self->context : NULL, &x.matrix, &y.matrix);
    regain_gil();
    if (training) {
        self->busy = 0;
        if (status == PENTE_OK) buffers_keep(&self->x, &x, 1);
        if (status == RAISED || status == PENTE_BUSY)
            buffers_keep(&self->x, &none, 1); /* the context's former pass may be lost */
    }
    if (status != PENTE_OK) {
        raise_result_status(status, &x, "y");
        Py_CLEAR(result);
    }
done:
    buffers_release(&none, 1);
    buffers_release(&y, 1);
    buffers_release(&x, 1);
    return result;
}

static const char *const apply_names[] = {"x", "out", NULL};

static PyObject *layer_apply(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int training) {
    PyObject *values[2];
    if (parse_arguments(training ? "forward" : "predict", apply_names, 1, args, nargs, kwnames, values) < 0)
        return NULL;
    return apply(op, values[0], values[1], training);
}

static PyObject *layer_forward(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return layer_apply(op, args, nargs, kwnames, 1);
}

static PyObject *layer_predict(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return layer_apply(op, args, nargs, kwnames, 0);
}

static PyObject *layer_call(PyObject *op, PyObject *args, PyObject *kwargs) {
    PyObject *values[2];
    if (parse_call("forward", apply_names, 1, args, kwargs, values) < 0) return NULL;
    return apply(op, values[0], values[1], 1);
}

static PyObject *layer_backward(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"grad_output", "out", "input_gradient", NULL};
    Layer *self = layer_ready(op);
    PyObject *values[3];
    if (!self || parse_arguments("backward", names, 1, args, nargs, kwnames, values) < 0) return NULL;
    int wanted = values[2] ? PyObject_IsTrue(values[2]) : 1;
    if (wanted < 0) return NULL;
    if (!wanted && values[1]) {
        PyErr_SetString(PyExc_ValueError, "out is where the input's gradient goes, but input_gradient is False");
        return NULL;
    }
    Buffer grad_output = {0}, grad_input = {0}, used = {0};
    PyObject *result = NULL;
    if (buffer_get(&grad_output, values[0], "grad_output", self->info.dtype, 0) < 0) return NULL;
    if (claim(self) < 0) goto done;
    const pente_matrix *x = buffer_matrix(&self->x);
    if (!x) {
        PyErr_SetString(PyExc_RuntimeError, "backward wants a forward before it, once for each forward");
        goto unclaim;
    }
    result = wanted ? result_get(self->state, values[1], self->info.dtype, x->rows, x->columns, &grad_input)
                    : Py_NewRef(Py_None);
    if (!result) goto unclaim;
    release_gil(2 * layer_work(self, &self->x));
    pente_status status = pente_layer_backward(self->layer, self->context, &grad_output.matrix,
                                               buffer_matrix(&grad_input));
    regain_gil();
    if (status != PENTE_OK) {
        raise_result_status(status, &grad_output, "grad_input");
        Py_CLEAR(result);
    } else {
        buffers_keep(&self->x, &used, 1);
    }
unclaim:
    self->busy = 0;
done:
    buffers_release(&used, 1);
    buffers_release(&grad_input, 1);
    buffers_release(&grad_output, 1);
    return result;
}

/* ---- Equality, copies ------------------------------------------------------------------------------------------- */

static PyObject *layer_richcompare(PyObject *op, PyObject *other, int operation) {
    if (Py_IS_TYPE(other, Py_TYPE(op)) && (!layer_ready(op) || !layer_ready(other))) return NULL;
    return compare_by(op, other, operation, "layers_equal");
}

static PyObject *layer_reduce(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return layer_ready(op) ? call_python("pente._objects", "reduce_layer", "(O)", op) : NULL;
}

/* ---- The rest --------------------------------------------------------------------------------------------------- */

static PyObject *layer_zero_grad(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    Layer *self = layer_ready(op);
    if (!self || check(pente_layer_zero_gradients(self->layer)) < 0) return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *layer_reset_parameters(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"seed", NULL};
    Layer *self = layer_ready(op);
    PyObject *value;
    uint64_t seed;
    if (!self || parse_arguments("reset_parameters", names, 0, args, nargs, kwnames, &value) < 0 ||
        seed_from(value, &seed) < 0 || check(pente_layer_reset_parameters(self->layer, seed)) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *features(int64_t count) {
    return count ? PyLong_FromLongLong(count) : Py_NewRef(Py_None);
}

static PyObject *layer_in_features(PyObject *op, void *Py_UNUSED(closure)) {
    return layer_ready(op) ? features(((Layer *)op)->info.in_features) : NULL;
}

static PyObject *layer_out_features(PyObject *op, void *Py_UNUSED(closure)) {
    return layer_ready(op) ? features(((Layer *)op)->info.out_features) : NULL;
}

static PyObject *layer_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return layer_ready(op) ? PyUnicode_FromString(dtype_name(((Layer *)op)->info.dtype)) : NULL;
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyGetSetDef layer_getset[] = {
    {"in_features", layer_in_features, NULL, "Columns of x; None: any number, and as many go out.", NULL},
    {"out_features", layer_out_features, NULL, "Columns of the prediction; None: as many as of x.", NULL},
    {"dtype", layer_dtype, NULL, "'float32' or 'float64'.", NULL},
    {"parameters", layer_parameters, NULL, "Views of the parameters by name, torch's for the same layers.", NULL},
    {"gradients", layer_gradients, NULL, "Views of the parameters' gradients by name.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef layer_methods[] = {
    {"forward", FASTCALL(layer_forward),
     "forward($self, x, out=None)\n--\n\n"
     "The layer of x, (rows, in_features), for training: (rows, out_features), in out if it is given. x is kept, and "
     "must be left as it is, until backward() or the next forward(). A ValueError if a shape does not fit or the "
     "layout needs a copy, a TypeError if a dtype is not the layer's; so in all that takes arrays.\n\n"
     ">>> layer = pente.Linear(2, 1, dtype='float64')\n"
     ">>> layer.load_state_dict({'weight': np.array([[2.0, 3.0]]), 'bias': np.array([1.0])})\n"
     ">>> layer.forward(np.array([[1.0, 1.0], [0.0, 2.0]])).tolist()\n"
     "[[6.0], [7.0]]"},
    {"predict", FASTCALL(layer_predict),
     "predict($self, x, out=None)\n--\n\n"
     "The layer of x, (rows, in_features), for inference: (rows, out_features), in out if it is given. Nothing is "
     "kept; any number of threads may, but for a CustomLayer.\n\n"
     ">>> y = np.empty((100, 2), np.float32)\n"
     ">>> pente.Linear(3, 2).predict(np.ones((100, 3), np.float32), out=y) is y\n"
     "True"},
    {"backward", FASTCALL(layer_backward),
     "backward($self, grad_output, out=None, input_gradient=True)\n--\n\n"
     "Adds to the parameters' gradients, and returns the gradient of the last forward's x, (rows, in_features), or "
     "None if it is not wanted. grad_output, (rows, out_features), is the gradient of any loss with respect to what "
     "that forward returned. A RuntimeError without a forward before it.\n\n"
     ">>> layer = pente.Linear(2, 1, dtype='float64')\n"
     ">>> prediction = layer(np.array([[1.0, 2.0], [3.0, 4.0]]))\n"
     ">>> gradient = layer.backward(np.array([[1.0], [10.0]]))\n"
     ">>> gradient.shape, layer.weight_grad.tolist(), layer.bias_grad.tolist()\n"
     "((2, 2), [[31.0, 42.0]], [11.0])"},
    {"zero_grad", layer_zero_grad, METH_NOARGS,
     "zero_grad($self)\n--\n\n"
     "Sets the gradients to 0, to which backward() then adds.\n\n"
     ">>> layer = pente.Linear(2, 1)\n"
     ">>> layer.zero_grad()\n"
     ">>> layer.weight_grad.tolist()\n"
     "[[0.0, 0.0]]"},
    {"reset_parameters", FASTCALL(layer_reset_parameters),
     "reset_parameters($self, seed=None)\n--\n\n"
     "Draws new initial parameters for all linear layers in it, as torch.manual_seed(seed) and building them anew "
     "does; seed is a whole number of 64 bits, or None for one of the system's. The parameters of other layers "
     "stay.\n\n"
     ">>> chain = pente.Chain(pente.Linear(3, 4), pente.Tanh(), pente.Linear(4, 1))\n"
     ">>> chain.reset_parameters(seed=0)\n"
     ">>> chain[0] == pente.Linear(3, 4, seed=0)\n"
     "True"},
    {"state_dict", layer_state_dict, METH_NOARGS, state_dict_doc},
    {"load_state_dict", layer_load_state_dict, METH_O, load_state_dict_doc},
    {"save", FASTCALL(layer_save), save_doc},
    {"load", (PyCFunction)(void (*)(void))layer_load, METH_FASTCALL | METH_KEYWORDS | METH_CLASS, load_doc},
    {"load_parameters", FASTCALL(layer_load_parameters), load_parameters_doc},
    {"__reduce__", layer_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nFor pickle and copy."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot layer_slots[] = {
    {Py_tp_doc, "The base of all layers: a function with an explicit derivative, its parameters and their gradients. "
                "layer(x) is layer.forward(x). Two are equal if they are built alike and all bits of their parameters "
                "are equal. Pickles and deep copies have the parameters, and gradients of 0. Different layers may be "
                "used by different threads at once; a call that would change a layer in use elsewhere is a "
                "RuntimeError.\n\n"
                ">>> layer = pente.Linear(3, 2, seed=0)\n"
                ">>> isinstance(layer, pente.Layer), list(layer.parameters), layer == pente.Linear(3, 2, seed=0)\n"
                "(True, ['weight', 'bias'], True)"},
    {Py_tp_new, layer_new},
    LAYER_LIFE,
    {Py_tp_call, layer_call},
    {Py_tp_richcompare, layer_richcompare},
    {Py_tp_methods, layer_methods},
    {Py_tp_getset, layer_getset},
    {0, NULL},
};

PyType_Spec layer_spec = {
    .name = "pente.Layer",
    .basicsize = sizeof(Layer),
    .flags = LAYER_FLAGS | Py_TPFLAGS_BASETYPE,
    .slots = layer_slots,
};
