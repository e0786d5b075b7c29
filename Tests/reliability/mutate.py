#!/usr/bin/env python3
"""Changes the arithmetic on purpose, a place at a time, and looks whether a test fails.

A mutant of each rule of mutants.py is made in each function of FILES (--all: in each statement). One library holds them
all, each behind a question at its place, and PENTE_MUTANT says which one is meant. A mutant that fails no test is a
missing test, or makes no difference: EQUIVALENT lists those, each with its reason. Answers are kept in
build/mutants/results.txt, and only survivors are asked about again.
"""

import argparse, collections, concurrent.futures, os, pathlib, random, re, signal, subprocess, sys, time

from mutants import mutants_of, write

ROOT = pathlib.Path(__file__).parents[2]
PLACE = ROOT / "build/mutants"
TREE = PLACE / "tree"
RESULTS = PLACE / "results.txt"
EQUIVALENT = ROOT / "Tests/reliability/equivalent_mutants.txt"
LIBRARY = ("MSE SGD SGD+Clipping Scaler Activation Linear Random Batches ParallelStep ParallelPass ParallelForward "
           "GradientLog").split()
FILES = [*sorted((ROOT / "Sources/PenteKernels").glob("*.swift")), *sorted((ROOT / "Sources/PenteVectors").glob("*.h")),
         *(ROOT / f"Sources/Pente/{name}.swift" for name in LIBRARY)]

# What make test runs at each level of processor, quick ones first; test_bits, whose expectations this library once
# computed itself, is asked last, and only about what all others let pass.
ANY = ("sgd_state chain sgd overlap gradcheck scaler activation trainer resume fit clipping mse linear threads "
       "threads_chain chain_sharing custom_calls custom arguments callbacks limits")
LEVELS = {0: "sgd activation mse linear bits".split(), 2: (ANY + " threads_count").split() + ["bits"],
          1: ANY.split() + ["bits"]}

# In the library, which has no libm: which mutant, and which level of processor.
CHOICE = """
#include <stdlib.h>
double sqrt(double x) { __asm__("sqrtsd %0, %0" : "+x"(x)); return x; } /* of what is a constant without mutants */
int pente_mutant, pente_level = 2;
__attribute__((constructor)) static void choose(void) {
    if (getenv("PENTE_MUTANT")) pente_mutant = atoi(getenv("PENTE_MUTANT"));
    if (getenv("PENTE_LEVEL")) pente_level = atoi(getenv("PENTE_LEVEL"));
}
"""
IS_MUTANT = """#pragma once
#include <stdint.h>
static inline __attribute__((always_inline, unused)) _Bool pente_mutant_is(int number) {
    extern int pente_mutant;
    return pente_mutant == number;
}
"""


def update(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text: path.write_text(text)


def copy_tree():
    system = ROOT / "Sources/PenteSystem/system.h"
    for name in ["Makefile", "Package.swift", "include", "Sources", "tools/setup.sh"]:
        for source in [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"):
            if source.is_file() and source not in FILES + [system]:
                update(TREE / source.relative_to(ROOT), source.read_text())
    start = "pente_find_processor_level(void) {\n"
    lower = start + "extern int pente_level; if (pente_level < 2) return pente_level;\n"
    update(TREE / system.relative_to(ROOT), system.read_text().replace(start, lower))
    update(TREE / "Sources/PenteVectors/mutant.h", IS_MUTANT)
    update(TREE / "build/embedded/choice.c", CHOICE)
    (TREE / "build/setup.stamp").touch()


def make(jobs):
    """The library with all of TREE's mutants: whether it was made, and what was said."""
    said = subprocess.run(["make", "-pn"], cwd=TREE, capture_output=True, text=True).stdout
    variable = lambda name: re.search(f"^{name} := (.*)$", said, re.M).group(1)
    subprocess.run(["cc", "-O2", "-fPIC", "-c", "choice.c", "-o", "choice.o"], cwd=TREE / "build/embedded", check=True)
    done = subprocess.run(
        ["make", f"-j{jobs}", "-k", "-o", "build/setup.stamp", "FAST=" + variable("SMALL"),
         "OBJECTS=" + variable("OBJECTS") + " build/embedded/choice.o", variable("LIBRARY")],
        cwd=TREE, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout


def build(mutants, jobs):
    """Leaves out what does not compile, and returns the rest."""
    while True:
        lines = {}
        for path in FILES:
            own = [m for m in mutants if m.path == path]
            text, places = write(path, own)
            update(TREE / path.relative_to(ROOT), text)
            lines.update({(str(path.relative_to(ROOT)), line): m for line, m in places.items()})
        ok, said = make(jobs)
        if ok: return mutants
        places = [(f.removeprefix(str(TREE) + "/"), int(n))
                  for f, n in re.findall(r"^(\S+?):(\d+):\d+: (?:fatal )?error", said, re.M)]
        # Where a function's end is wrong, a line before is.
        wrong = {lines[max(above)] for f, n in places if (above := [p for p in lines if p[0] == f and p[1] <= n])}
        if not wrong: sys.exit(said)
        for m in wrong: answer(m, "does not compile")
        mutants = [m for m in mutants if m not in wrong]
        print(f"{len(wrong)} do not compile, {len(mutants)} are left", flush=True)


def answer(mutant, result):
    with RESULTS.open("a") as results: results.write(f"{mutant.key}\t{result}\n")
    print(f"{result}: {mutant.key}", flush=True)


def passes(test, level, number, limit):
    environment = dict(os.environ, PENTE_MUTANT=str(number), PENTE_LEVEL=str(level),
                       LD_LIBRARY_PATH=str(TREE / "build/lib"))
    if level < 2: environment["PENTE_BITS"] = "few"  # as make test has it
    command = ["prlimit", "--as=8589934592", "--cpu=60", ROOT / f"build/tests/test_{test}"]
    run = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return run.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False  # an endless loop
    finally:
        try: os.killpg(run.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        run.wait()


def judge(mutant, limits):
    for level, tests in LEVELS.items():
        for test in tests[:-1]:
            if not passes(test, level, mutant.number, limits[level, test]): return f"caught by {test} at level {level}"
    for level in LEVELS:
        if not passes("bits", level, mutant.number, limits[level, "bits"]): return f"caught by bits at level {level}"
    return "survived"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="the end of a file's name")
    parser.add_argument("--limit", type=int, help="so many mutants, drawn by chance")
    parser.add_argument("--all", action="store_true", help="one for each statement, and not for each function and rule")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="only what would be tried")
    options = parser.parse_args()

    PLACE.mkdir(parents=True, exist_ok=True)
    equivalent = dict(line.split("\t") for line in EQUIVALENT.read_text().splitlines() if "\t" in line)
    known = dict(line.split("\t") for line in RESULTS.read_text().splitlines()) if RESULTS.exists() else {}
    groups = collections.defaultdict(list)
    for path in FILES:
        if not options.only or str(path).endswith(options.only):
            for m in mutants_of(path):
                groups[m.key if options.all else f"{path.name} {m.function} {m.rule}"].append(m)
    chosen = {}
    for name, group in groups.items():
        # One for each statement.
        free = [m for m in group if (m.path, m.line) not in chosen]
        if free:
            m = random.Random(f"{options.seed} {name}").choice(free)
            chosen[m.path, m.line] = m._replace(number=len(chosen) + 1)
    chosen = list(chosen.values())
    if options.limit: chosen = random.Random(options.seed).sample(chosen, min(options.limit, len(chosen)))
    keys = {m.key for m in chosen}
    todo = [m for m in chosen if m.key not in equivalent and not known.get(m.key, "survived").startswith("caught")]
    print(f"{len(chosen)} mutants, of which {len(todo)} are to be tried", flush=True)
    if options.list: return print("\n".join(m.key for m in todo))

    if todo:
        copy_tree()
        built = build([m for m in chosen if known.get(m.key) != "does not compile"], options.jobs)
        todo = [m for m in todo if m in built]
        limits = {}
        for level, tests in LEVELS.items():
            for test in tests:
                start = time.monotonic()
                if not passes(test, level, 0, 600): sys.exit(f"test_{test} fails at level {level} without a mutant")
                limits[level, test] = 10 + 10 * (time.monotonic() - start)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda m: answer(m, judge(m, limits)), todo))

    known = dict(line.split("\t") for line in RESULTS.read_text().splitlines()) if RESULTS.exists() else {}
    results = [(key, "equivalent" if key in equivalent else known[key]) for key in sorted(keys)]
    counts = collections.Counter("caught by bits alone" if r.startswith("caught by bits") else r.split(" by ")[0]
                                 for _, r in results)
    for result, count in counts.most_common(): print(f"{count} {result}")
    survivors = [key for key, result in results if result == "survived"]
    print("\n".join(survivors))
    sys.exit(bool(survivors))


if __name__ == "__main__": main()
