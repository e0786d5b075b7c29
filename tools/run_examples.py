"""Trains on both data sets in C, Swift and Python, and compares: the same numbers, bit for bit, or exit status 1.

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
DATA_SETS = {"diabetes": 1, "linnerud": 3}  # and how many of their columns are targets


def arguments():
    parser = argparse.ArgumentParser(description="Compare the training examples of all languages.")
    parser.add_argument("--c", type=Path, default=ROOT / "build/bin/train-c")
    parser.add_argument("--swift", type=Path, default=ROOT / "build/bin/train-swift")
    parser.add_argument("--python", type=Path, default=ROOT / "bindings/python/examples/train.py")
    parser.add_argument("--output", type=Path, default=ROOT / "build/run")
    return parser.parse_args()


def train(command, name, language, output):
    """Runs one program, its progress on the screen, and returns the path of its result."""
    result = output / f"{name}-{language.lower()}.txt"
    result.unlink(missing_ok=True)
    print(f"\n{name} in {language}", flush=True)
    try:
        subprocess.run([*map(str, command), ROOT / f"data/{name}.csv", str(DATA_SETS[name]), result], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"run_examples: {language} on {name}: {error}")
    return result


def values(result):
    """The file's numbers by their names: {"loss 1": 1.2, ..., "weight 0 3": 0.1, ...}."""
    pairs = (line.rsplit(" ", 1) for line in result.read_text().splitlines())
    return {key: float(number) for key, number in pairs}


def losses(numbers):
    return [number for key, number in numbers.items() if key.startswith("loss")]


def r_squared(name, numbers):
    """How much of the standardised targets' variance the parameters explain."""
    columns = np.loadtxt(ROOT / f"data/{name}.csv", delimiter=",", skiprows=1)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    p = DATA_SETS[name]
    x, y = columns[:, :-p], columns[:, -p:]
    weight = np.array([[numbers[f"weight {k} {j}"] for j in range(x.shape[1])] for k in range(p)])
    bias = np.array([numbers[f"bias {k}"] for k in range(p)])
    return 1 - np.mean((x @ weight.T + bias - y) ** 2)


def compare(name, results):
    """Prints a line a language, and says whether every file is C's, to the letter."""
    reference = values(results["C"])
    same = True
    for language, result in results.items():
        numbers = values(result)
        if numbers.keys() != reference.keys():
            difference = "other entries"
        else:
            difference = f"{max(abs(number - reference[key]) for key, number in numbers.items()):g}"
        identical = result.read_bytes() == results["C"].read_bytes()
        same &= identical
        print(f"{name:10} {language:8} {losses(numbers)[-1]:<20.17g} {r_squared(name, numbers):.6f}  "
              f"{difference}{' (bit for bit)' if identical else '  DIFFERS'}")
    return same


def sparkline(curve, width=50):
    """The curve in `width` characters, from its lowest to its highest number; its epochs on a logarithmic scale."""
    picked = [curve[round(len(curve) ** (i / (width - 1))) - 1] for i in range(width)]
    low, high = min(picked), max(picked)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (number - low) / (high - low or 1))] for number in picked)


def plot(curves, output):
    """One panel a data set; the languages' lines lie on each other, so each is thinner than the last."""
    matplotlib.rcParams["svg.hashsalt"] = "pente"
    figure, panels = plt.subplots(1, len(curves), figsize=(10, 4), layout="constrained")
    for panel, (name, by_language) in zip(panels, curves.items()):
        for width, (language, curve) in zip((6, 3, 1), by_language.items()):
            panel.plot(range(1, len(curve) + 1), curve, linewidth=width, label=language)
        panel.set(title=name, xlabel="epoch", ylabel="training loss (MSE)", xscale="log")
        panel.legend()
    figure.savefig(output / "loss.png", dpi=120)
    figure.savefig(output / "loss.svg", metadata={"Date": None})


def main():
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    commands = {"C": [options.c.resolve()], "Swift": [options.swift.resolve()],
                "Python": [sys.executable, options.python.resolve()]}
    results = {name: {language: train(command, name, language, options.output)
                      for language, command in commands.items()} for name in DATA_SETS}

    print(f"\n{'data set':10} {'language':8} {'final loss':20} {'R²':8}  largest difference from C")
    same = all([compare(name, by_language) for name, by_language in results.items()])

    curves = {name: {language: losses(values(result)) for language, result in by_language.items()}
              for name, by_language in results.items()}
    plot(curves, options.output)
    print()
    for name, by_language in curves.items():
        curve = by_language["C"]
        print(f"{name:10} {curve[0]:.4f} {sparkline(curve)} {curve[-1]:.4f}")
    print(f"\nloss curves: {options.output / 'loss.png'}, {options.output / 'loss.svg'}")
    if not same:
        sys.exit("run_examples: the languages differ")


if __name__ == "__main__":
    main()
