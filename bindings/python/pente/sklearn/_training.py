"""How an estimator trains a layer: at which learning rate, and until when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

import pente

if TYPE_CHECKING:
    from pente import Epoch

FORGETTING = 1e-300  # a momentum that keeps nothing; with 0 the optimizer would keep its buffer for later
Array: TypeAlias = Any  # NumPy's: to a type checker they have no buffer before Python 3.12


class Rows(NamedTuple):
    """What a training learns from."""

    x: Array  # (rows, features)
    y: Array  # (rows, targets)
    weight: Array | None  # (rows,)

    def sample(self, count: int) -> Rows:
        """Some ``count`` of them, evenly spread."""
        step = slice(None, None, -(-len(self.x) // count))
        return Rows(self.x[step], self.y[step], None if self.weight is None else self.weight[step])


class Schedule:
    """Told of each epoch, it sees to the optimizer's options, and says when to stop.

    When the loss, the validation set's if there is one, no longer improves, the learning rate is lowered; at its lowest
    that is the end. Where an epoch is one step (``is_full_batch``), and the loss rises, momentum has overshot and is
    forgotten; not where the loss rises as it does when predictions are off by ``rounding``.
    """

    def __init__(
        self,
        optimizer: pente.SGD,
        *,
        tol: float,
        patience: int,
        cuts: int,
        is_full_batch: bool,
        rounding: float,
        limit: float,
        verbose: bool,
    ) -> None:
        self.optimizer = optimizer
        self.momentum = optimizer.groups[0]["momentum"]
        self.tol = tol
        self.patience = patience
        self.cuts = cuts
        self.is_full_batch = is_full_batch
        self.rounding = rounding
        self.limit = limit
        self.verbose = verbose
        self.previous = math.inf
        self.best = math.inf
        self.waited = 0
        self.has_converged = False

    def __call__(self, epoch: Epoch) -> bool:
        if not epoch.training_loss <= self.limit:
            raise FloatingPointError(f"the loss is {epoch.training_loss} in epoch {epoch.epoch}")
        if self.is_full_batch and self.momentum > 0:
            has_risen = epoch.training_loss > self.previous + self.rounding * math.sqrt(epoch.training_loss)
            self.optimizer.set_options(0, momentum=FORGETTING if has_risen else self.momentum)
            self.previous = epoch.training_loss
        loss = epoch.training_loss if math.isnan(epoch.validation_loss) else epoch.validation_loss
        if self.verbose:
            print(f"Iteration {epoch.epoch}, loss = {loss:.8f}")
        self.waited += 1
        if loss < self.best - self.tol:
            self.best = loss
            self.waited = 0
        if self.waited >= self.patience:
            self.has_converged = self.cuts == 0
            self.cuts -= 1
            self.waited = 0
            self.optimizer.lr /= 5
        return self.has_converged


def largest_curvature(layer: pente.Chain, loss: pente.MSELoss, rows: Rows, iterations: int = 20) -> float:
    """The largest eigenvalue of the loss's Hessian, to first order in the layer, by power iteration.

    Changes the layer's parameters. The targets are the layer's own predictions: the gradient is 0 there, and near it is
    the Hessian times how far one has gone.
    """
    target = layer.predict(rows.x)
    linears = [part for part in layer if isinstance(part, pente.Linear)]
    parameters = [np.asarray(value) for linear in linears for value in linear.parameters.values()]
    gradients = [np.asarray(value) for linear in linears for value in linear.gradients.values()]
    start = [parameter.copy() for parameter in parameters]
    generator = np.random.default_rng(0)
    direction = [generator.standard_normal(parameter.shape) for parameter in parameters]
    distance = float(np.cbrt(np.finfo(rows.x.dtype).eps))
    for _ in range(iterations):
        step = distance / norm(direction)
        for parameter, origin, component in zip(parameters, start, direction):
            parameter[...] = origin + step * component
        layer.zero_grad()
        loss(layer(rows.x), target, rows.weight)
        layer.backward(loss.backward(target_gradient=False), input_gradient=False)
        direction = gradients
    return norm(gradients) / distance


def norm(vector: list[Array]) -> float:
    return math.hypot(*(float(np.linalg.norm(part)) for part in vector))
