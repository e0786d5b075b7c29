"""The package in a hostile process: other floating-point modes, and a locale with comma decimals.

LOCPATH names a folder with de_DE.UTF-8."""

import ctypes
import locale
import os
import random
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path

import pente

UPWARD = 0x800  # FE_UPWARD of x86-64
TABLE = "data/linnerud.csv"


def matrix(rows, columns, seed):
    numbers = random.Random(seed)
    flat = array("d", [numbers.uniform(-1, 1) for _ in range(rows * columns)])
    return memoryview(flat).cast("B").cast("d", (rows, columns))


def train(folder):
    """All bits of a training, of its file and of what is shown of it."""
    x, y = matrix(200, 7, 1), matrix(200, 2, 2)
    layer = pente.Chain(pente.Linear(7, 5, dtype="float64"), pente.Tanh("float64"), pente.Linear(5, 2, dtype="float64"))
    layer.reset_parameters(3)
    sgd = pente.SGD(layer, lr=1 / 30, momentum=0.9 / 1.1)
    trainer = pente.Trainer(layer, sgd, pente.MSELoss())
    history = trainer.fit(x, y, epochs=3, batch_size=16, seed=4, validation=(x, y))
    path = Path(folder, "model.safetensors")
    layer.save(path, sgd)
    loaded = pente.Layer.load(path)
    try:
        pente.SGD(layer, lr=-0.5)
    except ValueError as error:
        message = str(error)
    return path.read_bytes(), bytes(loaded(x)), repr(history), repr(sgd), message


def command(model, **variables):
    arguments = [sys.executable, "-P", "-m", "pente", "train", TABLE, "--target", "pulse", "--out", str(model)]
    done = subprocess.run(arguments, capture_output=True, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return model.read_bytes()


def check(what, found, expected):
    assert found == expected, f"{what}: not the same"
    print(f"host.py: {what}: the same")


def main():
    with tempfile.TemporaryDirectory() as folder:
        expected = train(folder)
        if os.uname().machine == "x86_64":
            libm = ctypes.CDLL("libm.so.6")
            libm.fesetround(UPWARD)
            found = train(folder)[:2]
            assert libm.fegetround() == UPWARD
            libm.fesetround(0)
            check("rounding upward", found, expected[:2])
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
        assert locale.str(0.5) == "0,5"
        check("comma decimals", train(folder), expected)
        locale.setlocale(locale.LC_ALL, "C")

        trained = command(Path(folder, "plain"))
        german = command(Path(folder, "german"), LC_ALL="de_DE.UTF-8")
        check("the command with comma decimals", german, trained)


main()
