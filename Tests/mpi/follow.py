"""pente.mpi with the ranks that mpirun starts: mpirun -n 3 follow.py DIRECTORY

Ranks hold uneven shards, one of three or more none; each computes for itself what one process makes of all rows.
"""

import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

import pente
from pente.mpi import DistributedTrainer, RankError

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
RNG = np.random.default_rng(0)
X, Y, WEIGHT = RNG.standard_normal((200, 5)), RNG.standard_normal((200, 2)), RNG.uniform(0, 2, 200)
CUTS = [0, *(20 + i for i in range(SIZE - 1)), 200]
if SIZE > 2:
    CUTS[2] = CUTS[1]


def own(rows):
    """This rank's, or None."""
    return rows[CUTS[RANK]:CUTS[RANK + 1]] if CUTS[RANK] < CUTS[RANK + 1] else None


def make(seed):
    layer = pente.Linear(5, 2, dtype="float64", seed=seed)
    return pente.Trainer(layer, pente.SGD(layer, lr=0.05, momentum=0.9), pente.MSELoss())


def weight(trainer):
    return np.array(trainer.layer.weight)


def expect_close(trainer, whole):
    assert np.abs(weight(trainer) - weight(whole)).max() <= 1e-12 * np.abs(weight(whole)).max()


def expect_failure(culprit, error, words, call):
    """The error on its rank, and one that names the rank on the others."""
    try:
        call()
    except RankError as failure:
        assert culprit != RANK and str(failure).startswith(f"rank {culprit}: {error.__name__}: "), failure
        assert words in str(failure), failure
    except error as failure:
        assert culprit == RANK and words in str(failure), failure
    else:
        raise AssertionError("nothing was raised")


def follow():
    trainer, whole = make(RANK), make(0)
    distributed = DistributedTrainer(trainer)
    for _ in range(20):
        loss = distributed.step(own(X), own(Y), own(WEIGHT))
        expected = whole.step(X, Y, WEIGHT)
        assert abs(loss - expected) <= 1e-12 * expected
    distributed.verify()
    history = distributed.fit(own(X), own(Y), epochs=5, batch_size=1000)
    assert history.epochs == 5
    for _ in range(5):
        whole.step(X, Y)
    expect_close(trainer, whole)


def errors():
    last = SIZE - 1
    if SIZE > 1:
        layer = pente.Linear(4 if last == RANK else 5, 2)
        other = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
        expect_failure(last, ValueError, "rank 0's", lambda: DistributedTrainer(other))
    trainer = make(0)
    distributed, before = DistributedTrainer(trainer), weight(trainer)
    bad = X.copy()
    bad[-1] = np.nan
    expect_failure(last, FloatingPointError, "nan", lambda: distributed.step(own(bad), own(Y)))
    expect_failure(last, FloatingPointError, "row ", lambda: distributed.fit(own(bad), own(Y), epochs=3))
    expect_failure(0, FileNotFoundError, "No such", lambda: distributed.fit(own(X), own(Y), checkpoint="/no/such/file"))
    assert (weight(trainer) == before).all()
    history = distributed.fit(own(X), own(Y), epochs=9, on_epoch=lambda epoch: last == RANK and epoch.epoch == 3)
    assert history.epochs in (3, 4)
    distributed.verify()
    if SIZE > 1:
        if last == RANK:
            trainer.layer.load_state_dict({"weight": weight(trainer) + 1e-9, "bias": trainer.layer.bias})
        expect_failure(last, ValueError, "differ", distributed.verify)
        expect_failure(last, ValueError, "differ", lambda: distributed.fit(own(X), own(Y), epochs=2))
        distributed.broadcast()
        distributed.verify()


def resume(path):
    trainer, whole = make(RANK), make(0)
    DistributedTrainer(trainer).fit(own(X), own(Y), epochs=4, batch_size=1000, checkpoint=path)
    again = make(9)
    history = DistributedTrainer(again).fit(own(X), own(Y), epochs=7, batch_size=1000, checkpoint=path, resume=True)
    for _ in range(7):
        whole.step(X, Y)
    assert history.epochs == 3
    expect_close(again, whole)


if __name__ == "__main__":
    follow()
    errors()
    resume(Path(sys.argv[1]) / f"run-{SIZE}")
    if RANK == 0:
        print(f"pente.mpi with {SIZE} ranks: passed")
