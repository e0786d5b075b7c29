"""python -m pente: what is wrong is said in a line, and nothing is written. For tables: test_command_tables.py."""

import json
import os
import signal
import subprocess
import sys
import threading

import pente
import pytest
from command_support import data, hide, problem, refusal, run, write_csv


@pytest.fixture
def path(data, tmp_path):
    """A model of data's columns a and b."""
    path = tmp_path / "model.safetensors"
    assert run("train", data, "--target=y", "--out", path, "--epochs=2", "--quiet") == 0
    return path


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "pente: error: the following arguments are required: train|predict"),
        (["fit"], "pente: error: argument train|predict: invalid choice: 'fit'"),
        (["train"], "pente train: error: the following arguments are required: DATA, --out"),
        (["predict", "x.csv"], "pente predict: error: the following arguments are required: --model"),
        (
            ["train", "x.csv", "--out=m", "--hidden=8,,4"],
            "pente train: error: argument --hidden: '' is not a whole number",
        ),
        (["train", "x.csv", "--out=m", "--hidden=8.5"], "pente train: error: argument --hidden: '8.5' is not a whole"),
        (
            ["train", "x.csv", "--out=m", "--epochs=0"],
            "pente train: error: argument --epochs: '0' is not a whole number",
        ),
        (["train", "x.csv", "--out=m", "--lr=0"], "pente train: error: argument --lr: '0' is not a number above 0"),
        (["train", "x.csv", "--out=m", "--lr=inf"], "pente train: error: argument --lr: 'inf' is not a number above 0"),
        (["train", "x.csv", "--out=m", "--lr=nan"], "pente train: error: argument --lr: 'nan' is not a number above 0"),
        (
            ["train", "x.csv", "--out=m", "--momentum=1"],
            "pente train: error: argument --momentum: '1' is not a number from",
        ),
        (["train", "x.csv", "--out=m", "--validation=-1"], "pente train: error: argument --validation: '-1' is not a"),
        (["train", "x.csv", "--out=m", "--seed=-1"], "pente train: error: argument --seed: '-1' is not a whole number"),
        (
            ["train", "x.csv", "--out=m", "--activation=gelu"],
            "pente train: error: argument --activation: invalid choice",
        ),
        (
            ["train", "x.csv", "--out=m", "--schedule=up"],
            "pente train: error: argument --schedule: invalid choice: 'up'",
        ),
        (
            ["predict", "x.csv", "--model=m", "--out=y.parquet"],
            "pente predict: error: argument --out: 'y.parquet' does not",
        ),
        (["train", "x.csv", "--out=m", "--epoch=3"], "pente: error: unrecognized arguments: --epoch=3"),
    ],
)
def test_usage(capfd, arguments, message):
    assert refusal(capfd, *arguments).startswith(f"2 {message}")


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "{data}: --target is missing; its columns are a, b, y"),
        (["--target=z"], "{data} has no column 'z'; its columns are a, b, y"),
        (["--target=y", "--features=a,c"], "{data} has no column 'c'; its columns are a, b, y"),
        (["--target=y", "--target=y"], "column 'y' is named twice; "),
        (["--target=y", "--features=a,y"], "column 'y' is named twice; "),
        (
            ["--target=a", "--target=b", "--target=y"],
            "{data} has no columns but the targets, so nothing to predict from",
        ),
        (["--target=y", "--lr=1000"], "the training diverged: its loss grew to "),
        (["--target=y", "--lr=1e300"], "the training diverged: its loss grew to inf; try --lr 1e+299"),
        (["--target=y", "--lr=1e308", "--epochs=1", "--batch-size=99", "--validation=0"], "the training diverged: "),
        (["--target=y", "--hidden=99999999999"], "there is not enough memory for this"),
    ],
)
def test_training(data, tmp_path, capfd, options, message):
    said = refusal(capfd, "train", data, "--out", tmp_path / "new", *options)
    assert said.startswith("1 pente train: error: " + message.format(data=data))
    assert os.listdir(tmp_path) == ["data.csv"]


def test_numbers_that_the_dtype_cannot_hold(tmp_path, capfd):
    for values, column in [((1e39, 1), "a"), ((1, -1e39), "y")]:
        table = write_csv(tmp_path / "large.csv", "ay", [values, (2, 2), (3, 3)])
        said = refusal(capfd, "train", table, "--target=y", "--out", tmp_path / "new", "--dtype=float32")
        assert said == (
            f"1 pente train: error: column '{column}' has numbers that float32 cannot hold; scale it, or use --dtype "
            "float64"
        )
    table = write_csv(tmp_path / "tiny.csv", "ay", [(1e-320, 1), (2e-320, 2), (3e-320, 3), (4e-320, 4)])
    said = refusal(capfd, "train", table, "--target=y", "--out", tmp_path / "new")
    assert said.startswith(
        "1 pente train: error: a column cannot be scaled, since its numbers differ by almost nothing: "
    )
    table = write_csv(tmp_path / "huge.csv", "ay", [(1e308, 1), (-1e308, 2e300), (1e308, 3), (5, -4e307)])
    assert run("train", table, "--target=y", "--out", tmp_path / "new") == 0


def test_where_nothing_can_be_written(data, tmp_path, path, capfd, monkeypatch):
    """It is said before the training, and what is read is never written."""
    before = data.read_bytes(), path.read_bytes()
    (tmp_path / "link.csv").symlink_to(data)
    (tmp_path / "model.csv").symlink_to(path)
    os.link(data, tmp_path / "hard.csv")
    train = ["train", data, "--target=y", "--epochs=1000000000"]
    predict = ["predict", data, "--model", path]
    for arguments, reason in [
        ([*train, "--out", tmp_path / "none/model"], f"there is no folder {tmp_path / 'none'}"),
        ([*train, "--out", tmp_path], "it is no regular file"),
        ([*train, "--out", "/dev/null"], "it is no regular file"),
        ([*train, "--out", data], f"it is the same file as {data}"),
        ([*train, "--out", tmp_path / "link.csv"], f"it is the same file as {data}"),
        ([*train, "--out", tmp_path / "hard.csv"], f"it is the same file as {data}"),
        (
            [*train, "--out", tmp_path / "new", "--plot", tmp_path / "none/curve.png"],
            f"there is no folder {tmp_path / 'none'}",
        ),
        (
            [*train, "--out", tmp_path / "x.png", "--plot", tmp_path / "x.png"],
            f"it is the same file as {tmp_path / 'x.png'}",
        ),
        ([*predict, "--out", tmp_path / "none/found.csv"], f"there is no folder {tmp_path / 'none'}"),
        ([*predict, "--out", data], f"it is the same file as {data}"),
        ([*predict, "--out", tmp_path / "model.csv"], f"it is the same file as {path}"),
    ]:
        target = arguments[arguments.index("--plot" if "--plot" in arguments else "--out") + 1]
        said = refusal(capfd, *arguments)
        assert said == f"1 pente {arguments[0]}: error: {target} cannot be written: {reason}"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refusal(capfd, *train, "--out", tmp_path / "new").endswith(f"the folder {tmp_path} is not writable")
    assert (data.read_bytes(), path.read_bytes()) == before and not (tmp_path / "new").exists()


def test_a_picture_that_cannot_be_drawn(data, tmp_path, capfd, hide):
    pytest.importorskip("matplotlib")
    arguments = ["train", data, "--target=y", "--epochs=1000000000", "--out", tmp_path / "new", "--plot"]
    said = refusal(capfd, *arguments, tmp_path / "curve.doc")
    assert said.startswith(f"1 pente train: error: {tmp_path / 'curve.doc'} is no picture that can be drawn: ")
    hide("matplotlib")
    said = refusal(capfd, *arguments, tmp_path / "curve.png")
    assert said == "1 pente train: error: --plot needs matplotlib, which is not installed: pip install matplotlib"


def test_an_old_file_stays_if_the_disk_is_full(data, path, tmp_path, capfd, monkeypatch):
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    said = refusal(capfd, "train", data, "--target=y", "--out", path)
    assert said == f"1 pente train: error: {path} cannot be written: No space left on device"
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["data.csv", path.name]


def test_the_model_is_not_written_where_there_is_no_room_for_it(data, path, capfd, monkeypatch):
    """It is made in the folder for temporary files first."""

    def fail():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", fail)
    said = refusal(capfd, "train", data, "--target=y", "--epochs=1", "--quiet", "--out", path)
    assert said == f"1 pente train: error: {path} cannot be written: No space left on device"


def test_a_table_that_cannot_be_read_to_its_end(data, tmp_path, capfd, monkeypatch):
    def fail(table, indices):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pente._command.tables.CSVTable._read", fail)
    said = refusal(capfd, "train", data, "--target=y", "--out", tmp_path / "new")
    assert said == f"1 pente train: error: {data}: Input/output error"


def test_what_a_killed_process_has_left_is_no_obstacle(data, path, tmp_path):
    """Not for a process of the same number either, as containers have them."""
    left = tmp_path / f".pente-{os.getpid()}.tmp"
    left.write_bytes(b"half a mod")
    path.chmod(0o640)
    before = path.read_bytes()
    assert run("train", data, "--target=y", "--epochs=1", "--quiet", "--out", path) == 0
    assert path.read_bytes() != before and path.stat().st_mode & 0o777 == 0o640  # an old file's permissions stay
    assert sorted(os.listdir(tmp_path)) == sorted([left.name, "data.csv", path.name])


def test_ctrl_c(data, tmp_path, capfd):
    """During the training: nothing is written."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    try:
        timer.start()
        said = refusal(
            capfd, "train", data, "--target=y", "--out", tmp_path / "new", "--epochs=10000000", "--patience=0"
        )
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, old)
    assert said == "130 pente train: interrupted; nothing was written"
    assert os.listdir(tmp_path) == ["data.csv"]


def test_models_that_cannot_be_used(data, path, tmp_path, capfd):
    damaged = tmp_path / "damaged"
    content = path.read_bytes()
    for bad in [b"", b"a,b\n1,2\n", content[:-1], content[:100], content.replace(b"scaler", b"scalar")]:
        damaged.write_bytes(bad)
        said = refusal(capfd, "predict", data, "--model", damaged)
        assert said.startswith(f"1 pente predict: error: {damaged} is no model that can be loaded: ")
    missing = refusal(capfd, "predict", data, "--model", tmp_path / "none")
    assert missing == f"1 pente predict: error: {tmp_path / 'none'}: No such file or directory"
    pente.ReLU().save(damaged)
    said = refusal(capfd, "predict", data, "--model", damaged)
    assert said.startswith(f"1 pente predict: error: {damaged} holds ReLU() alone, which is no model")


@pytest.mark.parametrize(
    "entry",
    [
        "nonsense",
        "[]",
        '{"what": 1}',
        '{"features": ["a", "b"]}',
        '{"features": ["a"], "targets": ["y"]}',
        '{"features": [1, 2], "targets": ["y"]}',
        '{"features": 2, "targets": ["y"]}',
        '{"features": "ab", "targets": "y"}',
        '{"features": {"a": 1, "b": 2}, "targets": ["y"]}',
        '{"features": ["a", "b"], "targets": ["\\ud800"]}',
        "[" * 100_000,
    ],
)
def test_names_that_are_damaged_are_as_none(data, path, capfd, entry):
    """Another program may have written the entry, or changed the layer under it."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"]["pente.columns"] = entry
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    capfd.readouterr()
    assert run("predict", data, "--model", path, "--target=y") == 0
    assert capfd.readouterr().out.startswith("prediction\n")


def test_columns_that_do_not_fit_the_model(data, path, tmp_path, capfd):
    other = write_csv(tmp_path / "other.csv", "acy", problem())
    said = refusal(capfd, "predict", other, "--model", path)
    assert said == f"1 pente predict: error: {other} has no column 'b'; its columns are a, c, y"
    said = refusal(capfd, "predict", data, "--model", path, "--target=z")
    assert said == f"1 pente predict: error: {data} has no column 'z'; its columns are a, b, y"
    said = refusal(capfd, "predict", data, "--model", path, "--target=y", "--target=a")
    assert said == f"1 pente predict: error: {path} has 1 output, but --target names 2"
    said = refusal(capfd, "predict", data, "--model", path, "--features=a,b,y")
    end = "; --features says which ones go in, --target which ones do not"
    assert said == (
        f"1 pente predict: error: 3 columns of {data} would go into the model, but {path} takes 2 features: a, b{end}"
    )
    pente.Layer.load(path).save(path)  # it has no names any more
    said = refusal(capfd, "predict", data, "--model", path)
    assert (
        said == f"1 pente predict: error: 3 columns of {data} would go into the model, but {path} takes 2 features{end}"
    )
    numbers = write_csv(tmp_path / "gap.csv", "ab", [(1, 2), (3, "")])
    said = refusal(capfd, "predict", numbers, "--model", path)
    assert said.startswith(f"1 pente predict: error: {numbers}: column 'b' has no value in row 2")
    assert os.path.exists(path)


def test_npy_without_numpy(data, path, tmp_path, capfd, hide):
    hide("numpy")
    out = tmp_path / "found.npy"
    said = refusal(capfd, "predict", data, "--model", path, "--out", out)
    assert said == f"1 pente predict: error: {out}: a .npy file needs numpy, which is not installed: pip install numpy"
    assert not out.exists()


@pytest.mark.parametrize("device, status, message", [("/dev/full", 1, "No space left on device\n"), (None, 1, "")])
def test_standard_output_that_ends(data, path, device, status, message):
    """A full disk is an error; a reader who has enough, as head, is none that anyone wants to hear of."""
    if device:
        output = os.open(device, os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    command = [sys.executable, "-P", "-m", "pente", "predict", data, "--model", path]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    os.close(output)
    assert done.returncode == status
    assert done.stderr == (f"pente predict: error: standard output: {message}" if message else "")


def run_with_closed(files, *arguments):
    command = [sys.executable, "-P", "-m", "pente", *map(str, arguments)]
    close = lambda: [os.close(file) for file in files]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=close, timeout=60)


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_standard_files_may_be_closed(data, path, tmp_path, closed):
    """As by >&-: nothing of the model or the predictions mixes with what would have been printed."""
    arguments = ["train", data, "--target=y", "--epochs=2", "--out"]
    assert run(*arguments, tmp_path / "expected") == 0
    assert run_with_closed(closed, *arguments, tmp_path / "new").returncode == 0
    assert (tmp_path / "new").read_bytes() == (tmp_path / "expected").read_bytes()
    expected = run_with_closed([], "predict", data, "--model", path, "--target=y")
    done = run_with_closed(closed, "predict", data, "--model", path, "--target=y")
    if 1 in closed:
        assert (done.returncode, done.stdout) == (1, "") and ("no standard output" in done.stderr) == (2 not in closed)
    else:
        assert (done.returncode, done.stdout) == (0, expected.stdout)


def test_any_terminal_will_do(data, tmp_path):
    """One that has no R² either."""
    command = [sys.executable, "-P", "-m", "pente", "train", data, "--target=y", "--out", tmp_path / "new"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"") and b"\\u2581" in done.stdout
