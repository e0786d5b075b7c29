/* Matrix: results, and views of a layer's parameters. The buffer protocol is all that it is: indexing, tolist and the
 * rest are memoryview's. */
#include "extension.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    void *data;
    PyObject *owner; /* of the data; NULL: it is our own */
    pente_dtype dtype;
    int ndim;
    Py_ssize_t shape[2]; /* a vector's first and only dimension is shape[0] */
    Py_ssize_t strides[2];
} Matrix;

static Py_ssize_t item_size(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? sizeof(float) : sizeof(double);
}

/* ---- Making them ------------------------------------------------------------------------------------------------ */

PyObject *matrix_view(module_state *state, const pente_matrix *matrix, int ndim, PyObject *owner) {
    Matrix *self = (Matrix *)PyType_GenericAlloc(state->types[MATRIX_TYPE], 0);
    if (!self) return NULL;
    Py_ssize_t item = item_size(matrix->dtype);
    Py_ssize_t shape[2] = {matrix->rows, matrix->columns}, strides[2] = {matrix->row_stride * item, item};
    for (int i = 0; i < ndim; i++) {
        self->shape[i] = shape[2 - ndim + i];
        self->strides[i] = strides[2 - ndim + i];
    }
    self->data = matrix->data;
    self->owner = Py_XNewRef(owner);
    self->dtype = matrix->dtype;
    self->ndim = ndim;
    return (PyObject *)self;
}

PyObject *matrix_new(module_state *state, pente_dtype dtype, int64_t rows, int64_t columns, int ndim) {
    Py_ssize_t item = item_size(dtype);
    if (columns > 0 && rows > PY_SSIZE_T_MAX / item / columns) return PyErr_NoMemory();
    pente_matrix matrix = {PyMem_Malloc(rows * columns * item), rows, columns, columns, dtype};
    if (!matrix.data) return PyErr_NoMemory();
    PyObject *self = matrix_view(state, &matrix, ndim, NULL);
    if (!self) PyMem_Free(matrix.data);
    return self;
}

PyObject *matrix_copy(module_state *state, const pente_matrix *matrix, int ndim) {
    PyObject *copy = matrix_new(state, matrix->dtype, matrix->rows, matrix->columns, ndim);
    Py_ssize_t item = item_size(matrix->dtype), size = matrix->columns * item;
    for (int64_t i = 0; copy && i < matrix->rows; i++)
        memcpy((char *)((Matrix *)copy)->data + i * size, (char *)matrix->data + i * matrix->row_stride * item, size);
    return copy;
}

PyObject *result_get(module_state *state, PyObject *out, pente_dtype dtype, int64_t rows, int64_t columns,
                     Buffer *buffer) {
    if (out) return buffer_get(buffer, out, "out", dtype, WRITABLE) < 0 ? NULL : Py_NewRef(out);
    PyObject *result = matrix_new(state, dtype, rows, columns, 2);
    if (result) buffer->matrix = (pente_matrix){((Matrix *)result)->data, rows, columns, columns, dtype};
    return result;
}

/* There is no tp_clear, as with a tuple: the data must not go while somebody can still ask for it, and whatever cycle
 * a view is part of leads through its layer, which can break it. */
static int matrix_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Matrix *)op)->owner);
    return 0;
}

static void matrix_dealloc(PyObject *op) {
    Matrix *self = (Matrix *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->owner)
        Py_DECREF(self->owner);
    else
        PyMem_Free(self->data);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

/* ---- The buffer protocol ---------------------------------------------------------------------------------------- */

static int matrix_getbuffer(PyObject *op, Py_buffer *view, int flags) {
    Matrix *self = (Matrix *)op;
    Py_ssize_t item = item_size(self->dtype), count = 1;
    for (int i = 0; i < self->ndim; i++) count *= self->shape[i];
    *view = (Py_buffer){
        .buf = self->data,
        .len = count * item,
        .itemsize = item,
        .ndim = self->ndim,
        .format = self->dtype == PENTE_FLOAT32 ? "f" : "d",
        .shape = self->shape,
        .strides = self->strides,
    };
    int strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    int wants_c = !strided || (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS;
    int wants_f = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS;
    int wants_any = (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
    if ((wants_c && !PyBuffer_IsContiguous(view, 'C')) || (wants_f && !PyBuffer_IsContiguous(view, 'F')) ||
        (wants_any && !PyBuffer_IsContiguous(view, 'A'))) {
        PyErr_SetString(PyExc_BufferError, "this Matrix is not contiguous in the order that is asked for");
        return -1;
    }
    if (!strided) view->strides = NULL;
    if (!(flags & PyBUF_ND)) {
        view->shape = NULL;
        view->ndim = 1;
    }
    if (!(flags & PyBUF_FORMAT)) view->format = NULL;
    view->obj = Py_NewRef(op);
    return 0;
}

static Py_ssize_t matrix_length(PyObject *op) {
    return ((Matrix *)op)->shape[0];
}

static PyObject *matrix_subscript(PyObject *op, PyObject *key) {
    PyObject *view = PyMemoryView_FromObject(op);
    PyObject *item = view ? PyObject_GetItem(view, key) : NULL;
    Py_XDECREF(view);
    return item;
}

static int matrix_ass_subscript(PyObject *op, PyObject *key, PyObject *value) {
    PyObject *view = PyMemoryView_FromObject(op);
    if (!view) return -1;
    int failed = value ? PyObject_SetItem(view, key, value) : PyObject_DelItem(view, key);
    Py_DECREF(view);
    return failed;
}

static PyObject *matrix_tolist(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    PyObject *view = PyMemoryView_FromObject(op);
    PyObject *tolist = view ? PyUnicode_InternFromString("tolist") : NULL;
    PyObject *list = tolist ? PyObject_CallMethodObjArgs(view, tolist, NULL) : NULL;
    Py_XDECREF(tolist);
    Py_XDECREF(view);
    return list;
}

/* ---- The rest --------------------------------------------------------------------------------------------------- */

static PyObject *matrix_shape(PyObject *op, void *Py_UNUSED(closure)) {
    Matrix *self = (Matrix *)op;
    return self->ndim == 1 ? Py_BuildValue("(n)", self->shape[0])
                           : Py_BuildValue("(nn)", self->shape[0], self->shape[1]);
}

static PyObject *matrix_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(dtype_name(((Matrix *)op)->dtype));
}

enum { REPR_LIMIT = 16 }; /* elements; a larger matrix shows its shape alone */

static PyObject *matrix_repr(PyObject *op) {
    Matrix *self = (Matrix *)op;
    Py_ssize_t count = self->ndim == 1 ? self->shape[0] : self->shape[0] * self->shape[1];
    const char *dtype = dtype_name(self->dtype);
    PyObject *text = NULL;
    PyObject *shape = matrix_shape(op, NULL);
    PyObject *values = shape && count <= REPR_LIMIT ? matrix_tolist(op, NULL) : NULL;
    if (values)
        text = PyUnicode_FromFormat("Matrix(%R, shape=%R, dtype='%s')", values, shape, dtype);
    else if (shape && count > REPR_LIMIT)
        text = PyUnicode_FromFormat("Matrix(shape=%R, dtype='%s')", shape, dtype);
    Py_XDECREF(values);
    Py_XDECREF(shape);
    return text;
}

static PyMethodDef matrix_methods[] = {
    {"tolist", matrix_tolist, METH_NOARGS, "tolist($self)\n--\n\nThe values as lists of floats."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef matrix_getset[] = {
    {"shape", matrix_shape, NULL, "(rows, columns), or (length,) of a vector.", NULL},
    {"dtype", matrix_dtype, NULL, "'float32' or 'float64'.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot matrix_slots[] = {
    {Py_tp_doc, "A result, or a view of a layer's parameters, which it keeps alive. It has the buffer protocol: \n"
                "numpy.asarray(m) and memoryview(m) share its memory. m[i, j] reads and writes an element."},
    {Py_tp_dealloc, matrix_dealloc},
    {Py_tp_traverse, matrix_traverse},
    {Py_tp_repr, matrix_repr},
    {Py_tp_methods, matrix_methods},
    {Py_tp_getset, matrix_getset},
    {Py_mp_length, matrix_length},
    {Py_mp_subscript, matrix_subscript},
    {Py_mp_ass_subscript, matrix_ass_subscript},
    {Py_bf_getbuffer, matrix_getbuffer},
    {0, NULL},
};

PyType_Spec matrix_spec = {
    .name = "pente.Matrix",
    .basicsize = sizeof(Matrix),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = matrix_slots,
};
