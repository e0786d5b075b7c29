"""Pente: the smallest thing that trains. Linear layers, activations, chains of them and layers of your own, mean
squared error and stochastic gradient descent.

>>> import numpy as np, pente
>>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
>>> y = x[:, :1] * x[:, 1:2]
>>> layer = pente.Chain(pente.Linear(3, 16, seed=0), pente.Tanh(), pente.Linear(16, 1, seed=1))
>>> trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1, momentum=0.9), pente.MSELoss())
>>> history = trainer.fit(x, y, epochs=100)
>>> history.training_losses[-1] < history.training_losses[0] / 10
True
>>> layer.predict(x).shape
(200, 1)

Arrays of any library go in, without a copy: whatever has the buffer protocol (array.array, memoryview, NumPy arrays) or
DLPack (PyTorch's tensors), or can be read by NumPy. What comes out has both. pente.sklearn has estimators for
scikit-learn.
"""

from ._pente import (
    SGD,
    BatchSource,
    Chain,
    CustomLayer,
    DataSource,
    Layer,
    LeakyReLU,
    Linear,
    Matrix,
    MSELoss,
    NPYSource,
    ReLU,
    Scaler,
    Sigmoid,
    Softplus,
    Tanh,
    Trainer,
    __version__,
    get_num_threads,
    gradcheck,
    set_num_threads,
)

TYPE_CHECKING = False  # typing's, which takes longer to import than all of this
if TYPE_CHECKING:
    from . import lr_scheduler
    from ._reports import Epoch, GradcheckReport, History, Progress

__all__ = [
    "BatchSource",
    "Chain",
    "CustomLayer",
    "DataSource",
    "Epoch",
    "GradcheckReport",
    "History",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Matrix",
    "NPYSource",
    "Progress",
    "ReLU",
    "SGD",
    "Scaler",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "Trainer",
    "__version__",
    "get_num_threads",
    "gradcheck",
    "lr_scheduler",
    "set_num_threads",
]


def __getattr__(name: str) -> object:
    """lr_scheduler, and what fit and gradcheck return, once asked for: both take longer to import than all the rest."""
    if name == "lr_scheduler":
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    if name not in ("Epoch", "GradcheckReport", "History", "Progress"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _reports

    return getattr(_reports, name)
