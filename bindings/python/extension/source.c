/* Sources of rows that are not in memory: what they have in common, and those of .npy files. */
#include "extension.h"

#include <errno.h>

/* ---- What all have ---------------------------------------------------------------------------------------------- */

int source_set(Source *self, pente_source *handle) {
    self->source = handle;
    self->info = (pente_source_info)PENTE_SOURCE_INFO_INIT;
    return check(pente_source_get_info(handle, &self->info));
}

static PyObject *source_repr(PyObject *op) {
    const pente_source_info *info = &((Source *)op)->info;
    PyObject *name = PyType_GetName(Py_TYPE(op)), *rows = attribute(op, "rows"), *text = NULL;
    if (name && rows)
        text = PyUnicode_FromFormat("%U(inputs=%lld, outputs=%lld, rows=%R, dtype='%s', has_sample_weight=%s)", name,
                                    (long long)info->inputs, (long long)info->outputs, rows, dtype_name(info->dtype),
                                    info->has_sample_weight ? "True" : "False");
    Py_XDECREF(rows);
    Py_XDECREF(name);
    return text;
}

static PyObject *source_inputs(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(((Source *)op)->info.inputs);
}

static PyObject *source_outputs(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(((Source *)op)->info.outputs);
}

static PyObject *source_rows(PyObject *op, void *Py_UNUSED(closure)) {
    int64_t rows = ((Source *)op)->info.rows;
    return rows < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(rows);
}

static PyObject *source_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(dtype_name(((Source *)op)->info.dtype));
}

static PyObject *source_has_sample_weight(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(((Source *)op)->info.has_sample_weight);
}

static PyGetSetDef source_getset[] = {
    {"inputs", source_inputs, NULL, "The columns of x.", NULL},
    {"outputs", source_outputs, NULL, "The columns of y.", NULL},
    {"rows", source_rows, NULL, "How many rows there are; None: whoever reads to the end knows.", NULL},
    {"dtype", source_dtype, NULL, "'float32' or 'float64': that of the layer that is to be trained.", NULL},
    {"has_sample_weight", source_has_sample_weight, NULL, "Whether the rows have sample weights.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot source_slots[] = {
    {Py_tp_doc, "Rows that are not in memory, for Trainer.fit in place of x and y: an NPYSource or a BatchSource. One fit "
                "at a time has it; a RuntimeError else.\n\n"
                ">>> np.save('x.npy', np.ones((8, 3), np.float32))\n"
                ">>> np.save('y.npy', np.ones((8, 1), np.float32))\n"
                ">>> source = pente.NPYSource('x.npy', 'y.npy')\n"
                ">>> isinstance(source, pente.DataSource), source.inputs, source.outputs, source.rows, source.dtype\n"
                "(True, 3, 1, 8, 'float32')"},
    {Py_tp_repr, source_repr},
    {Py_tp_getset, source_getset},
    {0, NULL},
};

PyType_Spec source_spec = {
    .name = "pente.DataSource",
    .basicsize = sizeof(Source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = source_slots,
};

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* The paths of an argument: bytes objects, and where they begin. */
typedef struct {
    PyObject *bytes; /* a list */
    const char **starts;
    Py_ssize_t count;
} Paths;

static int paths_add(Paths *paths, PyObject *path) {
    PyObject *bytes = NULL;
    if (!PyUnicode_FSConverter(path, &bytes)) return -1;
    int failed = PyList_Append(paths->bytes, bytes);
    Py_DECREF(bytes);
    return failed;
}

static int is_path(PyObject *object) {
    if (PyUnicode_Check(object) || PyBytes_Check(object)) return 1;
    PyObject *method = attribute((PyObject *)Py_TYPE(object), "__fspath__");
    if (!method) PyErr_Clear();
    Py_XDECREF(method);
    return method != NULL;
}

/* One path, or an iterable of them. NULL: none. */
static int paths_get(Paths *paths, PyObject *object, const char *name) {
    *paths = (Paths){PyList_New(0), NULL, 0};
    if (!paths->bytes) return -1;
    if (object && is_path(object)) {
        if (paths_add(paths, object) < 0) return -1;
    } else if (object) {
        PyObject *iterator = PyObject_GetIter(object), *path;
        if (!iterator) {
            if (PyErr_ExceptionMatches(PyExc_TypeError))
                PyErr_Format(PyExc_TypeError, "%s must be a path or a list of paths, not %R", name, object);
            return -1;
        }
        while ((path = PyIter_Next(iterator))) {
            int failed = paths_add(paths, path);
            Py_DECREF(path);
            if (failed) break;
        }
        Py_DECREF(iterator);
        if (PyErr_Occurred()) return -1;
    }
    paths->count = PyList_Size(paths->bytes);
    if (object && paths->count == 0) return PyErr_Format(PyExc_ValueError, "%s is a list of no paths", name), -1;
    paths->starts = PyMem_Calloc(paths->count + 1, sizeof *paths->starts);
    if (!paths->starts) return PyErr_NoMemory(), -1;
    for (Py_ssize_t i = 0; i < paths->count; i++) paths->starts[i] = PyBytes_AsString(PyList_GetItem(paths->bytes, i));
    return 0;
}

static void paths_release(Paths *paths, int count) {
    for (int i = 0; i < count; i++) {
        Py_XDECREF(paths[i].bytes);
        PyMem_Free(paths[i].starts);
    }
}

PyObject *raise_system_error(int error) {
    PyObject *exception = PyObject_CallFunction(PyExc_OSError, "is", error, last_message());
    if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    return NULL;
}

static PyObject *npy_source_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static const char *const names[] = {"x", "y", "sample_weight", NULL};
    PyObject *values[3];
    Paths paths[3] = {{NULL, NULL, 0}};
    if (parse_call("NPYSource", names, 2, args, kwargs, values) < 0) return NULL;
    int failed = 0;
    for (int i = 0; !failed && i < 3; i++) failed = paths_get(&paths[i], values[i], names[i]);
    PyObject *self = NULL;
    if (!failed) {
        pente_source *handle = NULL;
        release_gil(LONG_WORK);
        pente_status status =
            pente_npy_source_new(paths[0].starts, paths[0].count, paths[1].starts, paths[1].count, paths[2].starts,
                                 paths[2].count, &handle);
        int error = errno;
        regain_gil();
        if (status == PENTE_FILE_ERROR)
            raise_system_error(error);
        else if (status != PENTE_OK) /* what is in a file is a value, also where its dtype is wrong */
            raise_status(status == PENTE_DTYPE_MISMATCH ? PENTE_INVALID_FILE : status, NULL, 0);
        else
            self = PyType_GenericAlloc(type, 0);
        if (self && source_set((Source *)self, handle) < 0) Py_CLEAR(self);
        else if (!self) pente_source_free(handle);
    }
    paths_release(paths, 3);
    return self;
}

static void npy_source_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    pente_source_free(((Source *)op)->source);
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyType_Slot npy_source_slots[] = {
    {Py_tp_doc,
     "NPYSource(x, y, sample_weight=None)\n--\n\n"
     "The rows of NumPy's .npy files: x of (rows, inputs), y of (rows, outputs), sample_weight of one number a row; all of "
     "float32 or all of float64, in C order; what has one dimension is one column. Each is a path or a list of paths, whose "
     "rows follow one another, and need not be cut at the same rows. They are opened and looked at now, and read as a fit "
     "goes on. An OSError if a file cannot be opened, a ValueError if it is no such array or is not as long as it says, or "
     "the numbers of rows differ; all name the file.\n\n"
     ">>> np.save('x.npy', np.arange(12, dtype=np.float32).reshape(6, 2))\n"
     ">>> np.save('y-1.npy', np.arange(4, dtype=np.float32))\n"
     ">>> np.save('y-2.npy', np.arange(4, 6, dtype=np.float32))\n"
     ">>> source = pente.NPYSource('x.npy', ['y-1.npy', 'y-2.npy'])\n"
     ">>> source\n"
     "NPYSource(inputs=2, outputs=1, rows=6, dtype='float32', has_sample_weight=False)\n"
     ">>> layer = pente.Linear(2, 1, seed=0)\n"
     ">>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01), pente.MSELoss())\n"
     ">>> trainer.fit(source, epochs=2).epochs\n"
     "2"},
    {Py_tp_new, npy_source_new},
    {Py_tp_dealloc, npy_source_dealloc},
    {0, NULL},
};

PyType_Spec npy_source_spec = {
    .name = "pente.NPYSource",
    .basicsize = sizeof(Source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = npy_source_slots,
};
