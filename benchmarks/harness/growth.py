"""How a step's time grows as q, n or p doubles, from C."""

from .cases import SIZES, Shape
from .measure import Lane, measure, ratio

FIRST = 16
MOST = 2.3  # a doubling may take so many times as long, but for the edges of caches
SERIES = {"q": "{}x64->8", "n": "256x{}->8", "p": "256x64->{}"}


def working_set(shape, dtype):
    """Bytes of X, Y, the parameters and their gradients."""
    return (shape.q * (shape.widths[0] + shape.widths[1]) + 2 * shape.parameters) * SIZES[dtype]


def edge(caches, before, after):
    """The cache that the working set outgrows at this doubling or the next, when half of it is full."""
    return next((name for name, size in caches.items() if before <= size < 2 * after), None)


def series(dimension, dtype, most_bytes):
    size = FIRST
    while working_set(shape := Shape.of(SERIES[dimension].format(size)), dtype) <= most_bytes:
        yield size, shape
        size *= 2


def run(pool, program, caches, dimension, options):
    """A series' points, each timed side by side with the one of half its size."""
    points, before, dtype = [], None, options.dtype[0]
    most_bytes = 1 << (24 if options.quick else 30)
    for size, shape in series(dimension, dtype, most_bytes):
        lanes = [Lane(name, program, 1, "step", dtype, of, lr=1 / max(100, of.widths[0]), worker=name)
                 for name, of in (("half", before), ("whole", shape)) if of]  # fmt: skip
        timings, _ = measure(pool, lanes, options.rounds, options.seconds, options.limit)
        point = {"size": size, "case": str(shape), "bytes": working_set(shape, dtype)}
        point["microseconds"] = timings["whole"].median
        if before:
            point["ratio"] = ratio(timings["whole"], timings["half"])
            point["edge"] = edge(caches, working_set(before, dtype), working_set(shape, dtype))
        points.append(point)
        before = shape
    return {"dimension": dimension, "dtype": dtype, "case": SERIES[dimension].format(dimension), "points": points}


def verdict(point):
    """Whether the doubling is within bounds; None for the first point."""
    if "ratio" not in point:
        return None
    return point["ratio"] <= MOST or point["edge"] is not None


def lines(result):
    """A line a point."""
    for point in result["points"]:
        line = f"{point['case']:24}{point['microseconds']:14.3f} us"
        if "ratio" in point:
            note = f"  edge of {point['edge']}" if point["edge"] else ""
            word = "ok" if verdict(point) else "MISSED"
            line += f"   {point['ratio']:.2f} x (at most {MOST} x){note}   {word}"
        yield line
