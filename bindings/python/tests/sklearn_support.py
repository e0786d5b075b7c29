"""What the tests of pente.sklearn share: data, and how far a fit is from least squares."""

from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[3] / "data"


def table(name, targets=1):
    values = np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1)
    y = values[:, -targets:]
    return values[:, :-targets], y.ravel() if targets == 1 else y


def linear(rows, features, noise=0.1, seed=0):
    """Features from 0 to 1000, as they come, and a target of thousands."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(0, 1000, (rows, features))
    y = x @ generator.standard_normal(features)
    return x, y + noise * y.std() * generator.standard_normal(rows) + 5000


def houses(rows=5000, seed=0):
    """As the Californian house prices are: skewed features on all scales, related, with outliers."""
    g = np.random.default_rng(seed)
    income, age = g.lognormal(1.2, 0.45, rows), g.uniform(1, 52, rows)
    rooms = np.exp(g.normal(1.65, 0.3, rows))
    bedrooms = rooms * 0.2 * np.exp(g.normal(0, 0.1, rows))
    bedrooms[:: rows // 5] *= 30
    people, occupants = g.lognormal(7, 0.7, rows), np.exp(g.normal(1.05, 0.25, rows))
    occupants[7] = 1200
    latitude = g.uniform(32, 42, rows)
    longitude = -119.6 - 0.9 * (latitude - 37) + g.normal(0, 0.8, rows)
    x = np.column_stack([income, age, rooms, bedrooms, people, occupants, latitude, longitude])
    return x, x @ [0.44, 0.009, -0.1, 0.64, -4e-6, -0.004, -0.42, -0.43] - 37 + g.normal(0, 0.7, rows)


def least_squares(x, y):
    """Coefficients and intercept."""
    offset = x.mean(axis=0)
    coef = np.linalg.lstsq(x - offset, y - y.mean(axis=0))[0].T
    return coef, y.mean(axis=0) - coef @ offset


def coefficient_error(found, expected, x):
    """Relative, with each feature in units of its deviation."""
    scale = x.std(axis=0)
    return np.linalg.norm((found - expected) * scale) / np.linalg.norm(expected * scale)
