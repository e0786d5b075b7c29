"""The targets, and whether they are met."""

from dataclasses import dataclass

from .machine import shares
from .measure import ratio

TOLERANCE = 1.03  # for "never slower" than itself: two timings of the same differ by so much


@dataclass
class Verdict:
    text: str
    met: bool


def at_most(value, target, text):
    return Verdict(f"{text}: {value:.2f} x (at most {target:g} x)", value <= target)


def at_least(value, target, text):
    return Verdict(f"{text}: {value:.2f} x (at least {target:g} x)", value >= target)


def best_peer(timings, programs, python=False):
    """The name of the fastest of the others, or of those in Python."""
    names = [p.name for p in programs if p.is_peer and p.name in timings and (p.is_python or not python)]
    return min(names, key=lambda name: timings[name].median, default=None)


def tiny(case, dtype, timings, programs):
    if "OpenBLAS" in timings:
        yield at_most(ratio(timings["C"], timings["OpenBLAS"]), 1.5, "C / OpenBLAS")
    peer = best_peer(timings, programs, python=True)
    if peer and "Python" in timings:
        yield at_least(ratio(timings[peer], timings["Python"]), 10, f"{peer} / Python")


def small(case, dtype, timings, programs):
    peer = best_peer(timings, programs)
    ours = min((name for name in ("C", "Python") if name in timings), key=lambda name: timings[name].median)
    if peer:
        yield at_least(ratio(timings[peer], timings[ours]), 1.3, f"{peer} / {ours}")


def limit(case, dtype, timings, least):
    """The share of whichever limit is nearer."""
    found = shares(case, dtype, timings)
    if found:
        name = max(found, key=found.get)
        yield Verdict(f"{found[name]:.0%} of the {name} (at least {least:.0%})", found[name] >= least)


def memory(case, dtype, timings, programs):
    yield from limit(case, dtype, timings, 0.85)
    peer = best_peer(timings, programs)
    if peer:
        yield at_least(ratio(timings[peer], timings["C"]), 2, f"{peer} / C")


def no_slower(case, dtype, timings, programs):
    peer = best_peer(timings, programs)
    if peer:
        yield at_most(ratio(timings["C"], timings[peer]), 1, f"C / {peer}")


def compute(case, dtype, timings, programs):
    yield from limit(case, dtype, timings, 0.92)
    yield from no_slower(case, dtype, timings, programs)


def odd(case, dtype, timings, programs):
    more = {
        "flop": case.shape.work() / case.beside.work(),
        "byte": case.shape.bytes(dtype, case.task) / case.beside.bytes(dtype, case.task),
    }
    unit = max(more, key=more.get)
    text = f"per {unit}, C / C at {case.beside}"
    yield at_most(ratio(timings["C"], timings["neighbour"]) / more[unit], 1.15, text)


def fit(case, dtype, timings, programs):
    text = "fit / its steps"
    if "fetch" in timings:
        text += f" (fetching its rows alone / its steps: {ratio(timings['fetch'], timings['steps']):.2f} x)"
    yield at_most(ratio(timings["C"], timings["steps"]), 1.3, text)


RULES = {"tiny": tiny, "small": small, "memory": memory, "compute": compute, "no slower": no_slower, "odd": odd,
         "fit": fit}  # fmt: skip


def verdicts(case, dtype, threads, timings, programs):
    if "C" not in timings:
        return []
    if threads == 1:
        return list(RULES[case.rule](case, dtype, timings, programs))
    found = [at_most(ratio(timings["C"], timings["one thread"]), TOLERANCE, f"C, {threads} threads / 1")]
    beside_peers = tiny if case.rule == "tiny" else no_slower
    return found + list(beside_peers(case, dtype, timings, programs))
