/* Chain: layers one after another. */
#include "extension.h"

typedef struct {
    Layer base;
    PyObject *layers; /* a tuple */
} Chain;

/* ---- Life ------------------------------------------------------------------------------------------------------- */

/* Chain(a, b) is Chain([a, b]). */
static PyObject *chain_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    module_state *state = state_of_type(type);
    if (kwargs && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Chain() takes no keyword arguments");
        return NULL;
    }
    PyObject *layers = PyTuple_Size(args) == 1 ? PyTuple_GetItem(args, 0) : args;
    PyObject *tuple = state ? layers_tuple(state, layers) : NULL;
    if (tuple && PyTuple_Size(tuple) == 0) {
        PyErr_SetString(PyExc_ValueError, "layers is empty; a Chain wants at least one");
        Py_CLEAR(tuple);
    }
    pente_layer **handles = tuple ? layers_handles(tuple) : NULL;
    pente_layer *handle = NULL;
    Layer *self = NULL;
    if (handles && check(pente_chain_new(handles, PyTuple_Size(tuple), &handle)) == 0) {
        self = layer_alloc(type);
        if (!self)
            pente_layer_free(handle);
        else if (layer_set(self, handle) < 0 || chain_fill(self, tuple) < 0)
            Py_CLEAR(self);
    }
    PyMem_Free(handles);
    Py_XDECREF(tuple);
    return (PyObject *)self;
}

/* The layers as objects, for a chain that comes from a file. */
static PyObject *wrapped_layers(const Layer *chain) {
    PyObject *layers = PyTuple_New(chain->info.layer_count);
    for (int64_t i = 0; layers && i < chain->info.layer_count; i++) {
        pente_layer *handle;
        int failed = check(pente_chain_get_layer(chain->layer, i, &handle));
        PyObject *layer = failed ? NULL : layer_wrap(chain->state, handle);
        if (!layer || PyTuple_SetItem(layers, i, layer) < 0) Py_CLEAR(layers);
    }
    return layers;
}

int chain_fill(Layer *self, PyObject *layers) {
    layers = layers ? Py_NewRef(layers) : wrapped_layers(self);
    if (!layers) return -1;
    double columns = (double)self->info.in_features;
    for (Py_ssize_t i = 0; i < PyTuple_Size(layers); i++) {
        const Layer *layer = (Layer *)PyTuple_GetItem(layers, i);
        self->row_work += layer->row_work + layer->column_work * columns;
        if (layer->info.out_features) columns = (double)layer->info.out_features;
    }
    ((Chain *)self)->layers = layers;
    return 0;
}

/* There is no tp_clear of the layers, as with a tuple: a cycle leads through one of them, which can break it. */
static int chain_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(((Chain *)op)->layers);
    return layer_traverse(op, visit, arg);
}

static void chain_dealloc(PyObject *op) {
    PyObject_GC_UnTrack(op);
    PyObject *layers = ((Chain *)op)->layers;
    layer_dealloc(op);
    Py_XDECREF(layers);
}

/* ---- A sequence ------------------------------------------------------------------------------------------------- */

static Py_ssize_t chain_length(PyObject *op) {
    PyObject *layers = ((Chain *)op)->layers;
    return layers ? PyTuple_Size(layers) : 0; /* the garbage collector may show a chain that is not finished */
}

static PyObject *chain_item(PyObject *op, Py_ssize_t index) {
    Py_ssize_t count = chain_length(op);
    if (index >= 0 && index < count) return Py_NewRef(PyTuple_GetItem(((Chain *)op)->layers, index));
    return PyErr_Format(PyExc_IndexError, "the chain has %zd layers, and none of that index", count);
}

static PyObject *chain_iter(PyObject *op) {
    PyObject *layers = chain_length(op) ? Py_NewRef(((Chain *)op)->layers) : PyTuple_New(0);
    PyObject *iterator = layers ? PyObject_GetIter(layers) : NULL;
    Py_XDECREF(layers);
    return iterator;
}

/* A line a layer, as torch's Sequential; what is in a chain inside is indented further. */
static PyObject *repr_line(PyObject *layer, Py_ssize_t index) {
    PyObject *text = PyObject_Repr(layer), *end = PyUnicode_FromString("\n"), *indented = PyUnicode_FromString("\n  ");
    PyObject *lines = text && end && indented ? PyUnicode_Replace(text, end, indented, -1) : NULL;
    PyObject *line = lines ? PyUnicode_FromFormat("  (%zd): %U\n", index, lines) : NULL;
    Py_XDECREF(lines);
    Py_XDECREF(indented);
    Py_XDECREF(end);
    Py_XDECREF(text);
    return line;
}

static PyObject *chain_repr(PyObject *op) {
    PyObject *text = PyUnicode_FromString("Chain(\n");
    for (Py_ssize_t i = 0; text && i < chain_length(op); i++)
        PyUnicode_AppendAndDel(&text, repr_line(PyTuple_GetItem(((Chain *)op)->layers, i), i));
    if (text) PyUnicode_AppendAndDel(&text, PyUnicode_FromString(")"));
    return text;
}

/* ---- The type --------------------------------------------------------------------------------------------------- */

static PyType_Slot chain_slots[] = {
    {Py_tp_doc, "Chain(*layers)\n--\n\n"
                "Layers one after another, each one's output the next one's input; or one iterable of them. It shares "
                "their parameters, whose names are torch.nn.Sequential's, as '0.weight'. chain[i] is a layer. A "
                "ValueError if two widths do not fit, or a layer with parameters is in it twice.\n\n"
                ">>> relu = pente.ReLU()\n"
                ">>> chain = pente.Chain(pente.Linear(3, 8, seed=0), relu, pente.Linear(8, 8, seed=1), relu,\n"
                "...                     pente.Linear(8, 1, seed=2))\n"
                ">>> chain(np.float32([[1, 2, 3]])).shape, len(chain), chain[1] is relu\n"
                "((1, 1), 5, True)\n"
                ">>> list(chain.parameters)\n"
                "['0.weight', '0.bias', '2.weight', '2.bias', '4.weight', '4.bias']"},
    {Py_tp_new, chain_new},
    {Py_tp_dealloc, chain_dealloc},
    {Py_tp_traverse, chain_traverse},
    {Py_tp_clear, layer_clear},
    {Py_tp_repr, chain_repr},
    {Py_tp_iter, chain_iter},
    {Py_sq_length, chain_length},
    {Py_sq_item, chain_item},
    {0, NULL},
};

PyType_Spec chain_spec = {
    .name = "pente.Chain",
    .basicsize = sizeof(Chain),
    .flags = LAYER_FLAGS,
    .slots = chain_slots,
};
