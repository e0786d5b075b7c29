"""The protocol of a worker program in Python (see benchmarks/README.md); worker.c is the same in C.

A framework's module calls `serve` with the function that makes a task's call.
"""

import sys
from dataclasses import dataclass
from itertools import repeat
from math import nan, sqrt
from time import perf_counter

import numpy as np


@dataclass
class Job:
    """What is to be timed: a task on q rows of widths[0] columns, in a table of `stride` columns."""

    task: str
    dtype: str
    q: int
    stride: int
    batch: int
    lr: float
    widths: list[int]

    @classmethod
    def parse(cls, words):
        task, dtype, q, stride, batch, lr, *widths = words
        return cls(task, dtype, int(q), int(stride), int(batch), float(lr), [int(width) for width in widths])

    def data(self):
        """x, as a block of columns if the stride says so, and y."""
        x = pattern((self.q, self.stride), self.dtype, 0)
        return x[:, : self.widths[0]], pattern((self.q, self.widths[-1]), self.dtype, 1)

    def parameters(self):
        """Each layer's weight, p x n, and bias."""
        for i, (n, p) in enumerate(zip(self.widths, self.widths[1:])):
            yield pattern((p, n), self.dtype, 2 + i, 1 / sqrt(n)), np.zeros(p, self.dtype)


class Refused(Exception):
    """The task does not apply."""


def pattern(shape, dtype, phase, scale=1.0):
    """The numbers that all contenders train on."""
    period = 1000
    values = ((np.arange(period) + phase) * 7919 % period / period - 0.5) * scale
    return np.resize(values.astype(dtype), shape)


def mean_square(y):
    return float(np.mean(np.square(np.asarray(y), dtype=np.float64)))


def seconds_of(call, calls):
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return perf_counter() - start


def calibrated(call, seconds):
    """Roughly the seconds of a call, given how long one took; what is short is timed again, more at once."""
    calls = 1
    while seconds < 1e-3:
        calls *= 2
        seconds = seconds_of(call, calls)
    return seconds / calls


def time_call(call, seconds, seconds_per_call):
    """Microseconds of a call, over about so many seconds after a warm-up, which a long call does without."""
    burst, calls, elapsed = max(1, int(seconds / 16 / seconds_per_call)), 0, 0.0
    if seconds_per_call < seconds / 4:
        seconds_of(call, burst)
    start = perf_counter()
    while elapsed < seconds:
        for _ in repeat(None, burst):
            call()
        calls += burst
        elapsed = perf_counter() - start
    return elapsed / calls * 1e6, calls


def serve(version, threads, make):
    """Answers the driver's commands. `make(job)` gives the function to be timed, and what turns its second result into
    a number that all contenders must agree on (or None); or it raises Refused."""
    answer(f"ready {threads} {version}")
    call = estimate = None
    for line in sys.stdin:
        command, *words = line.split()
        try:
            if command == "setup":
                call, check = make(Job.parse(words))
                call()
                start = perf_counter()
                result = call()
                estimate = calibrated(call, perf_counter() - start)
                answer(f"ok {float(check(result)) if check else nan!r}")
            elif command == "time":
                microseconds, calls = time_call(call, float(words[0]), estimate)
                answer(f"ok {microseconds:.6g} {calls}")
            elif command == "free":
                call = check = None
                answer("ok")
            else:
                answer(f"refused no such command: {command}")
        except Refused as refusal:
            answer(f"refused {refusal}")
        except Exception as error:
            call = check = None
            answer(f"failed {type(error).__name__}: {error}".splitlines()[0])


def answer(text):
    print(text, flush=True)


def main(start, make):
    """Runs a worker program: `start(threads)` gives its version and how many threads there are in the end."""
    try:
        version, threads = start(int(sys.argv[1]))
    except (ImportError, OSError) as error:
        answer(f"absent {error}")
        return
    serve(version, threads, make)
