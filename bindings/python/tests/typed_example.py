"""What a type checker must accept, and run as a test too."""

from array import array
from pathlib import Path

import pente


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
    return history, losses
