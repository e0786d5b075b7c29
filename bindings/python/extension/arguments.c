/* Python's arguments to C's, and the two ways out that every file needs: Python code, and "busy". */
#include "extension.h"

#include <string.h>

static Py_ssize_t index_of(PyObject *keyword, const char *const *names) {
    for (Py_ssize_t i = 0; names[i]; i++)
        if (PyUnicode_CompareWithASCIIString(keyword, names[i]) == 0) return i;
    return -1;
}

static int too_many(const char *function, Py_ssize_t count, Py_ssize_t nargs) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", function, count, nargs);
    return -1;
}

static int place_keyword(const char *function, const char *const *names, PyObject *keyword, PyObject *value,
                         PyObject **values) {
    Py_ssize_t i = index_of(keyword, names);
    if (i >= 0 && !values[i]) {
        values[i] = value;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", function,
                 i < 0 ? "an unexpected keyword" : "multiple values for", keyword);
    return -1;
}

/* The arguments are in their places. */
static int check_arguments(const char *function, const char *const *names, Py_ssize_t required, PyObject **values) {
    for (Py_ssize_t i = 0; names[i]; i++) {
        if (i < required && !values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() is missing its argument '%s'", function, names[i]);
            return -1;
        }
        if (i >= required && values[i] == Py_None) values[i] = NULL;
    }
    return 0;
}

int parse_arguments(const char *function, const char *const *names, Py_ssize_t required, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *kwnames, PyObject **values) {
    Py_ssize_t count = 0;
    for (; names[count]; count++) values[count] = count < nargs ? args[count] : NULL;
    if (nargs > count) return too_many(function, count, nargs);
    Py_ssize_t keywords = kwnames ? PyTuple_Size(kwnames) : 0;
    for (Py_ssize_t k = 0; k < keywords; k++)
        if (place_keyword(function, names, PyTuple_GetItem(kwnames, k), args[nargs + k], values) < 0) return -1;
    return check_arguments(function, names, required, values);
}

int parse_call(const char *function, const char *const *names, Py_ssize_t required, PyObject *args, PyObject *kwargs,
               PyObject **values) {
    Py_ssize_t count = 0, nargs = PyTuple_Size(args);
    for (; names[count]; count++) values[count] = count < nargs ? PyTuple_GetItem(args, count) : NULL;
    if (nargs > count) return too_many(function, count, nargs);
    PyObject *keyword, *value;
    for (Py_ssize_t position = 0; kwargs && PyDict_Next(kwargs, &position, &keyword, &value);) {
        if (!PyUnicode_Check(keyword)) {
            PyErr_SetString(PyExc_TypeError, "keywords must be strings");
            return -1;
        }
        if (place_keyword(function, names, keyword, value, values) < 0) return -1;
    }
    return check_arguments(function, names, required, values);
}

/* Says what is wrong in words of our own where Python's are without the argument's name. */
static int refuse_number(PyObject *object, const char *name, const char *kind, const char *range) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(PyExc_ValueError, "%s is %R, but must be %s", name, object, range);
    else if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %R", name, kind, object);
    return -1;
}

int integer_from(PyObject *object, const char *name, int64_t *number) {
    if (!object) return 0;
    PyObject *index = PyNumber_Index(object);
    if (index) *number = PyLong_AsLongLong(index);
    Py_XDECREF(index);
    if (!PyErr_Occurred()) return 0;
    return refuse_number(object, name, "a whole number", "from -2**63 to 2**63 - 1");
}

int float_from(PyObject *object, const char *name, double *number) {
    if (!object) return 0;
    *number = PyFloat_AsDouble(object);
    if (!PyErr_Occurred()) return 0;
    return refuse_number(object, name, "a number", "within a float's range");
}

static int fresh_seed(uint64_t *seed) {
    PyObject *bytes = call_python("os", "urandom", "(n)", (Py_ssize_t)sizeof *seed);
    const char *data = bytes ? PyBytes_AsString(bytes) : NULL;
    if (data) memcpy(seed, data, sizeof *seed);
    Py_XDECREF(bytes);
    return data ? 0 : -1;
}

int seed_from(PyObject *object, uint64_t *seed) {
    if (!object || object == Py_None) return fresh_seed(seed);
    PyObject *number = PyNumber_Index(object);
    if (number) *seed = PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(number);
    if (!PyErr_Occurred()) return 0;
    return refuse_number(object, "seed", "a whole number or None", "from 0 to 2**64 - 1");
}

const char *dtype_name(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? "float32" : "float64";
}

int dtype_converter(PyObject *object, void *dtype) {
    if (PyUnicode_Check(object))
        for (pente_dtype known = PENTE_FLOAT32; known <= PENTE_FLOAT64; known++)
            if (PyUnicode_CompareWithASCIIString(object, dtype_name(known)) == 0) {
                *(pente_dtype *)dtype = known;
                return 1;
            }
    PyErr_Format(PyUnicode_Check(object) ? PyExc_ValueError : PyExc_TypeError,
                 "dtype is 'float32' or 'float64', not %R", object);
    return 0;
}

PyObject *attribute(PyObject *object, const char *name) {
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *value = interned ? PyObject_GetAttr(object, interned) : NULL;
    Py_XDECREF(interned);
    return value;
}

PyObject *dict_item(PyObject *dict, const char *name) {
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *value = interned ? Py_XNewRef(PyDict_GetItemWithError(dict, interned)) : NULL;
    Py_XDECREF(interned);
    return value;
}

PyObject *call_python(const char *module, const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    PyObject *tuple = Py_VaBuildValue(format, arguments);
    va_end(arguments);
    PyObject *imported = tuple ? PyImport_ImportModule(module) : NULL;
    PyObject *callable = imported ? attribute(imported, name) : NULL;
    PyObject *result = callable ? PyObject_CallObject(callable, tuple) : NULL;
    Py_XDECREF(callable);
    Py_XDECREF(imported);
    Py_XDECREF(tuple);
    return result;
}

PyObject *compare_by(PyObject *op, PyObject *other, int operation, const char *name) {
    if (!can_compare(op, other, operation)) return Py_NewRef(Py_NotImplemented);
    PyObject *answer = call_python("pente._objects", name, "(OO)", op, other);
    int equal = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (operation == Py_EQ));
}

PyObject *raise_busy(PyObject *object) {
    PyObject *name = PyType_GetName(Py_TYPE(object));
    if (name) PyErr_Format(PyExc_RuntimeError, "this %U is in use by another call; use one a thread", name);
    Py_XDECREF(name);
    return NULL;
}
