"""Times lanes side by side: each round times every lane once, for a slice."""

import math
import statistics
import time
from dataclasses import dataclass, field

from .cases import Shape
from .workers import Failed, Gone, Program, Refused

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
    """Timings by lane, and notes on what went wrong; no more rounds after `limit` seconds, once there are three."""
    pool.start([(lane.program, lane.threads, lane.worker) for lane in lanes])
    running = Rounds(pool)
    for lane in lanes:
        running.setup(lane)
    start = time.monotonic()
    for count in range(rounds):
        if count >= FEWEST_ROUNDS and time.monotonic() - start > limit:
            break
        running.go_round(count, seconds)
    running.free()
    return running.timings, running.notes


class Rounds:
    """The workers that have set a case up, and their timings so far; whoever fails is left out from then on."""

    def __init__(self, pool):
        self.pool = pool
        self.workers, self.timings, self.notes = {}, {}, []

    def ask(self, name, worker, command):
        """The answer's words; or None, with a note if there is something to be said."""
        try:
            return worker.ask(command)
        except Refused:
            pass
        except Failed as reason:
            self.notes.append(f"{name}: {reason}")
        except Gone as reason:
            self.notes.append(f"{name}: {reason}")
            self.pool.drop(worker)
        self.workers.pop(name, None)
        self.timings.pop(name, None)
        return None

    def setup(self, lane):
        worker = self.pool.get(lane.program, lane.threads, lane.worker)
        answer = worker and self.ask(lane.name, worker, lane.setup)
        if answer:
            self.workers[lane.name] = worker
            self.timings[lane.name] = Timing(check=float(answer[0]), threads=worker.threads)

    def go_round(self, first, seconds):
        """Each in turn, from another one on each time."""
        names = list(self.workers)
        first %= max(1, len(names))
        for name in names[first:] + names[:first]:
            answer = self.ask(name, self.workers[name], f"time {seconds}")
            if answer:
                self.timings[name].rounds.append(float(answer[0]))

    def free(self):
        for name, worker in list(self.workers.items()):
            try:
                worker.ask("free")
            except (Gone, Failed) as reason:
                self.notes.append(f"{name}: {reason}")
                self.pool.drop(worker)


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
