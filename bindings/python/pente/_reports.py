"""What fit and gradcheck have to say. The extension makes these, by position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Epoch:
    """What on_epoch learns at the end of an epoch.

    >>> layer = pente.Linear(1, 1, bias=False, dtype="float64", seed=0)
    >>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]])
    >>> epochs = []
    >>> history = trainer.fit(x, y, epochs=3, on_epoch=epochs.append)
    >>> epochs[2].epoch, epochs[2].epochs, epochs[2].learning_rate, epochs[2].training_loss < epochs[0].training_loss
    (3, 3, 0.1, True)
    """

    epoch: int  # from 1, or first_epoch + 1
    epochs: int  # the last one's number, if all that were asked for are done
    training_loss: float
    validation_loss: float  # NaN without a validation set
    learning_rate: float  # of the optimizer's group 0, that the epoch was trained with


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fit is, as on_progress learns it some ten times a second.

    >>> layer = pente.Linear(1, 1, dtype="float64", seed=0)
    >>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01), pente.MSELoss())
    >>> x, seen = np.ones((100_000, 1)), []
    >>> history = trainer.fit(x, x, epochs=100, batch_size=8, on_progress=seen.append)
    >>> seen[0].epochs, seen[0].rows, 0 < seen[0].row <= 100_000, seen[0].rows_per_second > 0
    (100, 100000, True, True)
    """

    epoch: int  # the one under way: from 1, or first_epoch + 1
    epochs: int  # the last one's number, if all that were asked for are done
    row: int  # how many rows of the epoch are done
    rows: int | None  # how many there are; None: that is not known before the first epoch's end
    loss: float  # of the epoch so far, as training_loss
    rows_per_second: float  # of this call so far
    seconds_left: float | None  # until all epochs are done, at that rate; None while rows is


@dataclass(frozen=True, slots=True)
class History:
    """What a fit did, one loss an epoch.

    >>> layer = pente.Linear(1, 1, dtype="float64", seed=0)
    >>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]])
    >>> history = trainer.fit(x, y, epochs=50, validation=(x, y))
    >>> len(history.training_losses), history.epochs, history.best_epoch, history.stop_reason
    (50, 50, 50, 'epochs')
    """

    training_losses: list[float]  # of the batches as they were met
    validation_losses: list[float]  # after each epoch; empty without a validation set
    learning_rates: list[float]  # of the optimizer's group 0, that each epoch was trained with
    epochs: int  # done in this run; of a resumed one, all of them
    best_epoch: int  # of this run that of the lowest validation loss, from 1; 0 without a validation set
    stop_reason: Literal["epochs", "early", "callback"]  # all done; patience ran out; on_epoch said so

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the losses, the best epoch and, on an axis of its own if it changed, the learning rate, by matplotlib.

        Draws on ax, or on a new figure, and returns the Axes. The losses are on a logarithmic scale if all of them are
        positive and finite.

        >>> layer = pente.Linear(1, 1, dtype="float64", seed=0)
        >>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
        >>> history = trainer.fit(np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]]), epochs=50)
        >>> history.plot().figure.savefig("history.png")
        """
        if ax is None:
            ax = _new_axes()
        epochs = range(1, self.epochs + 1)
        marker = "." if self.epochs < 30 else ""
        lines = ax.plot(epochs, self.training_losses, marker=marker, label="training loss")
        if self.validation_losses:
            lines += ax.plot(epochs, self.validation_losses, marker=marker, label="validation loss")
        if self.best_epoch:
            best = self.best_epoch, self.validation_losses[self.best_epoch - 1]
            label = f"best epoch: {self.best_epoch}"
            lines += ax.plot(*best, "o", markersize=9, fillstyle="none", color=lines[-1].get_color(), label=label)
        if len(set(self.learning_rates)) > 1:
            right = ax.twinx()
            lines += right.plot(epochs, self.learning_rates, ":", color="gray", label="learning rate")
            right.set_ylabel("learning rate")
            right.set_ylim(bottom=0)
            right.set_zorder(ax.get_zorder() - 1)  # behind the losses and the legend
            ax.patch.set_visible(False)
        if all(0 < loss < math.inf for loss in self.training_losses + self.validation_losses):
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel="loss")
        ax.locator_params(axis="x", integer=True)
        ax.legend(handles=lines)
        return ax


def _new_axes() -> Axes:
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError("History.plot needs matplotlib: pip install pente[plot]") from error
    axes: Axes = pyplot.subplots(layout="constrained")[1]
    return axes


@dataclass(frozen=True, slots=True)
class GradcheckReport:
    """Whether all gradients agree with central differences, and the one that agrees least. True if passed.

    >>> report = pente.gradcheck(pente.Linear(2, 1, dtype="float64", seed=0), np.array([[1.0, 2.0]]))
    >>> bool(report), report.checked, report.error < report.tolerance
    (True, 5, True)
    """

    passed: bool
    checked: int  # how many elements
    worst: str  # where the error is largest for its tolerance: "x", "target" or a parameter's name
    row: int
    column: int
    analytic: float
    numeric: float
    error: float  # |analytic - numeric|
    tolerance: float  # atol + rtol |numeric|

    def __bool__(self) -> bool:
        return self.passed
