"""pente predict."""

import csv
import io
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TextIO

from .. import Matrix
from . import model, report
from .errors import CommandError, optional
from .files import load_model, new_file, require_writable
from .tables import Table, open_table

FORMATS = {"float32": "%.9g", "float64": "%.17g"}  # which read back to the same bits


def predict(options: Namespace) -> None:
    if options.out:
        require_writable(options.out, [options.data, options.model])
    elif not sys.stdout:
        raise CommandError("there is no standard output; name a file with --out")
    layer, trained = load_model(options.model)
    inputs, outputs = layer.in_features or 0, layer.out_features or 0
    targets = options.target or []
    if targets and len(targets) != outputs:
        raise CommandError(f"{options.model} has {report.count(outputs, 'output')}, but --target names {len(targets)}")
    table = open_table(options.data)
    features = choose(table, trained.features, inputs, targets, options)
    numbers = table.columns([*features, *targets])
    prediction = layer.predict(model.matrix(numbers[:inputs], layer.dtype, features))

    names = trained.targets or [f"prediction_{k}" if outputs > 1 else "prediction" for k in range(outputs)]
    if not options.out:
        write_csv(sys.stdout, names, prediction)
    elif options.out.lower().endswith(".npy"):
        write_npy(options.out, prediction)
    else:
        text = io.StringIO()
        write_csv(text, names, prediction)
        with new_file(options.out) as file:
            file.write(text.getvalue().encode())
    if targets:
        parts = {"": (model.columns_of(prediction), numbers[inputs:])}
        print(report.scores(targets, parts), file=sys.stderr)


def choose(table: Table, names: Sequence[str], count: int, targets: list[str], options: Namespace) -> Sequence[str]:
    """The table's columns that go into the model, whose features have these names, or none, and this count."""
    others = [name for name in table.names if name not in targets]
    if options.features:
        features: Sequence[str] = options.features
    elif names and (table.named or (len(others) != count and set(names) <= set(others))):
        features = names
    else:
        features = others
    table.require([*features, *targets])
    if len(features) != count:
        expected = report.count(count, "feature") + (f": {', '.join(names)}" if names else "")
        raise CommandError(
            f"{report.count(len(features), 'column')} of {table.path} would go into the model, but {options.model} "
            f"takes {expected}; --features says which ones go in, --target which ones do not"
        )
    return features


def write_csv(file: TextIO, names: Sequence[str], prediction: Matrix) -> None:
    number = FORMATS[prediction.dtype]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([number % value for value in row] for row in prediction.tolist())


def write_npy(path: str, prediction: Matrix) -> None:
    numpy = optional("numpy", f"{path}: a .npy file")
    with new_file(path) as file:
        numpy.save(file, numpy.asarray(prediction))
