"""Times lanes side by side: each round times every lane once, for a slice."""

import math
import statistics
import time
from dataclasses import dataclass, field

from .cases import Shape
from .workers import Gone, Program

FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Lane:
    """One of those that are timed side by side."""

    name: str
    program: Program
    threads: int
    task: str
    dtype: str = "float32"
    shape: Shape = Shape(1, (1, 1), 1)
    batch: int = 1
    lr: float = 0.0
    worker: str = ""  # the name of its own process, where the program has two lanes

    @property
    def setup(self):
        shape = self.shape
        return " ".join(map(str, ["setup", self.task, self.dtype, shape.q, shape.stride, self.batch, self.lr,
                                  *shape.widths]))  # fmt: skip


@dataclass
class Timing:
    """A lane's microseconds a call, one number a round, and what its setup answered."""

    rounds: list[float] = field(default_factory=list)
    check: float = math.nan
    threads: int = 1

    @property
    def median(self):
        return statistics.median(self.rounds)

    @property
    def quartiles(self):
        if len(self.rounds) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return first, third


def ratio(above, below):
    """The median of the ratios, round by round: what slows the machine for a while slows both."""
    return statistics.median(a / b for a, b in zip(above.rounds, below.rounds))


def measure(pool, lanes, rounds, seconds, limit):
    """Timings by lane, and notes on what was left out; no more rounds after `limit` seconds, once there are three."""
    pool.start([(lane.program, lane.threads, lane.worker) for lane in lanes])
    timings, workers, notes = {}, {}, []
    for lane in lanes:
        worker = pool.get(lane.program, lane.threads, lane.worker)
        if worker is None:
            continue
        try:
            check = float(worker.ask(lane.setup)[0])
        except LookupError as refusal:
            if not str(refusal).startswith(("one layer", "no such task", "the same")):
                notes.append(f"{lane.name}: {refusal}")
            continue
        except Gone as reason:
            notes.append(f"{lane.name}: {reason}")
            pool.drop(worker)
            continue
        timings[lane.name], workers[lane.name] = Timing(check=check, threads=worker.threads), worker
    start = time.monotonic()
    for count in range(rounds):
        if count >= FEWEST_ROUNDS and time.monotonic() - start > limit:
            break
        names = list(workers)
        for name in names[count % len(names) :] + names[: count % len(names)]:
            try:
                timings[name].rounds.append(float(workers[name].ask(f"time {seconds}")[0]))
            except (Gone, LookupError) as reason:
                notes.append(f"{name}: {reason}")
                pool.drop(workers.pop(name))
                del timings[name]
    for worker in workers.values():
        worker.ask("free")
    return timings, notes


def disagreements(lanes, timings):
    """A note on each lane that computed another loss than Pente from C."""
    if "C" not in timings:
        return []
    reference = timings["C"].check
    notes = []
    for lane in lanes:
        tolerance = {"float32": 1e-3, "float64": 1e-9}[lane.dtype] * abs(reference)
        if lane.name in timings and abs(timings[lane.name].check - reference) > tolerance:
            notes.append(f"{lane.name} DISAGREES: {timings[lane.name].check}, but C {reference}")
    return notes
