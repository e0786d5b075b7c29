"""The module itself: where it is, several of it, and its end."""

import sys
import sysconfig
from pathlib import Path

import pente
import pytest
from support import run_python


def test_it_is_the_installed_package():
    assert Path(pente.__file__).parent == Path(sysconfig.get_path("platlib"), "pente")


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
        layer.weight.__dlpack__()

        class Borrowed:
            def __dlpack__(self, max_version=None):
                return layer.bias.__dlpack__(max_version=max_version)
            def __dlpack_device__(self):
                return (1, 0)

        pente.Linear(2, 2).predict(Borrowed())

        class Same(pente.CustomLayer):
            def compute_forward(self, x, a):
                return x
            def compute_backward(self, x, y, grad_output, a):
                self.calls += 1
                return grad_output, {"a": a}

        same = Same(2, 2, parameters={"a": array.array("f", [0, 0])})
        same.calls = 0
        chain = pente.Chain(layer, same, pente.Softplus())
        same.trainer = pente.Trainer(chain, pente.SGD(chain), pente.MSELoss())
        same.trainer.fit(array.array("f", [1, 2, 3]), array.array("f", [1, 2]), epochs=10)
        assert same.calls == 10
        try:
            pente.CustomLayer(forward=lambda x: 1 // 0).predict(array.array("f", [1]))
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError("no exception")
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


def test_threads_train_in_interpreters_of_their_own():
    """From Python 3.12 on each has a GIL of its own."""
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
            y = memoryview(array.array("f", [i * 3 % 5 / 5 for i in range(64)])).cast("B").cast("f", (64, 1))
            layer = pente.Linear(10, 1, seed=0)
            epochs = []
            trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01), pente.MSELoss())
            for _ in range(20):
                trainer.fit(x, y, epochs=10, batch_size=8, on_epoch=epochs.append)
            assert len(epochs) == 200
            os.write(pipe, bytes(layer.weight))
            '''
        )

        def train(results):
            reader, writer = os.pipe()
            interpreter = interpreters.create()
            execute = getattr(interpreters, "exec", None) or interpreters.run_string
            failure = execute(interpreter, f"pipe = {writer}" + code)
            interpreters.destroy(interpreter)
            results.append(failure or os.read(reader, 1000))

        results = []
        threads = [threading.Thread(target=train, args=(results,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        train(alone := [])
        assert len(alone[0]) == 40 and results == 4 * alone, results
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
        import gc, weakref
        types = [weakref.ref(value) for value in vars(first).values() if isinstance(value, type)]
        del first, layer
        gc.collect()
        assert len(types) == 17 and not any(reference() for reference in types)
        """
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no buffers in Python")
def test_what_the_garbage_collector_runs_while_it_takes_the_module_apart():
    run_python(
        """
        import array, gc, sys

        class Exporter:
            def __buffer__(self, flags):
                return memoryview(array.array("f", [1, 2]))
            def __release_buffer__(self, view):
                for call in calls:
                    try:
                        done.append(call(self))
                    except Exception as error:
                        done.append(error)

        calls = [
            lambda self: self.pente.Linear(2, 2),
            lambda self: self.pente.Chain(self.layer, self.pente.Tanh()),
            lambda self: self.Linear(2, 2),
            lambda self: self.Chain(self.layer),
            lambda self: self.Tanh(),
            lambda self: self.Scaler(2),
            lambda self: self.Loss(),
            lambda self: self.SGD(self.layer),
            lambda self: self.Trainer(self.layer, self.optimizer, self.loss),
            lambda self: self.optimizer.add_group(self.layer),
            lambda self: self.layer.predict(array.array("f", [1, 2])),
            lambda self: self.layer.parameters["bias"].tolist(),
            lambda self: self.loss(array.array("f", [1, 2]), array.array("f", [1, 2])),
            lambda self: self.loss.backward(),
            lambda self: self.squares(array.array("f", [1, 2]), array.array("f", [1, 2])),
        ]
        done = []
        gc.disable()
        for _ in range(10):
            import pente
            for _ in range(10):
                exporter = Exporter()
                exporter.pente, exporter.itself = pente, exporter
                exporter.Linear, exporter.Chain, exporter.Tanh = pente.Linear, pente.Chain, pente.Tanh
                exporter.Scaler, exporter.Loss, exporter.SGD = pente.Scaler, pente.MSELoss, pente.SGD
                exporter.Trainer, exporter.layer = pente.Trainer, pente.Linear(2, 2)
                exporter.optimizer, exporter.loss = pente.SGD(exporter.layer), pente.MSELoss()
                exporter.squares = pente.MSELoss("none")
                exporter.layer.forward(exporter)
                exporter.loss(array.array("f", [1, 2]), array.array("f", [1, 2]))
            for name in [name for name in sys.modules if name.startswith("pente")]:
                del sys.modules[name]
            del pente, exporter
            done.clear()
            gc.collect()
            assert len(done) >= 10 * len(calls)
        """
    )


def test_the_import_is_light():
    run_python(
        """
        import sys
        before = set(sys.modules)
        import pente
        more = {name for name in set(sys.modules) - before}
        assert more == {"pente", "pente._pente"}, more
        assert pente.History.__name__ == "History" and "dataclasses" in sys.modules
        assert not hasattr(pente, "Histories")
        """
    )
