"""What the tests of sources share."""

import numpy as np

import pente
from support import snapshot


def examples(rows=301, dtype="float32", seed=0):
    """x, y and sample weights."""
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(rows, 5)).astype(dtype), generator.normal(size=(rows, 2)).astype(dtype)
    return x, y, (np.arange(rows) % 3).astype(dtype)


def save(folder, **arrays):
    """Their paths."""
    paths = []
    for name, array in arrays.items():
        paths.append(folder / f"{name}.npy")
        np.save(paths[-1], array)
    return paths


def batches_of(*arrays, sizes=(37,)):
    """A function for a BatchSource: batches of these numbers of rows, over and over."""

    def batches():
        first = i = 0
        while first < len(arrays[0]):
            yield tuple(array[first : first + sizes[i % len(sizes)]] for array in arrays)
            first += sizes[i % len(sizes)]
            i += 1

    return batches


def new_trainer(dtype="float32", lr=0.01):
    layer = pente.Linear(5, 2, dtype=dtype, seed=0)
    return pente.Trainer(layer, pente.SGD(layer, lr=lr, momentum=0.9), pente.MSELoss())


def train(x, y=None, dtype="float32", **options):
    """The parameters and losses that a fit of a new layer comes to."""
    trainer = new_trainer(dtype)
    history = trainer.fit(x, y, **options)
    return snapshot(trainer.layer), history.training_losses


class Recorder:
    """Its fit_order gives the rows, of which there is one column with their numbers, as fit comes to them."""

    def __init__(self):
        self.seen = []
        layer = pente.CustomLayer(
            1, 1, self._forward, lambda x, y, grad_output, a: (grad_output, {"a": a}), {"a": np.zeros(1)}, "float64"
        )
        self._trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.0), pente.MSELoss())

    def _forward(self, x, a):
        self.seen += [int(row[0]) for row in x.tolist()]
        return x

    def fit_order(self, source, **options):
        self._trainer.fit(source, **options)
        return self.seen
