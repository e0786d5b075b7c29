"""Changed files for Python's readers: fuzz_tables.py COUNT. Each is read, or refused with the command's own error: CSV to
the same numbers with pandas and without, NPY to what numpy.load gives, and safetensors as the safetensors package does."""

import random
import resource
import signal
import struct
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy
import pente
from pente._command import tables
from pente._command.errors import CommandError
from safetensors import SafetensorError
from safetensors.numpy import load_file

# Of 1000 files of a kind so many must be read, about a third of what it was: where all are refused, nothing is compared.
LEAST = {("csv", "read"): 1, ("csv", "read by pandas"): 39, ("npy", "read"): 24, ("safetensors", "read"): 9}
CORPUS = Path(__file__).parent / "corpus"
WORDS = {
    ".csv": '0 1 -2.5 1e308 1e-320 1e999 nan inf NA None True 0x10 1_0 " "" , ;'.split()
    + [" ", "\t", "\n", "\r", "\r\n", "\0", "\u0661", "\ufeff", "9007199254740993", "18446744073709551616", '"1\n2"'],
    ".npy": "0 1 2 ( ) , ' - True False None <f8 >f4 <f2 |S0 |V0 |O <U3 |b1 <i8 <M8[s] <f16 1099511627776".split()
    + ["[('a', '<f8'), ('b', '<i4')]", "[('a', '<f8', (2,))]", "9223372036854775807", "fortran_order", "\0", "\ud800"],
    ".safetensors": '{ } [ ] , : " 0 1 -1 2.0 01 9223372036854775808 "F32" "F64" "I64" "x" null true \\" \\ud800'.split(),
}


def seeds(suffix: str, folder: Path) -> list[bytes]:
    if suffix == ".csv":
        return [path.read_bytes() for path in sorted((CORPUS / "table").iterdir())]
    if suffix == ".safetensors":
        return [path.read_bytes() for path in sorted((CORPUS / "safetensors").iterdir())]
    arrays = [numpy.arange(6.0).reshape(2, 3), numpy.ones((3, 2), ">f4"), numpy.zeros((2, 2), "i8", order="F")]
    arrays += [numpy.array([(1, 2)], [("a", "f8"), ("b", "i4")]), numpy.zeros((0, 3)), numpy.ones((2, 2), "f2")]
    return [_saved(folder, array) for array in arrays]


def _saved(folder: Path, array: numpy.ndarray) -> bytes:
    numpy.save(folder / "seed.npy", array)
    return (folder / "seed.npy").read_bytes()


def changed(data: bytes, suffix: str, draw: random.Random) -> bytes:
    """Some bytes other, fewer or more; lengths of headers put right as a rule."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, run = draw.randint(0, len(content)), draw.choice([0, 1, 1, 2, 8])
        piece = draw.choice(WORDS[suffix]).encode(errors="surrogatepass")
        other = [piece, bytes([draw.randrange(256)]), content[at // 2 : at // 2 + draw.randint(0, 20)], b""]
        content[at : at + run] = draw.choice(other)
    if draw.random() < 0.9 and len(content) > 10:
        if suffix == ".npy":
            content[:8] = data[:8]
            content[8:10] = struct.pack("<H", min(65535, max(content.find(b"\n", 10) - 9, 0)))
        elif suffix == ".safetensors":
            rest = len(data) - 8 - int.from_bytes(data[:8], "little")
            content[:8] = struct.pack("<Q", max(len(content) - 8 - rest, 0))
    return bytes(content)


def read(path: Path) -> list[list[float]] | None:
    """All the columns, or None for the command's own error; any other is a finding."""
    try:
        table = tables.open_table(str(path))
        return [list(column) for column in table.columns(table.names)]
    except CommandError as error:
        assert str(path) in str(error) and len(str(error)) < 100_000
        return None


by_pandas = []  # whether pandas has read the file, each time that it was asked


def watch_pandas() -> None:
    ask = tables.CSVTable._read_by_pandas

    def watched(table: tables.CSVTable, indices: list[int]) -> object:
        columns = ask(table, indices)
        by_pandas.append(bool(columns))
        return columns

    tables.CSVTable._read_by_pandas = watched


def check_csv(path: Path) -> str:
    by_pandas.clear()
    tables.PANDAS_PAYS = 1 << 60
    plain = read(path)
    assert not by_pandas, "pandas was asked"
    tables.PANDAS_PAYS = 0
    assert plain == read(path), "pandas has other numbers"
    if not plain:
        return "refused"
    return "read by pandas" if by_pandas == [True] else "read"


def check_npy(path: Path) -> str:
    columns = read(path)
    if columns is None:
        return "refused"
    array = numpy.load(path)
    with numpy.errstate(all="ignore"):
        expected = [array[name] for name in array.dtype.names] if array.dtype.names else array.T
        assert columns == [column.astype("float64").tolist() for column in expected]
    return "read"


def check_safetensors(path: Path) -> str:
    """A layer of its own names and shapes takes the file, or not, as the package does. What may differ is named."""
    try:
        theirs = load_file(path)
    except (SafetensorError, UnicodeDecodeError):
        theirs = None
    try:
        layer = pente.Layer.load(path)
    except ValueError as error:
        ours, message = None, str(error)
    else:
        ours, message = layer, ""
    if ours is not None:
        assert theirs is not None, "what the package refuses is read"
        for name, value in ours.state_dict().items():
            assert numpy.array_equal(value, theirs[name], equal_nan=True), name
    if theirs is not None and ours is None:
        return f"refused, but by the package read: {_kind(message)}"
    return "read" if ours is not None else "refused"


def _kind(message: str) -> str:
    """What is wrong, without names and numbers."""
    kinds = ["twice or unknown", "has dtype", "at byte", "twice", "it does not say", "it has no", "dimensions",
             "which the layer has not", "is float", "gives", "number of columns", "columns", "custom", "description",
             "empty", "slope", "of bytes"]  # fmt: skip
    return next((kind for kind in kinds if kind in message), message)


def main() -> None:
    count = int(sys.argv[1])
    draw, found = random.Random(0), Counter()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    warnings.simplefilter("error")
    watch_pandas()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        checks = {".csv": check_csv, ".npy": check_npy, ".safetensors": check_safetensors}
        corpora = {suffix: seeds(suffix, Path(name)) for suffix in checks}
        for i in range(count):
            suffix = [*checks][i % 3]
            content = changed(draw.choice(corpora[suffix]), suffix, draw)
            path = Path(name, "input" + suffix)
            path.write_bytes(content)
            signal.alarm(10)
            try:
                found[suffix[1:], checks[suffix](path)] += 1
            except BaseException:
                Path("build/fuzz").mkdir(parents=True, exist_ok=True)
                Path("build/fuzz/failed" + suffix).write_bytes(content)
                print(f"change {i}; the file is build/fuzz/failed{suffix}", file=sys.stderr)
                raise
        signal.alarm(0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    assert most < 1000, f"{most} MB"
    print(f"fuzz_tables: {count} files, {most} MB")
    for (kind, outcome), times in sorted(found.items()):
        print(f"  {kind}: {times} {outcome}")
    for key, least in LEAST.items():
        assert found[key] >= count // len(checks) * least // 1000, f"{key[0]}: {found[key]} {key[1]} are too few"


main()
