"""The checks of arguments in Python: each returns what it was given, as a value of our own."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, SupportsFloat, SupportsIndex

from ._pente import SGD


def whole(name: str, value: Any, least: int) -> int:
    try:
        index = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if index < least:
        raise ValueError(f"{name} is {index}; it must be at least {least}")
    return index


def wholes(name: str, value: Any, least: int) -> list[int]:
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of whole numbers, not {value!r}")
    return [whole(f"{name}[{i}]", each, least) for i, each in enumerate(value)]


def number(name: str, value: Any) -> float:
    if isinstance(value, (SupportsFloat, SupportsIndex)):  # which a string is not
        with suppress(TypeError, OverflowError):
            return float(value)
    raise TypeError(f"{name} must be a number, not {value!r}")


def not_negative(name: str, value: Any) -> float:
    x = number(name, value)
    if not 0 <= x < math.inf:
        raise ValueError(f"{name} is {x}; it must be finite and not negative")
    return x


def factor(name: str, value: Any) -> float:
    x = number(name, value)
    if not 0 < x <= 1:
        raise ValueError(f"{name} is {x}; it must be above 0 and at most 1")
    return x


def one_of(name: str, value: Any, choices: tuple[str, str]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} must be {choices[0]!r} or {choices[1]!r}, not {value!r}")
    return value


def for_groups(name: str, value: Any, optimizer: SGD) -> list[Any]:
    """One for each group, from a list of so many or from one for all of them."""
    count = len(require_sgd(optimizer).groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ValueError(f"{name} is a list of {len(values)}, but optimizer has {count} groups")
    return values


def require_sgd(optimizer: Any) -> SGD:
    if not isinstance(optimizer, SGD):
        raise TypeError(f"optimizer must be an SGD, not {optimizer!r}")
    return optimizer


def like(name: str, value: Any, pattern: Any) -> Any:
    """A copy of a state that is loaded, if it has the parts, types and lengths of one that is there."""
    if isinstance(pattern, dict):
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a dict, not {value!r}")
        if value.keys() != pattern.keys():
            raise ValueError(f"{name} has {list(value)}, but must have {list(pattern)}")
        return {key: like(f"{name}[{key!r}]", value[key], part) for key, part in pattern.items()}
    if isinstance(pattern, list):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list, not {value!r}")
        if len(value) != len(pattern):
            raise ValueError(f"{name} is a list of {len(value)}, but must be of {len(pattern)}")
        return [like(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(value, pattern))]
    return whole(name, value, 0) if isinstance(pattern, int) else number(name, value)
