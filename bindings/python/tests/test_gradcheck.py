"""gradcheck: that it passes what is right, and finds what is planted."""

import pente
import pytest
from support import Affine, matrix, product, randoms, snapshot, square, transpose, vector, zeros

REDUCTIONS = ["mean", "sum", "batch_mean", "output_mean"]


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "none"])
@pytest.mark.parametrize("bias", [True, False])
def test_passes_and_leaves_the_layer(reduction, bias):
    layer = pente.Linear(3, 2, bias=bias, dtype="float64", seed=0)
    before = snapshot(layer)
    report = pente.gradcheck(layer, randoms(4, 3), randoms(4, 2, seed=1), pente.MSELoss(reduction))
    assert report and report.passed and report.error <= report.tolerance
    assert report.checked == 12 + 6 + (2 if bias else 0) + 8
    assert report.worst in ("x", "target", "weight", "bias")
    assert snapshot(layer) == before


def test_of_a_layer_or_a_loss_alone():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    assert pente.gradcheck(layer, randoms(4, 3)).checked == 12 + 6 + 2
    assert pente.gradcheck(None, randoms(4, 3), randoms(4, 3, seed=1), pente.MSELoss()).checked == 24


def test_can_fail():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    report = pente.gradcheck(layer, randoms(4, 3), randoms(4, 2), pente.MSELoss(), eps=1e-6, atol=0.0, rtol=0.0)
    assert not report and not report.passed and report.error > report.tolerance == 0.0
    assert report.error == abs(report.analytic - report.numeric)


def test_refuses():
    layer = pente.Linear(3, 2, dtype="float64")
    x, target, loss = randoms(4, 3), randoms(4, 2), pente.MSELoss()
    for call, error in [
        (lambda: pente.gradcheck(3, x), TypeError),
        (lambda: pente.gradcheck(square("float32"), x), TypeError),
        (lambda: pente.gradcheck(layer, x, target, 3), TypeError),
        (lambda: pente.gradcheck(pente.Linear(3, 2), x, target, loss), TypeError),
        (lambda: pente.gradcheck(layer, zeros(4, 3, "float32")), TypeError),
        (lambda: pente.gradcheck(layer, x, zeros(4, 2, "float32"), loss), TypeError),
        (lambda: pente.gradcheck(layer, x, target), ValueError),
        (lambda: pente.gradcheck(layer, x, None, loss), ValueError),
        (lambda: pente.gradcheck(None, x), ValueError),
        (lambda: pente.gradcheck(layer, x, x, loss), ValueError),
        (lambda: pente.gradcheck(layer, x, eps=0.0), ValueError),
        (lambda: pente.gradcheck(layer, x, None, None, 1e-6), TypeError),
    ]:
        with pytest.raises(error):
            call()
    with pytest.raises(TypeError, match="atol must be a number, not '0'"):
        pente.gradcheck(layer, x, atol="0")


# ---- Planted mistakes ------------------------------------------------------------------------------------------------


def affine(seed=0):
    return Affine(pente.Linear(3, 3, dtype="float64", seed=seed))


class MissingTranspose(Affine):
    """grad_input = grad_output W, where the weight as it is stored is W's transpose."""

    def compute_backward(self, x, y, grad_output, weight, bias):
        _, slopes = super().compute_backward(x, y, grad_output, weight, bias)
        return matrix(product(grad_output.tolist(), transpose(weight.tolist()))), slopes


class TransposedGradient(Affine):
    def compute_backward(self, x, y, grad_output, weight, bias):
        grad_input, slopes = super().compute_backward(x, y, grad_output, weight, bias)
        return grad_input, slopes | {"weight": matrix(transpose(slopes["weight"].tolist()))}


class WrongSign(Affine):
    def compute_backward(self, x, y, grad_output, weight, bias):
        grad_input, slopes = super().compute_backward(x, y, grad_output, weight, bias)
        return grad_input, slopes | {"bias": vector([-value for value in slopes["bias"]])}


class DroppedDivisor(pente.CustomLayer):
    """y = x times the mean of the weights; the derivative forgets to divide by their number."""

    def __init__(self):
        super().__init__(3, 3, parameters={"weight": vector([1, 2, 4])}, dtype="float64")

    def compute_forward(self, x, weight):
        mean = sum(weight.tolist()) / 3
        return matrix([[value * mean for value in row] for row in x.tolist()])

    def compute_backward(self, x, y, grad_output, weight):
        rows, upstream, mean = x.tolist(), grad_output.tolist(), sum(weight.tolist()) / 3
        total = sum(a * g for pair in zip(rows, upstream) for a, g in zip(*pair))
        return matrix([[g * mean for g in row] for row in upstream]), {"weight": vector([total] * 3)}


class StaleX(Affine):
    """Takes the x of the last forward for that of this backward."""

    def compute_forward(self, x, weight, bias):
        self.x = x
        return super().compute_forward(x, weight, bias)

    def compute_backward(self, x, y, grad_output, weight, bias):
        return super().compute_backward(self.x, y, grad_output, weight, bias)


class OneElement(Affine):
    """One number of a gradient is a hundredth off."""

    def compute_backward(self, x, y, grad_output, weight, bias):
        grad_input, slopes = super().compute_backward(x, y, grad_output, weight, bias)
        slopes["weight"][2, 1] *= 1.01
        return grad_input, slopes


MISTAKES = [
    (MissingTranspose, "x"),
    (TransposedGradient, "weight"),
    (WrongSign, "bias"),
    (lambda linear: DroppedDivisor(), "weight"),
    (StaleX, "weight"),
    (OneElement, "weight"),
]


@pytest.mark.parametrize("make, worst", MISTAKES)
@pytest.mark.parametrize("loss", [None, pente.MSELoss(), pente.MSELoss("none")])
def test_a_mistake_is_found_and_its_place_is_named(make, worst, loss):
    layer = make(pente.Linear(3, 3, dtype="float64", seed=0))
    x, target = randoms(4, 3), randoms(4, 3, seed=1) if loss else None
    before = snapshot(layer)
    report = pente.gradcheck(layer, x, target, loss)
    assert not report and report.worst == worst
    assert report.error > report.tolerance
    assert snapshot(layer) == before
    if make is OneElement:
        assert (report.row, report.column) == (2, 1)
        assert report.analytic == pytest.approx(1.01 * report.numeric, rel=1e-5)
    if make is WrongSign:
        assert report.analytic == pytest.approx(-report.numeric, rel=1e-5)


@pytest.mark.parametrize("make, worst", MISTAKES)
def test_in_a_chain_too(make, worst):
    layer = make(pente.Linear(3, 3, dtype="float64", seed=0))
    first, last = pente.Linear(2, 3, dtype="float64", seed=1), pente.Linear(3, 1, dtype="float64", seed=2)
    chain = pente.Chain(first, pente.Chain(square(), layer), last)
    report = pente.gradcheck(chain, randoms(4, 2), randoms(4, 1, seed=1), pente.MSELoss())
    assert not report
    # A wrong grad_input spoils whatever comes before the layer.
    assert report.worst in ("x", "0.weight", "0.bias") if worst == "x" else report.worst == f"1.1.{worst}"


@pytest.mark.parametrize(
    "layer",
    [
        affine(),
        square(),
        pente.Chain(square(), affine()),
        pente.Chain(affine(1), pente.Softplus("float64"), affine(2), pente.Sigmoid("float64")),
    ],
)
def test_what_is_right_passes(layer):
    x = randoms(4, 3)
    assert pente.gradcheck(layer, x)
    assert pente.gradcheck(layer, x, randoms(4, 3, seed=1), pente.MSELoss("batch_mean"))


def test_a_kink_is_where_the_two_differ_by_right():
    relu = pente.ReLU("float64")
    report = pente.gradcheck(relu, matrix([[1.0, 0.0, -1.0]]))
    assert not report and (report.worst, report.row, report.column, report.analytic) == ("x", 0, 1, 0.0)
