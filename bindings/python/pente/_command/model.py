"""The model and its training: raw columns in, raw columns out."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from typing import Literal

from .. import Chain, Layer, LeakyReLU, Linear, Matrix, ReLU, Scaler, Sigmoid, Softplus, Tanh
from .errors import CommandError

ACTIVATIONS = {"relu": ReLU, "leaky_relu": LeakyReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softplus": Softplus}
CODES: dict[str, Literal["f", "d"]] = {"float32": "f", "float64": "d"}

Numbers = list["array[float]"]  # columns of a table, float64


def matrix(columns: Numbers, dtype: Literal["float32", "float64"], names: Sequence[str]) -> memoryview[float]:
    """The columns side by side, (rows, columns); their names are for the error that a number is beyond the dtype."""
    rows, count, code = len(columns[0]), len(columns), CODES[dtype]
    numbers: array[float] = array(code)
    numbers.frombytes(bytes(rows * count * numbers.itemsize))
    for j, (name, column) in enumerate(zip(names, columns, strict=True)):
        numbers[j::count] = array(code, column.tolist())
        if not all(map(math.isfinite, numbers[j::count])):
            raise CommandError(
                f"column {name!r} has numbers that {dtype} cannot hold; scale it, or use --dtype float64"
            )
    return memoryview(numbers).cast("B").cast(code, (rows, count))


def split(rows: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to validate with, shuffled: at least one of each, if there is to be validation."""
    order = list(range(rows))
    random.Random(seed).shuffle(order)
    held_out = min(max(round(rows * fraction), 1), rows - 1) if fraction else 0
    return order[held_out:], order[:held_out]


def new_chain(
    features: int, targets: int, hidden: Sequence[int], activation: str, dtype: Literal["float32", "float64"], seed: int
) -> Chain:
    """A scaler, and linear layers of these widths with an activation after each but the last."""
    widths = [features, *hidden, targets]
    layers: list[Layer] = [Scaler(features, dtype)]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [Linear(inputs, outputs, dtype=dtype), ACTIVATIONS[activation](dtype=dtype)]
    chain = Chain(layers[:-1])
    chain.reset_parameters(seed)
    return chain


def fold(linear: Linear, scaler: Scaler) -> None:
    """Lets the layer put out y where it has learned to put out (y - mean) / scale."""
    weight, bias = linear.weight, linear.bias
    assert bias
    for k, (scale, mean) in enumerate(zip(scaler.scale.tolist(), scaler.mean.tolist(), strict=True)):
        bias[k] = bias[k] * scale + mean
        for j in range(linear.in_features):
            weight[k, j] *= scale


def columns_of(prediction: Matrix) -> Numbers:
    rows, count = prediction.shape
    numbers: array[float] = array(CODES[prediction.dtype])
    numbers.frombytes(bytes(memoryview(prediction)))
    return [numbers[k::count] for k in range(count)]


def rmse(prediction: Sequence[float], truth: Sequence[float]) -> float:
    return math.sqrt(_squares(prediction, truth) / len(truth))


def r_squared(prediction: Sequence[float], truth: Sequence[float]) -> float:
    """The share of the variance that is explained; NaN if there is none, also not of what is left of tiny numbers."""
    mean = sum(truth) / len(truth)
    variance = _squares(truth, [mean] * len(truth))
    return 1 - _squares(prediction, truth) / variance if variance and min(truth) < max(truth) else math.nan


def _squares(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x - y) * (x - y) for x, y in zip(a, b, strict=True))
