import inspect

import pente
import pytest
from support import (
    DTYPES,
    assert_close,
    gradients,
    matrix,
    network,
    problem,
    product,
    randoms,
    snapshot,
    vector,
    zeros,
)

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def test_describes_itself():
    inner = pente.Chain(pente.Linear(2, 1), pente.Sigmoid())
    chain = pente.Chain(pente.Linear(3, 2), pente.ReLU(), inner)
    assert repr(chain) == (
        "Chain(\n"
        "  (0): Linear(in_features=3, out_features=2, bias=True, dtype='float32')\n"
        "  (1): ReLU()\n"
        "  (2): Chain(\n"
        "    (0): Linear(in_features=2, out_features=1, bias=True, dtype='float32')\n"
        "    (1): Sigmoid()\n"
        "  )\n"
        ")"
    )
    assert (chain.in_features, chain.out_features, chain.dtype) == (3, 1, "float32")
    assert str(inspect.signature(pente.Chain)) == "(*layers)"
    assert isinstance(chain, pente.Layer)


def test_is_a_sequence_of_the_very_layers():
    layers = [pente.Linear(3, 2), pente.Tanh(), pente.Linear(2, 2)]
    for chain in [pente.Chain(*layers), pente.Chain(layers), pente.Chain(layer for layer in layers)]:
        assert len(chain) == 3
        assert all(a is b for a, b in zip(chain, layers, strict=True))
        assert chain[0] is chain[-3] is layers[0] and chain[2] is chain[-1] is layers[2]
        assert layers[1] in chain and pente.Sigmoid() not in chain
        for index in (3, -4):
            with pytest.raises(IndexError, match="3 layers"):
                chain[index]
        for index in ("0", 1.0, slice(0, 1)):
            with pytest.raises(TypeError):
                chain[index]
        with pytest.raises(TypeError):
            chain[0] = layers[0]


def test_a_width_that_a_function_leaves_open_is_that_of_its_neighbours():
    chain = pente.Chain(pente.ReLU(), pente.Linear(3, 2), pente.ReLU())
    assert (chain.in_features, chain.out_features) == (3, 2)


def test_parameters_are_the_layers_own(dtype):
    chain = network(dtype)
    first, last = chain[0], chain[2]
    assert list(chain.parameters) == list(chain.gradients) == list(chain.state_dict()) == NAMES
    assert {name: value.shape for name, value in chain.parameters.items()} == {
        "0.weight": (4, 5),
        "0.bias": (4,),
        "2.weight": (2, 4),
        "2.bias": (2,),
    }
    chain.parameters["2.weight"][1, 3] = 7.0
    assert last.weight[1, 3] == last.parameters["weight"][1, 3] == chain.state_dict()["2.weight"][1, 3] == 7.0
    first.bias_grad[0] = 5.0
    assert chain.gradients["0.bias"][0] == 5.0
    chain.zero_grad()
    assert first.gradients["bias"][0] == 0.0


def test_nested_names():
    inner = pente.Chain(pente.ReLU(), pente.Linear(2, 1, bias=False))
    assert list(pente.Chain(pente.Linear(3, 2), pente.Chain(inner)).parameters) == [
        "0.weight",
        "0.bias",
        "1.0.1.weight",
    ]
    deep = pente.Linear(1, 1, bias=False)
    for _ in range(60):
        deep = pente.Chain(deep)
    assert list(deep.state_dict()) == ["0." * 60 + "weight"]


def test_forward_is_one_after_another_to_the_bit(dtype):
    chain, x = network(dtype), randoms(7, 5, dtype)
    y = x
    for layer in chain:
        y = layer.predict(y)
    assert bytes(chain.predict(x)) == bytes(chain.forward(x)) == bytes(chain(x)) == bytes(y)
    out = zeros(7, 2, dtype)
    assert chain.predict(x, out) is out and bytes(out) == bytes(y)


def test_backward_is_one_before_another(dtype):
    chain, other = network(dtype), network(dtype)
    x, grad_output = randoms(7, 5, dtype), randoms(7, 2, dtype)
    chain.forward(x)
    grad_input = chain.backward(grad_output)
    y, upstream = x, grad_output
    for layer in other:
        y = layer.forward(y)
    for layer in reversed(list(other)):
        upstream = layer.backward(upstream)
    assert_close(grad_input.tolist(), upstream.tolist(), dtype)
    for name, value in chain.gradients.items():
        assert_close(value.tolist(), other.gradients[name].tolist(), dtype)
    with pytest.raises(RuntimeError, match="forward"):
        chain.backward(grad_output)
    chain.forward(x)
    assert chain.backward(grad_output, input_gradient=False) is None


def test_one_activation_may_stand_in_several_places():
    relu = pente.ReLU("float64")
    a, b = pente.Linear(3, 3, dtype="float64", seed=0), pente.Linear(3, 2, dtype="float64", seed=1)
    chain = pente.Chain(relu, a, relu, b, relu)
    x = randoms(4, 3)
    apart = [pente.ReLU("float64") for _ in range(3)]
    other = pente.Chain(apart[0], a, apart[1], b, apart[2])
    assert bytes(chain.predict(x)) == bytes(other.predict(x))
    assert pente.gradcheck(chain, x)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: pente.Chain(), ValueError, "layers is empty"),
        (lambda: pente.Chain([]), ValueError, "layers is empty"),
        (lambda: pente.Chain(3), TypeError, None),
        (lambda: pente.Chain(pente.Linear(3, 2), 3), TypeError, r"layers\[1\] must be a Layer, not 3"),
        (lambda: pente.Chain([pente.Linear(3, 2), None]), TypeError, r"layers\[1\] must be a Layer, not None"),
        (lambda: pente.Chain(layers=[pente.Linear(3, 2)]), TypeError, "no keyword arguments"),
        (lambda: pente.Chain(pente.Linear(3, 2), pente.Linear(3, 2)), ValueError, None),
        (lambda: pente.Chain(pente.Linear(3, 2), pente.ReLU(), pente.Linear(4, 2)), ValueError, None),
        (lambda: pente.Chain(pente.Linear(3, 2), pente.ReLU("float64")), TypeError, None),
        (lambda: pente.Chain(pente.ReLU(), pente.Tanh()), ValueError, None),
        (lambda: pente.Chain([pente.Linear(2, 2)] * 2), ValueError, None),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_that_is_there_already_inside_a_chain_is_refused():
    layer = pente.Linear(2, 2)
    with pytest.raises(ValueError):
        pente.Chain(layer, pente.Chain(pente.ReLU(), layer))


def test_an_iterators_error_comes_out():
    def broken():
        yield pente.ReLU()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pente.Chain(broken())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_step_is_the_four_calls_to_the_bit(dtype, reduction):
    chains = network(dtype), network(dtype)
    options = dict(lr=1e-3, momentum=0.9, weight_decay=0.01, nesterov=True)
    optimizers = [pente.SGD(chain, **options) for chain in chains]
    loss = pente.MSELoss(reduction)
    trainer = pente.Trainer(chains[0], optimizers[0], loss)
    x, y, weight = randoms(300, 5, dtype), randoms(300, 2, dtype), vector([1 + i % 3 for i in range(300)], dtype)
    for _ in range(5):
        optimizers[1].zero_grad()
        value = loss(chains[1].forward(x), y, weight)
        chains[1].backward(loss.backward(target_gradient=False), input_gradient=False)
        optimizers[1].step()
        assert trainer.step(x, y, weight) == value
    assert snapshot(chains[0]) == snapshot(chains[1])
    assert gradients(chains[0]) == gradients(chains[1])
    assert optimizers[0].step_count == optimizers[1].step_count == 5


def test_learns_what_a_linear_layer_cannot():
    x, y = matrix([[0, 0], [0, 1], [1, 0], [1, 1]]), matrix([[0], [1], [1], [0]])
    chain = pente.Chain(
        pente.Linear(2, 8, dtype="float64"), pente.Tanh("float64"), pente.Linear(8, 1, dtype="float64")
    )
    chain.reset_parameters(0)
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1, momentum=0.9), pente.MSELoss())
    history = trainer.fit(x, y, epochs=1000, batch_size=4)
    assert history.training_losses[-1] < 1e-3
    assert [round(value) for (value,) in chain.predict(x).tolist()] == [0, 1, 1, 0]


def test_groups_of_its_layers():
    chain = network()
    optimizer = pente.SGD([{"layers": chain[0], "lr": 0.5}, {"layers": [chain[2]], "lr": 0.0}])
    before = snapshot(chain)
    pente.Trainer(chain, optimizer, pente.MSELoss()).step(randoms(4, 5), randoms(4, 2))
    after = snapshot(chain)
    assert [name for name in NAMES if before[name] != after[name]] == ["0.weight", "0.bias"]


def test_the_optimizer_must_hold_all_of_it():
    chain = network()
    with pytest.raises(ValueError):
        pente.Trainer(chain, pente.SGD(chain[0]), pente.MSELoss())
    with pytest.raises(ValueError):
        pente.SGD([chain, chain[0]])
    with pytest.raises(ValueError):
        pente.SGD(chain).add_group(chain[2])


def test_state_dicts_load_all_or_nothing(dtype):
    chain, other = network(dtype, seed=1), network(dtype, seed=2)
    other.load_state_dict(chain.state_dict())
    assert snapshot(other) == snapshot(chain)
    before = snapshot(network(dtype, seed=2))
    for change, error, message in [
        (lambda state: state.pop("2.bias"), ValueError, "no '2.bias'"),
        (lambda state: state.update(weight=state["0.weight"]), ValueError, "'weight' is no parameter of this Chain"),
        (lambda state: state.update({"2.bias": vector([1, 2, 3], dtype)}), ValueError, "2.bias is 1 by 3, but"),
        (lambda state: state.update({"2.bias": [1, 2]}), TypeError, "2.bias is of type list"),
    ]:
        other, state = network(dtype, seed=2), chain.state_dict()
        change(state)
        with pytest.raises(error, match=message):
            other.load_state_dict(state)
        assert snapshot(other) == before


def test_reset_parameters_draws_from_one_generator(dtype):
    chain = network(dtype, seed=3)
    assert bytes(chain[0].weight) == bytes(pente.Linear(5, 4, dtype=dtype, seed=3).weight)
    assert bytes(chain[2].weight) != bytes(pente.Linear(4, 2, dtype=dtype, seed=3).weight)
    before = snapshot(chain)
    chain.reset_parameters()
    assert snapshot(chain) != before
    chain.reset_parameters(seed=3)
    assert snapshot(chain) == before
    with pytest.raises(ValueError, match="seed is -1"):
        chain.reset_parameters(-1)


def test_shapes_are_refused():
    chain = network()
    with pytest.raises(ValueError, match="x is 2×4"):
        chain.predict(zeros(2, 4))
    with pytest.raises(TypeError, match="x is float32"):
        chain.predict(zeros(2, 5, "float32"))
    chain.forward(zeros(2, 5))
    with pytest.raises(ValueError, match="2×5"):
        chain.backward(zeros(2, 5))
    chain.backward(zeros(2, 2))


def test_a_chain_keeps_what_it_needs():
    _, x, y = problem("float64")
    trainer = pente.Trainer(*(lambda chain: (chain, pente.SGD(chain)))(network()), pente.MSELoss())
    view = trainer.layer.parameters["0.weight"]
    trainer.step(x, y)
    del trainer
    assert len(view.tolist()) == 4


def test_gradcheck_names_the_parameter():
    chain = network()
    report = pente.gradcheck(chain, randoms(4, 5), randoms(4, 2, seed=1), pente.MSELoss())
    assert report and report.checked == 20 + 20 + 4 + 8 + 2 + 8
    assert report.worst in ["x", "target", *NAMES]


class TestTorch:
    @pytest.fixture(autouse=True)
    def packages(self):
        self.np = pytest.importorskip("numpy")
        self.torch = pytest.importorskip("torch")

    def pair(self, dtype, seed=0):
        """The same chain here and there."""
        nn, kind = self.torch.nn, getattr(self.torch, dtype)
        self.torch.manual_seed(seed)
        theirs = nn.Sequential(
            nn.Linear(6, 9, dtype=kind),
            nn.Sigmoid(),
            nn.Sequential(nn.Linear(9, 5, bias=False, dtype=kind), nn.LeakyReLU(0.2)),
            nn.Linear(5, 3, dtype=kind),
        )
        ours = pente.Chain(
            pente.Linear(6, 9, dtype=dtype),
            pente.Sigmoid(dtype),
            pente.Chain(pente.Linear(9, 5, bias=False, dtype=dtype), pente.LeakyReLU(0.2, dtype)),
            pente.Linear(5, 3, dtype=dtype),
        )
        ours.reset_parameters(seed)
        return ours, theirs

    @pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
    def test_names_and_initial_weights_to_the_bit(self, dtype, seed):
        ours, theirs = self.pair(dtype, seed)
        assert snapshot(ours) == {name: value.numpy().tobytes() for name, value in theirs.state_dict().items()}

    def test_forward_and_backward(self, dtype):
        ours, theirs = self.pair(dtype)
        generator = self.np.random.default_rng(0)
        x, grad_output = generator.normal(size=(40, 6)).astype(dtype), generator.normal(size=(40, 3)).astype(dtype)
        their_x = self.torch.from_numpy(x).requires_grad_()
        y = theirs(their_x)
        y.backward(self.torch.from_numpy(grad_output))
        assert_close(ours.forward(x).tolist(), y.tolist(), dtype)
        assert_close(ours.backward(grad_output).tolist(), their_x.grad.tolist(), dtype)
        for name, value in theirs.named_parameters():
            assert_close(ours.gradients[name].tolist(), value.grad.tolist(), dtype)

    def test_training(self, dtype):
        ours, theirs = self.pair(dtype)
        generator = self.np.random.default_rng(0)
        x, y = generator.normal(size=(32, 6)).astype(dtype), generator.normal(size=(32, 3)).astype(dtype)
        trainer = pente.Trainer(ours, pente.SGD(ours, lr=0.05, momentum=0.9), pente.MSELoss())
        optimizer = self.torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
        for _ in range(20):
            optimizer.zero_grad()
            loss = self.torch.nn.functional.mse_loss(theirs(self.torch.from_numpy(x)), self.torch.from_numpy(y))
            loss.backward()
            optimizer.step()
            assert_close([trainer.step(x, y)], [loss.item()], dtype)
        for name, value in theirs.state_dict().items():
            assert_close(ours.parameters[name].tolist(), value.tolist(), dtype)
