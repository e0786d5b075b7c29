"""What pyproject.toml cannot say: libpente goes beside the extension, and is built if it is not there yet; the wheel's
tag names the glibc that both need; an sdist holds the core's sources, as core/."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import ExecError, PlatformError

HERE = Path(__file__).resolve().parent
CORE = HERE / "core" if (HERE / "core").exists() else HERE.parents[1]
CORE_FILES = ["Makefile", "Package.swift", "include", "Sources"]  # what make reads for libpente
HEADER = CORE / "include" / "pente.h"
VERSION = ".".join(re.findall(r"(?m)^#define PENTE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", HEADER.read_text("utf-8")))
SONAME = f"libpente.so.{VERSION.partition('.')[0]}"


def copy_core(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in CORE_FILES:
        copy = shutil.copytree if (CORE / name).is_dir() else shutil.copy2
        copy(CORE / name, folder / name)


def build_library(folder: Path) -> Path:
    """Builds libpente in a copy of its sources, which may be read-only."""
    missing = [tool for tool in ("swiftc", "make", "strip") if not shutil.which(tool)]
    if missing:
        raise PlatformError(
            f"{SONAME} has to be built, for which {', '.join(missing)} cannot be found: install Swift 6.3 or newer"
            f" (swift.org/install), make and binutils, or set PENTE_LIBRARY_DIR to a folder with {SONAME}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    copy_core(folder)
    # What counts as old would install packages on this machine. A make that runs us has no say in the one we run.
    library = f"build/lib/libpente.so.{VERSION}"
    command = ["make", f"-j{os.cpu_count()}", "--old-file=build/setup.stamp", library]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    if subprocess.run(command, cwd=folder, env=environment).returncode:
        raise ExecError(f"{SONAME} could not be built, for the reason above; Swift 6.3 or newer is needed")
    return folder / library


def find_library(build_folder: Path) -> Path:
    """libpente of PENTE_LIBRARY_DIR, of the checkout's make lib, or else built now."""
    given = os.environ.get("PENTE_LIBRARY_DIR")
    library = Path(given or CORE / "build" / "lib").resolve() / SONAME
    if library.exists():
        return library
    if given:
        raise PlatformError(f"PENTE_LIBRARY_DIR is {given}, where there is no {SONAME}")
    return build_library(build_folder)


class BuildExtension(build_ext):
    """Puts libpente into the package, where the extension's $ORIGIN is."""

    def run(self) -> None:
        library = find_library(Path(self.build_temp).resolve() / "core")
        self.library_dirs.append(str(library.parent))
        super().run()
        shutil.copyfile(library, self._copied_library())

    def build_extensions(self) -> None:
        # Some builds of CPython have what they link look into a folder of theirs first, which users do not have.
        self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        super().build_extensions()

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), self._copied_library()]

    def _copied_library(self) -> str:
        return str(Path(self.get_ext_fullpath("pente._pente")).with_name(SONAME))


class BuildWheel(bdist_wheel):
    """Its tag says manylinux, and the oldest glibc that has what the wheel's libraries ask for."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        libraries = [str(path) for path in Path(self.bdist_dir, "pente").glob("*.so*")]  # none if it is editable
        if libraries:
            needs = subprocess.run(
                ["readelf", "--version-info", *libraries], check=True, capture_output=True, text=True
            ).stdout
            minor = max(int(number) for number in re.findall(r"\bGLIBC_2\.(\d+)", needs))
            platform = platform.replace("linux", f"manylinux_2_{minor}", 1)
        return python, abi, platform


class SourceDistribution(sdist):
    """Takes the core along."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        copy_core(Path(base_dir, "core"))


if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit(
        "error: pente does not support free-threaded builds of CPython yet, since its extension relies on the GIL:"
        " use a build with the GIL"
    )

setup(
    version=VERSION,
    cmdclass={"build_ext": BuildExtension, "bdist_wheel": BuildWheel, "sdist": SourceDistribution},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    ext_modules=[
        Extension(
            "pente._pente",
            sources=sorted(str(source.relative_to(HERE)) for source in (HERE / "extension").glob("*.c")),
            depends=["extension/extension.h", str(HEADER)],
            include_dirs=[str(HEADER.parent)],
            libraries=[f":{SONAME}"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=[
                *("-std=c11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fvisibility=hidden", "-g0")
            ],
            extra_link_args=["-Wl,-rpath,$ORIGIN"],
            py_limited_api=True,
        )
    ],
)
