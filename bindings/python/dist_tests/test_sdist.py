"""The source distribution: that it builds, and what it says where it cannot."""

import os
import shutil
import subprocess
import zipfile

import pytest
from conftest import ROOT


@pytest.fixture
def tools(tmp_path):
    """tools(name...): a PATH that has these programs alone."""

    def path(*names):
        (tmp_path / "bin").mkdir()
        for name in names:
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
        return str(tmp_path / "bin")

    return path


def machine_code(library):
    """Its .text; elsewhere in it is a hash of the folder that it was compiled in."""
    command = ["objcopy", "--output-target=binary", "--only-section=.text", library, f"{library}.text"]
    subprocess.run(command, check=True)
    return library.with_name(f"{library.name}.text").read_bytes()


def test_it_builds_with_the_library(sdist, wheel, pip_wheel, tmp_path):
    status, output, built = pip_wheel(sdist, PATH=os.environ["PATH"])
    assert status == 0, output
    assert [path.name for path in built] == [wheel.name]
    with zipfile.ZipFile(built[0]) as archive:
        archive.extract("pente/libpente.so.0", tmp_path)
    shutil.copy(ROOT / "build/lib/libpente.so.0", tmp_path / "reference")
    assert machine_code(tmp_path / "pente/libpente.so.0") == machine_code(tmp_path / "reference")


def test_a_checkout_builds_with_the_library_that_it_has(wheel, pip_wheel, tmp_path):
    """And nothing that Swift has to do with."""
    for name in ("include", "bindings/python", "build/lib"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    shutil.copy(ROOT / "LICENSE", tmp_path / "checkout")
    status, output, built = pip_wheel(tmp_path / "checkout/bindings/python", PATH="/usr/bin:/bin")
    assert status == 0, output
    assert [path.name for path in built] == [wheel.name]


@pytest.mark.parametrize("present, missing", [(["make", "strip"], "swiftc"), ([], "swiftc, make, strip")])
def test_what_is_missing_is_named(unpacked, pip_wheel, tools, present, missing):
    status, output, _ = pip_wheel(unpacked, PATH=tools(*present))
    assert status == 1 and "Traceback" not in output
    assert f"error: libpente.so.0 has to be built, for which {missing} cannot be found: install Swift 6.3" in output


def test_a_compiler_that_fails(unpacked, pip_wheel):
    status, output, _ = pip_wheel(unpacked, PATH=os.environ["PATH"], SWIFT="/no/such/swift")
    assert status == 1 and "Traceback" not in output and "/no/such/swiftc: " in output
    assert "error: libpente.so.0 could not be built, for the reason above; Swift 6.3 or newer is needed" in output


def test_a_folder_without_the_library(unpacked, pip_wheel, tmp_path):
    status, output, _ = pip_wheel(unpacked, PATH=os.environ["PATH"], PENTE_LIBRARY_DIR=str(tmp_path))
    assert status == 1 and "Traceback" not in output
    assert f"error: PENTE_LIBRARY_DIR is {tmp_path}, where there is no libpente.so.0" in output


def test_a_free_threaded_python_is_refused(unpacked, pip_wheel, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
    )
    status, output, _ = pip_wheel(unpacked, PATH=os.environ["PATH"], PYTHONPATH=str(tmp_path))
    assert status == 1 and "Traceback" not in output
    assert "error: pente does not support free-threaded builds of CPython yet" in output
