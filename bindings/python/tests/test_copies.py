"""Pickles, copies and equality of all objects."""

import copy
import pickle

import pente
import pytest
from support import DTYPES, Affine, gradients, network, randoms, run_python, square

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def double(x):
    return pente.Matrix(x)


def double_backward(x, y, grad_output):
    return grad_output


class Counting(Affine):
    """Has a state of its own."""

    def __init__(self, linear, calls):
        super().__init__(linear)
        self.calls = calls


def layers(dtype):
    linear = pente.Linear(3, 2, dtype=dtype, seed=1)
    scaler = pente.Scaler(3, dtype).fit(randoms(5, 3, dtype))
    return [
        linear,
        pente.Linear(3, 2, bias=False, dtype=dtype, seed=2),
        pente.ReLU(dtype),
        pente.LeakyReLU(0.25, dtype),
        pente.Tanh(dtype),
        pente.Sigmoid(dtype),
        pente.Softplus(dtype),
        scaler,
        pente.CustomLayer(forward=double, backward=double_backward, dtype=dtype),
        Counting(linear, [1, 2]),
        pente.Chain(scaler, linear, pente.Chain(pente.Linear(2, 2, dtype=dtype), pente.Tanh(dtype))),
    ]


def others(layer):
    """Of another kind, dtype or value."""

    def kind(layer):
        return type(layer), layer.dtype, repr(layer)

    return [other for dtype in DTYPES for other in layers(dtype) if kind(other) != kind(layer)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", range(11))
def test_layers_come_back_the_same(dtype, index):
    layer = layers(dtype)[index]
    x = randoms(4, 3, dtype)
    copies = [pickle.loads(pickle.dumps(layer, protocol)) for protocol in PROTOCOLS]
    for twin in [*copies, copy.copy(layer), copy.deepcopy(layer)]:
        assert twin is not layer and type(twin) is type(layer) and repr(twin) == repr(layer)
        assert twin == layer and not twin != layer
        assert twin.state_dict() == layer.state_dict()
        assert twin.predict(x) == layer.predict(x)
        assert all(twin != other for other in others(layer))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bit_makes_a_difference(dtype):
    for layer in layers(dtype):
        for name in layer.state_dict():
            twin = copy.deepcopy(layer)
            view = memoryview(twin.parameters[name]).cast("B")
            view[0] ^= 1
            assert twin != layer and twin == copy.deepcopy(twin)


def test_copies_are_apart_and_have_gradients_of_zero():
    layer = network()
    layer.forward(randoms(4, 5))
    layer.backward(randoms(4, 2))
    before, state = gradients(layer), layer.state_dict()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not any(any(value) for value in gradients(twin).values())
        twin.reset_parameters(7)
    assert gradients(layer) == before and layer.state_dict() == state


def test_a_shallow_copy_of_a_chain_is_a_chain_of_the_same_layers():
    chain = network()
    twin = copy.copy(chain)
    assert all(a is b for a, b in zip(twin, chain, strict=True))
    assert all(a is not b for a, b in zip(copy.deepcopy(chain), chain, strict=True))


def test_what_is_shared_stays_shared():
    linear, tanh = pente.Linear(2, 2, seed=0), pente.Tanh()
    chain = pente.Chain(linear, tanh, pente.Linear(2, 2, seed=1), tanh)
    for twin, first in (copy.deepcopy((chain, linear)), pickle.loads(pickle.dumps((chain, linear)))):
        assert twin[0] is first and twin[1] is twin[3] and twin == chain


def test_a_state_of_ones_own_is_copied_as_any_objects():
    layer = Counting(pente.Linear(3, 2), [1, 2])
    assert copy.copy(layer).calls is layer.calls
    twin = copy.deepcopy(layer)
    twin.calls.append(3)
    assert layer.calls == [1, 2] and twin.calls == [1, 2, 3] and twin != layer


def test_functions_must_have_names():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(square())
    assert copy.deepcopy(square()).predict(randoms(2, 2)) == square().predict(randoms(2, 2))
    assert square() != square()


def test_a_layer_that_is_not_ready_is_not_copied():
    layer = Affine.__new__(Affine)
    for call in (pickle.dumps, copy.copy, copy.deepcopy, lambda layer: layer == Affine.__new__(Affine)):
        with pytest.raises(RuntimeError, match="this Affine is not ready"):
            call(layer)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices(dtype):
    layer = pente.Linear(3, 2, dtype=dtype, seed=0)
    for matrix in (layer.weight, layer.bias, layer.predict(randoms(4, 3, dtype))):
        copies = [pickle.loads(pickle.dumps(matrix, protocol)) for protocol in PROTOCOLS]
        for twin in [*copies, copy.copy(matrix), copy.deepcopy(matrix)]:
            assert twin == matrix and twin.shape == matrix.shape
            memoryview(twin).cast("B")[0] ^= 1
            assert twin != matrix


def test_matrices_go_out_of_band():
    weight = pente.Linear(100, 200, dtype="float64", seed=0).weight
    buffers = []
    data = pickle.dumps(weight, 5, buffer_callback=buffers.append)
    assert len(data) < 1000 and pickle.loads(data, buffers=buffers) == weight


def test_out_of_band_bytes_may_lie_anywhere():
    weight = pente.Linear(3, 2, dtype="float64", seed=0).weight
    buffers = []
    data = pickle.dumps(weight, 5, buffer_callback=buffers.append)
    frame = memoryview(b"." + bytes(buffers[0]))[1:]
    assert pickle.loads(data, buffers=[frame]) == weight


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_of_nothing(dtype):
    numpy = pytest.importorskip("numpy")
    for shape in ((0, 3), (3, 0), (0, 0), (0,)):
        matrix = pente.Matrix(numpy.zeros(shape, dtype))
        copies = [pickle.loads(pickle.dumps(matrix, protocol)) for protocol in PROTOCOLS]
        for twin in [*copies, copy.copy(matrix), copy.deepcopy(matrix)]:
            assert twin == matrix and twin.shape == shape and twin.dtype == dtype


def test_losses():
    for reduction in ("mean", "sum", "none", "batch_mean", "output_mean"):
        loss = pente.MSELoss(reduction)
        for twin in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
            assert twin == loss and twin is not loss
    assert pente.MSELoss("sum") != pente.MSELoss()


def optimizer(momentum=0.9, steps=3, dtype="float64"):
    """Of a chain's layers in two groups, with momentum from some steps; and the chain."""
    chain = network(dtype)
    sgd = pente.SGD([{"layers": chain[0]}, {"layers": chain[2], "lr": 0.02}], lr=0.01, momentum=momentum)
    trainer = pente.Trainer(chain, sgd, pente.MSELoss(), max_grad_norm=2.0)
    for _ in range(steps):
        trainer.step(randoms(8, 5, dtype), randoms(8, 2, dtype, seed=1))
    return trainer


@pytest.mark.parametrize("dtype", DTYPES)
def test_optimizers_come_back_the_same(dtype):
    sgd = optimizer(dtype=dtype).optimizer
    copies = [pickle.loads(pickle.dumps(sgd, protocol)) for protocol in PROTOCOLS]
    for twin in [*copies, copy.copy(sgd), copy.deepcopy(sgd)]:
        assert twin is not sgd and twin == sgd and not twin != sgd
        assert twin.groups == sgd.groups and twin.defaults == sgd.defaults and twin.step_count == sgd.step_count
        assert twin.state_dict() == sgd.state_dict()
    assert sgd != optimizer(0.8, dtype=dtype).optimizer and sgd != optimizer(steps=2, dtype=dtype).optimizer
    twin = copy.copy(sgd)
    assert all(a is b for a, b in zip(twin.layers, sgd.layers, strict=True) for a, b in zip(a, b, strict=True))
    twin.set_options(1, lr=0.5)
    assert twin != sgd and sgd.groups[1]["lr"] == 0.02
    twin.add_group(pente.Linear(2, 2, dtype=dtype))
    assert twin.groups[2]["lr"] == 0.01 and twin.groups[2]["momentum"] == 0.9


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_goes_on_from_a_copy_to_the_same_bits(dtype):
    trainer = optimizer(dtype=dtype)
    twins = [pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)]
    for each in [trainer, *twins]:
        assert each.max_grad_norm == 2.0 and each.layer[0] is each.optimizer.layers[0][0]
        each.fit(randoms(8, 5, dtype), randoms(8, 2, dtype, seed=1), epochs=3, batch_size=4)
    for twin in twins:
        assert twin == trainer and twin.optimizer.step_count == trainer.optimizer.step_count > 3
    assert trainer != optimizer(dtype=dtype)
    twins[0].max_grad_norm = None
    assert twins[0] != trainer


def test_equality_is_of_one_kind_and_without_order():
    layer = pente.Linear(3, 2)
    assert layer != 1 and layer is not None and layer != pente.MSELoss() and pente.MSELoss() != 1
    assert pente.SGD(layer) != layer
    for thing in (layer, pente.MSELoss(), pente.SGD(layer), optimizer()):
        with pytest.raises(TypeError):
            hash(thing)
        with pytest.raises(TypeError):
            thing < thing


def test_pickles_are_read_by_another_process(tmp_path):
    chain = network()
    path = tmp_path / "chain"
    path.write_bytes(pickle.dumps(chain))
    run_python(
        f"""
        import pickle
        chain = pickle.load(open({str(path)!r}, "rb"))
        import pente
        first, last = (pente.Linear(*sizes, dtype="float64") for sizes in ((5, 4), (4, 2)))
        same = pente.Chain(first, pente.Tanh("float64"), last)
        same.reset_parameters(0)
        assert chain == same
        """
    )
