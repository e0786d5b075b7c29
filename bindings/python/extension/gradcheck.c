/* gradcheck: analytic gradients against central differences. */
#include "extension.h"

const char gradcheck_doc[] =
    "gradcheck($module, /, layer, x, target=None, loss=None, *, eps=1e-06, atol=1e-05, rtol=0.001)\n--\n\n"
    "Compares every gradient of loss(layer(x), target) with central differences, in float64, and returns a "
    "GradcheckReport, which is true if all agree. Any layer will do, chains and your own included. With no layer x is "
    "the prediction; with neither target nor loss, the layer's output is summed with fixed pseudo-random weights. At a "
    "kink, as ReLU's at 0, the two differ by right. x is (rows, in_features), target (rows, out_features).\n\n"
    ">>> layer = pente.Chain(pente.Linear(3, 4, dtype='float64', seed=0), pente.Tanh('float64'))\n"
    ">>> report = pente.gradcheck(layer, np.array([[1.0, 2.0, 3.0]]))\n"
    ">>> report.passed, report.checked\n"
    "(True, 19)";

/* An object of `type`, or NULL for None. */
static int optional(PyObject **object, PyTypeObject *type, const char *name) {
    if (*object == Py_None) *object = NULL;
    if (!*object || PyObject_TypeCheck(*object, type)) return 0;
    PyErr_Format(PyExc_TypeError, "%s must be a %S or None, not %R", name, type, *object);
    return -1;
}

PyObject *gradcheck(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"layer", "x", "target", "loss", "eps", "atol", "rtol", NULL};
    module_state *state = PyModule_GetState(module);
    pente_gradcheck_options options = PENTE_GRADCHECK_OPTIONS_INIT;
    pente_gradcheck_report report = PENTE_GRADCHECK_REPORT_INIT;
    PyObject *layer, *x_object, *target_object = Py_None, *loss = Py_None, *eps = NULL, *atol = NULL, *rtol = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO$OOO:gradcheck", names, &layer, &x_object, &target_object,
                                     &loss, &eps, &atol, &rtol) ||
        float_from(eps, "eps", &options.eps) < 0 || float_from(atol, "atol", &options.atol) < 0 ||
        float_from(rtol, "rtol", &options.rtol) < 0 ||
        optional(&layer, state->types[LAYER_TYPE], "layer") < 0 ||
        optional(&loss, state->types[LOSS_TYPE], "loss") < 0 || (layer && !layer_ready(layer)))
        return NULL;
    Buffer inputs[2] = {0};
    PyObject *result = NULL;
    if (buffer_get(&inputs[0], x_object, "x", PENTE_FLOAT64, 0) < 0) return NULL;
    if (target_object == Py_None || buffer_get(&inputs[1], target_object, "target", PENTE_FLOAT64, 0) == 0) {
        release_gil(LONG_WORK);
        pente_status status = pente_gradcheck(layer ? ((Layer *)layer)->layer : NULL,
                                              loss ? ((Loss *)loss)->mse : NULL, &inputs[0].matrix,
                                              buffer_matrix(&inputs[1]), &options, &report);
        regain_gil();
        result = status != PENTE_OK
                     ? raise_status(status, inputs, 2)
                     : call_python("pente._reports", "GradcheckReport", "(OLsLLdddd)",
                                   report.passed ? Py_True : Py_False, (long long)report.checked, report.worst,
                                   (long long)report.row, (long long)report.column, report.analytic, report.numeric,
                                   report.error, report.tolerance);
    }
    buffers_release(inputs, 2);
    return result;
}
