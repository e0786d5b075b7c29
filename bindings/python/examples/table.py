"""What the examples need around the library: a table of numbers to train on, and a file for what came out."""

import csv
import math
from array import array

CODES = {"float32": "f", "float64": "d"}


def read_rows(path):
    """The numbers of a CSV file, row by row, without its header."""
    try:
        with open(path, newline="") as file:
            lines = list(csv.reader(file))
        rows = [[float(cell) for cell in line] for line in lines[1:]]
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}")
    if not rows or any(len(row) != len(lines[0]) for row in rows):
        raise SystemExit(f"{path}: there must be rows, of as many columns each as the header has")
    return rows


def read(path, targets):
    """Standardised features and targets of a CSV file, as float32 buffers; the last `targets` columns are targets."""
    columns = list(zip(*read_rows(path)))
    if not 1 <= targets < len(columns):
        raise SystemExit(f"{path}: there must be at least one target, and a feature before it")
    rows = list(zip(*(standardise(path, column) for column in columns)))
    return matrix([row[:-targets] for row in rows]), matrix([row[-targets:] for row in rows])


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


def matrix(rows, dtype="float32"):
    """Rows of numbers as one buffer, without NumPy."""
    values = array(CODES[dtype], (value for row in rows for value in row))
    return memoryview(values).cast("B").cast(values.typecode, (len(rows), len(rows[0])))


def write_result(path, layer, **measured):
    """Lists of numbers and the layer's parameters, as text that reads back to the same bits."""
    digits = 9 if layer.dtype == "float32" else 17
    with open(path, "w") as file:
        for name, values in measured.items():
            for epoch, value in enumerate(values, 1):
                file.write(f"{name} {epoch} {value:.17g}\n")
        for name, parameter in layer.parameters.items():
            rows = memoryview(parameter).tolist()
            for i, row in enumerate(rows if isinstance(rows[0], list) else [rows]):
                for j, value in enumerate(row):
                    file.write(f"{name} {i} {j} {value:.{digits}g}\n")
