"""What a type checker must accept, and run as a test too."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pente

if TYPE_CHECKING:
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


def train(x: memoryview, y: memoryview, path: Path) -> tuple[pente.History, list[float]]:
    layer = pente.Linear(2, 1, dtype="float64", seed=0)
    optimizer = pente.SGD([{"layers": layer, "lr": 0.1}], momentum=0.5)
    optimizer.set_options(0, nesterov=True)
    loss = pente.MSELoss("mean")
    trainer = pente.Trainer(layer, optimizer, loss)
    losses: list[float] = []

    def on_epoch(epoch: pente.Epoch) -> bool:
        losses.append(epoch.training_loss)
        return epoch.epoch == 5

    history = trainer.fit(x, y, epochs=20, validation=(x, y), patience=3, on_epoch=on_epoch)
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
    shapes: dict[str, tuple[int, ...]] = {name: value.shape for name, value in chain.parameters.items()}
    assert shapes["1.bias"] == shapes["3.gain"] == (1,)
    return history, losses
