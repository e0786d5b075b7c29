"""Learning rate schedules: torch.optim.lr_scheduler's names, arguments and numbers, over all groups of a pente.SGD.

>>> layer = pente.Linear(3, 1)
>>> optimizer = pente.SGD(layer, lr=0.1)
>>> warm_up = pente.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5)
>>> annealing = pente.lr_scheduler.CosineAnnealingLR(optimizer, T_max=95)
>>> scheduler = pente.lr_scheduler.SequentialLR(optimizer, [warm_up, annealing], milestones=[5])
>>> trainer = pente.Trainer(layer, optimizer, pente.MSELoss())
>>> x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
>>> history = trainer.fit(x, y, epochs=100, lr_scheduler=scheduler)
>>> history.learning_rates[0], history.learning_rates[5]
(0.010000000000000002, 0.1)

Trainer.fit makes the steps, one after each epoch; a loop of your own calls step(). What differs from PyTorch: a
scheduler starts from the learning rates that its optimizer has when it is made (PyTorch remembers those from before its
first scheduler); a state is without the constructor's arguments, but with the learning rates, so that load_state_dict
is all it takes to go on; and arguments out of range are refused.

A scheduler and its optimizer are for one thread at a time.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, SupportsFloat

from . import _checks
from ._pente import SGD

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "InverseScalingLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


# ---- The base --------------------------------------------------------------------------------------------------------

_ages = itertools.count()


class LRScheduler:
    """What all schedulers have. For a schedule of your own there is LambdaLR.

    optimizer is the SGD whose groups it sets, base_lrs the learning rates that they had when it was made, and
    last_epoch how many steps it has made. A TypeError or ValueError names an argument that will not do, and nothing has
    changed.

    >>> scheduler = pente.lr_scheduler.ConstantLR(pente.SGD(pente.Linear(3, 1), lr=1.0), factor=0.5)
    >>> isinstance(scheduler, pente.lr_scheduler.LRScheduler), scheduler.base_lrs, scheduler.last_epoch
    (True, [1.0], 0)
    """

    optimizer: SGD
    base_lrs: list[float]  # of the groups, when it was made
    last_epoch: int  # how many steps it has made

    def __init__(self, optimizer: SGD) -> None:
        self.optimizer = _checks.require_sgd(optimizer)
        self._age = next(_ages)
        self._start(self.get_last_lr())

    def get_last_lr(self) -> list[float]:
        """The groups' learning rates, as they are now.

        >>> pente.lr_scheduler.StepLR(pente.SGD(pente.Linear(3, 1), lr=1.0), step_size=2).get_last_lr()
        [1.0]
        """
        return [group["lr"] for group in self.optimizer.groups]

    def step(self) -> None:
        """Sets the learning rates for the next epoch.

        >>> scheduler = pente.lr_scheduler.ExponentialLR(pente.SGD(pente.Linear(3, 1), lr=1.0), gamma=0.5)
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
        """
        self._set(self._lrs(self.last_epoch + 1, self._current(), self.base_lrs))
        self.last_epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and the groups' learning rates, in numbers, lists and dicts (json takes it); no arguments.

        >>> pente.lr_scheduler.ExponentialLR(pente.SGD(pente.Linear(3, 1), lr=1.0), gamma=0.5).state_dict()
        {'last_epoch': 0, 'base_lrs': [1.0], 'lrs': [1.0]}
        """
        return {**self._state(), "lrs": self.get_last_lr()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on from there: also the optimizer gets its learning rates. For a scheduler of the same class and
        arguments, over as many groups.

        >>> scheduler = pente.lr_scheduler.ExponentialLR(pente.SGD(pente.Linear(3, 1)), gamma=0.5)
        >>> scheduler.load_state_dict({'last_epoch': 3, 'base_lrs': [1.0], 'lrs': [0.125]})
        >>> scheduler.optimizer.lr
        0.125
        """
        self._current()
        state = _checks.like("state_dict", state_dict, self.state_dict())
        self._set(state.pop("lrs"))
        self._load(state)

    def _state(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def _load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def _start(self, base_lrs: list[float]) -> None:
        self._set(self._lrs(0, base_lrs, base_lrs))
        self.base_lrs = list(base_lrs)
        self.last_epoch = 0

    def _restart(self, base_lrs: list[float]) -> None:
        """When SequentialLR comes to it."""
        self._start(base_lrs)

    def _lrs(self, epoch: int, lrs: list[float], base_lrs: list[float]) -> list[float]:
        """The learning rates of an epoch, from those of the one before; epoch 0, from the base."""
        return [self._lr(epoch, *rates) for rates in zip(lrs, base_lrs)]

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        """The same for one group, where all are alike. In PyTorch's order of operations, to the same bits."""
        raise NotImplementedError(f"{type(self).__name__} has no schedule")

    def _current(self) -> list[float]:
        lrs = self.get_last_lr()
        if len(lrs) != len(self.base_lrs):
            raise ValueError(
                f"optimizer has {len(lrs)} groups, but had {len(self.base_lrs)} when the scheduler was made"
            )
        return lrs

    def _set(self, lrs: list[float]) -> None:
        for lr in lrs:
            if not 0 <= lr < math.inf:
                raise ValueError(f"{self!r} comes to a learning rate of {lr}; it must be finite and not negative")
        for group, lr in enumerate(lrs):
            self.optimizer.set_options(group, lr=lr)

    def __repr__(self) -> str:
        shown = (f"{key}={value!r}" for key, value in vars(self).items() if key != "optimizer" and key[0] != "_")
        return f"{type(self).__name__}({', '.join(shown)})"


# ---- By the epoch ----------------------------------------------------------------------------------------------------


class LambdaLR(LRScheduler):
    """base_lr · lr_lambda(epoch), with epochs from 0; a function for all groups, or a list of one for each.

    The functions are no part of the state.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 0.3333333333333333, 0.25, 0.2]
    """

    def __init__(
        self,
        optimizer: SGD,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]] | tuple[Callable[[int], float], ...],
    ) -> None:
        self.lr_lambdas: list[Callable[[int], float]] = _checks.for_groups("lr_lambda", lr_lambda, optimizer)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda must be callable or a list of callables, not {lr_lambda!r}")
        super().__init__(optimizer)

    def _lrs(self, epoch: int, lrs: list[float], base_lrs: list[float]) -> list[float]:
        return [base_lr * function(epoch) for base_lr, function in zip(base_lrs, self.lr_lambdas)]


class ConstantLR(LRScheduler):
    """factor · base_lr for total_iters epochs, then base_lr.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, optimizer: SGD, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor: float = _checks.factor("factor", factor)
        self.total_iters: int = _checks.whole("total_iters", total_iters, 1)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        if epoch == 0:
            return lr * self.factor
        return lr * (1.0 / self.factor) if epoch == self.total_iters else lr


class LinearLR(LRScheduler):
    """A warm-up: from start_factor · base_lr in a straight line to end_factor · base_lr after total_iters epochs.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: SGD, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor: float = _checks.factor("start_factor", start_factor)
        self.end_factor: float = _checks.not_negative("end_factor", end_factor)
        if self.end_factor > 1:
            raise ValueError(f"end_factor is {self.end_factor}; it must be at most 1")
        self.total_iters: int = _checks.whole("total_iters", total_iters, 1)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        if epoch == 0:
            return lr * self.start_factor
        if epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        lr *= 1.0 + rise / (self.total_iters * self.start_factor + (epoch - 1) * rise)
        return max(lr, 0.0)  # an end_factor of 0 can round to something below, as PyTorch's does


class StepLR(LRScheduler):
    """Times gamma every step_size epochs.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: SGD, step_size: int, gamma: float = 0.1) -> None:
        self.step_size: int = _checks.whole("step_size", step_size, 1)
        self.gamma: float = _checks.not_negative("gamma", gamma)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        return lr * self.gamma if epoch > 0 and epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """Times gamma at each milestone, an epoch's number from 0; at one that is there twice, twice.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 0.5, 0.25, 0.25]
    """

    def __init__(self, optimizer: SGD, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones: list[int] = sorted(_checks.wholes("milestones", milestones, 0))
        self.gamma: float = _checks.not_negative("gamma", gamma)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        return lr * self.gamma ** self.milestones.count(epoch)


class ExponentialLR(LRScheduler):
    """Times gamma every epoch.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 0.25, 0.125, 0.0625]
    """

    def __init__(self, optimizer: SGD, gamma: float) -> None:
        self.gamma: float = _checks.not_negative("gamma", gamma)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        return lr * self.gamma if epoch > 0 else lr


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from base_lr to eta_min in T_max epochs, and back in as many.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.5, 0.0, 0.49999999999999994, 1.0]
    """

    def __init__(self, optimizer: SGD, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max: int = _checks.whole("T_max", T_max, 1)
        self.eta_min: float = _checks.not_negative("eta_min", eta_min)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        if epoch == 0:
            return lr
        if (epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the lowest, of which there is no multiple
            return lr + (base_lr - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        to, since = (1 + math.cos(math.pi * e / self.T_max) for e in (epoch, epoch - 1))
        return to / since * (lr - self.eta_min) + self.eta_min

    def _restart(self, base_lrs: list[float]) -> None:
        super()._restart(base_lrs)
        self._set([self.eta_min + (base_lr - self.eta_min) for base_lr in base_lrs])  # rounded, as PyTorch's


class InverseScalingLR(LRScheduler):
    """base_lr / t**power_t in epoch t, from 1: the "invscaling" of scikit-learn's SGDRegressor, which counts rows.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.InverseScalingLR(optimizer, power_t=0.5)
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.7071067811865475, 0.5773502691896258, 0.5, 0.4472135954999579]
    """

    def __init__(self, optimizer: SGD, power_t: float = 0.25) -> None:
        self.power_t: float = _checks.not_negative("power_t", power_t)
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        return base_lr / math.pow(epoch + 1, self.power_t)


# ---- By other schedulers, or by a loss -------------------------------------------------------------------------------


class SequentialLR(LRScheduler):
    """One scheduler after another: schedulers[i + 1] starts, from the base_lrs, at epoch milestones[i], from 1.

    The schedulers are made for it alone, over the same optimizer; from then on it makes their steps.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> warm_up = pente.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = pente.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = pente.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[2])
    >>> [scheduler.step() or optimizer.lr for _ in range(4)]
    [0.75, 1.0, 0.5, 0.25]
    """

    base_lrs: list[float]
    last_epoch: int

    def __init__(self, optimizer: SGD, schedulers: Iterable[LRScheduler], milestones: Iterable[int]) -> None:
        if not isinstance(schedulers, Iterable):
            raise TypeError(f"schedulers must be a list of schedulers, not {schedulers!r}")
        self.schedulers: list[LRScheduler] = list(schedulers)
        self.milestones: list[int] = _checks.wholes("milestones", milestones, 1)
        for i, scheduler in enumerate(self.schedulers):
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, (SequentialLR, ReduceLROnPlateau)):
                raise TypeError(f"schedulers[{i}] must be another kind of scheduler, not {scheduler!r}")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"schedulers[{i}] is of another optimizer")
        if not self.schedulers or len(self.milestones) != len(self.schedulers) - 1:
            raise ValueError(
                f"{len(self.schedulers)} schedulers with {len(self.milestones)} milestones; "
                "there must be one milestone between each two schedulers"
            )
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones is {self.milestones}; they must increase")
        first = min(self.schedulers, key=lambda scheduler: scheduler._age)
        first._set(first.base_lrs)  # as it was before any of them was made
        super().__init__(optimizer)

    def _start(self, base_lrs: list[float]) -> None:
        for scheduler in reversed(self.schedulers):  # the first last: the learning rates are its
            scheduler._start(base_lrs)
        self.base_lrs = list(base_lrs)
        self.last_epoch = 0

    def step(self) -> None:
        epoch = self.last_epoch + 1
        scheduler = self.schedulers[bisect_right(self.milestones, epoch)]
        if epoch in self.milestones:
            scheduler._restart(self.base_lrs)
        else:
            scheduler.step()
        self.last_epoch = epoch

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "schedulers": [scheduler._state() for scheduler in self.schedulers]}

    def _load(self, state: dict[str, Any]) -> None:
        for scheduler, its_state in zip(self.schedulers, state.pop("schedulers")):
            scheduler._load(its_state)
        super()._load(state)


class ReduceLROnPlateau(LRScheduler):
    """Times factor, down to min_lr, when a metric has not become better for more than patience steps.

    Better is lower (mode "min") or higher ("max"), by more than threshold: times the best ("rel"), or as it is ("abs").
    After a reduction cooldown steps do not count. A reduction of no more than eps is not made. min_lr is for all
    groups, or a list of one for each.

    >>> optimizer = pente.SGD(pente.Linear(3, 1), lr=1.0)
    >>> scheduler = pente.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> [scheduler.step(loss) or optimizer.lr for loss in (2.0, 1.0, 1.0, 1.0)]
    [1.0, 1.0, 1.0, 0.5]
    """

    last_epoch: int

    def __init__(
        self,
        optimizer: SGD,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] | tuple[float, ...] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.mode: str = _checks.one_of("mode", mode, ("min", "max"))
        self.factor: float = _checks.not_negative("factor", factor)
        if self.factor >= 1:
            raise ValueError(f"factor is {self.factor}; it must be below 1")
        self.patience: int = _checks.whole("patience", patience, 0)
        self.threshold: float = _checks.not_negative("threshold", threshold)
        self.threshold_mode: str = _checks.one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown: int = _checks.whole("cooldown", cooldown, 0)
        min_lrs = _checks.for_groups("min_lr", min_lr, optimizer)
        self.min_lrs: list[float] = [_checks.not_negative("min_lr", value) for value in min_lrs]
        self.eps: float = _checks.not_negative("eps", eps)
        self.best: float = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs: int = 0
        self.cooldown_counter: int = 0
        super().__init__(optimizer)

    def _lr(self, epoch: int, lr: float, base_lr: float) -> float:
        return lr

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]  # as in PyTorch
        """Looks at the epoch's metric, and sets the learning rates for the next. NaN is not better than anything.

        >>> scheduler = pente.lr_scheduler.ReduceLROnPlateau(pente.SGD(pente.Linear(3, 1), lr=1.0), patience=0)
        >>> scheduler.step(2.0)
        >>> scheduler.step(2.0)
        >>> scheduler.get_last_lr()
        [0.1]
        """
        metric, lrs = _checks.number("metrics", metrics), self._current()
        self.last_epoch += 1
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            reduced = [max(lr * self.factor, least) for lr, least in zip(lrs, self.min_lrs)]
            self._set([new if lr - new > self.eps else lr for lr, new in zip(lrs, reduced)])
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _is_better(self, metric: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        margin = sign * self.threshold
        goal = self.best * (1.0 + margin) if self.threshold_mode == "rel" else self.best + margin
        return metric < goal if self.mode == "min" else metric > goal

    def _state(self) -> dict[str, Any]:
        counted = {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter")}
        return {**super()._state(), **counted}
