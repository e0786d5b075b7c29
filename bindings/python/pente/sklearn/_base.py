# mypy: allow-subclassing-any, disable-error-code="import-untyped, import-not-found"
"""What the estimators share: checked data, scales, and a training that succeeds or changes nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_scalar, validate_data

import pente

from ._training import Array, Rows, Schedule, largest_curvature

if TYPE_CHECKING:
    from typing_extensions import Self

FULL_BATCH = 1000  # rows up to which batch_size="auto" is all of them
MINI_BATCH = 200
RATE_CUTS = 4  # how often learning_rate="auto" is lowered before the training ends
ATTEMPTS = 20  # of learning_rate="auto", each at a quarter of the rate
MEMORY = 3  # times 1 / (1 - momentum): after so many steps what momentum began is over
DIVERGED = 10  # times the loss at the start
CHUNK = 1 << 20  # numbers whose deviations from the mean are in memory at once


class Regressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A chain of a scaler and linear layers that learns the target scaled to mean 0 and variance 1.

    Its parameters are kept as they are trained, so that training can go on; ``layer_`` is in the user's units.
    """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train until the loss no longer improves, or ``max_iter`` epochs are done.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, dense. float32 is trained in float32, all else in float64.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts: 2 is the row twice, 0 is no such row.

        Returns
        -------
        self : object
            The fitted estimator. After an exception, Ctrl-C's too, it is as it was before.

        Raises
        ------
        ValueError
            If an argument or a parameter will not do, or the training diverges at a learning rate that was given.

        Examples
        --------
        >>> from pente.sklearn import LinearRegressor
        >>> X, y = [[0.0], [1000.0], [2000.0]], [[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]]
        >>> LinearRegressor().fit(X, y, sample_weight=[1, 1, 2]).coef_.round(6)
        array([[0.002],
               [0.   ]])
        """
        with _unchanged_on_error(self):
            has_converged = self._train(X, y, sample_weight, self.max_iter, goes_on=self.warm_start)
        if not has_converged:
            warnings.warn(
                f"The loss still improves after max_iter={self.max_iter} epochs: increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train for one epoch.

        The first call decides the scales and the learning rate, so its rows should be like those that follow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        self : object
            The fitted estimator. After an exception, Ctrl-C's too, it is as it was before.

        Examples
        --------
        >>> from pente.sklearn import LinearRegressor
        >>> model = LinearRegressor()
        >>> for _ in range(100):
        ...     model = model.partial_fit([[0.0], [1000.0], [2000.0]], [1.0, 3.0, 5.0])
        >>> model.n_iter_, model.predict([[500.0]]).round(3)
        (100, array([2.]))
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it trains for one epoch")
        with _unchanged_on_error(self):
            self._train(X, y, sample_weight, 1, goes_on=True)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Predict the targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            What ``layer_`` predicts, bit for bit.

        Examples
        --------
        >>> from pente.sklearn import LinearRegressor
        >>> LinearRegressor().fit([[0.0], [1000.0], [2000.0]], [1.0, 3.0, 5.0]).predict([[500.0]]).round(6)
        array([2.])
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=self._dtype, order="C", reset=False)
        y: npt.NDArray[np.floating] = np.asarray(self.layer_.predict(x))
        return y.ravel() if self._target_ndim == 1 else y

    # ---- The layer, and what a kind of regressor decides ------------------------------------------------------------

    _rate_by_curvature = 1.0  # the learning rate, times the largest curvature

    def _hidden_layers(self) -> tuple[list[int], Callable[..., pente.Layer] | None]:
        """Their widths, and what follows each."""
        return [], None

    def _initialize(self, chain: pente.Chain, seed: int) -> None:
        """Sets the parameters with which a training begins."""
        chain.reset_parameters(seed)

    def _make_chain(self, features: int, targets: int, dtype: Any) -> pente.Chain:
        widths, activation = self._hidden
        layers: list[pente.Layer] = [pente.Scaler(features, dtype)]
        for inputs, outputs in pairwise([features, *widths, targets]):
            if len(layers) > 1 and activation:
                layers.append(activation(dtype=dtype))
            layers.append(pente.Linear(inputs, outputs, dtype=dtype))
        return pente.Chain(layers)

    def _chain(self) -> pente.Chain:
        """A new chain, with the parameters as they are trained."""
        chain = self._make_chain(self.n_features_in_, len(self._target_mean), self._dtype.name)
        chain.load_state_dict(self._parameters)
        return chain

    @property
    def _dtype(self) -> Any:
        return self._parameters["0.mean"].dtype

    # ---- Training ---------------------------------------------------------------------------------------------------

    def _train(self, X: Any, y: Any, sample_weight: Any, epochs: int, goes_on: bool) -> bool:
        """Whether it converged."""
        self._check_parameters()
        goes_on = goes_on and hasattr(self, "_parameters")
        if not goes_on:
            self._hidden = self._hidden_layers()
        elif self._hidden != self._hidden_layers():
            raise ValueError("hidden_layer_sizes or activation is not what the model was fitted with; fit it anew")
        x, y, weight = self._check_rows(X, y, sample_weight, goes_on)
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        if not goes_on:
            self._begin(x, y, weight, seed)
        rows = Rows(x, self._scale_target(y), weight)
        validation = None
        if self.early_stopping:
            rows, validation = _split(rows, self.validation_fraction, random_state)
        start = pente.MSELoss()(self._chain().predict(rows.x), rows.y, rows.weight)
        if self.learning_rate != "auto":
            self._rate = self.learning_rate
        elif not goes_on or epochs > 1:
            self._rate = self._safe_rate(rows)
        elif start > DIVERGED * (min(self.loss_curve_) + self.tol):  # these rows are unlike the earlier ones
            self._rate = min(self._rate, self._safe_rate(rows))
        return self._descend(rows, validation, start, epochs, seed)

    def _begin(self, x: Array, y: Array, weight: Array | None, seed: int) -> None:
        target = y.reshape(len(y), -1)
        if self.scale:
            mean, scale = _moments(x, weight, x.dtype, "X")
            self._target_mean, self._target_scale = _moments(target, weight, x.dtype, "y")
        else:
            mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
            self._target_mean, self._target_scale = np.zeros(target.shape[1]), np.ones(target.shape[1])
        self._target_ndim = y.ndim
        chain = self._make_chain(x.shape[1], target.shape[1], x.dtype.name)
        self._initialize(chain, seed)
        self._parameters = _arrays(chain) | {"0.mean": mean.astype(x.dtype), "0.scale": scale.astype(x.dtype)}
        self.loss_curve_: list[float] = []

    def _safe_rate(self, rows: Rows) -> float:
        sample = rows.sample(self._rows_per_batch(rows))
        curvature = largest_curvature(self._chain(), pente.MSELoss(), sample) + self._weight_decay
        return self._rate_by_curvature / curvature

    def _descend(
        self, rows: Rows, validation: tuple[Array, Array] | None, start: float, epochs: int, seed: int
    ) -> bool:
        """Trains; if that diverges and the learning rate is ours to choose, again with a lower one."""
        rate = self._rate
        for attempt in range(1, ATTEMPTS + 1):
            try:
                chain, history, has_converged = self._attempt(rate, rows, validation, start, epochs, seed)
                break
            except FloatingPointError as error:
                if self.learning_rate != "auto" or attempt == ATTEMPTS:
                    raise FloatingPointError(
                        f"Training diverged with learning_rate={rate:g}: {error}. "
                        "Try a lower one, learning_rate='auto' or scale=True."
                    ) from error
                rate /= 4
        self._parameters = _arrays(chain)
        self._rate = rate
        self.loss_curve_ = self.loss_curve_ + history.training_losses
        self.n_iter_: int = len(self.loss_curve_)
        return has_converged

    def _attempt(
        self, rate: float, rows: Rows, validation: tuple[Array, Array] | None, start: float, epochs: int, seed: int
    ) -> tuple[pente.Chain, pente.History, bool]:
        """A copy of the chain that is trained at this rate from a loss of ``start``, and whether it converged."""
        chain = self._chain()
        optimizer = pente.SGD(
            chain,
            lr=rate,
            momentum=self.momentum,
            nesterov=self.nesterovs_momentum and self.momentum > 0,
            weight_decay=self._weight_decay,
        )
        batch_size = self._rows_per_batch(rows)
        is_full_batch = batch_size == len(rows.x)
        memory = int(MEMORY / (1 - self.momentum))
        schedule = Schedule(
            optimizer,
            tol=self.tol,
            patience=max(self.n_iter_no_change, memory * batch_size // len(rows.x)),
            cuts=RATE_CUTS if self.learning_rate == "auto" else 0,
            is_full_batch=is_full_batch,
            rounding=4 * float(np.finfo(self._dtype).eps * np.linalg.norm(rows.y)) / math.sqrt(rows.y.size),
            limit=DIVERGED * (start + self.tol),
            verbose=self.verbose,
        )
        history = pente.Trainer(chain, optimizer, pente.MSELoss()).fit(
            rows.x,
            rows.y,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=not is_full_batch,
            seed=seed,
            sample_weight=rows.weight,
            validation=validation,
            patience=epochs if validation else 0,  # gives back the best; when to stop is the schedule's
            on_epoch=schedule,
        )
        return chain, history, schedule.has_converged

    def _rows_per_batch(self, rows: Rows) -> int:
        count = len(rows.x)
        if self.batch_size == "auto":
            return count if count <= FULL_BATCH else MINI_BATCH
        return min(int(self.batch_size), count)

    @property
    def _weight_decay(self) -> float:
        """The loss is a mean over targets, and alpha is for each of them."""
        return 2 * float(self.alpha) / len(self._target_mean)

    def _scale_target(self, y: Array) -> Array:
        return ((y.reshape(len(y), -1) - self._target_mean) / self._target_scale).astype(self._dtype)

    # ---- What comes in ----------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        for name in ("learning_rate", "momentum", "alpha", "tol"):
            if isinstance(value := getattr(self, name), Real) and not math.isfinite(value):
                raise ValueError(f"{name} == {value}, must be finite.")
        if self.learning_rate != "auto":
            check_scalar(self.learning_rate, "learning_rate", Real, min_val=0, include_boundaries="neither")
        if self.batch_size != "auto":
            check_scalar(self.batch_size, "batch_size", Integral, min_val=1)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)
        check_scalar(self.momentum, "momentum", Real, min_val=0, max_val=1, include_boundaries="left")
        check_scalar(self.alpha, "alpha", Real, min_val=0)
        check_scalar(self.tol, "tol", Real, min_val=0)
        check_scalar(self.n_iter_no_change, "n_iter_no_change", Integral, min_val=1)
        check_scalar(
            self.validation_fraction, "validation_fraction", Real, min_val=0, max_val=1, include_boundaries="neither"
        )

    def _check_rows(self, X: Any, y: Any, sample_weight: Any, goes_on: bool) -> tuple[Array, Array, Array | None]:
        """Rows of no weight are left out."""
        dtype = self._dtype if goes_on else (np.float64, np.float32)
        x, y = validate_data(
            self, X, y, dtype=dtype, order="C", reset=not goes_on, multi_output=True, y_numeric=True
        )
        y = np.ascontiguousarray(y, np.float64)  # a DataFrame has column after column
        if goes_on and y.size != len(y) * len(self._target_mean):
            raise ValueError(f"y has {y.size // len(y)} targets, but the model was fitted to {len(self._target_mean)}")
        if sample_weight is None:
            return x, y, None
        weight = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
        counts = weight > 0
        if not counts.any():  # scikit-learn before 1.9 lets them through
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return (x, y, weight) if counts.all() else (x[counts], y[counts], weight[counts])


def _arrays(chain: pente.Chain) -> dict[str, Array]:
    return {name: np.asarray(value) for name, value in chain.state_dict().items()}


def _moments(values: Array, weight: Array | None, dtype: Any, name: str) -> tuple[Array, Array]:
    """The columns' means and standard deviations; 1 for a column that is constant."""
    scaler = StandardScaler()
    first = values[0]  # from which a constant column does not differ, not by rounding either
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in gen_batches(len(values), max(1, CHUNK // values.shape[1])):
            scaler.partial_fit(values[rows] - first, sample_weight=None if weight is None else weight[rows])
    mean, scale = scaler.mean_ + first, scaler.scale_
    counted = values if weight is None else values[weight > 0]
    for column in np.flatnonzero(scaler.var_ == 0):
        if (counted[:, column] != counted[:1, column]).any():  # by so little that the squares are 0
            scale[column] = 0
    limits = np.finfo(dtype)
    usable = (abs(mean) <= limits.max) & (limits.tiny <= scale) & (scale <= limits.max)
    if not usable.all():
        j = int(np.argmin(usable))
        raise ValueError(
            f"Column {j} of {name} has a mean of {mean[j]} and a standard deviation of {scale[j]}, "
            f"beyond the range of {dtype}."
        )
    return mean, scale


def _split(rows: Rows, fraction: float, random_state: np.random.RandomState) -> tuple[Rows, tuple[Array, Array]]:
    training, held_out = train_test_split(np.arange(len(rows.x)), test_size=fraction, random_state=random_state)
    weight = None if rows.weight is None else rows.weight[training]
    return Rows(rows.x[training], rows.y[training], weight), (rows.x[held_out], rows.y[held_out])


@contextmanager
def _unchanged_on_error(estimator: BaseEstimator) -> Iterator[None]:
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
