"""The same with Dask: a local cluster and a dask array, a block of rows a worker: train_dask.py DATA.csv

Each worker accumulates the gradients of its rows; the sums, added up, make the step. That is all that an engine has to do.
"""

import sys

import numpy as np
import dask
import dask.array
from distributed import Client

import pente

PARTS, STEPS = 4, 200


def make(features):
    layer = pente.Linear(features, 1, dtype="float64", seed=0)
    return pente.Trainer(layer, pente.SGD(layer, lr=0.05, momentum=0.9), pente.MSELoss())


def sums(block, state):
    """Of a block of rows, for the parameters of `state`."""
    trainer = make(block.shape[1] - 1)
    trainer.layer.load_state_dict(state)
    block = np.array(block)  # what comes over the wire may not be aligned
    trainer.accumulate(block[:, :-1], block[:, -1:])
    return np.array(trainer.sums)


def main(path):
    data = np.loadtxt(path, delimiter=",", skiprows=1)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    trainer, whole = make(data.shape[1] - 1), make(data.shape[1] - 1)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        rows = dask.array.from_array(data, chunks=(-(-len(data) // PARTS), -1)).persist()
        for _ in range(STEPS):
            state = trainer.layer.state_dict()
            parts = [client.submit(sums, client.compute(block), state, pure=False) for block in rows.blocks.ravel()]
            trainer.sums = sum(client.gather(parts))
            loss = trainer.apply_sums()
    for _ in range(STEPS):
        expected = whole.step(data[:, :-1], data[:, -1:])
    assert abs(loss - expected) <= 1e-12 * expected, (loss, expected)
    print(f"Dask, {PARTS} blocks of rows: loss {loss:.6f}, as one process's")


if __name__ == "__main__":
    main(sys.argv[1])
