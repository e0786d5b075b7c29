"""Trains on all data sets in C, Swift and Python, and compares: the same numbers, bit for bit, or exit status 1.

    python tools/run_examples.py        # needs matplotlib, and pente for the Python example

Result files and the loss curves (loss.png, loss.svg) go to build/run.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Each run's program and its arguments after the data set: a linear model has so many targets.
RUNS = {"diabetes": ("train", "1"), "linnerud": ("train", "3"),
        "digits-float32": ("digits", "float32"), "digits-float64": ("digits", "float64")}


def arguments():
    parser = argparse.ArgumentParser(description="Compare the training examples of all languages.")
    parser.add_argument("--programs", type=Path, default=ROOT / "build/bin", help="where train-c and the others are")
    parser.add_argument("--output", type=Path, default=ROOT / "build/run")
    return parser.parse_args()


def command(program, language, programs):
    if language == "Python":
        return [sys.executable, ROOT / f"bindings/python/examples/{program}.py"]
    return [programs.resolve() / f"{program}-{language.lower()}"]


def data_path(name):
    return ROOT / f"data/{name.partition('-')[0]}.csv"


def train(name, language, options):
    """Runs one program, its progress on the screen, and returns the paths of its results: numbers, and a chain."""
    program, argument = RUNS[name]
    stem = options.output / f"{name}-{language.lower()}"
    results = [stem.with_suffix(".txt"), stem.with_suffix(".safetensors")][:2 if program == "digits" else 1]
    for result in results:
        result.unlink(missing_ok=True)
    print(f"\n{name} in {language}", flush=True)
    try:
        subprocess.run([*command(program, language, options.programs), data_path(name), argument, *results], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"run_examples: {language} on {name}: {error}")
    return results


def values(results):
    """The text's numbers by their names: {"loss 1": 1.2, ..., "weight 0 3": 0.1, ...}."""
    pairs = (line.rsplit(" ", 1) for line in results[0].read_text().splitlines())
    return {key: float(number) for key, number in pairs}


def losses(numbers):
    return [number for key, number in numbers.items() if key.startswith("loss")]


def r_squared(name, numbers):
    """How much of the standardised targets' variance the parameters explain."""
    columns = np.loadtxt(data_path(name), delimiter=",", skiprows=1)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    p = int(RUNS[name][1])
    x, y = columns[:, :-p], columns[:, -p:]
    weight = np.array([[numbers[f"weight {k} {j}"] for j in range(x.shape[1])] for k in range(p)])
    bias = np.array([numbers[f"bias 0 {k}"] for k in range(p)])
    return 1 - np.mean((x @ weight.T + bias - y) ** 2)


def score(name, numbers):
    if "accuracy 1" in numbers:
        return f"accuracy {numbers['accuracy 1']:.4f}"
    return f"R² {r_squared(name, numbers):.6f}"


def compare(name, by_language):
    """Prints a line a language, and says whether every file is C's, to the letter."""
    reference = values(by_language["C"])
    same = True
    for language, results in by_language.items():
        numbers = values(results)
        if numbers.keys() != reference.keys():
            difference = "other entries"
        else:
            difference = f"{max(abs(number - reference[key]) for key, number in numbers.items()):g}"
        identical = all(a.read_bytes() == b.read_bytes() for a, b in zip(results, by_language["C"]))
        same &= identical
        print(f"{name:14} {language:8} {losses(numbers)[-1]:<20.17g} {score(name, numbers):15}  "
              f"{difference}{' (bit for bit)' if identical else '  DIFFERS'}")
    return same


def sparkline(curve, width=50):
    """The curve in `width` characters, from its lowest to its highest number; its epochs on a logarithmic scale."""
    picked = [curve[round(len(curve) ** (i / (width - 1))) - 1] for i in range(width)]
    low, high = min(picked), max(picked)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (number - low) / (high - low or 1))] for number in picked)


def plot(curves, output):
    """One panel a run; the languages' lines lie on each other, so each is thinner than the last."""
    matplotlib.rcParams["svg.hashsalt"] = "pente"
    figure, panels = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for panel, (name, by_language) in zip(panels.flat, curves.items(), strict=True):
        for width, (language, curve) in zip((6, 3, 1), by_language.items()):
            panel.plot(range(1, len(curve) + 1), curve, linewidth=width, label=language)
        panel.set(title=name, xlabel="epoch", ylabel="training loss (MSE)", xscale="log")
        panel.legend()
    figure.savefig(output / "loss.png", dpi=120)
    figure.savefig(output / "loss.svg", metadata={"Date": None})


def main():
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    results = {name: {language: train(name, language, options) for language in ("C", "Swift", "Python")}
               for name in RUNS}

    print(f"\n{'data set':14} {'language':8} {'final loss':20} {'score':15}  largest difference from C")
    same = all([compare(name, by_language) for name, by_language in results.items()])

    curves = {name: {language: losses(values(paths)) for language, paths in by_language.items()}
              for name, by_language in results.items()}
    plot(curves, options.output)
    print()
    for name, by_language in curves.items():
        curve = by_language["C"]
        print(f"{name:14} {curve[0]:.4f} {sparkline(curve)} {curve[-1]:.4f}")
    print(f"\nloss curves: {options.output / 'loss.png'}, {options.output / 'loss.svg'}")
    if not same:
        sys.exit("run_examples: the languages differ")


if __name__ == "__main__":
    main()
