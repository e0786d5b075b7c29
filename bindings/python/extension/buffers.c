/* Objects with the buffer protocol, and other libraries' arrays, as pente's matrices, without a copy; statuses as
 * exceptions. */
#include "extension.h"

#include <string.h>

/* ---- What is refused, and what to do about it ------------------------------------------------------------------- */

static int refuse_object(PyObject *object, const char *name, pente_dtype dtype) {
    PyObject *type = PyType_GetName(Py_TYPE(object));
    if (!type) return -1;
    PyErr_Format(PyExc_TypeError,
                 "%s is of type %U, which has no buffer; give an array.array, a memoryview or a NumPy array, "
                 "as numpy.asarray(%s, numpy.%s) makes it",
                 name, type, name, dtype_name(dtype ? dtype : PENTE_FLOAT32));
    Py_DECREF(type);
    return -1;
}

int refuse_access(const char *name) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback); /* a value may be missing */
    PyErr_Format(PyExc_ValueError, "%s gives no access to its memory: %S", name, value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}

/* The format without its mark for native byte order, if it has one. */
static const char *native_format(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    char native = PY_BIG_ENDIAN ? '>' : '<';
    return *format == '@' || *format == '=' || *format == native ? format + 1 : format;
}

pente_dtype buffer_dtype(const Py_buffer *view) {
    const char *format = native_format(view);
    if (format[0] == 'f' && !format[1] && view->itemsize == sizeof(float)) return PENTE_FLOAT32;
    if (format[0] == 'd' && !format[1] && view->itemsize == sizeof(double)) return PENTE_FLOAT64;
    return 0;
}

static const char *kind_of(const char *format) {
    if (strlen(format) != 1) return NULL;
    if (strchr("efd", *format)) return "float";
    if (strchr("bhilqn", *format)) return "int";
    if (strchr("BHILQN", *format)) return "uint";
    return NULL;
}

static int came_by_dlpack(const Py_buffer *view) {
    return PyCapsule_CheckExact(view->obj);
}

PyObject *buffer_dtype_text(const Py_buffer *view, const char *of_format) {
    if (came_by_dlpack(view) && strlen(view->format) > 1) return PyUnicode_FromString(view->format);
    const char *kind = kind_of(native_format(view));
    return kind ? PyUnicode_FromFormat("%s%zd", kind, 8 * view->itemsize)
                : PyUnicode_FromFormat("%s '%s'", of_format, view->format);
}

static int refuse_dtype(const Py_buffer *view, const char *name, pente_dtype dtype) {
    PyObject *found = buffer_dtype_text(view, "of format");
    if (!found) return -1;
    PyErr_Format(PyExc_TypeError,
                 came_by_dlpack(view) ? "%s is %U, but must be %s; convert it, as with torch's %s.to(torch.%s)"
                                      : "%s is %U, but must be %s; convert it, as with numpy.asarray(%s, numpy.%s)",
                 name, found, dtype ? dtype_name(dtype) : "float32 or float64", name,
                 dtype_name(dtype ? dtype : PENTE_FLOAT32));
    Py_DECREF(found);
    return -1;
}

static int refuse_layout(const Py_buffer *view, const char *name, const char *what) {
    PyErr_Format(PyExc_ValueError,
                 came_by_dlpack(view) ? "%s %s; copy it, as with torch's %s.contiguous()"
                                      : "%s %s; copy it, as with numpy.ascontiguousarray(%s)",
                 name, what, name);
    return -1;
}

/* ---- From buffer to matrix -------------------------------------------------------------------------------------- */

/* 1 or 0, as hasattr; or -1 for what is no answer, as that there is no memory. */
static int has_attribute(PyObject *object, const char *name) {
    PyObject *value = attribute(object, name);
    Py_XDECREF(value);
    if (value) return 1;
    return PyErr_ExceptionMatches(PyExc_AttributeError) ? PyErr_Clear(), 0 : -1;
}

/* NumPy's array of what NumPy can read: a copy, perhaps. 1 if NumPy is not there. */
static int array_get(Py_buffer *view, PyObject *object) {
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (!numpy) return PyErr_ExceptionMatches(PyExc_ImportError) ? PyErr_Clear(), 1 : -1;
    PyObject *asarray = attribute(numpy, "asarray");
    PyObject *array = asarray ? PyObject_CallFunctionObjArgs(asarray, object, NULL) : NULL;
    Py_XDECREF(asarray);
    int failed = array ? PyObject_GetBuffer(array, view, PyBUF_RECORDS_RO) : -1;
    if (failed) view->obj = NULL;
    Py_XDECREF(array);
    Py_DECREF(numpy);
    return failed;
}

int view_get(Py_buffer *view, PyObject *object, const char *name) {
    view->obj = NULL;
    if (PyObject_CheckBuffer(object)) {
        if (PyObject_GetBuffer(object, view, PyBUF_RECORDS_RO) == 0) return 0;
        view->obj = NULL; /* whatever the exporter left */
        int is_refusal = PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_BufferError);
        return is_refusal ? refuse_access(name) : -1;
    }
    int has = has_attribute(object, "__dlpack__");
    if (has) return has < 0 ? -1 : dlpack_get(view, object, name);
    has = has_attribute(object, "__array__");
    if (!has) has = has_attribute(object, "__array_interface__");
    return has > 0 ? array_get(view, object) : has < 0 ? -1 : 1;
}

static int refuse_read_only(Py_buffer *view, const char *name) {
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "%s is read-only, and the result goes there; give one that is writable", name);
    return -1;
}

/* For writing: what NumPy made may be a copy. */
static int acquire_writable(Py_buffer *view, PyObject *object, const char *name, pente_dtype dtype) {
    view->obj = NULL;
    if (!PyObject_CheckBuffer(object)) {
        int has = has_attribute(object, "__dlpack__");
        if (has <= 0) return has < 0 ? -1 : refuse_object(object, name, dtype);
        if (dlpack_get(view, object, name) < 0) return -1;
        return view->readonly ? refuse_read_only(view, name) : 0;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_RECORDS) == 0) return 0;
    if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        return view->obj = NULL, -1;
    PyErr_Clear();
    return view_get(view, object, name) < 0 ? -1 : refuse_read_only(view, name);
}

static int acquire(Py_buffer *view, PyObject *object, const char *name, pente_dtype dtype, int writable) {
    if (writable) return acquire_writable(view, object, name, dtype);
    int missing = view_get(view, object, name);
    return missing > 0 ? refuse_object(object, name, dtype) : missing;
}

/* Rows must be contiguous, and may be any positive distance apart: a block of columns needs no copy. */
static int fill_matrix(pente_matrix *matrix, const Py_buffer *view, const char *name, pente_dtype expected,
                       int flags) {
    int as_column = flags & AS_COLUMN;
    pente_dtype dtype = buffer_dtype(view);
    if (!dtype || (expected && dtype != expected)) return refuse_dtype(view, name, expected);
    if (view->ndim != 1 && view->ndim != 2) {
        PyErr_Format(PyExc_ValueError, "%s has %d dimensions, but a matrix has 2, or 1 if it is one %s", name,
                     view->ndim, as_column ? "column" : "row");
        return -1;
    }
    const Py_ssize_t item = view->itemsize, *shape = view->shape;
    const Py_ssize_t contiguous[2] = {view->ndim == 2 ? shape[1] * item : item, item};
    const Py_ssize_t *strides = view->strides ? view->strides : contiguous; /* ctypes gives none */
    Py_ssize_t rows = 1, columns = 1, row_step = item, column_step = item;
    if (view->ndim == 2) {
        rows = shape[0], row_step = strides[0];
        columns = shape[1], column_step = strides[1];
    } else if (as_column) {
        rows = shape[0], row_step = strides[0];
    } else {
        columns = shape[0], column_step = strides[0];
    }
    *matrix = (pente_matrix){view->buf, rows, columns, columns, dtype};
    if (rows == 0 || columns == 0) return 0; /* libpente's to refuse */
    if (columns > 1 && column_step != item) return refuse_layout(view, name, "has rows that are not contiguous");
    if (rows > 1) {
        if (row_step < columns * item) return refuse_layout(view, name, "has rows that overlap or run backwards");
        if (row_step & (item - 1))
            return refuse_layout(view, name, "has rows that are not a whole number of elements apart");
        matrix->row_stride = row_step >> (dtype == PENTE_FLOAT32 ? 2 : 3); /* a division is slow */
    }
    if (!(flags & ANYWHERE) && (uintptr_t)view->buf & (uintptr_t)(item - 1))
        return refuse_layout(view, name, "is not aligned for its dtype");
    return 0;
}

/* Whether the garbage collector leaves an object as it is while somebody refers to it. What is kept of one that it may
 * clear is kept by a memoryview of our own, and its Py_buffer is given back after the call: a Py_buffer of a memoryview
 * makes CPython before 3.12.7 crash when the garbage collector clears the memoryview first. */
static int is_never_cleared(PyObject *object) {
    return !PyType_GetSlot(Py_TYPE(object), Py_tp_clear);
}

static void set_none(Buffer *buffer) {
    buffer->view.obj = NULL;
    buffer->memory = NULL;
    buffer->matrix.dtype = 0;
}

int buffer_get(Buffer *buffer, PyObject *object, const char *name, pente_dtype dtype, int flags) {
    set_none(buffer);
    buffer->name = name;
    if (flags & KEPT && PyObject_CheckBuffer(object) && !is_never_cleared(object)) {
        object = buffer->memory = PyMemoryView_FromObject(object);
        if (!object) return -1;
    }
    int failed = acquire(&buffer->view, object, name, dtype, flags & WRITABLE);
    if (!failed) failed = fill_matrix(&buffer->matrix, &buffer->view, name, dtype, flags);
    if (failed) buffers_release(buffer, 1);
    return failed;
}

int buffers_get(Buffer buffers[3], PyObject *const objects[3], const char *const names[3], pente_dtype dtype,
                int flags) {
    for (int i = 0; i < 3; i++) {
        if (!objects[i]) {
            set_none(&buffers[i]);
            continue;
        }
        if (buffer_get(&buffers[i], objects[i], names[i], dtype, i == 2 ? flags | AS_COLUMN : flags) < 0) {
            buffers_release(buffers, i);
            return -1;
        }
        dtype = buffers[0].matrix.dtype;
    }
    return 0;
}

void buffers_keep(Buffer *kept, Buffer *fresh, int count) {
    for (int i = 0; i < count; i++) {
        if (fresh[i].memory) PyBuffer_Release(&fresh[i].view);
        Buffer former = kept[i];
        kept[i] = fresh[i];
        fresh[i] = former;
    }
}

void buffers_release(Buffer *buffers, int count) {
    for (int i = 0; i < count; i++) {
        Py_buffer view = buffers[i].view;
        PyObject *memory = buffers[i].memory;
        set_none(&buffers[i]);
        PyBuffer_Release(&view);
        Py_XDECREF(memory);
    }
}

int buffers_traverse(const Buffer *buffers, int count, visitproc visit, void *arg) {
    for (int i = 0; i < count; i++) {
        Py_VISIT(buffers[i].view.obj);
        Py_VISIT(buffers[i].memory);
    }
    return 0;
}

/* ---- From status to exception ----------------------------------------------------------------------------------- */

static PyObject *exception_for(pente_status status) {
    switch (status) {
    case PENTE_INVALID_ARGUMENT:
    case PENTE_INVALID_FILE:
    case PENTE_SHAPE_MISMATCH: return PyExc_ValueError;
    case PENTE_DTYPE_MISMATCH: return PyExc_TypeError;
    case PENTE_OUT_OF_MEMORY: return PyExc_MemoryError;
    case PENTE_NOT_FINITE: return PyExc_FloatingPointError;
    default: return PyExc_RuntimeError;
    }
}

const char *last_message(void) {
    const char *message = pente_last_error();
    const char *colon = strncmp(message, "pente_", 6) == 0 ? strstr(message, ": ") : NULL;
    return colon ? colon + 2 : message;
}

/* `word` at the beginning of the message is Python's out. */
static PyObject *raise_message(pente_status status, const Buffer *buffers, int count, const char *word) {
    if (status == RAISED) return NULL; /* the exception is there */
    PyObject *exception = exception_for(status);
    const char *message = last_message();
    size_t length = strlen(word);
    const char *out = length > 0 && strncmp(message, word, length) == 0 && message[length] == ' ' ? "out" : "";
    if (*out) message += length;
    if (status == PENTE_SHAPE_MISMATCH)
        for (int i = 0; i < count; i++) {
            const Buffer *buffer = &buffers[i];
            if (buffer->view.obj && buffer->view.ndim == 1 && buffer->matrix.rows == 1)
                return PyErr_Format(exception,
                                    "%s%s (%s is 1-D, which is one row; as a column it is %s.reshape(%lld, 1))", out,
                                    message, buffer->name, buffer->name, (long long)buffer->matrix.columns);
        }
    return PyErr_Format(exception, "%s%s", out, message);
}

PyObject *raise_status(pente_status status, const Buffer *buffers, int count) {
    return raise_message(status, buffers, count, "");
}

PyObject *raise_result_status(pente_status status, const Buffer *buffer, const char *word) {
    return raise_message(status, buffer, 1, word);
}
