import pathlib
import subprocess
import sys

import pytest
import typed_example
from support import matrix


def test_the_example_runs(tmp_path):
    history, losses = typed_example.train(
        matrix([[1, 2], [3, 4], [0, 1]]), matrix([[1], [2], [3]]), tmp_path / "layer"
    )
    assert history.training_losses == losses


def check(*command):
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stubs_and_example_are_strictly_typed(tmp_path):
    pytest.importorskip("mypy")
    example = pathlib.Path(typed_example.__file__)
    check("mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "pente")
    check("mypy", "--strict", "--cache-dir", str(tmp_path), str(example))


def test_stubs_are_what_is_there(tmp_path, monkeypatch):
    pytest.importorskip("mypy")
    monkeypatch.chdir(tmp_path)
    allowed = tmp_path / "allowed"
    allowed.write_text(r"pente\._pente\.Matrix\.__buffer__")  # Python has a name for it from 3.12 on
    check("mypy.stubtest", "pente", "--allowlist", str(allowed), "--ignore-unused-allowlist")


@pytest.mark.parametrize(
    "line",
    [
        "pente.Linear('3', 2)",
        "pente.Linear(3, 2, dtype='float16')",
        "pente.MSELoss('average')",
        "pente.SGD(pente.Linear(3, 2), rate=1.0)",
        "pente.SGD([{'lr': 1.0}])",
        "pente.Linear(3, 2).predict([1.0])",
        "pente.Linear(3, 2).weight = None",
        "pente.gradcheck(None, b'', None, None, 1e-6)",
        "class Mine(pente.Linear): ...",
    ],
)
def test_mistakes_are_found(tmp_path, line):
    api = pytest.importorskip("mypy.api")
    (tmp_path / "mistake.py").write_text(f"import pente\n{line}\n")
    output, _, status = api.run(["--strict", f"--cache-dir={tmp_path}", str(tmp_path / "mistake.py")])
    assert status == 1 and "mistake.py:2" in output
