import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pente
import pytest
import typed_example
from support import matrix

EXAMPLE = Path(typed_example.__file__)
PACKAGE = Path(pente.__file__).parent

MISTAKES = [
    "pente.Linear('3', 2)",
    "pente.Linear(3, 2, dtype='float16')",
    "pente.MSELoss('average')",
    "pente.SGD(pente.Linear(3, 2), rate=1.0)",
    "pente.SGD([{'lr': 1.0}])",
    "pente.Linear(3, 2).predict([1.0])",
    "pente.Linear(3, 2).weight = None",
    "pente.gradcheck(None, b'', None, None, 1e-6)",
    "pente.NPYSource(3, 'y.npy')",
    "pente.BatchSource(3)",
    "pente.BatchSource([]).rows = 3",
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
    "pente.SGD(pente.Linear(3, 2)).layers = ()",
    "pente.SGD(pente.Linear(3, 2)).clip_gradients()",
    "pente.lr_scheduler.StepLR(pente.SGD(pente.Linear(3, 2)), 3).step(0.5)",
    "pente.lr_scheduler.ReduceLROnPlateau(pente.SGD(pente.Linear(3, 2)), 'least')",
    "(lambda relu: relu.in_features + 1)(pente.ReLU())",
]


def test_the_example_runs(tmp_path):
    history, losses = typed_example.train(
        matrix([[1, 2], [3, 4], [0, 1]]), matrix([[1], [2], [3]]), tmp_path / "layer"
    )
    assert history.training_losses == losses


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("mypy"))


class TestMypy:
    def check(self, *command):
        pytest.importorskip("mypy")
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_stubs_and_example_are_strictly_typed(self, cache):
        self.check("mypy", "--strict", "--cache-dir", cache, "-p", "pente")
        self.check("mypy", "--strict", "--cache-dir", cache, str(EXAMPLE))

    def test_stubs_are_what_is_there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        allowed = tmp_path / "allowed"
        allowed.write_text(
            r"""pente\._pente\.Matrix\.__buffer__  # Python has a name for it from 3.12 on
            pente\.sklearn\..*  # scikit-learn adds methods"""
        )
        self.check("mypy.stubtest", "pente", "--allowlist", str(allowed), "--ignore-unused-allowlist")

    @pytest.mark.parametrize("line", MISTAKES)
    def test_mistakes_are_found(self, tmp_path, cache, line):
        api = pytest.importorskip("mypy.api")
        (tmp_path / "mistake.py").write_text(f"import pente\n{line}\n")
        output, _, status = api.run(["--strict", "--cache-dir", cache, str(tmp_path / "mistake.py")])
        assert status == 1 and "mistake.py:2" in output


class TestPyright:
    """pyright's strict mode, in the build of it that brings its own runtime along."""

    def pyright(self, folder, *arguments, include=(".",)):
        """What it reports of the files in the folder, or of what the arguments name."""
        pytest.importorskip("basedpyright")
        (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict", "include": include}))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # whose Python has the package
        command = [sys.executable, "-m", "basedpyright", "--outputjson", *arguments]
        done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def test_all_that_is_public_has_a_known_type(self, tmp_path):
        completeness = self.pyright(tmp_path, "--verifytypes", "pente", "--ignoreexternal")["typeCompleteness"]
        assert Path(completeness["packageRootDirectory"]).samefile(PACKAGE)
        assert completeness["exportedSymbolCounts"]["withKnownType"] >= len(pente.__all__)
        incomplete = {symbol["name"] for symbol in completeness["symbols"] if not symbol["isTypeKnown"]}
        assert incomplete <= {  # scikit-learn, whose classes these derive from, has no types
            "pente.sklearn._base.Regressor",
            "pente.sklearn._linear.LinearRegressor",
            "pente.sklearn._mlp.MLPRegressor",
            "pente.sklearn.LinearRegressor",
            "pente.sklearn.MLPRegressor",
        }

    def test_stubs_and_example_are_strictly_typed(self, tmp_path):
        shutil.copytree(PACKAGE, tmp_path / "pente")
        shutil.copy(EXAMPLE, tmp_path)
        report = self.pyright(tmp_path, include=["pente/*.pyi", EXAMPLE.name])
        assert report["summary"]["filesAnalyzed"] >= 2 and not report["generalDiagnostics"], report

    def test_mistakes_are_found(self, tmp_path):
        (tmp_path / "mistakes.py").write_text("\n".join(["import pente", *MISTAKES]))
        reports = self.pyright(tmp_path)["generalDiagnostics"]
        lines = {report["range"]["start"]["line"] for report in reports if report["severity"] == "error"}
        assert lines == set(range(1, len(MISTAKES) + 1))
