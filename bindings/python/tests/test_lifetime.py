"""Who keeps what alive, and that every path gives back what it took."""

import ctypes
import gc
import sys
import tracemalloc
import weakref
from array import array

import pente
import pytest
from support import matrix, problem, run_python, snapshot, vector, zeros


def exported(owner):
    """Whether somebody holds the bytearray's buffer: then it cannot grow."""
    try:
        owner.append(0)
    except BufferError:
        return True
    owner.pop()
    return False


class Memory:
    """A matrix whose memory tells whether it is held."""

    def __init__(self, rows, columns):
        self.owner = bytearray(8 * rows * columns)

    def view(self, rows, columns):
        return memoryview(self.owner).cast("d", (rows, columns))

    @property
    def held(self):
        gc.collect()
        return exported(self.owner)


def test_a_view_keeps_its_layer():
    weight = pente.Linear(3, 2, seed=0).weight
    gc.collect()
    assert weight.tolist() == pente.Linear(3, 2, seed=0).weight.tolist()
    view = memoryview(pente.Linear(3, 2, seed=0).weight)
    gc.collect()
    assert view.tolist() == weight.tolist()


def test_forward_holds_x_until_backward():
    layer, memory = pente.Linear(3, 2, dtype="float64"), Memory(4, 3)
    layer.predict(memory.view(4, 3))
    assert not memory.held
    layer.forward(memory.view(4, 3))
    assert memory.held
    layer.backward(zeros(4, 2))
    assert not memory.held


def test_forward_lets_go_of_the_x_before():
    layer, memory = pente.Linear(3, 2, dtype="float64"), Memory(4, 3)
    layer.forward(memory.view(4, 3))
    layer.forward(zeros(1, 3))
    assert not memory.held
    layer.forward(memory.view(4, 3))
    del layer
    assert not memory.held


def test_the_loss_holds_its_inputs_until_backward():
    loss, memories = pente.MSELoss("sum"), [Memory(4, 1) for _ in range(3)]
    views = [memory.view(4, 1) for memory in memories]
    loss(*views)
    del views
    assert [memory.held for memory in memories] == [True] * 3
    loss.backward()
    assert [memory.held for memory in memories] == [False] * 3
    loss(*[memory.view(4, 1) for memory in memories])
    loss(zeros(1, 1), zeros(1, 1))
    assert [memory.held for memory in memories] == [False] * 3


def test_trainers_and_optimizers_keep_what_they_need():
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    del layer
    gc.collect()
    trainer.step(x, y)
    optimizer = trainer.optimizer
    weight = trainer.layer.weight
    del trainer
    optimizer.step()
    assert len(weight.tolist()) == 2


class Holder(array):
    """An array that may be part of a cycle."""


@pytest.mark.parametrize("kind", [lambda x: x, memoryview])
def test_cycles_are_collected(kind):
    def cycle():
        memory = Holder("d", [1, 2, 3])
        x = kind(memory)
        layer, loss = pente.Linear(3, 2, dtype="float64"), pente.MSELoss("sum")
        layer.forward(x)
        loss(x, x)
        memory.others = [x, layer, loss, pente.Trainer(layer, pente.SGD(layer), loss), layer.weight]
        memory.others.append(memory.others)
        return weakref.ref(memory)

    references = [cycle() for _ in range(10)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 10


def test_a_callers_memoryview_may_be_released():
    x = memoryview(vector([1, 2, 3]))
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    layer.forward(x)
    x.release()
    assert len(layer.backward(vector([1, 2]))) == 1
    assert layer.weight_grad.tolist() == [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]


def test_a_second_init_changes_nothing():
    layer = pente.Linear(3, 2, seed=0)
    before = snapshot(layer)
    for _ in range(100):
        layer.__init__(3, 2, seed=1)
    assert snapshot(layer) == before


def error_paths():
    """Calls that fail, each on a path of its own."""
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=2)
    loss, none = pente.MSELoss(), pente.MSELoss("none")
    optimizer = pente.SGD(layer)
    trainer = pente.Trainer(layer, optimizer, loss)
    single, wide = zeros(4, 3, "float32"), zeros(4, 7)
    read_only = memoryview(bytes(64)).cast("d", (4, 2))
    nan = matrix([[float("nan"), 0.0]] * 4)
    layer.forward(x)
    loss(y, y)
    none(y, y)

    def fail(epoch):
        raise KeyError

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
        lambda: pente.gradcheck(layer, single),
        lambda: pente.gradcheck(layer, x, single, loss),
        lambda: pente.gradcheck(layer, x, wide, loss),
        lambda: memoryview(layer.weight)[9, 9],
        lambda: layer.weight[9, 9],
    ], (layer, loss, none, optimizer, trainer, x, y, single, wide, read_only, nan)


def good_paths():
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=2)
    loss, none = pente.MSELoss(), pente.MSELoss("none")
    optimizer = pente.SGD(layer, momentum=0.9)
    trainer = pente.Trainer(layer, optimizer, loss)
    out = zeros(4, 2)
    weight = vector([1, 2, 3, 4])

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
        lambda: layer.load_state_dict(layer.state_dict()),
        lambda: pente.SGD([{"layers": layer}, {"layers": [pente.Linear(1, 1, dtype="float64")], "lr": 1.0}]).groups,
        lambda: trainer.step(x, y, weight),
        lambda: trainer.fit(x, y, validation=(x, y), on_epoch=lambda epoch: None),
        lambda: pente.gradcheck(layer, x, y, loss),
        lambda: [repr(thing) for thing in (layer, loss, optimizer, layer.weight)],
    ], (layer, loss, none, optimizer, trainer, x, y, out, weight)


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
    """Bytes, over 1000 calls. What grows once, such as a cache, is no leak: the least of three rounds counts."""
    least = sys.maxsize
    for _ in range(3):
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
def test_nothing_leaks(paths, measure):
    calls, things = paths()
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


def test_an_interpreter_of_its_own_and_its_end():
    run_python(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import pente
        layer = pente.Linear(3, 2, seed=0)
        code = '''
        import pente, array
        layer = pente.Linear(3, 2, seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
        for _ in range(10):
            trainer.fit(array.array("f", [1, 2, 3]), array.array("f", [1, 2]), on_epoch=lambda epoch: None)
        layer.forward(array.array("f", [1, 2, 3]))
        '''
        import textwrap
        for _ in range(5):
            interpreter = interpreters.create()
            execute = getattr(interpreters, "exec", None) or interpreters.run_string
            failure = execute(interpreter, textwrap.dedent(code))
            assert failure is None, failure
            interpreters.destroy(interpreter)
        assert layer.weight.tolist() == pente.Linear(3, 2, seed=0).weight.tolist()
        """
    )


def test_the_module_loads_twice():
    run_python(
        """
        import sys
        import pente
        first = pente._pente
        layer = pente.Linear(3, 2)
        for name in [name for name in sys.modules if name.startswith("pente")]:
            del sys.modules[name]
        import pente
        assert pente._pente is not first and pente.Linear is not first.Linear
        try:
            pente.SGD(layer)
        except TypeError:
            pass
        else:
            raise AssertionError("another module's layer")
        first.SGD(layer).step()
        """
    )
