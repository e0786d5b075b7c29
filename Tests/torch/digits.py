"""Writes Tests/data/digits.json: how PyTorch trains a small network on data/digits.csv, for Pente to be compared with.

    python Tests/torch/digits.py        # needs torch

The file has one object, {"float32": run, "float64": run}. A run is
    steps      the loss of each of the first 100 steps, before its update
    epochs     the training loss of each epoch: the average of its steps' over rows
    validation the loss on the test set after each epoch
    accuracy   on the test set, at the end
as they were rounded on the machine that made them. train() is what the tests compare with live.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "Tests/data/digits.json"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
STEPS = 100

# The examples' choices: bindings/c/digits.c and its siblings.
WIDTHS = (64, 64, 32, 10)
LR, MOMENTUM = 0.2, 0.9
EPOCHS, BATCH_SIZE = 30, 32


def data(dtype):
    """x and labels of the training rows, and of the test rows: every fifth."""
    lines = (ROOT / "data/digits.csv").read_text().splitlines()[1:]
    table = torch.tensor([[int(cell) for cell in line.split(",")] for line in lines])
    x, labels = table[:, :-1].to(dtype) / 16, table[:, -1]
    is_test = torch.arange(len(table)) % 5 == 4
    return (x[~is_test], labels[~is_test]), (x[is_test], labels[is_test])


def network(dtype):
    """Linear layers of WIDTHS with relu between them, as built after manual_seed(0)."""
    torch.manual_seed(0)
    linears = [torch.nn.Linear(n, p, dtype=dtype) for n, p in zip(WIDTHS, WIDTHS[1:])]
    return torch.nn.Sequential(*[layer for linear in linears for layer in (linear, torch.nn.ReLU())][:-1])


def train(dtype, epochs=EPOCHS):
    torch.set_num_threads(1)  # on matrices as small as these they would wait for each other
    dtype = DTYPES[dtype]
    (x, labels), (test_x, test_labels) = data(dtype)
    y, test_y = (F.one_hot(some, WIDTHS[-1]).to(dtype) for some in (labels, test_labels))
    net = network(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    steps, epoch_losses, validation = [], [], []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = F.mse_loss(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
            total += loss.item() * len(rows)
        epoch_losses.append(total / len(x))
        with torch.no_grad():
            prediction = net(test_x)
            validation.append(F.mse_loss(prediction, test_y).item())
    accuracy = (prediction.argmax(1) == test_labels).double().mean().item()
    return {"steps": steps[:STEPS], "epochs": epoch_losses, "validation": validation, "accuracy": accuracy}


if __name__ == "__main__":
    runs = {dtype: train(dtype) for dtype in DTYPES}
    OUTPUT.write_text(json.dumps(runs, indent=1) + "\n")
    for dtype, run in runs.items():
        print(f"{dtype}: loss {run['epochs'][0]:.4f} to {run['epochs'][-1]:.4f}, accuracy {run['accuracy']:.4f}")
    print(f"{OUTPUT}, torch {torch.__version__}")
