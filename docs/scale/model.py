"""What a step of 10^6 x 512 -> 4 takes with 1 to 4096 ranks: model.py MEASURED.json PLOT.svg

MEASURED.json has what build/bench/mpi printed with two ranks, that share memory and that are on two hosts. From it: the
time of a row's gradients, and of an allreduce of n bytes among P ranks, 2 log2(P) latency + 2 (P - 1)/P n / bandwidth
(Rabenseifner's algorithm, which Open MPI and MPICH take for large n).
"""

import json
import math
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

NUMBERS = 512 * 4 + 4 + 3 + 1
RANKS = [2**i for i in range(13)]


def network(measured):
    """Latency in seconds, and bandwidth in bytes a second: what the smallest and the largest took."""
    (_, least), (size, most) = measured["allreduce"][0], measured["allreduce"][-2]
    return least / 2, size / (most - least)


def main(path, plot):
    with open(path) as file:
        measured = json.load(file)
    per_row = measured["shared_memory"]["gradients_s"] / (measured["shared_memory"]["rows"] / 2)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    print("| ranks | " + " | ".join(f"{kind}: step, efficiency" for kind in ("shared memory", "TCP")) + " |")
    print("|---|---|---|")
    rows = {ranks: [] for ranks in RANKS}
    for kind, name in (("shared_memory", "shared memory"), ("tcp", "TCP between two hosts' namespaces")):
        latency, bandwidth = network(measured[kind])
        for batch, style in ((1_000_000, "-"), (16_000_000, "--")):
            times = []
            for ranks in RANKS:
                hops = math.ceil(math.log2(ranks)) if ranks > 1 else 0
                exchange = 2 * hops * latency + 2 * (ranks - 1) / ranks * 8 * NUMBERS / bandwidth
                times.append(batch * per_row / ranks + exchange)
            label = f"{name}, {batch // 1_000_000}·10⁶ rows a step"
            axes.loglog(RANKS, [batch * per_row / time for time in times], style, label=label)
            if batch == 1_000_000:
                for ranks, time in zip(RANKS, times, strict=True):
                    rows[ranks].append(f"{time * 1e3:.3g} ms, {batch * per_row / ranks / time:.0%}")
    for ranks, cells in rows.items():
        print(f"| {ranks} | " + " | ".join(cells) + " |")
    axes.loglog(RANKS, RANKS, color="gray", linewidth=0.8, label="as many times as ranks")
    axes.set(xlabel="ranks", ylabel="times one rank's speed", title="A step of float32 rows of 512 to 4, modelled")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(plot, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
