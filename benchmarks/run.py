"""Times training steps side by side: Pente from C, Python and Swift, its peers, and the machine's limits.

    make bench                                            # all of it
    build/bench-venv/bin/python benchmarks/run.py --only small --only 1x4 --dtype float32 --threads 1

See README.md beside this file.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from harness import footprint, growth, machine, page, report
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
    add("--library", type=Path, default=ROOT / "build/lib/libpente.so",
        help="the libpente.so to be timed from C and Python (build/lib/libpente.so)")
    add("--binaries", type=Path, default=ROOT / "build/bench", help="where the worker programs are")
    add("--json", type=Path, metavar="FILE", help="writes everything that was measured")
    add("--from", type=Path, metavar="FILE", dest="source", help="measures nothing: shows what --json wrote")
    add("--svg", type=Path, metavar="FOLDER", help="draws charts")
    add("--page", type=Path, metavar="FILE", help="renews the tables of docs/performance.md")
    options = parser.parse_args()
    options.dtype = options.dtype or (["float32"] if options.quick else list(SIZES))
    options.threads = options.threads or [1, 2]
    options.rounds = options.rounds or (5 if options.quick else 9)
    return options


def library_environment(path, folder):
    """Variables that make the workers load that library: a link under its soname, in a folder that comes first."""
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
        self.environment = library_environment(options.library, options.binaries / "library")
        self.pool = Pool(self.environment, open(options.binaries / "log.txt", "w"))
        self.limits = machine.Limits(self.pool, options.binaries)
        self.table = report.Table([program.name for program in self.programs])
        self.machine = machine.describe()
        self.results = []
        self.growth, self.footprint = [], []

    def start(self):
        """Starts all workers, and says what is there and what is not."""
        if self.machine["load"] > 0.5:
            print(f"The machine is at work for others (load average {self.machine['load']:.1f}): expect noise.")
        self.pool.start([(p, threads, "") for p in self.programs for threads in self.options.threads])
        for program in self.programs:
            workers = [self.pool.get(program, threads) for threads in self.options.threads]
            if program.name in self.pool.absent:
                print(f"skipped: {program.name} ({self.pool.absent[program.name]})")
            elif workers[-1].threads < self.options.threads[-1]:
                print(f"{program.name}: {workers[-1].version}; one thread alone (*)")
            else:
                print(f"{program.name}: {workers[-1].version}")

    @property
    def c(self):
        """Pente from C, if it is there."""
        return next((p for p in self.programs if p.name == "C" and p.name not in self.pool.absent), None)

    def lanes(self, case, dtype, threads):
        def lane(name, program, shape=case.shape, task=case.task, threads=threads):
            own = name if name != program.name else ""
            return Lane(name, program, threads, task, dtype, shape, case.batch, case.lr, own)

        lanes = [lane(program.name, program) for program in self.programs]
        if self.c and threads > 1:
            lanes.append(lane("one thread", self.c, threads=1))
        if self.c and case.beside:
            lanes.append(lane("neighbour", self.c, shape=case.beside))
        if self.c and case.task == "fit":
            lanes.append(lane("steps", self.c, task="steps"))
        return lanes + self.limits.lanes(case, dtype, threads)

    def case(self, case, dtype, threads):
        lanes = self.lanes(case, dtype, threads)
        timings, notes = measure(self.pool, lanes, self.options.rounds, self.options.seconds, self.options.limit)
        comparable = [lane for lane in lanes if lane.program.name != "limits" and lane.shape == case.shape]
        notes += disagreements(comparable, timings)
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

    def all_growth(self):
        """From C on one thread, up to 1 GB."""
        for dimension in growth.SERIES:
            print(f"\ngrowth with {dimension}")
            self.growth.append(growth.run(self.pool, self.c, self.machine["caches"], dimension, self.options))
            print("\n".join(growth.lines(self.growth[-1])), flush=True)

    def all_footprint(self):
        print("\nfootprint")
        runs = 15 if self.options.quick else 41
        self.footprint = footprint.run(self.options.library, self.options.binaries, runs, self.environment)
        print("\n".join(footprint.lines(self.footprint)), flush=True)

    def everything(self):
        versions = {worker.program.name: worker.version for worker in self.pool.workers.values()}
        return {"machine": self.machine, "versions": versions, "skipped": self.pool.absent,
                "read_patterns": self.limits.patterns, "seconds": self.options.seconds, "cases": self.results,
                "growth": self.growth, "footprint": self.footprint}  # fmt: skip


def measured(options):
    """Runs what is asked for, and returns all that was found."""
    run = Run(options)

    def wanted(group):
        return not options.only or group in options.only

    try:
        run.start()
        run.all_cases()
        if wanted("growth") and run.c:
            run.all_growth()
        if wanted("footprint"):
            run.all_footprint()
        return run.everything()
    finally:
        run.pool.close()


def main():
    options, start = arguments(), time.monotonic()
    everything = json.loads(options.source.read_text()) if options.source else measured(options)
    if options.source:
        report.show(everything)
    print("\n" + "\n".join(report.summary(everything)))
    print(f"{time.monotonic() - start:.0f} seconds")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
    if options.svg:
        from harness import charts

        for path in charts.draw(everything, options.svg):
            print(path)
    if options.page:
        page.renew(options.page, everything)


if __name__ == "__main__":
    main()
