"""What a fit does between epochs beyond calling on_epoch: steps of a learning rate scheduler, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from ._pente import Trainer
from ._reports import Epoch, History
from .lr_scheduler import LRScheduler, ReduceLROnPlateau


def fit(trainer: Trainer, first_epoch: int, epochs: int, arguments: dict[str, Any]) -> History:
    """Trainer.fit with these arguments by name. The extension calls it if lr_scheduler or progress is given."""
    on_epoch: Callable[[Epoch], object] | None = arguments.pop("on_epoch", None)
    scheduler = _scheduler_of(trainer, arguments.pop("lr_scheduler", None))
    before = scheduler.state_dict() if scheduler is not None else {}
    bar = _bar(first_epoch, epochs) if arguments.pop("progress", False) else None
    validated = arguments.get("validation") is not None

    def after_epoch(epoch: Epoch) -> bool:
        if bar is not None:
            _advance(bar, epoch, validated)
        stop = on_epoch is not None and bool(on_epoch(epoch))
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(epoch.validation_loss if validated else epoch.training_loss)
        elif scheduler is not None:
            scheduler.step()
        return stop

    steps = trainer.optimizer.step_count
    try:
        with bar if bar is not None else nullcontext():
            return trainer.fit(**arguments, on_epoch=after_epoch)
    except BaseException:
        if scheduler is not None and trainer.optimizer.step_count == steps:  # fit has put everything back
            scheduler.load_state_dict(before)
        raise


def _scheduler_of(trainer: Trainer, scheduler: Any) -> LRScheduler | None:
    if scheduler is None:
        return None
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"lr_scheduler must be one of pente.lr_scheduler or None, not {scheduler!r}")
    if scheduler.optimizer is not trainer.optimizer:
        raise ValueError("lr_scheduler is of another optimizer than the trainer's")
    return scheduler


def _bar(first_epoch: int, epochs: int) -> Any:
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install pente[progress]") from error
    return tqdm(initial=first_epoch, total=first_epoch + epochs, unit="epoch", leave=False)


def _advance(bar: Any, epoch: Epoch, validated: bool) -> None:
    losses = {"loss": epoch.training_loss} | ({"val_loss": epoch.validation_loss} if validated else {})
    shown = {**losses, "lr": epoch.learning_rate}
    bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)
    bar.update()
    bar.leave = True  # a run that does not come so far leaves no bar behind
