"""The picture of a History."""

import math

import pente
import pytest
from support import problem, run_python

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

TRAINING, VALIDATION, RATES = [4.0, 2.0, 1.0, 0.5], [4.5, 3.0, 2.5, 2.75], [0.1, 0.1, 0.01, 0.01]


def history(training=TRAINING, validation=(), rates=(0.1,) * 4, best=0):
    return pente.History(list(training), list(validation), list(rates), len(training), best, "epochs")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def lines(ax):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.get_lines()}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_all_there_is():
    ax = history(TRAINING, VALIDATION, RATES, best=3).plot()
    ax.figure.canvas.draw()
    assert lines(ax) == {
        "training loss": ([1, 2, 3, 4], TRAINING),
        "validation loss": ([1, 2, 3, 4], VALIDATION),
        "best epoch: 3": ([3], [2.5]),
    }
    right = next(other for other in ax.figure.axes if other is not ax)
    assert lines(right) == {"learning rate": ([1, 2, 3, 4], RATES)}
    assert legend(ax) == ["training loss", "validation loss", "best epoch: 3", "learning rate"]
    assert (ax.get_xlabel(), ax.get_ylabel(), right.get_ylabel()) == ("epoch", "loss", "learning rate")
    assert ax.get_yscale() == "log" and all(tick == int(tick) for tick in ax.get_xticks())


def test_only_what_there_is():
    ax = history().plot()
    assert legend(ax) == list(lines(ax)) == ["training loss"] and ax.figure.axes == [ax]


@pytest.mark.parametrize("loss", [0.0, -1.0, math.nan, math.inf])
def test_a_loss_that_has_no_logarithm(loss):
    for given in (history([1.0, loss]), history([1.0, 2.0], [1.0, loss], best=1)):
        ax = given.plot()
        ax.figure.canvas.draw()
        assert ax.get_yscale() == "linear"


def test_on_axes_of_ones_own():
    figure, (left, right) = pyplot.subplots(1, 2)
    assert history().plot(ax=right) is right and history().plot(left) is left
    assert figure.axes == [left, right] and pyplot.get_fignums() == [figure.number]


def test_a_new_figure_each_time():
    assert history().plot().figure is not history().plot().figure


def test_of_a_fit(tmp_path):
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    done = trainer.fit(
        x, y, epochs=5, validation=(x, y), lr_scheduler=pente.lr_scheduler.StepLR(trainer.optimizer, 2)
    )
    ax = done.plot()
    assert lines(ax)["training loss"] == ([1, 2, 3, 4, 5], done.training_losses)
    ax.figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib():
    run_python(
        """
        import sys
        sys.modules["matplotlib"] = None
        import pente
        history = pente.History([1.0], [], [0.1], 1, 0, "epochs")
        try:
            history.plot()
        except ImportError as error:
            assert str(error) == "History.plot needs matplotlib: pip install pente[plot]", error
        else:
            raise AssertionError("no error")
        """
    )
