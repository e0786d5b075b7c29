/* How many threads a call may use. */
#include "extension.h"

const char set_num_threads_doc[] =
    "set_num_threads($module, count, /)\n--\n\n"
    "Lets a call use that many threads, the calling one among them: from 1 to 256, and 1 until you say otherwise. The "
    "numbers are the same for any count, to the bit. Training steps, fits and predictions of many rows use them, but "
    "for chains with layers of your own, one call at a time; callbacks run on the calling thread alone. A "
    "ValueError if it is another number.\n\n"
    ">>> pente.set_num_threads(2)\n"
    ">>> pente.get_num_threads()\n"
    "2\n"
    ">>> pente.set_num_threads(1)";

const char get_num_threads_doc[] = "get_num_threads($module, /)\n--\n\nHow many threads a call may use.\n\n"
    ">>> pente.get_num_threads()\n"
    "1";

PyObject *set_num_threads(PyObject *module, PyObject *object) {
    int64_t count = 0;
    (void)module;
    if (integer_from(object, "count", &count) < 0) return NULL;
    pente_status status = pente_threads_set(count);
    if (status != PENTE_OK) return raise_status(status, NULL, 0);
    return Py_NewRef(Py_None);
}

PyObject *get_num_threads(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLongLong(pente_threads_get());
}
