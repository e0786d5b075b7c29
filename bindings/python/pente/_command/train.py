"""pente train."""

from __future__ import annotations

import math
from argparse import Namespace
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from .. import SGD, Chain, Linear, Matrix, MSELoss, Scaler, Trainer
from .._reports import History
from . import model, report
from .errors import CommandError
from .files import Columns, require_writable, save_model
from .schedules import SCHEDULES
from .tables import Table, open_table

# A loss, of scaled targets, that is beyond hope: the mean has a loss of 1.
DIVERGED = 10


@dataclass(frozen=True)
class Part:
    """Rows of the table: features as a matrix, targets as columns."""

    x: memoryview[float]
    y: model.Numbers


def train(options: Namespace) -> None:
    require_writable(options.out, [options.data])
    if options.plot:
        require_writable(options.plot, [options.data, options.out])
        report.require_plot(options.plot)
    try:
        table = open_table(options.data)
        columns = choose(table, options.target, options.features)
        training, validation = read(table, columns, options)
        chain, history = fit(training, validation, columns, options)
        parts = {"training": training} | ({"validation": validation} if validation else {})
        scored = {name: (model.columns_of(chain.predict(part.x)), part.y) for name, part in parts.items()}
        scores = report.scores(columns.targets, scored)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written") from None
    save_model(chain, columns, options.out)
    if options.plot:
        report.plot(history, options.plot)
    if not options.quiet:
        print(report.summary(columns, {name: len(part.x) for name, part in parts.items()}, history))
        print(scores)
        print(f"written to {options.out}" + (f" and {options.plot}" if options.plot else ""))


def choose(table: Table, targets: list[str] | None, features: list[str] | None) -> Columns:
    """The columns that are meant, all of which are there, and different ones."""
    if not targets and table.named:
        raise CommandError(f"{table.path}: --target is missing; {table.listed}")
    targets = targets or [*table.names[-1:]]
    features = features or [name for name in table.names if name not in targets]
    table.require([*targets, *features])
    if "" in features:
        raise CommandError(
            f"{table.path}: column {table.names.index('') + 1} has no name, as an index that pandas has written; name "
            "it, or choose columns with --features"
        )
    chosen = [*targets, *features]
    for i, name in enumerate(chosen):
        if name in chosen[:i]:
            raise CommandError(f"column {name!r} is named twice; a column is one target, or one feature")
    if not features:
        raise CommandError(f"{table.path} has no columns but the targets, so nothing to predict from")
    return Columns(features, targets)


def read(table: Table, columns: Columns, options: Namespace) -> tuple[Part, Part | None]:
    """The rows to train on, and those that are held out, if any are."""
    names = [*columns.features, *columns.targets]
    numbers = table.columns(names)
    rows = len(numbers[0])
    if rows < 2:
        raise CommandError(f"{table.path} has one row, but two are the least to train on")
    for name, column in zip(columns.targets, numbers[len(columns.features) :], strict=True):
        if min(column) == max(column):
            raise CommandError(
                f"{table.path}: target {name!r} is {column[0]:g} in every row: there is nothing to learn, and its R² "
                "is undefined"
            )

    def part(rows: Sequence[int]) -> Part:
        chosen = [array("d", map(column.__getitem__, rows)) for column in numbers]
        x, y = chosen[: len(columns.features)], chosen[len(columns.features) :]
        return Part(model.matrix(x, options.dtype, columns.features), y)

    training, validation = model.split(rows, options.validation, options.seed)
    return part(training), part(validation) if validation else None


def fit(training: Part, validation: Part | None, columns: Columns, options: Namespace) -> tuple[Chain, History]:
    """Trains on scaled features and targets; the chain that comes out maps columns as they are in the table."""
    features, targets = len(columns.features), len(columns.targets)
    chain = model.new_chain(features, targets, options.hidden, options.activation, options.dtype, options.seed)
    first, last, unit = chain[0], chain[-1], Scaler(targets, options.dtype)
    assert isinstance(first, Scaler) and isinstance(last, Linear)

    try:
        first.fit(training.x)
        unit.fit(model.matrix(training.y, options.dtype, columns.targets))
    except ValueError as error:
        raise CommandError(f"a column cannot be scaled, since its numbers differ by almost nothing: {error}") from None

    def scaled(part: Part) -> tuple[memoryview[float], Matrix]:
        return part.x, unit.predict(model.matrix(part.y, options.dtype, columns.targets))

    optimizer, x, y = SGD(chain, lr=options.lr, momentum=options.momentum), *scaled(training)
    try:
        history = Trainer(chain, optimizer, MSELoss()).fit(
            x,
            y,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            validation=scaled(validation) if validation else None,
            patience=options.patience if validation else 0,
            lr_scheduler=SCHEDULES[options.schedule](optimizer, options.epochs),
            progress=not options.quiet and report.has_progress_bar(),
        )
        losses = history.training_losses[-1], MSELoss()(chain.predict(x), y)
    except FloatingPointError:
        losses = math.inf, math.inf
    for loss in losses:
        if not loss < DIVERGED:
            raise CommandError(f"the training diverged: its loss grew to {loss:.3g}; try --lr {options.lr / 10:g}")
    model.fold(last, unit)
    return chain, history
