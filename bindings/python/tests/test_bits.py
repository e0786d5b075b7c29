"""Each run of Tests/data/bits.txt, which says what a run is, gives the hashes that stand there, by a trainer and by hand.

PENTE_BITS=few takes the small runs alone; PENTE_BITS=all each number of threads from 1 to 8."""

import operator
import os
import zlib
from pathlib import Path
from types import SimpleNamespace

import pente
import pytest
from support import mersenne_twister, randperm

np = pytest.importorskip("numpy")

TABLE = Path(__file__).parents[3] / "Tests/data/bits.txt"
MODE = os.environ.get("PENTE_BITS")
THREADS = {"few": (1,), "all": range(1, 9)}.get(MODE, (1, 3))
HINT = 'If numbers are meant to change, add a line "- bits:" to CHANGELOG.md, and let `make bits` write the table'
ACTIVATIONS = {
    "relu": pente.ReLU, "leaky_relu": pente.LeakyReLU, "tanh": pente.Tanh, "sigmoid": pente.Sigmoid,
    "softplus": pente.Softplus,
}  # fmt: skip
X, Y, SHIFT = 1, 2, 3
SEED = 7
EPOCHS = 2


def numbers(rows, columns, seed, scale, dtype):
    z = (np.uint64(seed << 32) | np.arange(rows * columns, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1):
        z = (z ^ z >> np.uint64(shift)) * np.uint64(factor)
    return (((z >> np.uint64(11)) * 2.0**-52 - 1) * scale).astype(dtype).reshape(rows, columns)


class Shift(pente.CustomLayer):
    """y = (x + a)²."""

    def __init__(self, width, dtype):
        super().__init__(width, width, parameters={"a": numbers(1, width, SHIFT, 1, dtype)[0]}, dtype=dtype)

    def compute_forward(self, x, a):
        return np.square(np.asarray(x) + np.asarray(a))

    def compute_backward(self, x, y, grad_output, a):
        grad_input = 2 * (np.asarray(x) + np.asarray(a)) * np.asarray(grad_output)
        return grad_input, {"a": np.add.accumulate(grad_input)[-1]}


def layer_of(run, x):
    width, *words = run.layers.split(":")
    width, layers = int(width), []
    for place, word in enumerate(words):
        if word in ACTIVATIONS:
            layers.append(ACTIVATIONS[word](dtype=run.dtype))
        elif word == "scaler":
            layers.append(pente.Scaler(width, run.dtype).fit(x))
        elif word == "shift":
            layers.append(Shift(width, run.dtype))
        else:
            outputs = int(word.rstrip("w"))
            layers.append(pente.Linear(width, outputs, "w" not in word, run.dtype, seed=place))
            width = outputs
    return (layers[0] if len(layers) == 1 else pente.Chain(layers)), width


class Work:
    """A run under way."""

    def __init__(self, run, by_hand):
        inputs = int(run.layers.split(":")[0])
        self.run, self.by_hand = run, by_hand
        self.x = numbers(run.rows, inputs, X, run.scale, run.dtype)
        self.layer, outputs = layer_of(run, self.x)
        self.y = numbers(run.rows, outputs, Y, 1, run.dtype)
        self.weight = (np.arange(run.rows) % 5 / 2).astype(run.dtype) if run.weights else None
        self.loss = pente.MSELoss(run.reduction)
        if run.reduction != "none":
            flags = {"nesterov": bool(run.nesterov), "maximize": bool(run.maximize)}
            self.sgd = pente.SGD(self.layer, run.lr, run.momentum, run.dampening, run.decay, **flags)
            self.trainer = pente.Trainer(self.layer, self.sgd, self.loss, run.clip or None)

    def hash(self, *results):
        crc = 0
        for result in results:
            crc = zlib.crc32(np.ascontiguousarray(result), crc)
        return f"{crc:08x}"

    def model(self):
        return [both[name] for name in self.layer.parameters for both in (self.layer.parameters, self.layer.gradients)]

    def pass_(self):
        prediction = self.layer.forward(self.x)
        grad_input = self.layer.backward(self.y)
        loss = self.loss(prediction, self.y, self.weight)
        return self.hash(*self.model(), prediction, grad_input, self.loss.backward(), loss)

    def step(self, x, y, weight):
        if not self.by_hand:
            return self.trainer.step(x, y, weight)
        self.sgd.zero_grad()
        loss = self.loss(self.layer.forward(x), y, weight)
        self.layer.backward(self.loss.backward(), input_gradient=False)
        if self.run.clip:
            self.sgd.clip_gradients(self.run.clip)
        self.sgd.step()
        return loss

    def steps(self):
        losses = [self.step(self.x, self.y, self.weight) for _ in range(3)]
        return self.hash(losses, *self.model())

    def epoch(self, order):
        is_mean = self.run.reduction in ("mean", "batch_mean")
        total = weights = 0.0
        for first in range(0, self.run.rows, self.run.batch):
            rows = order[first : first + self.run.batch]
            weight = None if self.weight is None else self.weight[rows]
            count = float(len(rows) if weight is None else weight.sum())
            if count > 0:
                loss = self.step(self.x[rows], self.y[rows], weight)
                total += loss * count if is_mean else loss
                weights += count
        return total / weights if is_mean else total

    def fit(self):
        losses, validation_losses = [], []
        generator = mersenne_twister(SEED)
        for _ in range(EPOCHS if self.by_hand else 0):
            losses.append(self.epoch(randperm(self.run.rows, generator) if self.run.shuffle else range(self.run.rows)))
            validation_losses.append(self.loss(self.layer.predict(self.x), self.y))
        if not self.by_hand:
            history = self.trainer.fit(
                self.x, self.y, EPOCHS, self.run.batch, bool(self.run.shuffle), seed=SEED, sample_weight=self.weight,
                validation=(self.x, self.y),
            )  # fmt: skip
            losses, validation_losses = history.training_losses, history.validation_losses
        return self.hash(losses, validation_losses, *self.model())


def read(line):
    """A line's run, and its hashes."""
    *words, passes, steps, fit = line.split()
    dtype, layers, rows, scale, reduction, *numbers = words
    names = "weights lr momentum dampening decay nesterov maximize clip batch shuffle".split()
    run = SimpleNamespace(dtype=dtype, layers=layers, rows=int(rows), scale=float(scale), reduction=reduction)
    for name, number in zip(names, numbers, strict=True):
        setattr(run, name, float(number))
    run.batch = int(run.batch)
    return run, {"pass": passes, "steps": steps, "fit": fit}


def is_small(run):
    widths = [int(word.rstrip("w")) for word in run.layers.split(":") if word[0].isdigit()]
    return run.rows * sum(map(operator.mul, widths, widths[1:])) <= 30000


def hashes(run, by_hand):
    work = Work(run, by_hand)
    trains = run.reduction != "none"
    return {"pass": work.pass_(), "steps": work.steps() if trains else "-", "fit": work.fit() if trains else "-"}


def test_the_bits_of_the_table():
    wrong, count = [], 0
    try:
        for number, line in enumerate(TABLE.read_text().splitlines(), 1):
            if not line.startswith("float"):
                continue
            run, expected = read(line)
            if MODE == "few" and not is_small(run):
                continue
            count += 1
            for threads in THREADS:
                pente.set_num_threads(threads)
                for by_hand in False, True:
                    found = hashes(run, by_hand)
                    way = f"from Python, {'by hand' if by_hand else 'by trainer'}, threads: {threads}"
                    wrong += [
                        f"{TABLE.name}:{number}: {line}\n    {way}: {part} is {found[part]}, expected {expected[part]}"
                        for part in expected if found[part] != expected[part]
                    ]  # fmt: skip
    finally:
        pente.set_num_threads(1)
    assert count >= 20
    assert not wrong, "\n".join([*wrong, HINT])
