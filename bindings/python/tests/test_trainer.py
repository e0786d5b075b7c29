import math

import pente
import pytest
from support import DTYPES, matrix, problem, product, randoms, snapshot, vector, zeros

REDUCTIONS = ["mean", "sum", "batch_mean", "output_mean"]


def four_calls(layer, optimizer, loss, x, y, weight=None):
    optimizer.zero_grad()
    value = loss(layer.forward(x), y, weight)
    layer.backward(loss.backward(target_gradient=False), input_gradient=False)
    optimizer.step()
    return value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rows, in_features, out_features", [(1, 1, 1), (32, 64, 8), (300, 7, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_is_the_four_calls_to_the_bit(dtype, reduction, rows, in_features, out_features, weighted):
    x, y = randoms(rows, in_features, dtype), randoms(rows, out_features, dtype)
    weight = vector([1 + i % 3 for i in range(rows)], dtype) if weighted else None
    options = dict(lr=1e-4, momentum=0.9, weight_decay=0.01, nesterov=True)
    layers = [pente.Linear(in_features, out_features, dtype=dtype, seed=3) for _ in range(2)]
    optimizers = [pente.SGD(layer, **options) for layer in layers]
    loss = pente.MSELoss(reduction)
    trainer = pente.Trainer(layers[0], optimizers[0], loss)
    for _ in range(5):
        assert trainer.step(x, y, weight) == four_calls(layers[1], optimizers[1], loss, x, y, weight)
    assert snapshot(layers[0]) == snapshot(layers[1])
    assert bytes(layers[0].weight_grad) == bytes(layers[1].weight_grad)


def test_steps_descend():
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    losses = [trainer.step(x, y) for _ in range(50)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 10


def test_knows_its_parts():
    layer = pente.Linear(2, 1)
    optimizer, loss = pente.SGD(layer), pente.MSELoss()
    trainer = pente.Trainer(layer, optimizer, loss)
    assert trainer.layer is layer and trainer.optimizer is optimizer and trainer.loss is loss


def test_the_arguments_must_fit_together():
    layer, other = pente.Linear(2, 1), pente.Linear(2, 1)
    with pytest.raises(ValueError):
        pente.Trainer(layer, pente.SGD(other), pente.MSELoss())
    with pytest.raises(ValueError):
        pente.Trainer(layer, pente.SGD(layer), pente.MSELoss("none"))
    for wrong in [(1, pente.SGD(layer), pente.MSELoss()), (layer, pente.MSELoss(), pente.SGD(layer))]:
        with pytest.raises(TypeError):
            pente.Trainer(*wrong)


@pytest.mark.parametrize("method", ["step", "fit"])
def test_refuses_what_does_not_fit_and_changes_nothing(method):
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=1)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    before = snapshot(layer)
    run = getattr(trainer, method)
    for arguments, error, message in [
        ((randoms(4, 2), y), ValueError, "x is 4×2"),
        ((x, zeros(3, 1)), ValueError, "3×1"),
        ((x, zeros(4, 2)), ValueError, "4×2"),
        ((x, zeros(4, 1, "float32")), TypeError, "y is float32, but must be float64"),
        ((zeros(4, 3, "float32"), y), TypeError, "x is float32"),
        ((x.tolist(), y), TypeError, "x is of type list"),
        ((x,), TypeError, None),
        ((), TypeError, None),
        ((x, vector([1, 2, 3, 4])), ValueError, r"y\.reshape\(4, 1\)"),
    ]:
        with pytest.raises(error, match=message):
            run(*arguments)
    for weight, error in [(vector([1, 2]), ValueError), (vector([-1] * 4), ValueError), ([1] * 4, TypeError)]:
        with pytest.raises(error, match="sample_weight"):
            run(x, y, sample_weight=weight)
    assert snapshot(layer) == before


@pytest.mark.parametrize("method", ["step", "fit"])
def test_a_loss_that_is_not_finite_changes_nothing(method):
    layer, x, y = problem("float64", rows=4, in_features=3, out_features=1)
    trainer = pente.Trainer(layer, pente.SGD(layer, momentum=0.9), pente.MSELoss())
    trainer.step(x, y)
    before = snapshot(layer)
    y[2, 0] = math.nan
    with pytest.raises(FloatingPointError):
        getattr(trainer, method)(x, y)
    assert snapshot(layer) == before


# ---- fit -------------------------------------------------------------------------------------------------------------


def test_fit_finds_the_weights():
    layer, x, y = problem("float64", rows=200)
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1, momentum=0.5), pente.MSELoss())
    history = trainer.fit(x, y, epochs=60, batch_size=16, seed=1)
    assert history.epochs == len(history.training_losses) == 60
    assert history.validation_losses == [] and history.best_epoch == 0
    assert history.stop_reason == "epochs"
    assert history.training_losses[-1] < 1e-8 < history.training_losses[0]


def test_one_batch_unshuffled_is_a_step():
    (layer, x, y), (other, _, _) = problem(), problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    stepper = pente.Trainer(other, pente.SGD(other), pente.MSELoss())
    history = trainer.fit(x, y, epochs=3, batch_size=32, shuffle=False)
    assert history.training_losses == [stepper.step(x, y) for _ in range(3)]
    assert snapshot(layer) == snapshot(other)


def test_fit_repeats_itself_for_a_seed():
    def run(seed):
        layer, x, y = problem()
        trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
        return trainer.fit(x, y, epochs=3, batch_size=8, seed=seed).training_losses, snapshot(layer)

    assert run(1) == run(1) != run(2)
    assert run(None) != run(None)


def test_fit_takes_sample_weights():
    (layer, x, y), (other, _, _) = problem("float64"), problem("float64")
    bad = y.tolist()
    bad[3] = [1e6, -1e6]
    weight = vector([0 if i == 3 else 1 for i in range(32)])
    for model, target in [(layer, matrix(bad)), (other, y)]:
        trainer = pente.Trainer(model, pente.SGD(model, lr=0.1), pente.MSELoss())
        trainer.fit(x, target, epochs=2, sample_weight=weight, shuffle=False)
    assert snapshot(layer) == snapshot(other)


def test_validation_and_early_stopping_give_back_the_best():
    layer, x, y = problem("float64")
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.1), pente.MSELoss())
    held_out = randoms(8, 5, seed=9), randoms(8, 2, seed=10)  # not of this problem: it soon gets worse
    history = trainer.fit(x, y, epochs=200, validation=held_out, patience=3)
    assert history.stop_reason == "early"
    assert history.epochs == history.best_epoch + 3 == len(history.validation_losses)
    assert min(history.validation_losses) == history.validation_losses[history.best_epoch - 1]
    assert pente.MSELoss()(layer.predict(held_out[0]), held_out[1]) == min(history.validation_losses)


def test_on_epoch_sees_every_epoch_and_stops():
    layer, x, y = problem()
    optimizer = pente.SGD(layer)
    trainer = pente.Trainer(layer, optimizer, pente.MSELoss())
    epochs = []

    def on_epoch(epoch):
        epochs.append(epoch)
        optimizer.lr /= 2
        layer.predict(x)
        return epoch.epoch == 4

    history = trainer.fit(x, y, epochs=10, on_epoch=on_epoch)
    assert history.stop_reason == "callback" and history.epochs == 4
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch.training_loss for epoch in epochs] == history.training_losses
    assert all(epoch.epochs == 10 and math.isnan(epoch.validation_loss) for epoch in epochs)
    assert optimizer.lr == 1e-3 / 16


def test_on_epoch_sees_validation_losses():
    layer, x, y = problem()
    seen = []
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    history = trainer.fit(
        x, y, epochs=3, validation=(x, y), on_epoch=lambda epoch: seen.append(epoch.validation_loss)
    )
    assert seen == history.validation_losses and history.stop_reason == "epochs"


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_an_error_in_on_epoch_comes_out_as_itself(error):
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())

    def on_epoch(epoch):
        if epoch.epoch == 2:
            raise error("mine")

    with pytest.raises(error, match="mine"):
        trainer.fit(x, y, epochs=10, on_epoch=on_epoch)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(x, y, on_epoch=lambda epoch: type("Odd", (), {"__bool__": lambda self: 1 // 0})())
    trainer.step(x, y)
    trainer.fit(x, y)


def test_the_trainer_is_busy_in_its_own_callback():
    layer, x, y = problem()
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    for again in (lambda epoch: trainer.step(x, y), lambda epoch: trainer.fit(x, y)):
        with pytest.raises(RuntimeError):
            trainer.fit(x, y, on_epoch=again)
    trainer.step(x, y)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(epochs=0), ValueError, "epochs"),
        (dict(epochs=-1), ValueError, "epochs"),
        (dict(epochs=1.5), TypeError, "epochs must be a whole number, not 1.5"),
        (dict(epochs=2**62), MemoryError, "epochs is 4611686018427387904, for whose losses"),
        (dict(epochs=10**14), MemoryError, "epochs is 100000000000000, for whose losses"),
        (dict(epochs=2**70), ValueError, "epochs is 1180591620717411303424, but"),
        (dict(batch_size="2"), TypeError, "batch_size must be a whole number, not '2'"),
        (dict(batch_size=2**70), ValueError, "batch_size is 1180591620717411303424, but"),
        (dict(batch_size=0), ValueError, "batch_size"),
        (dict(first_epoch=-1), ValueError, "first_epoch"),
        (dict(first_epoch=1.5), TypeError, "first_epoch must be a whole number, not 1.5"),
        (dict(seed=-1), ValueError, "seed"),
        (dict(patience=-1, validation=(zeros(1, 5), zeros(1, 2))), ValueError, "patience"),
        (dict(patience=1), ValueError, "validation"),
        (dict(patience=None), TypeError, "patience must be a whole number, not None"),
        (dict(min_delta="0"), TypeError, "min_delta must be a number, not '0'"),
        (dict(min_delta=-1.0), ValueError, "min_delta"),
        (dict(min_delta=math.nan), ValueError, "min_delta"),
        (dict(on_epoch=3), TypeError, "on_epoch must be callable or None, not 3"),
        (dict(validation=3), TypeError, r"validation must be a tuple \(x, y\)"),
        (dict(validation=(zeros(1, 5),)), TypeError, r"validation must be a tuple \(x, y\)"),
        (dict(validation=(zeros(1, 5), [1])), TypeError, "validation's y is of type list"),
        (dict(validation=(zeros(1, 4), zeros(1, 2))), ValueError, "1×4"),
        (dict(validation=(zeros(1, 5), zeros(2, 2))), ValueError, "2×2"),
        (dict(steps=3), TypeError, "steps"),
    ],
)
def test_fit_refuses(arguments, error, message):
    layer, x, y = problem("float64")
    before = snapshot(layer)
    trainer = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss())
    with pytest.raises(error, match=message):
        trainer.fit(x, y, **arguments)
    assert snapshot(layer) == before


def test_first_epoch_goes_on_with_numbers_and_shuffles():
    (layer, x, y), (other, _, _) = problem(), problem()
    options = dict(lr=0.1, momentum=0.9)
    whole = pente.Trainer(layer, pente.SGD(layer, **options), pente.MSELoss())
    parts = pente.Trainer(other, pente.SGD(other, **options), pente.MSELoss())
    numbers = []
    history = whole.fit(x, y, 7, 8, True, 3)
    first = parts.fit(x, y, 3, 8, True, 3)
    rest = parts.fit(x, y, 4, 8, True, 3, 3, on_epoch=lambda epoch: numbers.append((epoch.epoch, epoch.epochs)))
    assert numbers == [(4, 7), (5, 7), (6, 7), (7, 7)]
    assert rest.epochs == 4 and first.training_losses + rest.training_losses == history.training_losses
    assert snapshot(layer) == snapshot(other)


def test_history_is_frozen():
    layer, x, y = problem()
    history = pente.Trainer(layer, pente.SGD(layer), pente.MSELoss()).fit(x, y)
    with pytest.raises(AttributeError):
        history.epochs = 3
