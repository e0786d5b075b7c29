"""A run that is saved, loaded and resumed is as one that was never interrupted."""

import pente
import pytest
from support import DTYPES, Affine, gradients, network, problem, randoms, run_python, snapshot, vector

OPTIONS = dict(lr=0.05, momentum=0.9, weight_decay=0.01, dampening=0.1)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def scaled(dtype, seed=0):
    scaler = pente.Scaler(5, dtype).fit(randoms(9, 5, dtype))
    return pente.Chain(scaler, network(dtype, seed), pente.LeakyReLU(0.5, dtype))


def affine(dtype, seed=0):
    return pente.Chain(Affine(pente.Linear(5, 4, dtype=dtype, seed=seed)), pente.Linear(4, 2, dtype=dtype, seed=seed))


def linear(dtype, seed=0):
    return pente.Linear(5, 2, dtype=dtype, seed=seed)


@pytest.mark.parametrize("make", [linear, network, scaled, affine])
@pytest.mark.parametrize("reset", [{}, dict(nesterov=True, dampening=0.0), dict(momentum=0.0)])
def test_to_the_bit(dtype, path, make, reset):
    options = OPTIONS | reset
    _, x, y = problem(dtype)
    whole = make(dtype)
    trainer = pente.Trainer(whole, pente.SGD(whole, **options), pente.MSELoss())
    losses = trainer.fit(x, y, epochs=8, batch_size=7, seed=5).training_losses

    begun = make(dtype)
    optimizer = pente.SGD(begun, **options)
    first = pente.Trainer(begun, optimizer, pente.MSELoss()).fit(x, y, epochs=3, batch_size=7, seed=5)
    begun.save(path, optimizer)

    resumed = make(dtype, seed=99)
    optimizer = pente.SGD(resumed, lr=1.0)
    resumed.load_parameters(path, optimizer)
    assert optimizer.groups[0] == pente.SGD(resumed, **options).groups[0]
    assert optimizer.step_count == 3 * 5
    second = pente.Trainer(resumed, optimizer, pente.MSELoss()).fit(
        x, y, epochs=5, batch_size=7, seed=5, first_epoch=3
    )
    assert first.training_losses + second.training_losses == losses
    assert snapshot(resumed) == snapshot(whole) and gradients(resumed) == gradients(whole)
    assert optimizer.step_count == trainer.optimizer.step_count == 8 * 5


def test_in_a_process_of_its_own(path):
    """Layer and optimizer both come from the file."""
    code = """
        import array, pente, sys
        x = memoryview(array.array("f", [((7 * i) % 23) / 23 for i in range(40 * 5)])).cast("B").cast("f", (40, 5))
        y = memoryview(array.array("f", [((5 * i) % 17) / 17 for i in range(40 * 2)])).cast("B").cast("f", (40, 2))
        loss = pente.MSELoss()
        def new():
            chain = pente.Chain(pente.Linear(5, 6), pente.Softplus(), pente.Linear(6, 2))
            chain.reset_parameters(3)
            return chain, pente.SGD(chain, lr=0.1, momentum=0.9)
        if {first}:
            chain, sgd = new()
            pente.Trainer(chain, sgd, loss).fit(x, y, epochs=3, batch_size=16, seed=1)
            chain.save({path!r}, sgd)
        else:
            chain = pente.Layer.load({path!r})
            sgd = pente.SGD(chain)
            chain.load_parameters({path!r}, optimizer=sgd)
            pente.Trainer(chain, sgd, loss).fit(x, y, epochs=4, batch_size=16, seed=1, first_epoch=3)
            whole, sgd = new()
            pente.Trainer(whole, sgd, loss).fit(x, y, epochs=7, batch_size=16, seed=1)
            for name, value in whole.state_dict().items():
                assert bytes(value) == bytes(chain.state_dict()[name]), name
    """
    run_python(code.format(first=True, path=str(path)))
    run_python(code.format(first=False, path=str(path)))


def test_groups_come_back_as_they_were(path):
    def new(seed, **options):
        chain = network("float64", seed)
        return chain, pente.SGD([{"layers": chain[0], **options}, {"layers": chain[2]}], lr=0.5)

    _, x, y = problem("float64")
    chain, optimizer = new(1, lr=0.1, momentum=0.5, nesterov=True)
    pente.Trainer(chain, optimizer, pente.MSELoss()).step(x, y)
    chain.save(path, optimizer)
    other, other_optimizer = new(2)
    other.load_parameters(path, other_optimizer)
    assert other_optimizer.groups == optimizer.groups
    assert other_optimizer.step_count == 1
    pairs = [pente.Trainer(chain, optimizer, pente.MSELoss()), pente.Trainer(other, other_optimizer, pente.MSELoss())]
    assert pairs[0].step(x, y) == pairs[1].step(x, y)
    assert snapshot(chain) == snapshot(other)


def test_a_run_saves_itself_after_each_epoch(path):
    """on_epoch may read the layer and the optimizer."""
    chain, (_, x, y) = network(), problem("float64")
    optimizer = pente.SGD(chain, lr=0.1, momentum=0.9)
    kept = []

    def on_epoch(epoch):
        chain.save(path, optimizer)
        kept.append(snapshot(pente.Chain.load(path)))
        assert kept[-1] == snapshot(chain)

    pente.Trainer(chain, optimizer, pente.MSELoss()).fit(x, y, epochs=3, on_epoch=on_epoch)
    assert kept[0] != kept[1] != kept[2] == snapshot(chain)


def test_the_optimizer_is_passed_over_where_it_is_not_wanted(path):
    chain = network()
    optimizer = pente.SGD(chain, lr=0.1, momentum=0.9)
    pente.Trainer(chain, optimizer, pente.MSELoss()).step(randoms(4, 5), randoms(4, 2))
    chain.save(path, optimizer)
    assert snapshot(pente.Layer.load(path)) == snapshot(chain)
    other = network(seed=1)
    other.load_parameters(path)
    assert snapshot(other) == snapshot(chain)


def test_what_does_not_fit_changes_nothing(path):
    chain = network()
    optimizer = pente.SGD(chain, lr=0.1, momentum=0.9)
    pente.Trainer(chain, optimizer, pente.MSELoss()).step(randoms(4, 5), randoms(4, 2))
    chain.save(path, optimizer)
    bare = path.with_name("bare.safetensors")
    chain.save(bare)
    other = network(seed=1)
    split = pente.SGD([{"layers": other[0]}, {"layers": other[2]}], lr=0.5)
    wide = pente.Chain(pente.Linear(5, 3, dtype="float64"), pente.Linear(3, 2, dtype="float64"))
    single = network("float32")
    more = pente.SGD([other, pente.Linear(1, 1, dtype="float64")])
    for layer, sgd, file in [
        (other, split, path),
        (other, pente.SGD(other), bare),
        (other, more, path),
        (other, pente.SGD(other[0]), path),
        (wide, None, path),
        (wide, pente.SGD(wide), path),
        (single, None, path),
        (pente.Linear(5, 2), None, path),
        (pente.ReLU(), None, path),
    ]:
        before = snapshot(layer), sgd and sgd.groups, sgd and sgd.step_count
        with pytest.raises((ValueError, TypeError)):
            layer.load_parameters(file, sgd)
        assert (snapshot(layer), sgd and sgd.groups, sgd and sgd.step_count) == before


def test_an_optimizer_of_other_layers_is_not_saved(path):
    chain = network()
    more = pente.SGD([chain, pente.Linear(1, 1, dtype="float64")])
    for optimizer in (pente.SGD(network(seed=1)), pente.SGD(chain[0]), more):
        with pytest.raises(ValueError):
            chain.save(path, optimizer)
    assert not path.exists()
    for stranger in (3, chain, pente.MSELoss()):
        with pytest.raises(TypeError, match="optimizer must be an SGD or None"):
            chain.save(path, stranger)
        with pytest.raises(TypeError, match="optimizer must be an SGD or None"):
            chain.load_parameters(path, optimizer=stranger)


def test_a_layer_of_ones_own_gets_its_parameters_from_a_file(path):
    linear = pente.Linear(3, 2, dtype="float64", seed=0)
    linear.save(path)
    layer = Affine(pente.Linear(3, 2, dtype="float64", seed=1))
    layer.load_parameters(path)
    assert snapshot(layer) == snapshot(linear)
    layer.save(path)
    with pytest.raises(ValueError):
        pente.Layer.load(path)
    linear.load_state_dict({"weight": randoms(2, 3), "bias": vector([1, 2])})
    linear.load_parameters(path)
    assert snapshot(layer) == snapshot(linear)
