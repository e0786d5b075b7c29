import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def only(pattern):
    (path,) = (path for path in (ROOT / "build/dist").glob(pattern) if "-linux-" not in path.name)  # which is C's
    return path


@pytest.fixture(scope="session")
def wheel():
    return only("*.whl")


@pytest.fixture(scope="session")
def sdist():
    return only("*.tar.gz")


@pytest.fixture
def unpacked(sdist, tmp_path):
    """The sdist's own folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    return folder


@pytest.fixture
def pip_wheel(tmp_path):
    """pip_wheel(source, **environment) builds it as a user's pip does, but with the setuptools that are here."""

    def build(source, **environment):
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr, list(tmp_path.glob("*.whl"))

    return build
