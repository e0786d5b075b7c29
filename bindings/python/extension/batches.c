/* BatchSource: rows out of Python's iterators, on a thread that libpente starts for the time of a fit. */
#include "extension.h"

#include <string.h>

typedef struct {
    Source base;
    PyInterpreterState *interpreter;
    PyObject *reader;   /* a pente._sources.Batches: what knows where batches come from */
    PyObject *iterator; /* of the epoch under way, */
    int64_t number;     /* how many batches it has given, */
    Buffer batch[3];    /* the last of them */
    int64_t row;        /* and the first of its rows that has not been handed over */
    PyObject *error[3]; /* what was raised there, to come out of fit: type, value and traceback */
} BatchSource;

static const char *const part_names[] = {"x", "y", "sample_weight", NULL};

/* ---- A batch ---------------------------------------------------------------------------------------------------- */

/* Says where what the exception is about comes from; takes the text. */
static int blame(PyObject *where) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (where && (PyErr_GivenExceptionMatches(type, PyExc_TypeError) ||
                  PyErr_GivenExceptionMatches(type, PyExc_ValueError))) {
        PyErr_Format(type, "%U: %S", where, value);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(where);
    return -1;
}

static int require_shape(const Buffer *part, int64_t rows, int64_t columns, const char *name) {
    if (part->matrix.rows == rows && part->matrix.columns == columns) return 0;
    PyErr_Format(PyExc_ValueError, "%s is %lld%s%lld, but %lld%s%lld is expected", name, (long long)part->matrix.rows,
                 "×", (long long)part->matrix.columns, (long long)rows, "×", (long long)columns); /* a format is ASCII */
    return -1;
}

/* Takes a tuple of the parts. Without a handle yet it is the first batch, which says what all are like. */
static int take_parts(const Source *like, PyObject *parts, Buffer batch[3]) {
    PyObject *objects[3] = {NULL};
    if (!PyArg_ParseTuple(parts, "OO|O", &objects[0], &objects[1], &objects[2])) return -1;
    if (objects[2] == Py_None) objects[2] = NULL;
    if (like->source && !objects[2] != !like->info.has_sample_weight) {
        PyErr_Format(PyExc_ValueError, "it has %s sample_weight, but the first batch had %s",
                     objects[2] ? "a" : "no", objects[2] ? "none" : "one");
        return -1;
    }
    if (buffers_get(batch, objects, part_names, like->info.dtype, KEPT | AS_COLUMN) < 0) return -1;
    int64_t rows = batch[0].matrix.rows;
    if (require_shape(&batch[0], rows, like->source ? like->info.inputs : batch[0].matrix.columns, "x") == 0 &&
        require_shape(&batch[1], rows, like->source ? like->info.outputs : batch[1].matrix.columns, "y") == 0 &&
        (!objects[2] || require_shape(&batch[2], rows, 1, "sample_weight") == 0))
        return 0;
    buffers_release(batch, 3);
    return -1;
}

static int take_batch(BatchSource *self, PyObject *parts) {
    Buffer fresh[3];
    if (take_parts(&self->base, parts, fresh) < 0) return blame(PyUnicode_FromFormat("batch %lld", (long long)self->number));
    buffers_keep(self->batch, fresh, 3);
    buffers_release(fresh, 3);
    self->row = 0;
    return 0;
}

/* Its rows from `row` on, as many as there are and `to` has room for. */
static int64_t copy_rows(const Buffer batch[3], int64_t row, const pente_matrix *const to[3]) {
    int64_t left = batch[0].matrix.rows - row, count = left < to[0]->rows ? left : to[0]->rows;
    for (int i = 0; i < 3; i++) {
        if (!to[i]) continue;
        const pente_matrix *from = &batch[i].matrix;
        const size_t item = item_size(from->dtype), size = from->columns * item;
        const size_t source_step = from->row_stride * item, target_step = to[i]->row_stride * item;
        const char *source = (const char *)from->data + row * source_step;
        char *target = to[i]->data;
        if (source_step == size && target_step == size)
            memcpy(target, source, count * size);
        else
            for (int64_t k = 0; k < count; k++) memcpy(target + k * target_step, source + k * source_step, size);
    }
    return count;
}

/* ---- What libpente calls ---------------------------------------------------------------------------------------- */

static void end_epoch(BatchSource *self) {
    PyObject *iterator = self->iterator;
    self->iterator = NULL;
    self->row = 0;
    self->number = 0;
    buffers_release(self->batch, 3); /* zeroed, it has no rows */
    for (int i = 0; i < 3; i++) self->batch[i].matrix.rows = 0;
    Py_XDECREF(iterator);
}

/* The next rows of an iterator; those from 0 on begin an epoch. */
static int read_on(BatchSource *self, int64_t first, const pente_matrix *const to[3], int64_t *count) {
    if (first == 0) {
        end_epoch(self);
        self->iterator = PyObject_CallMethod(self->reader, "start", NULL);
        if (!self->iterator) return -1;
    }
    *count = 0;
    while (self->row == self->batch[0].matrix.rows) {
        PyObject *parts = self->iterator ? PyIter_Next(self->iterator) : NULL;
        if (!parts) {
            int failed = PyErr_Occurred() ? -1 : 0;
            end_epoch(self);
            return failed;
        }
        self->number++;
        int failed = take_batch(self, parts);
        Py_DECREF(parts);
        if (failed) return -1;
    }
    *count = copy_rows(self->batch, self->row, to);
    self->row += *count;
    return 0;
}

/* Those of a function. */
static int read_rows(BatchSource *self, int64_t first, const pente_matrix *const to[3], int64_t *count) {
    PyObject *parts = PyObject_CallMethod(self->reader, "read", "LL", (long long)first, (long long)to[0]->rows);
    if (!parts) return -1;
    Buffer fresh[3];
    int failed = take_parts(&self->base, parts, fresh);
    Py_DECREF(parts);
    int64_t found = failed ? 0 : fresh[0].matrix.rows;
    if (!failed && (found < 1 || found > to[0]->rows)) {
        PyErr_Format(PyExc_ValueError, "it gave %lld rows, but from 1 to %lld are expected", (long long)found,
                     (long long)to[0]->rows);
        buffers_release(fresh, 3);
        failed = -1;
    }
    if (failed)
        return blame(PyUnicode_FromFormat("batches(%lld, %lld)", (long long)first, (long long)to[0]->rows));
    *count = copy_rows(fresh, 0, to);
    buffers_release(fresh, 3);
    return 0;
}

/* On a thread that Python does not know, which has a state for the time of a call; or, in a child that was forked in a
 * callback, on that of fit. */
static pente_status read_source(int64_t first, const pente_matrix *x, const pente_matrix *y,
                                const pente_matrix *sample_weight, int64_t *count, void *user_data) {
    BatchSource *self = user_data;
    const pente_matrix *const to[3] = {x, y, sample_weight};
    PyThreadState *thread = NULL;
    if (!regain_gil()) {
        thread = PyThreadState_New(self->interpreter);
        if (!thread) return PENTE_OUT_OF_MEMORY;
        PyEval_RestoreThread(thread);
    }
    int failed = self->base.info.rows < 0 ? read_on(self, first, to, count) : read_rows(self, first, to, count);
    if (failed) PyErr_Fetch(&self->error[0], &self->error[1], &self->error[2]);
    if (thread) {
        PyThreadState_Clear(thread);
        PyEval_SaveThread();
        PyThreadState_Delete(thread);
    } else {
        release_gil(LONG_WORK);
    }
    return failed ? RAISED : PENTE_OK;
}

/* ---- Before and after a fit ------------------------------------------------------------------------------------- */

int source_begin(module_state *state, Source *source, int64_t epochs) {
    if (source->busy) return raise_busy((PyObject *)source), -1;
    if (Py_IS_TYPE((PyObject *)source, state->types[BATCH_SOURCE_TYPE])) {
        PyObject *done = PyObject_CallMethod(((BatchSource *)source)->reader, "require_epochs", "L", (long long)epochs);
        if (!done) return -1;
        Py_DECREF(done);
    }
    source->busy = 1;
    return 0;
}

void source_end(module_state *state, Source *source, pente_status status) {
    if (!Py_IS_TYPE((PyObject *)source, state->types[BATCH_SOURCE_TYPE])) {
        source->busy = 0;
        return;
    }
    BatchSource *self = (BatchSource *)source;
    PyObject *error[3];
    memcpy(error, self->error, sizeof error);
    memset(self->error, 0, sizeof self->error);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    end_epoch(self); /* which may run a generator's finally */
    source->busy = 0;
    if (type || status != RAISED) {
        PyErr_Restore(type, value, traceback);
        for (int i = 0; i < 3; i++) Py_XDECREF(error[i]);
    } else {
        PyErr_Restore(error[0], error[1], error[2]);
    }
}

/* ---- Life ------------------------------------------------------------------------------------------------------- */

/* What the first batch is like. */
static int look_at_first(BatchSource *self, pente_source_options *options) {
    PyObject *parts = PyObject_CallMethod(self->reader, "first", NULL);
    if (!parts) return -1;
    Buffer batch[3];
    int failed = take_parts(&self->base, parts, batch);
    Py_DECREF(parts);
    if (failed) return blame(PyUnicode_FromString("batch 1"));
    options->dtype = batch[0].matrix.dtype;
    options->inputs = batch[0].matrix.columns;
    options->outputs = batch[1].matrix.columns;
    options->has_sample_weight = batch[2].matrix.dtype != 0;
    buffers_release(batch, 3);
    return 0;
}

static PyObject *batch_source_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static const char *const names[] = {"batches", "rows", "dtype", "target", "features", "sample_weight", NULL};
    PyObject *values[6];
    pente_source_options options = PENTE_SOURCE_OPTIONS_INIT;
    if (parse_call("BatchSource", names, 1, args, kwargs, values) < 0) return NULL;
    for (int i = 1; i < 6; i++)
        if (!values[i]) values[i] = Py_None;
    BatchSource *self = (BatchSource *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->interpreter = PyInterpreterState_Get();
    if (values[2] != Py_None && !dtype_converter(values[2], &self->base.info.dtype)) {
        Py_DECREF(self);
        return NULL;
    }
    self->reader = call_python("pente._sources", "Batches", "(OOOOOO)", values[0], values[1], values[2], values[3],
                               values[4], values[5]);
    PyObject *rows = self->reader ? attribute(self->reader, "rows") : NULL;
    options.read = read_source;
    options.user_data = self;
    pente_source *handle = NULL;
    if (!rows || (rows != Py_None && integer_from(rows, "rows", &options.rows) < 0) ||
        look_at_first(self, &options) < 0 || check(pente_source_new(&options, &handle)) < 0 ||
        source_set(&self->base, handle) < 0)
        Py_CLEAR(self);
    Py_XDECREF(rows);
    return (PyObject *)self;
}

static int batch_source_traverse(PyObject *op, visitproc visit, void *arg) {
    BatchSource *self = (BatchSource *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->reader);
    Py_VISIT(self->iterator);
    return buffers_traverse(self->batch, 3, visit, arg);
}

/* Not within a fit, whose caller has a reference. */
static int batch_source_clear(PyObject *op) {
    BatchSource *self = (BatchSource *)op;
    end_epoch(self);
    Py_CLEAR(self->reader);
    return 0;
}

static void batch_source_dealloc(PyObject *op) {
    BatchSource *self = (BatchSource *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    batch_source_clear(op);
    if (self->base.source) pente_source_free(self->base.source);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyType_Slot batch_source_slots[] = {
    {Py_tp_doc,
     "BatchSource(batches, rows=None, dtype=None, target=None, features=None, sample_weight=None)\n--\n\n"
     "Rows out of Python. batches is an iterable of batches, of any number of rows, that is gone through anew for each "
     "epoch: a list, a data loader, or a function that returns a new iterator; an iterator itself is good for one epoch, and "
     "more are a ValueError. A batch is (x, y) or (x, y, sample_weight), of anything that Pente takes as an array, where "
     "what has one dimension is one column; the first one, which is looked at now, says how many columns there are and of "
     "which dtype.\n\n"
     "Or a batch is a pyarrow RecordBatch or Table: target names the column, or a list of the columns, of y, sample_weight "
     "its own, and features those of x, which else are all others. Their numbers become dtype; unless it is given, float32 "
     "if that has all that the columns' types can hold, else float64.\n\n"
     "With rows, the number of all of them, batches is a function of the first row's number and of how many are wanted, "
     "which returns a batch of them, or of the first of these: rows can be shuffled all over the data then, and a resumed "
     "fit need not read what is done. Without, they come in their own order, shuffled within the window alone.\n\n"
     "It is gone through on a thread of the fit's, ahead of the training, one call at a time; what it raises comes out of "
     "fit, and fit does not return before a call under way has. One fit at a time; a RuntimeError else.\n\n"
     ">>> def batches():\n"
     "...     for i in range(10):\n"
     "...         x = np.full((4, 3), i / 10, np.float32)\n"
     "...         yield x, x[:, 0]\n"
     ">>> source = pente.BatchSource(batches)\n"
     ">>> source\n"
     "BatchSource(inputs=3, outputs=1, rows=None, dtype='float32', has_sample_weight=False)\n"
     ">>> layer = pente.Linear(3, 1, seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01), pente.MSELoss())\n"
     ">>> trainer.fit(source, epochs=2).epochs\n"
     "2\n"
     ">>> x, y = np.ones((100, 3)), np.ones((100, 1))\n"
     ">>> pente.BatchSource(lambda first, count: (x[first:first + count], y[first:first + count]), rows=100)\n"
     "BatchSource(inputs=3, outputs=1, rows=100, dtype='float64', has_sample_weight=False)"},
    {Py_tp_new, batch_source_new},
    {Py_tp_dealloc, batch_source_dealloc},
    {Py_tp_traverse, batch_source_traverse},
    {Py_tp_clear, batch_source_clear},
    {0, NULL},
};

PyType_Spec batch_source_spec = {
    .name = "pente.BatchSource",
    .basicsize = sizeof(BatchSource),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = batch_source_slots,
};
