"""Layers of the user's own: two functions, or a class."""

import inspect
from array import array

import pente
import pytest
from support import (
    DTYPES,
    Affine,
    assert_close,
    gradients,
    matrix,
    network,
    problem,
    randoms,
    snapshot,
    square,
    vector,
    zeros,
)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


class Gain(pente.CustomLayer):
    """y = gain x, with a parameter of one row and one of two dimensions: y = gain x + x shift."""

    def __init__(self, width, dtype="float64"):
        super().__init__(
            width,
            width,
            parameters={"gain": vector([2.0] * width, dtype), "shift": zeros(width, width, dtype)},
            dtype=dtype,
        )
        self.seen = []

    def compute_forward(self, x, gain, shift):
        self.seen.append((x, gain, shift))
        return matrix([[a * b for a, b in zip(row, gain.tolist())] for row in x.tolist()], self.dtype)

    def compute_backward(self, x, y, grad_output, gain, shift):
        self.seen.append((x, y, grad_output, gain, shift))
        upstream = matrix([[a * b for a, b in zip(row, gain.tolist())] for row in grad_output.tolist()], self.dtype)
        total = [sum(a * b for a, b in zip(*pair)) for pair in zip(zip(*x.tolist()), zip(*grad_output.tolist()))]
        return upstream, {"shift": zeros(*shift.shape, self.dtype), "gain": vector(total, self.dtype)}


def test_describes_itself():
    layer = square("float32")
    assert repr(layer) == "CustomLayer(in_features=None, out_features=None, dtype='float32')"
    assert (layer.in_features, layer.out_features, layer.dtype) == (None, None, "float32")
    layer = Gain(3)
    assert repr(layer) == "Gain(in_features=3, out_features=3, dtype='float64')"
    assert (layer.in_features, layer.out_features, layer.dtype) == (3, 3, "float64")
    assert isinstance(layer, pente.Layer)
    assert str(inspect.signature(pente.CustomLayer)) == (
        "(in_features=None, out_features=None, forward=None, backward=None, parameters=None, dtype='float32')"
    )


# ---- Two functions ---------------------------------------------------------------------------------------------------


def test_two_functions(dtype):
    layer, x, grad_output = square(dtype), randoms(3, 4, dtype), randoms(3, 4, dtype, seed=1)
    expected = matrix([[a * a for a in row] for row in x.tolist()], dtype).tolist()
    for call in (layer, layer.forward, layer.predict):
        y = call(x)
        assert isinstance(y, pente.Matrix) and y.tolist() == expected
    out = zeros(3, 4, dtype)
    assert layer.forward(x, out) is out and out.tolist() == expected
    expected = [[2 * a * g for a, g in zip(*rows)] for rows in zip(x.tolist(), grad_output.tolist())]
    assert_close(layer.backward(grad_output).tolist(), expected, dtype)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(grad_output)
    assert layer.predict(zeros(2, 9, dtype)).shape == (2, 9)
    layer.forward(x)
    assert layer.backward(grad_output, input_gradient=False) is None
    layer.forward(x)
    assert layer.backward(grad_output, out) is out


def test_two_functions_with_parameters():
    def forward(x, bias, scale):
        return matrix([[a * scale[0, 0] + b for a, b in zip(row, bias.tolist())] for row in x.tolist()])

    def backward(x, y, grad_output, **parameters):
        assert list(parameters) == ["scale", "bias"]
        rows, upstream = x.tolist(), grad_output.tolist()
        scale = sum(a * g for pair in zip(rows, upstream) for a, g in zip(*pair))
        bias = [sum(column) for column in zip(*upstream)]
        grad_input = [[g * parameters["scale"][0, 0] for g in row] for row in upstream]
        return matrix(grad_input), {"bias": vector(bias), "scale": matrix([[scale]])}

    parameters = {"scale": matrix([[2.0]]), "bias": vector([1, 2, 3])}
    layer = pente.CustomLayer(3, 3, forward, backward, parameters, "float64")
    assert layer.predict(matrix([[1, 1, 1]])).tolist() == [[3.0, 4.0, 5.0]]
    layer.forward(matrix([[1, 2, 3], [4, 5, 6]]))
    assert layer.backward(matrix([[1, 0, 1], [0, 2, 0]])).tolist() == [[2.0, 0.0, 2.0], [0.0, 4.0, 0.0]]
    assert layer.gradients["scale"].tolist() == [[14.0]]
    assert layer.gradients["bias"].tolist() == [1.0, 2.0, 1.0]
    assert pente.gradcheck(layer, randoms(4, 3))


def test_rows_and_columns_may_differ():
    layer = pente.CustomLayer(
        3,
        1,
        lambda x: matrix([[sum(row)] for row in x.tolist()]),
        lambda x, y, grad_output: matrix([row * 3 for row in grad_output.tolist()]),
        dtype="float64",
    )
    assert layer.forward(matrix([[1, 2, 3], [4, 5, 6]])).tolist() == [[6.0], [15.0]]
    assert layer.backward(matrix([[1], [2]])).tolist() == [[1.0] * 3, [2.0] * 3]
    with pytest.raises(ValueError, match="x is 2×2"):
        layer.predict(zeros(2, 2))
    assert pente.gradcheck(layer, randoms(4, 3))


# ---- A class ---------------------------------------------------------------------------------------------------------


def test_a_class_with_parameters(dtype):
    layer, x, grad_output = Gain(3, dtype), randoms(4, 3, dtype), randoms(4, 3, dtype, seed=1)
    assert list(layer.parameters) == ["gain", "shift"]
    assert {name: value.shape for name, value in layer.parameters.items()} == {"gain": (3,), "shift": (3, 3)}
    layer.parameters["gain"][1] = 5.0
    y = layer.forward(x)
    assert_close(y.tolist(), [[2 * a, 5 * b, 2 * c] for a, b, c in x.tolist()], dtype)
    layer.backward(grad_output)
    layer.forward(x)
    layer.backward(grad_output)
    once = [sum(a * g for a, g in zip(*pair)) for pair in zip(zip(*x.tolist()), zip(*grad_output.tolist()))]
    assert_close(layer.gradients["gain"].tolist(), [2 * value for value in once], dtype)
    layer.zero_grad()
    assert layer.gradients["gain"].tolist() == [0.0] * 3


def test_what_a_callback_gets_is_its_own(dtype):
    layer, x = Gain(3, dtype), randoms(4, 3, dtype)
    y = layer.forward(x)
    layer.backward(y)
    (forward_x, gain, shift), (backward_x, backward_y, grad_output, _, _) = layer.seen
    for value in (forward_x, gain, shift, backward_x, backward_y, grad_output):
        assert isinstance(value, pente.Matrix) and value.dtype == dtype
    assert bytes(forward_x) == bytes(backward_x) == bytes(x)
    assert bytes(backward_y) == bytes(grad_output) == bytes(y)
    assert gain.shape == (3,) and shift.shape == (3, 3)
    gain[0] = forward_x[0, 0] = 100.0
    assert layer.parameters["gain"][0] == 2.0 and x[0, 0] != 100.0
    del layer, x, y
    assert gain[0] == 100.0


def test_the_base_calls_the_functions():
    class Doubled(pente.CustomLayer):
        def compute_forward(self, x, **parameters):
            y = super().compute_forward(x, **parameters)
            return matrix([[2 * value for value in row] for row in y.tolist()])

    layer = Doubled(forward=lambda x: x, backward=lambda x, y, grad_output: grad_output, dtype="float64")
    assert layer.forward(matrix([[1, 2]])).tolist() == [[2.0, 4.0]]
    assert layer.backward(matrix([[3, 4]])).tolist() == [[3.0, 4.0]]


def test_without_a_definition():
    layer = pente.CustomLayer(forward=lambda x: x, dtype="float64")
    layer.forward(zeros(1, 2))
    with pytest.raises(NotImplementedError, match="CustomLayer has no compute_backward"):
        layer.backward(zeros(1, 2))

    class Empty(pente.CustomLayer):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no compute_forward"):
        Empty().predict(zeros(1, 2, "float32"))


def test_a_block_of_columns_and_every_other_row_go_in():
    layer, table = Gain(3), randoms(6, 3)
    assert layer.predict(memoryview(table)[::2]).tolist() == layer.predict(matrix(table.tolist()[::2])).tolist()
    np = pytest.importorskip("numpy")
    wide = np.arange(24.0).reshape(4, 6)
    assert layer.predict(wide[:, 2:5]).tolist() == (2 * wide[:, 2:5]).tolist()


def test_any_strides_come_out():
    np = pytest.importorskip("numpy")
    weight = np.random.default_rng(0).normal(size=(2, 3))
    layer = pente.CustomLayer(
        3,
        2,
        lambda x: (weight @ np.asarray(x).T).T,
        lambda x, y, grad_output: np.repeat(np.asarray(grad_output) @ weight, 2, axis=1)[:, ::2],
        dtype="float64",
    )
    x = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_array_equal(np.asarray(layer.forward(x)), (weight @ x.T).T)
    np.testing.assert_allclose(np.asarray(layer.backward(np.ones((5, 2)))), np.ones((5, 2)) @ weight)
    mirror = pente.CustomLayer(forward=lambda x: np.asarray(x)[::-1, ::-1], dtype="float64")
    np.testing.assert_array_equal(np.asarray(mirror.predict(x)), x[::-1, ::-1])


def test_one_row_may_come_out_flat():
    layer = pente.CustomLayer(forward=lambda x: array("d", x.tolist()[0]), dtype="float64")
    assert layer.predict(vector([1, 2, 3])).tolist() == [[1.0, 2.0, 3.0]]


# ---- Training --------------------------------------------------------------------------------------------------------


def test_is_trained_as_a_linear_layer_is(dtype):
    linear, x, y = problem(dtype)
    affine = Affine(linear)
    options = dict(lr=0.1, momentum=0.9, weight_decay=0.01)
    histories = [
        pente.Trainer(layer, pente.SGD(layer, **options), pente.MSELoss()).fit(x, y, epochs=20, batch_size=8)
        for layer in (linear, affine)
    ]
    assert_close(histories[0].training_losses, histories[1].training_losses, dtype)
    for name, value in linear.parameters.items():
        assert_close(affine.parameters[name].tolist(), value.tolist(), dtype)
    assert histories[1].training_losses[-1] < histories[1].training_losses[0] / 10


def test_a_step_is_the_four_calls_to_the_bit(dtype):
    x, y = randoms(20, 5, dtype), randoms(20, 2, dtype)
    pairs = []
    for _ in range(2):
        chain = pente.Chain(network(dtype)[0], square(dtype), Affine(pente.Linear(4, 2, dtype=dtype, seed=5)))
        chain.reset_parameters(0)
        pairs.append((chain, pente.SGD(chain, lr=1e-3, momentum=0.9)))
    loss = pente.MSELoss()
    trainer = pente.Trainer(*pairs[0], loss)
    chain, optimizer = pairs[1]
    for _ in range(5):
        optimizer.zero_grad()
        value = loss(chain.forward(x), y)
        chain.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        assert trainer.step(x, y) == value
    assert snapshot(chain) == snapshot(pairs[0][0])
    assert gradients(chain) == gradients(pairs[0][0])


def test_in_a_chain():
    gain = Gain(4)
    chain = pente.Chain(pente.Linear(5, 4, dtype="float64", seed=0), gain, square(), pente.Tanh("float64"))
    assert chain[1] is gain
    assert list(chain.parameters) == ["0.weight", "0.bias", "1.gain", "1.shift"]
    x = randoms(3, 5)
    y = x
    for layer in chain:
        y = layer.predict(y)
    assert bytes(chain.predict(x)) == bytes(y)
    assert "  (1): Gain(in_features=4, out_features=4, dtype='float64')\n" in repr(chain)
    chain.reset_parameters(7)
    assert gain.parameters["gain"].tolist() == [2.0] * 4


def test_calls_on_other_objects_are_free():
    """A layer whose functions use another layer, its trainer and a fit."""
    inner, x, y = problem("float64")
    trainer = pente.Trainer(inner, pente.SGD(inner, lr=0.1), pente.MSELoss())

    def forward(value):
        with pytest.raises(RuntimeError, match="on_epoch cannot be had within a layer's callback"):
            trainer.fit(x, y, on_epoch=lambda epoch: None)
        losses.append(trainer.fit(x, y, batch_size=8).training_losses[0])
        return inner.predict(value)

    def backward(x, y, grad_output):
        inner.forward(x)
        return inner.backward(grad_output)

    losses = []
    layer = pente.CustomLayer(5, 2, forward, backward, dtype="float64")
    chain = pente.Chain(pente.Linear(5, 5, dtype="float64", seed=0), layer)
    outer = pente.Trainer(chain, pente.SGD(chain, lr=0.01), pente.MSELoss())
    for _ in range(5):
        outer.step(x, y)
    outer.fit(x, y, epochs=2, batch_size=16)
    assert len(losses) == 5 + 4 and losses == sorted(losses, reverse=True)


def test_a_custom_layer_inside_another():
    inner = square()

    def backward(x, y, grad_output):
        inner.forward(x)
        return inner.backward(grad_output)

    outer = pente.CustomLayer(forward=lambda x: inner.forward(x), backward=backward, dtype="float64")
    assert outer.forward(matrix([[3.0]])).tolist() == [[9.0]]
    assert outer.backward(matrix([[1.0]])).tolist() == [[6.0]]
    big = randoms(400, 300)
    chain = pente.Chain(pente.Linear(300, 2, dtype="float64"), outer)
    chain.forward(big)  # with the GIL let go of
    assert chain.backward(zeros(400, 2)).shape == (400, 300)


def test_parameters_load_and_reset(dtype):
    layer, other = Gain(2, dtype), Gain(2, dtype)
    other.parameters["gain"][0] = 9.0
    layer.load_state_dict(other.state_dict())
    assert snapshot(layer) == snapshot(other)
    layer.reset_parameters(0)
    assert snapshot(layer) == snapshot(other)


def test_numpy_functions():
    np = pytest.importorskip("numpy")

    class Swish(pente.CustomLayer):
        """y = x / (1 + e^(-beta x)), and beta is trained."""

        def __init__(self, width):
            super().__init__(width, width, parameters={"beta": np.ones(width)}, dtype="float64")

        def compute_forward(self, x, beta):
            return np.asarray(x) / (1 + np.exp(-np.asarray(beta) * x))

        def compute_backward(self, x, y, grad_output, beta):
            x, y, g, beta = (np.asarray(value) for value in (x, y, grad_output, beta))
            s = 1 / (1 + np.exp(-beta * x))
            return g * (s + beta * y * (1 - s)), {"beta": (g * x * y * (1 - s)).sum(axis=0)}

    chain = pente.Chain(
        pente.Linear(5, 8, dtype="float64", seed=0), Swish(8), pente.Linear(8, 2, dtype="float64", seed=1)
    )
    _, x, y = problem("float64")
    assert pente.gradcheck(chain, x, y, pente.MSELoss())
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1), pente.MSELoss())
    losses = trainer.fit(x, y, epochs=100).training_losses
    assert losses[-1] < losses[0] / 4
    assert (np.asarray(chain.parameters["1.beta"]) != 1).all()
