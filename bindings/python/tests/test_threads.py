"""Threads that share an object meet a RuntimeError at worst; long calls let others run; Ctrl-C ends a fit."""

import os
import signal
import threading
import time

import pente
import pytest
from support import THRESHOLD, problem, randoms, run_python, zeros

WIDE = 300  # x of WIDE x WIDE: far above the threshold; 3 x WIDE is below


def run_together(*functions):
    """Runs the functions in threads of their own and raises what they raise."""
    errors = []

    def guard(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guard, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def repeatedly(call, times=300):
    def loop():
        for _ in range(times):
            try:
                call()
            except RuntimeError as error:
                assert "in use" in str(error) or "forward" in str(error) or "call" in str(error) or "busy" in str(error)

    return loop


@pytest.mark.parametrize("rows", [3, WIDE])
def test_threads_on_one_layer(rows):
    assert (rows * WIDE * 8 > THRESHOLD) == (rows == WIDE)
    layer = pente.Linear(WIDE, 8, dtype="float64")
    optimizer = pente.SGD(layer, lr=0.0)
    x, y, grad_output = randoms(rows, WIDE), randoms(rows, 8), zeros(rows, 8)
    expected = bytes(layer.predict(x))
    trainer = pente.Trainer(layer, optimizer, pente.MSELoss())
    state = layer.state_dict()

    def predict():
        assert bytes(layer.predict(x)) == expected

    run_together(
        repeatedly(lambda: layer.forward(x)),
        repeatedly(lambda: layer.backward(grad_output)),
        repeatedly(lambda: (layer.forward(randoms(2, WIDE)), layer.backward(zeros(2, 8)))),
        repeatedly(predict),
        repeatedly(optimizer.step),
        repeatedly(lambda: trainer.step(x, y)),
        repeatedly(lambda: layer.load_state_dict(state)),
        repeatedly(layer.zero_grad),
        repeatedly(layer.state_dict),
    )
    predict()


@pytest.mark.parametrize("rows", [3, WIDE * 10])
def test_threads_on_one_loss(rows):
    assert (rows * WIDE > THRESHOLD) == (rows > 3)
    loss = pente.MSELoss()
    prediction, target = randoms(rows, WIDE), randoms(rows, WIDE, seed=1)
    run_together(
        *[repeatedly(lambda: loss(prediction, target), 50)] * 2,
        *[repeatedly(loss.backward, 50)] * 2,
        repeatedly(lambda: (loss(zeros(1, 1), zeros(1, 1)), loss.backward(), loss.target_grad), 50),
    )
    loss(prediction, target)
    assert loss.backward().shape == (rows, WIDE)


def test_reading_threads_never_wait():
    layer = pente.Linear(WIDE, 8, dtype="float64")
    x = randoms(WIDE, WIDE)
    expected = bytes(layer.predict(x))

    def predict():
        for _ in range(50):
            assert bytes(layer.predict(x)) == expected

    run_together(*[predict] * 8)


def test_a_layer_each_is_free():
    def train():
        layer, x, y = problem("float64")
        trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
        results.append(trainer.fit(x, y, epochs=50, on_epoch=lambda epoch: None).training_losses)

    results = []
    run_together(*[train] * 6)
    assert len(results) == 6 and all(result == results[0] for result in results)


def long_calls():
    layer = pente.Linear(1000, 500, dtype="float64")
    x, y = zeros(4000, 1000), zeros(4000, 500)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    many = zeros(40000, 500)
    return {
        "step": lambda: trainer.step(x, y),
        "fit": lambda: trainer.fit(x, y),
        "predict": lambda: layer.predict(x, y),
        "loss": lambda: pente.MSELoss()(many, many),
    }


@pytest.mark.parametrize("name", ["step", "fit", "predict", "loss"])
def test_other_threads_run_during_a_long_call(name):
    call = long_calls()[name]
    call()
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    while not ticks:
        time.sleep(0.001)
    begin = time.perf_counter()
    call()
    end = time.perf_counter()
    stop.set()
    thread.join()
    during = [tick for tick in ticks if begin < tick < end]
    assert len(during) > (end - begin) / 0.0005 / 50


INTERRUPTED = """
    import os, signal, sys, threading, time
    import pente
    layer = pente.Linear(50, 10, dtype="float64", seed=0)
    x = memoryview(bytearray(8 * 50 * 20000)).cast("d", (20000, 50))
    y = memoryview(bytearray(8 * 10 * 20000)).cast("d", (20000, 10))
    before = layer.state_dict()
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    sent = []
    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        trainer.fit(x, y, epochs=10**7, {arguments})
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
    assert took < 1, took
    assert bytes(layer.bias) != bytes(before["bias"]), "the steps done are kept"
    trainer.step(x, y)
    layer.backward(layer.forward(x))
    layer.load_state_dict(before)
"""


@pytest.mark.parametrize("arguments", ["batch_size=32", "batch_size=20000", "on_epoch=lambda epoch: None"])
def test_ctrl_c_ends_a_fit(arguments):
    run_python(INTERRUPTED.format(arguments=arguments))


def test_a_signal_handlers_own_error_comes_out():
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    former = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Alarm):
            trainer.fit(x, y, epochs=10**7)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    trainer.step(x, y)


def test_a_handler_that_returns_does_not_stop_the_fit():
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    seen = []
    former = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        history = trainer.fit(x, y, epochs=10**7, on_epoch=lambda epoch: bool(seen))
    finally:
        signal.signal(signal.SIGALRM, former)
    assert seen == [signal.SIGALRM] and history.stop_reason == "callback"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains():
    run_python(
        """
    import os, sys
    import pente
    layer = pente.Linear(500, 300, dtype="float64", seed=0)
    x = memoryview(bytearray(8 * 500 * 3000)).cast("d", (3000, 500))
    y = memoryview(bytearray(8 * 300 * 3000)).cast("d", (3000, 300))
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    trainer.step(x, y)
    child = os.fork()
    trainer.step(x, y)
    if child == 0:
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    )
