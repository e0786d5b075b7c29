"""Memory that is shared with other libraries: DLPack and the array protocol, in both directions."""

import ctypes
import gc
import sys
import threading

import pente
import pytest
from support import DTYPES, Borrowed, matrix, randoms, run_python, vector

np = pytest.importorskip("numpy")


def address(values):
    return np.asarray(values).__array_interface__["data"][0]


class Ancient(Borrowed):
    """Of before versions."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


class Described:
    """An array that NumPy alone can read."""

    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__
        self.array = array


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Tensor(ctypes.Structure):
    """DLPack's DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", DELETER),
    ]


class Lender:
    """Lends memory of its own, and notes in Python when it comes back. The parts are Tensor's."""

    def __init__(self, shape=(2, 3), strides=None, **parts):
        self.ends = []
        self.memory = (ctypes.c_double * 64)()
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        steps = strides and (ctypes.c_int64 * len(shape))(*strides)
        self.tensor = Tensor(ctypes.addressof(self.memory), (1, 0), len(shape), 2, 64, 1, sizes, steps)
        self.tensor.deleter = DELETER(lambda address: self.ends.extend(range(1)))
        for name, value in parts.items():
            setattr(self.tensor, name, value)

    def __dlpack__(self):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)

    def __dlpack_device__(self):
        return (1, 0)


# ---- Out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_weights_and_gradients(dtype):
    layer = pente.Linear(3, 2, dtype=dtype, seed=0)
    layer.forward(randoms(4, 3, dtype))
    layer.backward(randoms(4, 2, dtype))
    for view in [layer.weight, layer.bias, layer.weight_grad, layer.bias_grad]:
        shared = np.from_dlpack(view)
        assert shared.dtype == dtype and shared.shape == view.shape and address(shared) == address(view)
        assert shared.tolist() == view.tolist()
        shared += 1
        assert shared.tolist() == view.tolist()


def test_shared_memory_outlives_its_layer():
    shared = np.from_dlpack(pente.Linear(300, 200, dtype="float64", seed=0).weight)
    gc.collect()
    assert shared.tolist() == pente.Linear(300, 200, dtype="float64", seed=0).weight.tolist()


def test_a_copy_when_it_is_asked_for():
    layer = pente.Linear(3, 2, seed=0)
    copy = np.from_dlpack(layer.weight, copy=True)
    assert address(copy) != address(layer.weight) and copy.tolist() == layer.weight.tolist()
    assert address(np.from_dlpack(layer.weight, copy=False)) == address(layer.weight)


def test_what_the_standard_lets_a_consumer_ask_for():
    weight = pente.Linear(3, 2).weight
    assert weight.__dlpack_device__() == (1, 0)
    assert '"dltensor"' in repr(weight.__dlpack__())
    assert '"dltensor"' in repr(weight.__dlpack__(max_version=(0, 8)))
    assert '"dltensor_versioned"' in repr(weight.__dlpack__(max_version=(1, 0), dl_device=(1, 0)))
    with pytest.raises(BufferError, match=r"dl_device is \(2, 0\), but a Matrix is on the CPU"):
        weight.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="stream is 1, but the CPU has none"):
        weight.__dlpack__(stream=1)
    with pytest.raises(TypeError, match="max_version must be a tuple of two numbers or None, not 1"):
        weight.__dlpack__(max_version=1)


def test_loans_end():
    layer = pente.Linear(3, 2)
    before = sys.getrefcount(layer)
    capsules = [layer.weight.__dlpack__(), layer.weight.__dlpack__(max_version=(1, 0))]
    shared = [np.from_dlpack(layer.weight) for _ in range(10)]
    assert sys.getrefcount(layer) > before
    thread = threading.Thread(target=shared.clear)
    thread.start()
    thread.join()
    capsules.clear()
    assert sys.getrefcount(layer) == before


def test_a_loan_may_outlive_python():
    run_python(
        """
        import numpy, pente, sys
        sys.kept = numpy.from_dlpack(pente.Linear(3, 2).weight)
        sys.capsule = pente.Linear(3, 2).weight.__dlpack__()
        """
    )


def test_the_array_interface_is_numpys():
    weight, bias = pente.Linear(3, 2, seed=0).weight, pente.Linear(3, 2, dtype="float64").bias
    for matrix_, strides in ((weight, (12, 4)), (bias, (8,))):
        expected = np.asarray(matrix_).__array_interface__ | {"strides": strides}
        del expected["descr"]  # of structures
        assert matrix_.__array_interface__ == expected
    assert np.asarray(Described(np.asarray(weight))).tolist() == weight.tolist()


def test_the_array_method_is_numpys():
    weight = pente.Linear(3, 2, seed=0).weight
    shared, copy, other = weight.__array__(), weight.__array__(copy=True), weight.__array__("float64")
    assert address(shared) == address(weight) != address(copy) and other.dtype == "float64"
    assert shared.tolist() == copy.tolist() == other.tolist() == weight.tolist()
    assert np.array(weight, "float64").tolist() == other.tolist()
    with pytest.raises(ValueError, match="copy"):
        weight.__array__("float64", copy=False)


def test_pandas_takes_and_gives():
    pandas = pytest.importorskip("pandas")
    layer, x = pente.Linear(3, 2, dtype="float64", seed=0), np.asarray(randoms(4, 3))
    frame = pandas.DataFrame({name: x[:, j] for j, name in enumerate("abc")})
    with pytest.raises(ValueError, match=r"x has rows that are not contiguous; .*numpy\.ascontiguousarray\(x\)"):
        layer.predict(frame)  # columns lie one after another there
    prediction = layer.predict(np.ascontiguousarray(frame))
    assert prediction.tolist() == layer.predict(x).tolist()
    assert pandas.DataFrame(prediction).to_numpy().tolist() == prediction.tolist()


# ---- In --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lender", [Borrowed, Ancient, Described])
def test_other_libraries_arrays_go_in(dtype, lender):
    layer = pente.Linear(3, 2, dtype=dtype, seed=0)
    x = np.asarray(randoms(4, 3, dtype))
    wide = np.ascontiguousarray(np.concatenate([x, x], axis=1))
    assert layer.predict(lender(x)).tolist() == layer.predict(x).tolist()
    assert layer.predict(lender(x[::2])).tolist() == layer.predict(x[::2]).tolist()
    assert layer.predict(lender(wide[:, 3:])).tolist() == layer.predict(x).tolist()
    assert layer.predict(lender(x[1])).tolist() == layer.predict(x[1]).tolist()


def test_they_train():
    x, y = np.asarray(randoms(8, 3, "float32")), np.asarray(randoms(8, 2, "float32", seed=1))
    losses = []
    for lender in (lambda array: array, Borrowed):
        layer = pente.Linear(3, 2, seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
        loss = trainer.step(lender(x), lender(y))
        history = trainer.fit(lender(x), lender(y), epochs=2, validation=(lender(x), lender(y)))
        prediction = layer(lender(x))
        trainer.loss(prediction, lender(y), lender(np.ones(8, np.float32)))
        layer.backward(trainer.loss.backward())
        losses.append((loss, history, layer.weight_grad.tolist()))
    assert losses[0] == losses[1]


def test_the_forward_pass_keeps_what_it_borrows_and_no_longer():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    x = np.asarray(randoms(4, 3))
    lent = Borrowed(x.copy())
    counts = [sys.getrefcount(lent.array)]
    layer.forward(lent)
    counts.append(sys.getrefcount(lent.array))
    layer.backward(randoms(4, 2, seed=1))
    counts.append(sys.getrefcount(lent.array))
    assert counts == [counts[0], counts[0] + 1, counts[0]]
    expected = np.asarray(randoms(4, 2, seed=1)).T @ x
    assert np.allclose(np.asarray(layer.weight_grad), expected, rtol=1e-12)


def test_results_go_out_into_them():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    x, out = randoms(4, 3), np.zeros((4, 2))
    lent = Borrowed(out)
    assert layer.predict(x, lent) is lent and out.tolist() == layer.predict(x).tolist()
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        layer.predict(x, Borrowed(out))
    with pytest.raises(TypeError, match="out is of type Described"):  # it could be a copy
        layer.predict(x, Described(np.zeros((4, 2))))


def test_read_only_arrays_are_read():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    x = np.asarray(randoms(4, 3))
    expected = layer.predict(x).tolist()
    x.flags.writeable = False
    for lent in (x, Borrowed(x), Described(x)):
        assert layer.predict(lent).tolist() == expected


def test_layouts_that_need_a_copy_say_so():
    layer = pente.Linear(3, 2, dtype="float64")
    x = np.asarray(randoms(4, 3))
    with pytest.raises(ValueError, match=r"x has rows that overlap or run backwards; copy it, .*x\.contiguous\(\)"):
        layer.predict(Borrowed(x[::-1]))
    for backwards in (x[:, ::-1], np.asarray(randoms(3, 4)).T):
        with pytest.raises(ValueError, match="x has rows that are not contiguous"):
            layer.predict(Borrowed(backwards))
    with pytest.raises(ValueError, match="x has rows that overlap"):
        layer.predict(Borrowed(np.broadcast_to(x[:1], (4, 3))))
    with pytest.raises(ValueError, match="x has 3 dimensions"):
        layer.predict(Borrowed(np.zeros((2, 2, 3))))
    with pytest.raises(ValueError, match="x has 0 dimensions"):
        layer.predict(Borrowed(np.zeros(())))
    for empty in ((0, 3), (4, 0)):
        with pytest.raises(ValueError, match="x is"):
            layer.predict(Borrowed(np.zeros(empty)))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "complex128"])
def test_another_dtype_is_named_with_its_cure(dtype):
    layer, x = pente.Linear(3, 2, dtype="float64"), np.zeros((4, 3), dtype)
    message = rf"x is {dtype}, but must be float64; convert it, as with torch's x\.to\(torch\.float64\)"
    with pytest.raises(TypeError, match=message):
        layer.predict(Borrowed(x))
    with pytest.raises(TypeError, match=r"must be float64; convert it, as with numpy\.asarray\(x, numpy\.float64\)"):
        layer.predict(Described(x))


def test_producers_that_fail_are_quoted():
    layer = pente.Linear(3, 2, dtype="float64")
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match="x is on a device of DLPack's type 2, but must be in the CPU's memory"):
        layer.predict(Borrowed(x, device=(2, 0)))
    with pytest.raises(ValueError, match="x gives no access to its memory: not today"):
        layer.predict(Borrowed(x, error=BufferError("not today")))
    with pytest.raises(ZeroDivisionError):
        layer.predict(Borrowed(x, error=ZeroDivisionError()))
    with pytest.raises(TypeError, match=r"x\.__dlpack__\(\) returned 'capsule', which is no DLPack capsule"):
        layer.predict(Borrowed(x, capsule="capsule"))
    used = x.__dlpack__()
    layer.predict(Borrowed(x, capsule=used))
    with pytest.raises(TypeError, match="which is no DLPack capsule"):
        layer.predict(Borrowed(x, capsule=used))
    for device in ("cpu", ("cpu", 0), (1,)):
        with pytest.raises(TypeError, match=r"x\.__dlpack_device__\(\) returned .* but must return two numbers"):
            layer.predict(Borrowed(x, device=device))


def test_a_refusal_survives_a_lenders_function_in_python():
    layer = pente.Linear(3, 2, dtype="float64")
    for refused, error in ((Lender(bits=32), TypeError), (Lender((4, 4)), ValueError), (Lender((2, 3, 1)), ValueError)):
        with pytest.raises(error, match="x "):
            layer.predict(refused)
        assert refused.ends == [0]
    taken = Lender()
    assert layer.predict(taken).shape == (2, 2) and taken.ends == [0]


def test_a_lender_whose_numbers_make_no_sense_is_refused():
    layer = pente.Linear(3, 2, dtype="float64")
    for lender, what in (
        (Lender(ndim=-1), "with -1 dimensions, but 0 to 64"),
        (Lender(ndim=65), "with 65 dimensions, but 0 to 64"),
        (Lender(shape=(2, 3), data=None), "without memory"),
        (Lender(shape=(-1, -1)), "with a negative size"),
        (Lender(shape=(2, -3)), "with a negative size"),
        (Lender(shape=(2**62, 3)), "with a shape or strides beyond"),
        (Lender(strides=(2**61 + 3, 1)), "with a shape or strides beyond"),
        (Lender(), "without a shape"),
    ):
        if what == "without a shape":
            lender.tensor.shape = None
        for call in (layer.predict, layer.forward, pente.Matrix):
            lender.ends.clear()
            with pytest.raises(BufferError, match=f"x comes by DLPack {what}"):
                call(lender)
            assert lender.ends == [0]
    assert layer.predict(Lender((1, 3), (2**62, 1))).shape == (1, 2)  # of one row nobody asks where the next is


def test_a_layer_of_ones_own_may_answer_with_them():
    double = pente.CustomLayer(
        forward=lambda x: Borrowed(2 * np.asarray(x)),
        backward=lambda x, y, grad_output: Described(2 * np.asarray(grad_output)),
        dtype="float64",
    )
    assert pente.gradcheck(double, randoms(3, 2))


def test_without_numpy_the_array_protocol_is_told_what_to_be():
    run_python(
        """
        import sys
        sys.modules["numpy"] = None
        import pente
        class Described:
            __array_interface__ = {}
        try:
            pente.Linear(3, 2).predict(Described())
        except TypeError as error:
            assert "x is of type Described, which has no buffer" in str(error), error
        else:
            raise AssertionError("taken")
        """
    )


def test_a_layer_of_ones_own_that_answers_with_many_dimensions_is_told_them():
    for shape in ((2, 3, 4), (2, 3, 4, 5, 6, 7, 8)):
        layer = pente.CustomLayer(forward=lambda x: Borrowed(np.zeros(shape)), dtype="float64")
        with pytest.raises(ValueError, match=rf"returned float64 of shape \({', '.join(map(str, shape))}\), but"):
            layer.predict(randoms(2, 3))


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_round_trip(torch, dtype):
    layer = pente.Linear(3, 2, dtype=dtype, seed=0)
    shared = torch.from_dlpack(layer.weight)
    assert shared.data_ptr() == address(layer.weight) and shared.shape == layer.weight.shape
    shared.fill_(2)
    assert layer.weight.tolist() == [[2, 2, 2], [2, 2, 2]]
    x = torch.tensor(randoms(4, 3, dtype).tolist(), dtype=getattr(torch, dtype))
    assert layer.predict(x).tolist() == layer.predict(x.numpy()).tolist()
    out = torch.zeros(4, 2, dtype=x.dtype)
    layer.predict(x, out)
    assert torch.equal(out, torch.from_dlpack(layer.predict(x)))


def test_torch_refusals(torch):
    layer = pente.Linear(3, 2)
    for name in ("float16", "bfloat16", "int64", "complex64"):
        with pytest.raises(TypeError, match=rf"x is {name}, but must be float32; .*x\.to\(torch\.float32\)"):
            layer.predict(torch.zeros(4, 3, dtype=getattr(torch, name)))
    with pytest.raises(ValueError, match="x gives no access to its memory: .*detach"):
        layer.predict(torch.zeros(4, 3, requires_grad=True))
    with pytest.raises(ValueError, match=r"x has rows that are not contiguous; .*x\.contiguous\(\)"):
        layer.predict(torch.zeros(3, 4).T)
    with pytest.raises(ValueError, match="x has rows that overlap"):
        layer.predict(torch.zeros(1, 3).expand(4, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_takes_a_state_dict_and_gives_one(torch, dtype):
    ours = pente.Chain(
        pente.Linear(5, 4, dtype=dtype, seed=1), pente.ReLU(dtype), pente.Linear(4, 2, bias=False, dtype=dtype)
    )
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False)
    ).to(getattr(torch, dtype))
    x = torch.tensor(randoms(6, 5, dtype).tolist(), dtype=getattr(torch, dtype))
    before = theirs(x)
    assert str(theirs.load_state_dict(ours.state_dict())) == "<All keys matched successfully>"
    assert not torch.equal(before, theirs(x))
    assert torch.allclose(theirs(x), torch.from_dlpack(ours.predict(x)), rtol=1e-5)
    anew = pente.Chain(
        pente.Linear(5, 4, dtype=dtype), pente.ReLU(dtype), pente.Linear(4, 2, bias=False, dtype=dtype)
    )
    assert anew != ours
    anew.load_state_dict(theirs.state_dict())
    assert anew == ours


def test_torchs_functions_take_matrices(torch):
    weight = pente.Linear(3, 2, seed=0).weight
    assert torch.equal(torch.stack([torch.zeros(2, 3), weight])[1], torch.from_dlpack(weight))
    assert torch.add(torch.zeros(2, 3), other=weight).tolist() == weight.tolist()


# ---- Matrix ----------------------------------------------------------------------------------------------------------


def test_a_matrix_of_ones_own_is_a_copy():
    source = vector([1, 2, 3])
    copy = pente.Matrix(source)
    source[0] = 5
    assert copy.tolist() == [1, 2, 3] and copy.dtype == "float64" and copy.shape == (3,)
    assert pente.Matrix(np.float32([[1, 2], [3, 4]])[:, :1]).tolist() == [[1], [3]]
    assert pente.Matrix(matrix([[1, 2]])) == pente.Matrix(matrix([[1, 2]]))
    with pytest.raises(TypeError, match="x is of type list"):
        pente.Matrix([1.0])
    with pytest.raises(TypeError, match="x is int64, but must be float32 or float64"):
        pente.Matrix(np.zeros(3, np.int64))
    with pytest.raises(TypeError):
        pente.Matrix()


def test_rows_are_views():
    weight = pente.Linear(3, 2, dtype="float64", seed=0).weight
    assert [row.tolist() for row in weight] == weight.tolist() and weight[-1] == weight[1] and weight[0].shape == (3,)
    weight[1][2] = 5
    assert weight[1, 2] == 5 and list(weight[1]) == weight.tolist()[1]
    for index in (2, -3, 1 << 80):
        with pytest.raises(IndexError):
            weight[index]


def test_matrices_are_equal_by_bits():
    def row(*values, dtype="float64"):
        return pente.Matrix(vector(values, dtype))

    assert row(1, 2) == row(1, 2) and not row(1, 2) != row(1, 2)
    assert row(1, 2) != row(1, 3) and row(1, 2) != row(1, 2, dtype="float32") and row(1, 2) != row(1, 2, 3)
    assert row(0, 0, dtype="float32") != row(0, 0)
    assert row(0.0) != row(-0.0) and row(float("nan")) == row(float("nan"))
    assert row(1, 2) != pente.Matrix(matrix([[1, 2]]))
    assert row(1, 2) != [1, 2] and (row(1, 2) == np.array([1, 3])).tolist() == [True, False]
    with pytest.raises(TypeError):
        hash(row(1))
    with pytest.raises(TypeError):
        row(1) < row(2)
