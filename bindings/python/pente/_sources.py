"""Where a BatchSource's rows come from. The extension makes it, and calls it on a thread of the fit's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import chain
from typing import Any

from . import _checks

_Parts = tuple[Any, ...]  # x, y, and perhaps a sample weight

# Arrow's names of what float32 has all numbers of.
_SMALL = {"float", "halffloat", "bool", "int8", "uint8", "int16", "uint16"}

_ANEW = "for more give a list, or a function that returns a new iterator"


class Batches:
    """The arguments of BatchSource, and the batches that they give."""

    def __init__(
        self, batches: Any, rows: Any, dtype: str | None, target: Any, features: Any, sample_weight: str | None
    ) -> None:
        self.rows = None if rows is None else _checks.whole("rows", rows, 1)
        if self.rows is not None and not callable(batches):
            raise TypeError(f"batches must be a function of first and count where rows are given, not {batches!r}")
        if not callable(batches) and not isinstance(batches, Iterable):
            raise TypeError(f"batches must be an iterable or a function that returns one, not {batches!r}")
        self._batches: Any = batches
        self._is_iterator = isinstance(batches, Iterator)
        self._is_used = False
        self._columns = _Columns(dtype, target, features, sample_weight)

    def first(self) -> _Parts:
        """The first batch; an iterator gives it again."""
        if self.rows is not None:
            return self.read(0, 1)
        iterator = self._iterator()
        try:
            batch = next(iterator)
        except StopIteration:
            raise ValueError("batches are none at all") from None
        if self._is_iterator:
            self._batches = chain([batch], iterator)
        return self._parts(batch, "batch 1: ")

    def start(self) -> Iterator[_Parts]:
        """The batches of one more epoch."""
        if self._is_iterator:
            self.require_epochs(1)
            self._is_used = True
        count = 0
        for count, batch in enumerate(self._iterator(), 1):
            yield self._parts(batch, f"batch {count}: ")
        if not count:
            raise ValueError(f"batches are none in this epoch; {_ANEW}")

    def read(self, first: int, count: int) -> _Parts:
        """Some of the rows from number `first` on."""
        return self._parts(self._batches(first, count), f"batches({first}, {count}): ")

    def require_epochs(self, count: int) -> None:
        """That they can be gone through so often."""
        if self._is_iterator and self._is_used:
            raise ValueError(f"batches are an iterator, which has been gone through; {_ANEW}")
        if self._is_iterator and count > 1:
            raise ValueError(f"epochs is {count}, but batches are an iterator, which is good for one; {_ANEW}")

    def _iterator(self) -> Iterator[Any]:
        source: Callable[[], Iterable[Any]] | Iterable[Any] = self._batches
        return iter(source if isinstance(source, Iterable) else source())

    def _parts(self, batch: Any, place: str) -> _Parts:
        if hasattr(batch, "schema") and hasattr(batch, "column"):
            return self._columns.parts(batch, place)
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            found = type(batch).__name__
            raise TypeError(f"{place}it must be (x, y), (x, y, sample_weight) or of Arrow, not of type {found}")
        return tuple(batch)


class _Columns:
    """Which columns of an Arrow RecordBatch or Table are what."""

    def __init__(self, dtype: str | None, target: Any, features: Any, sample_weight: str | None) -> None:
        self._dtype = dtype
        self._target = _names("target", target)
        self._features = _names("features", features)
        self._sample_weight = _names("sample_weight", sample_weight)

    def parts(self, batch: Any, place: str) -> _Parts:
        there, weight = batch.schema.names, self._sample_weight
        if not self._target:
            raise TypeError(f"target must name the columns of y, of {there}")
        if not self._features:  # of this batch and all others
            self._features = [name for name in there if name not in self._target + weight]
        used = self._features + self._target + weight
        for name in used:
            if there.count(name) != 1:
                raise ValueError(f"{place}there are {there.count(name)} columns {name!r}, but 1 is expected")
        if self._dtype is None:
            types = {str(batch.schema.field(name).type) for name in used}
            self._dtype = "float32" if types <= _SMALL else "float64"
        return tuple(self._matrix(batch, names, place) for names in (self._features, self._target, weight) if names)

    def _matrix(self, batch: Any, names: list[str], place: str) -> Any:
        numpy = import_module("numpy")
        matrix = numpy.empty((batch.num_rows, len(names)), self._dtype)
        for i, name in enumerate(names):
            column = batch.column(batch.schema.names.index(name))
            if column.null_count:
                raise ValueError(f"{place}column {name!r} has no value in row {column.is_null().to_pylist().index(True)}")
            values = numpy.asarray(column)
            if values.dtype.kind not in "biuf":
                raise TypeError(f"{place}column {name!r} is of {column.type}, but numbers are expected")
            with numpy.errstate(over="ignore"):  # what becomes infinite, fit names
                matrix[:, i] = values
        return matrix


def _names(argument: str, value: Any) -> list[str]:
    names = [] if value is None else [value] if isinstance(value, str) else list(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be a column's name, or a list of names, not {value!r}")
    return names
