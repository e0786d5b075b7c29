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

SHAPES = [(1, 4, 1), (32, 10, 1), (32, 64, 8), (128, 64, 64), (1024, 256, 10)]
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


def c_step(q, n, p):
    run = subprocess.run([C_PROGRAM, *map(str, (q, n, p, SECONDS))], check=True, capture_output=True, text=True)
    return float(run.stdout)


def pente_step(x, y):
    layer = pente.Linear(x.shape[1], y.shape[1], seed=0)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    return lambda: trainer.step(x, y)


def torch_step(x, y):
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    layer = torch.nn.Linear(x.shape[1], y.shape[1])
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
    print(f"{'q x n -> p':16} {'C, us':>9} {'Python, us':>11} {'PyTorch, us':>12} {'PyTorch / Python':>17}")
    random = np.random.default_rng(0)
    for q, n, p in SHAPES:
        x, y = random.random((q, n), np.float32), random.random((q, p), np.float32)
        ours, theirs = pente_step(x, y), torch_step(x, y) if torch else None
        rounds = [(c_step(q, n, p), time_call(ours), time_call(theirs) if torch else float("nan")) for _ in range(ROUNDS)]
        c, python, peer = (statistics.median(column) for column in zip(*rounds))
        ratio = statistics.median(peer / python for _, python, peer in rounds)
        print(f"{f'{q} x {n} -> {p}':16} {c:9.2f} {python:11.2f} {peer:12.1f} {ratio:17.1f}")


main()
