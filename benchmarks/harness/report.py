"""The table as it is printed, and the results as they are kept."""

from . import footprint, growth
from .machine import shares
from .measure import ratio
from .targets import best_peer, verdicts

REFERENCES = {
    "one thread": "C on one thread", "neighbour": "C on the neighbour", "steps": "C, the steps alone",
    "fetch": "a loop that only fetches the rows, shuffled",
}  # fmt: skip


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

    def __init__(self, names):
        self.names = names

    def header(self):
        columns = "".join(f"{name:>10}" for name in self.names)
        return f"{'microseconds a call':38}{columns}{'C +-':>7}{'C / peer':>10}{'of the limit':>16}"

    def lines(self, result):
        times = result["microseconds"]
        cells = "".join(self.cell(result, name) for name in self.names)
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        label = f"{result['case']} {result['dtype']} {threads}"
        to_peer = f"{result['to_best_peer']:.2f}" if result["to_best_peer"] else "-"
        limit = max(((share, name) for name, share in result["shares"].items()), default=None)
        share = f"{limit[0]:.0%} {limit[1]}" if limit else "-"
        yield f"{label:38}{cells}{self.spread(result):>7}{to_peer:>10}{share:>16}"
        for name, words in REFERENCES.items():
            if name in times:
                yield f"    {words}: {number(times[name])}"
        for target in result["targets"]:
            yield f"    {'ok' if target['met'] else 'MISSED':8}{target['text']}"
        for note in result["notes"]:
            yield f"    {note}"

    def spread(self, result):
        """Half of what lies between the quartiles of C's rounds."""
        if "C" not in result["quartiles"]:
            return "-"
        first, third = result["quartiles"]["C"]
        return f"{(third - first) / 2 / result['microseconds']['C']:.0%}"

    def cell(self, result, name):
        """The median; with a star where the contender has one thread and the case asks for more."""
        if name not in result["microseconds"]:
            return f"{'-':>10}"
        star = "*" if name in result["one_thread"] else ""
        return f"{number(result['microseconds'][name]) + star:>10}"


def show(everything):
    """Prints results that were kept."""
    table = Table([name for name in everything["versions"] if name != "limits"])
    group = None
    for result in everything["cases"]:
        if result["group"] != group:
            group = result["group"]
            print(f"\n{group}\n{table.header()}")
        print("\n".join(table.lines(result)))
    for series in everything["growth"]:
        print(f"\ngrowth with {series['dimension']}\n" + "\n".join(growth.lines(series)))
    print("\nfootprint\n" + "\n".join(footprint.lines(everything["footprint"])))


def summary(everything):
    """How many targets are met, group by group."""
    verdicts = [(result["group"], target["met"]) for result in everything["cases"] for target in result["targets"]]
    verdicts += [("growth", growth.verdict(point)) for series in everything["growth"] for point in series["points"]
                 if growth.verdict(point) is not None]  # fmt: skip
    verdicts += [("footprint", item["met"]) for item in everything["footprint"] if item["most"] is not None]
    groups = dict.fromkeys(group for group, _ in verdicts)
    for group in groups:
        met = [is_met for of, is_met in verdicts if of == group]
        yield f"{group:12} {sum(met)} of {len(met)} targets met"
