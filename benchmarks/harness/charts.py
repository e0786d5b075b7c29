"""Charts of the results, as SVG."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

# Pente's in one colour and three shapes, its peers in others.
STYLES = {
    "C": ("#b2182b", "D"), "Python": ("#b2182b", "o"), "Swift": ("#b2182b", "^"), "OpenBLAS": ("#2166ac", "s"),
    "BLIS": ("#67a9cf", "s"), "NumPy": ("#1b7837", "o"), "PyTorch": ("#e08214", "o"), "fused": ("#fdb863", "o"),
    "JAX": ("#762a83", "o"), "sklearn": ("#999999", "v"),
}  # fmt: skip


def draw(everything, folder):
    """A chart of each group, and one of growth; returns their paths."""
    matplotlib.rcParams |= {"svg.hashsalt": "pente", "svg.fonttype": "none", "font.size": 9}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for group in dict.fromkeys(result["group"] for result in everything["cases"]):
        results = [result for result in everything["cases"] if result["group"] == group]
        paths.append(save(group_chart(results), folder / f"{group}.svg"))
    if everything.get("growth"):
        paths.append(save(growth_chart(everything["growth"], everything["machine"]["caches"]), folder / "growth.svg"))
    return paths


def save(figure, path):
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def group_chart(results):
    """A panel for each dtype and number of threads: every contender's time over that of Pente from C."""
    kinds = list(dict.fromkeys((result["dtype"], result["threads"]) for result in results))
    height = 1.2 + 0.28 * max(sum(kind == (r["dtype"], r["threads"]) for r in results) for kind in kinds)
    rows = (len(kinds) + 1) // 2
    columns = min(2, len(kinds))
    figure, panels = plt.subplots(rows, columns, figsize=(5 * columns, height * rows + 0.5), layout="constrained",
                                  squeeze=False, sharex=True)  # fmt: skip
    for panel, kind in zip(panels.flat, kinds):
        ratio_panel(panel, [result for result in results if (result["dtype"], result["threads"]) == kind])
        panel.set_title(f"{kind[0]}, {kind[1]} thread{'s' if kind[1] > 1 else ''}", loc="left")
    for panel in panels.flat[len(kinds) :]:
        panel.set_axis_off()
    handles = {label: handle for panel in panels.flat for handle, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False)
    for panel in panels[-1]:
        panel.set_xlabel("time of a call over that of Pente from C")
    return figure


def ratio_panel(panel, results):
    results = [result for result in reversed(results) if "C" in result["microseconds"]]
    for name, (colour, marker) in STYLES.items():
        found = [(result["microseconds"][name] / result["microseconds"]["C"], y)
                 for y, result in enumerate(results) if name in result["microseconds"]]  # fmt: skip
        if found:
            panel.scatter(*zip(*found), c=colour, marker=marker, s=22, label=name, zorder=3)
    limits = [(max(result["shares"].values()), y) for y, result in enumerate(results) if result["shares"]]
    if limits:
        panel.scatter(*zip(*limits), c="black", marker="|", s=90, label="the machine's limit", zorder=2)
    panel.set_yticks(range(len(results)), [result["case"] for result in results])
    panel.set_ylim(-0.6, len(results) - 0.4)
    panel.axvline(1, color="#b2182b", linewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right", "left"]].set_visible(False)


def growth_chart(growth, caches):
    """A panel a dimension; dashed lines where the working set is as large as a cache."""
    figure, panels = plt.subplots(1, len(growth), figsize=(4 * len(growth), 3.2), layout="constrained", squeeze=False)
    for panel, series in zip(panels.flat, growth):
        points = series["points"]
        panel.plot([p["size"] for p in points], [p["microseconds"] for p in points], color="#b2182b", marker="o",
                   markersize=3, linewidth=1)  # fmt: skip
        for name, size in caches.items():
            at = crossing(points, size)
            if at:
                panel.axvline(at, color="#777777", linewidth=0.8, linestyle="--")
                panel.text(at, 0.97, f" {name}", color="#777777", va="top", transform=panel.get_xaxis_transform())
        panel.set(yscale="log", xlabel=series["dimension"], title=f"{series['case']}, {series['dtype']}")
        panel.set_xscale("log", base=2)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].set_ylabel("microseconds a step")
    return figure


def crossing(points, size):
    """Where between two points the working set is of that size."""
    for before, after in zip(points, points[1:]):
        if before["bytes"] < size <= after["bytes"]:
            part = (size - before["bytes"]) / (after["bytes"] - before["bytes"])
            return before["size"] + part * (after["size"] - before["size"])
    return None
