/* Trainer: a step in one call, and fit, during which libpente calls back. */
#include "extension.h"

#include <math.h>

typedef struct {
    PyObject_HEAD
    pente_trainer *trainer;
    PyObject *layer;
    PyObject *optimizer;
    PyObject *loss;
    double max_grad_norm; /* 0: None */
} Trainer;

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

/* ---- Fit -------------------------------------------------------------------------------------------------------- */

/* libpente calls back on the thread that called it; an exception there stays set until fit is back. */
typedef struct {
    const pente_sgd *sgd;
    PyObject *on_epoch;     /* or NULL */
    double *learning_rates; /* one an epoch, if it is called */
    int64_t epochs;         /* done */
} Run;

/* Ctrl-C, and whatever else a signal's handler raises. */
static int32_t should_stop(void *Py_UNUSED(user_data)) {
    int released = regain_gil();
    int stop = PyErr_Occurred() || PyErr_CheckSignals() < 0;
    if (released) release_gil(LONG_WORK);
    return stop;
}

/* Of group 0. */
static double learning_rate(const Run *run) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    return pente_sgd_get_options(run->sgd, 0, &options) == PENTE_OK ? options.lr : Py_NAN;
}

static int call_on_epoch(Run *run, const pente_epoch *epoch) {
    double rate = run->learning_rates[run->epochs++] = learning_rate(run); /* the epoch's: now it may be changed */
    PyObject *report =
        call_python("pente._reports", "Epoch", "(LLddd)", (long long)epoch->epoch, (long long)epoch->epochs,
                    epoch->training_loss, epoch->validation_loss, rate);
    PyObject *answer = report ? PyObject_CallFunctionObjArgs(run->on_epoch, report, NULL) : NULL;
    int stop = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    Py_XDECREF(report);
    return stop;
}

static int32_t on_epoch(const pente_epoch *epoch, void *user_data) {
    int released = regain_gil();
    int stop = call_on_epoch(user_data, epoch) != 0;
    if (released) release_gil(LONG_WORK);
    return stop;
}

static PyObject *list_of(const double *values, int64_t count) {
    PyObject *list = PyList_New(0);
    for (int64_t i = 0; list && i < count; i++) {
        PyObject *value = PyFloat_FromDouble(values[i]);
        if (!value || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
    }
    return list;
}

/* Without on_epoch there is nobody to change it. */
static PyObject *list_of_rates(const Run *run, int64_t count) {
    if (run->on_epoch) return list_of(run->learning_rates, count);
    double rate = learning_rate(run);
    PyObject *one = list_of(&rate, 1), *list = one ? PySequence_Repeat(one, count) : NULL;
    Py_XDECREF(one);
    return list;
}

static PyObject *history_of(const pente_fit_options *options, const pente_fit_report *report, const Run *run) {
    const char *reason = report->stop_reason == PENTE_STOP_EARLY      ? "early"
                         : report->stop_reason == PENTE_STOP_CALLBACK ? "callback"
                                                                      : "epochs"; /* a request is an exception here */
    PyObject *training = list_of(options->training_losses, report->epochs);
    PyObject *validation = list_of(options->validation_losses, options->validation_x ? report->epochs : 0);
    PyObject *rates = list_of_rates(run, report->epochs);
    PyObject *history = training && validation && rates
                            ? call_python("pente._reports", "History", "(OOOLLs)", training, validation, rates,
                                          (long long)report->epochs, (long long)report->best_epoch, reason)
                            : NULL;
    Py_XDECREF(training);
    Py_XDECREF(validation);
    Py_XDECREF(rates);
    return history;
}

/* Runs it, with all buffers acquired and all options but the losses and callbacks set. */
static PyObject *run_fit(Trainer *self, const Buffer examples[3], pente_fit_options *options, PyObject *callback) {
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    size_t epochs = options->epochs > 0 ? options->epochs : 0;
    double *losses = epochs <= PY_SSIZE_T_MAX / (3 * sizeof *losses) ? PyMem_Calloc(epochs, 3 * sizeof *losses) : NULL;
    if (!losses)
        return PyErr_Format(PyExc_MemoryError, "epochs is %lld, for whose losses there is no memory",
                            (long long)options->epochs);
    options->training_losses = losses;
    options->validation_losses = losses + epochs;
    Run run = {((SGD *)self->optimizer)->sgd, callback, losses + 2 * epochs, 0};
    options->on_epoch = callback ? on_epoch : NULL;
    options->should_stop = should_stop;
    options->user_data = &run;
    release_gil(LONG_WORK);
    pente_status status =
        pente_trainer_fit(self->trainer, &examples[0].matrix, &examples[1].matrix, options, &report);
    regain_gil();
    PyObject *history = PyErr_Occurred()     ? NULL
                        : status != PENTE_OK ? raise_status(status, examples, 3)
                                             : history_of(options, &report, &run);
    PyMem_Free(losses);
    return history;
}

/* A fit that does more between epochs than call on_epoch is one with an on_epoch that does, composed in Python. */
static PyObject *fit_with_more(PyObject *trainer, char **names, PyObject *args, PyObject *kwargs,
                               const pente_fit_options *options) {
    PyObject *named = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    for (Py_ssize_t i = 0; named && i < PyTuple_Size(args); i++)
        if (PyDict_SetItemString(named, names[i], PyTuple_GetItem(args, i)) < 0) Py_CLEAR(named);
    PyObject *history = named ? call_python("pente._fit", "fit", "(OLLO)", trainer, (long long)options->first_epoch,
                                            (long long)options->epochs, named)
                              : NULL;
    Py_XDECREF(named);
    return history;
}

static PyObject *trainer_fit(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"x", "y", "epochs", "batch_size", "shuffle", "seed", "first_epoch", "sample_weight",
                            "validation", "patience", "min_delta", "on_epoch", "lr_scheduler", "progress", NULL};
    static const char *const validation_names[] = {"validation's x", "validation's y", NULL};
    Trainer *self = (Trainer *)op;
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_dtype dtype = ((Layer *)self->layer)->info.dtype;
    int shuffle = options.shuffle, progress = 0;
    PyObject *objects[3] = {NULL}, *validation_objects[3] = {NULL};
    PyObject *epochs = NULL, *batch_size = NULL, *seed = NULL, *first_epoch = NULL, *patience = NULL, *min_delta = NULL;
    PyObject *validation = Py_None, *callback = Py_None, *lr_scheduler = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOpOOOOOOOOp:fit", names, &objects[0], &objects[1], &epochs,
                                     &batch_size, &shuffle, &seed, &first_epoch, &objects[2], &validation, &patience,
                                     &min_delta, &callback, &lr_scheduler, &progress) ||
        integer_from(epochs, "epochs", &options.epochs) < 0 ||
        integer_from(batch_size, "batch_size", &options.batch_size) < 0 ||
        integer_from(first_epoch, "first_epoch", &options.first_epoch) < 0 ||
        integer_from(patience, "patience", &options.patience) < 0 ||
        float_from(min_delta, "min_delta", &options.min_delta) < 0 || (seed && seed_from(seed, &options.seed) < 0))
        return NULL;
    if (objects[2] == Py_None) objects[2] = NULL;
    if (validation != Py_None &&
        !(PyTuple_Check(validation) && PyArg_ParseTuple(validation, "OO", &validation_objects[0],
                                                        &validation_objects[1])))
        return PyErr_Format(PyExc_TypeError, "validation must be a tuple (x, y) or None");
    if (callback != Py_None && !PyCallable_Check(callback))
        return PyErr_Format(PyExc_TypeError, "on_epoch must be callable or None, not %R", callback);
    if (lr_scheduler != Py_None || progress) return fit_with_more(op, names, args, kwargs, &options);
    Buffer examples[3] = {0}, held_out[3] = {0};
    PyObject *history = NULL;
    if (buffers_get(examples, objects, example_names, dtype, 0) == 0 &&
        buffers_get(held_out, validation_objects, validation_names, dtype, 0) == 0) {
        options.shuffle = shuffle;
        options.sample_weight = buffer_matrix(&examples[2]);
        options.validation_x = buffer_matrix(&held_out[0]);
        options.validation_y = buffer_matrix(&held_out[1]);
        history = run_fit(self, examples, &options, callback == Py_None ? NULL : callback);
    }
    buffers_release(held_out, 3);
    buffers_release(examples, 3);
    return history;
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
    {"fit", KEYWORDS(trainer_fit),
     "fit($self, x, y, epochs=1, batch_size=32, shuffle=True, seed=0, first_epoch=0, sample_weight=None, "
     "validation=None, patience=0, min_delta=0.0, on_epoch=None, lr_scheduler=None, progress=False)\n--\n\n"
     "Trains for some epochs of mini-batches and returns the History. first_epoch is how many epochs an earlier run "
     "has done, whose numbers and shuffles this one goes on with. validation is a pair (x, y). patience stops "
     "after so many epochs whose validation loss is not lower by more than min_delta, and gives back the best "
     "parameters; 0 does neither. on_epoch is called with an Epoch after each and stops the run by returning True. "
     "Then lr_scheduler, one of pente.lr_scheduler over this trainer's optimizer, makes its step: a ReduceLROnPlateau "
     "with the validation loss, or without a validation set the training loss. progress=True shows a bar on stderr, "
     "by tqdm. Ctrl-C raises KeyboardInterrupt; the steps done are kept, unless it comes within a CustomLayer: what "
     "that raises, as a loss that is not finite, leaves parameters, gradients, momentum and the lr_scheduler as they "
     "were before fit.\n\n"
     ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
     ">>> x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [6.0]])\n"
     ">>> history = trainer.fit(x, y, epochs=1000, batch_size=2, validation=(x, y), patience=50)\n"
     ">>> round(layer.predict(np.array([[10.0]]))[0, 0], 3), history.stop_reason\n"
     "(20.0, 'early')"},
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
