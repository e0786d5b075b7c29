"""That every path, those of errors too, gives back what it took."""

import copy
import ctypes
import gc
import pickle
import sys
import tracemalloc

import pente
import pytest
from support import Affine, Borrowed, matrix, problem, square, vector, zeros


def error_paths(path):
    """Calls that fail, each on a path of its own."""
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=2)
    loss, none = pente.MSELoss(), pente.MSELoss("none")
    optimizer = pente.SGD(layer)
    scheduler = pente.lr_scheduler.StepLR(optimizer, 1, gamma=1.0)
    trainer = pente.Trainer(layer, optimizer, loss)
    state = pente.SGD(layer).state_dict()
    single, wide = zeros(4, 3, "float32"), zeros(4, 7)
    read_only = memoryview(bytes(64)).cast("d", (4, 2))
    nan = matrix([[float("nan"), 0.0]] * 4)
    chain = pente.Chain(pente.ReLU("float64"), pente.Linear(3, 2, dtype="float64"))
    layer.forward(x)
    loss(y, y)
    none(y, y)
    lent = [Borrowed(pente.Matrix(x), **answers) for answers in (
        {"device": (2, 0)}, {"device": 3}, {"error": BufferError}, {"error": TypeError}, {"capsule": 3})]

    def fail(*arguments, **keywords):
        raise KeyError

    custom = pente.CustomLayer(3, 2, fail, fail, {"a": y}, "float64")
    custom_trainer = pente.Trainer(custom, pente.SGD(custom), loss)
    pair = {"a": y, "b": y}
    bad = pente.CustomLayer(3, 3, lambda x, a, b: x, lambda *_, **__: (x, {"a": y, "c": y}), pair, "float64")

    return [
        lambda: pente.Linear(0, 1),
        lambda: pente.Linear(1, 1, dtype="float16"),
        lambda: layer.predict([1.0]),
        lambda: layer.predict(single),
        lambda: layer.predict(wide),
        lambda: layer.predict(x, [1.0]),
        lambda: layer.predict(x, single),
        lambda: layer.predict(x, read_only),
        lambda: layer.predict(x, x),
        lambda: layer.forward(wide),
        lambda: layer.forward(x, x),
        lambda: layer(x, y=1),
        lambda: layer.forward(x, x=1),
        lambda: layer.backward(wide),
        lambda: layer.backward(single),
        lambda: layer.backward(y, wide),
        lambda: layer.backward(y, x, input_gradient=False),
        lambda: layer.load_state_dict({}),
        lambda: layer.load_state_dict({"weight": zeros(2, 3), "bias": x}),
        lambda: layer.load_state_dict({**layer.state_dict(), "more": x}),
        lambda: pente.Linear.load("/nowhere"),
        lambda: pente.MSELoss("other"),
        lambda: loss(y, x),
        lambda: loss(y, y, x),
        lambda: loss(y, single),
        lambda: loss(y, y, single),
        lambda: none(y, x),
        lambda: loss.backward("x"),
        lambda: none.backward(x),
        lambda: none.backward(single),
        lambda: pente.SGD([]),
        lambda: pente.SGD([layer, 3]),
        lambda: pente.SGD([layer, layer]),
        lambda: pente.SGD(layer, lr=-1.0),
        lambda: pente.SGD([{"layers": layer}, {"layers": 3}]),
        lambda: pente.SGD([{"layers": layer, "x": 3}]),
        lambda: optimizer.add_group(layer),
        lambda: optimizer.set_options(9, lr=1.0),
        lambda: setattr(optimizer, "lr", -1.0),
        lambda: pente.Trainer(layer, pente.SGD(pente.Linear(1, 1)), loss),
        lambda: pente.Trainer(layer, optimizer, loss, -1.0),
        lambda: optimizer.clip_gradients(0.0),
        lambda: optimizer.load_state_dict({**state, "state": {0: {"momentum_buffer": wide}}}),
        lambda: optimizer.load_state_dict({**state, "state": {0: {"momentum_buffer": y}, 1: 3}}),
        lambda: optimizer.load_state_dict({**state, "param_groups": [{"lr": 1.0}]}),
        lambda: optimizer.load_state_dict({**state, "step_count": "1"}),
        lambda: trainer.step(x, wide),
        lambda: trainer.step(x, single),
        lambda: trainer.step(x, y, wide),
        lambda: trainer.step(x, nan),
        lambda: trainer.fit(x, wide),
        lambda: trainer.fit(x, nan),
        lambda: trainer.fit(x, y, epochs=0),
        lambda: trainer.fit(x, y, validation=(x, single)),
        lambda: trainer.fit(x, y, validation=(x, wide)),
        lambda: trainer.fit(x, y, on_epoch=fail),
        lambda: trainer.fit(x, y, on_epoch=3),
        lambda: trainer.fit(x, y, lr_scheduler=3),
        lambda: trainer.fit(x, y, on_epoch=fail, lr_scheduler=scheduler),
        lambda: trainer.fit(x, y, 1, 32, True, 0, 0, None, None, 0, 0.0, None, pente.lr_scheduler.LRScheduler),
        lambda: pente.gradcheck(layer, single),
        lambda: pente.gradcheck(layer, x, single, loss),
        lambda: pente.gradcheck(layer, x, wide, loss),
        lambda: pente.Layer(),
        lambda: pente.Chain(),
        lambda: pente.Chain([layer, 3]),
        lambda: pente.Chain(layer, layer),
        lambda: pente.Chain(layer, pente.ReLU()),
        lambda: chain[9],
        lambda: chain.predict(wide),
        lambda: chain.load_state_dict({**chain.state_dict(), "more": x}),
        lambda: chain.load_state_dict({**chain.state_dict(), "1.bias": x}),
        lambda: pente.LeakyReLU(float("nan")),
        lambda: pente.Tanh("float16"),
        lambda: pente.Scaler(3, "float64").fit(wide),
        lambda: pente.Scaler(0),
        lambda: pente.CustomLayer(3),
        lambda: pente.CustomLayer(forward=3),
        lambda: pente.CustomLayer(parameters={"a": y, "b": single}, dtype="float64"),
        lambda: pente.CustomLayer(parameters={"a.b": y}, dtype="float64"),
        lambda: pente.CustomLayer.__new__(pente.CustomLayer).predict(x),
        lambda: custom.__init__(),
        lambda: custom.predict(x),
        lambda: custom.forward(x),
        lambda: pente.CustomLayer(forward=lambda x: single, dtype="float64").predict(x),
        lambda: pente.CustomLayer(forward=lambda x: wide, dtype="float64").predict(x),
        lambda: pente.CustomLayer(forward=lambda x: 3, dtype="float64").predict(x),
        lambda: pente.CustomLayer(dtype="float64").predict(x),
        lambda: (bad.forward(x), bad.backward(x)),
        lambda: custom_trainer.step(x, y),
        lambda: custom_trainer.fit(x, y),
        lambda: pente.gradcheck(custom, x),
        lambda: layer.save("/nowhere/file"),
        lambda: layer.save("/nowhere/file", pente.SGD(chain)),
        lambda: layer.load_parameters("/nowhere"),
        lambda: layer.load_parameters("/dev/null"),
        lambda: layer.save("/dev/null", 3),
        lambda: layer.save(3),
        *(lambda array=array: layer.forward(array) for array in lent),
        lambda: layer.predict(Borrowed(pente.Matrix(wide))),
        lambda: layer.predict(Borrowed(pente.Matrix(single))),
        lambda: layer.weight.__dlpack__(max_version=3),
        lambda: layer.weight.__dlpack__(dl_device=(2, 0)),
        lambda: pente.Matrix(3),
        lambda: pickle.dumps(custom),
        lambda: copy.copy(pente.CustomLayer.__new__(pente.CustomLayer)),
        lambda: layer < layer,
        lambda: memoryview(layer.weight)[9, 9],
        lambda: layer.weight[9, 9],
    ], (layer, loss, none, optimizer, scheduler, trainer, x, y, single, wide, read_only, nan, chain, custom, bad)


def good_paths(path):
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=2)
    loss, none = pente.MSELoss(), pente.MSELoss("none")
    optimizer = pente.SGD(layer, momentum=0.9)
    scheduler = pente.lr_scheduler.StepLR(optimizer, 1, gamma=1.0)
    trainer = pente.Trainer(layer, optimizer, loss)
    out = zeros(4, 2)
    lent = Borrowed(pente.Matrix(x))
    weight = vector([1, 2, 3, 4])
    affine = Affine(layer)
    custom_optimizer = pente.SGD(affine)
    custom_trainer = pente.Trainer(affine, custom_optimizer, loss)
    chain = pente.Chain(pente.Linear(3, 2, dtype="float64"), pente.Tanh("float64"), pente.Linear(2, 2, dtype="float64"))
    chain_optimizer = pente.SGD(chain, momentum=0.9)
    chain.save(path, chain_optimizer)

    def all_four():
        loss(layer.forward(x, out), y, weight)
        layer.backward(loss.backward())
        none(layer(x), y)
        none.backward(out)
        layer.backward(out, input_gradient=False)

    return [
        lambda: pente.Linear(3, 2, seed=0),
        lambda: pente.Linear(3, 2).weight,
        lambda: layer.predict(x),
        all_four,
        lambda: (layer.predict(lent), layer.forward(lent), layer.backward(Borrowed(pente.Matrix(y)))),
        lambda: (layer.weight.__dlpack__(), layer.weight.__dlpack__(max_version=(1, 0), copy=True)),
        lambda: layer.weight.__array_interface__,
        lambda: [pickle.loads(pickle.dumps(thing)) == thing for thing in (layer, loss, optimizer, layer.weight, chain)],
        lambda: [copy.copy(thing) for thing in (layer, loss, optimizer, layer.weight, chain, affine, trainer)],
        lambda: layer.load_state_dict(layer.state_dict()),
        lambda: pente.SGD([{"layers": layer}, {"layers": [pente.Linear(1, 1, dtype="float64")], "lr": 1.0}]).groups,
        lambda: trainer.step(x, y, weight),
        lambda: (optimizer.clip_gradients(1.0), optimizer.layers),
        lambda: optimizer.load_state_dict(optimizer.state_dict()),
        lambda: pente.Trainer(layer, optimizer, loss, 1.0).step(x, y),
        lambda: trainer.fit(x, y, validation=(x, y), on_epoch=lambda epoch: None),
        lambda: trainer.fit(x, y, 2, lr_scheduler=scheduler),
        lambda: scheduler.load_state_dict(scheduler.state_dict()),
        lambda: pente.gradcheck(layer, x, y, loss),
        lambda: [repr(thing) for thing in (layer, loss, optimizer, layer.weight, chain)],
        lambda: pente.Chain(affine, square(), chain[1], chain[2]),
        lambda: (chain[0], chain[-1], list(chain), len(chain)),
        lambda: (chain.parameters, chain.gradients, chain.in_features, chain[1].in_features, chain.dtype),
        lambda: chain.load_state_dict(chain.state_dict()),
        lambda: (chain.forward(x), chain.backward(y), chain.reset_parameters(), chain.zero_grad()),
        lambda: pente.Scaler(3, "float64").fit(x).mean,
        lambda: [kind() for kind in (pente.ReLU, pente.LeakyReLU, pente.Tanh, pente.Sigmoid, pente.Softplus)],
        lambda: Affine(pente.Linear(3, 2)),
        lambda: affine.predict(x),
        lambda: (affine.forward(x), affine.backward(y)),
        lambda: custom_trainer.step(x, y),
        lambda: custom_trainer.fit(x, y, validation=(x, y)),
        lambda: pente.gradcheck(pente.Chain(square(), affine), x, y, loss),
        lambda: pente.SGD(affine).add_group(chain[0]),
        lambda: custom_optimizer.step_count,
        lambda: chain.save(path, chain_optimizer),
        lambda: pente.Layer.load(path),
        lambda: chain.load_parameters(path, chain_optimizer),
    ], (layer, loss, none, optimizer, scheduler, trainer, x, y, out, weight, chain, affine)


def attempt(call, fails):
    try:
        call()
    except Exception:
        assert fails
    else:
        assert not fails


class MallocInfo(ctypes.Structure):
    """glibc's mallinfo2: the eighth number is how many bytes are in use, by Python's objects and by libpente."""

    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]


def malloced():
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallocInfo
    return mallinfo().h


def traced():
    return tracemalloc.get_traced_memory()[0]


def growth(measure, call, fails):
    """Bytes, over 1000 calls. What grows for a while, such as a cache, is no leak: the least of some rounds counts."""
    least = sys.maxsize
    for _ in range(8):
        before = measure()
        for _ in range(1000):
            attempt(call, fails)
        gc.collect()
        least = min(least, measure() - before)
        if least < 1000:
            break
    return least


@pytest.mark.parametrize("paths", [error_paths, good_paths])
@pytest.mark.parametrize("measure", [traced, malloced])
def test_nothing_leaks(tmp_path, paths, measure):
    calls, things = paths(tmp_path / "layer")
    fails = paths is error_paths
    gc.collect()
    gc.freeze()  # what was there before need not be looked at again and again
    if measure is traced:
        tracemalloc.start()
    try:
        for call in calls:
            attempt(call, fails)
            references = [sys.getrefcount(thing) for thing in things]
            assert growth(measure, call, fails) < 1000
            assert [sys.getrefcount(thing) for thing in things] == references
    finally:
        tracemalloc.stop()
        gc.unfreeze()
