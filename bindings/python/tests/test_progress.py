"""The progress bar of a fit."""

import pente
import pytest
from pente import lr_scheduler
from support import problem, run_python, snapshot

pytest.importorskip("tqdm")


def new_trainer(lr=0.1):
    layer, x, y = problem()
    return pente.Trainer(layer, pente.SGD(layer, lr=lr), pente.MSELoss()), x, y


def last_line(capfd):
    """What a terminal would show in the end; and nothing is on stdout."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("\n")  # closed: what is printed next has a line of its own
    return err.removesuffix("\n").rpartition("\r")[2]


@pytest.mark.parametrize("validated", [False, True])
def test_it_counts_epochs_and_shows_the_losses(capfd, validated):
    trainer, x, y = new_trainer()
    scheduler = lr_scheduler.ExponentialLR(trainer.optimizer, 0.5)
    history = trainer.fit(
        x, y, epochs=4, validation=(x, y) if validated else None, progress=True, lr_scheduler=scheduler
    )
    line = last_line(capfd)
    assert line.startswith("100%") and " 4/4 " in line and "epoch" in line
    assert f"loss={history.training_losses[-1]:.4g}, " in line and "lr=0.0125]" in line
    assert (f"val_loss={history.validation_losses[-1]:.4g}," in line) if validated else ("val_loss" not in line)


def test_it_changes_no_bits_and_calls_on_epoch(capfd):
    plain, x, y = new_trainer()
    shown, _, _ = new_trainer()
    seen = []
    history = plain.fit(x, y, epochs=3)
    assert shown.fit(x, y, epochs=3, progress=True, on_epoch=seen.append) == history
    assert [epoch.training_loss for epoch in seen] == history.training_losses
    assert snapshot(plain.layer) == snapshot(shown.layer)


def test_a_resumed_run_starts_where_it_was(capfd):
    trainer, x, y = new_trainer()
    trainer.fit(x, y, epochs=2, first_epoch=3, progress=True)
    _, err = capfd.readouterr()
    assert " 3/5 " in err.split("\r")[1] and " 5/5 " in err.split("\r")[-1]


def test_it_ends_where_the_run_ends(capfd):
    trainer, x, y = new_trainer()
    trainer.fit(x, y, epochs=50, progress=True, on_epoch=lambda epoch: epoch.epoch == 2)
    assert " 2/50 " in last_line(capfd)
    trainer, x, y = new_trainer(lr=0.0)
    history = trainer.fit(x, y, epochs=50, progress=True, validation=(x, y), patience=2)
    assert history.stop_reason == "early" and " 3/50 " in last_line(capfd)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_it_is_closed_when_an_error_comes_out(capfd, error):
    trainer, x, y = new_trainer()

    def on_epoch(epoch):
        if epoch.epoch == 2:
            raise error("mine")

    with pytest.raises(error, match="mine") as raised:
        trainer.fit(x, y, epochs=9, progress=True, on_epoch=on_epoch)
    assert " 2/9 " in last_line(capfd)
    del raised  # which held the bar, or its end would have closed it


def test_it_is_closed_on_ctrl_c():
    run_python(
        """
        import contextlib, io, os, signal, threading
        import pente
        from array import array
        layer = pente.Linear(1, 1, seed=0)
        trainer = pente.Trainer(layer, pente.SGD(layer, lr=1e-6), pente.MSELoss())
        x, shown = array("f", [1.0]), io.StringIO()
        ctrl_c = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))

        def on_epoch(epoch):
            if epoch.epoch == 1:
                ctrl_c.start()

        try:
            with contextlib.redirect_stderr(shown):
                trainer.fit(x, x, epochs=10**7, progress=True, on_epoch=on_epoch)
        except KeyboardInterrupt as error:
            assert shown.getvalue().endswith("\\n"), shown.getvalue()[-200:]
        else:
            raise AssertionError("not interrupted")
        """
    )


def test_a_run_that_does_not_start_leaves_no_bar(capfd):
    trainer, x, y = new_trainer()
    for arguments in [(x,), (x, y, 0), (x, x), (x, y, "3")]:
        with pytest.raises((TypeError, ValueError)):
            trainer.fit(*arguments, progress=True)
        assert capfd.readouterr().err.rpartition("\r")[2] == ""


def test_there_is_none_unless_it_is_asked_for(capfd):
    trainer, x, y = new_trainer()
    trainer.fit(x, y, progress=False, lr_scheduler=lr_scheduler.StepLR(trainer.optimizer, 1))
    assert capfd.readouterr() == ("", "")


def test_without_tqdm_nothing_starts():
    run_python(
        """
        import sys
        sys.modules["tqdm"] = None
        import pente
        from array import array
        layer = pente.Linear(1, 1, seed=0)
        before = bytes(layer.weight)
        trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
        scheduler = pente.lr_scheduler.StepLR(trainer.optimizer, 1)
        x = array("f", [1.0])
        try:
            trainer.fit(x, x, progress=True, lr_scheduler=scheduler)
        except ImportError as error:
            assert str(error) == "progress=True needs tqdm: pip install pente[progress]", error
        else:
            raise AssertionError("no error")
        assert bytes(layer.weight) == before and scheduler.last_epoch == 0
        trainer.fit(x, x, lr_scheduler=scheduler)
        assert bytes(layer.weight) != before and scheduler.last_epoch == 1
        """
    )
