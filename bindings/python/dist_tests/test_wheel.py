"""The wheel: what is in it, and whether its tag says the truth."""

import re
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT
from packaging.metadata import Metadata

PACKAGE = ROOT / "bindings/python/pente"


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(contents):
    (text,) = (content for name, content in contents.items() if name.endswith(".dist-info/METADATA"))
    return Metadata.from_email(text, validate=True)


def test_it_has_the_whole_package_and_both_libraries(wheel, contents):
    sources = {path for pattern in ("*.py", "*.pyi", "py.typed") for path in PACKAGE.rglob(pattern)}
    expected = {f"pente/{path.relative_to(PACKAGE)}" for path in sources} | {
        "pente/_pente.abi3.so",
        "pente/libpente.so.0",
    }
    assert {name for name in contents if ".dist-info/" not in name} == expected
    assert contents["pente/libpente.so.0"] == (ROOT / "build/lib/libpente.so.0").read_bytes()
    assert wheel.stat().st_size < 1_000_000


def test_what_it_says_of_itself(contents, metadata):
    header = (ROOT / "include/pente.h").read_text()
    assert str(metadata.version) == ".".join(re.findall(r"define PENTE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))
    assert (metadata.name, str(metadata.requires_python)) == ("pente", ">=3.11")
    assert metadata.description == (ROOT / "bindings/python/README.md").read_text()
    assert metadata.description_content_type == "text/markdown"
    assert metadata.license_expression == "MIT" and metadata.license_files == ["LICENSE"]
    (license,) = (content for name, content in contents.items() if name.endswith("/licenses/LICENSE"))
    assert license == (ROOT / "LICENSE").read_bytes()


def test_it_needs_nothing(metadata):
    assert {"sklearn", "progress", "plot"} <= set(metadata.provides_extra)
    assert all("extra ==" in str(requirement.marker) for requirement in metadata.requires_dist)


def test_its_extension_looks_for_libpente_beside_it_and_nowhere_else(tmp_path, contents):
    (tmp_path / "extension").write_bytes(contents["pente/_pente.abi3.so"])
    dynamic = run("readelf", "--dynamic", "--wide", tmp_path / "extension")
    assert re.findall(r"R(?:UN)?PATH.*\[(.*)\]", dynamic) == ["$ORIGIN"]
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert needed[0] == "libpente.so.0" and all(name.startswith(("libc.so", "ld-linux")) for name in needed[1:])


def test_its_tag_is_the_oldest_that_auditwheel_grants(wheel):
    python, abi, platform = wheel.stem.split("-")[2:]
    assert (python, abi) == ("cp311", "abi3") and platform.startswith("manylinux_2_")
    assert f'the following platform tag: "{platform}"' in " ".join(
        run(sys.executable, "-m", "auditwheel", "show", wheel).split()
    )


def test_its_extension_keeps_to_the_stable_abi(wheel):
    run(sys.executable, "-m", "abi3audit", "--strict", wheel)
