"""PyTorch, eager, on tensors that share NumPy's memory; with_torch.py THREADS fused: SGD's fused update."""

import sys

from worker import Refused, main, mean_square

FUSED = sys.argv[2:] == ["fused"]


def start(threads):
    global torch
    import torch

    torch.set_num_threads(threads)
    return f"PyTorch {torch.__version__}{', fused SGD' if FUSED else ''}", torch.get_num_threads()


def network(job):
    layers = []
    for weight, bias in job.parameters():
        if layers:
            layers.append(torch.nn.ReLU())
        layers.append(torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta"))
        layers[-1].weight = torch.nn.Parameter(torch.from_numpy(weight))
        layers[-1].bias = torch.nn.Parameter(torch.from_numpy(bias))
    return layers[0] if len(layers) == 1 else torch.nn.Sequential(*layers)


def make(job):
    x, y = (torch.from_numpy(array) for array in job.data())
    layer, mse = network(job), torch.nn.MSELoss()
    if job.task == "forward":
        if FUSED:
            raise Refused("the same without an update")
        return inference(layer, x)
    if job.task not in ("step", "gradx"):
        raise Refused("no such task")
    sgd = torch.optim.SGD(layer.parameters(), lr=job.lr, fused=FUSED)
    x.requires_grad = job.task == "gradx"

    def step():
        x.grad = None
        sgd.zero_grad()
        loss = mse(layer(x), y)
        loss.backward()
        sgd.step()
        return loss.detach()

    return step, float


def inference(layer, x):
    def forward():
        with torch.inference_mode():
            return layer(x)

    return forward, mean_square


main(start, make)
