# mypy: allow-subclassing-any, disable-error-code="import-untyped, import-not-found"
"""Regression by a multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted, check_scalar

import pente

from ._base import Regressor

ACTIVATIONS = {
    "identity": None,
    "relu": pente.ReLU,
    "leaky_relu": pente.LeakyReLU,
    "tanh": pente.Tanh,
    "logistic": pente.Sigmoid,
    "softplus": pente.Softplus,
}


class MLPRegressor(Regressor):
    """A multi-layer perceptron trained by stochastic gradient descent, on features and targets as they are.

    The parameters are named as those of ``sklearn.neural_network.MLPRegressor``. A chain of a ``pente.Scaler``, linear
    layers and activations is trained on targets scaled to mean 0 and variance 1, and their scales are folded into the
    last layer afterwards. With the defaults no data need tuning: the learning rate follows from the data.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The widths of the hidden layers.
    activation : {"identity", "relu", "leaky_relu", "tanh", "logistic", "softplus"}, default="relu"
        What follows each hidden layer.
    scale : bool, default=True
        Whether to scale features and targets for the training.
    alpha : float, default=0.0001
        L2 penalty. What is minimized is, summed over the targets, the mean of the squared errors, plus ``alpha`` times
        the sum of all squared weights and biases, scaled.
    learning_rate : "auto" or float, default="auto"
        "auto" is half of one over the loss's largest curvature at the start, and is divided by 4 if the training
        diverges. It is lowered, four times to a fifth, when the loss no longer improves. A number is constant.
    momentum : float, default=0.9
        Momentum, in [0, 1).
    nesterovs_momentum : bool, default=True
        Whether to use Nesterov's momentum.
    batch_size : "auto" or int, default="auto"
        Rows for each step. "auto" is all of them up to 1000, and 200 shuffled ones above.
    max_iter : int, default=200
        Most epochs of a ``fit``.
    tol : float, default=1e-4
        An epoch improves the loss if it is lower by more than this; it is 1 for a model that predicts the mean.
    n_iter_no_change : int, default=10
        After so many epochs without improvement, and at least ``3 / (1 - momentum)`` steps, the learning rate is
        lowered or, at its lowest, training ends.
    early_stopping : bool, default=False
        Whether to set rows aside, watch their loss instead, all weighted alike, and give back the parameters for which
        it was lowest.
    validation_fraction : float, default=0.1
        The share of rows that early stopping sets aside.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit, with its scales.
    verbose : bool, default=False
        Whether to print the loss after each epoch.
    random_state : int, RandomState instance or None, default=None
        For the initial weights, shuffles and the rows that are set aside.

    Attributes
    ----------
    layer_ : pente.Chain
        The model from ``X`` to ``y``, a new one each time: ``layer_.save(path)`` takes it to C and Swift.
    loss_curve_ : list of float
        Each epoch's loss on the scaled target, as its batches were met; ``partial_fit`` and ``warm_start`` add to it.
    n_iter_ : int
        The number of these epochs.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` has some that are strings.

    See Also
    --------
    LinearRegressor : The same without hidden layers.
    sklearn.neural_network.MLPRegressor : Has Adam and L-BFGS too, and wants features that are scaled.

    Notes
    -----
    Up to 1000 rows the result does not depend on their order, and a weight of 2 is the row twice, to rounding. Each
    call begins without momentum.

    Examples
    --------
    >>> import numpy as np
    >>> from pente.sklearn import MLPRegressor
    >>> X = np.random.default_rng(0).uniform(0, 1000, (500, 2))
    >>> y = 100 * np.sin(X[:, 0] / 200) + X[:, 1]
    >>> model = MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=1000, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    >>> len(model.layer_)  # a scaler, three linear layers and two activations
    6
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Literal["identity", "relu", "leaky_relu", "tanh", "logistic", "softplus"] = "relu",
        *,
        scale: bool = True,
        alpha: float = 0.0001,
        learning_rate: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.scale = scale
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    @property
    def layer_(self) -> pente.Chain:
        """The chain from features to targets, a new one each time."""
        check_is_fitted(self)
        chain = self._chain()
        last = chain[len(chain) - 1]
        weight, bias = (np.asarray(value) for value in last.parameters.values())
        weight *= self._target_scale[:, None]
        bias[...] = bias * self._target_scale + self._target_mean
        return chain

    _rate_by_curvature = 0.5  # it grows as the network learns

    def _hidden_layers(self) -> tuple[list[int], Callable[..., pente.Layer] | None]:
        return [int(width) for width in np.atleast_1d(self.hidden_layer_sizes)], ACTIVATIONS[self.activation]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation == {self.activation!r}, must be one of {', '.join(ACTIVATIONS)}.")
        for width in np.atleast_1d(self.hidden_layer_sizes):
            check_scalar(width, "hidden_layer_sizes", Integral, min_val=1)
