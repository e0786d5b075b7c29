"""Whose results are nearer to the exact ones, Pente's or PyTorch's? Over many random cases, one row to ten million.

    python Tests/reliability/exactness.py            # the small ones, beside PyTorch's errors in Tests/data/exactness.json
    python Tests/reliability/exactness.py --long     # up to ten million rows, beside PyTorch itself
    python Tests/reliability/exactness.py --write    # the small ones, beside PyTorch itself, whose errors go to that file

A case is a linear layer, the mean of its squared errors, and all gradients, from the same bits; and the gradients once
more of a given G, without the prediction's roundings. What is exact is computed in long double, chunk by chunk.
"""

import itertools
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pente

FILE = Path(__file__).resolve().parents[1] / "data" / "exactness.json"
ROWS = [1, 2, 3, 10, 32, 100, 256, 1000, 10_000, 100_000, 1_000_000, 10_000_000]
WIDTHS = [(1, 1), (4, 1), (10, 3), (32, 1), (64, 10), (300, 40), (5000, 2)]
QUANTITIES = ["Y", "loss", "dX", "dW", "db", "dX of G", "dW of G", "db of G"]
CHUNK = 4096


def groups(is_long):
    """(dtype, q, n, p, cases): the more of them, the smaller they are."""
    for dtype, q, (n, p) in itertools.product(("float32", "float64"), ROWS, WIDTHS):
        work = q * n * p
        if work <= (40_000_000 if is_long else 20_000):
            yield dtype, q, n, p, max(2, min(40, 500_000 // work))


def numbers(dtype, q, n, p, case):
    """x, y, weight, bias, G."""
    random = np.random.default_rng([q, n, p, case])
    x = random.random((q, n), dtype)
    weight = random.standard_normal((p, n), dtype) / np.asarray(n**0.5, dtype)
    bias = random.standard_normal(p, dtype)
    y = random.standard_normal((q, p), dtype)
    for k in range(p):  # not by a product, whose bits are the processor's
        for j in range(min(n, 4)):
            y[:, k] += x[:, j] * weight[k, j]
    return x, y, weight, bias, random.standard_normal((q, p), dtype)


def by_pente(x, y, weight, bias, upstream):
    dtype = x.dtype.name
    layer, loss = pente.Linear(x.shape[1], y.shape[1], dtype=dtype), pente.MSELoss()
    layer.load_state_dict({"weight": weight, "bias": bias})
    prediction = layer(x)
    value = loss(prediction, y)
    results = [prediction, value]
    for gradient in (loss.backward(), upstream):
        layer.zero_grad()
        layer(x)
        grad_input = layer.backward(gradient)
        results += [grad_input, np.array(layer.weight_grad), np.array(layer.bias_grad)]
    return results


def by_torch(x, y, weight, bias, upstream):
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.Linear(x.shape[1], y.shape[1], dtype=getattr(torch, x.dtype.name))
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    results = []
    for gradient in (None, upstream):
        layer.zero_grad()
        tensor = torch.from_numpy(x).requires_grad_(True)
        prediction = layer(tensor)
        if gradient is None:
            loss = torch.nn.functional.mse_loss(prediction, torch.from_numpy(y))
            loss.backward()
            results += [prediction.detach(), loss.item()]
        else:
            prediction.backward(torch.from_numpy(upstream))
        results += [tensor.grad, layer.weight.grad.clone(), layer.bias.grad.clone()]
        tensor.grad = None
    return results


class Errors:
    """Of a case's results: each quantity's sum of squares, and the largest."""

    def __init__(self, results):
        self.results = [np.asarray(result).reshape(-1) for result in results]
        self.squares = np.zeros(len(results))
        self.largest = np.zeros(len(results))

    def take(self, quantity, first, exact):
        error = (self.results[quantity][first : first + exact.size] - exact.reshape(-1)).astype(np.float64)
        self.squares[quantity] += error @ error
        self.largest[quantity] = max(self.largest[quantity], abs(error).max())


def measure(case, ways):
    """The sums of squares of what is exact, and each way's errors."""
    x, y, weight, bias, upstream = case
    (q, n), p = x.shape, y.shape[1]
    wide = np.longdouble
    errors = [Errors(way(*case)) for way in ways]
    size, weight, bias = np.zeros(len(QUANTITIES)), weight.astype(wide), bias.astype(wide)
    loss, grad_weight, grad_bias = wide(0), np.zeros((2, p, n), wide), np.zeros((2, p), wide)

    def take(quantity, first, exact):
        size[quantity] += float((exact * exact).sum())
        for error in errors:
            error.take(quantity, first, exact)

    for first in range(0, q, CHUNK):
        rows = slice(first, first + CHUNK)
        part = x[rows].astype(wide)
        prediction = part @ weight.T + bias
        difference = prediction - y[rows]
        loss += (difference * difference).sum()
        take(0, first * p, prediction)
        for way, gradient in enumerate((difference * 2 / (q * p), upstream[rows].astype(wide))):
            take(2 + 3 * way, first * n, gradient @ weight)
            grad_weight[way] += gradient.T @ part
            grad_bias[way] += gradient.sum(axis=0)
    take(1, 0, np.array([loss / (q * p)]))
    for way in range(2):
        take(3 + 3 * way, 0, grad_weight[way])
        take(4 + 3 * way, 0, grad_bias[way])
    return size, errors


def of_group(dtype, q, n, p, cases, ways):
    """For each way, and each quantity, the errors' RMS and the largest one, in units of what is exact."""
    found = [measure(numbers(dtype, q, n, p, case), ways) for case in range(cases)]
    size = np.sqrt(sum(part for part, _ in found))
    rms = [np.sqrt(sum(errors[way].squares for _, errors in found)) / size for way in range(len(ways))]
    scale = size / np.sqrt(cases * counts(q, n, p))
    largest = [np.max([errors[way].largest for _, errors in found], axis=0) / scale for way in range(len(ways))]
    return list(zip(rms, largest))


def counts(q, n, p):
    """How many numbers each quantity has."""
    return np.array([q * p, 1, q * n, n * p, p, q * n, n * p, p])


def report(found):
    """The ratios of Pente's errors to PyTorch's: for each type and number of rows the geometric mean over the shapes.
    Returns those above 1 by more than chance explains."""
    worse = []
    print("dtype, rows: RMS (largest) of", ", ".join(QUANTITIES))
    for (dtype, q), members in itertools.groupby(found, key=lambda member: member[0][:2]):
        members = list(members)
        line = []
        for i, quantity in enumerate(QUANTITIES):
            ratios, largest, chance = [], [], 0.0
            for (_, _, n, p, cases), (ours, theirs) in members:
                if theirs[0][i] > 0 and ours[0][i] > 0:
                    ratios.append(ours[0][i] / theirs[0][i])
                    largest.append(ours[1][i] / theirs[1][i])
                    # The logarithm of such a ratio has a variance of about one over the number of errors.
                    chance += 1 / (cases * counts(q, n, p)[i])
            if not ratios:
                line.append("=")
                continue
            ratio = np.exp(np.mean(np.log(ratios)))
            line.append(f"{ratio:.2f} ({np.exp(np.mean(np.log(largest))):.2f})")
            luck = max(1.05, np.exp(3 * np.sqrt(chance) / len(ratios)))  # at least: a case's numbers share its weights
            if ratio > luck:
                worse.append(f"{quantity} of {q} rows in {dtype} has {ratio:.2f} of PyTorch's error")
        print(f"{dtype}, {q}:", " | ".join(line), flush=True)
    return worse


def main(arguments):
    is_long, writes = "--long" in arguments, "--write" in arguments
    is_live = is_long or writes
    if is_live and not find_spec("torch"):
        sys.exit("exactness: the long form asks PyTorch: make judges; without it there is make test-extremes")
    kept = {} if is_live else json.loads(FILE.read_text())["errors"]
    found = []
    for key in groups(is_long):
        name = " ".join(map(str, key))
        ours, *theirs = of_group(*key, [by_pente, by_torch] if is_live else [by_pente])
        if is_live:
            kept[name] = [[float(f"{value:.3g}") for value in values] for values in theirs[0]]
        found.append((key, (ours, kept[name])))
    if writes:
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(errors)}" for name, errors in kept.items())
        FILE.write_text(f'{{"torch": "{version("torch")}", "errors": {{\n{lines}\n}}}}\n')
    if worse := report(found):
        sys.exit("\n".join(worse))


if __name__ == "__main__":
    np.seterr(divide="ignore", invalid="ignore")  # a quantity may have no error at all
    main(sys.argv[1:])
