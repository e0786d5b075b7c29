/* The parameters of a layer by their names: views, copies, and all of them at once. */
#include "extension.h"

#include <sched.h>

/* The longest name of a parameter: in chains nested 64 deep, before each dot an index. */
enum { NAME_CAPACITY = 64 * 20 + 64 };

/* ---- One parameter ---------------------------------------------------------------------------------------------- */

static int get_parameter(const Layer *self, int64_t index, char name[NAME_CAPACITY], pente_parameter_info *info) {
    *info = (pente_parameter_info)PENTE_PARAMETER_INFO_INIT;
    return check(pente_layer_parameter_name(self->layer, index, name, NAME_CAPACITY)) < 0 ||
                   check(pente_layer_get_parameter_info(self->layer, index, info)) < 0
               ? -1
               : 0;
}

static PyObject *copy_of(Layer *self, const char *name, const pente_parameter_info *info) {
    PyObject *copy = matrix_new(self->state, self->info.dtype, info->rows, info->columns, info->rank);
    if (!copy) return NULL;
    pente_matrix matrix = matrix_of(copy);
    if (check(pente_layer_get_parameter(self->layer, name, &matrix)) < 0) Py_CLEAR(copy);
    return copy;
}

static PyObject *view_of(Layer *self, const char *name, const pente_parameter_info *info) {
    pente_matrix view;
    if (check(pente_layer_parameter_view(self->layer, name, &view)) < 0) return NULL;
    return matrix_view(self->state, &view, info->rank, (PyObject *)self);
}

static PyObject *gradient_of(Layer *self, const char *name, const pente_parameter_info *info) {
    pente_matrix view;
    if (check(pente_layer_gradient_view(self->layer, name, &view)) < 0) return NULL;
    return matrix_view(self->state, &view, info->rank, (PyObject *)self);
}

PyObject *layer_view(PyObject *op, void *closure) {
    Layer *self = (Layer *)op;
    const parameter_view *parameter = closure;
    pente_matrix view;
    if (check(parameter->view(self->layer, parameter->name, &view)) < 0) return NULL;
    return matrix_view(self->state, &view, parameter->ndim, op);
}

/* ---- All of them ------------------------------------------------------------------------------------------------ */

/* A dict of what `make` gives for each parameter. */
static PyObject *dict_of(PyObject *op, PyObject *(*make)(Layer *, const char *, const pente_parameter_info *)) {
    Layer *self = layer_ready(op);
    PyObject *dict = self ? PyDict_New() : NULL;
    for (int64_t i = 0; dict && i < self->info.parameter_count; i++) {
        char name[NAME_CAPACITY];
        pente_parameter_info info;
        PyObject *value = get_parameter(self, i, name, &info) < 0 ? NULL : make(self, name, &info);
        if (!value || PyDict_SetItemString(dict, name, value) < 0) Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

PyObject *layer_parameters(PyObject *op, void *Py_UNUSED(closure)) {
    return dict_of(op, view_of);
}

PyObject *layer_gradients(PyObject *op, void *Py_UNUSED(closure)) {
    return dict_of(op, gradient_of);
}

const char state_dict_doc[] =
    "state_dict($self)\n--\n\n"
    "Copies of the parameters by name, as 'weight' or, in a chain, '0.weight': torch's names and shapes, and torch's "
    "load_state_dict takes it.\n\n"
    ">>> {name: value.shape for name, value in pente.Linear(3, 2).state_dict().items()}\n"
    "{'weight': (2, 3), 'bias': (2,)}";

PyObject *layer_state_dict(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return dict_of(op, copy_of);
}

/* ---- Setting them ----------------------------------------------------------------------------------------------- */

/* A parameter's new value, checked and copied: what was given may be a view of a parameter that is set before. */
typedef struct {
    PyObject *name;
    Buffer value;
} replacement;

static int take_copy(const Layer *self, Buffer *value) {
    PyObject *copy = matrix_copy(self->state, &value->matrix, 2);
    buffers_release(value, 1);
    int failed = !copy || buffer_get(value, copy, "value", self->info.dtype, 0) < 0;
    Py_XDECREF(copy);
    return failed ? -1 : 0;
}

/* Finds the parameter in `state`, and checks all of it that could be refused. */
static int find_replacement(const Layer *self, PyObject *state, int64_t index, replacement *found) {
    char name[NAME_CAPACITY];
    pente_parameter_info info;
    if (get_parameter(self, index, name, &info) < 0) return -1;
    found->name = PyUnicode_FromString(name);
    const char *text = found->name ? PyUnicode_AsUTF8AndSize(found->name, NULL) : NULL; /* lives as long as the name */
    if (!text) return -1;
    PyObject *value = PyDict_GetItemWithError(state, found->name);
    if (!value) {
        if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "the state has no '%U'", found->name);
        return -1;
    }
    Py_INCREF(value);
    int failed = buffer_get(&found->value, value, text, self->info.dtype, 0);
    Py_DECREF(value);
    const pente_matrix *matrix = &found->value.matrix;
    if (failed) return -1;
    if (matrix->rows == info.rows && matrix->columns == info.columns) return take_copy(self, &found->value);
    PyErr_Format(PyExc_ValueError, "%U is %lld by %lld, but the layer's is %lld by %lld", found->name,
                 (long long)matrix->rows, (long long)matrix->columns, (long long)info.rows, (long long)info.columns);
    return -1;
}

static int refuse_unexpected(PyObject *op, PyObject *state, const replacement *known, int64_t count) {
    PyObject *name;
    for (Py_ssize_t position = 0; PyDict_Next(state, &position, &name, NULL);) {
        int64_t i = 0;
        while (i < count && !(PyUnicode_Check(name) && PyUnicode_Compare(name, known[i].name) == 0)) i++;
        if (i < count) continue;
        PyObject *type = PyType_GetName(Py_TYPE(op));
        if (type) PyErr_Format(PyExc_ValueError, "the state's %R is no parameter of this %U", name, type);
        Py_XDECREF(type);
        return -1;
    }
    return 0;
}

/* A call of another thread that has let go of the GIL can begin between one parameter and the next, which then waits
 * for its end. It is no call of our own: the first parameter was free, and with it the whole layer. Ctrl-C ends the
 * waiting. */
static pente_status set_after_others(const Layer *self, const char *name, const pente_matrix *value) {
    pente_status status;
    while ((status = pente_layer_set_parameter(self->layer, name, value)) == PENTE_BUSY) {
        if (PyErr_CheckSignals() < 0) return RAISED;
        Py_BEGIN_ALLOW_THREADS
        sched_yield();
        Py_END_ALLOW_THREADS
    }
    return status;
}

/* All is checked before the first parameter is set, which is refused where the layer is in use. */
static int replace(Layer *self, PyObject *state, replacement *replacements, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (find_replacement(self, state, i, &replacements[i]) < 0) return -1;
    if (PyDict_Size(state) != count && refuse_unexpected((PyObject *)self, state, replacements, count) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        const char *name = PyUnicode_AsUTF8AndSize(replacements[i].name, NULL);
        if (!name) return -1;
        const pente_matrix *value = &replacements[i].value.matrix;
        if (check(i == 0 ? pente_layer_set_parameter(self->layer, name, value)
                         : set_after_others(self, name, value)) < 0)
            return -1;
    }
    return 0;
}

const char load_state_dict_doc[] =
    "load_state_dict($self, state, /)\n--\n\n"
    "Sets the parameters from a mapping of names to arrays, such as torch's state_dict(), all of them or, on an error, "
    "none: a ValueError if a name or shape is not the layer's, a TypeError if a dtype is not. One parameter comes after "
    "another: a thread that predicts meanwhile may see some that are new and some that are not.\n\n"
    ">>> layer, other = pente.Linear(3, 2, seed=0), pente.Linear(3, 2, seed=1)\n"
    ">>> layer.load_state_dict(other.state_dict())\n"
    ">>> layer == other\n"
    "True";

PyObject *layer_load_state_dict(PyObject *op, PyObject *mapping) {
    Layer *self = layer_ready(op);
    PyObject *state = self ? PyObject_CallFunctionObjArgs((PyObject *)&PyDict_Type, mapping, NULL) : NULL;
    if (!state) return NULL;
    int64_t count = self->info.parameter_count;
    replacement *replacements = PyMem_Calloc(count + 1, sizeof *replacements);
    int failed = replacements ? replace(self, state, replacements, count) : (PyErr_NoMemory(), -1);
    for (int64_t i = 0; replacements && i < count; i++) {
        buffers_release(&replacements[i].value, 1);
        Py_XDECREF(replacements[i].name);
    }
    PyMem_Free(replacements);
    Py_DECREF(state);
    if (failed) return NULL;
    return Py_NewRef(Py_None);
}
