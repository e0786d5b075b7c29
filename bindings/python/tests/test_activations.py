import inspect
import math
import threading

import pente
import pytest
from support import DTYPES, assert_close, matrix, randoms, vector, zeros

SLOPE = 0.2


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


# Each kind, its function and its derivative.
KINDS = {
    "ReLU": (lambda x: max(x, 0.0), lambda x: 1.0 if x > 0 else 0.0),
    "LeakyReLU": (lambda x: x if x > 0 else SLOPE * x, lambda x: 1.0 if x > 0 else SLOPE),
    "Tanh": (math.tanh, lambda x: 1 / math.cosh(x) ** 2 if abs(x) < 300 else 0.0),
    "Sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "Softplus": (lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), sigmoid),
}
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 1e-8, -1e-8, 0.5, -0.5, 1, -1, 10, -10, 40, -40, 85, -85, 1000, -1000, 1e30, -1e30]
REPRS = {
    "ReLU": "ReLU()",
    "LeakyReLU": "LeakyReLU(negative_slope=0.2)",
    "Tanh": "Tanh()",
    "Sigmoid": "Sigmoid()",
    "Softplus": "Softplus()",
}


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def make(kind, dtype="float32"):
    return pente.LeakyReLU(SLOPE, dtype) if kind == "LeakyReLU" else getattr(pente, kind)(dtype)


def test_describes_itself(kind):
    layer = make(kind)
    assert repr(layer) == REPRS[kind]
    assert eval(f"pente.{layer!r}").dtype == "float32"
    double = make(kind, "float64")
    assert repr(double) == REPRS[kind].replace(")", ", dtype='float64')").replace("(, ", "(")
    assert repr(eval(f"pente.{double!r}")) == repr(double)
    assert isinstance(layer, pente.Layer)
    assert (layer.in_features, layer.out_features) == (None, None)
    assert layer.parameters == layer.gradients == layer.state_dict() == {}
    signature = "(negative_slope=0.01, dtype='float32')" if kind == "LeakyReLU" else "(dtype='float32')"
    assert str(inspect.signature(getattr(pente, kind))) == signature


def test_errors_name_it(kind):
    with pytest.raises(TypeError, match=rf"^{kind}\(\)"):
        getattr(pente, kind)(1, 2, 3)


def test_the_slope():
    assert pente.LeakyReLU().negative_slope == 0.01
    assert pente.LeakyReLU(-0.5).negative_slope == -0.5
    assert not hasattr(pente.ReLU(), "negative_slope")
    assert pente.LeakyReLU(3, "float64").predict(matrix([[-2]])).tolist() == [[-6.0]]


def test_values_are_the_functions(kind, dtype):
    function, _ = KINDS[kind]
    x = matrix([SPECIAL, randoms(1, len(SPECIAL), seed=1).tolist()[0]], dtype)
    y = make(kind, dtype).predict(x)
    assert (y.shape, y.dtype) == ((2, len(SPECIAL)), dtype)
    assert_close(y.tolist(), [[function(value) for value in row] for row in x.tolist()], dtype)


def test_backward_is_the_derivative(kind, dtype):
    _, derivative = KINDS[kind]
    layer = make(kind, dtype)
    x = matrix([SPECIAL, randoms(1, len(SPECIAL), seed=1).tolist()[0]], dtype)
    grad_output = randoms(2, len(SPECIAL), dtype)
    layer.forward(x)
    expected = [[derivative(v) * g for v, g in zip(*rows)] for rows in zip(x.tolist(), grad_output.tolist())]
    assert_close(layer.backward(grad_output).tolist(), expected, dtype)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(grad_output)


def test_what_is_no_number_stays_so(kind, dtype):
    y = make(kind, dtype).predict(matrix([[math.nan, 1.0]], dtype)).tolist()[0]
    assert math.isnan(y[0]) and not math.isnan(y[1])


def test_infinities(kind, dtype):
    high, low = make(kind, dtype).predict(matrix([[math.inf, -math.inf]], dtype)).tolist()[0]
    expected = {
        "ReLU": (math.inf, 0.0),
        "LeakyReLU": (math.inf, -math.inf),
        "Tanh": (1.0, -1.0),
        "Sigmoid": (1.0, 0.0),
        "Softplus": (math.inf, 0.0),
    }
    assert (high, low) == expected[kind]


def test_any_width_will_do(kind, dtype):
    layer, x = make(kind, dtype), randoms(3, 40, dtype)
    whole = layer.predict(x).tolist()
    for width in (1, 7, 16, 33):
        part = matrix([row[:width] for row in x.tolist()], dtype)
        assert layer.predict(part).tolist() == [row[:width] for row in whole]
        assert layer.forward(part).shape == layer.backward(part).shape == (3, width)
    with pytest.raises(ValueError, match="3×2"):
        layer.predict(zeros(3, 3, dtype), zeros(3, 2, dtype))
    layer.forward(zeros(3, 3, dtype))
    with pytest.raises(ValueError):
        layer.backward(zeros(3, 2, dtype))
    layer.backward(zeros(3, 3, dtype))
    assert layer.predict(vector([1, -1], dtype)).shape == (1, 2)


def test_gradcheck_agrees(kind):
    x = randoms(4, 6)
    assert min(abs(value) for row in x.tolist() for value in row) > 1e-4  # no kink is near
    report = pente.gradcheck(make(kind, "float64"), x)
    assert report and report.checked == 24 and report.worst == "x"


def test_there_is_nothing_to_train(kind):
    with pytest.raises(ValueError):
        pente.SGD(make(kind))
    layer = make(kind)
    layer.load_state_dict({})
    with pytest.raises(ValueError, match=f"'weight' is no parameter of this {kind}"):
        layer.load_state_dict({"weight": zeros(1, 1)})
    layer.reset_parameters(0)
    layer.zero_grad()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: pente.ReLU("float16"), ValueError, "'float32' or 'float64', not 'float16'"),
        (lambda: pente.Tanh(dtype=3), TypeError, "'float32' or 'float64', not 3"),
        (lambda: pente.Softplus(beta=1), TypeError, "beta"),
        (lambda: pente.LeakyReLU("float64"), TypeError, "negative_slope must be a number, not 'float64'"),
        (lambda: pente.LeakyReLU(math.nan), ValueError, "negative_slope"),
        (lambda: pente.LeakyReLU(math.inf), ValueError, "negative_slope"),
        (lambda: pente.LeakyReLU(1e300), ValueError, "negative_slope"),
        (lambda: type("Mine", (pente.ReLU,), {}), TypeError, None),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_chains_in_several_threads_share_one(kind):
    shared = make(kind, "float64")
    x, y = randoms(50, 4), randoms(50, 2)
    results = []

    def train():
        layers = [pente.Linear(4, 30, dtype="float64", seed=0), pente.Linear(30, 2, dtype="float64", seed=1)]
        chain = pente.Chain(layers[0], shared, layers[1])
        trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.01), pente.MSELoss())
        results.append(trainer.fit(x, y, epochs=200, batch_size=50).training_losses)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(result == results[0] for result in results)


@pytest.mark.parametrize("shape", [(1, 1), (40, 33)])
def test_torch_agrees(kind, dtype, shape):
    np, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    theirs = {
        "ReLU": torch.nn.ReLU(),
        "LeakyReLU": torch.nn.LeakyReLU(SLOPE),
        "Tanh": torch.nn.Tanh(),
        "Sigmoid": torch.nn.Sigmoid(),
        "Softplus": torch.nn.Softplus(threshold=80),  # above it torch's is x
    }[kind]
    ours = make(kind, dtype)
    generator = np.random.default_rng(0)
    x = (generator.normal(size=shape) * 10.0 ** generator.integers(-4, 3, size=shape)).astype(dtype)
    grad_output = generator.normal(size=shape).astype(dtype)
    their_x = torch.from_numpy(x).requires_grad_()
    y = theirs(their_x)
    y.backward(torch.from_numpy(grad_output))
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(np.asarray(ours.forward(x)), y.detach().numpy(), rtol=tolerance, atol=1e-37)
    np.testing.assert_allclose(
        np.asarray(ours.backward(grad_output)), their_x.grad.numpy(), rtol=tolerance, atol=tolerance
    )
