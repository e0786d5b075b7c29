"""A source's thread: with other threads, interpreters, processes, Ctrl-C, and little memory."""

import gc
import os
import signal
import sys
import threading
import time

import pente
import pytest
from support import run_python, snapshot

np = pytest.importorskip("numpy")

from source_support import batches_of, examples, new_trainer, save, train  # noqa: E402


def test_it_is_read_on_another_thread_while_others_run():
    x, y, _ = examples()
    threads, turns = set(), []

    def batches():
        for batch in batches_of(x, y)():
            threads.add(threading.get_ident())
            time.sleep(0.001)
            yield batch

    source = pente.BatchSource(batches)
    threads.clear()  # of the look at the first batch
    fit = threading.Thread(target=lambda: train(source, epochs=5))
    fit.start()
    while fit.is_alive():
        turns.append(time.sleep(0.001))
    assert len(threads) == 1 and not threads & {fit.ident, threading.get_ident()}
    assert len(turns) > 10


def test_two_sources_at_once_and_one_twice(tmp_path):
    x, y, _ = examples(20_000)
    paths = save(tmp_path, x=x, y=y)
    expected = train(x, y, epochs=5)
    results, refusals = [], []
    sources = [pente.NPYSource(*paths), pente.BatchSource(batches_of(x, y))] * 2

    def fit(source):
        while True:
            try:
                results.append(train(source, epochs=5))
                return
            except RuntimeError as error:
                refusals.append(str(error))
                time.sleep(0.01)

    threads = [threading.Thread(target=fit, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert set(refusals) <= {f"this {name} is in use by another call; use one a thread" for name in ("NPYSource", "BatchSource")}


def test_a_source_that_is_in_use(tmp_path):
    x, y, _ = examples()
    for source in [pente.NPYSource(*save(tmp_path, x=x, y=y)), pente.BatchSource(batches_of(x, y))]:

        def again(epoch, source=source):
            with pytest.raises(RuntimeError, match="^this (NPY|Batch)Source is in use by another call; use one a thread"):
                train(source)

        assert train(source, epochs=3, on_epoch=again) == train(x, y, epochs=3)


def test_the_iterator_may_use_pente():
    """Also for a fit of another source, and whatever lets go of the GIL."""
    x, y, _ = examples()
    scaler = pente.Scaler(5).fit(x)

    def batches():
        train(pente.BatchSource(batches_of(x, y)))
        pente.Linear(300, 300, seed=0).predict(np.ones((300, 300), np.float32))
        for part, targets in batches_of(x, y)():
            yield scaler.predict(part), targets

    assert train(pente.BatchSource(batches), epochs=2) == train(scaler.predict(x), y, epochs=2)


def interrupted_fit(body):
    run_python(
        f"""
        import os, signal, threading, time
        import numpy as np, pente
        x, y = np.ones((64, 2), np.float32), np.ones((64, 1), np.float32)
        layer = pente.Linear(2, 1, seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer, lr=1e-6), pente.MSELoss())
        ctrl_c = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        {body}
        ctrl_c.start()
        began = time.monotonic()
        try:
            trainer.fit(pente.BatchSource(batches), epochs=10**6)
        except KeyboardInterrupt:
            assert time.monotonic() - began < 5
        else:
            raise AssertionError("not interrupted")
        trainer.fit(pente.BatchSource([(x, y)]))
        """
    )


def test_ctrl_c():
    interrupted_fit("batches = [(x, y)] * 100")


def test_ctrl_c_while_the_source_is_slow():
    """A window would take it an hour."""
    interrupted_fit(
        """
        def batches():
            while True:
                yield x, y
                time.sleep(0.1)
        """
    )


def test_ctrl_c_while_the_source_waits():
    """What fit waits for at most is the call that is under way."""
    interrupted_fit(
        """
        def batches():
            while True:
                yield x, y
                time.sleep(1)
        """
    )


def test_interpreters_of_their_own():
    run_python(
        """
        import os, textwrap, threading
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        code = textwrap.dedent(
            '''
            import array, os, pente
            x = memoryview(array.array("f", [i * 7 % 11 / 11 for i in range(640)])).cast("B").cast("f", (64, 10))
            y = memoryview(array.array("f", [i * 3 % 5 / 5 for i in range(64)]))
            layer = pente.Linear(10, 1, seed=0)
            trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01), pente.MSELoss())
            module = []

            def batches():
                for first in range(0, 64, 7):
                    module.append(pente._pente)  # this interpreter's
                    part = memoryview(bytes(x)).cast("f", (64, 10))
                    yield memoryview(bytes(x)[first * 40:(first + 7) * 40]).cast("B").cast(
                        "f", (min(7, 64 - first), 10)), y[first:first + 7]

            source = pente.BatchSource(batches)
            for _ in range(10):
                trainer.fit(source, epochs=3, batch_size=8)
            try:
                trainer.fit(pente.BatchSource(lambda first, count: 1 // first, rows=64))
            except ZeroDivisionError:
                pass
            assert set(map(id, module)) == {id(pente._pente)}
            os.write(pipe, bytes(layer.weight))
            '''
        )

        def fit(results):
            reader, writer = os.pipe()
            interpreter = interpreters.create()
            execute = getattr(interpreters, "exec", None) or interpreters.run_string
            failure = execute(interpreter, f"pipe = {writer}" + code)
            interpreters.destroy(interpreter)
            results.append(failure or os.read(reader, 1000))

        results = []
        threads = [threading.Thread(target=fit, args=(results,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 3 and len(set(results)) == 1 and isinstance(results[0], bytes), results
        """
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["files", "read", "batches"])
def test_fork_within_a_fit(tmp_path, kind):
    """The child goes on by itself, where the source is one that it can read anew."""
    x, y, _ = examples(50_000)
    source = {
        "files": lambda: pente.NPYSource(*save(tmp_path, x=x, y=y)),
        "read": lambda: pente.BatchSource(lambda i, n: (x[i : i + n], y[i : i + n]), rows=len(x)),
        "batches": lambda: pente.BatchSource(batches_of(x, y)),
    }[kind]()
    options = {"epochs": 4, "batch_size": 100, "shuffle_window": 1000}
    expected, children, process = train(source, **options), [], os.getpid()

    def fork(epoch):
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(60)

    status = 1
    try:
        status = 0 if train(source, on_epoch=fork, **options) == expected else 1
    except RuntimeError as error:
        wanted = "the source of a fit goes on in the process that began it"
        status = 0 if kind == "batches" and os.getpid() != process and wanted in str(error) else 1
    finally:
        if os.getpid() != process:
            os._exit(status)
    assert status == 0 and os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_leaks(tmp_path):
    x, y, _ = examples(50)
    paths = save(tmp_path, x=x, y=y)

    def fail():
        yield x, y
        raise KeyError

    def everything():
        trainer = new_trainer()
        for source in [
            pente.NPYSource(*paths),
            pente.BatchSource(batches_of(x, y)),
            pente.BatchSource(lambda i, n: (x[i : i + n], y[i : i + n]), rows=50),
        ]:
            repr(source)
            trainer.fit(source, epochs=2, checkpoint=tmp_path / "run", on_epoch=lambda epoch: None)
        for wrong in [fail, [(x, y), (x, x)], [(x, y), 3], lambda i, n: 3]:
            with pytest.raises((KeyError, ValueError, TypeError)):
                trainer.fit(pente.BatchSource(wrong, rows=None), epochs=2)
        cycle = [(x, y)]
        cycle.append(pente.BatchSource(cycle))  # which the garbage collector takes apart

    growths = []
    for _ in range(20):  # until Python's and NumPy's own caches are full
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(10):
            everything()
        gc.collect()
        growths.append(sys.getallocatedblocks() - before)
        if growths[-1] < 5:
            return
    raise AssertionError(growths)


@pytest.mark.parametrize("shuffle", [False, True])
def test_little_memory(tmp_path, shuffle):
    """A file of 512 MB, most of which is a hole, and 64 MB."""
    for name, columns in [("x", 31), ("y", 1)]:
        array = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float32, (1 << 22, columns))
        array[::9999] = 1
        array.flush()
    run_python(
        f"""
        import resource
        import pente
        layer = pente.Linear(31, 1, seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer, lr=1e-3), pente.MSELoss())
        used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + (64 << 20),) * 2)
        source = pente.NPYSource("{tmp_path}/x.npy", "{tmp_path}/y.npy")
        history = trainer.fit(source, batch_size=1024, shuffle={shuffle})
        assert trainer.optimizer.step_count == 4096 and history.training_losses[0] < 0.1
        """
    )


def test_the_source_may_go_before_the_trainer():
    x, y, _ = examples()
    trainer = new_trainer()
    trainer.fit(pente.BatchSource(batches_of(x, y)))
    assert snapshot(trainer.layer) == train(x, y)[0]
