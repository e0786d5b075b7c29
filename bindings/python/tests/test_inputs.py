"""What may go in as a matrix, and what is said about the rest."""

import ctypes
from array import array

import pente
import pytest
from support import DTYPES, matrix, randoms, vector, zeros


@pytest.fixture
def layer():
    return pente.Linear(3, 2, dtype="float64", seed=0)


def test_lists_and_other_strangers_are_told_what_to_be(layer):
    for stranger in [[[1.0, 2.0, 3.0]], 1.0, None, "abc", object()]:
        with pytest.raises(TypeError, match=r"x is of type .*array\.array.*numpy\.asarray\(x, numpy\.float64\)"):
            layer.predict(stranger)


@pytest.mark.parametrize(
    "code, name",
    [("f", "float32"), ("i", "int32"), ("q", "int64"), ("B", "uint8"), ("H", "uint16")],
)
def test_another_dtype_is_named_with_its_cure(layer, code, name):
    with pytest.raises(TypeError, match=rf"x is {name}, but must be float64; .*numpy\.asarray\(x, numpy\.float64\)"):
        layer.predict(array(code, [1, 2, 3]))


def test_bytes_and_odd_formats(layer):
    with pytest.raises(TypeError, match="x is uint8"):
        layer.predict(b"12345678" * 3)
    with pytest.raises(TypeError, match="x is of format"):
        layer.predict(memoryview(bytes(3)).cast("?"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ctypes_and_memoryviews_go_in(dtype):
    layer = pente.Linear(3, 2, dtype=dtype, seed=0)
    kind = ctypes.c_float if dtype == "float32" else ctypes.c_double
    expected = layer.predict(vector([1, 2, 3], dtype)).tolist()
    assert layer.predict((kind * 3)(1, 2, 3)).tolist() == expected
    assert layer.predict(((kind * 3) * 1)((1, 2, 3))).tolist() == expected
    assert layer.predict(memoryview(vector([0, 1, 2, 3], dtype))[1:]).tolist() == expected


def test_dimensions(layer):
    with pytest.raises(ValueError, match="x has 0 dimensions"):
        layer.predict(ctypes.c_double(1.0))
    with pytest.raises(ValueError, match="x has 3 dimensions"):
        layer.predict(memoryview(bytes(8 * 12)).cast("d", (2, 2, 3)))
    with pytest.raises(ValueError, match="sample_weight has 3 dimensions.*column"):
        pente.MSELoss()(zeros(2, 2), zeros(2, 2), memoryview(bytes(8 * 12)).cast("d", (2, 2, 3)))


def test_layouts_that_need_a_copy_say_so(layer):
    with pytest.raises(ValueError, match=r"x has rows that are not contiguous; .*numpy\.ascontiguousarray\(x\)"):
        layer.predict(memoryview(vector([1, 2, 3, 4, 5, 6]))[::2])
    with pytest.raises(ValueError, match="x has rows that overlap or run backwards"):
        layer.predict(memoryview(vector([1, 2, 3, 4, 5, 6])).cast("B").cast("d", (2, 3))[::-1])
    with pytest.raises(ValueError, match="x is not aligned"):
        layer.predict(memoryview(bytearray(25))[1:].cast("d"))


def test_every_other_row_goes_without_a_copy(layer):
    x = randoms(6, 3)
    rows = memoryview(x)[::2]
    assert layer.predict(rows).tolist() == layer.predict(matrix(x.tolist()[::2])).tolist()


def test_shapes_are_the_librarys_to_refuse(layer):
    with pytest.raises(ValueError, match="x is 2×4"):
        layer.predict(zeros(2, 4))
    with pytest.raises(ValueError, match="3×2"):
        layer.predict(zeros(2, 3), zeros(3, 2))
    with pytest.raises(ValueError):
        layer.predict(array("d"))


def test_a_vector_in_a_columns_place_is_advised():
    loss = pente.MSELoss()
    with pytest.raises(ValueError, match=r"target is 1-D, which is one row; as a column it is target\.reshape\(4, 1\)"):
        loss(zeros(4, 1), vector([1, 2, 3, 4]))
    layer = pente.Linear(3, 1, dtype="float64")
    trainer = pente.Trainer(layer, pente.SGD(layer), loss)
    with pytest.raises(ValueError, match=r"y\.reshape\(4, 1\)"):
        trainer.step(zeros(4, 3), vector([1, 2, 3, 4]))


def test_results_must_be_writable_matching_and_apart(layer):
    x = randoms(2, 3)
    with pytest.raises(ValueError, match="out is read-only"):
        layer.predict(x, memoryview(bytes(8 * 4)).cast("d", (2, 2)))
    with pytest.raises(TypeError, match="out is float32"):
        layer.predict(x, zeros(2, 2, "float32"))
    with pytest.raises(TypeError, match="out is of type list"):
        layer.predict(x, [])
    square = pente.Linear(3, 3, dtype="float64")
    x = randoms(3, 3)
    with pytest.raises(ValueError, match="^out overlaps x"):
        square.predict(x, x)
    with pytest.raises(ValueError, match="^out overlaps the layer's weight"):
        square.predict(x, square.weight)
    with pytest.raises(ValueError, match="^out is 2×3"):
        square.forward(x, zeros(2, 3))
    square.forward(x)
    with pytest.raises(ValueError, match="^out overlaps the x of the forward pass"):
        square.backward(zeros(3, 3), x)
    with pytest.raises(ValueError, match="^grad_output is 2×3"):
        square.backward(zeros(2, 3), zeros(3, 3))


def test_released_buffers_are_refused(layer):
    x = memoryview(vector([1, 2, 3]))
    x.release()
    with pytest.raises(ValueError, match="released"):
        layer.predict(x)


class TestNumPy:
    @pytest.fixture(autouse=True)
    def numpy(self):
        self.np = pytest.importorskip("numpy")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_arrays_go_in_and_views_come_out(self, dtype):
        np = self.np
        layer = pente.Linear(4, 3, dtype=dtype, seed=0)
        x = np.linspace(-1, 1, 20, dtype=dtype).reshape(5, 4)
        y = np.asarray(layer.predict(x))
        assert y.dtype == dtype and y.shape == (5, 3)
        np.testing.assert_allclose(y, x @ np.asarray(layer.weight).T + layer.bias, rtol=1e-5)
        np.asarray(layer.bias)[:] = 4
        assert layer.bias.tolist() == [4.0] * 3

    def test_a_block_of_columns_needs_no_copy(self):
        np = self.np
        layer = pente.Linear(3, 2, dtype="float64", seed=0)
        table = np.random.default_rng(0).normal(size=(6, 10))
        expected = np.asarray(layer.predict(table[:, 4:7].copy()))
        assert (np.asarray(layer.predict(table[:, 4:7])) == expected).all()
        out = np.zeros((6, 5))
        block = out[:, 1:3]
        assert layer.predict(table[:, 4:7], block) is block
        assert (out[:, 1:3] == expected).all() and not out[:, [0, 3, 4]].any()
        single = pente.Linear(1, 1, dtype="float64", seed=0)
        assert (np.asarray(single.predict(table[:, 2:3])) == np.asarray(single.predict(table[:, 2:3].copy()))).all()

    def test_strides_that_need_a_copy(self):
        np = self.np
        layer = pente.Linear(3, 2, dtype="float64")
        table = np.zeros((6, 6))
        for x in [
            table[:, ::2],
            table[::-1, :3],
            table[:3, :4].T,
            np.broadcast_to(np.zeros(3), (6, 3)),
            np.lib.stride_tricks.sliding_window_view(np.zeros(8), 3),
            np.asfortranarray(np.zeros((4, 3))),
            np.zeros(5, dtype=[("a", "f8"), ("b", "f4")])["a"][:3],
        ]:
            with pytest.raises(ValueError, match="ascontiguousarray"):
                layer.predict(x)
        odd = np.zeros(5, dtype=[("a", "f8"), ("b", "f4")])["a"].reshape(5, 1)
        with pytest.raises(ValueError, match="whole number of elements|aligned"):
            pente.Linear(1, 1, dtype="float64").predict(odd)

    def test_dtypes(self):
        np = self.np
        layer = pente.Linear(3, 2, dtype="float64")
        for name in ["float16", "float32", "int64", "int8", "uint32", "bool", "complex128", ">f8", "longdouble"]:
            with pytest.raises(TypeError, match="x is .*but must be float64"):
                layer.predict(np.zeros((2, 3), dtype=name))
        with pytest.raises(TypeError, match="prediction is float16, but must be float32 or float64"):
            pente.MSELoss()(np.zeros((2, 3), "f2"), np.zeros((2, 3), "f2"))
        with pytest.raises(ValueError, match="x gives no access to its memory: .*dtype 'M'"):
            layer.predict(np.zeros((2, 3), "datetime64[s]"))

    def test_read_only_arrays_are_inputs_only(self):
        np = self.np
        layer = pente.Linear(3, 2, dtype="float64")
        x, out = np.zeros((2, 3)), np.zeros((2, 2))
        x.flags.writeable = out.flags.writeable = False
        layer.predict(x)
        with pytest.raises(ValueError, match="out is read-only"):
            layer.predict(x, out)

    @pytest.mark.parametrize("shape", [(0, 3), (0,), (3, 0), (0, 0)])
    def test_empty_arrays_are_errors(self, shape):
        np = self.np
        layer = pente.Linear(3, 2, dtype="float64")
        x = np.zeros(shape)
        loss = pente.MSELoss()
        trainer = pente.Trainer(layer, pente.SGD(layer), loss)
        for refused in [
            lambda: layer.predict(x),
            lambda: layer.forward(x),
            lambda: loss(x, x),
            lambda: pente.MSELoss("none")(x, x),
            lambda: trainer.step(x, x),
            lambda: trainer.fit(x, x),
            lambda: pente.gradcheck(layer, x),
        ]:
            with pytest.raises(ValueError):
                refused()

    def test_zero_dimensions(self):
        with pytest.raises(ValueError, match="x has 0 dimensions"):
            pente.Linear(1, 1, dtype="float64").predict(self.np.float64(1))
