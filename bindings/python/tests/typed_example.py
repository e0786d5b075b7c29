"""What a type checker must accept, and run as a test too."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pente
from pente.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Buffer


class Gain(pente.CustomLayer):
    """y = gain x, for one column."""

    def __init__(self, gain: float) -> None:
        super().__init__(1, 1, parameters={"gain": array("d", [gain])}, dtype="float64")

    def compute_forward(self, x: pente.Matrix, gain: pente.Matrix) -> Buffer:
        return memoryview(array("d", [gain[0] * value for (value,) in x.tolist()])).cast("B").cast("d", x.shape)

    def compute_backward(
        self, x: pente.Matrix, y: pente.Matrix, grad_output: pente.Matrix, gain: pente.Matrix
    ) -> tuple[Buffer, dict[str, Buffer]]:
        slope = sum(a * g for (a,), (g,) in zip(x.tolist(), grad_output.tolist()))
        return self.compute_forward(grad_output, gain), {"gain": array("d", [slope])}


def plot(history: pente.History, ax: Axes) -> Axes:
    return history.plot(ax)


def train(x: memoryview, y: memoryview, path: Path) -> tuple[pente.History, list[float]]:
    layer = pente.Linear(2, 1, dtype="float64", seed=0)
    optimizer = pente.SGD([{"layers": layer, "lr": 0.1}], momentum=0.5)
    optimizer.set_options(0, nesterov=True)
    rate: float = optimizer.groups[0]["lr"]
    assert rate == optimizer.lr
    loss = pente.MSELoss("mean")
    trainer = pente.Trainer(layer, optimizer, loss, max_grad_norm=100.0)
    losses: list[float] = []

    def on_epoch(epoch: pente.Epoch) -> bool:
        losses.append(epoch.training_loss)
        return epoch.epoch == 5

    schedules: list[LRScheduler] = [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, T_max=18)]
    scheduler = SequentialLR(optimizer, schedules, milestones=[2])
    history = trainer.fit(
        x, y, epochs=20, validation=(x, y), patience=3, on_epoch=on_epoch, lr_scheduler=scheduler, progress=False
    )
    rates: list[float] = history.learning_rates
    assert len(rates) == 5 and scheduler.get_last_lr()[0] == optimizer.lr
    step = pente.lr_scheduler.StepLR(optimizer, step_size=10)
    step.load_state_dict(step.state_dict())
    ReduceLROnPlateau(optimizer, mode="min", min_lr=[1e-4]).step(losses[-1])
    value: float = loss(layer(x), y, array("d", [1.0, 2.0, 3.0]))
    gradient: pente.Matrix | None = layer.backward(loss.backward())
    assert value >= 0.0 and gradient is not None and gradient.shape == (3, 2)
    bias = layer.bias
    assert bias is not None and memoryview(bias).format == "d"
    layer.save(path)
    layer.load_state_dict(pente.Linear.load(path).state_dict())
    report: pente.GradcheckReport = pente.gradcheck(layer, x, y, loss, eps=1e-5)
    assert report
    chain = pente.Chain(pente.Scaler(2, "float64").fit(x), layer, pente.Tanh("float64"), Gain(2.0))
    optimizer = pente.SGD(list(chain)[1::2], lr=0.1)
    pente.Trainer(chain, optimizer, loss).fit(x, y, epochs=2, first_epoch=1)
    first: pente.Layer = chain[0]
    assert optimizer.step_count == 2 and first.in_features == 2 and pente.gradcheck(chain, x, y, loss)
    chain.save(path, optimizer)
    chain.load_parameters(path, optimizer=optimizer)
    trainer.max_grad_norm = None
    shown: list[pente.Progress] = []
    source: pente.DataSource = pente.BatchSource([(x, y), (x, y)])
    again = pente.BatchSource(lambda: iter([(x, y)]))
    rows = pente.BatchSource(lambda first, count: (x[first : first + count], y[first : first + count]), rows=3)
    assert source.rows is None and rows.rows == 3 and not again.has_sample_weight
    trainer.fit(source, checkpoint=path, on_progress=shown.append, shuffle_window=100)
    trainer.fit(source, epochs=2, checkpoint=path, checkpoint_seconds=60.0, resume=True, shuffle_window=100)
    norm: float = optimizer.clip_gradients(1.0)
    optimizer.load_state_dict(optimizer.state_dict())
    assert norm >= 0.0 and optimizer.layers[0][1] is chain[3]
    shapes: dict[str, tuple[int, ...]] = {name: value.shape for name, value in chain.parameters.items()}
    assert shapes["1.bias"] == shapes["3.gain"] == (1,)
    return history, losses
