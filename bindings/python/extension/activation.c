/* ReLU, LeakyReLU, Tanh, Sigmoid, Softplus: functions of each element, for any number of columns. */
#include "extension.h"

static PyObject *make(PyTypeObject *type, pente_activation activation, const pente_activation_options *options) {
    pente_layer *handle;
    if (check(pente_activation_new(activation, options, &handle)) < 0) return NULL;
    return layer_wrap(state_of_type(type), handle);
}

static const char *const formats[] = {
    [PENTE_RELU] = "|O&:ReLU",
    [PENTE_TANH] = "|O&:Tanh",
    [PENTE_SIGMOID] = "|O&:Sigmoid",
    [PENTE_SOFTPLUS] = "|O&:Softplus",
};

static PyObject *activation_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"dtype", NULL};
    module_state *state = state_of_type(type);
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    pente_activation activation = PENTE_RELU;
    if (!state) return NULL;
    while (state->types[RELU_TYPE + activation - PENTE_RELU] != type) activation++;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, formats[activation], names, dtype_converter, &options.dtype))
        return NULL;
    return make(type, activation, &options);
}

static PyObject *leaky_relu_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"negative_slope", "dtype", NULL};
    pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
    PyObject *slope = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO&:LeakyReLU", names, &slope, dtype_converter, &options.dtype) ||
        float_from(slope, "negative_slope", &options.negative_slope) < 0)
        return NULL;
    return make(type, PENTE_LEAKY_RELU, &options);
}

/* A dtype that is the default is left out. */
static PyObject *activation_repr(PyObject *op) {
    const Layer *self = (Layer *)op;
    PyObject *name = PyType_GetName(Py_TYPE(op)), *slope = NULL, *text = NULL;
    int leaky = self->info.activation == PENTE_LEAKY_RELU, float32 = self->info.dtype == PENTE_FLOAT32;
    const char *dtype = float32 ? "" : leaky ? ", dtype='float64'" : "dtype='float64'";
    if (leaky) slope = PyFloat_FromDouble(self->info.negative_slope);
    if (name && !leaky) text = PyUnicode_FromFormat("%U(%s)", name, dtype);
    if (name && slope) text = PyUnicode_FromFormat("%U(negative_slope=%R%s)", name, slope, dtype);
    Py_XDECREF(slope);
    Py_XDECREF(name);
    return text;
}

static PyObject *leaky_relu_negative_slope(PyObject *op, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble(((Layer *)op)->info.negative_slope);
}

static PyGetSetDef leaky_relu_getset[] = {
    {"negative_slope", leaky_relu_negative_slope, NULL, "What a negative x is multiplied by.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define SLOTS(doc, new) {Py_tp_doc, doc}, {Py_tp_new, new}, LAYER_LIFE, {Py_tp_repr, activation_repr}
#define SPEC(type_name, its_slots)                                                                      \
    {                                                                                                   \
        .name = "pente." type_name, .basicsize = sizeof(Layer), .flags = LAYER_FLAGS, .slots = its_slots \
    }

static PyType_Slot relu_slots[] = {
    SLOTS("ReLU(dtype='float32')\n--\n\ny = max(x, 0), with the derivative 0 at 0, element by element, for any number "
          "of columns.\n\n"
          ">>> pente.ReLU('float64')(np.array([-1.0, 2.0])).tolist()\n"
          "[[0.0, 2.0]]", activation_new),
    {0, NULL},
};

static PyType_Slot leaky_relu_slots[] = {
    SLOTS("LeakyReLU(negative_slope=0.01, dtype='float32')\n--\n\n"
          "y = x where x > 0, else negative_slope x, with the derivative negative_slope at 0; element by element, for "
          "any number of columns. A ValueError if negative_slope is not finite.\n\n"
          ">>> pente.LeakyReLU(0.5, 'float64')(np.array([-1.0, 2.0])).tolist()\n"
          "[[-0.5, 2.0]]",
          leaky_relu_new),
    {Py_tp_getset, leaky_relu_getset},
    {0, NULL},
};

static PyType_Slot tanh_slots[] = {
    SLOTS("Tanh(dtype='float32')\n--\n\ny = tanh x, with the derivative 1 - y**2, element by element, for any number "
          "of columns.\n\n"
          ">>> pente.Tanh('float64')(np.array([0.0, 100.0])).tolist()\n"
          "[[0.0, 1.0]]", activation_new),
    {0, NULL},
};

static PyType_Slot sigmoid_slots[] = {
    SLOTS("Sigmoid(dtype='float32')\n--\n\ny = 1 / (1 + e**-x), with the derivative y (1 - y), element by element, for "
          "any number of columns.\n\n"
          ">>> pente.Sigmoid('float64')(np.array([0.0, 100.0])).tolist()\n"
          "[[0.5, 1.0]]", activation_new),
    {0, NULL},
};

static PyType_Slot softplus_slots[] = {
    SLOTS("Softplus(dtype='float32')\n--\n\ny = log(1 + e**x), with the derivative 1 / (1 + e**-x), element by "
          "element, for any number of columns.\n\n"
          ">>> pente.Softplus('float64')(np.array([0.0, 100.0])).tolist()\n"
          "[[0.6931471805599452, 100.0]]", activation_new),
    {0, NULL},
};

PyType_Spec relu_spec = SPEC("ReLU", relu_slots);
PyType_Spec leaky_relu_spec = SPEC("LeakyReLU", leaky_relu_slots);
PyType_Spec tanh_spec = SPEC("Tanh", tanh_slots);
PyType_Spec sigmoid_spec = SPEC("Sigmoid", sigmoid_slots);
PyType_Spec softplus_spec = SPEC("Softplus", softplus_slots);
