import math

import pente
import pytest
from support import DTYPES, assert_close, matrix, randoms, vector, zeros

DIVISORS = {
    "mean": lambda rows, columns: rows * columns,
    "sum": lambda rows, columns: 1,
    "batch_mean": lambda rows, columns: rows,
    "output_mean": lambda rows, columns: columns,
}


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def residuals(prediction, target):
    return [[a - b for a, b in zip(*rows)] for rows in zip(prediction.tolist(), target.tolist())]


def scaled(rows, factors):
    return [[value * factor for value in row] for row, factor in zip(rows, factors)]


@pytest.mark.parametrize("reduction", DIVISORS)
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0, 0.5]])
def test_losses_and_gradients(dtype, reduction, weights):
    prediction, target = randoms(4, 3, dtype, seed=1), randoms(4, 3, dtype, seed=2)
    rows = weights or [1.0] * 4
    divisor = DIVISORS[reduction](sum(rows), 3)
    error = residuals(prediction, target)
    loss = pente.MSELoss(reduction)
    found = loss(prediction, target, weights and vector(weights, dtype))
    assert isinstance(found, float)
    expected = math.fsum(v * e * e for v, row in zip(rows, error) for e in row) / divisor
    assert math.isclose(found, expected, rel_tol=1e-6 if dtype == "float32" else 1e-14)
    gradient = scaled(error, [2 * v / divisor for v in rows])
    assert_close(loss.backward().tolist(), gradient, dtype)
    assert_close(loss.target_grad.tolist(), scaled(gradient, [-1] * 4), dtype)


def test_none_gives_the_squares(dtype):
    prediction, target = randoms(4, 3, dtype, seed=1), randoms(4, 3, dtype, seed=2)
    upstream = randoms(4, 3, dtype, seed=3)
    error = residuals(prediction, target)
    loss = pente.MSELoss("none")
    squares = loss(prediction, target)
    assert squares.dtype == dtype
    assert_close(squares.tolist(), [[e * e for e in row] for row in error], dtype)
    expected = [[2 * e * g for e, g in zip(*rows)] for rows in zip(error, upstream.tolist())]
    assert_close(loss.backward(upstream).tolist(), expected, dtype)
    loss(prediction, target)
    assert_close(loss.backward().tolist(), scaled(error, [2] * 4), dtype)
    loss(prediction, target)
    with pytest.raises(TypeError, match="grad_output is of type float"):
        loss.backward(1.0)
    with pytest.raises(ValueError):
        loss.backward(zeros(2, 2, dtype))
    loss.backward(upstream)


def test_an_upstream_number_scales_the_gradient(dtype):
    prediction, target = randoms(4, 3, dtype, seed=1), randoms(4, 3, dtype, seed=2)
    loss = pente.MSELoss()
    loss(prediction, target)
    plain = loss.backward().tolist()
    for number in (3, 3.0, True + 2):
        loss(prediction, target)
        assert_close(loss.backward(number).tolist(), scaled(plain, [3] * 4), dtype)
    loss(prediction, target)
    with pytest.raises(TypeError):
        loss.backward("3")


def test_a_column_of_weights_is_one_too():
    prediction, target = randoms(4, 3, seed=1), randoms(4, 3, seed=2)
    loss = pente.MSELoss()
    column = matrix([[1], [2], [3], [4]])
    assert loss(prediction, target, column) == loss(prediction, target, sample_weight=vector([1, 2, 3, 4]))


def test_the_target_gradient_may_be_skipped():
    loss = pente.MSELoss()
    assert loss.target_grad is None
    loss(randoms(4, 3), zeros(4, 3))
    loss.backward()
    kept = loss.target_grad
    assert kept.shape == (4, 3)
    loss(randoms(4, 3), zeros(4, 3))
    assert loss.target_grad is kept
    loss.backward(target_gradient=False)
    assert loss.target_grad is None


def test_backward_wants_a_call_each_time():
    loss = pente.MSELoss()
    with pytest.raises(RuntimeError, match="call"):
        loss.backward()
    loss(randoms(4, 3), zeros(4, 3))
    loss.backward()
    with pytest.raises(RuntimeError, match="call"):
        loss.backward()


@pytest.mark.parametrize(
    "prediction, target, weight, error, message",
    [
        (zeros(4, 3), zeros(3, 4), None, ValueError, "4×3"),
        (zeros(4, 3), zeros(4, 1), None, ValueError, "4×1"),
        (zeros(4, 3), zeros(4, 3, "float32"), None, TypeError, "target is float32, but must be float64"),
        (zeros(4, 3), [0.0], None, TypeError, "target is of type list"),
        (zeros(4, 3), zeros(4, 3), vector([1, 1, 1]), ValueError, "sample_weight"),
        (zeros(4, 3), zeros(4, 3), vector([1, 1, 1, -1]), ValueError, "sample_weight"),
        (zeros(4, 3), zeros(4, 3), vector([1, 1, 1, math.nan]), ValueError, "sample_weight"),
        (zeros(4, 3), zeros(4, 3), vector([1] * 4, "float32"), TypeError, "sample_weight is float32"),
    ],
)
def test_refused_inputs_leave_the_call_before_them(prediction, target, weight, error, message):
    loss = pente.MSELoss()
    loss(randoms(2, 2), zeros(2, 2))
    with pytest.raises(error, match=message):
        loss(prediction, target, weight)
    assert loss.backward().shape == (2, 2)


def test_an_upstream_gradient_that_is_no_number_is_named():
    loss = pente.MSELoss()
    loss(randoms(2, 2), zeros(2, 2))
    with pytest.raises(TypeError, match="grad_output must be a number, not 'a'"):
        loss.backward("a")
    assert loss.backward(1).shape == (2, 2)


def test_describes_itself():
    assert repr(pente.MSELoss("batch_mean")) == "MSELoss(reduction='batch_mean')"
    assert pente.MSELoss().reduction == "mean"
    with pytest.raises(ValueError, match="not 'average'"):
        pente.MSELoss("average")
    with pytest.raises(TypeError, match="not 3"):
        pente.MSELoss(3)
