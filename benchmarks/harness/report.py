"""The table as it is printed, and the results as they are kept."""

from .machine import shares
from .measure import ratio
from .targets import best_peer, verdicts

REFERENCES = {"one thread": "C on one thread", "neighbour": "C on the neighbour", "steps": "C, the steps alone"}


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def result(case, dtype, threads, timings, notes, programs):
    """All that is known of a case, in JSON's types."""
    peer = best_peer(timings, programs)
    return {
        "group": case.group,
        "case": case.label,
        "dtype": dtype,
        "threads": threads,
        "microseconds": {name: timing.median for name, timing in timings.items() if name in kept(programs)},
        "quartiles": {name: timing.quartiles for name, timing in timings.items() if name in kept(programs)},
        "rounds": {name: timing.rounds for name, timing in timings.items()},
        "one_thread": [name for name, timing in timings.items() if timing.threads < threads and name != "one thread"],
        "limits": {name: timings[name].check / timings[name].median for name in ("peak", "bandwidth")
                   if name in timings},
        "shares": shares(case, dtype, timings),
        "best_peer": peer,
        "to_best_peer": ratio(timings["C"], timings[peer]) if peer and "C" in timings else None,
        "targets": [vars(verdict) for verdict in verdicts(case, dtype, threads, timings, programs)],
        "notes": notes,
    }  # fmt: skip


def kept(programs):
    return [program.name for program in programs] + list(REFERENCES)


class Table:
    """A line a result, and its targets below."""

    def __init__(self, programs):
        self.names = [program.name for program in programs]

    def header(self):
        columns = "".join(f"{name:>10}" for name in self.names)
        return f"{'microseconds a call':38}{columns}{'C / peer':>11}{'of the limit':>16}"

    def lines(self, result):
        times = result["microseconds"]
        cells = "".join(self.cell(result, name) for name in self.names)
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        label = f"{result['case']} {result['dtype']} {threads}"
        to_peer = f"{result['to_best_peer']:.2f}" if result["to_best_peer"] else "-"
        limit = max(((share, name) for name, share in result["shares"].items()), default=None)
        share = f"{limit[0]:.0%} {limit[1]}" if limit else "-"
        yield f"{label:38}{cells}{to_peer:>11}{share:>16}"
        for name, words in REFERENCES.items():
            if name in times:
                yield f"    {words}: {number(times[name])}"
        for target in result["targets"]:
            yield f"    {'ok' if target['met'] else 'MISSED':8}{target['text']}"
        for note in result["notes"]:
            yield f"    {note}"

    def cell(self, result, name):
        """The median; with a star where the contender has one thread and the case asks for more."""
        if name not in result["microseconds"]:
            return f"{'-':>10}"
        star = "*" if name in result["one_thread"] else ""
        return f"{number(result['microseconds'][name]) + star:>10}"


def summary(results, extra=()):
    """How many targets are met, group by group; `extra` are verdicts of (group, text, met)."""
    counts = {}
    verdicts = [(result["group"], target["met"]) for result in results for target in result["targets"]]
    for group, met in verdicts + [(group, met) for group, _, met in extra]:
        hits, total = counts.get(group, (0, 0))
        counts[group] = (hits + met, total + 1)
    return [f"{group:12} {hits} of {total} targets met" for group, (hits, total) in counts.items()]
