"""Learning rate schedules in Trainer.fit."""

import json

import pente
import pytest
from pente import lr_scheduler
from support import problem, snapshot


def new_trainer(dtype="float32", lr=0.1, momentum=0.0):
    layer, x, y = problem(dtype)
    return pente.Trainer(layer, pente.SGD(layer, lr=lr, momentum=momentum), pente.MSELoss()), x, y


def test_fit_makes_a_step_after_each_epoch():
    trainer, x, y = new_trainer()
    scheduler = lr_scheduler.StepLR(trainer.optimizer, 2, 0.5)
    seen = []

    def on_epoch(epoch):
        seen.append((epoch.learning_rate, trainer.optimizer.lr, scheduler.last_epoch))
        return epoch.epoch == 5

    history = trainer.fit(x, y, epochs=9, on_epoch=on_epoch, lr_scheduler=scheduler)
    rates = [0.1, 0.1, 0.05, 0.05, 0.025]
    assert seen == [(lr, lr, epoch) for epoch, lr in enumerate(rates)]
    assert history.learning_rates == rates and history.stop_reason == "callback"
    assert scheduler.last_epoch == 5  # on_epoch ended the run, and the epoch is done nevertheless

    by_hand, x, y = new_trainer()
    losses = []
    for lr in rates:
        by_hand.optimizer.lr = lr
        losses += by_hand.fit(x, y, first_epoch=len(losses)).training_losses
    assert losses == history.training_losses and snapshot(by_hand.layer) == snapshot(trainer.layer)


def test_all_arguments_may_be_given_by_position():
    histories = []
    for progress in (False, None):
        trainer, x, y = new_trainer()
        scheduler = lr_scheduler.ExponentialLR(trainer.optimizer, 0.5)
        histories.append(
            trainer.fit(x, y, 3, 8, True, 1, 2, None, (x, y), 2, 0.0, lambda epoch: False, scheduler, progress)
        )
        assert scheduler.last_epoch == 3
    named, x, y = new_trainer()
    scheduler = lr_scheduler.ExponentialLR(named.optimizer, 0.5)
    history = named.fit(
        x, y, epochs=3, batch_size=8, seed=1, first_epoch=2, validation=(x, y), patience=2, lr_scheduler=scheduler
    )
    assert histories == [history, history]


@pytest.mark.parametrize("validated", [False, True])
def test_a_plateau_gets_the_loss(validated):
    trainer, x, y = new_trainer()
    scheduler = lr_scheduler.ReduceLROnPlateau(trainer.optimizer)
    held_out = (x, memoryview(y)) if validated else None
    history = trainer.fit(x, y, epochs=4, validation=held_out, lr_scheduler=scheduler)
    assert history.training_losses[-1] != (history.validation_losses or [None])[-1]
    assert scheduler.best == (history.validation_losses if validated else history.training_losses)[-1]


def resumable(kind, optimizer):
    if kind == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.3)
    warm_up = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3)
    return lr_scheduler.SequentialLR(optimizer, [warm_up, lr_scheduler.CosineAnnealingLR(optimizer, 7)], [3])


@pytest.mark.parametrize("kind", ["sequence", "plateau"])
@pytest.mark.parametrize("saved_after", [2, 5])
def test_a_resumed_run_is_one_that_was_never_interrupted(tmp_path, kind, saved_after):
    whole, x, y = new_trainer(momentum=0.9)
    history = whole.fit(x, y, 10, 8, lr_scheduler=resumable(kind, whole.optimizer))
    assert len(set(history.learning_rates)) > 2

    begun, x, y = new_trainer(momentum=0.9)
    scheduler = resumable(kind, begun.optimizer)
    first = begun.fit(x, y, saved_after, 8, lr_scheduler=scheduler)
    begun.layer.save(tmp_path / "model", begun.optimizer)
    (tmp_path / "schedule").write_text(json.dumps(scheduler.state_dict()))

    resumed, x, y = new_trainer(lr=1.0)
    resumed.layer.load_parameters(tmp_path / "model", resumed.optimizer)
    scheduler = resumable(kind, resumed.optimizer)
    scheduler.load_state_dict(json.loads((tmp_path / "schedule").read_text()))
    second = resumed.fit(x, y, 10 - saved_after, 8, first_epoch=saved_after, lr_scheduler=scheduler)
    assert first.learning_rates + second.learning_rates == history.learning_rates
    assert first.training_losses + second.training_losses == history.training_losses
    assert snapshot(resumed.layer) == snapshot(whole.layer)


def test_what_fit_refuses():
    trainer, x, y = new_trainer()
    before = snapshot(trainer.layer)
    for scheduler, error, message in [
        (3, TypeError, "lr_scheduler must be one of pente.lr_scheduler or None, not 3"),
        (lr_scheduler.StepLR, TypeError, "lr_scheduler must be one of"),
        (lr_scheduler.StepLR(pente.SGD(pente.Linear(1, 1)), 1), ValueError, "lr_scheduler is of another optimizer"),
    ]:
        with pytest.raises(error, match=message):
            trainer.fit(x, y, lr_scheduler=scheduler)
    scheduler = lr_scheduler.StepLR(trainer.optimizer, 1)
    for arguments, error in [({"epochs": 0}, ValueError), ({"on_epoch": 3}, TypeError), ({"steps": 3}, TypeError)]:
        with pytest.raises(error, match=next(iter(arguments))):
            trainer.fit(x, y, lr_scheduler=scheduler, **arguments)
    assert snapshot(trainer.layer) == before and scheduler.last_epoch == 0


def test_an_error_of_the_scheduler_comes_out():
    trainer, x, y = new_trainer()
    scheduler = lr_scheduler.LambdaLR(trainer.optimizer, lambda epoch: 1 / (3 - epoch))
    seen = []
    with pytest.raises(ZeroDivisionError):
        trainer.fit(x, y, epochs=10, on_epoch=seen.append, lr_scheduler=scheduler)
    assert len(seen) == 3 and scheduler.last_epoch == 2
    trainer.fit(x, y)


def test_a_fit_that_takes_its_steps_back_takes_back_the_schedulers():
    trainer, x, y = new_trainer(lr=0.5)
    scheduler = lr_scheduler.StepLR(trainer.optimizer, 1, gamma=100.0)
    trainer.fit(x, y, lr_scheduler=scheduler)
    before = snapshot(trainer.layer), scheduler.state_dict()
    seen = []
    with pytest.raises(FloatingPointError):
        trainer.fit(x, y, epochs=50, first_epoch=1, on_epoch=seen.append, lr_scheduler=scheduler)
    assert len(seen) > 1
    assert (snapshot(trainer.layer), scheduler.state_dict()) == before


def test_learning_rates_without_a_scheduler():
    trainer, x, y = new_trainer()
    assert trainer.fit(x, y, epochs=3).learning_rates == [0.1] * 3

    def on_epoch(epoch):
        assert epoch.learning_rate == trainer.optimizer.lr
        trainer.optimizer.lr /= 2

    assert trainer.fit(x, y, epochs=3, on_epoch=on_epoch).learning_rates == [0.1, 0.05, 0.025]
