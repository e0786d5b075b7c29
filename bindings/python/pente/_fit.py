"""What a fit does beyond calling on_epoch and on_progress: steps of a learning rate scheduler, and a progress bar."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from ._pente import Trainer
from ._reports import Epoch, History, Progress
from .lr_scheduler import LRScheduler, ReduceLROnPlateau


def fit(trainer: Trainer, first_epoch: int, epochs: int, arguments: dict[str, Any]) -> History:
    """Trainer.fit with these arguments by name. The extension calls it if lr_scheduler or progress is given."""
    on_epoch: Callable[[Epoch], object] | None = arguments.pop("on_epoch", None)
    schedule = _schedule_of(trainer, arguments)
    bar = _bar(first_epoch, epochs) if arguments.pop("progress", False) else None
    if bar is not None:
        arguments["on_progress"] = _with_bar(bar, arguments.pop("on_progress", None))
    validated = arguments.get("validation") is not None

    def after_epoch(epoch: Epoch) -> bool:
        schedule.go_on()
        if bar is not None:
            _advance(bar, epoch, validated)
        try:
            return on_epoch is not None and bool(on_epoch(epoch))
        finally:  # the epoch is done, and fit's last checkpoint says so
            schedule.step(epoch.validation_loss if validated else epoch.training_loss)

    steps = trainer.optimizer.step_count
    try:
        with bar if bar is not None else nullcontext():
            history = trainer.fit(**arguments, on_epoch=after_epoch)
        schedule.go_on()
        return history
    except BaseException:
        if trainer.optimizer.step_count == steps:  # fit has put everything back
            schedule.go_back()
        else:
            schedule.go_on()
        raise


class _Schedule:
    """A scheduler, if there is one, whose state goes into the run's checkpoint and comes from there."""

    def __init__(self, scheduler: LRScheduler | None, is_resumed: bool) -> None:
        self._scheduler = scheduler
        self._before = scheduler.state_dict() if scheduler is not None else {}
        self.numbers = memoryview(array("d", _flat(self._before)))
        self._is_resumed = is_resumed

    def go_on(self) -> None:
        """From where the checkpoint is that fit has gone on with, once the optimizer can be changed."""
        if self._is_resumed and self._scheduler is not None:
            self._is_resumed = False
            self._scheduler.load_state_dict(_like(self._before, iter(self.numbers)))

    def go_back(self) -> None:
        if self._scheduler is not None:
            self._scheduler.load_state_dict(self._before)

    def step(self, loss: float) -> None:
        if self._scheduler is None:
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(loss)
        else:
            self._scheduler.step()
        self.numbers[:] = array("d", _flat(self._scheduler.state_dict()))


def _schedule_of(trainer: Trainer, arguments: dict[str, Any]) -> _Schedule:
    scheduler = _scheduler_of(trainer, arguments.pop("lr_scheduler", None))
    schedule = _Schedule(scheduler, bool(arguments.get("resume")))
    if scheduler is not None and arguments.get("checkpoint") is not None:
        arguments["_schedule"] = schedule.numbers
    return schedule


def _flat(state: Any) -> Iterator[float]:
    """The numbers in a state of dicts, lists and numbers."""
    if isinstance(state, (dict, list)):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _flat(part)
    else:
        yield float(state)


def _like(pattern: Any, numbers: Iterator[float]) -> Any:
    """The state that they are of."""
    if isinstance(pattern, dict):
        return {key: _like(part, numbers) for key, part in pattern.items()}
    if isinstance(pattern, list):
        return [_like(part, numbers) for part in pattern]
    return type(pattern)(next(numbers))


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
    bar.update(epoch.epoch - bar.n)  # by more than 1 where a run is resumed
    bar.leave = True  # a run that does not come so far leaves no bar behind


def _with_bar(bar: Any, on_progress: Callable[[Progress], object] | None) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        left = "?" if progress.seconds_left is None else bar.format_interval(progress.seconds_left)
        bar.set_postfix(
            {
                "row": f"{progress.row}/{'?' if progress.rows is None else progress.rows}",
                "loss": f"{progress.loss:.4g}",
                "rows/s": bar.format_sizeof(progress.rows_per_second),
                "left": left,
            }
        )
        if on_progress is not None:
            on_progress(progress)

    return show
