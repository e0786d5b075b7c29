import inspect
import math

import pente
import pytest
from support import DTYPES, assert_close, matrix, randoms, snapshot, vector, zeros


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def statistics(x):
    """The columns' means, and their standard deviations or 1."""
    columns = list(zip(*x.tolist()))
    means = [math.fsum(column) / len(column) for column in columns]
    scales = [
        math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means)
    ]
    return means, scales


def test_describes_itself():
    scaler = pente.Scaler(3)
    assert repr(scaler) == "Scaler(features=3, dtype='float32')"
    assert (scaler.in_features, scaler.out_features, scaler.dtype) == (3, 3, "float32")
    assert str(inspect.signature(pente.Scaler)) == "(features, dtype='float32')"
    assert isinstance(scaler, pente.Layer)


def test_begins_as_the_identity(dtype):
    scaler, x = pente.Scaler(3, dtype), randoms(4, 3, dtype)
    assert scaler.mean.tolist() == [0.0] * 3 and scaler.scale.tolist() == [1.0] * 3
    assert bytes(scaler.predict(x)) == bytes(x)


def test_fit_standardises(dtype):
    x = matrix([[100 * i + (i % 7) ** 2, -0.001 * i * i, 5.0] for i in range(50)], dtype)
    scaler = pente.Scaler(3, dtype)
    assert scaler.fit(x) is scaler
    means, scales = statistics(x)
    assert_close(scaler.mean.tolist(), means, dtype)
    assert_close(scaler.scale.tolist(), scales, dtype)
    assert scaler.scale[2] == 1.0
    y = scaler.predict(x)
    means, scales = statistics(y)
    assert_close(means, [0.0] * 3, "float32")
    assert_close(scales, [1.0] * 3, "float32")
    assert [row[2] for row in y.tolist()] == [0.0] * 50


def test_the_formula_and_its_derivative(dtype):
    scaler = pente.Scaler(3, dtype)
    scaler.load_state_dict({"mean": vector([1, -2, 0.5], dtype), "scale": vector([2, 0.25, -3], dtype)})
    x, grad_output = randoms(5, 3, dtype), randoms(5, 3, dtype, seed=1)
    expected = [[(a - 1) / 2, (b + 2) / 0.25, (c - 0.5) / -3] for a, b, c in x.tolist()]
    assert_close(scaler.forward(x).tolist(), expected, dtype)
    expected = [[a / 2, b / 0.25, c / -3] for a, b, c in grad_output.tolist()]
    assert_close(scaler.backward(grad_output).tolist(), expected, dtype)


def test_mean_and_scale_are_parameters_that_nobody_trains(dtype):
    scaler, linear = pente.Scaler(3, dtype), pente.Linear(3, 1, dtype=dtype, seed=0)
    assert list(scaler.parameters) == ["mean", "scale"]
    scaler.mean[1] = 4.0
    assert scaler.parameters["mean"][1] == scaler.state_dict()["mean"][1] == 4.0
    x, y = randoms(20, 3, dtype), randoms(20, 1, dtype)
    chain = pente.Chain(scaler.fit(x), linear)
    before = snapshot(scaler), snapshot(linear)
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1, weight_decay=0.5, momentum=0.9), pente.MSELoss())
    trainer.fit(x, y, epochs=5)
    assert snapshot(scaler) == before[0] and snapshot(linear) != before[1]
    assert [value.tolist() for value in scaler.gradients.values()] == [[0.0] * 3] * 2
    with pytest.raises(ValueError):
        pente.SGD(scaler)


def test_gradcheck_leaves_them_out():
    x = randoms(6, 3)
    scaler = pente.Scaler(3, "float64").fit(x)
    assert pente.gradcheck(scaler, x).checked == 18
    chain = pente.Chain(scaler, pente.Linear(3, 2, dtype="float64", seed=0))
    report = pente.gradcheck(chain, x)
    assert report and report.checked == 18 + 6 + 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(dtype, value):
    scaler = pente.Scaler(2, dtype).fit(matrix([[1, 2], [3, 5]], dtype))
    before = snapshot(scaler)
    with pytest.raises(ValueError, match="x"):
        scaler.fit(matrix([[1, 2], [value, 3]], dtype))
    assert snapshot(scaler) == before


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: pente.Scaler(), TypeError, "features"),
        (lambda: pente.Scaler(0), ValueError, "features"),
        (lambda: pente.Scaler(2.5), TypeError, "features must be a whole number, not 2.5"),
        (lambda: pente.Scaler(2**70), ValueError, "features is 1180591620717411303424, but"),
        (lambda: pente.Scaler(2, "float16"), ValueError, "'float32' or 'float64'"),
        (lambda: pente.Scaler(2).fit(), TypeError, "'x'"),
        (lambda: pente.Scaler(2).fit([1.0]), TypeError, "x is of type list"),
        (lambda: pente.Scaler(2).fit(zeros(2, 3, "float32")), ValueError, "x is 2×3"),
        (lambda: pente.Scaler(2).fit(zeros(2, 2)), TypeError, "x is float64, but must be float32"),
        (lambda: pente.Scaler(4).fit(vector([1, 2], "float32")), ValueError, r"x\.reshape\(2, 1\)"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numpy_agrees(dtype):
    np = pytest.importorskip("numpy")
    x = (np.random.default_rng(0).normal(size=(1000, 7)) * 10.0 ** np.arange(-3, 4) + 5).astype(dtype)
    scaler = pente.Scaler(7, dtype).fit(x)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(np.asarray(scaler.mean), x.astype("f8").mean(axis=0), rtol=tolerance)
    np.testing.assert_allclose(np.asarray(scaler.scale), x.astype("f8").std(axis=0), rtol=tolerance)
