"""How many threads a call may use: the numbers are the same for any count."""

import threading

import pytest
from support import DTYPES, randoms, run_python

import pente


@pytest.fixture(autouse=True)
def one_thread_again():
    assert pente.get_num_threads() == 1
    yield
    pente.set_num_threads(1)


def test_count():
    pente.set_num_threads(3)
    assert pente.get_num_threads() == 3
    for count in (0, -1, 257, 2**63 - 1):
        with pytest.raises(ValueError, match="from 1 to 256"):
            pente.set_num_threads(count)
    for count in (1.0, "2", None):
        with pytest.raises(TypeError, match="count must be a whole number"):
            pente.set_num_threads(count)
    with pytest.raises(ValueError, match="count is .* must be from"):
        pente.set_num_threads(2**64)
    assert pente.get_num_threads() == 3


def train(x, y, dtype, callers=None):
    """All that comes of a fit and of a prediction."""
    layer = pente.Chain(
        pente.Linear(64, 48, dtype=dtype, seed=0), pente.ReLU(dtype=dtype), pente.Linear(48, 2, dtype=dtype, seed=1)
    )
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01, momentum=0.9), pente.MSELoss())

    def on_epoch(epoch):
        if callers is not None:
            callers.add(threading.get_ident())

    history = trainer.fit(x, y, epochs=2, batch_size=1900, seed=0, validation=(x, y), on_epoch=on_epoch)
    state = {name: value.tolist() for name, value in layer.state_dict().items()}
    return history, state, layer.predict(x).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits(dtype):
    x, y = randoms(2000, 64, dtype), randoms(2000, 2, dtype)
    alone = train(x, y, dtype)
    for count in (2, 4):
        pente.set_num_threads(count)
        callers = set()
        assert train(x, y, dtype, callers) == alone
        assert callers == {threading.get_ident()}


def test_a_child_of_fork_trains():
    run_python(
        """
        import os, sys
        from array import array
        import pente
        x = memoryview(array("f", [i % 7 for i in range(20000 * 64)])).cast("B").cast("f", (20000, 64))
        y = memoryview(array("f", [i % 3 for i in range(20000 * 4)])).cast("B").cast("f", (20000, 4))

        def train():
            layer = pente.Linear(64, 4, seed=0)
            pente.Trainer(layer, pente.SGD(layer, lr=1e-4), pente.MSELoss()).fit(x, y, epochs=2, batch_size=20000)
            return layer.weight.tolist()

        alone = train()
        pente.set_num_threads(4)
        assert train() == alone
        child = os.fork()
        if child == 0:
            os._exit(0 if train() == alone else 1)
        assert train() == alone
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
