/* Trainer's sums: gradients of batches that lie in several places. */
#include "extension.h"

static const char *const example_names[] = {"x", "y", "sample_weight", NULL};

PyObject *trainer_accumulate(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    Trainer *self = (Trainer *)op;
    const Layer *layer = (Layer *)self->layer;
    PyObject *values[3];
    Buffer examples[3];
    if (parse_arguments("accumulate", example_names, 2, args, nargs, kwnames, values) < 0 ||
        buffers_get(examples, values, example_names, layer->info.dtype, 0) < 0)
        return NULL;
    release_gil(3 * layer_work(layer, &examples[0]));
    pente_status status = pente_trainer_accumulate(self->trainer, &examples[0].matrix, &examples[1].matrix,
                                                   buffer_matrix(&examples[2]));
    regain_gil();
    PyObject *result = status == PENTE_OK ? Py_NewRef(Py_None) : raise_status(status, examples, 3);
    buffers_release(examples, 3);
    return result;
}

PyObject *trainer_apply_sums(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    double loss;
    if (check(pente_trainer_apply_sums(((Trainer *)op)->trainer, &loss)) < 0) return NULL;
    return PyFloat_FromDouble(loss);
}

PyObject *trainer_get_sums(PyObject *op, void *Py_UNUSED(closure)) {
    const Trainer *self = (Trainer *)op;
    module_state *state = state_of(op);
    int64_t count;
    if (!state || check(pente_trainer_get_sum_count(self->trainer, &count)) < 0) return NULL;
    PyObject *sums = matrix_new(state, PENTE_FLOAT64, 1, count, 1);
    if (sums && check(pente_trainer_get_sums(self->trainer, matrix_of(sums).data, count)) < 0) Py_CLEAR(sums);
    return sums;
}

int trainer_set_sums(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    const Trainer *self = (Trainer *)op;
    Buffer sums;
    if (!value) return PyErr_Format(PyExc_TypeError, "sums cannot be deleted; None empties them"), -1;
    if (value == Py_None) return check(pente_trainer_set_sums(self->trainer, NULL, 0));
    if (buffer_get(&sums, value, "sums", PENTE_FLOAT64, 0) < 0) return -1;
    int failed = 0;
    if (sums.matrix.rows != 1) {
        PyErr_Format(PyExc_ValueError, "sums has %lld rows, but must be one row of numbers", (long long)sums.matrix.rows);
        failed = -1;
    } else {
        failed = check(pente_trainer_set_sums(self->trainer, sums.matrix.data, sums.matrix.columns));
    }
    buffers_release(&sums, 1);
    return failed;
}
