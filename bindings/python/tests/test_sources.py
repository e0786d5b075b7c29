"""Rows from files and iterators: the bits of the same rows in memory, and what is wrong with them by name."""

import sqlite3
import weakref
from contextlib import closing

import pente
import pytest
from support import mersenne_twister, randperm, snapshot

np = pytest.importorskip("numpy")

from source_support import Recorder, batches_of, examples, new_trainer, save, train  # noqa: E402

OPTIONS = {"epochs": 3, "batch_size": 16, "seed": 5}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bits_of_memory(tmp_path, dtype, shuffle, weighted):
    x, y, weight = examples(dtype=dtype)
    options = {**OPTIONS, "shuffle": shuffle, "dtype": dtype}
    expected = train(x, y, sample_weight=weight if weighted else None, **options)
    arrays = (x, y, weight) if weighted else (x, y)
    parts = {"x0": x[:1], "x1": x[1:200], "x2": x[200:], "y": y, "w0": weight[:150], "w1": weight[150:]}
    x0, x1, x2, y0, w0, w1 = save(tmp_path, **parts)
    files = pente.NPYSource([x0, str(x1), bytes(x2)], y0, [w0, w1] if weighted else None)
    for source in [
        files,
        pente.BatchSource(batches_of(*arrays, sizes=(1, 64, 7, 3, 200))),
        pente.BatchSource(list(batches_of(*arrays)())),
        pente.BatchSource(lambda first, count: tuple(a[first : first + min(count, 9)] for a in arrays), rows=len(x)),
    ]:
        assert (source.inputs, source.outputs, source.dtype) == (5, 2, dtype)
        assert source.rows in (None, 301) and source.has_sample_weight is weighted
        assert f"inputs=5, outputs=2, rows={source.rows}, dtype='{dtype}'" in repr(source)
        for _ in range(2):  # a source serves any number of fits
            assert train(source, **options) == expected


def test_one_dimension_is_one_column(tmp_path):
    x, y, _ = examples()
    (paths) = save(tmp_path, x=x[:, 0], y=y[:, 0])
    for source in [pente.NPYSource(*paths), pente.BatchSource(batches_of(x[:, 0], y[:, 0]))]:
        assert (source.inputs, source.outputs) == (1, 1)


def test_views_and_empty_batches():
    x, y, _ = examples()
    wide = np.zeros((301, 9), np.float32)
    wide[:, 2:7] = x
    batches = [(wide[:100, 2:7], y[:100]), (x[:0], y[:0]), (wide[100:, 2:7], y[100:])]
    assert train(pente.BatchSource(batches), **OPTIONS) == train(x, y, **OPTIONS)


def expected_order(rows, batch, window, seed, epochs):
    """As the header has it."""
    window = max(window // batch, 1) * batch
    block = max(window // 32 // batch, 1) * batch
    window -= window % block
    generator, order = mersenne_twister(seed), []
    for epoch in range(epochs):
        full = rows // block
        blocks = randperm(full, mersenne_twister((seed + 0x9E3779B9 * (epoch + 1)) % 2**32)) + [full]
        coming = [row for i in blocks for row in range(i * block, min((i + 1) * block, rows))]
        for first in range(0, rows, window):
            part = coming[first : first + window]
            order += [part[i] for i in randperm(len(part), generator)]
    return order


@pytest.mark.parametrize("batch, window", [(4, 256), (3, 100), (1, 50), (10, 7)])
def test_the_order_within_windows(tmp_path, batch, window):
    numbers = np.arange(1003, dtype=np.float64)
    options = {"batch_size": batch, "shuffle_window": window, "seed": 9, "epochs": 2}
    source = pente.NPYSource(*save(tmp_path, x=numbers, y=numbers))
    order = expected_order(1003, batch, window, 9, 2)
    assert sorted(order) == sorted([*range(1003)] * 2) and order[:1003] != order[1003:]
    assert Recorder().fit_order(source, **options) == order


def test_the_order_of_an_unknown_number_of_rows():
    numbers = np.arange(203, dtype=np.float64)
    generator, expected = mersenne_twister(3), []
    for _ in range(2):
        for first in range(0, 203, 48):
            rows = range(first, min(first + 48, 203))
            expected += [rows[i] for i in randperm(len(rows), generator)]
    source = pente.BatchSource(batches_of(numbers, numbers))
    assert Recorder().fit_order(source, batch_size=16, shuffle_window=50, seed=3, epochs=2) == expected


class TestIterators:
    def test_one_that_is_no_function_serves_one_epoch(self):
        x, y, _ = examples()
        source = pente.BatchSource(batches_of(x, y)())
        trainer = new_trainer()
        before = snapshot(trainer.layer)
        with pytest.raises(ValueError, match="^epochs is 2, but batches are an iterator, which is good for one"):
            trainer.fit(source, epochs=2)
        assert snapshot(trainer.layer) == before
        assert train(source, seed=1) == train(x, y, seed=1)
        with pytest.raises(ValueError, match="which has been gone through; for more give a list, or a function"):
            train(source)

    def test_a_function_that_returns_the_same_one_each_time(self):
        batches = iter([examples()[:2]] * 2)
        with pytest.raises(ValueError, match="^batches are none in this epoch"):
            train(pente.BatchSource(lambda: batches), epochs=2)

    def test_an_exception_comes_out_with_its_traceback(self):
        def batches():
            yield from [examples()[:2]] * 3
            raise KeyError("mine")

        trainer = new_trainer()
        before = snapshot(trainer.layer)
        with pytest.raises(KeyError, match="mine") as raised:
            trainer.fit(pente.BatchSource(batches), epochs=3, batch_size=8)
        assert raised.traceback[-1].name == "batches" and trainer.optimizer.step_count == 0
        assert snapshot(trainer.layer) == before

    def test_a_thread_has_all_of_an_epoch(self, tmp_path):
        """SQLite's connections are for the thread that made them."""
        path = tmp_path / "table"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table t (x, y)")
            connection.executemany("insert into t values (?, ?)", [(i / 100, i / 50) for i in range(100)])
            connection.commit()

        def batches():
            with closing(sqlite3.connect(path)) as connection:
                cursor = connection.execute("select x, y from t")
                while rows := cursor.fetchmany(7):
                    yield tuple(np.array(column) for column in zip(*rows))

        layer = pente.Linear(1, 1, dtype="float64", seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
        trainer.fit(pente.BatchSource(batches), epochs=3)
        assert trainer.optimizer.step_count == 3 * 4

    def test_what_is_left_of_an_epoch_is_let_go_of(self):
        alive, ends = [], []

        def batches():
            try:
                while True:
                    x, y, _ = examples()
                    alive.append(weakref.ref(x))
                    yield x, y
                    del x
            finally:
                ends.append(len(alive))

        def fail(progress):
            raise KeyError("mine")

        source = pente.BatchSource(batches)
        with pytest.raises(KeyError, match="mine"):
            new_trainer().fit(source, on_progress=fail)
        assert len(alive) == ends[-1] > 10 and not any(reference() for reference in alive)


def test_what_batches_are_refused():
    x, y, weight = examples()
    nothing = [(x, y), (x, y, weight)]
    for batches, error, message in [
        ([(x, y), (x[:, :4], y)], ValueError, "batch 2: x is 301×4, but 301×5 is expected"),
        ([(x, y), (x, y[:5])], ValueError, "batch 2: y is 5×2, but 301×2 is expected"),
        ([(x, y[:5])], ValueError, "batch 1: y is 5×2, but 301×2 is expected"),
        ([(x, y), (x.astype("f8"), y)], TypeError, "batch 2: x is float64, but must be float32; convert it"),
        ([(x.astype("f2"), y)], TypeError, "batch 1: x is of format 'e'|batch 1: x is float16"),
        (nothing, ValueError, "batch 2: it has a sample_weight, but the first batch had none"),
        (nothing[::-1], ValueError, "batch 2: it has no sample_weight, but the first batch had one"),
        ([(x, y, weight[:3])], ValueError, "batch 1: sample_weight is 3×1, but 301×1 is expected"),
        ([x], TypeError, r"batch 1: it must be \(x, y\), \(x, y, sample_weight\) or of Arrow, not of"),
        ([(x, 3)], TypeError, "batch 1: y is of type int, which has no buffer"),
        ([], ValueError, "batches are none at all"),
        (3, TypeError, "batches must be an iterable or a function that returns one, not 3"),
        (lambda: 3, TypeError, "not iterable|not callable"),
    ]:
        with pytest.raises(error, match=message):
            train(pente.BatchSource(batches))
    for options, error, message in [
        ({"dtype": "float16"}, ValueError, "dtype is 'float32' or 'float64', not 'float16'"),
        ({"dtype": "float64"}, TypeError, "batch 1: x is float32, but must be float64"),
        ({"rows": 0}, ValueError, "rows is 0; it must be at least 1"),
        ({"rows": 3}, TypeError, "batches must be a function of first and count where rows are given"),
        ({"target": 3}, TypeError, "target|not iterable"),
    ]:
        with pytest.raises(error, match=message):
            pente.BatchSource([(x, y)], **options)
    read = {0: lambda count: (x[:1], y[:1])}
    for found, message in [
        (x[:0], r"batches\(1, \d+\): it gave 0 rows, but from 1 to \d+ are expected"),
        (np.tile(x, (9, 1)), r"batches\(1, \d+\): it gave 2709 rows, but from 1 to 300 are expected"),
    ]:
        some = y[:1].repeat(len(found), 0)
        source = pente.BatchSource(lambda i, n: read[i](n) if i in read else (found, some), rows=301)  # noqa: B023
        with pytest.raises(ValueError, match=message):
            train(source)


def test_what_fit_refuses(tmp_path):
    x, y, _ = examples()
    source = pente.NPYSource(*save(tmp_path, x=x, y=y))
    for call, error, message in [
        (lambda: new_trainer().fit(source, y), TypeError, "^y must be None where x is a source, which has its own"),
        (lambda: new_trainer().fit(source, sample_weight=y), TypeError, "^sample_weight must be None"),
        (lambda: new_trainer().fit(x), TypeError, "missing its argument 'y', which only a source does without"),
        (lambda: new_trainer("float64").fit(source), TypeError, "the source's rows are not float64, as the layer is"),
        (lambda: new_trainer().fit(source, shuffle_window=-1), ValueError, "shuffle_window is -1"),
        (lambda: new_trainer().fit(source, on_progress=3), TypeError, "on_progress must be callable or None, not 3"),
        (lambda: pente.DataSource(), TypeError, "DataSource"),
    ]:
        with pytest.raises(error, match=message):
            call()
    layer = pente.Linear(3, 2)
    with pytest.raises(ValueError, match="the source's x has 5 columns, but the layer takes 3"):
        pente.Trainer(layer, pente.SGD(layer), pente.MSELoss()).fit(source)


def test_what_files_are_refused(tmp_path):
    x, y, weight = examples()
    good_x, good_y, good_weight = save(tmp_path, x=x, y=y, weight=weight)
    fortran, integers, double, cube, short, minus = save(
        tmp_path, fortran=np.asfortranarray(x), integers=x.astype(int), double=x.astype("f8"), cube=x.reshape(301, 5, 1),
        short=y[:300], minus=-weight,
    )
    cut = tmp_path / "cut.npy"
    cut.write_bytes(good_x.read_bytes()[:-1])
    text = tmp_path / "text.npy"
    text.write_text("no array")
    for paths, error, message in [
        ((fortran, good_y), ValueError, "fortran.npy: it is in Fortran order, but C order was expected"),
        ((integers, good_y), ValueError, "integers.npy: its dtype is '<i8', but '<f4' or '<f8' was expected"),
        ((double, good_y), ValueError, "float64"),
        ((cube, good_y), ValueError, r"cube.npy: its shape is \(301, 5, 1\)"),
        ((good_x, short), ValueError, "y has 300 rows, but x has 301"),
        ((good_x, good_y, good_y), ValueError, "sample_weight is 301×2"),
        ((cut, good_y), ValueError, r"cut.npy: by its header it is 301×5, but it ends after 300 rows"),
        ((text, good_y), ValueError, "text.npy: it does not begin as an NPY file does|text.npy"),
        (([good_x, good_y], good_y), ValueError, "y.npy: it has 2 columns of float32, but the files before it have 5"),
        ((tmp_path / "none.npy", good_y), FileNotFoundError, "none.npy"),
        (([], good_y), ValueError, "x is a list of no paths"),
        ((3, good_y), TypeError, "x must be a path or a list of paths, not 3"),
        (([3], good_y), TypeError, "int"),
        (("a\0b", good_y), ValueError, "null|NUL"),
    ]:
        with pytest.raises(error, match=message):
            pente.NPYSource(*paths)
    with pytest.raises(TypeError, match="missing its argument 'y'"):
        pente.NPYSource(good_x)
    trainer = new_trainer()
    before = snapshot(trainer.layer)
    with pytest.raises(ValueError, match=r"minus.npy: row \d+ is -[12](.0)?; a weight must be finite and not negative"):
        trainer.fit(pente.NPYSource(good_x, good_y, minus))
    assert snapshot(trainer.layer) == before


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_not_finite_is_named_with_file_and_row(tmp_path, shuffle):
    x, y, _ = examples()
    x[250, 3] = np.nan
    x0, x1, path = save(tmp_path, first=x[:200], second=x[200:], y=y)
    trainer = new_trainer()
    before = snapshot(trainer.layer)
    with pytest.raises(FloatingPointError, match="second.npy: row 50, column 3 is nan"):
        trainer.fit(pente.NPYSource([x0, x1], path), shuffle=shuffle, batch_size=8)
    with pytest.raises(FloatingPointError, match="row 250 of x, column 3 is nan"):
        trainer.fit(pente.BatchSource(batches_of(x, y)), shuffle=shuffle, batch_size=8)
    assert snapshot(trainer.layer) == before


def test_a_file_that_shrinks_under_the_run(tmp_path):
    """The checkpoint is as it was."""
    x, y, _ = examples(200_000)
    paths, checkpoint = save(tmp_path, x=x, y=y), tmp_path / "run"
    trainer = new_trainer()
    saved = []

    def shrink(epoch):
        if epoch.epoch == 2:
            saved.append(checkpoint.read_bytes())
            with open(paths[0], "r+b") as file:
                file.truncate(file.seek(0, 2) - 20 * 1000)

    options = {"epochs": 4, "batch_size": 1000, "shuffle": False, "checkpoint": checkpoint}
    with pytest.raises(ValueError, match="x.npy: it ends in row 199000, but had 200000 rows when it was opened"):
        trainer.fit(pente.NPYSource(*paths), on_epoch=shrink, **options)
    assert pente.Layer.load(checkpoint) != trainer.layer and trainer.optimizer.step_count == 0
    np.save(paths[0], x)
    again = new_trainer()
    again.fit(pente.NPYSource(*paths), resume=True, **options)
    assert train(x, y, epochs=4, batch_size=1000, shuffle=False)[0] == snapshot(again.layer)
    assert saved


class TestArrow:
    def batch(self, kind="record_batch", count=301, **columns):
        pa = pytest.importorskip("pyarrow")
        x, y, weight = examples(count)
        parts = {f"x{i}": x[:, i] for i in range(5)} | {"y0": y[:, 0], "w": weight, "y1": y[:, 1]} | columns
        return getattr(pa, kind)({name: pa.array(values) for name, values in parts.items()})

    @pytest.mark.parametrize("kind", ["record_batch", "table"])
    def test_the_bits_of_memory(self, kind):
        x, y, weight = examples()
        table = self.batch(kind)
        source = pente.BatchSource(
            [table.slice(first, 100) for first in range(0, 301, 100)], target=["y0", "y1"], sample_weight="w"
        )
        assert train(source, **OPTIONS) == train(x, y, sample_weight=weight, **OPTIONS)
        source = pente.BatchSource([table], target="y1", features=["x3", "y0"])
        assert (source.inputs, source.outputs, source.dtype, source.has_sample_weight) == (2, 1, "float32", False)

    def test_dtypes(self):
        for numbers, dtype in [
            (np.arange(301, dtype="i2"), "float32"),
            (np.arange(301) % 2 == 0, "float32"),
            (np.arange(301), "float64"),
            (np.arange(301.0), "float64"),
        ]:
            batch = self.batch(x0=numbers)
            assert pente.BatchSource([batch], target="y0").dtype == dtype
            assert pente.BatchSource([batch], target="y0", dtype="float32").dtype == "float32"

    def test_a_file_of_row_groups(self, tmp_path):
        parquet = pytest.importorskip("pyarrow.parquet")
        x, y, weight = examples()
        parquet.write_table(self.batch("table"), tmp_path / "table", row_group_size=64)
        source = pente.BatchSource(
            lambda: parquet.ParquetFile(tmp_path / "table").iter_batches(50), target=["y0", "y1"], sample_weight="w"
        )
        assert train(source, **OPTIONS) == train(x, y, sample_weight=weight, **OPTIONS)

    def test_what_is_refused(self):
        for columns, options, error, message in [
            ({}, {}, TypeError, "target must name the columns of y, of "),
            ({}, {"target": "z"}, ValueError, "batch 1: there are 0 columns 'z', but 1 is expected"),
            ({}, {"target": ["y0", 3]}, TypeError, "target must be a column's name, or a list of names"),
            ({"x2": ["a"] * 301}, {"target": "y0"}, TypeError, "batch 1: column 'x2' is of string, but numbers are expected"),
            ({"x2": [1.0] * 300 + [None]}, {"target": "y0"}, ValueError, "batch 1: column 'x2' has no value in row 300"),
        ]:
            with pytest.raises(error, match=message):
                pente.BatchSource([self.batch(**columns)], **options)
