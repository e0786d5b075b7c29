"""soak.py STEPS CYCLES: a guest that stays, from Python.

After so many steps, and so many objects of each kind, the process has the memory, the descriptors and the threads that it
had before, and what lives on has the references that it had."""

import gc
import os
import pickle
import re
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pente

sys.path.append(str(Path(__file__).parents[2] / "bindings/python/tests"))

from support import matrix, network, zeros  # noqa: E402
from test_leaks import malloced  # noqa: E402


# What looking itself may leave behind; one object a call would be more. And what may come before memory is at rest, beyond
# the first tenth, where Python's own arenas are 1 MB: a table that doubles is flat for long, too.
SLACK = {"resident": 0, "malloc": 2000, "blocks": 20, "traced": 2000, "descriptors": 0, "threads": 0}
FITTING = {"resident": 1024, "malloc": 64 << 10, "blocks": 1000, "traced": 64 << 10, "descriptors": 0, "threads": 0}


def resident():
    """Of the process's own memory, in kB: pages of files come and go as the kernel likes."""
    return int(re.search(r"Anonymous:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])


def usage():
    gc.collect()
    return {
        "resident": resident(),
        "malloc": malloced(),
        "blocks": sys.getallocatedblocks(),
        "traced": tracemalloc.get_traced_memory()[0],
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def has_grown(before, now, slack):
    return any(now[name] > before[name] + slack[name] for name in now)


def repeat(what, count, call, *lasting):
    """Until memory has been flat for half of so many calls. At first caches fill; a leak never comes to rest."""
    call()
    references = [sys.getrefcount(thing) for thing in lasting]
    first, before, flat, tenth = None, usage(), 0, 0
    while flat < 5 or tenth < 10:
        for _ in range(count // 10):
            call()
        now, tenth, flat = usage(), tenth + 1, flat + 1
        first = now if tenth == 1 else first
        assert not has_grown(first, now, FITTING), f"{what}: {first}, then {now}"
        if has_grown(before, now, SLACK):
            assert tenth <= 30, f"{what}: {before}, then {now}"
            before, flat = now, 0
    assert [sys.getrefcount(thing) for thing in lasting] == references, f"{what}: references"
    print(f"{what}: {tenth * (count // 10)} times, {before}", flush=True)


class Own(pente.CustomLayer):
    """y = x; it holds what holds it."""

    def compute_forward(self, x):
        return x

    def compute_backward(self, x, y, grad_output):
        return grad_output


def trainer_of(layer, **options):
    return pente.Trainer(layer, pente.SGD(layer, 0.01, momentum=0.9), pente.MSELoss(), **options)


def cycle_linear():
    layer = pente.Linear(4, 3)
    weight = layer.weight
    del layer
    assert len(memoryview(weight).tolist()) == 3  # a view keeps its layer


def cycle_chain():
    chain = network("float32")
    first = chain[0]
    del chain
    assert len(first.parameters) == 2


def cycle_own():
    own = Own(4, 4)
    chain = pente.Chain(pente.Linear(4, 4), own)
    own.trainer = trainer_of(chain)
    own.trainer.step(X, X)


def cycle_trainer():
    losses = []
    trainer = trainer_of(pente.Linear(4, 1))
    trainer.step(X, Y)
    trainer.fit(X, Y, epochs=2, on_epoch=lambda epoch: losses.append(epoch.training_loss))
    assert len(losses) == 2
    assert pickle.loads(pickle.dumps(trainer.optimizer.layers[0][0])) == trainer.layer


def cycle_errors():
    layer = pente.Linear(4, 1)
    for call in (lambda: layer(Y), lambda: layer.backward(Y), lambda: pente.Linear(0, 1), lambda: layer.load("/nowhere")):
        try:
            call()
        except (ValueError, RuntimeError, OSError):
            continue
        raise AssertionError("no error")


X = matrix([[0.1, 0.2, 0.3, 0.4]], "float32")
Y = matrix([[1.0]], "float32")


def soak(steps, cycles):
    tiny, wide = trainer_of(pente.Linear(4, 1)), trainer_of(pente.Linear(70, 33))
    x, y = zeros(600, 70, "float32"), zeros(600, 33, "float32")
    repeat("steps", steps, lambda: tiny.step(X, Y), tiny, X, Y)
    repeat("linear layers", cycles, cycle_linear)
    for kind in (pente.ReLU, pente.LeakyReLU, pente.Tanh, pente.Sigmoid, pente.Softplus):
        repeat(kind.__name__, cycles, lambda kind=kind: kind()(X), X)
    repeat("scalers", cycles, lambda: pente.Scaler(4).fit(X)(X), X)
    repeat("chains", cycles, cycle_chain)
    repeat("layers of one's own", cycles, cycle_own, X)
    repeat("losses", cycles, lambda: (loss := pente.MSELoss())(Y, Y) and loss.backward(), Y)
    repeat("optimizers", cycles, lambda: pente.SGD([tiny.layer, wide.layer], momentum=0.9).step(), tiny.layer)
    repeat("trainers", cycles, cycle_trainer, X, Y)
    repeat("errors", cycles, cycle_errors, Y)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/file"

        def cycle_files():
            tiny.layer.save(path, tiny.optimizer)
            pente.Layer.load(path)
            tiny.layer.load_parameters(path, tiny.optimizer)

        repeat("files", cycles // 10, cycle_files, tiny.layer, tiny.optimizer)
        assert os.listdir(folder) == ["file"]

    def cycle_threads():
        pente.set_num_threads(3)
        wide.step(x, y)
        pente.set_num_threads(1)

    repeat("threads that come and go", cycles // 10, cycle_threads, wide, x, y)
    pente.set_num_threads(3)
    repeat("steps on three threads", cycles // 10, lambda: wide.step(x, y), wide, x, y)
    pente.set_num_threads(1)


def main(steps, cycles):
    print("With each of Python's allocations traced:")
    tracemalloc.start()
    soak(steps // 10, cycles // 10)
    tracemalloc.stop()
    print("And without:")
    soak(steps, cycles)


main(*map(int, sys.argv[1:]))
