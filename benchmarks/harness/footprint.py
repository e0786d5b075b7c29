"""What Pente takes: bytes of the library, time of the import, allocations and memory of training."""

import os
import statistics
import subprocess
import sys
import time

SHAPE = (262144, 128, 1)


def seconds_of(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def import_milliseconds(runs):
    """`import pente` over a bare interpreter: the median of the differences, one pair after another."""
    bare, ours = [sys.executable, "-c", "pass"], [sys.executable, "-c", "import pente"]
    seconds_of(ours)
    return 1e3 * statistics.median(-seconds_of(bare) + seconds_of(ours) for _ in range(runs))


def entry(name, value, unit, most=None):
    return {"name": name, "value": value, "unit": unit, "most": most, "met": most is None or value <= most}


def run(library, binaries, runs, environment):
    """Each a name, a value with its unit, and what it may be at most."""
    program = subprocess.run([binaries / "footprint", *map(str, SHAPE)], capture_output=True, text=True,
                             env=os.environ | environment)  # fmt: skip
    found = [entry("the library, stripped", library.stat().st_size / 1000, "KB", 300),
             entry("import pente, over a bare interpreter", import_milliseconds(runs), "ms", 5)]  # fmt: skip
    if program.returncode == 0:
        allocations, data, peak = map(int, program.stdout.split())
        found.append(entry("allocations in 100 steps after the first", allocations, "", 0))
        case = "{}x{}->{}".format(*SHAPE)
        found.append(entry(f"peak memory of {case} in C over its data and parameters", (peak - data) / 1e6, "MB"))
    return found


def lines(entries):
    for item in entries:
        most = f" (at most {item['most']:g} {item['unit']})" if item["most"] is not None else ""
        yield f"    {'ok' if item['met'] else 'MISSED':8}{item['name']}: {item['value']:.4g} {item['unit']}{most}"
