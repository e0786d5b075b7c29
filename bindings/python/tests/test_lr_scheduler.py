"""Learning rate schedules, beside PyTorch's numbers: those of Tests/data/lr_scheduler.json, and live.

Tests/torch/lr_scheduler.py made the file and says what is in it.
"""

import importlib.util
import inspect
import itertools
import json
import math
import random
from pathlib import Path

import pente
import pytest
from pente import lr_scheduler
from support import run_python

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = json.loads((ROOT / "Tests/data/lr_scheduler.json").read_text())
SCHEDULES = COMMITTED["schedules"]
LRS = [0.1, 0.037]


def load_judge():
    spec = importlib.util.spec_from_file_location("judge_of_schedules", ROOT / "Tests/torch/lr_scheduler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


judge = load_judge()


def new_optimizer(lrs=LRS):
    return pente.SGD([{"layers": pente.Linear(1, 1), "lr": lr} for lr in lrs])


def build(optimizer, schedule):
    return judge.build(lr_scheduler, optimizer, schedule)


def name(schedule):
    return schedule["kind"]


# ---- The numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_pytorchs_numbers_to_the_bit(schedule):
    optimizer = new_optimizer()
    scheduler = build(optimizer, schedule)
    assert judge.follow(scheduler, schedule) == schedule["lrs"]
    assert [group["lr"] for group in optimizer.groups] == scheduler.get_last_lr()
    assert scheduler.last_epoch == len(schedule["lrs"])


def test_scikit_learns_inverse_scaling():
    expected = COMMITTED["inverse_scaling"]
    scheduler = lr_scheduler.InverseScalingLR(new_optimizer([expected["eta0"]]), expected["power_t"])
    coefficient, coefficients = 0.0, []
    for _ in expected["coefficients"]:
        (lr,) = scheduler.get_last_lr()
        coefficient -= lr * (coefficient - 1.0)
        coefficients.append(coefficient)
        scheduler.step()
    assert coefficients == expected["coefficients"]


def test_pytorch_still_says_so():
    pytest.importorskip("torch")
    assert judge.schedules() == SCHEDULES


def random_schedule(generator, groups):
    real, whole = generator.uniform, generator.randint
    return generator.choice([
        {"kind": "LambdaLR", "arguments": {"bases": [real(0.9, 1.01) for _ in range(groups)]}},
        {"kind": "ConstantLR", "arguments": {"factor": real(0.01, 1), "total_iters": whole(1, 30)}},
        {"kind": "LinearLR", "arguments": {"start_factor": real(0.01, 1), "end_factor": real(0.01, 1),
                                           "total_iters": whole(1, 30)}},
        {"kind": "StepLR", "arguments": {"step_size": whole(1, 30), "gamma": real(0, 1.2)}},
        {"kind": "MultiStepLR", "arguments": {"milestones": [whole(0, 60) for _ in range(whole(0, 6))]}},
        {"kind": "ExponentialLR", "arguments": {"gamma": real(0.9, 1.01)}},
        {"kind": "CosineAnnealingLR", "arguments": {"T_max": whole(1, 40), "eta_min": generator.choice([0, 0.02])}},
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_random_schedules_beside_pytorch(seed):
    torch = pytest.importorskip("torch")
    generator = random.Random(seed)
    lrs = [generator.uniform(0.001, 1) for _ in range(1 + seed % 3)]
    schedule = random_schedule(generator, len(lrs))
    if seed % 2:
        schedules = [random_schedule(generator, len(lrs)) for _ in range(generator.randint(1, 4))]
        milestones = sorted(generator.sample(range(1, 80), len(schedules) - 1))
        schedule = {"kind": "SequentialLR", "arguments": {"schedulers": schedules, "milestones": milestones}}
    ours = build(new_optimizer(lrs), schedule)
    theirs = judge.build(torch.optim.lr_scheduler, judge.torch_optimizer(lrs), schedule)
    assert judge.follow(ours, schedule, epochs=300) == judge.follow(theirs, schedule, epochs=300)


@pytest.mark.parametrize("seed", range(60))
def test_random_plateaus_beside_pytorch(seed):
    torch = pytest.importorskip("torch")
    generator = random.Random(seed)
    steps = (generator.choice([0, 0, 0.1, -0.1, 0.001]) for _ in range(300))
    schedule = {
        "kind": "ReduceLROnPlateau",
        "metrics": [math.nan if generator.random() < 0.01 else metric for metric in itertools.accumulate(steps)],
        "arguments": {
            "mode": generator.choice(["min", "max"]),
            "factor": generator.uniform(0.3, 0.99),
            "patience": generator.randint(0, 5),
            "threshold": generator.choice([0, 1e-4, 0.1, 1]),
            "threshold_mode": generator.choice(["rel", "abs"]),
            "cooldown": generator.randint(0, 4),
            "min_lr": generator.choice([0, 1e-3, [0.01, 0.02]]),
            "eps": generator.choice([1e-8, 1e-3]),
        },
    }
    ours = build(new_optimizer(), schedule)
    theirs = judge.build(torch.optim.lr_scheduler, judge.torch_optimizer(LRS), schedule)
    assert judge.follow(ours, schedule, epochs=300) == judge.follow(theirs, schedule, epochs=300)
    assert (ours.best, ours.num_bad_epochs) == (theirs.best, theirs.num_bad_epochs)


@pytest.mark.parametrize("kind", sorted({schedule["kind"] for schedule in SCHEDULES}))
def test_names_and_defaults_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    ours, theirs = (
        {key: parameter.default for key, parameter in inspect.signature(getattr(module, kind)).parameters.items()}
        for module in (lr_scheduler, torch.optim.lr_scheduler)
    )
    theirs.pop("last_epoch", None)  # PyTorch's other way to go on, for which its optimizer keeps the base
    assert ours == theirs


def test_a_schedulers_place_in_the_list_is_not_when_it_was_made():
    optimizer = new_optimizer()
    half, annealing = lr_scheduler.ConstantLR(optimizer, 0.5), lr_scheduler.CosineAnnealingLR(optimizer, 10)
    scheduler = lr_scheduler.SequentialLR(optimizer, [annealing, half], [1])
    assert scheduler.get_last_lr() == scheduler.base_lrs == half.base_lrs == annealing.base_lrs == LRS
    scheduler.step()
    assert scheduler.get_last_lr() == [lr / 2 for lr in LRS]


def test_a_learning_rate_does_not_fall_below_0_by_rounding():
    """PyTorch's does here, by 4e-18, which an SGD refuses."""
    scheduler = lr_scheduler.LinearLR(new_optimizer([0.1]), 0.9, 0.0, total_iters=5)
    for _ in range(7):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.0]


def test_it_starts_from_the_learning_rates_that_are_there():
    optimizer = new_optimizer()
    lr_scheduler.ConstantLR(optimizer, 0.5)
    optimizer.lr = 2.0
    assert lr_scheduler.LambdaLR(optimizer, lambda epoch: 3.0).get_last_lr() == [6.0, 6.0]


# ---- State -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_it_goes_on_from_a_state(schedule):
    scheduler = build(new_optimizer(), schedule)
    for epoch in (1, 6, 19):
        judge.follow(scheduler, schedule, scheduler.last_epoch, epoch)
        state = json.loads(json.dumps(scheduler.state_dict()))
        resumed = build(new_optimizer([0.5, 0.6]), schedule)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state and repr(resumed) == repr(scheduler)
        assert judge.follow(resumed, schedule, epoch) == schedule["lrs"][epoch:]


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda state: [], TypeError, r"state_dict must be a dict, not \[\]"),
        (lambda state: {"last_epoch": 3}, ValueError, r"state_dict has \['last_epoch'\], but must have"),
        (lambda state: state | {"more": 1}, ValueError, "'more'"),
        (lambda state: state | {"last_epoch": -1}, ValueError, r"state_dict\['last_epoch'\] is -1"),
        (lambda state: state | {"last_epoch": 1.5}, TypeError, r"state_dict\['last_epoch'\] must be a whole number"),
        (lambda state: state | {"lrs": [0.1]}, ValueError, r"state_dict\['lrs'\] is a list of 1, but must be of 2"),
        (lambda state: state | {"lrs": [0.1, -0.1]}, ValueError, "a learning rate of -0.1"),
        (lambda state: state | {"base_lrs": 0.1}, TypeError, r"state_dict\['base_lrs'\] must be a list, not 0.1"),
        (lambda state: state | {"base_lrs": [0.1, "1"]}, TypeError, r"state_dict\['base_lrs'\]\[1\] must be a number"),
        (lambda state: state | {"schedulers": [{}, {}]}, ValueError, r"state_dict\['schedulers'\]\[0\] has \[\]"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    schedule = next(schedule for schedule in SCHEDULES if name(schedule) == "SequentialLR")
    scheduler = build(new_optimizer(), schedule)
    judge.follow(scheduler, schedule, 0, 8)
    before = scheduler.state_dict()
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(change(build(new_optimizer(), schedule).state_dict()))
    assert scheduler.state_dict() == before


def test_repr():
    optimizer = new_optimizer([0.1])
    step = lr_scheduler.StepLR(optimizer, 2)
    assert repr(step) == "StepLR(step_size=2, gamma=0.1, base_lrs=[0.1], last_epoch=0)"
    sequence = lr_scheduler.SequentialLR(optimizer, [step], [])
    assert repr(sequence) == f"SequentialLR(schedulers=[{step!r}], milestones=[], base_lrs=[0.1], last_epoch=0)"


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, arguments, error, message",
    [
        ("LambdaLR", (3,), TypeError, "lr_lambda must be callable or a list of callables, not 3"),
        ("LambdaLR", ([abs],), ValueError, "lr_lambda is a list of 1, but optimizer has 2 groups"),
        ("LambdaLR", (lambda epoch: -1,), ValueError, "LambdaLR.* comes to a learning rate of -0.1"),
        ("LambdaLR", (lambda epoch: math.nan,), ValueError, "a learning rate of nan"),
        ("LambdaLR", ([lambda epoch: 2.0, lambda epoch: math.inf],), ValueError, "a learning rate of inf"),
        ("ConstantLR", (0,), ValueError, "factor is 0.0; it must be above 0 and at most 1"),
        ("ConstantLR", (1.5,), ValueError, "factor is 1.5"),
        ("ConstantLR", ("1",), TypeError, "factor must be a number, not '1'"),
        ("ConstantLR", (10**400,), TypeError, "factor must be a number, not 10000"),
        ("ConstantLR", (0.5, 0), ValueError, "total_iters is 0; it must be at least 1"),
        ("LinearLR", (0,), ValueError, "start_factor is 0.0"),
        ("LinearLR", (1, 1.5), ValueError, "end_factor is 1.5; it must be at most 1"),
        ("LinearLR", (1, -1), ValueError, "end_factor is -1.0; it must be finite and not negative"),
        ("LinearLR", (1, 1, 2.5), TypeError, "total_iters must be a whole number, not 2.5"),
        ("StepLR", (0,), ValueError, "step_size is 0"),
        ("StepLR", (1, math.nan), ValueError, "gamma is nan"),
        ("MultiStepLR", (3,), TypeError, "milestones must be a list of whole numbers, not 3"),
        ("MultiStepLR", ([1, -2],), ValueError, r"milestones\[1\] is -2"),
        ("MultiStepLR", ([1], math.inf), ValueError, "gamma is inf"),
        ("ExponentialLR", (-1,), ValueError, "gamma is -1.0"),
        ("CosineAnnealingLR", (0,), ValueError, "T_max is 0"),
        ("CosineAnnealingLR", (1, None), TypeError, "eta_min must be a number, not None"),
        ("InverseScalingLR", (-0.5,), ValueError, "power_t is -0.5"),
        ("ReduceLROnPlateau", ("low",), ValueError, "mode must be 'min' or 'max', not 'low'"),
        ("ReduceLROnPlateau", ("min", 1), ValueError, "factor is 1.0; it must be below 1"),
        ("ReduceLROnPlateau", ("min", 0.1, -1), ValueError, "patience is -1"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, -1), ValueError, "threshold is -1.0"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, 1, "x"), ValueError, "threshold_mode must be 'rel' or 'abs', not 'x'"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, 1, "abs", -1), ValueError, "cooldown is -1"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, 1, "abs", 0, -1), ValueError, "min_lr is -1.0"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, 1, "abs", 0, [1]), ValueError, "min_lr is a list of 1, but"),
        ("ReduceLROnPlateau", ("min", 0.1, 1, 1, "abs", 0, 0, "e"), TypeError, "eps must be a number, not 'e'"),
        ("SequentialLR", (3, []), TypeError, "schedulers must be a list of schedulers, not 3"),
        ("SequentialLR", ([], []), ValueError, "0 schedulers with 0 milestones"),
        ("SequentialLR", ([3], []), TypeError, r"schedulers\[0\] must be another kind of scheduler, not 3"),
        ("LRScheduler", (), NotImplementedError, "LRScheduler has no schedule"),
    ],
)
def test_arguments_are_refused(kind, arguments, error, message):
    optimizer = new_optimizer()
    with pytest.raises(error, match=message):
        getattr(lr_scheduler, kind)(optimizer, *arguments)
    assert [group["lr"] for group in optimizer.groups] == LRS
    for not_an_optimizer in (None, pente.Linear(1, 1)):
        with pytest.raises(TypeError, match="optimizer must be an SGD, not"):
            lr_scheduler.ExponentialLR(not_an_optimizer, 1.0)


def test_what_does_not_go_in_sequence():
    optimizer = new_optimizer()

    def step():
        return lr_scheduler.StepLR(optimizer, 1)

    for schedulers, milestones, error, message in [
        ([step(), lr_scheduler.ReduceLROnPlateau(optimizer)], [1], TypeError, r"schedulers\[1\] must be another kind"),
        ([lr_scheduler.SequentialLR(optimizer, [step()], [])], [], TypeError, r"schedulers\[0\] must be another kind"),
        ([lr_scheduler.StepLR(new_optimizer(), 1)], [], ValueError, r"schedulers\[0\] is of another optimizer"),
        ([step(), step()], [], ValueError, "2 schedulers with 0 milestones"),
        ([step(), step()], [0], ValueError, r"milestones\[0\] is 0; it must be at least 1"),
        ([step(), step(), step()], [2, 2], ValueError, r"milestones is \[2, 2\]; they must increase"),
    ]:
        with pytest.raises(error, match=message):
            lr_scheduler.SequentialLR(optimizer, schedulers, milestones)


def test_a_step_that_fails_changes_nothing():
    optimizer = new_optimizer()
    functions = [lambda epoch: 1.0 + epoch, lambda epoch: -1.0 if epoch == 2 else 1 // (3 - epoch)]
    scheduler = lr_scheduler.LambdaLR(optimizer, functions)
    scheduler.step()
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="a learning rate of -0.037"):
        scheduler.step()
    assert scheduler.state_dict() == before
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    before = plateau.state_dict()
    with pytest.raises(TypeError, match="metrics must be a number, not 'low'"):
        plateau.step("low")
    optimizer.add_group(pente.Linear(1, 1))
    for call in (scheduler.step, lambda: plateau.step(1.0), lambda: plateau.load_state_dict(before)):
        with pytest.raises(ValueError, match="optimizer has 3 groups, but had 2 when the scheduler was made"):
            call()
    assert plateau.last_epoch == 0


def test_it_is_imported_once_it_is_asked_for():
    run_python(
        """
        import sys
        import pente
        assert "pente.lr_scheduler" not in sys.modules
        assert pente.lr_scheduler.StepLR.__module__ == "pente.lr_scheduler"
        from pente import lr_scheduler
        assert lr_scheduler is sys.modules["pente.lr_scheduler"] is pente.lr_scheduler
        """
    )
