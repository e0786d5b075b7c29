"""Threads that share an object meet a RuntimeError at worst; long calls let others run; Ctrl-C ends a fit."""

import os
import signal
import threading
import time
from itertools import pairwise

import pente
import pytest
from support import THRESHOLD, Affine, problem, randoms, run_python, square, zeros

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


def test_layers_of_ones_own_train_side_by_side():
    def train():
        layer, x, y = problem("float64", rows=400)
        chain = pente.Chain(layer, square(), Affine(pente.Linear(2, 2, dtype="float64", seed=0)))
        trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.01), pente.MSELoss())
        results.append(trainer.fit(x, y, epochs=5, batch_size=100).training_losses)

    results = []
    run_together(*[train] * 4)
    assert len(results) == 4 and all(result == results[0] for result in results)


def test_threads_on_one_layer_of_ones_own():
    chain = pente.Chain(pente.Linear(WIDE, 8, dtype="float64"), Affine(pente.Linear(8, 2, dtype="float64")))
    x, small, y = randoms(40, WIDE), randoms(2, WIDE), randoms(40, 2)
    expected = bytes(chain.predict(x))
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.0), pente.MSELoss())
    state, done = chain.state_dict(), []

    def predict():
        assert bytes(chain.predict(x)) == expected
        done.append(True)

    run_together(
        repeatedly(predict, 50),
        repeatedly(predict, 50),
        repeatedly(lambda: (chain.forward(small), chain.backward(zeros(2, 2))), 50),
        repeatedly(lambda: trainer.step(x, y), 50),
        repeatedly(lambda: chain.load_state_dict(state), 50),
        repeatedly(lambda: chain[1].predict(zeros(1, 8)), 50),
        repeatedly(chain.state_dict, 50),
    )
    assert done
    predict()


def long_calls():
    layer = pente.Linear(1000, 500, dtype="float64")
    x, y = zeros(4000, 1000), zeros(4000, 500)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    many = zeros(40000, 500)
    chain = pente.Chain(layer, pente.ReLU("float64"), pente.Linear(500, 500, dtype="float64"))
    wide, narrow = zeros(3000, 4000), zeros(3000, 100)
    after_a_callback = pente.Chain(
        pente.CustomLayer(forward=lambda x: x, dtype="float64"), pente.Linear(100, 4000, dtype="float64")
    )
    return {
        "after a callback": lambda: after_a_callback.predict(narrow, wide),
        "chain": lambda: chain.predict(x, y),
        "activation": lambda: pente.Tanh("float64").predict(many),
        "scaler": lambda: pente.Scaler(500, "float64").fit(many),
        "step": lambda: trainer.step(x, y),
        "fit": lambda: trainer.fit(x, y),
        "predict": lambda: layer.predict(x, y),
        "loss": lambda: pente.MSELoss()(many, many),
    }


@pytest.mark.parametrize(
    "name", ["step", "fit", "predict", "loss", "chain", "after a callback", "activation", "scaler"]
)
def test_other_threads_run_during_a_long_call(name):
    call = long_calls()[name]
    call()
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    def longest_wait():
        """As a fraction of the call."""
        begin = time.perf_counter()
        call()
        end = time.perf_counter()
        times = [begin, *(tick for tick in list(ticks) if begin < tick < end), end]
        return max(later - tick for tick, later in pairwise(times)) / (end - begin)

    thread = threading.Thread(target=tick)
    thread.start()
    while not ticks:
        time.sleep(0.001)
    waits = [longest_wait() for _ in range(3)]
    stop.set()
    thread.join()
    assert min(waits) < 0.4  # the machine may be busy with something else


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


def test_ctrl_c_within_a_layer_of_ones_own():
    run_python(
        """
        import os, signal, threading, time
        import pente
        def forward(x):
            entered.set()
            time.sleep(0.02)
            return x
        entered = threading.Event()
        slow = pente.CustomLayer(forward=forward, backward=lambda x, y, grad_output: grad_output)
        chain = pente.Chain(pente.Linear(3, 2, seed=0), slow)
        trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1, momentum=0.9), pente.MSELoss())
        x, y = (memoryview(bytearray(4 * 64 * n)).cast("f", (64, n)) for n in (3, 2))
        sent = []
        def interrupt():
            entered.wait()
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            trainer.fit(x, y, epochs=10**6, batch_size=1)
        except KeyboardInterrupt:
            took = time.perf_counter() - sent[0]
        assert took < 1, took
        trainer.step(x, y)
        chain.backward(chain.forward(x))
        """
    )


def test_a_process_may_end_while_a_thread_is_at_work():
    run_python(
        """
        import threading, time
        import pente
        entered = threading.Event()
        def forward(x):
            entered.set()
            time.sleep(0.001)
            return x
        slow = pente.CustomLayer(forward=forward, backward=lambda x, y, grad_output: grad_output)
        chain = pente.Chain(pente.Linear(3, 2, seed=0), slow)
        trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1), pente.MSELoss())
        x, y = (memoryview(bytearray(4 * 64 * n)).cast("f", (64, n)) for n in (3, 2))
        threading.Thread(target=lambda: trainer.fit(x, y, epochs=10**6), daemon=True).start()
        entered.wait()
        """
    )


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
