"""What both examples need around the library: a table of numbers to train on, and a file for what came out."""

import csv
import math
from array import array


def read(path, targets):
    """Standardised features and targets of a CSV file, as float32 buffers; the last `targets` columns are targets."""
    try:
        with open(path, newline="") as file:
            lines = list(csv.reader(file))
        rows = [[float(cell) for cell in line] for line in lines[1:]]
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}")
    width = len(lines[0]) if lines else 0
    if not 1 <= targets < width:
        raise SystemExit(f"{path}: there must be at least one target, and a feature before it")
    if not rows or any(len(row) != width for row in rows):
        raise SystemExit(f"{path}: there must be rows, of {width} columns each, as in the header")
    columns = [standardise(path, column) for column in zip(*rows)]
    return matrix(columns[:-targets]), matrix(columns[-targets:])


def standardise(path, column):
    """To mean 0 and variance 1. Plain loops, since sum() rounds otherwise than C and Swift do."""
    total = 0.0
    for value in column:
        total += value
    mean = total / len(column)
    squares = 0.0
    for value in column:
        squares += (value - mean) * (value - mean)
    deviation = math.sqrt(squares / len(column))
    if not 0 < deviation < math.inf:
        raise SystemExit(f"{path}: every column must vary, and stay in range")
    return [(value - mean) / deviation for value in column]


def matrix(columns):
    """A rows x columns buffer of float32, without NumPy."""
    values = array("f", (value for row in zip(*columns) for value in row))
    return memoryview(values).cast("B").cast("f", (len(columns[0]), len(columns)))


def write_result(path, losses, weight, bias):
    """Text that reads back to the same bits."""
    with open(path, "w") as file:
        for epoch, loss in enumerate(losses, 1):
            file.write(f"loss {epoch} {loss:.17g}\n")
        for i, row in enumerate(memoryview(weight).tolist()):
            for j, value in enumerate(row):
                file.write(f"weight {i} {j} {value:.9g}\n")
        for j, value in enumerate(memoryview(bias).tolist()):
            file.write(f"bias {j} {value:.9g}\n")
