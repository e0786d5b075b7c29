"""SGD's state_dict and load_state_dict, as torch.optim.SGD has them."""

import copy

import pente
import pytest
from support import DTYPES, matrix, network, randoms, snapshot, vector

PLAIN = dict(lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)


def optimizer_of(chain, **options):
    """Two groups, one for each linear layer; the first without momentum."""
    return pente.SGD([{"layers": chain[0], **options, "momentum": 0.0}, {"layers": [chain[1], chain[2]], **options}])


def plain(state):
    """The state with its buffers as bytes, to be compared."""
    buffers = {i: {name: bytes(value) for name, value in entry.items()} for i, entry in state["state"].items()}
    return {**state, "state": buffers}


def train(chain, optimizer, steps):
    x, y = randoms(30, 5, chain.dtype), randoms(30, 2, chain.dtype, seed=1)
    trainer = pente.Trainer(chain, optimizer, pente.MSELoss())
    return [trainer.step(x, y) for _ in range(steps)]


def test_a_fresh_state():
    chain = network()
    optimizer = optimizer_of(chain, lr=0.5, momentum=0.9)
    assert optimizer.state_dict() == {
        "state": {},
        "param_groups": [
            {**PLAIN, "lr": 0.5, "params": [0, 1]},
            {**PLAIN, "lr": 0.5, "momentum": 0.9, "params": [2, 3]},
        ],
        "step_count": 0,
    }
    assert optimizer.layers == ((chain[0],), (chain[1], chain[2]))
    again = pente.SGD([{"layers": layers, **group} for layers, group in zip(optimizer.layers, optimizer.groups)])
    assert again.state_dict() == optimizer.state_dict()


@pytest.mark.parametrize("dtype", DTYPES)
def test_buffers_are_copies_in_their_shapes(dtype):
    chain = network(dtype)
    optimizer = optimizer_of(chain, lr=0.1, momentum=0.9)
    train(chain, optimizer, 2)
    state = optimizer.state_dict()
    assert list(state["state"]) == [2, 3] and state["step_count"] == 2
    weight, bias = (state["state"][i]["momentum_buffer"] for i in (2, 3))
    assert weight.shape == (2, 4) and bias.shape == (2,) and weight.dtype == bias.dtype == dtype
    weight[0, 0] = 77.0
    assert optimizer.state_dict()["state"][2]["momentum_buffer"][0, 0] != 77.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resumed_run_is_one_that_was_never_interrupted(dtype):
    options = dict(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=False)
    whole = network(dtype)
    optimizer = optimizer_of(whole, **options)
    train(whole, optimizer, 3)
    resumed = network(dtype, seed=5)
    other = optimizer_of(resumed, lr=1.0)
    resumed.load_state_dict(whole.state_dict())
    other.load_state_dict(optimizer.state_dict())
    assert plain(other.state_dict()) == plain(optimizer.state_dict())
    assert train(resumed, other, 3) == train(whole, optimizer, 3)
    assert snapshot(resumed) == snapshot(whole)
    assert plain(other.state_dict()) == plain(optimizer.state_dict())


def trained():
    chain = network()
    optimizer = optimizer_of(chain, lr=0.1, momentum=0.9)
    train(chain, optimizer, 2)
    return optimizer


def test_what_torch_has_more_or_less_of():
    """Numbers of any kind for the parameters, None for no buffer, further keys, and no step_count."""
    optimizer = trained()
    state = optimizer.state_dict()
    buffer = bytes(state["state"][2]["momentum_buffer"])
    state["state"] = {"w": {**state["state"][2], "more": 1}, "b": {"momentum_buffer": None}, 99: {}}
    for group, params in zip(state["param_groups"], [[7, "b"], ("w", 8)]):
        group.update(params=params, foreach=None, fused=None, differentiable=False)
    del state["step_count"]
    optimizer.load_state_dict(state)
    now = plain(optimizer.state_dict())
    assert now["state"] == {2: {"momentum_buffer": buffer}} and now["step_count"] == 2
    assert set(now["param_groups"][0]) == {*PLAIN, "params"}


def change(path, value):
    """Sets what is under the keys to the value, or deletes it."""

    def apply(state):
        *keys, last = path
        for key in keys:
            state = state[key]
        if value is KeyError:
            del state[last]
        else:
            state[last] = value

    return apply


@pytest.mark.parametrize(
    "spoil, error, message",
    [
        (change(["state"], KeyError), ValueError, "the state has no 'state'"),
        (change(["param_groups"], KeyError), ValueError, "the state has no 'param_groups'"),
        (change(["param_groups"], 3), TypeError, None),
        (change(["param_groups", 1], KeyError), ValueError, "the state has 1 param_groups, but the optimizer has 2"),
        (change(["param_groups", 1, "params"], KeyError), ValueError, r"param_groups\[1\] has no 'params'"),
        (change(["param_groups", 1, "momentum"], KeyError), ValueError, r"param_groups\[1\] has no 'momentum'"),
        (change(["param_groups", 1, "params"], [2]), ValueError, r"\[1\] has 1 params, but the optimizer's .* has 2"),
        (change(["param_groups", 1, "params"], 2), TypeError, None),
        (change(["param_groups", 1, "params"], [2, []]), TypeError, "unhashable"),
        (change(["param_groups", 1, "lr"], "1"), TypeError, "lr must be a number, not '1'"),
        (change(["param_groups", 1, "lr"], -1.0), ValueError, "lr is -1"),
        (change(["param_groups", 1, "dampening"], 0.5), ValueError, None),  # and nesterov, below
        (change(["param_groups", 1], 3), TypeError, None),
        (change(["state"], 3), TypeError, None),
        (change(["state", 3], 3), TypeError, None),
        (change(["state", 3, "momentum_buffer"], 1.0), TypeError, "momentum_buffer is of type float"),
        (change(["state", 3, "momentum_buffer"], vector([1, 2], "float32")), TypeError, "momentum_buffer is float32"),
        (change(["state", 3, "momentum_buffer"], vector([1])), ValueError, r"buffers\[3\] is 1×1, but bias is 1×2"),
        (change(["state", 2, "momentum_buffer"], matrix([[1.0] * 2] * 4)), ValueError, "4×2, but weight is 2×4"),
        (change(["step_count"], -1), ValueError, "step_count is -1"),
        (change(["step_count"], 1.5), TypeError, "step_count must be a whole number, not 1.5"),
    ],
)
def test_a_refused_state_changes_nothing(spoil, error, message):
    optimizer = trained()
    before = plain(optimizer.state_dict())
    state = optimizer.state_dict()
    state["param_groups"][1]["nesterov"] = True  # all of these would be new
    state["param_groups"][0]["lr"] = 0.7
    state["step_count"] = 50
    spoil(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert plain(optimizer.state_dict()) == before


@pytest.mark.parametrize("state", [3, None, [1]])
def test_refuses_what_is_no_dict(state):
    with pytest.raises((TypeError, ValueError)):
        trained().load_state_dict(state)


def test_options_that_change_the_state_while_it_is_read():
    optimizer = trained()
    state = optimizer.state_dict()

    class Nasty:
        def __float__(self):
            state.clear()
            groups[1].clear()
            return 0.25

    groups = copy.copy(state["param_groups"])
    groups[0]["lr"] = Nasty()
    with pytest.raises(ValueError, match=r"param_groups\[1\] has no 'lr'"):
        optimizer.load_state_dict(state)
    assert optimizer.groups[0]["lr"] == 0.1


def test_a_key_that_raises_is_not_passed_over():
    class Nasty(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise ZeroDivisionError

    def renamed(parts, name):
        return {Nasty(name) if key == name else key: value for key, value in parts.items()}

    optimizer = trained()
    before = plain(optimizer.state_dict())
    for name in before:
        with pytest.raises(ZeroDivisionError):
            optimizer.load_state_dict(renamed(optimizer.state_dict(), name))
    state = optimizer.state_dict()
    state["state"] = {number: renamed(entry, "momentum_buffer") for number, entry in state["state"].items()}
    with pytest.raises(ZeroDivisionError):
        optimizer.load_state_dict(state)
    with pytest.raises(ZeroDivisionError):
        pente.SGD([{Nasty("layers"): network()}])
    assert plain(optimizer.state_dict()) == before
