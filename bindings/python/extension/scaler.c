/* Scaler: y = (x - mean) / scale. */
#include "extension.h"

static PyObject *scaler_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"features", "dtype", NULL};
    PyObject *object;
    int64_t features = 0;
    pente_dtype dtype = PENTE_FLOAT32;
    pente_layer *handle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O&:Scaler", names, &object, dtype_converter, &dtype) ||
        integer_from(object, "features", &features) < 0 || check(pente_scaler_new(features, dtype, &handle)) < 0)
        return NULL;
    return layer_wrap(state_of_type(type), handle);
}

static PyObject *scaler_repr(PyObject *op) {
    const Layer *self = (Layer *)op;
    return PyUnicode_FromFormat("Scaler(features=%lld, dtype='%s')", (long long)self->info.in_features,
                                dtype_name(self->info.dtype));
}

static PyObject *scaler_fit(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"x", NULL};
    Layer *self = (Layer *)op;
    PyObject *value;
    Buffer x;
    if (parse_arguments("fit", names, 1, args, nargs, kwnames, &value) < 0 ||
        buffer_get(&x, value, "x", self->info.dtype, 0) < 0)
        return NULL;
    release_gil(layer_work(self, &x));
    pente_status status = pente_scaler_fit(self->layer, &x.matrix);
    regain_gil();
    PyObject *result = status == PENTE_OK ? Py_NewRef(op) : raise_status(status, &x, 1);
    buffers_release(&x, 1);
    return result;
}

static const parameter_view mean = {"mean", pente_layer_parameter_view, 1};
static const parameter_view scale = {"scale", pente_layer_parameter_view, 1};

static PyGetSetDef scaler_getset[] = {
    {"mean", layer_view, NULL, "A view, (features,): what is taken off.", (void *)&mean},
    {"scale", layer_view, NULL, "A view, (features,): what the rest is divided by.", (void *)&scale},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef scaler_methods[] = {
    {"fit", FASTCALL(scaler_fit),
     "fit($self, x)\n--\n\n"
     "Sets mean and scale to the means and standard deviations of the columns of x, (rows, features), and returns the "
     "scaler. The scale of a constant column is 1. A ValueError if x has a number that is not finite.\n\n"
     ">>> scaler = pente.Scaler(2, 'float64').fit(np.array([[0.0, 7.0], [4.0, 7.0]]))\n"
     ">>> scaler.mean.tolist(), scaler.scale.tolist()\n"
     "([2.0, 7.0], [2.0, 1.0])"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot scaler_slots[] = {
    {Py_tp_doc, "Scaler(features, dtype='float32')\n--\n\n"
                "y = (x - mean) / scale, column by column; mean is 0 and scale is 1 until fit sets them. No optimizer "
                "changes them. As the first layer of a chain it lets unscaled features in.\n\n"
                ">>> x = np.array([[0.0, 1000.0], [4.0, 3000.0]])\n"
                ">>> pente.Scaler(2, 'float64').fit(x).predict(x).tolist()\n"
                "[[-1.0, -1.0], [1.0, 1.0]]"},
    {Py_tp_new, scaler_new},
    LAYER_LIFE,
    {Py_tp_repr, scaler_repr},
    {Py_tp_methods, scaler_methods},
    {Py_tp_getset, scaler_getset},
    {0, NULL},
};

PyType_Spec scaler_spec = {
    .name = "pente.Scaler",
    .basicsize = sizeof(Layer),
    .flags = LAYER_FLAGS,
    .slots = scaler_slots,
};
