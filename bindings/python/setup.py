"""The extension, which finds libpente beside itself: the one thing that pyproject.toml cannot say."""

import os
import re
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "include"
LIBRARIES = Path(os.environ.get("PENTE_LIBRARY_DIR") or HERE.parents[1] / "build" / "lib").resolve()
SONAME = "libpente.so.0"


def version() -> str:
    """The header's, the one place that holds it."""
    header = (INCLUDE / "pente.h").read_text(encoding="utf-8")
    parts = re.findall(r"^#define PENTE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE)
    return ".".join(parts)


class BuildExtension(build_ext):
    """Puts libpente into the package, where the extension's $ORIGIN is."""

    def run(self) -> None:
        if not (LIBRARIES / SONAME).exists():
            raise SystemExit(f"{LIBRARIES / SONAME} is missing: run make lib first, or set PENTE_LIBRARY_DIR")
        super().run()
        shutil.copyfile(LIBRARIES / SONAME, self._copied_library())

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), self._copied_library()]

    def _copied_library(self) -> str:
        return str(Path(self.get_ext_fullpath("pente._pente")).with_name(SONAME))


setup(
    version=version(),
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    ext_modules=[
        Extension(
            "pente._pente",
            sources=sorted(str(source.relative_to(HERE)) for source in (HERE / "extension").glob("*.c")),
            depends=["extension/extension.h", str(INCLUDE / "pente.h")],
            include_dirs=[str(INCLUDE)],
            library_dirs=[str(LIBRARIES)],
            libraries=["pente"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fvisibility=hidden", "-g0"],
            extra_link_args=["-Wl,-rpath,$ORIGIN"],
            py_limited_api=True,
        )
    ],
)
