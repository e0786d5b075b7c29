"""NIST's linear regression problems, trained: how many digits of the certified coefficients are right?

    python Tests/reliability/nist.py [--table]

A polynomial is trained in the polynomials that are orthogonal on its x (Forsythe, 1957), computed exactly and rounded
once; all else in its columns as they are. Pente's scaler comes first, then a linear layer, by SGD over full batches in
float64. The coefficients are carried back to x's powers in rational arithmetic, so that what is measured is the training.
"""

import csv
import math
import sys
import warnings
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pente

DATA = Path(__file__).resolve().parents[2] / "data" / "nist"
UNIT = 2.0**-53
MOST = 15  # the digits of a certified value
MARGIN = 0.5  # of digits that training may lose more


class Plan(NamedTuple):
    degree: int  # 0: the columns as they are
    lr: float
    momentum: float
    steps: int
    bias: bool = True


ORTHOGONAL = dict(lr=0.4, momentum=0.1, steps=200)
PLANS = {
    "Norris": Plan(0, **ORTHOGONAL),
    "Pontius": Plan(2, **ORTHOGONAL),
    "NoInt1": Plan(0, **ORTHOGONAL, bias=False),
    "NoInt2": Plan(0, **ORTHOGONAL, bias=False),
    "Filip": Plan(10, **ORTHOGONAL),
    "Longley": Plan(0, lr=0.4, momentum=0.965, steps=5000),
    "Wampler1": Plan(5, **ORTHOGONAL),
    "Wampler2": Plan(5, **ORTHOGONAL),
    "Wampler3": Plan(5, **ORTHOGONAL),
    "Wampler4": Plan(5, **ORTHOGONAL),
    "Wampler5": Plan(5, **ORTHOGONAL),
}


def rounded(rows):
    return np.array([[float(value) for value in row] for row in rows])


class Problem:
    """A set: its numbers as they are written, and its model."""

    def __init__(self, name):
        self.plan = PLANS[name]
        with open(DATA / f"{name.lower()}.csv") as file:
            rows = [[Fraction(Decimal(word)) for word in row] for row in list(csv.reader(file))[1:]]
        with open(DATA / "certified.csv") as file:
            self.certified = [Fraction(Decimal(row[2])) for row in csv.reader(file) if row[0] == name]
        self.y = [row[-1] for row in rows]
        columns = list(zip(*(row[:-1] for row in rows)))
        degree = self.plan.degree
        # Of the certified model: x's powers, or the columns.
        terms = [[x**k for x in columns[0]] for k in range(1, degree + 1)] if degree else columns
        self.design = list(zip(*([[Fraction(1)] * len(rows)] if self.plan.bias else []), *terms))
        # What is trained, and what each of its columns is in the certified model's terms.
        self.columns, self.terms = self._orthogonal(columns[0]) if degree else self._as_they_are(columns)
        self.x = rounded(zip(*self.columns))
        self.target = rounded([y] for y in self.y)

    def _as_they_are(self, columns):
        count = len(self.certified)
        shift = int(self.plan.bias)
        return columns, [[Fraction(j == k + shift) for j in range(count)] for k in range(len(columns))]

    def _orthogonal(self, x):
        """Each polynomial is x times the last one, less its components along the last two."""
        count = self.plan.degree + 1
        values, terms = [[Fraction(1)] * len(x)], [[Fraction(j == 0) for j in range(count)]]
        for _ in range(self.plan.degree):
            value = [a * b for a, b in zip(x, values[-1])]
            term = [Fraction(0), *terms[-1][:-1]]
            for other, other_term in list(zip(values, terms))[-2:]:
                share = dot(value, other) / dot(other, other)
                value = [a - share * b for a, b in zip(value, other)]
                term = [a - share * b for a, b in zip(term, other_term)]
            values.append(value)
            terms.append(term)
        return values[1:], terms[1:]

    def carried_back(self, weight, bias):
        """The certified model's coefficients of one over the trained columns."""
        coefficients = [Fraction(0)] * len(self.certified)
        if self.plan.bias:
            coefficients[0] = Fraction(bias)
        for share, terms in zip(weight, self.terms):
            for j, term in enumerate(terms):
                coefficients[j] += Fraction(share) * term
        return coefficients

    def digits(self, coefficients):
        """NIST's log relative error, of the worst coefficient."""
        errors = [abs((Fraction(got) - right) / right) for got, right in zip(coefficients, self.certified)]
        return min(MOST, *(-math.log10(error) if error else MOST for error in errors))

    def solution(self, *right):
        """Least squares, exactly: for each right side the coefficients."""
        columns = list(zip(*self.design))
        return solve([[dot(a, b) for b in columns] for a in columns], [[dot(a, y) for y in right] for a in columns])

    def allowed(self):
        """The digits that are left if each y is off by a rounding, in the worst case."""
        rows = len(self.y)
        inverse = self.solution(*([Fraction(i == k) for i in range(rows)] for k in range(rows)))
        losses = [
            sum(abs(share * y) for share, y in zip(shares, self.y)) / abs(right)
            for shares, right in zip(inverse, self.certified)
        ]
        return min(MOST, -math.log10(UNIT * max(losses)))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def solve(matrix, right):
    """Gauss and Jordan's elimination of a symmetric positive definite matrix."""
    rows = [[*a, *b] for a, b in zip(matrix, right)]
    for k in range(len(rows)):
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k]:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k])]
    return [row[len(rows) :] for row in rows]


# ---- Four ways --------------------------------------------------------------------------------------------------------


def scaler_of(problem):
    scaler = pente.Scaler(problem.x.shape[1], dtype="float64")
    if problem.plan.bias:
        scaler.fit(problem.x)
    else:  # the mean stays 0
        scale = np.sqrt((problem.x**2).mean(axis=0))
        scaler.load_state_dict({"mean": np.zeros_like(scale), "scale": scale})
    return scaler


def unscaled(scaler, weight, bias):
    """A layer after the scaler as one before it."""
    mean, scale = ([Fraction(value) for value in np.asarray(scaler.parameters[name])] for name in ("mean", "scale"))
    weight = [Fraction(w) / s for w, s in zip(weight, scale)]
    return weight, Fraction(bias) - dot(weight, mean)


def by_pente(problem):
    plan, scaler = problem.plan, scaler_of(problem)
    linear = pente.Linear(problem.x.shape[1], 1, bias=plan.bias, dtype="float64", seed=0)
    chain = pente.Chain(scaler, linear)
    trainer = pente.Trainer(chain, pente.SGD(chain, lr=plan.lr, momentum=plan.momentum), pente.MSELoss())
    trainer.fit(problem.x, problem.target, epochs=plan.steps, batch_size=len(problem.x), shuffle=False)
    bias = linear.bias[0] if plan.bias else 0
    return problem.carried_back(*unscaled(scaler, np.asarray(linear.weight)[0], bias))


def by_estimator(problem):
    """It always has an intercept; where there is none, the rows come with either sign, which makes it 0."""
    from pente.sklearn import LinearRegressor

    x, y = problem.x, problem.target[:, 0]
    if not problem.plan.bias:
        x, y = np.vstack([x, -x]), np.hstack([y, -y])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the loss still improves
        model = LinearRegressor(tol=0, n_iter_no_change=2000, max_iter=100_000, momentum=0.97).fit(x, y)
    return problem.carried_back(model.coef_, model.intercept_)


def by_torch(problem):
    import torch

    plan, scaler = problem.plan, scaler_of(problem)
    x, y = (torch.from_numpy(np.asarray(value)) for value in (scaler(problem.x), problem.target))
    torch.manual_seed(0)
    linear = torch.nn.Linear(x.shape[1], 1, bias=plan.bias, dtype=torch.float64)
    optimizer = torch.optim.SGD(linear.parameters(), lr=plan.lr, momentum=plan.momentum)
    for _ in range(plan.steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(linear(x), y).backward()
        optimizer.step()
    bias = linear.bias.item() if plan.bias else 0
    return problem.carried_back(*unscaled(scaler, linear.weight.detach().numpy()[0], bias))


def by_lstsq(problem):
    return np.linalg.lstsq(rounded(problem.design), problem.target[:, 0])[0]


# ---- All sets ---------------------------------------------------------------------------------------------------------


def main(shows_table):
    failures = []
    if shows_table:
        print("set | condition | allowed | SGD | LinearRegressor | lstsq | torch's SGD")
    for name in PLANS:
        problem = Problem(name)
        allowed = problem.allowed()
        ways = {"SGD": by_pente(problem), "LinearRegressor": by_estimator(problem), "lstsq": by_lstsq(problem)}
        if shows_table and find_spec("torch"):
            ways["torch"] = by_torch(problem)
        digits = {way: problem.digits(coefficients) for way, coefficients in ways.items()}
        for way in ("SGD", "LinearRegressor"):
            if not digits[way] >= allowed - MARGIN:
                failures.append(f"{name}: {way} has {digits[way]:.1f} digits of {allowed:.1f}")
        if problem.digits([row[0] for row in problem.solution(problem.y)]) < MOST - 1:
            failures.append(f"{name}: the certified coefficients are not those of the data")
        if shows_table:
            condition = np.linalg.cond(rounded(problem.design))
            print(" | ".join([name, f"{condition:.0e}", *(f"{value:.1f}" for value in (allowed, *digits.values()))]))
    if failures:
        sys.exit("\n".join(failures))
    print(f"nist: {len(PLANS)} sets have the digits that their conditioning allows")


if __name__ == "__main__":
    main("--table" in sys.argv)
