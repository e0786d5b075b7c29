# mypy: allow-subclassing-any, disable-error-code="import-untyped, import-not-found"
"""Linear regression."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

import pente

from ._base import Regressor
from ._training import Array


class LinearRegressor(Regressor):
    """Linear least squares by stochastic gradient descent, on features and targets as they are.

    A ``pente.Linear`` is trained on features and targets scaled to mean 0 and variance 1, and the scales are folded
    into ``coef_`` and ``intercept_`` afterwards. With the defaults no data need tuning: the learning rate follows from
    the data, and the result is near to that of ``sklearn.linear_model.LinearRegression``.

    Parameters
    ----------
    scale : bool, default=True
        Whether to scale features and targets for the training.
    alpha : float, default=0
        L2 penalty. What is minimized for each target is the mean of the squared errors plus ``alpha`` times the sum of
        the squared weights, all scaled: ``Ridge(alpha * n_samples)`` after a ``StandardScaler``.
    learning_rate : "auto" or float, default="auto"
        "auto" is one over the loss's largest curvature, and is divided by 4 if the training diverges. It is lowered,
        four times to a fifth, when the loss no longer improves. A number is constant.
    momentum : float, default=0.9
        Momentum, in [0, 1).
    nesterovs_momentum : bool, default=True
        Whether to use Nesterov's momentum.
    batch_size : "auto" or int, default="auto"
        Rows for each step. "auto" is all of them up to 1000, and 200 shuffled ones above.
    max_iter : int, default=1000
        Most epochs of a ``fit``.
    tol : float, default=1e-8
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
        For shuffles and the rows that are set aside.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients in the units of ``X`` and ``y``; one-dimensional if ``y`` was.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept.
    layer_ : pente.Linear
        The same as a layer, a new one each time: ``layer_.save(path)`` takes it to C and Swift.
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
    MLPRegressor : The same with hidden layers.
    sklearn.linear_model.SGDRegressor : Wants features that are scaled.

    Notes
    -----
    Up to 1000 rows the result does not depend on their order, and a weight of 2 is the row twice, to rounding. Each
    call begins without momentum. float32 features that are far from 0 for their spread, such as years, lose digits when
    the scales are folded in: give them as float64.

    Examples
    --------
    >>> import numpy as np
    >>> from pente.sklearn import LinearRegressor
    >>> X = np.random.default_rng(0).uniform(0, 1000, (500, 2))
    >>> y = X @ [3, -2] + 7
    >>> model = LinearRegressor().fit(X, y)
    >>> print(model.coef_.round(4), round(model.intercept_, 2))
    [ 3. -2.] 7.0
    >>> model.layer_
    Linear(in_features=2, out_features=1, bias=True, dtype='float64')
    """

    def __init__(
        self,
        *,
        scale: bool = True,
        alpha: float = 0.0,
        learning_rate: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 1000,
        tol: float = 1e-8,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
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
    def layer_(self) -> pente.Linear:
        """What is learned as a layer, (n_targets, n_features), from features to targets; a new one each time."""
        weight, bias = self._fold()
        layer = pente.Linear(weight.shape[1], weight.shape[0], dtype=self._dtype.name)
        layer.load_state_dict({"weight": weight, "bias": bias})
        return layer

    @property
    def coef_(self) -> npt.NDArray[np.floating]:
        """Coefficients in the units of X and y, (n_features,) or (n_targets, n_features)."""
        coef: npt.NDArray[np.floating] = self._fold()[0]
        return coef[0] if self._target_ndim == 1 else coef

    @property
    def intercept_(self) -> float | npt.NDArray[np.floating]:
        """The intercept in the units of y, a float or (n_targets,)."""
        intercept: npt.NDArray[np.floating] = self._fold()[1]
        return float(intercept[0]) if self._target_ndim == 1 else intercept

    def _fold(self) -> tuple[Array, Array]:
        """The weight and bias of features and targets as they are."""
        check_is_fitted(self)
        mean, scale, weight, bias = (self._parameters[name] for name in ("0.mean", "0.scale", "1.weight", "1.bias"))
        coef = self._target_scale[:, None] * weight / scale
        intercept = self._target_scale * bias + self._target_mean - coef @ mean
        return coef.astype(self._dtype), intercept.astype(self._dtype)

    def _initialize(self, chain: pente.Chain, seed: int) -> None:
        """At 0: a constant column's coefficient stays 0, and where many solutions are as good the smallest is found."""
        for parameter in chain.parameters.values():
            np.asarray(parameter)[...] = 0
