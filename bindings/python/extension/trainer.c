/* Trainer: a step in one call; fit is in fit.c. */
#include "extension.h"

#include <math.h>

/* ---- Life ------------------------------------------------------------------------------------------------------- */

static int set_max_grad_norm(Trainer *self, PyObject *value) {
    double norm = 0.0;
    if (value != Py_None) {
        if (float_from(value, "max_grad_norm", &norm) < 0) return -1;
        if (!(norm > 0.0 && isfinite(norm))) {
            PyErr_Format(PyExc_ValueError, "max_grad_norm is %R, but must be finite and above 0, or None", value);
            return -1;
        }
    }
    if (check(pente_trainer_set_max_gradient_norm(self->trainer, norm)) < 0) return -1;
    self->max_grad_norm = norm;
    return 0;
}

static PyObject *trainer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"layer", "optimizer", "loss", "max_grad_norm", NULL};
    module_state *state = state_of_type(type);
    PyObject *layer, *optimizer, *loss, *max_grad_norm = Py_None;
    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!|O:Trainer", names, state->types[LAYER_TYPE], &layer,
                                     state->types[SGD_TYPE], &optimizer, state->types[LOSS_TYPE], &loss,
                                     &max_grad_norm) ||
        !layer_ready(layer))
        return NULL;
    Trainer *self = (Trainer *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->layer = Py_NewRef(layer);
    self->optimizer = Py_NewRef(optimizer);
    self->loss = Py_NewRef(loss);
    if (check(pente_trainer_new(((Layer *)layer)->layer, ((Loss *)loss)->mse, ((SGD *)optimizer)->sgd,
                                &self->trainer)) < 0 ||
        set_max_grad_norm(self, max_grad_norm) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* There is no tp_clear, as with a tuple: a cycle leads through the layer or the loss, and they can break it. */
static int trainer_traverse(PyObject *op, visitproc visit, void *arg) {
    Trainer *self = (Trainer *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->layer);
    Py_VISIT(self->optimizer);
    Py_VISIT(self->loss);
    return 0;
}

static void trainer_dealloc(PyObject *op) {
    Trainer *self = (Trainer *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    pente_trainer_free(self->trainer);
    Py_XDECREF(self->layer);
    Py_XDECREF(self->optimizer);
    Py_XDECREF(self->loss);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *trainer_get_max_grad_norm(PyObject *op, void *Py_UNUSED(closure)) {
    double norm = ((Trainer *)op)->max_grad_norm;
    return norm > 0.0 ? PyFloat_FromDouble(norm) : Py_NewRef(Py_None);
}

static int trainer_set_max_grad_norm(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    if (!value) return PyErr_Format(PyExc_TypeError, "max_grad_norm cannot be deleted"), -1;
    return set_max_grad_norm((Trainer *)op, value);
}

static PyObject *trainer_repr(PyObject *op) {
    Trainer *self = (Trainer *)op;
    PyObject *norm = trainer_get_max_grad_norm(op, NULL);
    if (!norm) return NULL;
    PyObject *text = PyUnicode_FromFormat(norm == Py_None ? "Trainer(layer=%R, optimizer=%R, loss=%R)"
                                                          : "Trainer(layer=%R, optimizer=%R, loss=%R, "
                                                          "max_grad_norm=%R)",
                                          self->layer, self->optimizer, self->loss, norm);
    Py_DECREF(norm);
    return text;
}

static PyObject *trainer_reduce(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    Trainer *self = (Trainer *)op;
    return Py_BuildValue("(O(OOON))", Py_TYPE(op), self->layer, self->optimizer, self->loss,
                         trainer_get_max_grad_norm(op, NULL));
}

static PyObject *trainer_richcompare(PyObject *op, PyObject *other, int operation) {
    return compare_by(op, other, operation, "parts_equal");
}

/* ---- Step ------------------------------------------------------------------------------------------------------- */

static const char *const example_names[] = {"x", "y", "sample_weight", NULL};

static PyObject *trainer_step(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    Trainer *self = (Trainer *)op;
    const Layer *layer = (Layer *)self->layer;
    PyObject *values[3];
    Buffer examples[3];
    if (parse_arguments("step", example_names, 2, args, nargs, kwnames, values) < 0 ||
        buffers_get(examples, values, example_names, layer->info.dtype, 0) < 0)
        return NULL;
    double loss;
    release_gil(3 * layer_work(layer, &examples[0]));
    pente_status status = pente_trainer_step(self->trainer, &examples[0].matrix, &examples[1].matrix,
                                             buffer_matrix(&examples[2]), &loss);
    regain_gil();
    PyObject *result = status == PENTE_OK ? PyFloat_FromDouble(loss) : raise_status(status, examples, 3);
    buffers_release(examples, 3);
    return result;
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyMethodDef trainer_methods[] = {
    {"step", FASTCALL(trainer_step),
     "step($self, x, y, sample_weight=None)\n--\n\n"
     "zero_grad, forward, loss, backward and step in one call, to the same bits, with clip_gradients before the step "
     "if there is a max_grad_norm. Returns the loss before the update; if it is not finite, or the norm that is to be "
     "clipped, that is a FloatingPointError and nothing has changed. x is (rows, in_features), y (rows, out_features), "
     "sample_weight one number a row.\n\n"
     ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
     ">>> x, y = np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]])\n"
     ">>> trainer.step(x, y) > trainer.step(x, y)\n"
     "True"},
    {"fit", KEYWORDS(trainer_fit), fit_doc},
    {"accumulate", FASTCALL(trainer_accumulate),
     "accumulate($self, x, y, sample_weight=None)\n--\n\n"
     "Adds the gradients of these rows to sums; the layer stays as it is. Several calls make one batch, of rows for "
     "which there is no room at once, or of other trainers' rows: apply_sums is its step. Arguments and errors are "
     "step's, but that sample weights may be all 0.\n\n"
     ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
     ">>> trainer.accumulate(np.array([[1.0]]), np.array([[2.0]]))\n"
     ">>> trainer.accumulate(np.array([[2.0]]), np.array([[4.0]]))\n"
     ">>> loss = trainer.apply_sums()\n"
     ">>> other = pente.Linear(1, 1, dtype='float64', seed=0)\n"
     ">>> whole = pente.Trainer(other, pente.SGD(other, lr=0.1), pente.MSELoss())\n"
     ">>> abs(loss - whole.step(np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]]))) < 1e-15\n"
     "True"},
    {"apply_sums", trainer_apply_sums, METH_NOARGS,
     "apply_sums($self)\n--\n\n"
     "The step of all rows in sums, which is empty then; returns their loss before the update. A RuntimeError if there "
     "are no rows, and FloatingPointError as for step; nothing has changed then.\n\n"
     ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
     ">>> trainer.accumulate(np.array([[1.0]]), np.array([[2.0]]))\n"
     ">>> first = trainer.apply_sums()\n"
     ">>> trainer.accumulate(np.array([[1.0]]), np.array([[2.0]]))\n"
     ">>> trainer.apply_sums() < first\n"
     "True"},
    {"__reduce__", trainer_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nFor pickle and copy."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef trainer_members[] = {
    {"layer", T_OBJECT_EX, offsetof(Trainer, layer), READONLY, "The layer that is trained."},
    {"optimizer", T_OBJECT_EX, offsetof(Trainer, optimizer), READONLY, "Its optimizer."},
    {"loss", T_OBJECT_EX, offsetof(Trainer, loss), READONLY, "What is descended."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef trainer_getset[] = {
    {"max_grad_norm", trainer_get_max_grad_norm, trainer_set_max_grad_norm,
     "What each step clips the gradients' norm to before its update, as SGD.clip_gradients does; None: it does not.",
     NULL},
    {"sums", trainer_get_sums, trainer_set_sums,
     "What is accumulated, a copy, as one vector of float64: the gradients of the sum of all squares, one number for "
     "each of the layer's trained parameters in their order, that sum, the number of rows (or the sum of their weights), "
     "and the same times y's columns. Vectors of several trainers of the same layer, added element by element, are "
     "those of all their rows: set them, and apply_sums is the step of the whole batch. None empties them.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_doc, "Trainer(layer, optimizer, loss, max_grad_norm=None)\n--\n\n"
                "A layer, its optimizer and a loss together; with max_grad_norm, which may be set later, each step "
                "clips the gradients (SGD.clip_gradients). A ValueError if the optimizer does not hold the layer's "
                "parameters. One thread at a time.\n\n"
                ">>> layer = pente.Linear(3, 1, seed=0)\n"
                ">>> trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss(), max_grad_norm=1.0)\n"
                ">>> trainer.layer is layer, trainer.max_grad_norm\n"
                "(True, 1.0)"},
    {Py_tp_new, trainer_new},
    {Py_tp_dealloc, trainer_dealloc},
    {Py_tp_traverse, trainer_traverse},
    {Py_tp_repr, trainer_repr},
    {Py_tp_richcompare, trainer_richcompare},
    {Py_tp_methods, trainer_methods},
    {Py_tp_members, trainer_members},
    {Py_tp_getset, trainer_getset},
    {0, NULL},
};

PyType_Spec trainer_spec = {
    .name = "pente.Trainer",
    .basicsize = sizeof(Trainer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainer_slots,
};
