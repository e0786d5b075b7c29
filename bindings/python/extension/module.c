/* The module: its types, its state, what it exports. */
#include "extension.h"

_Thread_local PyThreadState *released_thread;

static PyType_Spec *const specs[TYPE_COUNT] = {
    [MATRIX_TYPE] = &matrix_spec,
    [LAYER_TYPE] = &layer_spec,
    [LINEAR_TYPE] = &linear_spec,
    [CHAIN_TYPE] = &chain_spec,
    [SCALER_TYPE] = &scaler_spec,
    [CUSTOM_TYPE] = &custom_spec,
    [RELU_TYPE] = &relu_spec,
    [LEAKY_RELU_TYPE] = &leaky_relu_spec,
    [TANH_TYPE] = &tanh_spec,
    [SIGMOID_TYPE] = &sigmoid_spec,
    [SOFTPLUS_TYPE] = &softplus_spec,
    [LOSS_TYPE] = &loss_spec,
    [SGD_TYPE] = &sgd_spec,
    [TRAINER_TYPE] = &trainer_spec,
    [SOURCE_TYPE] = &source_spec,
    [NPY_SOURCE_TYPE] = &npy_source_spec,
    [BATCH_SOURCE_TYPE] = &batch_source_spec,
};

static int add_types(PyObject *module) {
    PyTypeObject **types = ((module_state *)PyModule_GetState(module))->types;
    for (int i = 0; i < TYPE_COUNT; i++) {
        int parent = i > LAYER_TYPE && i <= SOFTPLUS_TYPE ? LAYER_TYPE : i > SOURCE_TYPE ? SOURCE_TYPE : i;
        PyObject *base = parent < i ? (PyObject *)types[parent] : NULL;
        types[i] = (PyTypeObject *)PyType_FromModuleAndSpec(module, specs[i], base);
        if (!types[i] || PyModule_AddType(module, types[i]) < 0) return -1;
    }
    return 0;
}

/* A library older than the header lacks some of what we call. */
static int add_version(PyObject *module) {
    int version = pente_version();
    PyObject *text = PyUnicode_FromFormat("%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    int failed = !text || PyModule_AddObjectRef(module, "__version__", text) < 0;
    if (!failed && version < PENTE_VERSION) {
        PyErr_Format(PyExc_ImportError, "libpente is %U, but at least %d.%d.%d is needed", text, PENTE_VERSION_MAJOR,
                     PENTE_VERSION_MINOR, PENTE_VERSION_PATCH);
        failed = 1;
    }
    Py_XDECREF(text);
    return failed ? -1 : 0;
}

static int module_exec(PyObject *module) {
    ((module_state *)PyModule_GetState(module))->module = module;
    if (add_version(module) < 0 || add_types(module) < 0) return -1;
    return PyModule_AddIntMacro(module, GIL_THRESHOLD);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    module_state *state = PyModule_GetState(module);
    for (int i = 0; i < TYPE_COUNT; i++) Py_VISIT(state->types[i]);
    return 0;
}

/* There is no m_clear: the types stay for as long as there is an object that may make others. The cycle of module and
 * types is broken by the types, which let go of the module. */
static void module_free(void *module) {
    module_state *state = PyModule_GetState(module);
    for (int i = 0; i < TYPE_COUNT; i++) Py_CLEAR(state->types[i]);
}

static PyMethodDef module_methods[] = {
    {"gradcheck", KEYWORDS(gradcheck), gradcheck_doc},
    {"set_num_threads", set_num_threads, METH_O, set_num_threads_doc},
    {"get_num_threads", get_num_threads, METH_NOARGS, get_num_threads_doc},
    {NULL, NULL, 0, NULL},
};

/* From 3.12 on a module says whether it may be loaded by an interpreter with a GIL of its own. It may. The limited API
 * of 3.11 has no name for that, and 3.11 refuses slots that it does not know. */
enum { MULTIPLE_INTERPRETERS = 3 };
#define PER_INTERPRETER_GIL_SUPPORTED ((void *)2)

static PyModuleDef_Slot slots_3_11[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static PyModuleDef_Slot slots_3_12[] = {
    {Py_mod_exec, module_exec}, {MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED}, {0, NULL}};

#define MODULE(its_slots)                                       \
    {                                                           \
        PyModuleDef_HEAD_INIT,                                  \
        .m_name = "pente._pente",                               \
        .m_doc = "libpente for Python; see the package pente.", \
        .m_size = sizeof(module_state),                         \
        .m_methods = module_methods,                            \
        .m_slots = its_slots,                                   \
        .m_traverse = module_traverse,                          \
        .m_free = module_free,                                  \
    }

static struct PyModuleDef module_3_11 = MODULE(slots_3_11);
static struct PyModuleDef module_3_12 = MODULE(slots_3_12);

/* A class of the user's has a module of its own, or none: ours is that of a class it was derived from. */
module_state *state_of_type(PyTypeObject *type) {
    for (; type; type = PyType_GetSlot(type, Py_tp_base)) {
        PyObject *module = PyType_GetModule(type);
        if (!module) PyErr_Clear();
        PyModuleDef *definition = module ? PyModule_GetDef(module) : NULL;
        if (definition == &module_3_11 || definition == &module_3_12) return PyModule_GetState(module);
    }
    PyErr_SetString(PyExc_RuntimeError, "pente is no longer there: the garbage collector has taken it apart");
    return NULL;
}

PyMODINIT_FUNC PyInit__pente(void) {
    return PyModuleDef_Init(Py_Version < 0x030C0000 ? &module_3_11 : &module_3_12);
}
