/* MSELoss. libpente's own is never written; what this one keeps is its last call's buffers, for backward. */
#include "extension.h"

/* ---- Life ------------------------------------------------------------------------------------------------------- */

static const char *const reductions[] = {
    [PENTE_MEAN] = "mean",
    [PENTE_SUM] = "sum",
    [PENTE_NONE] = "none",
    [PENTE_BATCH_MEAN] = "batch_mean",
    [PENTE_OUTPUT_MEAN] = "output_mean",
};

static int reduction_converter(PyObject *object, void *reduction) {
    if (PyUnicode_Check(object))
        for (pente_reduction known = PENTE_MEAN; known <= PENTE_OUTPUT_MEAN; known++)
            if (PyUnicode_CompareWithASCIIString(object, reductions[known]) == 0) {
                *(pente_reduction *)reduction = known;
                return 1;
            }
    PyErr_Format(PyUnicode_Check(object) ? PyExc_ValueError : PyExc_TypeError,
                 "reduction is 'mean', 'sum', 'none', 'batch_mean' or 'output_mean', not %R", object);
    return 0;
}

static PyObject *loss_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"reduction", NULL};
    pente_mse_options options = PENTE_MSE_OPTIONS_INIT;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:MSELoss", names, reduction_converter, &options.reduction))
        return NULL;
    Loss *self = (Loss *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->reduction = options.reduction;
    if (check(pente_mse_new(&options, &self->mse)) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static int loss_clear(PyObject *op) {
    Loss *self = (Loss *)op;
    buffers_release(self->inputs, 3);
    Py_CLEAR(self->target_grad);
    return 0;
}

static int loss_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Loss *)op)->target_grad);
    return buffers_traverse(((Loss *)op)->inputs, 3, visit, arg);
}

static void loss_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    loss_clear(op);
    pente_mse_free(((Loss *)op)->mse);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *loss_repr(PyObject *op) {
    return PyUnicode_FromFormat("MSELoss(reduction='%s')", reductions[((Loss *)op)->reduction]);
}

static PyObject *loss_reduction(PyObject *op, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(reductions[((Loss *)op)->reduction]);
}

/* ---- Forward and backward --------------------------------------------------------------------------------------- */

static double work_of(const Buffer *prediction) {
    return (double)prediction->matrix.rows * (double)prediction->matrix.columns;
}

/* A float, or with "none" a matrix of squares. */
static PyObject *forward(Loss *self, const Buffer inputs[3]) {
    const pente_matrix *prediction = &inputs[0].matrix, *target = &inputs[1].matrix;
    const pente_matrix *sample_weight = buffer_matrix(&inputs[2]);
    Buffer squares = {0};
    PyObject *result = NULL;
    double loss = 0.0;
    if (self->reduction == PENTE_NONE) {
        module_state *state = state_of((PyObject *)self);
        if (state) result = result_get(state, NULL, prediction->dtype, prediction->rows, prediction->columns, &squares);
        if (!result) return NULL;
    }
    release_gil(work_of(&inputs[0]));
    pente_status status =
        result ? pente_mse_forward_elements(self->mse, prediction, target, sample_weight, &squares.matrix)
               : pente_mse_forward(self->mse, prediction, target, sample_weight, &loss);
    regain_gil();
    if (status != PENTE_OK) {
        raise_status(status, inputs, 3);
        Py_CLEAR(result);
    } else if (!result) {
        result = PyFloat_FromDouble(loss);
    }
    buffers_release(&squares, 1);
    return result;
}

static PyObject *loss_call(PyObject *op, PyObject *args, PyObject *kwargs) {
    static const char *const names[] = {"prediction", "target", "sample_weight", NULL};
    Loss *self = (Loss *)op;
    PyObject *objects[3];
    Buffer inputs[3];
    if (parse_call("MSELoss", names, 2, args, kwargs, objects) < 0) return NULL;
    if (buffers_get(inputs, objects, names, 0, KEPT) < 0) return NULL;
    PyObject *result = NULL;
    if (self->busy) {
        raise_busy(op);
    } else {
        self->busy = 1;
        result = forward(self, inputs);
        self->busy = 0;
    }
    if (result) buffers_keep(self->inputs, inputs, 3);
    buffers_release(inputs, 3);
    return result;
}

typedef union {
    float float32;
    double float64;
} scalar;

/* The upstream gradient: a matrix for "none", else a number, which is put into `number`. */
static int grad_output_get(const Loss *self, PyObject *object, Buffer *buffer, scalar *number) {
    pente_dtype dtype = self->inputs[0].matrix.dtype;
    if (self->reduction == PENTE_NONE) return buffer_get(buffer, object, "grad_output", dtype, 0);
    double value;
    if (float_from(object, "grad_output", &value) < 0) return -1;
    *number = dtype == PENTE_FLOAT32 ? (scalar){.float32 = (float)value} : (scalar){.float64 = value};
    buffer->matrix = (pente_matrix){number, 1, 1, 1, dtype};
    return 0;
}

/* The gradients of the last call's inputs; the caller has made the object busy. */
static PyObject *backward(Loss *self, PyObject *grad_object, PyObject **target_grad) {
    module_state *state = state_of((PyObject *)self);
    const pente_matrix *prediction = &self->inputs[0].matrix;
    Buffer grad_output = {0}, for_prediction = {0}, for_target = {0};
    scalar number;
    PyObject *result = NULL;
    if (!state || (grad_object && grad_output_get(self, grad_object, &grad_output, &number) < 0)) return NULL;
    result = result_get(state, NULL, prediction->dtype, prediction->rows, prediction->columns, &for_prediction);
    if (!result) goto done;
    if (target_grad) {
        *target_grad = result_get(state, NULL, prediction->dtype, prediction->rows, prediction->columns, &for_target);
        if (!*target_grad) {
            Py_CLEAR(result);
            goto done;
        }
    }
    release_gil(work_of(&self->inputs[0]));
    pente_status status = pente_mse_backward(self->mse, prediction, &self->inputs[1].matrix,
                                             buffer_matrix(&self->inputs[2]),
                                             grad_object ? &grad_output.matrix : NULL, &for_prediction.matrix,
                                             buffer_matrix(&for_target));
    regain_gil();
    if (status != PENTE_OK) {
        raise_status(status, &grad_output, 1);
        Py_CLEAR(result);
        if (target_grad) Py_CLEAR(*target_grad);
    }
done:
    buffers_release(&for_target, 1);
    buffers_release(&for_prediction, 1);
    buffers_release(&grad_output, 1);
    return result;
}

static PyObject *loss_backward(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"grad_output", "target_gradient", NULL};
    Loss *self = (Loss *)op;
    PyObject *values[2];
    if (parse_arguments("backward", names, 0, args, nargs, kwnames, values) < 0) return NULL;
    int wanted = values[1] ? PyObject_IsTrue(values[1]) : 1;
    if (wanted < 0) return NULL;
    if (self->busy) return raise_busy(op);
    if (!buffer_matrix(&self->inputs[0])) {
        PyErr_SetString(PyExc_RuntimeError, "backward wants a call of the loss before it, once for each call");
        return NULL;
    }
    PyObject *target_grad = NULL;
    self->busy = 1;
    PyObject *result = backward(self, values[0], wanted ? &target_grad : NULL);
    self->busy = 0;
    if (!result) return NULL;
    Buffer used[3] = {0};
    buffers_keep(self->inputs, used, 3);
    PyObject *former = self->target_grad;
    self->target_grad = target_grad;
    Py_XDECREF(former);
    buffers_release(used, 3);
    return result;
}

static PyObject *loss_reduce(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("(O(s))", Py_TYPE(op), reductions[((Loss *)op)->reduction]);
}

static PyObject *loss_richcompare(PyObject *op, PyObject *other, int operation) {
    if (!can_compare(op, other, operation)) return Py_NewRef(Py_NotImplemented);
    return PyBool_FromLong((((Loss *)op)->reduction == ((Loss *)other)->reduction) == (operation == Py_EQ));
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyMethodDef loss_methods[] = {
    {"backward", FASTCALL(loss_backward),
     "backward($self, grad_output=None, target_gradient=True)\n--\n\n"
     "The gradient of the last call's prediction, once for each call; target_grad is then that of its target, unless "
     "it is not wanted. With N the divisor it is 2/N (prediction - target) grad_output; grad_output is the upstream "
     "gradient: a number, or with reduction 'none' a matrix; 1 if it is not given. A RuntimeError without a call "
     "before it.\n\n"
     ">>> mse = pente.MSELoss()\n"
     ">>> loss = mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))\n"
     ">>> mse.backward().tolist(), mse.target_grad.tolist()\n"
     "([[1.0, -2.0]], [[-1.0, 2.0]])"},
    {"__reduce__", loss_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nFor pickle and copy."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef loss_getset[] = {
    {"reduction", loss_reduction, NULL, "What the sum of squares is divided by.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loss_members[] = {
    {"target_grad", T_OBJECT, offsetof(Loss, target_grad), READONLY,
     "The target's gradient, after backward(); or None."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot loss_slots[] = {
    {Py_tp_doc, "MSELoss(reduction='mean')\n--\n\n"
                "Mean squared error, called as loss(prediction, target, sample_weight=None). The squares are summed "
                "and divided by their number ('mean'), by nothing ('sum'), by the rows ('batch_mean') or by the "
                "columns ('output_mean'); 'none' gives the squares. sample_weight, one a row, multiplies the row's "
                "squares, and a mean's divisor counts their sum in place of the rows. Prediction and target are (rows, "
                "columns), both alike. The arguments are kept, and must be left as they are, until backward() or the "
                "next call.\n\n"
                ">>> prediction, target = np.array([[1.0], [2.0]]), np.array([[0.0], [4.0]])\n"
                ">>> pente.MSELoss()(prediction, target), pente.MSELoss('sum')(prediction, target)\n"
                "(2.5, 5.0)\n"
                ">>> pente.MSELoss()(prediction, target, sample_weight=np.array([3.0, 1.0]))\n"
                "1.75"},
    {Py_tp_new, loss_new},
    {Py_tp_dealloc, loss_dealloc},
    {Py_tp_traverse, loss_traverse},
    {Py_tp_clear, loss_clear},
    {Py_tp_repr, loss_repr},
    {Py_tp_richcompare, loss_richcompare},
    {Py_tp_call, loss_call},
    {Py_tp_methods, loss_methods},
    {Py_tp_members, loss_members},
    {Py_tp_getset, loss_getset},
    {0, NULL},
};

PyType_Spec loss_spec = {
    .name = "pente.MSELoss",
    .basicsize = sizeof(Loss),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = loss_slots,
};
