"""The command's arguments, and its manual: --help."""

import csv
import io
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import __version__
from .model import ACTIVATIONS, CODES
from .schedules import SCHEDULES

DESCRIPTION = """\
Trains linear models and small networks on tables of numbers, and predicts with
them.

A model is one safetensors file. It takes columns as they are in the table, and
puts out the targets in their own units. Other programs load it as well: in C by
pente_layer_load, in Python by pente.Layer.load, in Swift by Layer.load(from:).
"""

EPILOG = """\
examples:
  pente train diabetes.csv --target progression --out model.safetensors
  pente predict new.csv --model model.safetensors > predictions.csv

pente train --help and pente predict --help say more. The exit status is 0; 1 if
something is wrong with the data or a file, 2 if with the arguments; 130 after
Ctrl-C. Files are written as a whole or not at all.
"""

TRAIN = """\
Trains a model to predict some columns of a table, the targets, from others, the
features, by stochastic gradient descent on the mean squared error, and writes
it to a file.

Features and targets are scaled to mean 0 and variance 1 for the training, so
the learning rate need not fit their units. Some rows, chosen at random, are not
trained on: they tell when to stop, and how good the model is on rows that it
has not seen (a little less good than they say, since the best epoch was chosen
by them). R² is the share of a target's variance that is explained: 1 is
perfect, 0 no better than the mean. The same command makes the same model, to
the bit.
"""

SCHEDULE_HELP = """\
schedules of the learning rate:
  constant     --lr throughout
  step         a tenth of it after each third of the epochs
  exponential  every epoch less, by the same factor; to a hundredth in the end
  linear       in a straight line to 0
  cosine       half a cosine to 0
  invscaling   --lr / t^0.25 in epoch t
  plateau      a tenth of it whenever 5 epochs have brought no lower loss
"""

FILES = """\
files:
  .csv      cells separated by commas; the first line names the columns; UTF-8
  .npy      a 2-D array, whose columns are called 0, 1, 2, ..., or an array with
            named fields (NumPy is needed)
  .parquet  as pandas, Spark and others write it (pyarrow is needed)

The columns that are used must be of finite numbers, with none missing. Errors
count rows from 1, without the header.
"""

TRAIN_EPILOG = f"""\
{SCHEDULE_HELP}
{FILES}
examples:
  pente train diabetes.csv --target progression --out model.safetensors
  pente train linnerud.csv --target weight --target waist \\
      --features chins,situps --out model.safetensors
  pente train diabetes.csv --target progression --hidden 64,32 \\
      --activation tanh --plot curve.png --out network.safetensors
"""

PREDICT = """\
Predicts with a model that pente train has written, or a save of a layer in C,
Python or Swift: a row for each row of the table, a column for each target.

A model of pente train knows the names of its features, finds them in the table,
and passes over other columns. If the model or the table has no names, columns
go in as they stand: those that --features names, or all but those that --target
names.
"""

PREDICT_EPILOG = f"""\
{FILES}
examples:
  pente predict new.csv --model model.safetensors > predictions.csv
  pente predict diabetes.csv --model model.safetensors --target progression \\
      --out predictions.npy
"""


class Parser(ArgumentParser):
    """Errors are a line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser(prog="pente", description=DESCRIPTION, epilog=EPILOG, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"pente {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train|predict")
    for add, name, summary, description, epilog in [
        (_add_train, "train", "train a model on a table and write it to a file", TRAIN, TRAIN_EPILOG),
        (_add_predict, "predict", "predict a table's targets with a model", PREDICT, PREDICT_EPILOG),
    ]:
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add(command)
    return parser.parse_args(argv)


def _add_train(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="the table, a .csv, .npy or .parquet file")
    parser.add_argument(
        "--target",
        action="append",
        metavar="COLUMN",
        help="a column to predict; may be given several times (of a 2-D array: the last one, unless given)",
    )
    parser.add_argument(
        "--features", type=_names, metavar="A,B,...", help="the columns to predict from (all but the targets)"
    )
    parser.add_argument("--out", required=True, metavar="MODEL", help="the safetensors file to write")
    parser.add_argument(
        "--plot", metavar="PICTURE", help="draw the learning curve, as .png, .svg or .pdf (matplotlib is needed)"
    )

    model = parser.add_argument_group("the model")
    model.add_argument(
        "--hidden",
        type=_widths,
        default=[],
        metavar="N,M,...",
        help="how many units the hidden layers have (none: a linear model)",
    )
    model.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default="relu",
        metavar="NAME",
        help=f"after each hidden layer: {', '.join(ACTIVATIONS)} (%(default)s)",
    )
    model.add_argument("--dtype", choices=CODES, default="float64", help="of the model's numbers (%(default)s)")

    training = parser.add_argument_group("the training")
    for option, kind, default, summary in [
        ("--epochs", _integer(1), 200, "how often all rows are gone through, at most"),
        ("--batch-size", _integer(1), 32, "rows a step"),
        ("--lr", _positive, 0.01, "the learning rate"),
        ("--momentum", _share, 0.9, "from 0 to below 1"),
        ("--validation", _share, 0.2, "the share of the rows that is not trained on; 0: all are"),
        (
            "--patience",
            _integer(0),
            20,
            "after so many epochs in a row without a lower validation loss stop and take the best epoch's model; 0: "
            "go through all epochs, and take the last one's",
        ),
        ("--seed", _integer(0), 0, "of the initial weights, the rows not trained on and the shuffles"),
    ]:
        training.add_argument(option, type=kind, default=default, metavar="N", help=f"{summary} (%(default)s)")
    training.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="constant",
        metavar="NAME",
        help="of the learning rate, see below (%(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_predict(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="the table, a .csv, .npy or .parquet file")
    parser.add_argument("--model", required=True, metavar="MODEL", help="the safetensors file")
    parser.add_argument(
        "--out",
        type=_predictions,
        metavar="FILE",
        help="the .csv or .npy file to write (CSV, to standard output, unless given)",
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="COLUMN",
        help="a column of true values, for each of the model's outputs in turn: R^2 goes to standard error",
    )
    parser.add_argument(
        "--features", type=_names, metavar="A,B,...", help="the columns to predict from, in the model's order"
    )


# ---- Values ----------------------------------------------------------------------------------------------------------


def _predictions(path: str) -> str:
    if not path.lower().endswith((".csv", ".npy")):
        raise ArgumentTypeError(f"{path!r} does not end in .csv or .npy")
    return path


def _names(text: str) -> list[str]:
    """Names separated by commas; one with a comma in it is quoted as in CSV."""
    return [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")), [])]


def _widths(text: str) -> list[int]:
    return [_integer(1)(width) for width in text.split(",")]


def _integer(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**63:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return convert


def _positive(text: str) -> float:
    return _between(text, lambda value: 0 < value < math.inf, "a number above 0")


def _share(text: str) -> float:
    return _between(text, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _between(text: str, is_right: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_right(value):
        raise ArgumentTypeError(f"{text!r} is not {expected}")
    return value
