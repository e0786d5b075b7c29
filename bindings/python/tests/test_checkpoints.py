"""Checkpoints: a run that was interrupted, killed even, and is resumed ends with the bits of one that was not."""

import random
import signal
import subprocess
import sys
import time

import pente
import pytest
from pente import lr_scheduler
from support import problem, snapshot

np = pytest.importorskip("numpy")

from source_support import batches_of, examples, new_trainer, save  # noqa: E402


def schedulers(optimizer):
    warm_up = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    return {
        "none": None,
        "plateau": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.3),
        "sequence": lr_scheduler.SequentialLR(optimizer, [warm_up, lr_scheduler.StepLR(optimizer, 2)], [3]),
    }


def run(data, checkpoint=None, scheduler="none", epochs=8, **options):
    """All objects are new, as they are in another process."""
    trainer = new_trainer()
    x, _, _ = examples(50, seed=3)
    validation = (x, x[:, :2].copy())
    chosen = schedulers(trainer.optimizer)[scheduler] if scheduler != "none" else None
    history = trainer.fit(
        *data, epochs=epochs, batch_size=16, seed=2, validation=validation, patience=100, checkpoint=checkpoint,
        lr_scheduler=chosen, **options,
    )
    state = None if chosen is None else chosen.state_dict()
    return snapshot(trainer.layer), trainer.optimizer.groups, history, state


def data_of(kind, folder):
    x, y, _ = examples()
    if kind == "memory":
        return x, y
    if kind == "files":
        return (pente.NPYSource(*save(folder, x=x, y=y)),)
    return (pente.BatchSource(batches_of(x, y)),)


@pytest.mark.parametrize("kind", ["memory", "files", "batches"])
@pytest.mark.parametrize("scheduler", ["none", "plateau", "sequence"])
def test_a_resumed_run_is_one_that_was_never_interrupted(tmp_path, kind, scheduler):
    data, path = data_of(kind, tmp_path), tmp_path / "run"
    whole = run(data, scheduler=scheduler)
    assert run(data, path, scheduler, epochs=3, resume=True)[2].epochs == 3  # there is no file yet
    resumed = run(data, path, scheduler, resume=True)
    assert resumed == whole and len(resumed[2].learning_rates) == 8
    assert len(set(whole[2].learning_rates)) > (scheduler != "none")
    assert run(data, path, scheduler, resume=True) == whole  # of which nothing is left to do
    again = run(data, path, scheduler, resume=True, epochs=10, on_epoch=lambda epoch: epoch.epoch == 9)
    assert again[2].epochs == 9 and again[2].training_losses[:8] == whole[2].training_losses


def test_an_interrupted_run_in_the_same_process(tmp_path):
    """The scheduler has made steps, and is where the checkpoint is nevertheless."""
    trainer, (x, y, _) = new_trainer(), examples()
    scheduler = lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0, factor=0.5, threshold=0.3)
    options = {"epochs": 9, "checkpoint": tmp_path / "run", "checkpoint_epochs": 4, "lr_scheduler": scheduler}

    def interrupt(epoch):
        if epoch.epoch == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, on_epoch=interrupt, **options)
    history = trainer.fit(x, y, resume=True, **options)
    whole = new_trainer()
    scheduler = lr_scheduler.ReduceLROnPlateau(whole.optimizer, patience=0, factor=0.5, threshold=0.3)
    assert whole.fit(x, y, epochs=9, lr_scheduler=scheduler).learning_rates == history.learning_rates
    assert snapshot(whole.layer) == snapshot(trainer.layer)


KILLED = """
import sys, numpy as np, pente
folder, kind, checkpoint = sys.argv[1:4]
paths = folder + "/x.npy", folder + "/y.npy"
x, y = (np.load(path) for path in paths)

def batches():
    for first in range(0, len(x), 1000):
        yield x[first:first + 1000], y[first:first + 1000]

layer = pente.Chain(pente.Linear(5, 16, seed=0), pente.Tanh(), pente.Linear(16, 2, seed=1))
trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01, momentum=0.9), pente.MSELoss())
sys.stderr.write("begun")
sys.stderr.flush()
history = trainer.fit(
    pente.BatchSource(batches) if kind == "batches" else pente.NPYSource(*paths), epochs=5, batch_size=8, seed=4,
    lr_scheduler=pente.lr_scheduler.ExponentialLR(trainer.optimizer, 0.7), shuffle_window=20_000,
    checkpoint=checkpoint or None, checkpoint_epochs=2, checkpoint_seconds=0.01, resume=bool(checkpoint),
)
sys.stdout.buffer.write(b"".join(map(bytes, layer.state_dict().values())) + repr(history).encode())
"""


@pytest.mark.parametrize("kind", ["files", "batches"])
def test_killed_at_random_times(tmp_path, kind):
    x, y, _ = examples(400_000)
    save(tmp_path, x=x, y=y)
    command = [sys.executable, "-P", "-c", KILLED, str(tmp_path), kind]
    checkpoint, seed = tmp_path / "run", random.randrange(10**6)
    generator, kills, saves = random.Random(seed), 0, set()

    def start(*arguments):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr.read(5) == b"begun"
        return process, time.monotonic()

    process, began = start("")
    whole = process.communicate(timeout=60)[0]
    length = time.monotonic() - began
    while True:  # until it has been killed often enough, at different places
        process, _ = start(str(checkpoint))
        try:
            output = process.communicate(timeout=60 if kills > 2 and len(saves) > 1 else length * generator.uniform(0.15, 0.4))[0]
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            saves |= {checkpoint.read_bytes()} if checkpoint.exists() else set()
    assert output == whole and kills and saves, f"seed {seed}"


def test_what_resume_refuses(tmp_path):
    data, path = data_of("memory", tmp_path), tmp_path / "run"
    whole = run(data, path, "plateau", epochs=2)
    content = path.read_bytes()
    for change, error, message in [
        ({"shuffle": False}, ValueError, "run: its run had a shuffle of 1, but now it is 0"),
        ({"first_epoch": 1}, ValueError, "run: its run had a first_epoch of 0, but now it is 1"),
        ({"scheduler": "none"}, ValueError, r"run: its run had a schedule_count of \d+, but now it is 0"),
        ({"scheduler": "sequence"}, ValueError, r"run: its run had a schedule_count of \d+, but now it is \d+"),
        ({"checkpoint_epochs": -1}, ValueError, "checkpoint_epochs is -1"),
        ({"checkpoint_seconds": -1.0}, ValueError, "checkpoint_seconds is -1"),
        ({"checkpoint_seconds": "1"}, TypeError, "checkpoint_seconds must be a number, not '1'"),
    ]:
        with pytest.raises(error, match=message):
            run(data, path, **{"scheduler": "plateau", "resume": True, **change})
        assert path.read_bytes() == content
    with pytest.raises(ValueError, match="resume=True needs a checkpoint"):
        run(data, None, resume=True)
    with pytest.raises(ValueError, match="its run had a number of rows of 301, but now it is 300"):
        run([part[:300] for part in data], path, "plateau", resume=True)
    with pytest.raises(OSError, match="nowhere"):
        run(data, tmp_path / "nowhere" / "run")
    with pytest.raises(TypeError, match="path|PathLike"):
        run(data, 3)
    new_trainer().layer.save(path)
    with pytest.raises(ValueError, match="run: it holds no"):
        run(data, path, resume=True)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="run: "):
        run(data, path, "plateau", resume=True)
    path.write_bytes(content)
    assert run(data, path, "plateau", epochs=2, resume=True) == whole


def test_a_checkpoint_is_a_layer_in_a_file(tmp_path):
    trainer, (x, y, _) = new_trainer(), examples()
    trainer.fit(x, y, checkpoint=tmp_path / "run")
    assert pente.Linear.load(tmp_path / "run") == trainer.layer
    other = new_trainer()
    other.layer.load_parameters(tmp_path / "run", other.optimizer)
    assert other == trainer


def test_progress():
    layer, x, y = problem(rows=4096)
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=1e-6), pente.MSELoss())
    seen = []

    def on_progress(progress):
        seen.append(progress)
        with pytest.raises(RuntimeError, match="in use|busy"):
            trainer.optimizer.lr = 1.0
        return True  # which means nothing

    trainer.fit(x, y, epochs=10**6, batch_size=64, on_progress=on_progress, on_epoch=lambda epoch: len(seen) > 2, first_epoch=100)
    assert len(seen) == 3
    for progress in seen:
        assert progress.epochs == 1_000_100 and progress.rows == 4096 and 0 < progress.row <= 4096
        assert 0 < progress.loss < 10
        rows_left = (1_000_100 - progress.epoch + 1) * 4096 - progress.row
        assert progress.seconds_left == pytest.approx(rows_left / progress.rows_per_second)
    assert [p.epoch for p in seen] == sorted({p.epoch for p in seen})


def test_progress_of_an_unknown_number_of_rows():
    x, y, _ = examples(400_000)
    seen = []

    def batches():
        for batch in batches_of(x, y, sizes=(2000,))():
            time.sleep(0.002)
            yield batch

    new_trainer().fit(pente.BatchSource(batches), epochs=2, batch_size=100, on_progress=seen.append)
    assert seen[0].rows is None and seen[0].seconds_left is None and 0 < seen[0].row < 400_000
    assert all(p.rows == 400_000 and p.seconds_left >= 0 for p in seen if p.epoch > 1)


def test_the_bar_within_an_epoch(capfd):
    pytest.importorskip("tqdm")
    x, y, _ = examples(400_000)
    seen = []
    new_trainer().fit(pente.BatchSource(batches_of(x, y)), batch_size=1, epochs=2, progress=True, on_progress=seen.append)
    shown = capfd.readouterr().err
    assert seen and all(word in shown for word in ("row=", "/?", "/400000", "loss=", "rows/s=", "left=?", "left=00:0"))


def test_what_on_progress_raises_comes_out():
    """The steps done are kept, and what is called after it is not called with an exception about."""
    linear, x, y = problem("float64")
    own = pente.CustomLayer(forward=lambda x: x, backward=lambda x, y, grad_output: grad_output, dtype="float64")
    chain = pente.Chain(linear, own)
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.1), pente.MSELoss())
    calls = []

    def on_progress(progress):
        calls.append(progress)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trainer.fit(x, y, epochs=10**6, on_progress=on_progress, on_epoch=lambda epoch: None)
    assert len(calls) == 1 and trainer.optimizer.step_count > 0


def test_a_checkpoint_by_time(tmp_path):
    trainer, (x, y, _), path = new_trainer(), examples(), tmp_path / "run"
    ages = []
    trainer.fit(
        x, y, epochs=10**9, checkpoint=path, checkpoint_epochs=0, checkpoint_seconds=0.2,
        on_epoch=lambda epoch: path.exists() and ages.append(time.time() - path.stat().st_mtime) or len(ages) > 10,
    )
    assert ages[0] < 0.2


