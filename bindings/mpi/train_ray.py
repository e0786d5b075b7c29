"""The same with Ray: an actor for each share of the rows: train_ray.py DATA.csv

Each worker accumulates the gradients of its rows; the sums, added up, make the step. That is all that an engine has to do.
"""

import sys

import numpy as np
import ray

import pente

PARTS, STEPS = 4, 200


def make(features):
    layer = pente.Linear(features, 1, dtype="float64", seed=0)
    return pente.Trainer(layer, pente.SGD(layer, lr=0.05, momentum=0.9), pente.MSELoss())


class Worker:
    """Holds its share of the rows, and a copy of the model."""

    def __init__(self, rows):
        self.rows, self.trainer = rows, make(rows.shape[1] - 1)

    def sums(self):
        self.trainer.accumulate(self.rows[:, :-1], self.rows[:, -1:])
        return np.array(self.trainer.sums)

    def step(self, total):
        self.trainer.sums = total
        return self.trainer.apply_sums()


def main(path):
    data = np.loadtxt(path, delimiter=",", skiprows=1)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    whole = make(data.shape[1] - 1)
    ray.init(num_cpus=PARTS, include_dashboard=False, log_to_driver=False)
    actor = ray.remote(Worker)
    workers = [actor.remote(rows) for rows in np.array_split(data, PARTS)]
    for _ in range(STEPS):
        total = sum(ray.get([worker.sums.remote() for worker in workers]))
        losses = ray.get([worker.step.remote(total) for worker in workers])
    ray.shutdown()
    for _ in range(STEPS):
        expected = whole.step(data[:, :-1], data[:, -1:])
    assert len(set(losses)) == 1 and abs(losses[0] - expected) <= 1e-12 * expected, (losses, expected)
    print(f"Ray, {PARTS} actors: loss {losses[0]:.6f}, as one process's")


if __name__ == "__main__":
    main(sys.argv[1])
