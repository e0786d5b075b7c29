/* SGD: the optimizer and its groups of layers. */
#include "extension.h"

/* ---- Options by name -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
    int is_flag;
} options_table[] = {
    {"lr", offsetof(pente_sgd_options, lr), 0},
    {"momentum", offsetof(pente_sgd_options, momentum), 0},
    {"dampening", offsetof(pente_sgd_options, dampening), 0},
    {"weight_decay", offsetof(pente_sgd_options, weight_decay), 0},
    {"nesterov", offsetof(pente_sgd_options, nesterov), 1},
    {"maximize", offsetof(pente_sgd_options, maximize), 1},
};

enum { OPTION_COUNT = sizeof options_table / sizeof *options_table };

/* By its index in the table. */
static int set_option(pente_sgd_options *options, int index, PyObject *value) {
    void *field = (char *)options + options_table[index].offset;
    if (!options_table[index].is_flag) return float_from(value, options_table[index].name, field);
    int flag = PyObject_IsTrue(value);
    *(int32_t *)field = flag;
    return flag < 0 ? -1 : 0;
}

static int set_named(pente_sgd_options *options, PyObject *name, PyObject *value) {
    for (int i = 0; PyUnicode_Check(name) && i < OPTION_COUNT; i++)
        if (PyUnicode_CompareWithASCIIString(name, options_table[i].name) == 0) return set_option(options, i, value);
    PyErr_Format(PyExc_TypeError, "%R is no option of SGD", name);
    return -1;
}

/* `named` must be a dict that nobody else can change; it may be NULL. */
static int set_options(pente_sgd_options *options, PyObject *named) {
    PyObject *name, *value;
    for (Py_ssize_t position = 0; named && PyDict_Next(named, &position, &name, &value);)
        if (set_named(options, name, value) < 0) return -1;
    return 0;
}

int sgd_take_options(PyObject *dict, const char *of, pente_sgd_options *options) {
    *options = (pente_sgd_options)PENTE_SGD_OPTIONS_INIT;
    for (int i = 0; i < OPTION_COUNT; i++) {
        PyObject *value = dict_item(dict, options_table[i].name);
        if (!value && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "%s has no '%s'", of, options_table[i].name);
        int failed = !value || set_option(options, i, value) < 0;
        Py_XDECREF(value);
        if (failed) return -1;
    }
    return 0;
}

static PyObject *options_dict(const pente_sgd_options *options) {
    return Py_BuildValue("{sdsdsdsdsOsO}", "lr", options->lr, "momentum", options->momentum, "dampening",
                         options->dampening, "weight_decay", options->weight_decay, "nesterov",
                         options->nesterov ? Py_True : Py_False, "maximize", options->maximize ? Py_True : Py_False);
}

/* ---- Groups ----------------------------------------------------------------------------------------------------- */

/* How many numbers of its a step changes. */
static int count_trained(PyObject *layer, double *numbers) {
    const Layer *self = (Layer *)layer;
    for (int64_t i = 0; i < self->info.parameter_count; i++) {
        pente_parameter_info info = PENTE_PARAMETER_INFO_INIT;
        if (check(pente_layer_get_parameter_info(self->layer, i, &info)) < 0) return -1;
        if (info.trained) *numbers += (double)info.rows * (double)info.columns;
    }
    return 0;
}

/* The groups' layers with those of one more. The garbage collector may run meanwhile, and with it code that adds a
 * group itself, which then comes before ours. */
static PyObject *layers_with(const SGD *self, PyObject *tuple) {
    PyObject *group = PyTuple_Pack(1, tuple), *all = NULL;
    for (int is_current = 0; group && !is_current;) {
        PyObject *former = Py_XNewRef(self->layers);
        Py_XDECREF(all);
        all = former ? PySequence_Concat(former, group) : Py_NewRef(group);
        is_current = !all || self->layers == former;
        Py_XDECREF(former);
    }
    Py_XDECREF(group);
    return all;
}

/* The first group makes the optimizer. */
static int append_group(SGD *self, PyObject *layers, const pente_sgd_options *options) {
    module_state *state = state_of((PyObject *)self);
    PyObject *tuple = state ? layers_tuple(state, layers) : NULL;
    if (!tuple) return -1;
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "layers is empty; an optimizer's group wants at least one");
        Py_DECREF(tuple);
        return -1;
    }
    PyObject *all = layers_with(self, tuple);
    pente_layer **handles = all ? layers_handles(tuple) : NULL;
    double numbers = 0.0;
    int failed = handles ? 0 : -1;
    for (Py_ssize_t i = 0; !failed && i < count; i++) failed = count_trained(PyTuple_GetItem(tuple, i), &numbers);
    if (!failed)
        failed = check(self->sgd ? pente_sgd_add_group(self->sgd, handles, count, options)
                                 : pente_sgd_new(handles, count, options, &self->sgd));
    if (!failed) {
        PyObject *former = self->layers;
        self->layers = Py_NewRef(all);
        self->group_count++;
        self->parameters += numbers;
        Py_XDECREF(former);
    }
    PyMem_Free(handles);
    Py_XDECREF(all);
    Py_DECREF(tuple);
    return failed;
}

/* A group as a dict: "layers", and options that differ from the defaults. */
static int append_group_dict(SGD *self, PyObject *group) {
    PyObject *named = PyDict_Check(group) ? PyDict_Copy(group) : NULL;
    PyObject *layers = named ? dict_item(named, "layers") : NULL;
    if (!layers) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "a group must be a dict with 'layers' and options, not %R", group);
        Py_XDECREF(named);
        return -1;
    }
    pente_sgd_options options = self->defaults;
    int failed = PyDict_DelItemString(named, "layers") < 0 || set_options(&options, named) < 0 ||
                 append_group(self, layers, &options) < 0;
    Py_DECREF(layers);
    Py_DECREF(named);
    return failed ? -1 : 0;
}

/* A layer, an iterable of them, or an iterable of groups, as its first element tells. */
static int append_groups(SGD *self, PyObject *layers) {
    module_state *state = state_of((PyObject *)self);
    if (!state) return -1;
    if (is_layer(state, layers)) return append_group(self, layers, &self->defaults);
    PyObject *tuple = PySequence_Tuple(layers);
    if (!tuple) return -1;
    Py_ssize_t count = PyTuple_Size(tuple);
    int failed = 0;
    if (count == 0 || !PyDict_Check(PyTuple_GetItem(tuple, 0)))
        failed = append_group(self, tuple, &self->defaults);
    else
        for (Py_ssize_t i = 0; !failed && i < count; i++) failed = append_group_dict(self, PyTuple_GetItem(tuple, i));
    Py_DECREF(tuple);
    return failed;
}

/* ---- Life ------------------------------------------------------------------------------------------------------- */

static PyObject *sgd_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"layers", "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", NULL};
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    PyObject *layers, *values[OPTION_COUNT] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOOOO:SGD", names, &layers, &values[0], &values[1], &values[2],
                                     &values[3], &values[4], &values[5]))
        return NULL;
    for (int i = 0; i < OPTION_COUNT; i++)
        if (values[i] && set_option(&options, i, values[i]) < 0) return NULL;
    SGD *self = (SGD *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->defaults = options;
    if (append_groups(self, layers) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

/* There is no tp_clear, as with a tuple: a cycle leads through a layer, which can break it. */
static int sgd_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((SGD *)op)->layers);
    return 0;
}

static void sgd_dealloc(PyObject *op) {
    SGD *self = (SGD *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    pente_sgd_free(self->sgd);
    Py_XDECREF(self->layers);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

/* ---- Methods ---------------------------------------------------------------------------------------------------- */

static PyObject *sgd_step(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    SGD *self = (SGD *)op;
    release_gil(self->parameters);
    pente_status status = pente_sgd_step(self->sgd);
    regain_gil();
    if (check(status) < 0) return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *sgd_zero_grad(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    if (check(pente_sgd_zero_gradients(((SGD *)op)->sgd)) < 0) return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *sgd_clip_gradients(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"max_norm", NULL};
    SGD *self = (SGD *)op;
    PyObject *value;
    double max_norm, norm;
    if (parse_arguments("clip_gradients", names, 1, args, nargs, kwnames, &value) < 0 ||
        float_from(value, "max_norm", &max_norm) < 0)
        return NULL;
    release_gil(self->parameters);
    pente_status status = pente_sgd_clip_gradients(self->sgd, max_norm, &norm);
    regain_gil();
    return check(status) < 0 ? NULL : PyFloat_FromDouble(norm);
}

static PyObject *sgd_add_group(PyObject *op, PyObject *args, PyObject *kwargs) {
    SGD *self = (SGD *)op;
    PyObject *layers;
    pente_sgd_options options = self->defaults;
    if (!PyArg_ParseTuple(args, "O:add_group", &layers) || set_options(&options, kwargs) < 0 ||
        append_group(self, layers, &options) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *sgd_set_options(PyObject *op, PyObject *args, PyObject *kwargs) {
    SGD *self = (SGD *)op;
    PyObject *object;
    int64_t group;
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    if (!PyArg_ParseTuple(args, "O:set_options", &object) || integer_from(object, "group", &group) < 0 ||
        check(pente_sgd_get_options(self->sgd, group, &options)) < 0 || set_options(&options, kwargs) < 0 ||
        check(pente_sgd_set_options(self->sgd, group, &options)) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

PyObject *sgd_groups(PyObject *op, void *Py_UNUSED(closure)) {
    SGD *self = (SGD *)op;
    PyObject *groups = PyList_New(0);
    for (int64_t i = 0; groups && i < self->group_count; i++) {
        pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
        PyObject *group = check(pente_sgd_get_options(self->sgd, i, &options)) < 0 ? NULL : options_dict(&options);
        if (!group || PyList_Append(groups, group) < 0) Py_CLEAR(groups);
        Py_XDECREF(group);
    }
    return groups;
}

static PyObject *sgd_layers(PyObject *op, void *Py_UNUSED(closure)) {
    PyObject *layers = ((SGD *)op)->layers;
    return layers ? Py_NewRef(layers) : PyTuple_New(0); /* the garbage collector may show an SGD that is not finished */
}

static PyObject *sgd_step_count(PyObject *op, void *Py_UNUSED(closure)) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    if (check(pente_sgd_get_info(((SGD *)op)->sgd, &info)) < 0) return NULL;
    return PyLong_FromLongLong(info.step_count);
}

static PyObject *sgd_get_lr(PyObject *op, void *Py_UNUSED(closure)) {
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    if (check(pente_sgd_get_options(((SGD *)op)->sgd, 0, &options)) < 0) return NULL;
    return PyFloat_FromDouble(options.lr);
}

static int sgd_set_lr(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    SGD *self = (SGD *)op;
    if (!value) return PyErr_Format(PyExc_TypeError, "lr cannot be deleted"), -1;
    double lr;
    int failed = float_from(value, "lr", &lr);
    for (int64_t i = 0; !failed && i < self->group_count; i++) failed = check(pente_sgd_set_lr(self->sgd, i, lr));
    return failed ? -1 : 0;
}

static PyObject *sgd_repr(PyObject *op) {
    PyObject *groups = sgd_groups(op, NULL);
    PyObject *text = groups ? PyUnicode_FromFormat("SGD(groups=%R)", groups) : NULL;
    Py_XDECREF(groups);
    return text;
}

static PyObject *sgd_defaults(PyObject *op, void *Py_UNUSED(closure)) {
    return options_dict(&((SGD *)op)->defaults);
}

static PyObject *sgd_reduce(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return call_python("pente._objects", "reduce_sgd", "(O)", op);
}

static PyObject *sgd_richcompare(PyObject *op, PyObject *other, int operation) {
    return compare_by(op, other, operation, "parts_equal");
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyMethodDef sgd_methods[] = {
    {"step", sgd_step, METH_NOARGS,
     "step($self)\n--\n\n"
     "Updates every parameter from its gradient.\n\n"
     ">>> layer = pente.Linear(1, 1, bias=False, dtype='float64')\n"
     ">>> layer.load_state_dict({'weight': np.array([[1.0]])})\n"
     ">>> np.asarray(layer.weight_grad)[...] = 2.0\n"
     ">>> pente.SGD(layer, lr=0.25).step()\n"
     ">>> layer.weight.tolist()\n"
     "[[0.5]]"},
    {"zero_grad", sgd_zero_grad, METH_NOARGS,
     "zero_grad($self)\n--\n\n"
     "Sets the gradients of all layers to 0.\n\n"
     ">>> layer = pente.Linear(1, 1)\n"
     ">>> np.asarray(layer.weight_grad)[...] = 2.0\n"
     ">>> pente.SGD(layer).zero_grad()\n"
     ">>> layer.weight_grad.tolist()\n"
     "[[0.0]]"},
    {"add_group", KEYWORDS(sgd_add_group),
     "add_group($self, layers, /, **options)\n--\n\n"
     "Adds a group of further layers; an option that is not given is the constructor's. A ValueError if a parameter is "
     "in the optimizer already.\n\n"
     ">>> sgd = pente.SGD(pente.Linear(3, 2), lr=0.1)\n"
     ">>> sgd.add_group(pente.Linear(2, 1), lr=0.01)\n"
     ">>> [group['lr'] for group in sgd.groups]\n"
     "[0.1, 0.01]"},
    {"set_options", KEYWORDS(sgd_set_options),
     "set_options($self, group, /, **options)\n--\n\n"
     "Changes options of a group, by its index, from the next step on. A ValueError, and nothing has changed, if one "
     "is out of range.\n\n"
     ">>> sgd = pente.SGD(pente.Linear(3, 2), lr=0.1)\n"
     ">>> sgd.set_options(0, lr=0.01, momentum=0.9)\n"
     ">>> sgd.lr, sgd.groups[0]['momentum']\n"
     "(0.01, 0.9)"},
    {"clip_gradients", FASTCALL(sgd_clip_gradients),
     "clip_gradients($self, max_norm)\n--\n\n"
     "Scales all gradients together so that their 2-norm is max_norm, if it is above that, as "
     "torch.nn.utils.clip_grad_norm_ does, and returns the norm as it was before. A FloatingPointError, and nothing "
     "has changed, if that is not finite.\n\n"
     ">>> layer = pente.Linear(2, 1, bias=False, dtype='float64')\n"
     ">>> np.asarray(layer.weight_grad)[...] = [[3.0, 4.0]]\n"
     ">>> pente.SGD(layer).clip_gradients(1.0)\n"
     "5.0\n"
     ">>> np.asarray(layer.weight_grad).round(3)\n"
     "array([[0.6, 0.8]])"},
    {"state_dict", sgd_state_dict, METH_NOARGS,
     "state_dict($self)\n--\n\n"
     "The groups' options and copies of the momentum buffers, laid out as torch.optim.SGD's, and 'step_count'. A "
     "torch.optim.SGD takes it with buffers that torch.from_dlpack has made tensors.\n\n"
     ">>> sgd = pente.SGD(pente.Linear(2, 1), lr=0.1, momentum=0.9)\n"
     ">>> sgd.step()\n"
     ">>> state = sgd.state_dict()\n"
     ">>> state['param_groups'][0]['params'], state['state'][0]['momentum_buffer'].shape, state['step_count']\n"
     "([0, 1], (1, 2), 1)"},
    {"load_state_dict", sgd_load_state_dict, METH_O,
     "load_state_dict($self, state, /)\n--\n\n"
     "Sets what state_dict gives, from such a dict or one of torch.optim.SGD's, whose buffers are arrays; all of it "
     "or, on an error, nothing. The groups must have as many parameters. What the state has beside, as 'foreach', is "
     "passed over; without a 'step_count' that stays.\n\n"
     ">>> sgd, other = pente.SGD(pente.Linear(2, 1)), pente.SGD(pente.Linear(2, 1), lr=0.1, momentum=0.9)\n"
     ">>> sgd.load_state_dict(other.state_dict())\n"
     ">>> sgd.lr, sgd.groups == other.groups\n"
     "(0.1, True)"},
    {"__reduce__", sgd_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nFor pickle and copy."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sgd_getset[] = {
    {"lr", sgd_get_lr, sgd_set_lr, "The learning rate: of group 0 when read, of all groups when set.", NULL},
    {"groups", sgd_groups, NULL, "The groups' options, a list of dicts; copies.", NULL},
    {"defaults", sgd_defaults, NULL, "The options of groups that are added without; a dict, a copy.", NULL},
    {"layers", sgd_layers, NULL, "The groups' layers, a tuple of them for each group.", NULL},
    {"step_count", sgd_step_count, NULL, "How many steps it has made, a trainer's among them.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sgd_slots[] = {
    {Py_tp_doc, "SGD(layers, lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)"
                "\n--\n\n"
                "Stochastic gradient descent, torch.optim.SGD's step for step. layers is a Layer, an iterable of "
                "them, or an iterable of groups: dicts with 'layers' and options of the group's own. For each "
                "parameter t with gradient g: g = -g to maximize; g = g + weight_decay t; with momentum buf = g in the "
                "first step, then momentum buf + (1 - dampening) g, and g = g + momentum buf if nesterov, else buf; t "
                "= t - lr g. A ValueError if an option is out of range. One thread at a time; a layer in use elsewhere "
                "is a RuntimeError. Two are equal if layers, options and momentum are, to the bit.\n\n"
                ">>> encoder, head = pente.Linear(3, 2), pente.Linear(2, 1)\n"
                ">>> sgd = pente.SGD([{'layers': encoder}, {'layers': head, 'lr': 0.01}], lr=0.1, momentum=0.9)\n"
                ">>> [(group['lr'], group['momentum']) for group in sgd.groups]\n"
                "[(0.1, 0.9), (0.01, 0.9)]"},
    {Py_tp_new, sgd_new},
    {Py_tp_dealloc, sgd_dealloc},
    {Py_tp_traverse, sgd_traverse},
    {Py_tp_repr, sgd_repr},
    {Py_tp_richcompare, sgd_richcompare},
    {Py_tp_methods, sgd_methods},
    {Py_tp_getset, sgd_getset},
    {0, NULL},
};

PyType_Spec sgd_spec = {
    .name = "pente.SGD",
    .basicsize = sizeof(SGD),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sgd_slots,
};
