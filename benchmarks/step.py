"""Times one training step (forward, mean MSE, backward, update; float32, one thread) from C, from Python and in PyTorch.

    make bench

Each round times all of them, one after the other; the table has the medians, and the ratio to PyTorch round by round.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import pente

try:
    import torch
except ImportError:
    torch = None

# The rows of a batch, and a linear layer's widths; more widths are a chain of them with relu between.
SHAPES = [(1, 4, 1), (32, 10, 1), (32, 64, 8), (128, 64, 64), (1024, 256, 10), (32, 64, 64, 32, 10)]
ROUNDS = 9
SECONDS = 0.05
C_PROGRAM = Path(__file__).resolve().parents[1] / "build/bin/bench-step"


def time_call(call):
    """Microseconds of one call, over about SECONDS."""
    call()
    calls, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < SECONDS:
        for _ in range(10):
            call()
        calls += 10
        elapsed = time.perf_counter() - start
    return elapsed / calls * 1e6


def c_step(shape):
    run = subprocess.run([C_PROGRAM, *map(str, (SECONDS, *shape))], check=True, capture_output=True, text=True)
    return float(run.stdout)


def network(widths, linear, relu, chain):
    """The layers, made and put together by the functions given."""
    linears = [linear(n, p) for n, p in zip(widths, widths[1:])]
    return chain(*[layer for each in linears for layer in (each, relu())][:-1]) if len(linears) > 1 else linears[0]


def pente_step(x, y, widths):
    layer = network(widths, pente.Linear, pente.ReLU, pente.Chain)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    return lambda: trainer.step(x, y)


def torch_step(x, y, widths):
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    layer = network(widths, torch.nn.Linear, torch.nn.ReLU, torch.nn.Sequential)
    mse = torch.nn.MSELoss()
    sgd = torch.optim.SGD(layer.parameters(), lr=1e-3)

    def step():
        sgd.zero_grad()
        mse(layer(x), y).backward()
        sgd.step()

    return step


def main():
    if torch:
        torch.set_num_threads(1)
    else:
        print("PyTorch is not here: make judges installs it", file=sys.stderr)
    print(f"{'q x n -> p':24} {'C, us':>9} {'Python, us':>11} {'PyTorch, us':>12} {'PyTorch / Python':>17}")
    random = np.random.default_rng(0)
    for shape in SHAPES:
        q, *widths = shape
        x, y = random.random((q, widths[0]), np.float32), random.random((q, widths[-1]), np.float32)
        ours, theirs = pente_step(x, y, widths), torch_step(x, y, widths) if torch else None
        rounds = [
            (c_step(shape), time_call(ours), time_call(theirs) if torch else float("nan")) for _ in range(ROUNDS)
        ]
        c, python, peer = (statistics.median(column) for column in zip(*rounds))
        ratio = statistics.median(peer / python for _, python, peer in rounds)
        label = f"{q} x {' -> '.join(map(str, widths))}"
        print(f"{label:24} {c:9.2f} {python:11.2f} {peer:12.1f} {ratio:17.1f}")


main()
