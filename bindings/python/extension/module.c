/* The module: its types, its state, what it exports. */
#include "extension.h"

static int add_types(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    struct {
        PyTypeObject **type;
        PyType_Spec *spec;
    } types[] = {
        {&state->matrix_type, &matrix_spec}, {&state->linear_type, &linear_spec},
        {&state->loss_type, &loss_spec},     {&state->sgd_type, &sgd_spec},
        {&state->trainer_type, &trainer_spec},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *types[i].type = (PyTypeObject *)PyType_FromModuleAndSpec(module, types[i].spec, NULL);
        if (!*types[i].type || PyModule_AddType(module, *types[i].type) < 0) return -1;
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
    if (add_version(module) < 0 || add_types(module) < 0) return -1;
    return PyModule_AddIntMacro(module, GIL_THRESHOLD);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->matrix_type);
    Py_VISIT(state->linear_type);
    Py_VISIT(state->loss_type);
    Py_VISIT(state->sgd_type);
    Py_VISIT(state->trainer_type);
    return 0;
}

static int module_clear(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->matrix_type);
    Py_CLEAR(state->linear_type);
    Py_CLEAR(state->loss_type);
    Py_CLEAR(state->sgd_type);
    Py_CLEAR(state->trainer_type);
    return 0;
}

static void module_free(void *module) {
    module_clear(module);
}

static PyMethodDef module_methods[] = {
    {"gradcheck", KEYWORDS(gradcheck), gradcheck_doc},
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
        .m_clear = module_clear,                                \
        .m_free = module_free,                                  \
    }

static struct PyModuleDef module_3_11 = MODULE(slots_3_11);
static struct PyModuleDef module_3_12 = MODULE(slots_3_12);

PyMODINIT_FUNC PyInit__pente(void) {
    return PyModuleDef_Init(Py_Version < 0x030C0000 ? &module_3_11 : &module_3_12);
}
