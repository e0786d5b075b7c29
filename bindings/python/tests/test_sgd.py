import math

import pente
import pytest
from support import DTYPES, matrix, randoms, vector, zeros

PLAIN = dict(lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)


def with_gradient(value=1.0, dtype="float64"):
    """A layer of one weight, 10, whose gradient is `value`."""
    layer = pente.Linear(1, 1, bias=False, dtype=dtype)
    layer.weight[0, 0], layer.weight_grad[0, 0] = 10.0, value
    return layer


def reference(steps, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """torch.optim.SGD for one number, 10, whose gradient is 1."""
    value, buffer = 10.0, None
    for _ in range(steps):
        gradient = (-1.0 if maximize else 1.0) + weight_decay * value
        if momentum:
            buffer = gradient if buffer is None else momentum * buffer + (1 - dampening) * gradient
            gradient = gradient + momentum * buffer if nesterov else buffer
        value -= lr * gradient
    return value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(maximize=True),
        dict(weight_decay=0.1),
        dict(momentum=0.9),
        dict(momentum=0.9, dampening=0.5),
        dict(momentum=0.9, nesterov=True, weight_decay=0.01, maximize=True),
    ],
)
def test_steps(dtype, options):
    layer = with_gradient(dtype=dtype)
    optimizer = pente.SGD(layer, lr=0.1, **options)
    for _ in range(5):
        optimizer.step()
    expected = reference(5, 0.1, **options)
    assert math.isclose(layer.weight[0, 0], expected, rel_tol=1e-6 if dtype == "float32" else 1e-14)


def test_options_are_torchs():
    optimizer = pente.SGD(pente.Linear(2, 2))
    assert optimizer.groups == [PLAIN]
    assert optimizer.lr == 1e-3
    assert repr(optimizer) == f"SGD(groups={[PLAIN]!r})"


def test_groups_have_options_of_their_own():
    a, b, c = with_gradient(), with_gradient(), with_gradient()
    optimizer = pente.SGD([{"layers": a, "lr": 1.0}, {"layers": [b]}], lr=2.0, weight_decay=0.0)
    optimizer.add_group(iter([c]), lr=3.0)
    assert [group["lr"] for group in optimizer.groups] == [1.0, 2.0, 3.0]
    optimizer.step()
    assert [layer.weight[0, 0] for layer in (a, b, c)] == [9.0, 8.0, 7.0]
    optimizer.set_options(1, lr=4.0, maximize=True)
    assert optimizer.groups[1] == {**PLAIN, "lr": 4.0, "maximize": True}
    optimizer.lr = 5.0
    assert [group["lr"] for group in optimizer.groups] == [5.0] * 3
    optimizer.zero_grad()
    assert [layer.weight_grad[0, 0] for layer in (a, b, c)] == [0.0] * 3


def test_a_group_dict_is_left_as_it_was():
    group = {"layers": [with_gradient()], "lr": 1.0}
    pente.SGD([group])
    assert set(group) == {"layers", "lr"}


def test_layers_may_be_any_iterable():
    layers = [with_gradient() for _ in range(3)]
    optimizer = pente.SGD((layer for layer in layers), lr=1.0)
    optimizer.step()
    assert [layer.weight[0, 0] for layer in layers] == [9.0] * 3


def test_the_optimizer_keeps_its_layers():
    optimizer = pente.SGD(with_gradient())
    optimizer.step()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda layer: pente.SGD(3), TypeError, None),
        (lambda layer: pente.SGD([]), ValueError, None),
        (lambda layer: pente.SGD([layer, 3]), TypeError, r"layers\[1\] must be a Layer, not 3"),
        (lambda layer: pente.SGD([layer, layer]), ValueError, None),
        (lambda layer: pente.SGD([layer, pente.Linear(1, 1)]), (TypeError, ValueError), None),
        (lambda layer: pente.SGD({"layers": layer}), TypeError, r"layers\[0\]"),
        (lambda layer: pente.SGD([{"lr": 1.0}]), TypeError, "'layers'"),
        (lambda layer: pente.SGD([{"layers": layer}, layer]), TypeError, "must be a dict"),
        (lambda layer: pente.SGD([{"layers": layer}, {"layers": layer}]), ValueError, None),
        (lambda layer: pente.SGD([{"layers": layer, "rate": 1.0}]), TypeError, "'rate' is no option"),
        (lambda layer: pente.SGD([{"layers": layer, 3: 1.0}]), TypeError, "3 is no option"),
        (lambda layer: pente.SGD([{"layers": layer, "lr": "1"}]), TypeError, "lr must be a number, not '1'"),
        (lambda layer: pente.SGD(layer, lr="1"), TypeError, "lr must be a number, not '1'"),
        (lambda layer: pente.SGD(layer, momentum=10**400), ValueError, "momentum is 10+, but must be within"),
        (lambda layer: pente.SGD(layer).set_options(0, dampening=None), TypeError, "dampening must be .*, not None"),
        (lambda layer: pente.SGD(layer).set_options(2**70), ValueError, "group is 1180591620717411303424, but"),
        (lambda layer: pente.SGD(layer).set_options("0"), TypeError, "group must be a whole number, not '0'"),
        (lambda layer: pente.SGD(layer, lr=-1.0), ValueError, "lr"),
        (lambda layer: pente.SGD(layer, lr=math.nan), ValueError, "lr"),
        (lambda layer: pente.SGD(layer, momentum=-1.0), ValueError, "momentum"),
        (lambda layer: pente.SGD(layer, weight_decay=-1.0), ValueError, "weight_decay"),
        (lambda layer: pente.SGD(layer, nesterov=True), ValueError, "nesterov"),
        (lambda layer: pente.SGD(layer, momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov"),
        (lambda layer: pente.SGD(layer, rate=1.0), TypeError, "rate"),
        (lambda layer: pente.SGD(layer).set_options(1, lr=1.0), ValueError, "group"),
        (lambda layer: pente.SGD(layer).set_options(-1, lr=1.0), ValueError, "group"),
        (lambda layer: pente.SGD(layer).set_options(0, rate=1.0), TypeError, "'rate' is no option"),
        (lambda layer: pente.SGD(layer).set_options(0, lr=-1.0), ValueError, "lr"),
        (lambda layer: pente.SGD(layer).add_group(layer), ValueError, None),
        (lambda layer: pente.SGD(layer).add_group([], lr=1.0), ValueError, "layers is empty"),
        (lambda layer: setattr(pente.SGD(layer), "lr", -1.0), ValueError, "lr"),
        (lambda layer: setattr(pente.SGD(layer), "lr", "1"), TypeError, "lr must be a number, not '1'"),
        (lambda layer: delattr(pente.SGD(layer), "lr"), TypeError, "deleted"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make(with_gradient())


def test_a_refused_option_changes_none():
    optimizer = pente.SGD(with_gradient())
    with pytest.raises(ValueError):
        optimizer.set_options(0, lr=1.0, momentum=-1.0)
    assert optimizer.groups == [PLAIN]


def test_an_iterators_error_comes_out():
    def broken():
        yield with_gradient()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pente.SGD(broken())


def test_changing_groups_in_the_middle_of_reading_them():
    """An option whose conversion changes the dict that it came from."""

    class Nasty(float):
        def __float__(self):
            group.clear()
            return 1.0

    class Number:
        def __float__(self):
            group.clear()
            return 1.0

    group = {"layers": with_gradient(), "lr": Number(), "momentum": Nasty(0.5)}
    optimizer = pente.SGD([group])
    assert optimizer.groups[0]["momentum"] == 0.5 and group == {}
