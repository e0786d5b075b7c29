"""The learning rate's schedules, by the names that --schedule has for them, each over all epochs."""

from collections.abc import Callable

from .. import SGD
from ..lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    InverseScalingLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

SCHEDULES: dict[str, Callable[[SGD, int], LRScheduler | None]] = {
    "constant": lambda optimizer, epochs: None,
    "step": lambda optimizer, epochs: StepLR(optimizer, step_size=max(epochs // 3, 1)),
    "exponential": lambda optimizer, epochs: ExponentialLR(optimizer, gamma=0.01 ** (1 / epochs)),
    "linear": lambda optimizer, epochs: LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=epochs),
    "cosine": lambda optimizer, epochs: CosineAnnealingLR(optimizer, T_max=epochs),
    "invscaling": lambda optimizer, epochs: InverseScalingLR(optimizer),
    "plateau": lambda optimizer, epochs: ReduceLROnPlateau(optimizer, patience=5),
}
