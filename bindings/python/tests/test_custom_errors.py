"""What comes out of the functions in a custom layer, and what they may call."""

import math
import re
import threading
import traceback

import pente
import pytest
from support import (
    Affine,
    assert_close,
    gradients,
    matrix,
    network,
    problem,
    randoms,
    run_python,
    snapshot,
    vector,
    zeros,
)


class Mine(Exception):
    pass


class Fragile(Affine):
    """Raises what it is told to, in the method that it is told."""

    def __init__(self, linear):
        super().__init__(linear)
        self.fail_in, self.error, self.calls = None, Mine("mine"), 0

    def check(self, method):
        self.calls += 1
        if self.fail_in == method:
            raise self.error

    def compute_forward(self, x, **parameters):
        self.check("forward")
        return super().compute_forward(x, **parameters)

    def compute_backward(self, x, y, grad_output, **parameters):
        self.check("backward")
        return super().compute_backward(x, y, grad_output, **parameters)


def fragile(rows=32):
    """A chain with such a layer in it, its trainer with momentum after a step, and data."""
    layer = Fragile(pente.Linear(4, 2, dtype="float64", seed=1))
    chain = pente.Chain(pente.Linear(5, 4, dtype="float64", seed=0), pente.Tanh("float64"), layer)
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1, momentum=0.9), pente.MSELoss())
    x, y = randoms(rows, 5, seed=1), randoms(rows, 2, seed=2)
    trainer.step(x, y)
    return layer, chain, trainer, x, y


# ---- Exceptions ------------------------------------------------------------------------------------------------------


CALLS = {
    "predict": lambda chain, trainer, x, y: chain.predict(x),
    "forward": lambda chain, trainer, x, y: chain.forward(x),
    "call": lambda chain, trainer, x, y: chain(x),
    "step": lambda chain, trainer, x, y: trainer.step(x, y),
    "fit": lambda chain, trainer, x, y: trainer.fit(x, y, epochs=3, batch_size=8),
    "validation": lambda chain, trainer, x, y: trainer.fit(x, y, epochs=3, validation=(x, y), patience=1),
    "gradcheck": lambda chain, trainer, x, y: pente.gradcheck(chain, x, y, pente.MSELoss()),
}
BACKWARD = {
    name: CALLS[name] for name in ("step", "fit", "gradcheck")
} | {"backward": lambda chain, trainer, x, y: (chain.forward(x), chain.backward(y))}


@pytest.mark.parametrize("rows", [32, 3000])
@pytest.mark.parametrize("method, name", [("forward", n) for n in CALLS] + [("backward", n) for n in BACKWARD])
def test_an_exception_comes_out_as_itself(method, name, rows):
    if rows > 32 and name == "gradcheck":
        rows = 33  # it is slow, and lets go of the GIL anyhow
    layer, chain, trainer, x, y = fragile(rows)
    before, slopes, steps = snapshot(chain), gradients(chain), trainer.optimizer.step_count
    layer.fail_in = method
    with pytest.raises(Mine) as caught:
        {**CALLS, **BACKWARD}[name](chain, trainer, x, y)
    assert caught.value is layer.error
    assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][-2:] == [
        f"compute_{method}",
        "check",
    ]
    assert snapshot(chain) == before
    assert gradients(chain) == slopes
    assert trainer.optimizer.step_count == steps
    layer.fail_in = None
    other_layer, other, other_trainer, _, _ = fragile(rows)
    assert trainer.step(x, y) == other_trainer.step(x, y)
    assert snapshot(chain) == snapshot(other)  # and so was the momentum


@pytest.mark.parametrize("error", [KeyboardInterrupt("mine"), SystemExit("mine"), MemoryError("mine")])
def test_so_does_every_kind(error):
    layer, chain, trainer, x, y = fragile()
    layer.fail_in, layer.error = "forward", error
    for call in CALLS.values():
        with pytest.raises(type(error), match="mine") as caught:
            call(chain, trainer, x, y)
        assert caught.value is error


def test_a_fit_that_fails_late_is_as_if_it_had_not_been():
    layer, chain, trainer, x, y = fragile()
    before, slopes, steps = snapshot(chain), gradients(chain), trainer.optimizer.step_count

    def on_epoch(epoch):
        if epoch.epoch == 5:
            layer.fail_in = "backward"

    with pytest.raises(Mine):
        trainer.fit(x, y, epochs=10, batch_size=8, on_epoch=on_epoch)
    assert layer.calls > 5 * 4 * 2
    assert snapshot(chain) == before and gradients(chain) == slopes and trainer.optimizer.step_count == steps


def test_after_a_failed_forward_there_is_none_to_go_back_from():
    layer, chain, trainer, x, y = fragile()
    chain.forward(x)
    layer.fail_in = "forward"
    with pytest.raises(Mine):
        chain.forward(x)
    layer.fail_in = None
    with pytest.raises(RuntimeError, match="forward"):
        chain.backward(y)
    chain.forward(x)
    layer.fail_in = "backward"
    with pytest.raises(Mine):
        chain.backward(y)
    layer.fail_in = None
    assert chain.backward(y).shape == (32, 5)  # once more is right: nothing had changed


def test_a_forward_refused_by_a_callback_at_work_lets_go_of_the_former_x():
    def forward(x):
        if inputs:
            with pytest.raises(RuntimeError, match=BUSY):
                chain.forward(vector([2.0]))
            inputs.pop().append(3.0)  # a BufferError if it is held
        return x

    inputs, x = [], vector([1.0])
    layer = pente.CustomLayer(forward=forward, dtype="float64")
    chain = pente.Chain(pente.Linear(1, 1, dtype="float64"), layer)
    chain.forward(x)
    inputs.append(x)
    assert layer.predict(vector([4.0])).tolist() == [[4.0]]
    assert inputs == [] and len(x) == 2


def test_the_callers_own_exception_stays_its_context():
    layer, chain, *_, x, y = fragile()
    layer.fail_in = "forward"
    with pytest.raises(Mine) as caught:
        try:
            raise KeyError("first")
        except KeyError:
            chain.predict(x)
    assert isinstance(caught.value.__context__, KeyError)


def test_recursion_has_an_end():
    layers = [pente.CustomLayer(forward=lambda x: x, dtype="float64")]
    for _ in range(64):
        layers.append(pente.CustomLayer(forward=layers[-1].predict, dtype="float64"))
    for _ in range(3):
        with pytest.raises(RecursionError, match="more than 64 deep"):
            layers[64].predict(zeros(1, 1))
        assert layers[63].predict(matrix([[2.0]])).tolist() == [[2.0]]


def test_it_ends_before_a_small_stack_does():
    run_python(
        """
        import array, threading, pente
        layers = [pente.CustomLayer(forward=lambda x: x)]
        for _ in range(190):
            layers.append(pente.CustomLayer(forward=layers[-1].predict))

        def descend():
            try:
                layers[-1].predict(array.array("f", [1]))
            except RecursionError:
                ends.append(1)

        ends = []
        threading.stack_size(512 * 1024)
        thread = threading.Thread(target=descend)
        thread.start()
        thread.join()
        assert ends
        """
    )


def test_what_is_not_finite_is_still_refused():
    layer, x, y = problem("float64")
    bad = pente.CustomLayer(
        2, 2, lambda x: matrix([[math.nan] * 2] * x.shape[0]), lambda x, y, grad_output: grad_output, dtype="float64"
    )
    chain = pente.Chain(layer, bad)
    before = snapshot(chain)
    with pytest.raises(FloatingPointError):
        pente.Trainer(chain, pente.SGD(chain), pente.MSELoss()).step(x, y)
    assert snapshot(chain) == before


BUSY = "in use|running already"

# ---- Calls back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [4, 3000])
@pytest.mark.parametrize("outer", ["forward", "step", "fit"])
@pytest.mark.parametrize(
    "inner",
    [
        lambda chain, trainer, x, y: trainer.step(x, y),
        lambda chain, trainer, x, y: trainer.fit(x, y),
        lambda chain, trainer, x, y: trainer.optimizer.step(),
        lambda chain, trainer, x, y: chain.forward(x),
        lambda chain, trainer, x, y: chain.predict(x),
        lambda chain, trainer, x, y: chain[2].forward(zeros(1, 4)),
        lambda chain, trainer, x, y: chain[2].predict(zeros(1, 4)),
        lambda chain, trainer, x, y: chain.backward(y),
        lambda chain, trainer, x, y: pente.gradcheck(chain, x),
    ],
)
def test_a_call_back_into_what_is_at_work_is_refused(outer, inner, rows):
    layer, chain, trainer, x, y = fragile(rows)
    refused = []

    class Caller(Exception):
        pass

    def check(method):
        try:
            inner(chain, trainer, x, y)
        except RuntimeError as error:
            refused.append(str(error))
            raise Caller from error
        raise AssertionError("not refused")

    layer.check = check
    before = snapshot(chain)
    with pytest.raises(Caller):
        {**CALLS, **BACKWARD}[outer](chain, trainer, x, y)
    assert len(refused) == 1 and (re.search(BUSY, refused[0]))
    assert snapshot(chain) == before
    del layer.check
    trainer.step(x, y)


def test_other_threads_meet_a_runtime_error_at_worst():
    layer, chain, trainer, x, y = fragile()
    entered, leave, outcomes = threading.Event(), threading.Event(), []

    def check(method):
        entered.set()
        assert leave.wait(30)

    layer.check = check
    thread = threading.Thread(target=lambda: outcomes.append(chain.predict(x)))
    thread.start()
    assert entered.wait(30)
    try:
        for call in [lambda: chain.predict(x), lambda: layer.predict(zeros(1, 4)), lambda: trainer.step(x, y)]:
            with pytest.raises(RuntimeError, match=BUSY):
                call()
        chain[0].predict(x)
        network().predict(x)
    finally:
        leave.set()
        thread.join()
    assert_close(outcomes[0].tolist(), chain.predict(x).tolist())
