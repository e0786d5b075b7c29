"""Pente: the smallest thing that trains. Linear layers, mean squared error and stochastic gradient descent.

>>> import pente
>>> layer = pente.Linear(10, 1, seed=0)
>>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
>>> history = trainer.fit(x, y, epochs=100)
>>> layer.predict(x)

Whatever has the buffer protocol goes in (array.array, memoryview, NumPy arrays), and what comes out has it too.
"""

from ._pente import Linear, Matrix, MSELoss, SGD, Trainer, __version__, gradcheck
from ._reports import Epoch, GradcheckReport, History

__all__ = [
    "Epoch",
    "GradcheckReport",
    "History",
    "Linear",
    "MSELoss",
    "Matrix",
    "SGD",
    "Trainer",
    "__version__",
    "gradcheck",
]
