"""What the tests share: matrices without NumPy, and the mathematics written out."""

import math
import random
import subprocess
import sys
import textwrap
from array import array

import pente

CODES = {"float32": "f", "float64": "d"}
DTYPES = list(CODES)
THRESHOLD = pente._pente.GIL_THRESHOLD


def matrix(rows, dtype="float64"):
    """Rows of numbers as a 2-D memoryview."""
    flat = array(CODES[dtype], [value for row in rows for value in row])
    return memoryview(flat).cast("B").cast(CODES[dtype], (len(rows), len(rows[0])))


def zeros(rows, columns, dtype="float64"):
    flat = bytearray(rows * columns * array(CODES[dtype]).itemsize)
    return memoryview(flat).cast(CODES[dtype], (rows, columns))


def randoms(rows, columns, dtype="float64", seed=0):
    generator = random.Random(f"{rows} {columns} {seed}")
    return matrix([[generator.uniform(-1, 1) for _ in range(columns)] for _ in range(rows)], dtype)


def vector(values, dtype="float64"):
    return array(CODES[dtype], values)


def product(a, b):
    """The matrix product of lists of rows."""
    columns = list(zip(*b))
    return [[math.fsum(x * y for x, y in zip(row, column)) for column in columns] for row in a]


def transpose(rows):
    return [list(column) for column in zip(*rows)]


def flatten(nested):
    return [value for row in nested for value in (row if isinstance(row, list) else [row])]


def assert_close(found, expected, dtype="float64"):
    found, expected = flatten(found), flatten(expected)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        assert math.isclose(value, wanted, rel_tol=tolerance, abs_tol=tolerance)


def problem(dtype="float32", rows=32, in_features=5, out_features=2):
    """A layer, x and y whose true weights a fit can find."""
    x = randoms(rows, in_features, dtype, seed=1)
    truth = randoms(in_features, out_features, seed=2).tolist()
    y = matrix(product(x.tolist(), truth), dtype)
    return pente.Linear(in_features, out_features, dtype=dtype, seed=0), x, y


def snapshot(layer):
    return {name: bytes(value) for name, value in layer.state_dict().items()}


def gradients(layer):
    return {name: bytes(value) for name, value in layer.gradients.items()}


def network(dtype="float64", seed=0):
    """A chain of 5 columns to 2."""
    chain = pente.Chain(pente.Linear(5, 4, dtype=dtype), pente.Tanh(dtype), pente.Linear(4, 2, dtype=dtype))
    chain.reset_parameters(seed)
    return chain


def mersenne_twister(seed):
    """Python's generator, seeded as torch.manual_seed seeds its own."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) % 2**32)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    return generator


def randperm(n, generator):
    order = list(range(n))
    for i in range(n - 1):
        j = i + generator.getrandbits(32) % (n - i)
        order[i], order[j] = order[j], order[i]
    return order


class Borrowed:
    """An array that gives its memory by DLPack alone."""

    def __init__(self, array, **answers):
        self.array = array
        self.answers = answers

    def __dlpack__(self, **options):
        if "error" in self.answers:
            raise self.answers["error"]
        return self.answers.get("capsule") or self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.answers.get("device", (1, 0))


class Affine(pente.CustomLayer):
    """A linear layer once more, with the same parameters."""

    def __init__(self, linear):
        super().__init__(
            linear.in_features, linear.out_features, parameters=linear.state_dict(), dtype=linear.dtype
        )

    def compute_forward(self, x, weight, bias):
        y = product(x.tolist(), transpose(weight.tolist()))
        return matrix([[value + b for value, b in zip(row, bias.tolist())] for row in y], self.dtype)

    def compute_backward(self, x, y, grad_output, weight, bias):
        upstream = grad_output.tolist()
        return matrix(product(upstream, weight.tolist()), self.dtype), {
            "weight": matrix(product(transpose(upstream), x.tolist()), self.dtype),
            "bias": vector([math.fsum(column) for column in zip(*upstream)], self.dtype),
        }


def square(dtype="float64"):
    """y = x^2, of any width, as two functions."""

    def each(function, *matrices):
        rows = zip(*(m.tolist() for m in matrices))
        return matrix([[function(*values) for values in zip(*row)] for row in rows], dtype)

    return pente.CustomLayer(
        forward=lambda x: each(lambda value: value * value, x),
        backward=lambda x, y, grad_output: each(lambda value, g: 2 * value * g, x, grad_output),
        dtype=dtype,
    )


def run_python(code):
    """Runs the code in a process of its own, which must end well. -P: the installed package, not one that lies here.

    Ctrl-C counts there, though what a shell runs in the background ignores it."""
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    done = subprocess.run(
        [sys.executable, "-P", "-c", heard + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
