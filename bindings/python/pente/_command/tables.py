"""Tables in files, CSV, NPY and Parquet, as columns of numbers. CSV needs nothing but Python."""

from __future__ import annotations

import csv
import math
import os
import reprlib
import warnings
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import CommandError, because, optional

# Bytes of a CSV file from which on pandas, where it is there, is worth the half second that its import takes.
PANDAS_PAYS = 1 << 20

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}


class Table(ABC):
    """A file's columns, by their names. named is false if those are but their numbers, "0", "1" and so on."""

    named = True

    def __init__(self, path: str, names: Iterable[str]) -> None:
        self.path = path
        self.names = list(names)
        if not self.names:
            raise CommandError(f"{path} has no columns")
        name, count = Counter(self.names).most_common(1)[0]
        if count > 1:
            raise CommandError(f"{path} has {count} columns of the name {name!r}; rename all but one of them")

    def require(self, names: Sequence[str]) -> None:
        """That these columns are there."""
        for name in names:
            if name not in self.names:
                raise CommandError(f"{self.path} has no column {name!r}; {self.listed}")

    @property
    def listed(self) -> str:
        """Its columns, for an error."""
        more = f" and {len(self.names) - 20} more" if len(self.names) > 20 else ""
        return f"its columns are {', '.join(self.names[:20])}{more}"

    def columns(self, names: Sequence[str]) -> list[array[float]]:
        """These columns' numbers, float64: as many in each, at least one, and all finite."""
        try:
            columns = self._read([self.names.index(name) for name in names])
        except OSError as error:
            raise CommandError(f"{self.path}: {because(error)}") from None
        if not columns[0]:
            raise CommandError(f"{self.path} has columns, but no rows")
        for name, column in zip(names, columns, strict=True):
            if not all(map(math.isfinite, column)):
                row, value = next((i, v) for i, v in enumerate(column, 1) if not math.isfinite(v))
                if math.isnan(value):
                    raise self._missing(name, row)
                raise CommandError(
                    f"{self.path}: column {name!r} has {value} in row {row}, but finite numbers are expected"
                )
        return columns

    @abstractmethod
    def _read(self, indices: list[int]) -> list[array[float]]:
        """These columns; NaN where a number is missing."""

    def _missing(self, name: str, row: int) -> CommandError:
        return CommandError(
            f"{self.path}: column {name!r} has no value in row {row}; fill it in, take such rows out, or choose other "
            "columns with --features"
        )

    def _not_a_number(self, name: str, row: int, value: object) -> CommandError:
        return CommandError(
            f"{self.path}: column {name!r} has {reprlib.repr(value)} in row {row}, which is no number; encode such a column as "
            "numbers, or choose other columns with --features"
        )


def open_table(path: str) -> Table:
    """The table in a file, which the path's suffix tells the kind of; what is wrong with it is a CommandError."""
    kinds: dict[str, Callable[[str], Table]] = {".npy": ArrayTable, ".parquet": ParquetTable, ".pq": ParquetTable}
    try:
        return kinds.get(Path(path).suffix.lower(), CSVTable)(path)
    except OSError as error:
        raise CommandError(f"{path}: {because(error)}") from None


def _require_file(path: str) -> None:
    """What is wrong with the path is to be said before what is not installed."""
    with open(path, "rb"):
        pass


def _load(path: str, load: Callable[[], Any], kind: str) -> Any:
    """What a library loads; of a damaged file there are many kinds of errors, and warnings, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except Exception as error:
        raise CommandError(f"{path} is no {kind} that can be read: {because(error)}") from None


# ---- CSV -------------------------------------------------------------------------------------------------------------


class CSVTable(Table):
    """Columns are separated by commas, and the first line names them."""

    def __init__(self, path: str) -> None:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            # It is read more than once.
            raise CommandError(f"{path} is a pipe or a device; write the table to a file first")
        header = next(_lines(path), None)
        if header is None:
            raise CommandError(f"{path} is empty, but a line of the columns' names is expected")
        if len(header) == 1 and (others := [mark for mark in ";\t|" if mark in header[0]]):
            raise CommandError(f"{path} has cells that are separated by {others[0]!r}, but must be by ','")
        super().__init__(path, (name.strip() for name in header))

    def _read(self, indices: list[int]) -> list[array[float]]:
        if Path(self.path).stat().st_size >= PANDAS_PAYS:
            columns = self._read_by_pandas(indices)
            if columns:
                return columns
        columns = [array("d") for _ in indices]
        lines = _lines(self.path)
        if [name.strip() for name in next(lines, [])] != self.names:
            raise CommandError(f"{self.path} has other columns than a moment ago; is it being written?")
        for row, line in enumerate(lines, 1):
            if len(line) != len(self.names):
                raise CommandError(
                    f"{self.path}: row {row} has {len(line)} cells, but the header has {len(self.names)}"
                )
            for index, column in zip(indices, columns, strict=True):
                try:
                    column.append(_number(line[index]))
                except ValueError:
                    raise self._not_a_number(self.names[index], row, line[index]) from None
        return columns

    def _read_by_pandas(self, indices: list[int]) -> list[array[float]] | None:
        """The same numbers, ten times faster; None unless all is well, since _read can say what is not."""
        try:
            pandas = import_module("pandas")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # new versions say that float_precision need no longer be given
                warnings.simplefilter("error", pandas.errors.ParserWarning)  # lines are longer than the header
                frame = pandas.read_csv(self.path, encoding="utf-8-sig", index_col=False, float_precision="round_trip")
        except Exception:
            return None
        content = Path(self.path).read_bytes()
        if b"\0" in content or content.count(b",") != (len(self.names) - 1) * (len(frame) + 1):
            return None  # pandas passes over a NUL, and an empty cell too many
        if len(frame.columns) != len(self.names) or any(name and name != str(other).strip() for name, other in zip(self.names, frame.columns)):
            return None  # nor is a line of white space blank to it
        columns = [frame.iloc[:, index].to_numpy() for index in indices]
        if frame.isna().any(axis=None) or any(column.dtype.kind not in "iuf" for column in columns):
            return None
        return [_doubles(column) for column in columns]


def _lines(path: str) -> Iterator[list[str]]:
    """A CSV file's lines that are not blank, as cells; a line of spaces is."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield from (cells for cells in csv.reader(file) if len(cells) > 1 or cells and not cells[0].isspace())
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(
            f"{path} is no CSV file ({because(error)}); .npy and .parquet files are known by their names"
        ) from None


def _number(cell: str) -> float:
    if "_" in cell:  # Python reads 2020_01 as 202001
        raise ValueError
    try:
        return float(cell)
    except ValueError:
        if cell.strip().lower() in MISSING:
            return math.nan
        raise


# ---- NPY -------------------------------------------------------------------------------------------------------------


class ArrayTable(Table):
    """A 2-D array, or a structured one, whose fields are its columns."""

    def __init__(self, path: str) -> None:
        _require_file(path)
        numpy = optional("numpy", f"{path}: a .npy file")
        self._array = _load(path, lambda: numpy.load(path), "array")
        fields = getattr(self._array, "dtype", numpy.dtype(float)).names
        self.named = fields is not None
        if getattr(self._array, "ndim", 0) != (1 if fields else 2):
            raise CommandError(f"{path} is no array of two dimensions, nor one of one dimension with named fields")
        if not fields and not self._array.nbytes:  # of nothing there may be 2^60 columns
            raise CommandError(f"{path} has " + ("columns, but no rows" if self._array.shape[1] else "no columns"))
        super().__init__(path, fields or map(str, range(self._array.shape[1])))

    def _read(self, indices: list[int]) -> list[array[float]]:
        return [self._column(index) for index in indices]

    def _column(self, index: int) -> array[float]:
        name = self.names[index]
        column = self._array[name] if self.named else self._array[:, index]
        if column.dtype.kind not in "biuf" or column.ndim != 1:
            if not len(column):
                return array("d")
            raise self._not_a_number(name, 1, column[0].tolist())
        return _doubles(column)


def _doubles(column: Any) -> array[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is too large becomes infinite, which is said then
        return array("d", column.astype("float64").tobytes())


# ---- Parquet ---------------------------------------------------------------------------------------------------------


class ParquetTable(Table):
    def __init__(self, path: str) -> None:
        _require_file(path)
        parquet = optional("pyarrow.parquet", f"{path}: a Parquet file")
        self._table = _load(path, lambda: parquet.read_table(path), "Parquet file")
        super().__init__(path, _load(path, lambda: self._table.column_names, "Parquet file"))

    def _read(self, indices: list[int]) -> list[array[float]]:
        return [self._column(index) for index in indices]

    def _column(self, index: int) -> array[float]:
        values = _load(self.path, lambda: self._table.column(index).to_pylist(), "Parquet file")
        try:
            return array("d", (math.nan if value is None else value for value in values))
        except TypeError:
            row, value = next((i, v) for i, v in enumerate(values, 1) if v is not None and not hasattr(v, "__float__"))
            raise self._not_a_number(self.names[index], row, value) from None
