"""Checks that each code block of the README, and of the Swift package's documentation, stands, line by line, in an
example or test that is compiled or run, and each line of what programs print, a block of text, in a test. And that the
versions that the README and the changelog name are the header's."""

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTED = {"swift": ["Tests/PenteTests/TrainingLoopTests.swift"]}
PAGES = {
    "README.md": {
        "c": ["bindings/c/loop.c", "bindings/c/digits.c", "Tests/PenteCTests/test_linear.c"],
        "python": ["bindings/python/examples/loop.py", "bindings/python/examples/digits.py",
                   "bindings/python/tests/test_linear.py"],
        "swift": ["bindings/swift/loop/main.swift", "bindings/swift/digits/main.swift",
                  "Tests/PenteTests/LayerTests.swift"],
    },
    "Sources/Pente/Pente.docc/Pente.md": DOCUMENTED,
    "Sources/Pente/Pente.docc/TrainingLoop.md": DOCUMENTED,
}


def stands_in(path, block):
    """Whether the block's lines stand in the file one after another, all indented alike or not at all."""
    lines, wanted = (ROOT / path).read_text().splitlines(), block.splitlines()
    windows = (lines[i : i + len(wanted)] for i in range(len(lines) - len(wanted) + 1))
    return any(textwrap.dedent("\n".join(window)) == block for window in windows)


def check_text(page, block, examples):
    tests = [path for paths in examples.values() for path in paths if "test" in path.lower()]
    known = "".join((ROOT / path).read_text() for path in tests)
    for line in block.splitlines():
        if line.removeprefix("ValueError: ") not in known:
            sys.exit(f"check_readme: {page}: no test expects this line:\n{line}")


def check(page, examples):
    blocks = re.findall(r"^```(\w+)\n(.*?)\n```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    shown = set()
    for language, block in blocks:
        if language == "text":
            check_text(page, block, examples)
        if language not in examples:
            continue
        found = [path for path in examples[language] if stands_in(path, block)]
        if not found:
            places = ", ".join(examples[language])
            sys.exit(f"check_readme: {page}: this {language} block is in none of {places}:\n{block}")
        shown.update(found)
    missing = [path for paths in examples.values() for path in paths if path not in shown]
    if missing:
        sys.exit(f"check_readme: {page} shows nothing of {', '.join(missing)}")
    print(f"check_readme: {page} shows {len(shown)} examples as they are")


def check_version(page):
    header = (ROOT / "include/pente.h").read_text()
    version = re.findall(r"^#define PENTE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE)
    named = re.findall(r"(?:Pente |from: \"|^## )(\d[.\d]*\d)", (ROOT / page).read_text(), re.MULTILINE)
    if page == "CHANGELOG.md":
        named = named[:1]  # the others are of the past
    for name in named:
        if name.split(".") != version[: name.count(".") + 1]:
            sys.exit(f"check_readme: {page} names version {name}, but pente.h has {'.'.join(version)}")
    if not named:
        sys.exit(f"check_readme: {page} names no version")


for page, examples in PAGES.items():
    check(page, examples)
for page in ("README.md", "CHANGELOG.md"):
    check_version(page)
