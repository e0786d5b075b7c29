/* Matrix: results, and views of a layer's parameters. The buffer protocol is all that it is: indexing, tolist and the
 * rest are memoryview's. */
#include "extension.h"

#include <string.h>

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

pente_matrix matrix_of(PyObject *op) {
    const Matrix *self = (Matrix *)op;
    int is_vector = self->ndim == 1;
    Py_ssize_t columns = self->shape[self->ndim - 1];
    Py_ssize_t stride = is_vector ? columns : self->strides[0] / item_size(self->dtype);
    return (pente_matrix){self->data, is_vector ? 1 : self->shape[0], columns, stride, self->dtype};
}

PyObject *matrix_duplicate(PyObject *op) {
    module_state *state = state_of(op);
    pente_matrix matrix = matrix_of(op);
    return state ? matrix_copy(state, &matrix, ((Matrix *)op)->ndim) : NULL;
}

/* Matrix(x): a copy. */
static PyObject *matrix_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"", NULL};
    module_state *state = state_of_type(type);
    PyObject *object;
    Buffer x;
    if (!state || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:Matrix", names, &object) ||
        buffer_get(&x, object, "x", 0, ANYWHERE) < 0)
        return NULL;
    PyObject *copy = matrix_copy(state, &x.matrix, x.view.ndim);
    buffers_release(&x, 1);
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

/* A view of a row, which memoryview has not. */
static PyObject *matrix_row(Matrix *self, PyObject *key) {
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError), rows = self->shape[0];
    module_state *state = state_of((PyObject *)self);
    if (!state || PyErr_Occurred()) return NULL;
    if (i < -rows || i >= rows) return PyErr_Format(PyExc_IndexError, "row %zd of a Matrix of %zd", i, rows);
    void *data = (char *)self->data + (i < 0 ? i + rows : i) * self->strides[0];
    pente_matrix row = {data, 1, self->shape[1], self->shape[1], self->dtype};
    return matrix_view(state, &row, 1, (PyObject *)self);
}

static PyObject *matrix_subscript(PyObject *op, PyObject *key) {
    if (((Matrix *)op)->ndim == 2 && PyIndex_Check(key)) return matrix_row((Matrix *)op, key);
    PyObject *view = PyMemoryView_FromObject(op);
    PyObject *item = view ? PyObject_GetItem(view, key) : NULL;
    Py_XDECREF(view);
    return item;
}

static PyObject *matrix_item(PyObject *op, Py_ssize_t i) {
    PyObject *index = PyLong_FromSsize_t(i);
    PyObject *item = index ? matrix_subscript(op, index) : NULL;
    Py_XDECREF(index);
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

/* ---- Equality, copies ------------------------------------------------------------------------------------------- */

static int same_bits(const Matrix *a, const Matrix *b) {
    if (a->dtype != b->dtype || a->ndim != b->ndim) return 0;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return 0;
    Py_ssize_t rows = a->ndim == 2 ? a->shape[0] : 1, size = a->shape[a->ndim - 1] * item_size(a->dtype);
    for (Py_ssize_t i = 0; i < rows; i++)
        if (memcmp((char *)a->data + i * a->strides[0], (char *)b->data + i * b->strides[0], size) != 0) return 0;
    return 1;
}

static PyObject *matrix_richcompare(PyObject *op, PyObject *other, int operation) {
    if (!can_compare(op, other, operation)) return Py_NewRef(Py_NotImplemented);
    return PyBool_FromLong(same_bits((Matrix *)op, (Matrix *)other) == (operation == Py_EQ));
}

static PyObject *matrix_reduce(PyObject *op, PyObject *protocol) {
    return call_python("pente._objects", "reduce_matrix", "(OO)", op, protocol);
}

static PyObject *matrix_array(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"dtype", "copy", NULL};
    PyObject *dtype = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", names, &dtype, &copy)) return NULL;
    return call_python("pente._objects", "to_array", "(OOO)", op, dtype, copy);
}

static PyObject *matrix_torch_function(PyObject *Py_UNUSED(type), PyObject *args) {
    return call_python("pente._objects", "torch_function", "O", args);
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

/* NumPy's array protocol, version 3. */
static PyObject *matrix_array_interface(PyObject *op, void *Py_UNUSED(closure)) {
    Matrix *self = (Matrix *)op;
    char type[] = {PY_BIG_ENDIAN ? '>' : '<', 'f', '0' + (char)item_size(self->dtype), 0};
    PyObject *shape = matrix_shape(op, NULL), *strides = NULL, *address = PyLong_FromVoidPtr(self->data);
    if (self->ndim == 1)
        strides = Py_BuildValue("(n)", self->strides[0]);
    else
        strides = Py_BuildValue("(nn)", self->strides[0], self->strides[1]);
    if (shape && strides && address)
        return Py_BuildValue("{sisNsss(NO)sN}", "version", 3, "shape", shape, "typestr", type, "data", address,
                             Py_False, "strides", strides);
    Py_XDECREF(address);
    Py_XDECREF(strides);
    Py_XDECREF(shape);
    return NULL;
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
    {"tolist", matrix_tolist, METH_NOARGS,
     "tolist($self)\n--\n\n"
     "The values as a list of floats, or of rows.\n\n"
     ">>> pente.Matrix(np.array([[1.0, 2.0]])).tolist()\n"
     "[[1.0, 2.0]]"},
    {"__dlpack__", KEYWORDS(matrix_dlpack),
     "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "Lends the memory to another array library, as torch.from_dlpack(m) and numpy.from_dlpack(m) ask for it."},
    {"__dlpack_device__", matrix_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self)\n--\n\nThe CPU, to DLPack."},
    {"__array__", KEYWORDS(matrix_array),
     "__array__($self, dtype=None, copy=None)\n--\n\nA NumPy array that shares the memory, unless it is to be a copy."},
    {"__reduce_ex__", matrix_reduce, METH_O, "__reduce_ex__($self, protocol, /)\n--\n\nFor pickle and copy."},
    {"__torch_function__", matrix_torch_function, METH_VARARGS | METH_CLASS,
     "__torch_function__($type, function, types, args=(), kwargs=None, /)\n--\n\n"
     "Calls one of PyTorch's functions with tensors that share the memory, so that torch's load_state_dict takes "
     "state_dict()."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef matrix_getset[] = {
    {"shape", matrix_shape, NULL, "(rows, columns), or (length,) of a vector.", NULL},
    {"dtype", matrix_dtype, NULL, "'float32' or 'float64'.", NULL},
    {"__array_interface__", matrix_array_interface, NULL, "The memory, to NumPy's array protocol.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot matrix_slots[] = {
    {Py_tp_doc, "Matrix(x, /)\n--\n\n"
                "A result, or a view of a layer's parameters, which it keeps alive; Matrix(x) is a copy of x. Other "
                "libraries share its memory: memoryview(m), numpy.asarray(m), torch.from_dlpack(m). m[i, j] reads and "
                "writes an element, m[i] is a view of a row, or an element of a vector. Two are equal if shape, dtype "
                "and all bits are.\n\n"
                ">>> layer = pente.Linear(2, 1, dtype='float64')\n"
                ">>> np.asarray(layer.weight)[:] = [[1, 2]]\n"
                ">>> layer.weight\n"
                "Matrix([[1.0, 2.0]], shape=(1, 2), dtype='float64')\n"
                ">>> layer.weight[0, 1], layer.weight == pente.Matrix(np.array([[1.0, 2.0]]))\n"
                "(2.0, True)"},
    {Py_tp_new, matrix_tp_new},
    {Py_tp_dealloc, matrix_dealloc},
    {Py_tp_traverse, matrix_traverse},
    {Py_tp_repr, matrix_repr},
    {Py_tp_richcompare, matrix_richcompare},
    {Py_tp_methods, matrix_methods},
    {Py_tp_getset, matrix_getset},
    {Py_tp_iter, PySeqIter_New},
    {Py_sq_item, matrix_item},
    {Py_mp_length, matrix_length},
    {Py_mp_subscript, matrix_subscript},
    {Py_mp_ass_subscript, matrix_ass_subscript},
    {Py_bf_getbuffer, matrix_getbuffer},
    {0, NULL},
};

PyType_Spec matrix_spec = {
    .name = "pente.Matrix",
    .basicsize = sizeof(Matrix),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = matrix_slots,
};
