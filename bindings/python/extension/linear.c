/* Linear: the layer, and the context that its forward keeps for its backward. */
#include "extension.h"

/* ---- Life ------------------------------------------------------------------------------------------------------- */

static PyObject *linear_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"in_features", "out_features", "bias", "dtype", "seed", NULL};
    long long in_features, out_features;
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    int bias = 1;
    PyObject *seed = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LL|pO&O:Linear", names, &in_features, &out_features, &bias,
                                     dtype_converter, &options.dtype, &seed) ||
        seed_from(seed, &options.seed) < 0)
        return NULL;
    options.bias = bias;
    Linear *self = (Linear *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->in_features = in_features;
    self->out_features = out_features;
    self->has_bias = bias != 0;
    self->dtype = options.dtype;
    if (check(pente_linear_new(in_features, out_features, &options, &self->layer)) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

/* The context goes with the buffer that it borrows. */
static int linear_clear(PyObject *op) {
    Linear *self = (Linear *)op;
    pente_context_free(self->context);
    self->context = NULL;
    buffers_release(&self->x, 1);
    return 0;
}

static int linear_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    return buffers_traverse(&((Linear *)op)->x, 1, visit, arg);
}

static void linear_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    linear_clear(op);
    pente_layer_free(((Linear *)op)->layer);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *linear_repr(PyObject *op) {
    Linear *self = (Linear *)op;
    return PyUnicode_FromFormat("Linear(in_features=%lld, out_features=%lld, bias=%s, dtype='%s')", self->in_features,
                                self->out_features, self->has_bias ? "True" : "False", dtype_name(self->dtype));
}

/* ---- Forward and backward --------------------------------------------------------------------------------------- */

static double work_of(const Linear *self, const Buffer *x) {
    return (double)x->matrix.rows * (double)self->in_features * (double)self->out_features;
}

/* Makes the layer's own context and x this call's alone. */
static int claim(Linear *self) {
    if (self->busy) return raise_busy("Linear"), -1;
    if (!self->context && check(pente_context_new(self->layer, &self->context)) < 0) return -1;
    self->busy = 1;
    return 0;
}

/* y = layer(x); for `training` x stays for the backward pass. */
static PyObject *apply(Linear *self, PyObject *x_object, PyObject *out, int training) {
    Buffer x = {0}, y = {0};
    PyObject *result = NULL;
    if (buffer_get(&x, x_object, "x", self->dtype, training ? KEPT : 0) < 0) return NULL;
    result = result_get(state_of((PyObject *)self), out, self->dtype, x.matrix.rows, self->out_features, &y);
    if (!result) goto done;
    if (training && claim(self) < 0) {
        Py_CLEAR(result);
        goto done;
    }
    PyThreadState *thread = release_gil(work_of(self, &x));
    pente_status status = pente_layer_forward(self->layer, training ? self->context : NULL, &x.matrix, &y.matrix);
    regain_gil(thread);
    if (training) self->busy = 0;
    if (status != PENTE_OK) {
        raise_status(status, &x, 1);
        Py_CLEAR(result);
    } else if (training) {
        buffers_keep(&self->x, &x, 1);
    }
done:
    buffers_release(&y, 1);
    buffers_release(&x, 1);
    return result;
}

static PyObject *linear_apply(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int training) {
    static const char *const names[] = {"x", "out", NULL};
    PyObject *values[2];
    if (parse_arguments(training ? "forward" : "predict", names, 1, args, nargs, kwnames, values) < 0) return NULL;
    return apply((Linear *)op, values[0], values[1], training);
}

static PyObject *linear_forward(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return linear_apply(op, args, nargs, kwnames, 1);
}

static PyObject *linear_predict(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return linear_apply(op, args, nargs, kwnames, 0);
}

static PyObject *linear_call(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"x", "out", NULL};
    PyObject *x, *out = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Linear", names, &x, &out)) return NULL;
    return apply((Linear *)op, x, out == Py_None ? NULL : out, 1);
}

static PyObject *linear_backward(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"grad_output", "out", "input_gradient", NULL};
    Linear *self = (Linear *)op;
    PyObject *values[3];
    if (parse_arguments("backward", names, 1, args, nargs, kwnames, values) < 0) return NULL;
    int wanted = values[2] ? PyObject_IsTrue(values[2]) : 1;
    if (wanted < 0) return NULL;
    if (!wanted && values[1]) {
        PyErr_SetString(PyExc_ValueError, "out is where the input's gradient goes, but input_gradient is False");
        return NULL;
    }
    Buffer grad_output = {0}, grad_input = {0}, used = {0};
    PyObject *result = NULL;
    if (buffer_get(&grad_output, values[0], "grad_output", self->dtype, 0) < 0) return NULL;
    if (claim(self) < 0) goto done;
    if (!buffer_matrix(&self->x)) {
        PyErr_SetString(PyExc_RuntimeError, "backward wants a forward before it, once for each forward");
        goto unclaim;
    }
    result = wanted ? result_get(state_of(op), values[1], self->dtype, self->x.matrix.rows, self->in_features,
                                 &grad_input)
                    : Py_NewRef(Py_None);
    if (!result) goto unclaim;
    PyThreadState *thread = release_gil(2 * work_of(self, &self->x));
    pente_status status = pente_layer_backward(self->layer, self->context, &grad_output.matrix,
                                               buffer_matrix(&grad_input));
    regain_gil(thread);
    if (status != PENTE_OK) {
        raise_status(status, &grad_output, 1);
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

/* ---- Parameters ------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    pente_status (*view)(const pente_layer *, const char *, pente_matrix *);
} parameter_view;

static PyObject *linear_view(PyObject *op, void *closure) {
    Linear *self = (Linear *)op;
    const parameter_view *parameter = closure;
    int is_bias = parameter->name[0] == 'b';
    if (is_bias && !self->has_bias) Py_RETURN_NONE;
    pente_matrix view;
    if (check(parameter->view(self->layer, parameter->name, &view)) < 0) return NULL;
    return matrix_view(state_of(op), &view, is_bias ? 1 : 2, op);
}

static PyObject *linear_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(dtype_name(((Linear *)op)->dtype));
}

static PyObject *linear_zero_grad(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    if (check(pente_layer_zero_gradients(((Linear *)op)->layer)) < 0) return NULL;
    Py_RETURN_NONE;
}

/* Parameter 0 is the weight, 1 the bias. */
static const char *const parameter_names[] = {"weight", "bias"};

static int parameter_count(const Linear *self) {
    return self->has_bias ? 2 : 1;
}

static PyObject *copy_parameter(Linear *self, int index) {
    int64_t rows = index == 0 ? self->out_features : 1, columns = index == 0 ? self->in_features : self->out_features;
    Buffer buffer = {0};
    PyObject *copy = matrix_new(state_of((PyObject *)self), self->dtype, rows, columns, index == 0 ? 2 : 1);
    if (!copy || buffer_get(&buffer, copy, "copy", self->dtype, WRITABLE) < 0 ||
        check(pente_layer_get_parameter(self->layer, parameter_names[index], &buffer.matrix)) < 0)
        Py_CLEAR(copy);
    buffers_release(&buffer, 1);
    return copy;
}

static PyObject *linear_state_dict(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    PyObject *state = PyDict_New();
    for (int i = 0; state && i < parameter_count((Linear *)op); i++) {
        PyObject *copy = copy_parameter((Linear *)op, i);
        if (!copy || PyDict_SetItemString(state, parameter_names[i], copy) < 0) Py_CLEAR(state);
        Py_XDECREF(copy);
    }
    return state;
}

/* Finds the parameter in `state`, and checks all of it that could be refused. */
static int get_parameter(const Linear *self, PyObject *state, int index, Buffer *buffer) {
    const char *name = parameter_names[index];
    PyObject *value = PyDict_GetItemString(state, name);
    if (!value) {
        PyErr_Format(PyExc_ValueError, "the state has no '%s'", name);
        return -1;
    }
    Py_INCREF(value);
    int failed = buffer_get(buffer, value, name, self->dtype, 0);
    Py_DECREF(value);
    if (failed) return -1;
    long long rows = index == 0 ? self->out_features : 1, columns = index == 0 ? self->in_features : self->out_features;
    const pente_matrix *found = &buffer->matrix;
    if (found->rows == rows && found->columns == columns) return 0;
    PyErr_Format(PyExc_ValueError, "%s is %lld by %lld, but the layer's is %lld by %lld", name, (long long)found->rows,
                 (long long)found->columns, rows, columns);
    return -1;
}

static int refuse_unexpected(const Linear *self, PyObject *state) {
    PyObject *name;
    for (Py_ssize_t position = 0; PyDict_Next(state, &position, &name, NULL);) {
        int known = 0;
        for (int i = 0; i < parameter_count(self); i++)
            known |= PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, parameter_names[i]) == 0;
        if (!known) return PyErr_Format(PyExc_ValueError, "the state's %R is no parameter of %R", name, self), -1;
    }
    return 0;
}

/* All is checked before the first parameter is set. */
static PyObject *linear_load_state_dict(PyObject *op, PyObject *mapping) {
    Linear *self = (Linear *)op;
    PyObject *state = PyObject_CallFunctionObjArgs((PyObject *)&PyDict_Type, mapping, NULL);
    if (!state) return NULL;
    Buffer values[2] = {0};
    int failed = refuse_unexpected(self, state);
    for (int i = 0; !failed && i < parameter_count(self); i++) failed = get_parameter(self, state, i, &values[i]);
    for (int i = 0; !failed && i < parameter_count(self); i++)
        failed = check(pente_layer_set_parameter(self->layer, parameter_names[i], &values[i].matrix));
    buffers_release(values, 2);
    Py_DECREF(state);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

/* ---- Files: pente/_files.py ------------------------------------------------------------------------------------- */

static PyObject *linear_save(PyObject *op, PyObject *path) {
    return call_python("pente._files", "save", "(OO)", op, path);
}

static PyObject *linear_load(PyObject *type, PyObject *path) {
    return call_python("pente._files", "load", "(OO)", type, path);
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static const parameter_view weight = {"weight", pente_layer_parameter_view};
static const parameter_view bias = {"bias", pente_layer_parameter_view};
static const parameter_view weight_grad = {"weight", pente_layer_gradient_view};
static const parameter_view bias_grad = {"bias", pente_layer_gradient_view};

static PyGetSetDef linear_getset[] = {
    {"dtype", linear_dtype, NULL, "'float32' or 'float64'.", NULL},
    {"weight", linear_view, NULL, "A view, (out_features, in_features).", (void *)&weight},
    {"bias", linear_view, NULL, "A view, (out_features,), or None.", (void *)&bias},
    {"weight_grad", linear_view, NULL, "A view of the weight's gradient.", (void *)&weight_grad},
    {"bias_grad", linear_view, NULL, "A view of the bias's gradient, or None.", (void *)&bias_grad},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef linear_members[] = {
    {"in_features", T_LONGLONG, offsetof(Linear, in_features), READONLY, "Columns of x."},
    {"out_features", T_LONGLONG, offsetof(Linear, out_features), READONLY, "Columns of the prediction."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef linear_methods[] = {
    {"forward", FASTCALL(linear_forward),
     "forward($self, x, out=None)\n--\n\n"
     "x W + b for training: x is kept, and must be left as it is, until backward() or the next forward()."},
    {"predict", FASTCALL(linear_predict),
     "predict($self, x, out=None)\n--\n\nx W + b for inference: nothing is kept; any number of threads may."},
    {"backward", FASTCALL(linear_backward),
     "backward($self, grad_output, out=None, input_gradient=True)\n--\n\n"
     "Adds to weight_grad and bias_grad, and returns the gradient of the last forward's x, or None if it is not "
     "wanted. grad_output is the gradient of any loss with respect to what that forward returned."},
    {"zero_grad", linear_zero_grad, METH_NOARGS, "zero_grad($self)\n--\n\nSets the gradients to 0."},
    {"state_dict", linear_state_dict, METH_NOARGS,
     "state_dict($self)\n--\n\nCopies of the parameters by name, 'weight' and 'bias'."},
    {"load_state_dict", linear_load_state_dict, METH_O,
     "load_state_dict($self, state, /)\n--\n\nSets the parameters, all of them or, on an error, none."},
    {"save", linear_save, METH_O,
     "save($self, path, /)\n--\n\nWrites the parameters to a safetensors file, whole or not at all."},
    {"load", linear_load, METH_O | METH_CLASS,
     "load($type, path, /)\n--\n\nThe layer in a safetensors file that holds 'weight' and perhaps 'bias'."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot linear_slots[] = {
    {Py_tp_doc, "Linear(in_features, out_features, bias=True, dtype='float32', seed=None)\n--\n\n"
                "A linear layer, y = x W + b. Initial weights are torch.nn.Linear's for the same seed."},
    {Py_tp_new, linear_new},
    {Py_tp_dealloc, linear_dealloc},
    {Py_tp_traverse, linear_traverse},
    {Py_tp_clear, linear_clear},
    {Py_tp_repr, linear_repr},
    {Py_tp_call, linear_call},
    {Py_tp_methods, linear_methods},
    {Py_tp_members, linear_members},
    {Py_tp_getset, linear_getset},
    {0, NULL},
};

PyType_Spec linear_spec = {
    .name = "pente.Linear",
    .basicsize = sizeof(Linear),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = linear_slots,
};
