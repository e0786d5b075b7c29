"""Which lines of Sources no test runs: those of the C interface's tests and those of Swift's, put together.

Usage: coverage.py LEAST LLVM_COV PROFILE=OBJECT... Writes a row for each file, and each range of lines that did not
run; fails if less than LEAST percent of a file ran, unless uncovered.txt says of all that is left why. What a subclass
overrides in any case (a body of fatalError) is not counted.
"""

import collections
import itertools
import pathlib
import re
import subprocess
import sys

Counts = dict[str, dict[int, int]]


def counts_of(llvm_cov: str, profile: str, binary: str) -> Counts:
    """How often each line ran, file by file, as one binary's tests have it."""
    command = [llvm_cov, "export", "-format=lcov", "-instr-profile", profile, binary]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    counts: Counts = collections.defaultdict(dict)
    file = ""
    for line in report.splitlines():
        kind, _, value = line.partition(":")
        if kind == "SF":
            file = value.rpartition("Sources/")[2] if "Sources/" in value else ""
        elif kind == "DA" and file:
            number, count = value.split(",")[:2]
            counts[file][int(number)] = int(count)
    return counts


def added(parts: list[Counts]) -> Counts:
    total: Counts = collections.defaultdict(lambda: collections.defaultdict(int))
    for part in parts:
        for file, lines in part.items():
            for number, count in lines.items():
                total[file][number] += count
    return total


def runs_of(lines: list[int]) -> list[list[int]]:
    """Lines that follow each other, together."""
    numbered = enumerate(sorted(lines))
    return [[line for _, line in run] for _, run in itertools.groupby(numbered, lambda pair: pair[1] - pair[0])]


def reasons() -> list[tuple[str, str, str]]:
    """File, a piece of its source, and why a test does not come by."""
    text = (pathlib.Path(__file__).parent / "uncovered.txt").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(file, source, why) for file, source, why in rows]


def text_of(source: list[str], run: list[int]) -> str:
    """The lines, behind that on which their function begins."""
    begins = [line for line in source[: run[0]] if re.search(r"\b(func|init|deinit|var) ?\w*\W", line)]
    return "\n".join(begins[-1:] + source[run[0] - 1 : run[-1]])


def main(least: str, llvm_cov: str, *measured: str) -> int:
    counts = added([counts_of(llvm_cov, *one.split("=")) for one in measured])
    named = reasons()
    sources = {str(path.relative_to("Sources")) for path in pathlib.Path("Sources").glob("*/*.swift")}
    unnamed, used = 0, set()
    covered = total = 0
    for file in sorted(sources & counts.keys()):
        lines, source = counts[file], pathlib.Path("Sources", file).read_text().splitlines()
        missed = runs_of([line for line, count in lines.items() if count == 0])
        texts = {run[0]: text_of(source, run) for run in missed}
        abstract = sum(len(run) for run in missed if "fatalError(" in texts[run[0]])
        missed = [run for run in missed if "fatalError(" not in texts[run[0]]]
        ran, all_lines = len(lines) - abstract - sum(map(len, missed)), len(lines) - abstract
        share = 100 * ran / all_lines
        covered, total = covered + ran, total + all_lines
        print(f"{share:6.1f} %  {file}")
        for run in missed:
            why = [row for row in named if row[0] == file and row[1] in texts[run[0]]]
            used.update(why)
            unnamed += not why and share < float(least)
            print(f"          {run[0]}-{run[-1]}: {why[0][2] if why else source[run[0] - 1].strip()}")
    share = 100 * covered / total
    print(f"{share:6.1f} %  of {total} lines in {len(sources & counts.keys())} files")
    for file, piece, _ in set(named) - used:
        print(f"{file}: nothing that did not run has {piece!r}")
    return int(unnamed > 0 or share < float(least))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
