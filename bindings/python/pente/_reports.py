"""What fit and gradcheck have to say. The extension makes these, by position."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Epoch:
    """What on_epoch learns at the end of an epoch."""

    epoch: int  # from 1, or first_epoch + 1
    epochs: int  # the last one's number, if all that were asked for are done
    training_loss: float
    validation_loss: float  # NaN without a validation set
    learning_rate: float  # of the optimizer's group 0, that the epoch was trained with


@dataclass(frozen=True, slots=True)
class History:
    """What a fit did, one loss an epoch."""

    training_losses: list[float]  # of the batches as they were met
    validation_losses: list[float]  # after each epoch; empty without a validation set
    learning_rates: list[float]  # of the optimizer's group 0, that each epoch was trained with
    epochs: int  # done in this run
    best_epoch: int  # of this run that of the lowest validation loss, from 1; 0 without a validation set
    stop_reason: Literal["epochs", "early", "callback"]  # all done; patience ran out; on_epoch said so


@dataclass(frozen=True, slots=True)
class GradcheckReport:
    """Whether all gradients agree with central differences, and the one that agrees least. True if passed."""

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
