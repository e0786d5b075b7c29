"""What the machine is, and what it can do at best: multiply-adds, and reading memory."""

import os
import platform
import re
import statistics
from pathlib import Path

from .measure import Lane, Timing, measure
from .workers import Program

STREAMS, DISTANCES = (1, 2, 4, 8), (0, 1024, 4096)


def processor():
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def caches():
    """Bytes of the first processor's data caches by name, {"L1": 32768, ...}."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            number, unit = re.match(r"(\d+)(\w?)", (index / "size").read_text()).groups()
            sizes["L" + (index / "level").read_text().strip()] = int(number) << {"": 0, "K": 10, "M": 20}[unit]
    return sizes


def describe():
    return {
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "caches": caches(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


class Limits:
    """Lanes for the machine's limits, which are timed beside the contenders."""

    def __init__(self, pool, binaries):
        self.pool = pool
        self.program = Program("limits", (str(binaries / "limits"), "THREADS"), is_peer=False)
        self.patterns = {}
        self.last_cache = max(caches().values(), default=32 << 20)

    def fma(self, dtype, threads):
        return Lane("peak", self.program, threads, "fma", dtype, worker="fma")

    def read(self, threads):
        """By the pattern that is fastest for so many threads, which is looked for the first time."""
        if threads not in self.patterns:
            self.patterns[threads] = self.fastest_pattern(threads)
        return Lane("bandwidth", self.program, threads, self.patterns[threads], worker="read")

    def fastest_pattern(self, threads):
        medians = {}
        for streams in STREAMS:
            for distance in DISTANCES:
                task = f"read-{streams}-{distance}"
                timings, _ = measure(self.pool, [Lane(task, self.program, threads, task, worker="read")], 3, 0.05, 1)
                medians |= {name: timing.median for name, timing in timings.items()}
        return min(medians, key=medians.get)

    def fetch(self, case, dtype, threads):
        return Lane("fetch", self.program, threads, "fetch", dtype, case.shape, worker="fetch")

    def lanes(self, case, dtype, threads):
        """The multiply-add rate; memory, where what is read does not fit the last cache; and where rows are shuffled,
        what it takes to fetch them."""
        lanes = [self.fma(dtype, threads)]
        if case.task == "fit":
            lanes.append(self.fetch(case, dtype, threads))
        if case.shape.bytes(dtype, case.task) > self.last_cache:
            lanes.append(self.read(threads))
        return lanes


def shares(case, dtype, timings):
    """What part of each limit Pente reaches from C, {"peak": 0.5, "bandwidth": 0.9}; the larger is what counts."""
    needs = {"peak": case.shape.flops(case.task), "bandwidth": case.shape.bytes(dtype, case.task)}
    found = {}
    for name, need in needs.items():
        if name in timings and "C" in timings:
            found[name] = share(need, timings["C"], timings[name])
    return found


def share(need, ours: Timing, limit: Timing):
    """The time that the limit (whose check is the work of a call) asks for, over ours, round by round."""
    return statistics.median(need / limit.check * b / a for a, b in zip(ours.rounds, limit.rounds))
