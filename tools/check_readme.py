"""Checks that each code block of the README stands, line by line, in a file that the tests compile or run."""

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {"c": ["bindings/c/loop.c"], "python": ["bindings/python/examples/loop.py"], "swift": ["bindings/swift/loop/main.swift"]}


def shown(path):
    """What a file marks as the README's, without its indentation."""
    match = re.search(r"README: begin.*?\n(.*?)\n[^\n]*README: end", (ROOT / path).read_text(), re.DOTALL)
    return textwrap.dedent(match.group(1))


def main():
    blocks = re.findall(r"^```(\w+)\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    found = 0
    for language, block in blocks:
        if language not in FILES:
            continue
        if not any(block.strip() == shown(path).strip() for path in FILES[language]):
            sys.exit(f"check_readme: the {language} block is not what {FILES[language][0]} has:\n{block}")
        found += 1
    if found != len(FILES):
        sys.exit(f"check_readme: {found} blocks instead of {len(FILES)}")
    print(f"check_readme: {found} blocks are the examples'")


main()
