"""Trains a chain of layers to read handwritten digits, with Trainer.fit, and saves it.

python digits.py DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS]
"""

import sys

import pente
import table


def read(path, dtype):
    """x and y of the rows to train on, and of every fifth, to test with; y has a 1 in the digit's column, else 0."""
    rows = table.read_rows(path)
    if len(rows) < 5 or len(rows[0]) < 2:
        raise SystemExit(f"{path}: there must be five rows or more, of pixels and a digit each")
    training, test = ([], []), ([], [])
    for i, (*pixels, digit) in enumerate(rows):
        if digit not in range(10):
            raise SystemExit(f"{path}:{i + 2}: the last column must be a digit")
        x, y = test if i % 5 == 4 else training
        x.append([pixel / 16 for pixel in pixels])
        y.append([float(column == digit) for column in range(10)])
    return [tuple(table.matrix(values, dtype) for values in examples) for examples in (training, test)]


def show(epoch):
    print(
        f"epoch {epoch.epoch:3}/{epoch.epochs}  loss {epoch.training_loss:.6f}"
        f"  validation {epoch.validation_loss:.6f}"
    )


def largest(matrix):
    """The column of each row's largest number."""
    return [row.index(max(row)) for row in memoryview(matrix).tolist()]


def main(path, dtype, result, model, epochs=30):
    (x, y), test = read(path, dtype)
    relu = pente.ReLU(dtype=dtype)
    chain = pente.Chain(
        pente.Linear(x.shape[1], 64, dtype=dtype),
        relu,
        pente.Linear(64, 32, dtype=dtype),
        relu,
        pente.Linear(32, 10, dtype=dtype),
    )
    chain.reset_parameters(seed=0)  # one seed for all of them
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=0.2, momentum=0.9), pente.MSELoss())
    history = trainer.fit(x, y, epochs=int(epochs), batch_size=32, seed=0, validation=test, on_epoch=show)

    found, digits = largest(chain.predict(test[0])), largest(test[1])
    accuracy = sum(map(int.__eq__, found, digits)) / len(digits)
    print(f"test accuracy {accuracy:.4f}")
    chain.save(model)
    measured = dict(loss=history.training_losses, validation_loss=history.validation_losses, accuracy=[accuracy])
    table.write_result(result, chain, **measured)


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6) or sys.argv[2] not in table.CODES:
        sys.exit(f"usage: {sys.argv[0]} DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS]")
    main(*sys.argv[1:])
