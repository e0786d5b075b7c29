"""Writes Tests/data/lr_scheduler.json: PyTorch's learning rates, for Pente's schedules to be compared with.

    python Tests/torch/lr_scheduler.py        # needs torch and scikit-learn

The file has one object. "schedules" is a list of
    kind, arguments  as build() takes them: of LambdaLR the functions are base**epoch, for the groups' "bases"
    metrics          of ReduceLROnPlateau, one a step
    lrs              the groups' learning rates in each epoch
and "inverse_scaling" is what scikit-learn's SGDRegressor does with one row, x = y = 1, so that an epoch is an update
    eta0, power_t    its arguments
    coefficients     after each epoch; an epoch with learning rate r takes c to c - r (c - 1)

All are to be met bit for bit. build() and follow() are the tests' too, without torch.
"""

import functools
import json
import math
import warnings
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[2] / "Tests/data/lr_scheduler.json"
LRS = (0.1, 0.037)  # of the groups
EPOCHS = 40
WARM_UP = {"kind": "LinearLR", "arguments": {"start_factor": 0.1, "total_iters": 5}}
ANNEALING = {"kind": "CosineAnnealingLR", "arguments": {"T_max": 13, "eta_min": 0.004}}
METRICS = [round(math.exp(-epoch / 4) + 0.1 * math.sin(epoch) + 0.2, 6) for epoch in range(EPOCHS)]
SCHEDULES = [
    {"kind": "LambdaLR", "arguments": {"bases": [0.95, 0.9]}},
    {"kind": "ConstantLR", "arguments": {"factor": 0.3, "total_iters": 6}},
    WARM_UP,
    {"kind": "LinearLR", "arguments": {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 9}},
    {"kind": "StepLR", "arguments": {"step_size": 7, "gamma": 0.3}},
    {"kind": "MultiStepLR", "arguments": {"milestones": [21, 3, 8, 8], "gamma": 0.6}},
    {"kind": "ExponentialLR", "arguments": {"gamma": 0.93}},
    {"kind": "CosineAnnealingLR", "arguments": {"T_max": 7}},
    ANNEALING,
    {"kind": "SequentialLR", "arguments": {"schedulers": [WARM_UP, ANNEALING], "milestones": [5]}},
    {"kind": "SequentialLR", "arguments": {
        "schedulers": [{"kind": "ConstantLR", "arguments": {"factor": 0.25, "total_iters": 9}},
                       {"kind": "LambdaLR", "arguments": {"bases": [0.8, 0.7]}},
                       {"kind": "StepLR", "arguments": {"step_size": 4}}],
        "milestones": [3, 17]}},
    {"kind": "ReduceLROnPlateau", "arguments": {"patience": 2}, "metrics": METRICS},
    {"kind": "ReduceLROnPlateau", "metrics": METRICS, "arguments": {
        "mode": "max", "factor": 0.7, "patience": 1, "threshold": 0.05, "threshold_mode": "abs", "cooldown": 3,
        "min_lr": [0.01, 0.02], "eps": 0.01}},
]


def build(module, optimizer, schedule):
    """A scheduler of torch.optim.lr_scheduler, or of what has its names."""
    arguments = dict(schedule["arguments"])
    if "bases" in arguments:
        arguments["lr_lambda"] = [functools.partial(pow, base) for base in arguments.pop("bases")]
    if "schedulers" in arguments:
        arguments["schedulers"] = [build(module, optimizer, each) for each in arguments["schedulers"]]
    return getattr(module, schedule["kind"])(optimizer, **arguments)


def follow(scheduler, schedule, first=0, epochs=EPOCHS):
    """The groups' learning rates in each epoch from the first, with a step after each."""
    lrs = []
    for epoch in range(first, epochs):
        lrs.append(list(scheduler.get_last_lr()))
        scheduler.optimizer.step()  # PyTorch warns when this does not come first
        scheduler.step(*([schedule["metrics"][epoch]] if "metrics" in schedule else []))
    return lrs


def torch_optimizer(lrs):
    import torch

    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def schedules():
    import torch

    return [{**schedule, "lrs": follow(build(torch.optim.lr_scheduler, torch_optimizer(LRS), schedule), schedule)}
            for schedule in SCHEDULES]


def inverse_scaling(eta0=0.4, power_t=0.3):
    import sklearn.linear_model

    def coefficient(epochs):
        model = sklearn.linear_model.SGDRegressor(
            penalty=None, fit_intercept=False, learning_rate="invscaling", eta0=eta0, power_t=power_t,
            max_iter=epochs, tol=None)
        return float(model.fit([[1.0]], [1.0]).coef_[0])

    with warnings.catch_warnings(action="ignore"):
        return {"eta0": eta0, "power_t": power_t, "coefficients": [coefficient(e) for e in range(1, EPOCHS + 1)]}


if __name__ == "__main__":
    results = {"schedules": schedules(), "inverse_scaling": inverse_scaling()}
    lines = [json.dumps(schedule) for schedule in results["schedules"]]
    OUTPUT.write_text('{"schedules": [\n' + ",\n".join(lines) + '\n],\n"inverse_scaling": '
                      + json.dumps(results["inverse_scaling"]) + "}\n")
    assert json.loads(OUTPUT.read_text()) == results
    print(f"{OUTPUT}: {len(SCHEDULES)} schedules, {OUTPUT.stat().st_size:,} bytes")
