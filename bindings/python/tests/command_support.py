"""What the command's tests share."""

import csv
import random
import sys
from pathlib import Path

import pytest
from pente import _command

ROOT = Path(__file__).resolve().parents[3]
DIABETES = ROOT / "data/diabetes.csv"
LINNERUD = ROOT / "data/linnerud.csv"


def run(*arguments):
    """Runs the command in this process and returns its exit status."""
    try:
        return _command.main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's
        return end.code


def refusal(capfd, *arguments):
    """The one line on stderr of a run that fails, with its exit status before it: "1 pente train: error: ..."."""
    capfd.readouterr()
    status = run(*arguments)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith("\n"), err
    return f"{status} {err[:-1]}"


def write_csv(path, names, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def problem(rows=60, seed=0):
    """Unscaled features from 0 to 1000 and y = 3a - 2b + 500, with a little noise."""
    generator = random.Random(seed)
    pairs = [(generator.uniform(0, 1000), generator.uniform(0, 1000)) for _ in range(rows)]
    return [(a, b, 3 * a - 2 * b + 500 + generator.gauss(0, 10)) for a, b in pairs]


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "data.csv", "aby", problem())


@pytest.fixture
def hide(monkeypatch):
    """Makes modules as good as not installed."""

    def hide(*names):
        loaded = [name for name in sys.modules if name.partition(".")[0] in names]
        for name in [*names, *loaded]:
            monkeypatch.setitem(sys.modules, name, None)

    return hide
