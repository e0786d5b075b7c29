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


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("mypy"))


def check(*command):
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stubs_and_example_are_strictly_typed(cache):
    pytest.importorskip("mypy")
    example = pathlib.Path(typed_example.__file__)
    check("mypy", "--strict", "--cache-dir", cache, "-p", "pente")
    check("mypy", "--strict", "--cache-dir", cache, str(example))


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
        "pente.Chain(3)",
        "pente.Chain(pente.Linear(3, 2))['0']",
        "pente.Chain(pente.Linear(3, 2))[0].weight",
        "pente.ReLU(0.1)",
        "pente.LeakyReLU('float64')",
        "pente.CustomLayer(3, 2, forward=3)",
        "pente.CustomLayer(parameters={'a': 1.0})",
        "pente.Linear(3, 2).save('file', pente.MSELoss())",
        "pente.Linear(3, 2).in_features = 4",
        "pente.SGD(pente.Linear(3, 2)).step_count = 0",
        "pente.lr_scheduler.StepLR(pente.SGD(pente.Linear(3, 2)), 3).step(0.5)",
        "pente.lr_scheduler.ReduceLROnPlateau(pente.SGD(pente.Linear(3, 2)), 'least')",
        "(lambda relu: relu.in_features + 1)(pente.ReLU())",
    ],
)
def test_mistakes_are_found(tmp_path, cache, line):
    api = pytest.importorskip("mypy.api")
    (tmp_path / "mistake.py").write_text(f"import pente\n{line}\n")
    output, _, status = api.run(["--strict", "--cache-dir", cache, str(tmp_path / "mistake.py")])
    assert status == 1 and "mistake.py:2" in output
