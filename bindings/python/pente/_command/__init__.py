"""python -m pente: trains a model on the columns of a table, and predicts with it.

It needs nothing but Python. NumPy, pandas, pyarrow, tqdm and matplotlib are used where they are installed.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from .arguments import parse
from .errors import CommandError, because


def hold_standard_files() -> None:
    """Whoever starts the command may have closed them. Their numbers are taken then, or a file would get what is printed.

    Without sys.stderr, print(..., file=sys.stderr) goes to standard output; sys.stdout stays None, which print knows."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    sys.stderr = sys.stderr or open(os.devnull, "w")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 for what is wrong with the data, 2 with the arguments, 130."""
    hold_standard_files()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal has all letters
    options = parse(argv)
    name = f"pente {options.command}"
    try:
        if options.command == "train":
            from .train import train as command
        else:
            from .predict import predict as command
        command(options)
        if sys.stdout:
            sys.stdout.flush()
        return 0
    except CommandError as error:
        message, status = f"error: {error}", 1
    except MemoryError:
        message, status = "error: there is not enough memory for this", 1
    except KeyboardInterrupt as interrupt:
        message, status = "; ".join(["interrupted", *map(str, interrupt.args)]), 130
    except OSError as error:  # of standard output: it is full, or whoever reads it has enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        message, status = f"error: standard output: {because(error)}", 1
    # One line, whatever stands in the names of columns.
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
    print(f"{name}: {line}", file=sys.stderr)
    return status
