/* Linear: y = x W + b. */
#include "extension.h"

static PyObject *linear_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"in_features", "out_features", "bias", "dtype", "seed", NULL};
    int64_t in_features = 0, out_features = 0;
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    int bias = 1;
    PyObject *in_object, *out_object, *seed = NULL;
    pente_layer *handle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|pO&O:Linear", names, &in_object, &out_object, &bias,
                                     dtype_converter, &options.dtype, &seed) ||
        integer_from(in_object, "in_features", &in_features) < 0 ||
        integer_from(out_object, "out_features", &out_features) < 0 || seed_from(seed, &options.seed) < 0)
        return NULL;
    options.bias = bias;
    if (check(pente_linear_new(in_features, out_features, &options, &handle)) < 0) return NULL;
    return layer_wrap(state_of_type(type), handle);
}

static int has_bias(const Layer *self) {
    return self->info.parameter_count == 2;
}

static PyObject *linear_repr(PyObject *op) {
    const Layer *self = (Layer *)op;
    return PyUnicode_FromFormat("Linear(in_features=%lld, out_features=%lld, bias=%s, dtype='%s')",
                                (long long)self->info.in_features, (long long)self->info.out_features,
                                has_bias(self) ? "True" : "False", dtype_name(self->info.dtype));
}

static PyObject *linear_bias_view(PyObject *op, void *closure) {
    return has_bias((Layer *)op) ? layer_view(op, closure) : Py_NewRef(Py_None);
}

static const parameter_view weight = {"weight", pente_layer_parameter_view, 2};
static const parameter_view bias = {"bias", pente_layer_parameter_view, 1};
static const parameter_view weight_grad = {"weight", pente_layer_gradient_view, 2};
static const parameter_view bias_grad = {"bias", pente_layer_gradient_view, 1};

static PyGetSetDef linear_getset[] = {
    {"weight", layer_view, NULL, "A view, (out_features, in_features).", (void *)&weight},
    {"bias", linear_bias_view, NULL, "A view, (out_features,), or None.", (void *)&bias},
    {"weight_grad", layer_view, NULL, "A view of the weight's gradient.", (void *)&weight_grad},
    {"bias_grad", linear_bias_view, NULL, "A view of the bias's gradient, or None.", (void *)&bias_grad},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot linear_slots[] = {
    {Py_tp_doc, "Linear(in_features, out_features, bias=True, dtype='float32', seed=None)\n--\n\n"
                "A linear layer, y = x W + b: x is (rows, in_features), y is (rows, out_features), and weight, "
                "(out_features, in_features), is W transposed. With the gradient G of y, that of x is G W', weight's "
                "is (x' G)', bias's the sum of G's rows. Initial parameters are torch.nn.Linear's for the same seed, "
                "bit for bit; seed None asks the system for one. A ValueError if a size is below 1.\n\n"
                ">>> layer = pente.Linear(3, 2, seed=0)\n"
                ">>> layer\n"
                "Linear(in_features=3, out_features=2, bias=True, dtype='float32')\n"
                ">>> layer(np.float32([[1, 2, 3], [4, 5, 6]])).shape\n"
                "(2, 2)"},
    {Py_tp_new, linear_new},
    LAYER_LIFE,
    {Py_tp_repr, linear_repr},
    {Py_tp_getset, linear_getset},
    {0, NULL},
};

PyType_Spec linear_spec = {
    .name = "pente.Linear",
    .basicsize = sizeof(Layer),
    .flags = LAYER_FLAGS,
    .slots = linear_slots,
};
