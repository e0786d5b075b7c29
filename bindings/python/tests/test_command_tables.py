"""The command's tables: what it reads, and what it says of one that it cannot use."""

import math
import os
import random
import tracemalloc

import pytest
from command_support import data, hide, problem, refusal, run, write_csv
from pente._command import tables

TRAIN = ["--target", "y", "--epochs=3", "--quiet"]


def trained(tmp_path, path, *options):
    """The bytes of a model that is trained on the table."""
    assert run("train", path, "--out", tmp_path / "model", *(options or TRAIN)) == 0
    return (tmp_path / "model").read_bytes()


@pytest.fixture
def numbers():
    """Some that take all 17 digits to write."""
    generator = random.Random(0)
    return [[generator.uniform(-1, 1) * 10 ** generator.randrange(-9, 9) for _ in "aby"] for _ in range(50)]


def test_csv_npy_and_parquet_give_the_same_model_to_the_bit(tmp_path, numbers):
    numpy = pytest.importorskip("numpy")
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    csv_file = write_csv(tmp_path / "data.csv", "aby", numbers)
    expected = trained(tmp_path, csv_file)
    columns = dict(zip("aby", zip(*numbers)))
    parquet.write_table(pyarrow.table(columns), tmp_path / "data.parquet")
    structured = numpy.array([tuple(row) for row in numbers], dtype=[(name, "f8") for name in "aby"])
    numpy.save(tmp_path / "structured.npy", structured)
    assert trained(tmp_path, tmp_path / "data.parquet") == expected
    assert trained(tmp_path, tmp_path / "structured.npy") == expected

    # Of an array without names the last column is the target; but for the names, it is the same model.
    for order in "CF":
        numpy.save(tmp_path / "plain.npy", numpy.array(numbers, order=order))
        plain = trained(tmp_path, tmp_path / "plain.npy", *TRAIN[2:])
        assert plain[-40:] == expected[-40:] and b'\\"0\\", \\"1\\"' in plain
    assert trained(tmp_path, tmp_path / "plain.npy", "--target", "2", *TRAIN[2:]) == plain
    assert trained(tmp_path, tmp_path / "plain.npy", "--target", "0", *TRAIN[2:]) != plain


def test_pandas_reads_large_csv_files_to_the_same_bits(tmp_path, numbers, monkeypatch, hide):
    pytest.importorskip("pandas")
    path = write_csv(tmp_path / "data.csv", "aby", [*numbers, [2**53 + 1, 5e-324, 0.1 + 0.2], [1, -0.0, 1e22]])
    expected = [bytes(column) for column in tables.open_table(str(path)).columns(["y", "a"])]
    monkeypatch.setattr(tables, "PANDAS_PAYS", 0)
    with monkeypatch.context() as context:
        context.setattr(tables, "_number", None)  # Python's own reader would fail
        assert [bytes(column) for column in tables.open_table(str(path)).columns(["y", "a"])] == expected
    hide("pandas")
    assert [bytes(column) for column in tables.open_table(str(path)).columns(["y", "a"])] == expected


def test_a_pipe_is_refused_before_it_is_read(tmp_path, capfd):
    os.mkfifo(tmp_path / "pipe.csv")
    said = refusal(capfd, "train", tmp_path / "pipe.csv", *TRAIN, "--out", tmp_path / "model")
    assert "pipe.csv is a pipe or a device; write the table to a file first" in said


def test_a_file_that_changes_between_two_looks(tmp_path):
    path = write_csv(tmp_path / "data.csv", "aby", problem())
    table = tables.open_table(str(path))
    write_csv(path, "yba", problem())
    with pytest.raises(tables.CommandError, match="has other columns than a moment ago"):
        table.columns(["a"])


def test_a_line_of_white_space_is_blank_to_pandas_too(tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("\v\n1\n2\n")
    for pays in (1 << 20, 0):
        monkeypatch.setattr(tables, "PANDAS_PAYS", pays)
        table = tables.open_table(str(tmp_path / "data.csv"))
        assert table.names == ["1"] and [list(column) for column in table.columns(["1"])] == [[2.0]]


@pytest.mark.parametrize("text", ["a,b\n1,2\n\n3,4\n", "\ufeffa, b\r\n1,2\r\n3,4", '"a","b"\n"1"," 2"\n3.,4e0\n'])
def test_csv_as_it_comes(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8", newline="")
    table = tables.open_table(str(path))
    assert table.names == ["a", "b"]
    assert [column.tolist() for column in table.columns(["b", "a"])] == [[2, 4], [1, 3]]


BAD_CSV = [
    ("", "{} is empty, but a line of the columns' names is expected"),
    ("a,b,y\n", "{} has columns, but no rows"),
    ("a,b,y\n1,2,3\n", "{} has one row, but two are the least to train on"),
    ("a,b,y\n1,2,3\n4,,6\n", "{}: column 'b' has no value in row 2; "),
    ("a,b,y\n1,2,3\n\n4,5,NA\n", "{}: column 'y' has no value in row 2; "),
    ("a,b,y\n1,2,3\n4, nan ,6\n", "{}: column 'b' has no value in row 2; "),
    ("a,b,y\n1,2,3\n4,red,6\n5,blue,7\n", "{}: column 'b' has 'red' in row 2, which is no number; encode"),
    ("a,b,y\n1,2024_01,3\n4,5,6\n", "{}: column 'b' has '2024_01' in row 1, which is no number"),
    ("a,b,y\n1,2,3\n4,True,6\n", "{}: column 'b' has 'True' in row 2, which is no number"),
    ("a,b,y\n1,2,3\n4,-inf,6\n", "{}: column 'b' has -inf in row 2, but finite numbers are expected"),
    ("a,b,y\n1,1e999,3\n4,5,6\n", "{}: column 'b' has inf in row 1, but finite numbers are expected"),
    ("a,b,y\n1,2,3\n4,5\n", "{}: row 2 has 2 cells, but the header has 3"),
    ("a,b,y\n1,2,3,4\n5,6,7,8\n", "{}: row 1 has 4 cells, but the header has 3"),
    ("a,b,a,y\n1,2,3,4\n5,6,7,8\n", "{} has 2 columns of the name 'a'; rename all but one of them"),
    ("a,b,z\n1,2,3\n4,5,6\n", "{} has no column 'y'; its columns are a, b, z"),
    (",a,y\n0,1,2\n1,4,5\n", "{}: column 1 has no name, as an index that pandas has written; name it, or choose"),
    ("a;b;y\n1;2;3\n4;5;6\n", "{} has cells that are separated by ';', but must be by ','"),
    ("a\tb\n1\t2\n4\t5\n", "{} has cells that are separated by '\\t', but must be by ','"),
    ("y\n1\n2\n", "{} has no columns but the targets, so nothing to predict from"),
    ("a,b,y\n1,2,5\n4,5,5\n", "{}: target 'y' is 5 in every row: there is nothing to learn, and its R² is undefined"),
    ("a,b,y\n1,\0,3\n4,5,6\n", "{}: column 'b' has '\\x00' in row 1"),
    (b"\x89PNG\r\n\x1a\n\xff", "{} is no CSV file ("),
]


@pytest.mark.parametrize("by_pandas", [False, True])
@pytest.mark.parametrize("content, message", BAD_CSV)
def test_bad_csv(tmp_path, capfd, monkeypatch, content, message, by_pandas):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if by_pandas:
        pytest.importorskip("pandas")
        monkeypatch.setattr(tables, "PANDAS_PAYS", 0)
    said = refusal(capfd, "train", path, "--target", "y", "--out", tmp_path / "model")
    assert said.startswith("1 pente train: error: " + message.format(path))
    assert not (tmp_path / "model").exists()


def test_what_is_not_chosen_may_be_anything(tmp_path, monkeypatch):
    rows = [(a, "text", b, "", y) for a, b, y in problem()]
    path = write_csv(tmp_path / "data.csv", ["a", "name", "b", "note", "y"], rows)
    expected = trained(tmp_path, path, *TRAIN, "--features", "a,b")
    monkeypatch.setattr(tables, "PANDAS_PAYS", 0)
    assert trained(tmp_path, path, *TRAIN, "--features", "a, b") == expected
    assert expected == trained(tmp_path, write_csv(tmp_path / "same.csv", "aby", problem()))


@pytest.mark.parametrize(
    "array, message",
    [
        ("zeros(3)", " is no array of two dimensions, nor one of"),
        ("zeros((2, 3, 4))", " is no array of two dimensions, nor one of"),
        ("array([['a', 'b'], ['c', 'd']])", ": column '0' has 'a' in row 1, which is no number"),
        ("ones((3, 2), dtype=complex)", ": column '0' has (1+0j) in row 1, which is no number"),
        ("array([[1, 2], [nan, 4]])", ": column '0' has no value in row 2"),
        ("array([[1, inf], [2, 4]])", ": column '1' has inf in row 1, but finite numbers are expected"),
        ("zeros((0, 3))", " has columns, but no rows"),
        ("zeros((3, 0))", " has no columns"),
        ("array([[None, 2]])", " is no array that can be read: "),
    ],
)
def test_bad_npy(tmp_path, capfd, array, message):
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "data.npy", eval(array, vars(numpy)))
    said = refusal(capfd, "train", tmp_path / "data.npy", "--out", tmp_path / "model")
    assert said.startswith(f"1 pente train: error: {tmp_path / 'data.npy'}{message}")


def test_bad_parquet(tmp_path, capfd):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "data.parquet"
    for b, message in [
        ([1, None, 3], ": column 'b' has no value in row 2"),
        ([1.0, math.inf, 3.0], ": column 'b' has inf in row 2, but finite numbers are expected"),
        ([None, "red", "blue"], ": column 'b' has 'red' in row 2, which is no number"),
        ([[1], [2], [3]], ": column 'b' has [1] in row 1, which is no number"),
    ]:
        parquet.write_table(pyarrow.table({"a": [1, 2, 3], "b": b, "y": [True, False, True]}), path)
        said = refusal(capfd, "train", path, *TRAIN, "--out", tmp_path / "model")
        assert said.startswith(f"1 pente train: error: {path}{message}")
    assert trained(tmp_path, path, *TRAIN, "--features", "a")


@pytest.mark.parametrize("column", ["name", "value"])
def test_parquet_with_text_that_is_no_utf8(tmp_path, capfd, column):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"name": ["value", "value"], "y": [1, 2]}), path, compression="none")
    path.write_bytes(path.read_bytes().replace(column.encode(), column.encode()[:-1] + b"\xff"))
    said = refusal(capfd, "train", path, "--target=y", "--out", tmp_path / "model")
    assert said.startswith(f"1 pente train: error: {path} is no Parquet file that can be read: ")


@pytest.mark.parametrize("name, kind", [("data.npy", "array"), ("data.parquet", "Parquet file")])
@pytest.mark.parametrize(
    "content", [b"", b"a,b,y\n1,2,3\n", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x02\x00({", b"PAR1" * 9]
)
def test_damaged_files(tmp_path, capfd, name, kind, content):
    pytest.importorskip("numpy" if kind == "array" else "pyarrow")
    (tmp_path / name).write_bytes(content)
    said = refusal(capfd, "train", tmp_path / name, *TRAIN, "--out", tmp_path / "model")
    assert said.startswith(f"1 pente train: error: {tmp_path / name} is no {kind} that can be read: ")


@pytest.mark.parametrize("name", ["data.csv", "data.npy", "data.parquet"])
def test_no_file(tmp_path, capfd, name):
    said = refusal(capfd, "train", tmp_path / name, *TRAIN, "--out", tmp_path / "model")
    assert said == f"1 pente train: error: {tmp_path / name}: No such file or directory"
    (tmp_path / name).mkdir()
    said = refusal(capfd, "train", tmp_path / name, *TRAIN, "--out", tmp_path / "model")
    assert said == f"1 pente train: error: {tmp_path / name}: Is a directory"


def test_what_is_not_installed_is_named(tmp_path, capfd, hide):
    hide("numpy", "pyarrow", "pandas")
    for name, package in [("data.npy", "numpy"), ("data.parquet", "pyarrow")]:
        (tmp_path / name).write_bytes(b"")
        said = refusal(capfd, "train", tmp_path / name, *TRAIN, "--out", tmp_path / "model")
        assert said.startswith(f"1 pente train: error: {tmp_path / name}: a ")
        assert said.endswith(f" file needs {package}, which is not installed: pip install {package}")


def test_csv_takes_nothing_that_is_not_pythons(tmp_path, data, hide):
    expected = trained(tmp_path, data)
    hide("numpy", "pandas", "pyarrow", "tqdm", "matplotlib")
    assert trained(tmp_path, data) == expected


@pytest.mark.parametrize("text", ["a,y\n1,2,\n3,4\n", "a,y\n1,2\n3,4\x00\n", "a,y\n1,2,,\n3,4\n"])
def test_pandas_takes_nothing_that_is_refused_else(tmp_path, capfd, monkeypatch, text):
    table = tmp_path / "table.csv"
    table.write_text(text)
    said = [refusal(capfd, "train", table, "--target=a", "--out", tmp_path / "new")]
    monkeypatch.setattr(tables, "PANDAS_PAYS", 0)
    said.append(refusal(capfd, "train", table, "--target=a", "--out", tmp_path / "new"))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("shape", "descr"),
    [((0, 1 << 40), "<f8"), ((1 << 40, 0), "<f8"), ((1 << 40, 1 << 10), "|S0"), ((1 << 61, 8), "<f8"), ((1 << 26,), "<f8")],
)
def test_an_array_that_promises_much_takes_no_memory(tmp_path, capfd, shape, descr):
    numpy = pytest.importorskip("numpy")
    with open(tmp_path / "promise.npy", "wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        numpy.lib.format.write_array_header_1_0(file, header)
    capfd.readouterr()
    tracemalloc.start()
    assert refusal(capfd, "train", tmp_path / "promise.npy", "--out", tmp_path / "new").startswith("1 pente train: error")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 30


@pytest.mark.parametrize("numbers", [[["1e4000", "1"], ["2", "3"]], [["nan", "1"], ["2", "3"]]])
def test_numbers_that_float64_cannot_hold_are_one_error(tmp_path, capfd, numbers):
    """And no warning of NumPy's before it."""
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "wide.npy", numpy.array(numbers).astype(numpy.longdouble))
    assert "column '0' has" in refusal(capfd, "train", tmp_path / "wide.npy", "--out", tmp_path / "new")


def test_an_error_is_one_line_of_some_length(tmp_path, capfd):
    table = tmp_path / "table.csv"
    table.write_text('"a\nb\x1b[2J",y\n1,2\n')
    assert r"its columns are a\nb\x1b[2J, y" in refusal(capfd, "train", table, "--target=z", "--out", tmp_path / "new")
    table.write_text("a,y\n1,2\n" + "x" * 100_000 + ",3\n")
    assert len(refusal(capfd, "train", table, "--target=y", "--out", tmp_path / "new")) < 1000
