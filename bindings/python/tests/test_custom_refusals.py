"""What a custom layer refuses: to be made of, and from its functions."""


import pente
import pytest
from support import matrix, randoms, square, vector, zeros

# ---- Making one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(in_features=0, out_features=0), ValueError, "in_features is 0, but must be at least 1, or None"),
        (dict(in_features=3, out_features=-1), ValueError, "out_features is -1"),
        (dict(in_features=3), ValueError, "in_features is 3, but out_features is None"),
        (dict(out_features=3), ValueError, "in_features is None, but out_features is 3"),
        (dict(in_features=2.5, out_features=1), TypeError, "in_features must be a whole number, not 2.5"),
        (dict(in_features=1, out_features=2**70), ValueError, "out_features is 1180591620717411303424, but"),
        (dict(forward=3), TypeError, "forward must be callable or None, not 3"),
        (dict(backward="x"), TypeError, "backward must be callable or None, not 'x'"),
        (dict(dtype="int8"), ValueError, "'float32' or 'float64', not 'int8'"),
        (dict(parameters=3), TypeError, None),
        (dict(parameters={3: zeros(1, 1, "float32")}), TypeError, "the name of a parameter must be a str, not 3"),
        (dict(parameters={"a": [1.0]}), TypeError, "a is of type list"),
        (dict(parameters={"a": zeros(1, 1)}), TypeError, "a is float64, but must be float32"),
        (dict(parameters={"a": memoryview(bytes(48)).cast("f", (2, 2, 3))}), ValueError, "a has 3 dimensions"),
        (dict(parameters={"a": vector([], "float32")}), ValueError, "a"),
        (dict(parameters={"": zeros(1, 1, "float32")}), ValueError, "name"),
        (dict(parameters={"a.b": zeros(1, 1, "float32")}), ValueError, "name"),
        (dict(parameters={"a\n": zeros(1, 1, "float32")}), ValueError, "name"),
        (dict(parameters={"a\0b": zeros(1, 1, "float32")}), ValueError, "control"),
        (dict(parameters={"a" * 64: zeros(1, 1, "float32")}), ValueError, "name"),
        (dict(parameters={"\ud800": zeros(1, 1, "float32")}), UnicodeEncodeError, None),
        (dict(scale=1), TypeError, "scale"),
    ],
)
def test_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        pente.CustomLayer(**arguments)


def test_names_may_be_of_any_language():
    layer = pente.CustomLayer(parameters={"größe": vector([1], "float32"), "a" * 63: vector([2], "float32")})
    assert list(layer.state_dict()) == ["größe", "a" * 63]


def test_the_base_makes_none():
    with pytest.raises(TypeError, match="Layer is no layer that can be made.*CustomLayer"):
        pente.Layer()

    class Lost(pente.Layer):
        pass

    with pytest.raises(TypeError, match="Lost is no layer.*CustomLayer"):
        Lost(3, 2)
    for other in (pente.Linear, pente.Chain, pente.ReLU, pente.Scaler, Lost):
        with pytest.raises(TypeError):
            pente.CustomLayer.__new__(other)
        with pytest.raises(TypeError):
            object.__new__(other)


class Forgetful(pente.CustomLayer):
    def __init__(self, size):
        self.size = size


def test_a_layer_whose_init_never_ran_says_so():
    layer, x = Forgetful(3), zeros(1, 3, "float32")
    good = pente.Linear(3, 3)
    for call in [
        lambda: layer(x),
        lambda: layer.forward(x),
        lambda: layer.predict(x),
        lambda: layer.backward(x),
        lambda: layer.zero_grad(),
        lambda: layer.reset_parameters(),
        lambda: layer.state_dict(),
        lambda: layer.load_state_dict({}),
        lambda: layer.save("nowhere"),
        lambda: layer.load_parameters("nowhere"),
        lambda: layer.parameters,
        lambda: layer.gradients,
        lambda: layer.in_features,
        lambda: layer.out_features,
        lambda: layer.dtype,
        lambda: pente.Chain(good, layer),
        lambda: pente.SGD(layer),
        lambda: pente.SGD([good, layer]),
        lambda: pente.Trainer(layer, pente.SGD(good), pente.MSELoss()),
        lambda: pente.gradcheck(layer, zeros(1, 3)),
    ]:
        with pytest.raises(RuntimeError, match=r"Forgetful is not ready: .*super\(\).__init__"):
            call()
    assert repr(layer) == "<Forgetful, not ready>"
    pente.CustomLayer.__init__(layer, forward=lambda x: x)
    assert layer.predict(x).tolist() == [[0.0] * 3]


def test_a_second_init_is_refused():
    layer = square()
    with pytest.raises(RuntimeError, match="CustomLayer is made already"):
        layer.__init__(3, 3)
    assert layer.in_features is None and layer.predict(matrix([[3.0]])).tolist() == [[9.0]]

    class Again(pente.CustomLayer):
        def __init__(self):
            super().__init__(parameters=Naughty(self), dtype="float64")

    class Naughty:
        """A mapping that makes the layer itself while it is read."""

        def __init__(self, layer):
            self.layer = layer

        def keys(self):
            pente.CustomLayer.__init__(self.layer, 7, 7)
            return []

        def __getitem__(self, key):
            raise KeyError(key)

    with pytest.raises(RuntimeError, match="Again is made already"):
        Again()


# ---- What comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result, error, message",
    [
        (None, TypeError, "an object of type NoneType"),
        ([[1.0]], TypeError, "an object of type list"),
        (3.5, TypeError, "an object of type float"),
        (zeros(2, 3, "float32"), TypeError, r"float32 of shape \(2, 3\)"),
        (memoryview(bytes(6)).cast("B", (2, 3)), TypeError, r"uint8 of shape \(2, 3\)"),
        (memoryview(bytes(6)).cast("?", (2, 3)), TypeError, r"a buffer of format '\?' of shape \(2, 3\)"),
        (zeros(3, 2), ValueError, r"float64 of shape \(3, 2\)"),
        (zeros(2, 2), ValueError, r"float64 of shape \(2, 2\)"),
        (zeros(1, 3), ValueError, r"float64 of shape \(1, 3\)"),
        (vector([1] * 6), ValueError, r"float64 of shape \(6,\)"),
        (memoryview(bytes(48)).cast("d", (1, 2, 3)), ValueError, r"float64 of shape \(1, 2, 3\)"),
    ],
)
def test_a_wrong_result_is_named(result, error, message):
    x = randoms(2, 3)
    layer = pente.CustomLayer(3, 3, lambda x: result, dtype="float64")
    expected = r", but float64 of shape \(2, 3\) is expected"
    name = r"CustomLayer\(in_features=3, out_features=3, dtype='float64'\): "
    with pytest.raises(error, match=f"^{name}compute_forward returned {message}{expected}$"):
        layer.predict(x)
    layer = pente.CustomLayer(3, 3, lambda x: x, lambda x, y, grad_output: result, dtype="float64")
    layer.forward(x)
    with pytest.raises(error, match=f"^{name}compute_backward returned {message}{expected}$"):
        layer.backward(x)


@pytest.mark.parametrize(
    "result, error, message",
    [
        (lambda x: x, TypeError, "an object of type Matrix, but a tuple of grad_input and a dict"),
        (lambda x: (x,), TypeError, "a tuple of 1, but a tuple of grad_input and a dict"),
        (lambda x: (x, {}, 1), TypeError, "a tuple of 3, but a tuple of grad_input and a dict"),
        (lambda x: (x, [x]), TypeError, "gradients of type list, but a dict is expected"),
        (lambda x: ({"a": vector([1, 2]), "b": x}, x), TypeError, "gradients of type Matrix, but a dict"),
        (lambda x: (x, {}), ValueError, "no gradient of 'a'"),
        (lambda x: (x, {"a": vector([1, 2])}), ValueError, "no gradient of 'b'"),
        (lambda x: (x, {"a": vector([1, 2]), "b": x, "c": x}), ValueError, "a gradient of 'c', which is no parameter"),
        (lambda x: (x, {"a": vector([1, 2]), "b": x, 3: x}), ValueError, "a gradient of 3, which is no parameter"),
        (lambda x: (x, {"a": None, "b": x}), TypeError, r"type NoneType for 'a', but float64 of shape \(2,\)"),
        (lambda x: (x, {"a": vector([1]), "b": x}), ValueError, r"\(1,\) for 'a', but float64 of shape \(2,\)"),
        (lambda x: (x, {"a": vector([1, 2]), "b": zeros(1, 2)}), ValueError, r"\(1, 2\) for 'b', but .* \(2, 2\)"),
        (lambda x: (x, {"a": vector([1, 2]), "b": zeros(2, 2, "float32")}), TypeError, "float32 .* for 'b'"),
        (lambda x: (zeros(1, 1), {"a": vector([1, 2]), "b": x}), ValueError, r"float64 of shape \(1, 1\), "),
    ],
)
def test_wrong_gradients_are_named_and_none_is_taken(result, error, message):
    layer = pente.CustomLayer(
        2,
        2,
        lambda x, a, b: x,
        lambda x, y, grad_output, a, b: result(x),
        {"a": vector([1, 2]), "b": zeros(2, 2)},
        "float64",
    )
    x, out = randoms(2, 2), zeros(2, 2)
    layer.forward(x)
    with pytest.raises(error, match=f": compute_backward returned .*{message}"):
        layer.backward(x, out)
    assert out.tolist() == [[0.0] * 2] * 2
    assert layer.gradients["a"].tolist() == [0.0] * 2 and layer.gradients["b"].tolist() == [[0.0] * 2] * 2


def test_a_parameter_that_the_function_does_not_know():
    layer = pente.CustomLayer(2, 2, lambda x: x, None, {"a": vector([1, 2])}, "float64")
    with pytest.raises(TypeError, match="'a'"):
        layer.predict(zeros(1, 2))


class Vanishing:
    """A key that takes itself out of its dict when it is compared."""

    def __init__(self, gradients):
        self.gradients = gradients

    def __hash__(self):
        return 1

    def __eq__(self, other):
        self.gradients.clear()
        return False


def test_a_gradient_whose_name_goes_while_it_is_compared():
    def backward(x, y, grad_output, w):
        gradients = {"w": vector([0.0, 0.0])}
        gradients[Vanishing(gradients)] = 1
        return grad_output, gradients

    layer = pente.CustomLayer(2, 2, lambda x, w: x, backward, {"w": vector([1.0, 1.0])}, "float64")
    for _ in range(100):
        layer(zeros(3, 2))
        with pytest.raises(ValueError, match="Vanishing object at .*, which is no parameter"):
            layer.backward(zeros(3, 2))
