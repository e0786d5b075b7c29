"""Trains a linear model on a CSV file with Trainer.fit.

python train.py DATA.csv TARGET_COUNT [RESULT_FILE]
"""

import sys

import pente
import table


def show(epoch):
    if epoch.epoch % 20 == 0:
        print(f"epoch {epoch.epoch:3}/{epoch.epochs}  loss {epoch.training_loss:.6f}")


def main(path, targets, result=None):
    x, y = table.read(path, int(targets))
    layer = pente.Linear(x.shape[1], y.shape[1], seed=0)
    trainer = pente.Trainer(layer, pente.SGD([layer], lr=0.01, momentum=0.9), pente.MSELoss())
    history = trainer.fit(x, y, epochs=200, batch_size=32, shuffle=True, seed=0, on_epoch=show)
    if result:
        table.write_result(result, layer, loss=history.training_losses)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} DATA.csv TARGET_COUNT [RESULT_FILE]")
    main(*sys.argv[1:])
