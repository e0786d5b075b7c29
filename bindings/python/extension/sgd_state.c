/* SGD's state as torch.optim.SGD's: a dict of "state", the momentum buffers by the parameters' numbers, and
 * "param_groups", the groups' options with the numbers of their parameters; and our "step_count" beside them. */
#include "extension.h"

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static pente_dtype dtype_of(const SGD *self) {
    return ((Layer *)PyTuple_GetItem(PyTuple_GetItem(self->layers, 0), 0))->info.dtype;
}

static PyObject *momentum_buffer(SGD *self, int64_t index, const pente_sgd_parameter_info *info) {
    module_state *state = state_of((PyObject *)self);
    PyObject *copy = state ? matrix_new(state, dtype_of(self), info->rows, info->columns, info->rank) : NULL;
    if (!copy) return NULL;
    pente_matrix matrix = matrix_of(copy);
    if (check(pente_sgd_get_momentum_buffer(self->sgd, index, &matrix)) < 0) Py_CLEAR(copy);
    return copy;
}

/* Adds the parameter to its group's "params", and its buffer, if it has one, to `buffers`. */
static int add_parameter(SGD *self, int64_t index, PyObject *groups, PyObject *buffers) {
    pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
    if (check(pente_sgd_get_parameter_info(self->sgd, index, &info)) < 0) return -1;
    PyObject *number = PyLong_FromLongLong(index);
    PyObject *params = number ? dict_item(PyList_GetItem(groups, info.group), "params") : NULL;
    int failed = !params || PyList_Append(params, number) < 0;
    if (!failed && info.has_momentum_buffer) {
        PyObject *buffer = momentum_buffer(self, index, &info);
        PyObject *entry = buffer ? Py_BuildValue("{sO}", "momentum_buffer", buffer) : NULL;
        failed = !entry || PyDict_SetItem(buffers, number, entry) < 0;
        Py_XDECREF(entry);
        Py_XDECREF(buffer);
    }
    Py_XDECREF(params);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

PyObject *sgd_state_dict(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    SGD *self = (SGD *)op;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    if (check(pente_sgd_get_info(self->sgd, &info)) < 0) return NULL;
    PyObject *groups = sgd_groups(op, NULL), *buffers = PyDict_New(), *state = NULL;
    int failed = !groups || !buffers;
    for (int64_t i = 0; !failed && i < info.group_count; i++) {
        PyObject *params = PyList_New(0);
        failed = !params || PyDict_SetItemString(PyList_GetItem(groups, i), "params", params) < 0;
        Py_XDECREF(params);
    }
    for (int64_t i = 0; !failed && i < info.parameter_count; i++) failed = add_parameter(self, i, groups, buffers);
    if (!failed)
        state = Py_BuildValue("{sOsOsL}", "state", buffers, "param_groups", groups, "step_count",
                              (long long)info.step_count);
    Py_XDECREF(buffers);
    Py_XDECREF(groups);
    return state;
}

/* ---- Setting ---------------------------------------------------------------------------------------------------- */

/* All that pente_sgd_set_state takes; each array has room for one more. */
typedef struct {
    pente_sgd_info info; /* how many groups and parameters there are, and the new step count */
    pente_sgd_options *options;
    Buffer *buffers;
    const pente_matrix **there; /* NULL: no buffer */
    int64_t found;              /* of the parameters */
} new_state;

/* A copy of a dict's value that is a dict, or of an object of its like. */
static PyObject *dict_from(PyObject *object) {
    return PyObject_CallFunctionObjArgs((PyObject *)&PyDict_Type, object, NULL);
}

/* A new reference to what the dict must have. */
static PyObject *required(PyObject *dict, const char *name, const char *of) {
    PyObject *value = dict_item(dict, name);
    if (!value && !PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "%s has no '%s'", of, name);
    return value;
}

/* The parameter's buffer, from the entry that the state has for its number; without either there is none. */
static int take_buffer(const SGD *self, PyObject *entries, PyObject *number, new_state *new) {
    Buffer *buffer = &new->buffers[new->found];
    PyObject *entry = PyDict_GetItemWithError(entries, number);
    if (!entry) return PyErr_Occurred() ? -1 : (new->found++, 0);
    PyObject *dict = dict_from(entry);
    PyObject *value = dict ? dict_item(dict, "momentum_buffer") : NULL;
    int failed = !value && PyErr_Occurred();
    if (value && value != Py_None) {
        failed = buffer_get(buffer, value, "momentum_buffer", dtype_of(self), 0) < 0;
        new->there[new->found] = buffer_matrix(buffer);
    }
    Py_XDECREF(value);
    Py_XDECREF(dict);
    new->found += !failed;
    return failed ? -1 : 0;
}

/* How many parameters the group has. */
static int count_parameters(const SGD *self, const new_state *new, int64_t group, Py_ssize_t *count) {
    *count = 0;
    for (int64_t i = 0; i < new->info.parameter_count; i++) {
        pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
        if (check(pente_sgd_get_parameter_info(self->sgd, i, &info)) < 0) return -1;
        *count += info.group == group;
    }
    return 0;
}

static int take_params(const SGD *self, PyObject *entries, PyObject *params, int64_t group, new_state *new) {
    Py_ssize_t count, given = PyTuple_Size(params);
    if (count_parameters(self, new, group, &count) < 0) return -1;
    if (given != count) {
        PyErr_Format(PyExc_ValueError, "param_groups[%lld] has %zd params, but the optimizer's group has %zd",
                     (long long)group, given, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (take_buffer(self, entries, PyTuple_GetItem(params, i), new) < 0) return -1;
    return 0;
}

static int take_group(const SGD *self, PyObject *entries, PyObject *group, int64_t index, new_state *new) {
    char name[64];
    PyOS_snprintf(name, sizeof name, "param_groups[%lld]", (long long)index);
    PyObject *dict = dict_from(group);
    PyObject *given = dict && sgd_take_options(dict, name, &new->options[index]) == 0 ? required(dict, "params", name)
                                                                                     : NULL;
    PyObject *params = given ? PySequence_Tuple(given) : NULL;
    int failed = params ? take_params(self, entries, params, index, new) : -1;
    Py_XDECREF(params);
    Py_XDECREF(given);
    Py_XDECREF(dict);
    return failed;
}

static int take_groups(const SGD *self, PyObject *state, PyObject *entries, new_state *new) {
    PyObject *given = required(state, "param_groups", "the state");
    PyObject *groups = given ? PySequence_Tuple(given) : NULL;
    int failed = groups ? 0 : -1;
    if (groups && PyTuple_Size(groups) != new->info.group_count) {
        PyErr_Format(PyExc_ValueError, "the state has %zd param_groups, but the optimizer has %lld",
                     PyTuple_Size(groups), (long long)new->info.group_count);
        failed = -1;
    }
    for (int64_t i = 0; !failed && i < new->info.group_count; i++)
        failed = take_group(self, entries, PyTuple_GetItem(groups, i), i, new);
    Py_XDECREF(groups);
    Py_XDECREF(given);
    return failed;
}

static int take_state(const SGD *self, PyObject *state, new_state *new) {
    PyObject *given = required(state, "state", "the state"), *entries = given ? dict_from(given) : NULL;
    PyObject *step_count = entries ? dict_item(state, "step_count") : NULL;
    int failed = (!step_count && PyErr_Occurred()) || integer_from(step_count, "step_count", &new->info.step_count) < 0
                     ? -1
                     : take_groups(self, state, entries, new);
    Py_XDECREF(step_count);
    Py_XDECREF(entries);
    Py_XDECREF(given);
    return failed;
}

PyObject *sgd_load_state_dict(PyObject *op, PyObject *mapping) {
    SGD *self = (SGD *)op;
    new_state new = {.info = PENTE_SGD_INFO_INIT};
    if (check(pente_sgd_get_info(self->sgd, &new.info)) < 0) return NULL;
    PyObject *state = dict_from(mapping);
    if (!state) return NULL;
    new.options = PyMem_Calloc(new.info.group_count + 1, sizeof *new.options);
    new.buffers = PyMem_Calloc(new.info.parameter_count + 1, sizeof *new.buffers);
    new.there = PyMem_Calloc(new.info.parameter_count + 1, sizeof *new.there);
    int failed = new.options && new.buffers && new.there ? take_state(self, state, &new) : (PyErr_NoMemory(), -1);
    if (!failed)
        failed = check(pente_sgd_set_state(self->sgd, new.options, new.info.group_count, new.there,
                                           new.info.parameter_count, new.info.step_count));
    for (int64_t i = 0; new.buffers && i < new.info.parameter_count; i++) buffers_release(&new.buffers[i], 1);
    PyMem_Free(new.there);
    PyMem_Free(new.buffers);
    PyMem_Free(new.options);
    Py_DECREF(state);
    if (failed) return NULL;
    return Py_NewRef(Py_None);
}
