/* Trainer.fit, during which libpente calls back. */
#include "extension.h"

#include <errno.h>
#include <string.h>

const char fit_doc[] =
    "fit($self, x, y=None, epochs=1, batch_size=32, shuffle=True, seed=0, first_epoch=0, sample_weight=None, "
    "validation=None, patience=0, min_delta=0.0, on_epoch=None, lr_scheduler=None, progress=False, shuffle_window=0, "
    "checkpoint=None, checkpoint_epochs=1, checkpoint_seconds=0.0, resume=False, on_progress=None, reduce=None)\n--\n\n"
    "Trains for some epochs of mini-batches and returns the History. first_epoch is how many epochs an earlier run "
    "has done, whose numbers and shuffles this one goes on with. validation is a pair (x, y). patience stops "
    "after so many epochs whose validation loss is not lower by more than min_delta, and gives back the best "
    "parameters; 0 does neither. on_epoch is called with an Epoch after each and stops the run by returning True. "
    "Then lr_scheduler, one of pente.lr_scheduler over this trainer's optimizer, makes its step: a ReduceLROnPlateau "
    "with the validation loss, or without a validation set the training loss. on_progress is called with a Progress some "
    "ten times a second, between steps. progress=True shows a bar on stderr, by tqdm. Ctrl-C raises KeyboardInterrupt; "
    "the steps done are kept, as with what on_epoch or on_progress raises, unless it comes within a CustomLayer: what that "
    "raises, or a source, as a loss that is not finite, leaves parameters, gradients, momentum and the lr_scheduler as "
    "they were before fit.\n\n"
    ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
    ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
    ">>> x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [6.0]])\n"
    ">>> history = trainer.fit(x, y, epochs=1000, batch_size=2, validation=(x, y), patience=50)\n"
    ">>> round(layer.predict(np.array([[10.0]]))[0, 0], 3), history.stop_reason\n"
    "(20.0, 'early')\n\n"
    "x may be a DataSource, without y and sample_weight, for rows that are not in memory: it is read in the background, and "
    "memory holds twice shuffle_window rows (0: 8 MB of them). Shuffled rows come to a window in blocks of a 32nd of it, "
    "drawn from all over the source, and in an order of its own; the bits are those of the same rows in memory in the same "
    "order.\n\n"
    "checkpoint is the path of a file, which Layer.load and load_parameters read, too, for the run and where it is: written "
    "after every checkpoint_epochs epochs (0: not after an epoch as such), once checkpoint_seconds have gone by since the "
    "last time (0: never), and when the run ends. resume=True goes on with the run that is in the file, if there is one, to "
    "the same bits as if it had never been interrupted: give the same data and arguments, but for epochs, patience and "
    "min_delta. The History is of all of the run then.\n\n"
    ">>> layer = pente.Linear(1, 1, dtype='float64', seed=0)\n"
    ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())\n"
    ">>> trainer.fit(x, y, epochs=3, checkpoint='run.safetensors').epochs\n"
    "3\n"
    ">>> trainer.fit(x, y, epochs=5, checkpoint='run.safetensors', resume=True).epochs  # two more\n"
    "5\n\n"
    "With reduce, the fit is one of several, each in a process of its own with rows of its own, that train one model. It is "
    "called once a step with a vector of float64, of one length in all of them, and must make it the sum of all: MPI's "
    "allreduce. They begin with the same parameters and arguments (batch_size is one process's), and end with the same; "
    "each epoch lasts until none has rows left, and if one stops, all do. pente.mpi does it all.";

/* An exception is kept here until fit is back, since what it calls meanwhile may be Python. */
typedef struct {
    const pente_sgd *sgd;
    PyObject *on_epoch; /* or NULL */
    PyObject *on_progress;
    PyObject *reduce;
    module_state *state;
    PyObject *error[3];
} Run;

/* ---- What libpente calls, on the thread that called it ----------------------------------------------------------- */

static void keep_error(Run *run) {
    if (PyErr_Occurred()) PyErr_Fetch(&run->error[0], &run->error[1], &run->error[2]);
}

/* Ctrl-C, and whatever else a signal's handler raises. */
static int32_t should_stop(void *user_data) {
    Run *run = user_data;
    int released = regain_gil();
    if (!run->error[0] && PyErr_CheckSignals() < 0) keep_error(run);
    int stop = run->error[0] != NULL;
    if (released) release_gil(LONG_WORK);
    return stop;
}

/* Of group 0. */
static double learning_rate(const Run *run) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    return pente_sgd_get_options(run->sgd, 0, &options) == PENTE_OK ? options.lr : Py_NAN;
}

static int32_t on_epoch(const pente_epoch *epoch, void *user_data) {
    Run *run = user_data;
    int released = regain_gil();
    int stop = 1;
    if (!run->error[0]) {
        PyObject *report =
            call_python("pente._reports", "Epoch", "(LLddd)", (long long)epoch->epoch, (long long)epoch->epochs,
                        epoch->training_loss, epoch->validation_loss, learning_rate(run));
        PyObject *answer = report ? PyObject_CallFunctionObjArgs(run->on_epoch, report, NULL) : NULL;
        stop = answer ? PyObject_IsTrue(answer) != 0 : 1;
        Py_XDECREF(answer);
        Py_XDECREF(report);
        keep_error(run);
    }
    if (released) release_gil(LONG_WORK);
    return stop;
}

static PyObject *optional_float(int there, double value) {
    return there ? PyFloat_FromDouble(value) : Py_NewRef(Py_None);
}

static void on_progress(const pente_progress *progress, void *user_data) {
    Run *run = user_data;
    int released = regain_gil();
    if (!run->error[0]) {
        int known = progress->rows >= 0;
        PyObject *rows = known ? PyLong_FromLongLong(progress->rows) : Py_NewRef(Py_None);
        PyObject *report = rows ? call_python("pente._reports", "Progress", "(LLLNddN)", (long long)progress->epoch,
                                              (long long)progress->epochs, (long long)progress->row, rows,
                                              progress->loss, progress->rows_per_second,
                                              optional_float(known, progress->seconds_left))
                                : NULL;
        PyObject *answer = report ? PyObject_CallFunctionObjArgs(run->on_progress, report, NULL) : NULL;
        Py_XDECREF(answer);
        Py_XDECREF(report);
        keep_error(run);
    }
    if (released) release_gil(LONG_WORK);
}

/* Python's answer is in the vector. What it raises is the fit's. */
static pente_status reduce(double *sums, int64_t count, void *user_data) {
    Run *run = user_data;
    int released = regain_gil();
    if (!run->error[0]) {
        pente_matrix matrix = pente_float64_matrix(sums, 1, count);
        PyObject *vector = matrix_copy(run->state, &matrix, 1);
        PyObject *answer = vector ? PyObject_CallFunctionObjArgs(run->reduce, vector, NULL) : NULL;
        if (answer) memcpy(sums, ((Matrix *)vector)->data, count * sizeof *sums);
        Py_XDECREF(answer);
        Py_XDECREF(vector);
        keep_error(run);
    }
    int failed = run->error[0] != NULL;
    if (released) release_gil(LONG_WORK);
    return failed ? RAISED : PENTE_OK;
}

/* ---- What comes of it ------------------------------------------------------------------------------------------- */

static PyObject *list_of(const double *values, int64_t count) {
    PyObject *list = PyList_New(0);
    for (int64_t i = 0; list && i < count; i++) {
        PyObject *value = PyFloat_FromDouble(values[i]);
        if (!value || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
    }
    return list;
}

static PyObject *history_of(const pente_fit_options *options, const pente_fit_report *report) {
    const char *reason = report->stop_reason == PENTE_STOP_EARLY      ? "early"
                         : report->stop_reason == PENTE_STOP_CALLBACK ? "callback"
                                                                      : "epochs"; /* a request is an exception here */
    /* What is resumed may have come further than is asked for now. */
    int64_t known = report->epochs < options->epochs ? report->epochs : options->epochs;
    PyObject *training = list_of(options->training_losses, known);
    PyObject *validation = list_of(options->validation_losses, options->validation_x ? known : 0);
    PyObject *rates = list_of(options->learning_rates, known);
    PyObject *history = training && validation && rates
                            ? call_python("pente._reports", "History", "(OOOLLs)", training, validation, rates,
                                          (long long)known, (long long)report->best_epoch, reason)
                            : NULL;
    Py_XDECREF(training);
    Py_XDECREF(validation);
    Py_XDECREF(rates);
    return history;
}

static PyObject *raise_fit_status(pente_status status, int error, const Buffer examples[3]) {
    return status == PENTE_FILE_ERROR ? raise_system_error(error) : raise_status(status, examples, 3);
}

/* Runs it, with all buffers acquired, the source begun, and all options but the losses and callbacks set. */
static PyObject *run_fit(Trainer *self, Source *source, const Buffer examples[3], pente_fit_options *options,
                         Run *run) {
    module_state *state = state_of(self->layer);
    pente_fit_report report = PENTE_FIT_REPORT_INIT;
    size_t epochs = options->epochs > 0 ? options->epochs : 0;
    double *losses = epochs <= PY_SSIZE_T_MAX / (3 * sizeof *losses) ? PyMem_Calloc(epochs, 3 * sizeof *losses) : NULL;
    if (!state || !losses) {
        if (state)
            PyErr_Format(PyExc_MemoryError, "epochs is %lld, for whose losses there is no memory",
                         (long long)options->epochs);
        if (source) source_end(state, source, PENTE_OK);
        PyMem_Free(losses);
        return NULL;
    }
    options->training_losses = losses;
    options->validation_losses = losses + epochs;
    options->learning_rates = losses + 2 * epochs;
    options->on_epoch = run->on_epoch ? on_epoch : NULL;
    options->on_progress = run->on_progress ? on_progress : NULL;
    options->reduce = run->reduce ? reduce : NULL;
    options->should_stop = should_stop;
    options->user_data = run;
    release_gil(LONG_WORK);
    pente_status status = source ? pente_trainer_fit_source(self->trainer, source->source, options, &report)
                                 : pente_trainer_fit(self->trainer, &examples[0].matrix, &examples[1].matrix, options,
                                                     &report);
    int error = errno;
    regain_gil();
    PyObject *history = NULL;
    if (run->error[0])
        PyErr_Restore(run->error[0], run->error[1], run->error[2]);
    else if (!PyErr_Occurred()) /* of a layer of the user's own */
        history = status == PENTE_OK ? history_of(options, &report) : raise_fit_status(status, error, examples);
    if (source) source_end(state, source, status);
    PyMem_Free(losses);
    return history;
}

/* ---- Its arguments ---------------------------------------------------------------------------------------------- */

static char *names[] = {"x", "y", "epochs", "batch_size", "shuffle", "seed", "first_epoch", "sample_weight",
                        "validation", "patience", "min_delta", "on_epoch", "lr_scheduler", "progress",
                        "shuffle_window", "checkpoint", "checkpoint_epochs", "checkpoint_seconds", "resume",
                        "on_progress", "reduce", "_schedule", NULL};

/* A fit that does more between epochs than call on_epoch is one with an on_epoch that does, composed in Python. */
static PyObject *fit_with_more(PyObject *trainer, PyObject *args, PyObject *kwargs, const pente_fit_options *options) {
    PyObject *named = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    for (Py_ssize_t i = 0; named && i < PyTuple_Size(args); i++)
        if (PyDict_SetItemString(named, names[i], PyTuple_GetItem(args, i)) < 0) Py_CLEAR(named);
    PyObject *history = named ? call_python("pente._fit", "fit", "(OLLO)", trainer, (long long)options->first_epoch,
                                            (long long)options->epochs, named)
                              : NULL;
    Py_XDECREF(named);
    return history;
}

/* NULL for None. 0, or -1 and an exception. */
static int callable_from(PyObject *object, const char *name, PyObject **callable) {
    *callable = object == Py_None ? NULL : object;
    if (!*callable || PyCallable_Check(object)) return 0;
    PyErr_Format(PyExc_TypeError, "%s must be callable or None, not %R", name, object);
    return -1;
}

/* x is a source, or y is there, too. */
static int is_source(module_state *state, PyObject *objects[3]) {
    if (objects[1] == Py_None) objects[1] = NULL;
    if (objects[2] == Py_None) objects[2] = NULL;
    int found = PyObject_TypeCheck(objects[0], state->types[SOURCE_TYPE]);
    const char *extra = !found ? NULL : objects[1] ? "y" : objects[2] ? "sample_weight" : NULL;
    if (extra)
        PyErr_Format(PyExc_TypeError, "%s must be None where x is a source, which has its own", extra);
    else if (!found && !objects[1])
        PyErr_SetString(PyExc_TypeError, "fit() is missing its argument 'y', which only a source does without");
    return PyErr_Occurred() ? -1 : found;
}

/* The numbers of an lr_scheduler that belong to the run. */
static int schedule_from(PyObject *object, Buffer *buffer, pente_fit_options *options) {
    if (!object || object == Py_None) return 0;
    if (buffer_get(buffer, object, "_schedule", PENTE_FLOAT64, WRITABLE) < 0) return -1;
    options->schedule = buffer->matrix.data;
    options->schedule_count = buffer->matrix.columns;
    return 0;
}

PyObject *trainer_fit(PyObject *op, PyObject *args, PyObject *kwargs) {
    static const char *const example_names[] = {"x", "y", "sample_weight", NULL};
    static const char *const validation_names[] = {"validation's x", "validation's y", NULL};
    Trainer *self = (Trainer *)op;
    module_state *state = state_of(op);
    pente_fit_options options = PENTE_FIT_OPTIONS_INIT;
    pente_dtype dtype = ((Layer *)self->layer)->info.dtype;
    int shuffle = options.shuffle, progress = 0, resume = 0;
    PyObject *objects[3] = {NULL}, *validation_objects[3] = {NULL}, *path = NULL;
    PyObject *epochs = NULL, *batch_size = NULL, *seed = NULL, *first_epoch = NULL, *patience = NULL, *min_delta = NULL;
    PyObject *window = NULL, *checkpoint = Py_None, *checkpoint_epochs = NULL, *checkpoint_seconds = NULL;
    PyObject *validation = Py_None, *epoch_callback = Py_None, *progress_callback = Py_None, *lr_scheduler = Py_None;
    PyObject *schedule = NULL, *reduce_callback = Py_None;
    Run run = {((SGD *)self->optimizer)->sgd, NULL, NULL, NULL, state, {NULL}};
    if (!state ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOpOOOOOOOOpOOOOpOOO:fit", names, &objects[0], &objects[1],
                                     &epochs, &batch_size, &shuffle, &seed, &first_epoch, &objects[2], &validation,
                                     &patience, &min_delta, &epoch_callback, &lr_scheduler, &progress, &window,
                                     &checkpoint, &checkpoint_epochs, &checkpoint_seconds, &resume, &progress_callback,
                                     &reduce_callback, &schedule) ||
        integer_from(epochs, "epochs", &options.epochs) < 0 ||
        integer_from(batch_size, "batch_size", &options.batch_size) < 0 ||
        integer_from(first_epoch, "first_epoch", &options.first_epoch) < 0 ||
        integer_from(patience, "patience", &options.patience) < 0 ||
        integer_from(window, "shuffle_window", &options.shuffle_window) < 0 ||
        integer_from(checkpoint_epochs, "checkpoint_epochs", &options.checkpoint_epochs) < 0 ||
        float_from(checkpoint_seconds, "checkpoint_seconds", &options.checkpoint_seconds) < 0 ||
        float_from(min_delta, "min_delta", &options.min_delta) < 0 || (seed && seed_from(seed, &options.seed) < 0) ||
        callable_from(epoch_callback, "on_epoch", &run.on_epoch) < 0 ||
        callable_from(progress_callback, "on_progress", &run.on_progress) < 0 ||
        callable_from(reduce_callback, "reduce", &run.reduce) < 0)
        return NULL;
    int streams = is_source(state, objects);
    if (streams < 0) return NULL;
    if (validation != Py_None &&
        !(PyTuple_Check(validation) && PyArg_ParseTuple(validation, "OO", &validation_objects[0],
                                                        &validation_objects[1])))
        return PyErr_Format(PyExc_TypeError, "validation must be a tuple (x, y) or None");
    if (resume && checkpoint == Py_None) return PyErr_Format(PyExc_ValueError, "resume=True needs a checkpoint");
    if (lr_scheduler != Py_None || progress) return fit_with_more(op, args, kwargs, &options);
    if (checkpoint != Py_None && !PyUnicode_FSConverter(checkpoint, &path)) return NULL;
    Source *source = streams ? (Source *)objects[0] : NULL;
    Buffer examples[3] = {0}, held_out[3] = {0}, kept = {0};
    PyObject *history = NULL;
    PyObject *const none[3] = {NULL};
    if (buffers_get(examples, streams ? none : objects, example_names, dtype, 0) == 0 &&
        buffers_get(held_out, validation_objects, validation_names, dtype, 0) == 0 &&
        schedule_from(schedule, &kept, &options) == 0 &&
        (!source || source_begin(state, source, options.epochs) == 0)) {
        options.shuffle = shuffle;
        options.sample_weight = buffer_matrix(&examples[2]);
        options.validation_x = buffer_matrix(&held_out[0]);
        options.validation_y = buffer_matrix(&held_out[1]);
        options.checkpoint_path = path ? PyBytes_AsString(path) : NULL;
        options.resume = resume;
        history = run_fit(self, source, examples, &options, &run);
    }
    buffers_release(&kept, 1);
    buffers_release(held_out, 3);
    buffers_release(examples, 3);
    Py_XDECREF(path);
    return history;
}
