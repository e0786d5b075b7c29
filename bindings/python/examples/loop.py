"""Trains a linear model on a CSV file, with the training loop written out: every step on all rows at once.

python loop.py DATA.csv TARGET_COUNT [RESULT_FILE]
"""

import sys

import pente
import table

EPOCHS = 200


def main(path, targets, result=None):
    x, y = table.read(path, int(targets))
    layer = pente.Linear(x.shape[1], y.shape[1], seed=0)
    mse = pente.MSELoss()
    sgd = pente.SGD([layer], lr=0.01, momentum=0.9)
    losses = []

    # README: begin
    for epoch in range(1, EPOCHS + 1):
        sgd.zero_grad()
        loss = mse(layer(x), y)
        layer.backward(mse.backward())
        sgd.step()
        losses.append(loss)
        if epoch % 20 == 0:
            print(f"epoch {epoch:3}/{EPOCHS}  loss {loss:.6f}")
    # README: end

    if result:
        table.write_result(result, layer, loss=losses)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} DATA.csv TARGET_COUNT [RESULT_FILE]")
    main(*sys.argv[1:])
