"""Who keeps what alive, and that cycles are collected."""

import gc
import weakref
from array import array

import pente
import pytest
from support import Affine, matrix, network, problem, randoms, run_python, snapshot, square, vector, zeros


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


def test_a_forward_that_an_exception_ends_holds_nothing():
    def fail(x):
        if failing:
            raise KeyError
        return x

    failing, layer, memories = [], pente.CustomLayer(forward=fail, dtype="float64"), [Memory(4, 3) for _ in range(2)]
    layer.forward(memories[0].view(4, 3))
    assert memories[0].held
    failing.append(True)
    with pytest.raises(KeyError):
        layer.forward(memories[1].view(4, 3))
    assert [memory.held for memory in memories] == [False] * 2


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


class Tied(Affine):
    """A layer of the user's own with an attribute that may lead back to it."""


class Slotted(pente.CustomLayer):
    __slots__ = ("tie",)


class Model:
    """Not a layer; its methods are a layer's functions."""

    def __init__(self):
        self.layer = pente.CustomLayer(1, 1, self.forward, self.backward, {"a": vector([1])}, "float64")
        self.tie = None

    def forward(self, x, a):
        return x

    def backward(self, x, y, grad_output, a):
        return grad_output, {"a": a}


def a_trainer(layer):
    chain = pente.Chain(pente.Chain(layer), pente.ReLU("float64"))
    trainer = pente.Trainer(chain, pente.SGD(chain), pente.MSELoss())
    trainer.step(zeros(2, layer.in_features), zeros(2, layer.out_features))
    return trainer


def by_attribute():
    layer = Tied(pente.Linear(3, 2, dtype="float64"))
    layer.tie = a_trainer(layer)
    return layer


def by_slot():
    layer = Slotted(1, 1, lambda x, a: x, lambda x, y, g, a: (g, {"a": a}), {"a": vector([1])}, "float64")
    layer.tie = [a_trainer(layer), Tracker()]
    return layer.tie[1]


def by_closure():
    tracker, tie = Tracker(), []

    def forward(x, a):
        return (tracker, tie, x)[2]

    layer = pente.CustomLayer(1, 1, forward, lambda x, y, g, a: (g, {"a": a}), {"a": vector([1])}, "float64")
    tie.append(a_trainer(layer))
    return tracker


def by_method():
    model = Model()
    model.tie = a_trainer(model.layer)
    return model


def by_optimizer():
    layer = Tied(pente.Linear(3, 2, dtype="float64"))
    layer.tie = pente.SGD([{"layers": layer}, {"layers": pente.Linear(1, 1, dtype="float64")}])
    return layer


def by_view():
    layer = Tied(pente.Linear(3, 2, dtype="float64"))
    layer.tie = [layer.parameters, memoryview(layer.parameters["weight"])]
    return layer


class Tracker:
    pass


@pytest.mark.parametrize("tie", [by_attribute, by_slot, by_closure, by_method, by_optimizer, by_view])
def test_cycles_through_a_layer_of_ones_own_are_collected(tie):
    references = [weakref.ref(tie()) for _ in range(10)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 10


def test_chains_optimizers_and_trainers_keep_a_layer_of_ones_own():
    layer = Tied(pente.Linear(3, 2, dtype="float64", seed=0))
    alive, expected = weakref.ref(layer), layer.predict(matrix([[1, 2, 3]])).tolist()
    holders = [pente.SGD(layer), pente.Chain(layer), a_trainer(layer), layer.parameters["weight"]]
    del layer
    for holder in holders:
        gc.collect()
        assert alive() is not None
    assert holders[1].predict(matrix([[1, 2, 3]])).tolist() == expected
    holders[2].step(matrix([[1, 2, 3]]), zeros(1, 2))
    del holder
    while holders:
        assert alive() is not None
        holders.pop()
    gc.collect()
    assert alive() is None


def test_a_layer_may_go_while_it_is_at_work():
    """What a callback drops stays until the call is over."""
    layers = [pente.CustomLayer(forward=lambda x: (layers.clear(), gc.collect(), x)[2], dtype="float64")]
    assert layers[0].predict(matrix([[3.0]])).tolist() == [[3.0]] and layers == []
    layers.append(pente.Chain(pente.Linear(1, 1, dtype="float64"), layers_function(layers)))
    assert layers[0].forward(zeros(1, 1)).shape == (1, 1) and layers == []


def layers_function(layers):
    return pente.CustomLayer(forward=lambda x: (layers.clear(), gc.collect(), x)[2], dtype="float64")


def test_a_finalizer_may_use_its_layer():
    class Final(Affine):
        def __del__(self):
            seen.append(self.predict(matrix([[1, 2, 3]])).tolist())

    seen = []
    layer = Final(pente.Linear(3, 2, dtype="float64", seed=0))
    expected = layer.predict(matrix([[1, 2, 3]])).tolist()
    layer.itself = layer
    del layer
    gc.collect()
    assert seen == [expected]


def test_a_loaded_chains_layers_keep_themselves(tmp_path):
    network().save(tmp_path / "chain")
    first, _, last = pente.Layer.load(tmp_path / "chain")
    gc.collect()
    assert last.predict(first.predict(randoms(3, 5))).shape == (3, 2)


def test_a_chain_that_the_garbage_collector_shows_too_early(tmp_path):
    pente.Chain([pente.Linear(2, 2) for _ in range(50)]).save(tmp_path / "chain")
    run_python(
        f"""
        import gc, pente

        def look(phase, info):
            for found in gc.get_objects():
                if type(found) is pente.Chain:
                    assert len(list(found)) == len(found) and repr(found)

        gc.callbacks.append(look)
        gc.set_threshold(1, 1, 1)
        assert len(pente.Layer.load({str(tmp_path / "chain")!r})) == 50
        """
    )


def test_an_optimizer_that_the_garbage_collector_shows_too_early():
    run_python(
        """
        import gc, pente

        def layers():
            [found] = [each for each in gc.get_objects() if type(each) is pente.SGD]
            assert found.layers == () and found.groups == []
            yield pente.Linear(2, 2)

        assert len(pente.SGD(layers()).layers) == 1
        """
    )


def test_groups_that_are_added_while_another_one_is():
    run_python(
        """
        import gc, pente

        sgd = pente.SGD(pente.Linear(1, 1))
        more = [pente.Linear(1, 1) for _ in range(300)]

        def add(phase, info):
            if phase == "start" and more:
                sgd.add_group(more.pop())

        gc.callbacks.append(add)
        for i in range(100):
            layer, _ = pente.Linear(1, 1), [(i,) for i in range(3000)]
            gc.set_threshold(gc.get_count()[0] + i % 8, 10**6, 10**6)
            sgd.add_group(layer)
            gc.set_threshold(0)
        assert len(sgd.layers) == len(sgd.groups) >= 101
        sgd.load_state_dict(sgd.state_dict())
        """
    )


def test_a_long_chain_of_functions_ends():
    run_python(
        """
        import pente

        layer = None
        for _ in range(300_000):
            layer = pente.CustomLayer(forward=layer)
        del layer
        """
    )


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
