"""Processes: whatever threads were doing when a child was made, it trains at once, to the same bits."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest
from support import randoms, snapshot

import pente

METHODS = multiprocessing.get_all_start_methods()
FORKS = int(os.environ.get("PENTE_FORKS", "20"))
PATIENCE = 300  # seconds, on a busy machine

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def make(seed=0):
    return pente.Chain(pente.Linear(64, 32, seed=seed), pente.ReLU(), pente.Linear(32, 2, seed=seed + 1))


def train(layer, threads=1, on_epoch=None):
    """Rows enough for several threads."""
    pente.set_num_threads(threads)
    x, y = randoms(1500, 64, "float32"), randoms(1500, 2, "float32")
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01, momentum=0.9), pente.MSELoss())
    trainer.fit(x, y, epochs=2, batch_size=1500, seed=0, on_epoch=on_epoch)
    return snapshot(layer)


def train_anew(threads):
    signal.alarm(PATIENCE)  # a hang is a failure
    try:
        return train(make(), threads)
    finally:
        signal.alarm(0)


def train_sent(layer):
    train(layer, 2)
    return layer


class Work:
    """Threads that train, predict and save as long as it lasts."""

    def __init__(self, directory, layer=None):
        self.is_over = threading.Event()
        self.shared = layer or make()
        self.path = os.path.join(directory, "model.safetensors")
        self.x = randoms(3000, 64, "float32")
        bodies = (self.train, self.predict, self.predict, self.save)
        self.threads = [threading.Thread(target=body) for body in bodies]

    def train(self):
        count = 0
        while not self.is_over.is_set():
            count += 1
            train(make(), 1 + count % 3)

    def predict(self):
        while not self.is_over.is_set():
            self.shared.predict(self.x)

    def save(self):
        while not self.is_over.is_set():
            self.shared.save(self.path)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def expected():
    yield train(make())
    pente.set_num_threads(1)


def run_child(body):
    """Forks; the child ends with 0 if the body is true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(PATIENCE)
            status = 0 if body() else 1
        finally:
            os._exit(status)
    return child


def await_child(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("method", METHODS)
def test_pool(method, expected, tmp_path):
    with Work(tmp_path), multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map_async(train_anew, [1, 2, 3, 1, 2]).get(PATIENCE)
    assert all(result == expected for result in results)


@pytest.mark.parametrize("method", METHODS)
def test_executor_with_layers_sent(method, expected, tmp_path):
    context = multiprocessing.get_context(method)
    with Work(tmp_path), ProcessPoolExecutor(2, mp_context=context) as executor:
        trained = list(executor.map(train_sent, [make() for _ in range(3)], timeout=PATIENCE))
    assert all(snapshot(layer) == expected for layer in trained)


@pytest.mark.skipif("fork" not in METHODS, reason="needs fork")
def test_threads_that_fork(expected, tmp_path):
    def grandchild_too():
        child = run_child(lambda: train_anew(2) == expected)
        well = train_anew(3) == expected
        await_child(child)
        return well

    def fork_often():
        try:
            for i in range(FORKS // 2):
                await_child(run_child(grandchild_too if i % 4 == 0 else lambda: train_anew(2) == expected))
        except BaseException as error:
            errors.append(error)

    errors = []
    with Work(tmp_path):
        forkers = [threading.Thread(target=fork_often) for _ in range(2)]
        for forker in forkers:
            forker.start()
        for forker in forkers:
            forker.join()
    assert not errors


@pytest.mark.skipif("fork" not in METHODS, reason="needs fork")
def test_fork_within_a_fit(expected, tmp_path):
    """Others are predicting with its layer: the child goes on all the same."""
    layer = make()

    def predict():
        while not work_is_over.is_set():
            try:
                layer.predict(x)
            except RuntimeError as error:
                assert "in use" in str(error)

    x = randoms(3000, 64, "float32")
    for _ in range(max(2, FORKS // 10)):
        layer.load_state_dict(make().state_dict())
        children, work_is_over, process = [], threading.Event(), os.getpid()
        threads = [threading.Thread(target=predict) for _ in range(2)]

        def fork(epoch, threads=threads, children=children):
            if epoch.epoch > 1:
                return
            for thread in threads:
                thread.start()
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(PATIENCE)

        status = 1
        try:
            status = 0 if train(layer, 2, fork) == expected else 1
        finally:
            if os.getpid() != process:
                os._exit(status)
        work_is_over.set()
        for thread in threads:
            thread.join()
        assert status == 0
        await_child(children[0])


@pytest.mark.skipif("fork" not in METHODS, reason="needs fork")
def test_fork_within_a_layer_of_ones_own():
    def forward(x):
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(PATIENCE)
        return x

    def train():
        own = pente.CustomLayer(forward=forward, backward=lambda x, y, grad_output: grad_output)
        chain = pente.Chain(pente.Linear(5, 2, seed=0), own)
        trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1), pente.MSELoss())
        for _ in range(3):
            trainer.step(x, y)
        return snapshot(chain)

    x, y = randoms(20, 5, "float32"), randoms(20, 2, "float32")
    children, process, well = [1], os.getpid(), False
    alone = train()
    children.clear()
    try:
        well = train() == alone
    finally:
        if os.getpid() != process:
            os._exit(not well)
    assert well
    await_child(children[0])
