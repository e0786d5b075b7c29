"""Gradients of batches that lie in several places, and fits that are one of several."""

import threading


import pytest

import pente

np = pytest.importorskip("numpy")

RNG = np.random.default_rng(5)
X, Y, WEIGHT = RNG.standard_normal((60, 4)), RNG.standard_normal((60, 2)), RNG.uniform(0, 2, 60)


def make(dtype="float64", seed=1):
    layer = pente.Chain(pente.Linear(4, 5, dtype=dtype), pente.Tanh(dtype), pente.Linear(5, 2, dtype=dtype))
    layer.reset_parameters(seed)
    return pente.Trainer(layer, pente.SGD(layer, lr=0.1, momentum=0.9), pente.MSELoss())


def weights(trainer):
    return np.concatenate([np.asarray(p).ravel() for p in trainer.layer.state_dict().values()])


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_shards_follow_the_whole(dtype, tolerance, weighted):
    x, y, w = (a.astype(dtype) for a in (X, Y, WEIGHT))
    whole, shards = make(dtype), [make(dtype) for _ in range(3)]
    for _ in range(10):
        loss = whole.step(x, y, w if weighted else None)
        for shard, (first, end) in zip(shards, [(0, 7), (7, 8), (8, 60)]):
            shard.accumulate(x[first:end], y[first:end], w[first:end] if weighted else None)
        total = sum(np.asarray(shard.sums) for shard in shards)
        assert total[-2] == pytest.approx(w.sum() if weighted else 60) and total[-1] == pytest.approx(2 * total[-2])
        for shard in shards:
            shard.sums = total
            assert shard.apply_sums() == pytest.approx(loss, rel=tolerance)
    for shard in shards:
        assert np.abs(weights(shard) - weights(whole)).max() <= tolerance * np.abs(weights(whole)).max() * 10


def test_errors():
    trainer = make()
    with pytest.raises(RuntimeError, match="no rows"):
        trainer.apply_sums()
    with pytest.raises(ValueError, match="3"):
        trainer.sums = np.zeros(3)
    with pytest.raises(ValueError, match=r"sums\[0\] is nan"):
        trainer.sums = np.full(len(trainer.sums), np.nan)
    with pytest.raises(ValueError, match="rows"):
        trainer.sums = np.zeros((2, len(trainer.sums)))
    with pytest.raises(TypeError, match="float64"):
        trainer.sums = np.zeros(len(trainer.sums), "f4")
    with pytest.raises(TypeError, match="None empties"):
        del trainer.sums
    with pytest.raises(FloatingPointError):
        trainer.accumulate(np.full((1, 4), np.nan), Y[:1])
    trainer.accumulate(X, Y)
    assert np.asarray(trainer.sums).any()
    trainer.sums = None
    assert not np.asarray(trainer.sums).any()


class Meeting:
    """An allreduce of threads."""

    def __init__(self, count):
        self.numbers, self.barrier = [None] * count, threading.Barrier(count, timeout=30)

    def reducer(self, rank):
        def reduce(vector):
            self.numbers[rank] = np.array(vector)
            self.barrier.wait()
            total = sum(self.numbers[1:], self.numbers[0])
            self.barrier.wait()
            np.asarray(vector)[:] = total
        return reduce


def run_together(trainers, shards, **options):
    meeting, results = Meeting(len(trainers)), [None] * len(trainers)

    def run(rank):
        first, end = shards[rank]
        own = {k: v(rank) if callable(v) and k != "on_epoch" else v for k, v in options.items()}
        try:
            results[rank] = trainers[rank].fit(X[first:end], Y[first:end], reduce=meeting.reducer(rank), **own)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            results[rank] = error
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(trainers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_fits_of_several():
    trainers, whole = [make() for _ in range(3)], make()
    shards = [(0, 30), (30, 35), (35, 60)]
    histories = run_together(trainers, shards, epochs=4, batch_size=10, shuffle=False)
    for _ in range(4):
        for step in range(3):
            rows = np.concatenate([np.arange(first, end)[10 * step:10 * step + 10] for first, end in shards])
            whole.step(X[rows], Y[rows])
    for trainer, history in zip(trainers, histories):
        assert history.epochs == 4 and history.training_losses == histories[0].training_losses
        assert np.abs(weights(trainer) - weights(whole)).max() <= 1e-12
        assert (weights(trainer) == weights(trainers[0])).all()


def test_one_stops_all():
    trainers = [make() for _ in range(2)]
    stops = run_together(trainers, [(0, 30), (30, 60)], epochs=50, on_epoch=lambda epoch: epoch.epoch == 3)
    assert [h.epochs for h in stops] == [3, 3]
    assert (weights(trainers[0]) == weights(trainers[1])).all()


def test_what_reduce_raises():
    trainer, before = make(), weights(make())
    count = len(trainer.sums)

    def fail(vector):
        assert len(vector) == count + 2
        raise OSError("the network is down")

    with pytest.raises(OSError, match="the network is down"):
        trainer.fit(X, Y, reduce=fail)
    assert (weights(trainer) == before).all()
    with pytest.raises(TypeError, match="reduce must be callable"):
        trainer.fit(X, Y, reduce=3)
