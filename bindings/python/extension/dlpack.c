/* DLPack, by which array libraries lend each other memory (https://dmlc.github.io/dlpack): a Matrix for others, and
 * their arrays as buffers. Of the CPU's memory alone. */
#include "extension.h"

#include <stdlib.h>
#include <string.h>

/* ---- What the standard fixes ------------------------------------------------------------------------------------ */

typedef struct {
    int32_t type, id;
} DLDevice;

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;

typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides; /* in elements; no strides: contiguous */
    uint64_t byte_offset;
} DLTensor;

typedef struct Managed {
    DLTensor tensor;
    void *manager;
    void (*deleter)(struct Managed *);
} Managed;

typedef struct Versioned {
    uint32_t major, minor;
    void *manager;
    void (*deleter)(struct Versioned *);
    uint64_t flags;
    DLTensor tensor;
} Versioned;

enum { CPU = 1, CUDA_HOST = 3, ROCM_HOST = 11 }; /* devices whose memory is the CPU's to read */
enum { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOL = 6 };
enum { READ_ONLY = 1, IS_COPIED = 2 };

#define MANAGED "dltensor"
#define VERSIONED "dltensor_versioned"

/* ---- A Matrix for others ---------------------------------------------------------------------------------------- */

/* A Matrix that is lent, and what describes it. */
typedef struct {
    union {
        Managed managed;
        Versioned versioned;
    } as;
    PyObject *matrix;
    int64_t shape[2], strides[2];
} Loan;

static void free_loan(Loan *loan) {
    Py_DECREF(loan->matrix);
    free(loan);
}

/* The borrower may give it back on any thread, with the GIL or without, and after Python's end, when there is nobody to
 * give it to. */
static void end_loan(Loan *loan) {
    if (!Py_IsInitialized()) return;
    PyGILState_STATE gil = PyGILState_Ensure();
    free_loan(loan);
    PyGILState_Release(gil);
}

static void delete_managed(Managed *managed) {
    end_loan(managed->manager);
}

static void delete_versioned(Versioned *versioned) {
    end_loan(versioned->manager);
}

/* Of a capsule that nobody has taken anything out of. */
static void destroy_capsule(PyObject *capsule) {
    void *loan = PyCapsule_IsValid(capsule, VERSIONED)  ? PyCapsule_GetPointer(capsule, VERSIONED)
                 : PyCapsule_IsValid(capsule, MANAGED) ? PyCapsule_GetPointer(capsule, MANAGED)
                                                       : NULL;
    if (loan) free_loan(loan);
}

static PyObject *lend(PyObject *matrix, int is_versioned, uint64_t flags) {
    const Matrix *self = (Matrix *)matrix;
    Loan *loan = calloc(1, sizeof *loan);
    if (!loan) return PyErr_NoMemory();
    Py_ssize_t item = item_size(self->dtype);
    for (int i = 0; i < self->ndim; i++) {
        loan->shape[i] = self->shape[i];
        loan->strides[i] = self->strides[i] / item;
    }
    loan->matrix = Py_NewRef(matrix);
    DLTensor tensor = {
        .data = self->data,
        .device = {CPU, 0},
        .ndim = self->ndim,
        .dtype = {FLOAT, (uint8_t)(8 * item), 1},
        .shape = loan->shape,
        .strides = loan->strides,
    };
    if (is_versioned)
        loan->as.versioned = (Versioned){1, 0, loan, delete_versioned, flags, tensor};
    else
        loan->as.managed = (Managed){tensor, loan, delete_managed};
    PyObject *capsule = PyCapsule_New(loan, is_versioned ? VERSIONED : MANAGED, destroy_capsule);
    if (!capsule) free_loan(loan);
    return capsule;
}

/* Whether the pair is the CPU, the one device that there is. */
static int is_cpu(PyObject *device) {
    int type, id;
    if (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &type, &id)) return PyErr_Clear(), 0;
    return type == CPU && id == 0;
}

PyObject *matrix_dlpack(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", names, &stream, &max_version, &device, &copy))
        return NULL;
    if (stream != Py_None) return PyErr_Format(PyExc_BufferError, "stream is %R, but the CPU has none", stream);
    if (device != Py_None && !is_cpu(device))
        return PyErr_Format(PyExc_BufferError, "dl_device is %R, but a Matrix is on the CPU, (1, 0)", device);
    int major = 0, minor = 0;
    if (max_version != Py_None &&
        !(PyTuple_Check(max_version) && PyArg_ParseTuple(max_version, "ii", &major, &minor)))
        return PyErr_Format(PyExc_TypeError, "max_version must be a tuple of two numbers or None, not %R", max_version);
    int wants_copy = copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (wants_copy < 0) return NULL;
    PyObject *matrix = wants_copy ? matrix_duplicate(op) : Py_NewRef(op);
    PyObject *capsule = matrix ? lend(matrix, major >= 1, wants_copy ? IS_COPIED : 0) : NULL;
    Py_XDECREF(matrix);
    return capsule;
}

PyObject *matrix_dlpack_device(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("(ii)", CPU, 0);
}

/* ---- Others' arrays as buffers ---------------------------------------------------------------------------------- */

/* What another library has lent, and its shape as a Py_buffer knows it. */
typedef struct {
    Managed *managed; /* one of the two */
    Versioned *versioned;
    Py_ssize_t *sizes; /* the shape, and the strides after it */
} Borrowed;

/* A capsule of our own holds it, and gives it back. What is a Matrix's goes with the GIL that we have: before Python
 * 3.12 a sub-interpreter that asks for it waits for ever. The lender's function may be Python, and the call may be on
 * its way out with an exception: the one must not meet the other. */
static void give_back(PyObject *capsule) {
    Borrowed *borrowed = PyCapsule_GetPointer(capsule, NULL);
    Managed *managed = borrowed->managed;
    Versioned *versioned = borrowed->versioned;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if ((managed && managed->deleter == delete_managed) || (versioned && versioned->deleter == delete_versioned))
        free_loan(managed ? managed->manager : versioned->manager);
    else if (managed && managed->deleter)
        managed->deleter(managed);
    else if (versioned && versioned->deleter)
        versioned->deleter(versioned);
    PyErr_Restore(type, value, traceback);
    PyMem_Free(borrowed->sizes);
    PyMem_Free(borrowed);
}

static int refuse_device(PyObject *object, const char *name) {
    int type = CPU, id = 0;
    PyObject *method = attribute(object, "__dlpack_device__");
    PyObject *device = method ? PyObject_CallNoArgs(method) : NULL;
    Py_XDECREF(method);
    if (!device) return -1;
    if (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &type, &id)) {
        PyErr_Format(PyExc_TypeError, "%s.__dlpack_device__() returned %R, but must return two numbers", name, device);
        Py_DECREF(device);
        return -1;
    }
    Py_DECREF(device);
    if (type == CPU || type == CUDA_HOST || type == ROCM_HOST) return 0;
    PyErr_Format(PyExc_ValueError,
                 "%s is on a device of DLPack's type %d, but must be in the CPU's memory; move it there, as torch's "
                 "%s.cpu() does",
                 name, type, name);
    return -1;
}

/* The object's capsule; what it says against that is said of the argument. Producers before 2023 know no versions. */
static PyObject *capsule_of(PyObject *object, const char *name) {
    PyObject *method = attribute(object, "__dlpack__"), *none = method ? PyTuple_New(0) : NULL;
    PyObject *version = none ? Py_BuildValue("{s(ii)}", "max_version", 1, 0) : NULL;
    PyObject *capsule = version ? PyObject_Call(method, none, version) : NULL;
    if (version && !capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        capsule = PyObject_CallNoArgs(method);
    }
    Py_XDECREF(version);
    Py_XDECREF(none);
    Py_XDECREF(method);
    if (!capsule && PyErr_ExceptionMatches(PyExc_BufferError)) refuse_access(name);
    return capsule;
}

/* Takes over what the capsule holds: what `borrowed` describes then is `holder`'s. */
static PyObject *take(PyObject *capsule, const char *name, Borrowed **borrowed) {
    int is_versioned = PyCapsule_IsValid(capsule, VERSIONED);
    if (!is_versioned && !PyCapsule_IsValid(capsule, MANAGED)) {
        PyErr_Format(PyExc_TypeError, "%s.__dlpack__() returned %R, which is no DLPack capsule", name, capsule);
        return NULL;
    }
    *borrowed = PyMem_Calloc(1, sizeof **borrowed);
    PyObject *holder = *borrowed ? PyCapsule_New(*borrowed, NULL, give_back) : PyErr_NoMemory();
    if (!holder) {
        PyMem_Free(*borrowed);
        return NULL;
    }
    if (is_versioned)
        (*borrowed)->versioned = PyCapsule_GetPointer(capsule, VERSIONED);
    else
        (*borrowed)->managed = PyCapsule_GetPointer(capsule, MANAGED);
    PyCapsule_SetName(capsule, is_versioned ? "used_" VERSIONED : "used_" MANAGED);
    return holder;
}

/* As struct's formats have it; of what they have no name for, one that says what it is. */
static char *format_of(DLDataType dtype) {
    static const struct {
        DLDataType dtype;
        char *format;
    } formats[] = {
        {{FLOAT, 32, 1}, "f"}, {{FLOAT, 64, 1}, "d"}, {{FLOAT, 16, 1}, "e"}, {{BFLOAT, 16, 1}, "bfloat16"},
        {{INT, 8, 1}, "b"},    {{INT, 16, 1}, "h"},   {{INT, 32, 1}, "i"},   {{INT, 64, 1}, "q"},
        {{UINT, 8, 1}, "B"},   {{UINT, 16, 1}, "H"},  {{UINT, 32, 1}, "I"},  {{UINT, 64, 1}, "Q"},
        {{BOOL, 8, 1}, "?"},   {{COMPLEX, 64, 1}, "complex64"}, {{COMPLEX, 128, 1}, "complex128"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (memcmp(&formats[i].dtype, &dtype, sizeof dtype) == 0) return formats[i].format;
    return "unknown to Pente";
}

static int refuse_tensor(const char *name, const char *what) {
    PyErr_Format(PyExc_BufferError, "%s comes by DLPack %s", name, what);
    return -1;
}

/* The memory as a Py_buffer. Where it lies the lender must know; that the numbers belong together is looked at. */
static int describe(Py_buffer *view, Borrowed *borrowed, PyObject *holder, const char *name) {
    const DLTensor *tensor = borrowed->versioned ? &borrowed->versioned->tensor : &borrowed->managed->tensor;
    Py_ssize_t item = tensor->dtype.bits / 8, step = item;
    int ndim = tensor->ndim;
    if (ndim < 0 || ndim > PyBUF_MAX_NDIM) {
        PyErr_Format(PyExc_BufferError, "%s comes by DLPack with %d dimensions, but 0 to %d are what a buffer may have",
                     name, ndim, PyBUF_MAX_NDIM);
        return -1;
    }
    if (ndim > 0 && !tensor->shape) return refuse_tensor(name, "without a shape");
    Py_ssize_t *shape = borrowed->sizes = PyMem_Calloc(2 * ndim + 1, sizeof *shape), *strides = shape + ndim;
    if (!shape) return PyErr_NoMemory(), -1;
    for (int i = ndim - 1; i >= 0; i--) {
        shape[i] = tensor->shape[i];
        strides[i] = step;
        if (shape[i] < 0) return refuse_tensor(name, "with a negative size in its shape");
        int is_too_far = tensor->strides && shape[i] > 1 && /* else the stride may be anything */
                         __builtin_mul_overflow(tensor->strides[i], item, &strides[i]);
        if (is_too_far || __builtin_mul_overflow(step, shape[i], &step))
            return refuse_tensor(name, "with a shape or strides beyond all memory");
    }
    if (step > 0 && !tensor->data) return refuse_tensor(name, "without memory");
    *view = (Py_buffer){
        .buf = (char *)tensor->data + tensor->byte_offset,
        .obj = holder,
        .len = step,
        .itemsize = item,
        .readonly = borrowed->versioned && borrowed->versioned->flags & READ_ONLY,
        .ndim = ndim,
        .format = format_of(tensor->dtype),
        .shape = shape,
        .strides = strides,
    };
    return 0;
}

int dlpack_get(Py_buffer *view, PyObject *object, const char *name) {
    PyObject *capsule = refuse_device(object, name) < 0 ? NULL : capsule_of(object, name);
    Borrowed *borrowed;
    PyObject *holder = capsule ? take(capsule, name, &borrowed) : NULL;
    Py_XDECREF(capsule);
    if (!holder) return -1;
    if (borrowed->versioned && borrowed->versioned->major != 1) {
        PyErr_Format(PyExc_BufferError, "%s comes by DLPack %u, but this Pente knows 1", name,
                     (unsigned)borrowed->versioned->major);
        Py_DECREF(holder);
        return -1;
    }
    int failed = describe(view, borrowed, holder, name);
    if (failed) Py_DECREF(holder);
    return failed;
}
