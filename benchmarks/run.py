"""Times training steps side by side: Pente from C, Python and Swift, its peers, and the machine's limits.

    make bench                                            # all of it
    build/bench-venv/bin/python benchmarks/run.py --only small --only 1x4 --dtype float32 --threads 1

See README.md beside this file.
"""

import argparse
import fnmatch
import json
import os
import sys
import time
from pathlib import Path

from harness import machine, report
from harness.cases import GROUPS, SIZES, selected
from harness.measure import Lane, disagreements, measure
from harness.workers import ROOT, Pool, programs


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="one case a group, float32, few rounds: about two minutes")
    add("--only", action="append", default=[], metavar="PATTERN",
        help=f"a group ({', '.join(GROUPS)}) or a part of a case's name; may be repeated")
    add("--contenders", metavar="NAMES", help="only these, by the names of their columns: C,Python,OpenBLAS")
    add("--dtype", choices=SIZES, action="append", help="default: both")
    add("--threads", type=int, action="append", help="default: 1 and 2")
    add("--seconds", type=float, default=0.03, help="of a slice (%(default)s)")
    add("--rounds", type=int, help="default: 9, with --quick 5")
    add("--limit", type=float, default=8, help="seconds of a case after which no further round begins (%(default)s)")
    add("--library", type=Path, help="a libpente.so to time from C and Python instead of the one that is installed")
    add("--binaries", type=Path, default=ROOT / "build/bench", help="where the worker programs are")
    add("--json", type=Path, metavar="FILE", help="writes everything that was measured")
    add("--svg", type=Path, metavar="FOLDER", help="draws charts")
    options = parser.parse_args()
    options.dtype = options.dtype or (["float32"] if options.quick else list(SIZES))
    options.threads = options.threads or [1, 2]
    options.rounds = options.rounds or (5 if options.quick else 9)
    return options


def library_environment(path, folder):
    """Variables that make the workers load that library: a link under its soname, in a folder that comes first."""
    if path is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "libpente.so.0"
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve(strict=True))
    return {"LD_LIBRARY_PATH": str(folder)}


class Run:
    def __init__(self, options):
        self.options = options
        self.programs = programs(sys.executable, options.binaries)
        if options.contenders:
            self.programs = [p for p in self.programs if p.name in options.contenders.split(",")]
        log = open(options.binaries / "log.txt", "w")
        environment = library_environment(options.library, options.binaries / "library")
        self.pool = Pool(environment, log)
        self.limits = machine.Limits(self.pool, options.binaries)
        self.table = report.Table(self.programs)
        self.results = []

    def start(self):
        """Starts all workers, and says what is there and what is not."""
        self.pool.start([(p, threads, "") for p in self.programs for threads in self.options.threads])
        for program in self.programs:
            workers = [self.pool.get(program, threads) for threads in self.options.threads]
            if program.name in self.pool.absent:
                print(f"skipped: {program.name} ({self.pool.absent[program.name]})")
            elif workers[-1].threads < self.options.threads[-1]:
                print(f"{program.name}: {workers[-1].version}; one thread alone (*)")
            else:
                print(f"{program.name}: {workers[-1].version}")

    def lanes(self, case, dtype, threads):
        def lane(name, program, shape=case.shape, task=case.task, threads=threads):
            own = name if name != program.name else ""
            return Lane(name, program, threads, task, dtype, shape, case.batch, case.lr, own)

        lanes = [lane(program.name, program) for program in self.programs]
        c = next((program for program in self.programs if program.name == "C"), None)
        if c and threads > 1:
            lanes.append(lane("one thread", c, threads=1))
        if c and case.beside:
            lanes.append(lane("neighbour", c, shape=case.beside))
        if c and case.task == "fit":
            lanes.append(lane("steps", c, task="steps"))
        return lanes + self.limits.lanes(case, dtype, threads)

    def case(self, case, dtype, threads):
        lanes = self.lanes(case, dtype, threads)
        timings, notes = measure(self.pool, lanes, self.options.rounds, self.options.seconds, self.options.limit)
        comparable = {name: timing for name, timing in timings.items() if name not in ("peak", "bandwidth", "neighbour")}
        notes += [f"{name} DISAGREES: {timings[name].check}, C {timings['C'].check}"
                  for name in disagreements(comparable, dtype)]
        result = report.result(case, dtype, threads, timings, notes, self.programs)
        self.results.append(result)
        print("\n".join(self.table.lines(result)), flush=True)

    def all_cases(self):
        group = None
        for case in selected(self.options.only, self.options.quick):
            if case.group != group:
                group = case.group
                print(f"\n{group}\n{self.table.header()}")
            for dtype in self.options.dtype:
                for threads in self.options.threads:
                    self.case(case, dtype, threads)


def main():
    options, start = arguments(), time.monotonic()
    run = Run(options)
    try:
        run.start()
        run.all_cases()
    finally:
        run.pool.close()
    print("\n" + "\n".join(report.summary(run.results)))
    print(f"{time.monotonic() - start:.0f} seconds")
    if options.json:
        everything = {"machine": machine.describe(), "cases": run.results}
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
