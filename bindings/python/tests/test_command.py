"""python -m pente: what it trains, writes and predicts."""

import csv
import json
import math
import os
import random
import subprocess
import sys
import termios

import pente
import pytest
from command_support import DIABETES, LINNERUD, ROOT, data, hide, problem, run, write_csv
from pente._command import model, report
from pente._command.schedules import SCHEDULES
from support import DTYPES, matrix, snapshot

BODY = ["--target=weight", "--target=waist", "--target=pulse"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def train(table, path, *options):
    assert run("train", table, "--out", path, "--quiet", *options) == 0
    return pente.Layer.load(path)


def predict(capfd, *arguments):
    """Names and rows that are predicted, and the report."""
    capfd.readouterr()
    assert run("predict", *arguments) == 0
    out, err = capfd.readouterr()
    names, *rows = csv.reader(out.splitlines())
    return names, [[float(cell) for cell in row] for row in rows], err


def rows_of(path):
    with open(path, newline="") as file:
        return [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]


# ---- What it learns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_unscaled_columns_need_no_option(data, path, dtype):
    chain = train(data, path, "--target", "y", "--dtype", dtype)
    assert [type(layer).__name__ for layer in chain] == ["Scaler", "Linear"] and chain.dtype == dtype
    for a, b in [(0, 0), (1000, 0), (500, 1000)]:
        assert chain.predict(matrix([[a, b]], dtype))[0, 0] == pytest.approx(3 * a - 2 * b + 500, abs=20)


@pytest.mark.parametrize("table, targets", [(DIABETES, ["--target=progression"]), (LINNERUD, BODY)])
def test_least_squares_are_reached(table, targets, path, capfd):
    """As scikit-learn solves them, when there is time to; on the same rows to train on and to validate with."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    count = len(targets)
    options = ["--patience=0", "--epochs=1000", "--schedule=cosine", "--batch-size=1000", "--lr=0.1"]
    chain = train(table, path, *targets, *options)
    rows = rows_of(table)
    for part in model.split(len(rows), 0.2, 0):
        x, y = [rows[i][:-count] for i in part], [rows[i][-count:] for i in part]
        if part[0] == model.split(len(rows), 0.2, 0)[0][0]:
            judge = linear_model.LinearRegression().fit(x, y)
        assert chain.predict(matrix(x)).tolist() == [pytest.approx(row, rel=1e-2) for row in judge.predict(x).tolist()]


def test_no_option_is_needed_for_a_good_model(path, capfd):
    """Early stopping costs the training rows a little, and the rows held out nothing."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = rows_of(DIABETES)
    training, held_out = ([rows[i] for i in part] for part in model.split(len(rows), 0.2, 0))
    judge = linear_model.LinearRegression().fit([row[:-1] for row in training], [row[-1] for row in training])
    assert run("train", DIABETES, "--target=progression", "--out", path) == 0
    out, err = capfd.readouterr()
    name, _, found_training, _, found_held_out = out.splitlines()[-2].split()
    assert name == "progression" and err == ""
    for part, found, tolerance in [(training, found_training, 0.03), (held_out, found_held_out, 0.01)]:
        theirs = judge.score([row[:-1] for row in part], [row[-1] for row in part])
        assert float(found) > theirs - tolerance


def test_a_network_learns_what_no_line_can(tmp_path, path):
    generator = random.Random(0)
    rows = [(a, abs(a - 500)) for a in (generator.uniform(0, 1000) for _ in range(300))]
    table = write_csv(tmp_path / "abs.csv", "ay", rows)
    chain = train(table, path, "--target=y", "--hidden=16,8", "--activation=tanh")
    assert [type(layer).__name__ for layer in chain] == ["Scaler", "Linear", "Tanh", "Linear", "Tanh", "Linear"]
    x, y = [[a] for a, _ in rows], [y for _, y in rows]
    line = train(table, path, "--target=y")
    assert model.r_squared(model.columns_of(line.predict(matrix(x)))[0], y) < 0.1
    assert model.r_squared(model.columns_of(chain.predict(matrix(x)))[0], y) > 0.99


@pytest.mark.parametrize("activation", model.ACTIVATIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_activation_and_schedule_learns(data, path, activation, schedule):
    chain = train(data, path, "--target=y", "--hidden=8", f"--activation={activation}", f"--schedule={schedule}")
    rows = rows_of(data)
    found = chain.predict(matrix([row[:2] for row in rows]))
    assert model.r_squared(model.columns_of(found)[0], [row[2] for row in rows]) > 0.9


def test_every_schedule_is_another_model(data, path):
    def content(schedule):
        train(data, path, "--target=y", "--epochs=60", "--patience=0", "--schedule", schedule)
        return path.read_bytes()

    assert len(set(map(content, SCHEDULES))) == len(SCHEDULES)


def test_a_seed_is_a_model(data, path, monkeypatch):
    def content(*options):
        train(data, path, "--target=y", "--hidden=4", "--epochs=5", *options)
        return path.read_bytes()

    assert content() == content("--seed=0") != content("--seed=1")
    split, new_chain = model.split, model.new_chain
    assert split(50, 0.2, 0) == split(50, 0.2, 0) != split(50, 0.2, 1)
    weights = [snapshot(new_chain(3, 2, [4], "tanh", "float64", seed)) for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    # The shuffles alone.
    monkeypatch.setattr(model, "split", lambda rows, fraction, seed: split(rows, fraction, 0))
    monkeypatch.setattr(model, "new_chain", lambda *arguments: new_chain(*arguments[:-1], 0))
    assert content() == content("--seed=0") != content("--seed=1")


def test_the_folded_scale_is_the_scaled_model(data):
    """The last layer with the targets' scale in it, beside the scale applied to what it put out."""
    linear, scaler = pente.Linear(3, 2, dtype="float64", seed=0), pente.Scaler(2, "float64")
    scaler.fit(matrix([[1, 1000], [3, -1000], [8, 500]]))
    x = matrix([[1, 2, 3], [-1, 0.5, 0]])
    expected = [
        [value * scale + mean for value, scale, mean in zip(row, scaler.scale.tolist(), scaler.mean.tolist())]
        for row in linear.predict(x).tolist()
    ]
    model.fold(linear, scaler)
    assert linear.predict(x).tolist() == [pytest.approx(row, rel=1e-12) for row in expected]


def test_the_split_is_all_rows_once():
    for rows, fraction, held_out in [(10, 0.2, 2), (2, 0.2, 1), (2, 0.9, 1), (442, 0.2, 88), (7, 0.0, 0)]:
        training, validation = model.split(rows, fraction, seed=3)
        assert sorted(training + validation) == list(range(rows)) and len(validation) == held_out


def test_r_squared_and_rmse_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = random.Random(0)
    truth, found = ([generator.uniform(-5, 9) for _ in range(30)] for _ in range(2))
    assert model.r_squared(found, truth) == pytest.approx(metrics.r2_score(truth, found))
    assert model.rmse(found, truth) == pytest.approx(metrics.mean_squared_error(truth, found) ** 0.5)
    assert math.isnan(model.r_squared(found, [0.1] * 30))
    assert math.isnan(model.r_squared(found, [1e-200] * 15 + [0] * 15))


# ---- What it says ----------------------------------------------------------------------------------------------------


def test_the_report(data, path, capfd):
    assert run("train", data, "--target=y", "--out", path, "--epochs=30") == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "2 features, 1 target, 48 rows for training, 12 rows for validation"
    assert lines[1].startswith("30 epochs")
    assert lines[2].startswith("training   loss  ") and set("▁█") < set(lines[2])
    assert lines[3].startswith("validation loss  ")
    assert lines[4].split() == [
        "target",
        "training",
        "RMSE",
        "training",
        "R²",
        "validation",
        "RMSE",
        "validation",
        "R²",
    ]
    assert lines[5].split()[0] == "y" and all(float(score) > 0 for score in lines[5].split()[1:])
    assert lines[6] == f"written to {path}"
    assert run("train", data, "--target=y", "--out", path, "--validation=0", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_curves_are_drawn_small():
    assert report.sparkline([1.0]) == "▁"
    assert report.sparkline([8.0, 4.5, 1.0]) == "█▅▁"
    assert report.sparkline([2.0**-i for i in range(1000)], width=5) == "█▁▁▁▁"
    assert report.sparkline([math.inf, 1.0]) == report.sparkline([1.0, math.nan]) == "-"


def test_undefined_scores_are_said_to_be(tmp_path, path, capfd):
    """One row to validate with has no variance; nor has a constant column of true values."""
    table = write_csv(tmp_path / "few.csv", "ay", [(1, 1), (2, 3), (3, 4)])
    assert run("train", table, "--target=y", "--out", path) == 0
    assert capfd.readouterr().out.splitlines()[-2].split()[-1] == "undefined"
    flat = write_csv(tmp_path / "flat.csv", "ay", [(1, 5), (2, 5)])
    _, _, report = predict(capfd, flat, "--model", path, "--target=y")
    assert report.splitlines()[-1].split()[-1] == "undefined"


def test_a_picture(data, path, tmp_path):
    pytest.importorskip("matplotlib")
    for suffix, start in [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]:
        picture = tmp_path / f"curve.{suffix}"
        train(data, path, "--target=y", "--epochs=3", "--plot", picture)
        assert picture.read_bytes().startswith(start)


def test_a_bar_in_a_terminal(data, path):
    """Where stderr is one, if tqdm is there."""
    pytest.importorskip("tqdm")
    command = [sys.executable, "-m", "pente", "train", str(data), "--target=y", "--out", str(path)]
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, timeout=60)
    os.close(slave)
    said = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.returncode == 0 and "epoch" in said and "val_loss" in said


def test_the_script_and_the_module(data, path):
    script = os.path.join(os.path.dirname(sys.executable), "pente")
    for command in [[script], [sys.executable, "-P", "-m", "pente"]]:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, f"pente {pente.__version__}\n")
        done = subprocess.run([*command, "train", str(data), "--out", str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"pente train: error: {data}: --target is missing; its columns are a, b, y\n"


def test_the_manual(capsys):
    for arguments, words in [
        (["--help"], ["train", "predict", "exit status"]),
        (["train", "--help"], ["--target", "--hidden", "leaky_relu", "plateau", "(0.01)", ".parquet", "examples:"]),
        (["predict", "--help"], ["--model", "--out", "standard output", ".npy", "examples:"]),
    ]:
        assert run(*arguments) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)


# ---- What it predicts ------------------------------------------------------------------------------------------------


def test_columns_are_found_by_their_names(data, path, tmp_path, capfd):
    chain = train(data, path, "--target=y", "--epochs=3")
    rows = problem()
    expected = chain.predict(matrix([row[:2] for row in rows])).tolist()
    names, found, report = predict(capfd, data, "--model", path)
    assert (names, found, report) == (["y"], expected, "")
    shuffled = write_csv(tmp_path / "shuffled.csv", ["y", "b", "note", "a"], [(y, b, "text", a) for a, b, y in rows])
    assert predict(capfd, shuffled, "--model", path)[1] == expected
    without = write_csv(tmp_path / "without.csv", "ab", [row[:2] for row in rows])
    assert predict(capfd, without, "--model", path)[1] == expected
    renamed = write_csv(tmp_path / "renamed.csv", ["q", "p"], [(b, a) for a, b, _ in rows])
    assert predict(capfd, renamed, "--model", path, "--features=p,q")[1] == expected


def test_true_values_are_compared_with(path, capfd):
    train(LINNERUD, path, *BODY)
    _, found, report = predict(capfd, LINNERUD, "--model", path, *BODY)
    header, *lines = report.splitlines()
    assert header.split() == ["target", "RMSE", "R²"]
    truth = [row[3:] for row in rows_of(LINNERUD)]
    for k, name in enumerate(["weight", "waist", "pulse"]):
        pair = [row[k] for row in found], [row[k] for row in truth]
        assert lines[k].split() == [name, f"{model.rmse(*pair):.6g}", f"{model.r_squared(*pair):.4f}"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_predictions(path, tmp_path, capfd, dtype):
    numpy = pytest.importorskip("numpy")
    chain = train(LINNERUD, path, *BODY, "--epochs=3", "--dtype", dtype)
    expected = numpy.asarray(chain.predict(matrix([row[:3] for row in rows_of(LINNERUD)], dtype)))
    for name in ["found.csv", "found.npy"]:
        assert run("predict", LINNERUD, "--model", path, "--out", tmp_path / name) == 0
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "found.csv").read_text().splitlines()[0] == "weight,waist,pulse"
    read = numpy.loadtxt(tmp_path / "found.csv", delimiter=",", skiprows=1, dtype=dtype)
    assert read.tobytes() == expected.tobytes()  # every digit is there
    found = numpy.load(tmp_path / "found.npy")
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())
    assert run("predict", LINNERUD, "--model", path) == 0
    assert capfd.readouterr() == ((tmp_path / "found.csv").read_text(), "")


def test_columns_without_names_go_by_their_order(tmp_path, path, capfd):
    numpy = pytest.importorskip("numpy")
    numbers = numpy.array(problem())
    names = ["whole", "features", "reversed", "target_first"]
    orders = [[0, 1, 2], [0, 1], [1, 0], [2, 0, 1]]
    files = {name: tmp_path / f"{name}.npy" for name in names}
    for name, order in zip(names, orders):
        numpy.save(files[name], numbers[:, order])
    chain = train(files["whole"], path, "--epochs=3")
    expected = chain.predict(numbers[:, :2].copy()).tolist()
    found = [
        predict(capfd, files["whole"], "--model", path),
        predict(capfd, files["features"], "--model", path),
        predict(capfd, files["reversed"], "--model", path, "--features=1,0"),
        predict(capfd, files["target_first"], "--model", path, "--target=0"),
    ]
    assert [rows for _, rows, _ in found] == [expected] * 4
    assert found[0][0] == ["2"]

    # The same numbers, with a model that has names, and with one that has none.
    named = write_csv(tmp_path / "named.csv", "aby", problem())
    expected = train(named, path, "--target=y", "--epochs=3").predict(numbers[:, :2].copy()).tolist()
    assert predict(capfd, files["features"], "--model", path)[1] == expected
    pente.Layer.load(path).save(path)
    for arguments in [[files["features"]], [named, "--target=y"], [named, "--features=a,b"]]:
        names, rows, _ = predict(capfd, *arguments, "--model", path)
        assert (names, rows) == (["prediction"], expected)


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_the_file_remembers_names(tmp_path, path):
    """And other readers of safetensors read it as before."""
    names = ["naïve, 模型", 'quoted "x"', "pente"]
    table = write_csv(tmp_path / "names.csv", names, problem())
    train(
        table,
        path,
        "--target",
        names[2],
        "--features",
        f'"{names[0]}",{json.dumps(names[1])[1:-1]}'.replace('\\"', '"'),
    )
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(path, "numpy") as file:
        columns = json.loads(file.metadata()["pente.columns"])
        assert columns == {"features": names[:2], "targets": names[2:]}
        layer = pente.Layer.load(path)
        assert {name: file.get_tensor(name).tobytes() for name in file.keys()} == {
            name: bytes(value) for name, value in layer.state_dict().items()
        }
    assert path.stat().st_size % 8 == 0


def predict_in_c(table, path):
    program = ROOT / "build/bin/predict-c"
    if not program.exists():
        pytest.skip("make build/bin/predict-c")
    return subprocess.run([program, table, path], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("table, targets", [(DIABETES, ["--target=progression"]), (LINNERUD, BODY)])
@pytest.mark.parametrize("more", [[], ["--hidden=16", "--epochs=20"]])
def test_c_predicts_the_same_digits(table, targets, more, path, capfd):
    train(table, path, *targets, *more)
    capfd.readouterr()
    assert run("predict", table, "--model", path) == 0
    _, lines = capfd.readouterr().out.split("\n", 1)
    done = predict_in_c(table, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == lines and len(lines.splitlines()) == len(rows_of(table))


def test_c_says_what_does_not_fit(path):
    train(DIABETES, path, "--target=progression")
    for table, model, words in [
        (LINNERUD, path, "x has a row_stride of 6, below its 10 columns"),
        (DIABETES, path.with_name("none"), "No such file or directory"),
        (DIABETES, DIABETES, "its header is longer than the file"),
    ]:
        done = predict_in_c(table, model)
        assert done.returncode == 1 and done.stdout == "" and words in done.stderr, done.stderr
    train(DIABETES, path, "--target=progression", "--dtype=float32")
    assert "x is float64, but float32 was expected" in predict_in_c(DIABETES, path).stderr


def test_the_committed_predictions(capfd):
    """Of a network that the command has trained; Swift's tests read the same files."""
    files = ROOT / "Tests/data/linnerud.safetensors", ROOT / "Tests/data/linnerud.csv"
    assert run("predict", LINNERUD, "--model", files[0]) == 0
    assert capfd.readouterr() == (files[1].read_text(), "")
