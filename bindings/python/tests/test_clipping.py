"""Gradients clipped by their norm."""

import math

import pente
import pytest
from support import DTYPES, assert_close, flatten, gradients, matrix, network, problem, randoms, snapshot


def norm_of(layer):
    return math.sqrt(math.fsum(g * g for value in layer.gradients.values() for g in flatten(value.tolist())))


def backward(layer, x, y):
    """A layer's gradients of the loss, without an update."""
    loss = pente.MSELoss()
    loss(layer(x), y)
    layer.backward(loss.backward())


@pytest.mark.parametrize("dtype", DTYPES)
def test_clips_all_gradients_together(dtype):
    layer, x, y = problem(dtype)
    optimizer = pente.SGD(layer)
    backward(layer, x, y)
    before = {name: value.tolist() for name, value in layer.gradients.items()}
    norm = norm_of(layer)
    assert math.isclose(optimizer.clip_gradients(max_norm=norm / 4), norm, rel_tol=1e-12)
    for name, value in layer.gradients.items():
        assert_close(flatten(value.tolist()), [g * norm / 4 / (norm + 1e-6) for g in flatten(before[name])], dtype)
    clipped = gradients(layer)
    assert math.isclose(optimizer.clip_gradients(norm), norm / 4, rel_tol=1e-5)
    assert gradients(layer) == clipped


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, math.inf, -math.inf])
def test_refuses_a_norm(max_norm):
    layer, x, y = problem()
    optimizer = pente.SGD(layer)
    with pytest.raises(ValueError, match="max_norm is .*; it must be finite and above 0"):
        optimizer.clip_gradients(max_norm)
    with pytest.raises(ValueError, match="max_grad_norm is .*, but must be finite and above 0, or None"):
        pente.Trainer(layer, optimizer, pente.MSELoss(), max_norm)
    trainer = pente.Trainer(layer, optimizer, pente.MSELoss(), max_grad_norm=2)
    with pytest.raises(ValueError, match="max_grad_norm"):
        trainer.max_grad_norm = max_norm
    assert trainer.max_grad_norm == 2.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda o, t: o.clip_gradients(), "missing its argument 'max_norm'"),
        (lambda o, t: o.clip_gradients("1"), "max_norm must be a number, not '1'"),
        (lambda o, t: o.clip_gradients(1.0, 2.0), "at most 1"),
        (lambda o, t: setattr(t, "max_grad_norm", "1"), "max_grad_norm must be a number, not '1'"),
        (lambda o, t: delattr(t, "max_grad_norm"), "max_grad_norm cannot be deleted"),
    ],
)
def test_refuses_a_type(call, message):
    layer, x, y = problem()
    optimizer = pente.SGD(layer)
    with pytest.raises(TypeError, match=message):
        call(optimizer, pente.Trainer(layer, optimizer, pente.MSELoss()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_trainers_step_is_the_calls(dtype):
    whole, by_hand = network(dtype), network(dtype)
    x, y, loss = randoms(40, 5, dtype), randoms(40, 2, dtype, seed=1), pente.MSELoss()
    trainer = pente.Trainer(whole, pente.SGD(whole, lr=0.1, momentum=0.9), loss, max_grad_norm=0.05)
    optimizer = pente.SGD(by_hand, lr=0.1, momentum=0.9)
    for max_norm in [0.05, 0.05, None, 1e-3]:
        trainer.max_grad_norm = max_norm
        assert trainer.max_grad_norm == max_norm
        assert (f", max_grad_norm={max_norm})" in repr(trainer)) == (max_norm is not None)
        expected = loss(by_hand(x), y)
        optimizer.zero_grad()
        by_hand.backward(loss.backward())
        if max_norm:
            assert optimizer.clip_gradients(max_norm) > max_norm
        optimizer.step()
        assert trainer.step(x, y) == expected
        assert snapshot(whole) == snapshot(by_hand) and gradients(whole) == gradients(by_hand)


def test_fit_clips():
    clipped, free = network(), network()
    x, y = randoms(40, 5), randoms(40, 2, seed=1)
    pente.Trainer(clipped, pente.SGD(clipped, lr=0.1), pente.MSELoss(), 1e-6).fit(x, y, epochs=3)
    pente.Trainer(free, pente.SGD(free, lr=0.1), pente.MSELoss()).fit(x, y, epochs=3)
    start = network()
    moved = math.fsum(
        (b - a) ** 2
        for value, begun in zip(clipped.parameters.values(), start.parameters.values())
        for a, b in zip(flatten(begun.tolist()), flatten(value.tolist()))
    )
    assert 0 < math.sqrt(moved) <= 6 * 0.1 * 1e-6 * 1.001  # six steps
    assert snapshot(free) != snapshot(clipped)


def test_a_norm_that_is_not_finite_changes_nothing():
    layer = pente.Linear(1, 1, bias=False)
    layer.weight[0, 0] = 1e-20
    optimizer = pente.SGD(layer, momentum=0.9)
    trainer = pente.Trainer(layer, optimizer, pente.MSELoss(), max_grad_norm=1.0)
    x, y = matrix([[1e38]], "float32"), matrix([[-1e18]], "float32")
    before = snapshot(layer), gradients(layer), optimizer.state_dict()
    for call in (lambda: trainer.step(x, y), lambda: trainer.fit(x, y)):
        with pytest.raises(FloatingPointError, match="the gradients' norm is inf"):
            call()
    assert (snapshot(layer), gradients(layer), optimizer.state_dict()) == before
    layer.weight_grad[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="the gradients' norm is nan"):
        optimizer.clip_gradients(1.0)
