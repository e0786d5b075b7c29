/* What libpente calls of a CustomLayer: the way back into Python, and what may come back from there. */
#include "extension.h"

#include <string.h>

static int rank_of(const Custom *self, Py_ssize_t index) {
    return PyBytes_AsString(self->ranks)[index];
}

/* ---- What a callback gets --------------------------------------------------------------------------------------- */

/* Calls a method with copies, which are its own to keep or to change: of the inputs, and of the parameters by name. */
static PyObject *call_method(Custom *self, const char *method, const pente_matrix *const *inputs, Py_ssize_t count,
                             const pente_matrix *parameters) {
    PyObject *arguments = PyTuple_New(count), *keywords = PyDict_New(), *result = NULL;
    int failed = !arguments || !keywords;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        PyObject *copy = matrix_copy(self->base.state, inputs[i], 2);
        failed = !copy || PyTuple_SetItem(arguments, i, copy) < 0;
    }
    for (Py_ssize_t i = 0; !failed && i < PyTuple_Size(self->names); i++) {
        PyObject *copy = matrix_copy(self->base.state, &parameters[i], rank_of(self, i));
        failed = !copy || PyDict_SetItem(keywords, PyTuple_GetItem(self->names, i), copy) < 0;
        Py_XDECREF(copy);
    }
    PyObject *name = failed ? NULL : PyUnicode_InternFromString(method);
    PyObject *callable = name ? PyObject_GetAttr((PyObject *)self, name) : NULL;
    if (callable) result = PyObject_Call(callable, arguments, keywords);
    Py_XDECREF(callable);
    Py_XDECREF(name);
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    return result;
}

/* ---- What it returns -------------------------------------------------------------------------------------------- */

static PyObject *shape_of(const Py_buffer *view) {
    PyObject *shape = PyTuple_New(view->ndim);
    for (int i = 0; shape && i < view->ndim; i++) {
        PyObject *size = PyLong_FromSsize_t(view->shape[i]);
        if (!size || PyTuple_SetItem(shape, i, size) < 0) Py_CLEAR(shape);
    }
    return shape;
}

static PyObject *describe(PyObject *value, const Py_buffer *view) {
    PyObject *text = NULL;
    if (!view->obj) {
        PyObject *type = PyType_GetName(Py_TYPE(value));
        if (type) text = PyUnicode_FromFormat("an object of type %U", type);
        Py_XDECREF(type);
    } else {
        PyObject *dtype = buffer_dtype_text(view, "a buffer of format"), *shape = shape_of(view);
        if (dtype && shape) text = PyUnicode_FromFormat("%U of shape %R", dtype, shape);
        Py_XDECREF(shape);
        Py_XDECREF(dtype);
    }
    return text;
}

/* A method's result, or its gradient of a parameter, is not what was expected. */
static int refuse(PyObject *exception, Custom *self, const char *method, PyObject *parameter, PyObject *value,
                  const Py_buffer *view, const pente_matrix *to, int rank) {
    PyObject *found = describe(value, view);
    PyObject *where = parameter ? PyUnicode_FromFormat(" for '%U'", parameter) : PyUnicode_FromString("");
    PyObject *shape = rank == 1 ? Py_BuildValue("(L)", (long long)to->columns)
                                : Py_BuildValue("(LL)", (long long)to->rows, (long long)to->columns);
    if (found && where && shape)
        PyErr_Format(exception, "%R: %s returned %U%U, but %s of shape %R is expected", self, method, found, where,
                     dtype_name(to->dtype), shape);
    Py_XDECREF(shape);
    Py_XDECREF(where);
    Py_XDECREF(found);
    return -1;
}

/* Acquires what is to be copied to `to`, and checks it. Any strides will do; one row may be 1-D. */
static int accept(Custom *self, const char *method, PyObject *parameter, PyObject *value, const pente_matrix *to,
                  int rank, Py_buffer *view) {
    int missing = view_get(view, value, method);
    if (missing > 0) return refuse(PyExc_TypeError, self, method, parameter, value, view, to, rank);
    if (missing) return -1;
    PyObject *exception = buffer_dtype(view) != to->dtype ? PyExc_TypeError : NULL;
    int fits = view->ndim == 2   ? view->shape[0] == to->rows && view->shape[1] == to->columns
               : view->ndim == 1 ? to->rows == 1 && view->shape[0] == to->columns
                                 : 0;
    if (!exception && !fits) exception = PyExc_ValueError;
    if (!exception) return 0;
    refuse(exception, self, method, parameter, value, view, to, rank);
    PyBuffer_Release(view);
    return -1;
}

static void copy_to(const pente_matrix *to, const Py_buffer *from) {
    const Py_ssize_t item = from->itemsize, size = to->columns * item, *strides = from->strides; /* ctypes gives none */
    Py_ssize_t column_step = strides ? strides[from->ndim - 1] : item;
    Py_ssize_t row_step = from->ndim == 2 && strides ? strides[0] : size;
    for (int64_t i = 0; i < to->rows; i++) {
        char *target = (char *)to->data + i * to->row_stride * item;
        const char *source = (const char *)from->buf + i * row_step;
        if (column_step == item)
            memmove(target, source, size);
        else
            for (int64_t j = 0; j < to->columns; j++) memcpy(target + j * item, source + j * column_step, item);
    }
}

static int copy_result(Custom *self, const char *method, PyObject *result, const pente_matrix *to) {
    Py_buffer view;
    if (accept(self, method, NULL, result, to, 2, &view) < 0) return -1;
    copy_to(to, &view);
    PyBuffer_Release(&view);
    return 0;
}

/* ---- Forward and backward --------------------------------------------------------------------------------------- */

static int run_forward(Custom *self, const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y) {
    PyObject *result = call_method(self, "compute_forward", &x, 1, parameters);
    int failed = !result || copy_result(self, "compute_forward", result, y) < 0;
    Py_XDECREF(result);
    return failed;
}

/* The gradient of parameter `index`, out of the dict. */
static int accept_gradient(Custom *self, PyObject *gradients, Py_ssize_t index, const pente_matrix *to,
                           Py_buffer *view) {
    PyObject *name = PyTuple_GetItem(self->names, index), *value = PyDict_GetItemWithError(gradients, name);
    if (!value) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "%R: compute_backward returned no gradient of '%U'", self, name);
        return -1;
    }
    Py_INCREF(value);
    int failed = accept(self, "compute_backward", name, value, to, rank_of(self, index), view);
    Py_DECREF(value);
    return failed;
}

static int refuse_unexpected(Custom *self, PyObject *gradients) {
    PyObject *names = PyDict_Keys(gradients); /* to compare a name may run code that changes the dict */
    int known = names ? 1 : -1;
    for (Py_ssize_t i = 0; known > 0 && i < PyList_Size(names); i++) {
        PyObject *name = PyList_GetItem(names, i);
        known = PySequence_Contains(self->names, name);
        if (known == 0)
            PyErr_Format(PyExc_ValueError, "%R: compute_backward returned a gradient of %R, which is no parameter",
                         self, name);
    }
    Py_XDECREF(names);
    return known > 0 ? 0 : -1;
}

#define A_PAIR "a tuple of grad_input and a dict of the parameters' gradients"

/* All is checked before the first is copied. */
static int copy_gradients(Custom *self, PyObject *result, const pente_matrix *grad_input, const pente_matrix *to) {
    Py_ssize_t count = PyTuple_Size(self->names), acquired = 0;
    Py_ssize_t length = PyTuple_Check(result) ? PyTuple_Size(result) : -1;
    PyObject *gradients = length == 2 ? PyTuple_GetItem(result, 1) : NULL;
    if (!gradients && length >= 0) {
        PyErr_Format(PyExc_TypeError, "%R: compute_backward returned a tuple of %zd, but " A_PAIR " is expected", self,
                     length);
        return -1;
    }
    if (!gradients || !PyDict_Check(gradients)) {
        PyObject *type = PyType_GetName(Py_TYPE(gradients ? gradients : result));
        if (type)
            PyErr_Format(PyExc_TypeError, "%R: compute_backward returned %s of type %U, but %s is expected", self,
                         gradients ? "gradients" : "an object", type,
                         gradients ? "a dict" : A_PAIR);
        Py_XDECREF(type);
        return -1;
    }
    Py_buffer *views = PyMem_Calloc(count + 1, sizeof *views);
    if (!views) return PyErr_NoMemory(), -1;
    int failed = accept(self, "compute_backward", NULL, PyTuple_GetItem(result, 0), grad_input, 2, &views[0]);
    for (; !failed && acquired < count; acquired += !failed)
        failed = accept_gradient(self, gradients, acquired, &to[acquired], &views[acquired + 1]);
    if (!failed && PyDict_Size(gradients) != count) failed = refuse_unexpected(self, gradients);
    if (!failed) copy_to(grad_input, &views[0]);
    for (Py_ssize_t i = 0; !failed && i < count; i++) copy_to(&to[i], &views[i + 1]);
    for (Py_ssize_t i = 0; i <= acquired; i++) PyBuffer_Release(&views[i]);
    PyMem_Free(views);
    return failed;
}

static int run_backward(Custom *self, const pente_matrix *parameters, const pente_matrix *const inputs[3],
                        const pente_matrix *grad_input, const pente_matrix *gradients) {
    PyObject *result = call_method(self, "compute_backward", inputs, 3, parameters);
    int failed = !result || (PyTuple_Size(self->names) > 0 ? copy_gradients(self, result, grad_input, gradients)
                                                           : copy_result(self, "compute_backward", result, grad_input));
    Py_XDECREF(result);
    return failed;
}

/* How many callbacks of the thread are under way, one within another. Python's own limit is beyond a small thread's
 * stack; this is how deep chains nest. */
static _Thread_local int depth;
enum { DEPTH_LIMIT = 64 };

/* libpente's way in: the GIL may have been let go of. A reference to the object, or NULL and an exception. */
static Custom *enter(const Link *link, int *released) {
    *released = regain_gil();
    depth++;
    if (!link->object)
        PyErr_SetString(PyExc_RuntimeError, "the CustomLayer that is to be called has gone");
    else if (depth > DEPTH_LIMIT)
        PyErr_Format(PyExc_RecursionError, "CustomLayers are called within one another more than %d deep", DEPTH_LIMIT);
    else
        return (Custom *)Py_NewRef(link->object);
    return NULL;
}

static pente_status leave(Custom *self, int failed, int released) {
    Py_XDECREF((PyObject *)self);
    depth--;
    if (released) release_gil(LONG_WORK);
    return failed ? RAISED : PENTE_OK;
}

pente_status custom_forward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                            void *user_data) {
    int released;
    Custom *self = enter(user_data, &released);
    return leave(self, !self || run_forward(self, parameters, x, y), released);
}

pente_status custom_backward(const pente_matrix *parameters, const pente_matrix *x, const pente_matrix *y,
                             const pente_matrix *grad_output, const pente_matrix *grad_input,
                             const pente_matrix *gradients, void *user_data) {
    int released;
    const pente_matrix *const inputs[3] = {x, y, grad_output};
    Custom *self = enter(user_data, &released);
    return leave(self, !self || run_backward(self, parameters, inputs, grad_input, gradients), released);
}
