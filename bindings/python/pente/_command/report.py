"""What the command says in the terminal, and the picture."""

import math
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from .._reports import History
from .errors import CommandError, optional
from .files import Columns, new_file
from .model import Numbers, r_squared, rmse


def has_progress_bar() -> bool:
    """In a terminal, and if there is tqdm to draw it."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def summary(columns: Columns, rows: Mapping[str, int], history: History) -> str:
    counts = [count(len(columns.features), "feature"), count(len(columns.targets), "target")]
    counts += [f"{count(number, 'row')} for {part}" for part, number in rows.items()]
    end = ""
    if history.stop_reason == "early":
        end = f"; stopped since the validation loss fell no more, the model is epoch {history.best_epoch}'s"
    lines = [", ".join(counts), count(history.epochs, "epoch") + end]
    for name, curve in (("training", history.training_losses), ("validation", history.validation_losses)):
        if curve:
            lines.append(f"{name:10} loss  {curve[0]:.4g} {sparkline(curve)} {curve[-1]:.4g}")
    return "\n".join(lines)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def sparkline(curve: Sequence[float], width: int = 50) -> str:
    """The curve in at most so many characters, from its lowest to its highest number; its epochs on a logarithmic
    scale."""
    width = min(width, len(curve))
    picked = [curve[round(len(curve) ** (i / max(width - 1, 1))) - 1] for i in range(width)]
    low, high = min(picked), max(picked)
    if not math.isfinite(sum(picked)):
        return "-"
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (number - low) / (high - low or 1))] for number in picked)


def scores(targets: Sequence[str], parts: Mapping[str, tuple[Numbers, Numbers]]) -> str:
    """A line for each target: the RMSE and R² of each part's columns of predictions and of true values."""
    rows = [["target", *(f"{part} {score}".strip() for part in parts for score in ("RMSE", "R²"))]]
    for name, *pairs in zip(targets, *(zip(*part, strict=True) for part in parts.values()), strict=True):
        rows.append([name, *(text for pair in pairs for text in (f"{rmse(*pair):.6g}", _share(r_squared(*pair))))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def _share(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


# ---- The picture -----------------------------------------------------------------------------------------------------


def require_plot(path: str) -> None:
    """That matplotlib is there and knows the kind of file, which is to be known before the training."""
    kinds = optional("matplotlib.backend_bases", "--plot").FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in kinds:
        raise CommandError(f"{path} is no picture that can be drawn: its name must end in one of .{', .'.join(kinds)}")


def plot(history: History, path: str) -> None:
    figure = optional("matplotlib.figure", "--plot").Figure(layout="constrained")
    history.plot(figure.subplots())
    with new_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower())
