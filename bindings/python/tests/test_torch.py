"""PyTorch as the judge."""

import pente
import pytest
from support import DTYPES

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

OPTIONS = [
    dict(),
    dict(maximize=True),
    dict(weight_decay=0.1),
    dict(momentum=0.9),
    dict(momentum=0.9, dampening=0.5),
    dict(momentum=0.9, nesterov=True),
    dict(momentum=0.9, dampening=0.1, weight_decay=0.05, maximize=True),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def pair(in_features, out_features, dtype, bias=True, seed=0):
    """The same layer here and there."""
    torch.manual_seed(seed)
    theirs = torch.nn.Linear(in_features, out_features, bias=bias, dtype=getattr(torch, dtype))
    return pente.Linear(in_features, out_features, bias=bias, dtype=dtype, seed=seed), theirs


def data(rows, columns, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(dtype)


def assert_close(ours, theirs, dtype):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1, 2**32 + 5])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (10, 1), (64, 8), (784, 10), (7, 333)])
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_to_the_bit(dtype, seed, shape, bias):
    ours, theirs = pair(*shape, dtype, bias, seed)
    assert bytes(ours.weight) == theirs.weight.detach().numpy().tobytes()
    if bias:
        assert bytes(ours.bias) == theirs.bias.detach().numpy().tobytes()


@pytest.mark.parametrize("rows, in_features, out_features", [(1, 1, 1), (32, 64, 8), (257, 33, 17), (1000, 300, 40)])
def test_forward_and_backward(dtype, rows, in_features, out_features):
    ours, theirs = pair(in_features, out_features, dtype)
    x, grad_output = data(rows, in_features, dtype), data(rows, out_features, dtype, seed=1) / rows
    their_x = torch.from_numpy(x).requires_grad_()
    y = theirs(their_x)
    y.backward(torch.from_numpy(grad_output))
    assert_close(ours.forward(x), y, dtype)
    assert_close(ours.backward(grad_output), their_x.grad, dtype)
    assert_close(ours.weight_grad, theirs.weight.grad, dtype)
    assert_close(ours.bias_grad, theirs.bias.grad, dtype)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan]
ACTIVATIONS = {
    pente.ReLU: torch.relu,
    pente.LeakyReLU: torch.nn.functional.leaky_relu,
    pente.Tanh: torch.tanh,
    pente.Sigmoid: torch.sigmoid,
    pente.Softplus: torch.nn.functional.softplus,
}


def assert_same_specials(ours, theirs, dtype):
    """NaNs, infinities and signs of zeros in the same places."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert_close(ours, theirs, dtype)
    zeros = (ours == 0) & (theirs == 0)
    assert (np.signbit(ours) == np.signbit(theirs))[zeros].all()


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_of_what_is_not_finite(dtype, kind):
    x, grad_output = (np.array(part, dtype) for part in np.meshgrid(SPECIAL, SPECIAL))
    their_x = torch.from_numpy(x).requires_grad_()
    theirs = ACTIVATIONS[kind](their_x)
    theirs.backward(torch.from_numpy(grad_output))
    ours = kind(dtype=dtype)
    assert_same_specials(ours(x), theirs, dtype)
    assert_same_specials(ours.backward(grad_output), their_x.grad, dtype)


def test_losses_of_what_is_not_finite(dtype):
    prediction, target = (np.array(part, dtype) for part in np.meshgrid(SPECIAL, SPECIAL))
    their_prediction, their_target = (torch.from_numpy(part).requires_grad_() for part in (prediction, target))
    theirs = torch.nn.MSELoss(reduction="none")(their_prediction, their_target)
    theirs.backward(torch.ones_like(theirs))
    loss = pente.MSELoss("none")
    assert_same_specials(loss(prediction, target), theirs, dtype)
    assert_same_specials(loss.backward(), their_prediction.grad, dtype)
    assert_close(loss.target_grad, their_target.grad, dtype)  # but -0 for 0: it is minus the prediction's


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(dtype, reduction):
    prediction, target = data(20, 3, dtype), data(20, 3, dtype, seed=1)
    their_prediction, their_target = (torch.from_numpy(a).requires_grad_() for a in (prediction, target))
    theirs = torch.nn.MSELoss(reduction=reduction)(their_prediction, their_target)
    loss = pente.MSELoss(reduction)
    ours = loss(prediction, target)
    assert_close(ours, theirs, dtype)
    upstream = data(20, 3, dtype, seed=2) if reduction == "none" else 3.0
    theirs.backward(torch.from_numpy(upstream) if reduction == "none" else torch.tensor(3.0, dtype=theirs.dtype))
    assert_close(loss.backward(upstream), their_prediction.grad, dtype)
    assert_close(loss.target_grad, their_target.grad, dtype)


@pytest.mark.parametrize("options", OPTIONS)
def test_ten_steps(dtype, options):
    ours, theirs = pair(6, 3, dtype)
    x, y = data(16, 6, dtype), data(16, 3, dtype, seed=1)
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, **options)
    trainer = pente.Trainer(ours, pente.SGD(ours, lr=0.05, **options), pente.MSELoss())
    for _ in range(10):
        their_optimizer.zero_grad()
        their_loss = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        their_loss.backward()
        their_optimizer.step()
        assert_close(trainer.step(x, y), their_loss, dtype)
        assert_close(ours.weight, theirs.weight, dtype)
        assert_close(ours.bias, theirs.bias, dtype)


def test_groups(dtype):
    a, their_a = pair(4, 3, dtype, seed=1)
    b, their_b = pair(3, 2, dtype, seed=2)
    x, y = data(16, 4, dtype), data(16, 2, dtype, seed=1)
    optimizer = pente.SGD([{"layers": a, "lr": 0.1}, {"layers": b, "momentum": 0.5}], lr=0.01)
    their_optimizer = torch.optim.SGD(
        [{"params": their_a.parameters(), "lr": 0.1}, {"params": their_b.parameters(), "momentum": 0.5}], lr=0.01
    )
    loss = pente.MSELoss()
    for _ in range(10):
        optimizer.zero_grad()
        loss(b(a(x)), y)
        a.backward(b.backward(loss.backward()), input_gradient=False)
        optimizer.step()
        their_optimizer.zero_grad()
        torch.nn.functional.mse_loss(their_b(their_a(torch.from_numpy(x))), torch.from_numpy(y)).backward()
        their_optimizer.step()
    for ours, theirs in [(a, their_a), (b, their_b)]:
        assert_close(ours.weight, theirs.weight, dtype)
        assert_close(ours.bias, theirs.bias, dtype)


def test_fit_is_a_loop_over_randperm(dtype):
    ours, theirs = pair(5, 2, dtype)
    x, y = data(50, 5, dtype), data(50, 2, dtype, seed=1)
    trainer = pente.Trainer(ours, pente.SGD(ours, lr=0.1), pente.MSELoss())
    trainer.fit(x, y, epochs=3, batch_size=16, seed=7)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        for batch in torch.randperm(50, generator=generator).split(16):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)[batch]), torch.from_numpy(y)[batch])
            loss.backward()
            optimizer.step()
    assert_close(ours.weight, theirs.weight, dtype)
    assert_close(ours.bias, theirs.bias, dtype)


def test_state_dicts_go_both_ways(dtype):
    ours, theirs = pair(5, 2, dtype, seed=1)
    _, other = pair(5, 2, dtype, seed=2)
    other.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in ours.state_dict().items()})
    assert torch.equal(other.weight, theirs.weight)
    ours.load_state_dict({name: value.numpy() for name, value in other.state_dict().items()})
    assert bytes(ours.weight) == theirs.weight.detach().numpy().tobytes()


@pytest.mark.parametrize("max_norm", [1e-3, 0.5, 100.0])
def test_clip_grad_norm(dtype, max_norm):
    ours, theirs = pair(40, 7, dtype)
    rng = np.random.default_rng(0)
    for view, parameter in zip((ours.weight_grad, ours.bias_grad), theirs.parameters()):
        gradient = rng.normal(size=parameter.shape).astype(dtype)
        np.asarray(view)[...] = gradient
        parameter.grad = torch.from_numpy(gradient)
    their_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm, error_if_nonfinite=True)
    assert pente.SGD(ours).clip_gradients(max_norm) == pytest.approx(their_norm.item(), rel=TOLERANCE[dtype])
    assert_close(ours.weight_grad, theirs.weight.grad, dtype)
    assert_close(ours.bias_grad, theirs.bias.grad, dtype)


def test_clipped_steps(dtype):
    ours, theirs = pair(6, 3, dtype)
    x, y = data(16, 6, dtype), data(16, 3, dtype, seed=1)
    trainer = pente.Trainer(ours, pente.SGD(ours, lr=0.5, momentum=0.5), pente.MSELoss(), max_grad_norm=0.2)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.5)
    clipped = 0
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        clipped += torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.2).item() > 0.2
        optimizer.step()
        assert_close(trainer.step(x, y), loss, dtype)
        assert_close(ours.weight, theirs.weight, dtype)
    assert 0 < clipped < 20


def to_torch(state):
    """Our optimizer's state with tensors for its buffers."""
    buffers = {
        number: {name: torch.from_numpy(np.asarray(value).copy()) for name, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": buffers}


def from_torch(state):
    buffers = {
        number: {name: value if value is None else value.numpy() for name, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": buffers}


def updates(rng, dtype, optimizers, count=3):
    """The same random gradients for both, and a step; the optimizers are (ours, its layers), (theirs, its modules)."""
    (ours, layers), (theirs, modules) = optimizers
    for _ in range(count):
        for layer, module in zip(layers, modules):
            for view, parameter in zip(layer.gradients.values(), module.parameters()):
                gradient = rng.normal(size=parameter.shape).astype(dtype)
                np.asarray(view)[...] = gradient
                parameter.grad = torch.from_numpy(gradient)
        ours.step()
        theirs.step()


def expect_same_bits(layers, modules):
    for layer, module in zip(layers, modules):
        for value, parameter in zip(layer.parameters.values(), module.parameters()):
            assert bytes(value) == parameter.detach().numpy().tobytes()


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_optimizer_states_go_both_ways(dtype, options, ours_first):
    """Groups of their own; and each goes on where the other was, to the bit."""
    layers, modules = zip(pair(4, 3, dtype, seed=1), pair(3, 2, dtype, seed=2))
    rng = np.random.default_rng(0)

    def optimizers(first, second):
        return (
            pente.SGD([{"layers": layers[0], **first}, {"layers": layers[1], **second}]),
            torch.optim.SGD(
                [
                    {"params": modules[0].parameters(), **first},
                    {"params": modules[1].parameters(), **second},
                ],
                foreach=False,
            ),
        )

    ours, theirs = optimizers(dict(lr=0.25), dict(lr=0.05, **options))
    updates(rng, dtype, [(ours, layers), (theirs, modules)])
    next_ours, next_theirs = optimizers(dict(lr=1.0), dict(lr=1.0))
    if ours_first:
        next_ours.load_state_dict(ours.state_dict())
        next_theirs.load_state_dict(to_torch(ours.state_dict()))
    else:
        state = theirs.state_dict()
        state["param_groups"][0]["lr"] = torch.tensor(0.25)
        next_ours.load_state_dict(from_torch(state))
        next_theirs.load_state_dict(theirs.state_dict())
    assert next_ours.groups == ours.groups
    updates(rng, dtype, [(next_ours, layers), (next_theirs, modules)])
    expect_same_bits(layers, modules)
    assert set(next_ours.state_dict()["state"]) == set(next_theirs.state_dict()["state"])
