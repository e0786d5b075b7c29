"""Writes data/nist: a CSV file for each of NIST's linear regression problems, and their certified coefficients.

    python data/make_nist.py FOLDER        # with NIST's files (Norris.dat, ...), as Debian's gretl-data has them

The numbers are copied as the decimals that they are.
"""

import csv
import re
import sys
from pathlib import Path

SETS = ["Norris", "Pontius", "NoInt1", "NoInt2", "Filip", "Longley", *(f"Wampler{i}" for i in range(1, 6))]
HERE = Path(__file__).with_name("nist")


def write(name, rows):
    with open(HERE / name, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def lines(text, part):
    """Those that the head of NIST's file says a part is on."""
    first, last = re.search(rf"{part} +\(lines (\d+) to (\d+)\)", text).groups()
    return [line.split() for line in text.splitlines()[int(first) - 1 : int(last)]]


HERE.mkdir(exist_ok=True)
certified = [["set", "parameter", "estimate", "standard_deviation"]]
for name in SETS:
    text = (Path(sys.argv[1]) / f"{name}.dat").read_text()
    rows = [[*x, y] for y, *x in lines(text, "Data")]
    features = ["x"] if len(rows[0]) == 2 else [f"x{i}" for i in range(1, len(rows[0]))]
    write(f"{name.lower()}.csv", [[*features, "y"], *rows])
    certified += [
        [name, *words] for words in lines(text, "Certified Values") if words and re.fullmatch(r"B\d+", words[0])
    ]
write("certified.csv", certified)
