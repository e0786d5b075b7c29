"""In float32 nothing is further from the exact result than PyTorch's; make check-extremes asks it of more, in both types."""

import pente
import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

# Two equal roundings in another order differ by this much, for better or worse.
LUCK = 1.1


def ours(x, y, weight, bias):
    layer, loss = pente.Linear(x.shape[1], y.shape[1]), pente.MSELoss()
    layer.load_state_dict({"weight": weight, "bias": bias})
    prediction = layer(x)
    loss(prediction, y)
    grad_input = layer.backward(loss.backward())
    return prediction, layer.weight_grad, layer.bias_grad, grad_input


def theirs(x, y, weight, bias):
    layer = torch.nn.Linear(x.shape[1], y.shape[1])
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    x = torch.from_numpy(x).requires_grad_(True)
    prediction = layer(x)
    torch.nn.functional.mse_loss(prediction, torch.from_numpy(y)).backward()
    return prediction.detach(), layer.weight.grad, layer.bias.grad, x.grad


def exact(x, y, weight, bias):
    x, y, weight, bias = (array.astype(np.float64) for array in (x, y, weight, bias))
    prediction = x @ weight.T + bias
    gradient = 2 * (prediction - y) / y.size
    return prediction, gradient.T @ x, gradient.sum(0), gradient @ weight


@pytest.mark.parametrize(
    "q, n, p",
    [
        (1_000_000, 32, 1),
        (65_536, 64, 4),
        (4096, 768, 64),
        (1024, 1024, 100),
        (256, 4096, 50),
        (512, 64, 64),
        (100, 17, 3),
        (3, 300, 40),
    ],
)
def test_no_further_from_float64_than_torch(q, n, p):
    random = np.random.default_rng(0)
    x = random.random((q, n), np.float32)
    weight = (random.random((p, n), np.float32) - np.float32(0.5)) / np.float32(n**0.5)
    bias = random.random(p, np.float32)
    y = x @ weight.T + bias + random.standard_normal((q, p), np.float32)
    reference = exact(x, y, weight, bias)

    def errors(results):
        return [
            np.linalg.norm(np.asarray(result).reshape(right.shape) - right) / np.linalg.norm(right)
            for result, right in zip(results, reference)
        ]

    for name, our, their in zip(
        ("prediction", "weight_grad", "bias_grad", "grad_input"),
        errors(ours(x, y, weight, bias)),
        errors(theirs(x, y, weight, bias)),
    ):
        assert our <= LUCK * their, name
