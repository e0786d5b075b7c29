"""Pente from Python, on NumPy arrays: a trainer's step, the calls that it stands for, inference, and fit."""

from functools import partial

from worker import Refused, main, mean_square

import numpy as np


def start(threads):
    global pente
    import pente

    pente.set_num_threads(threads)
    return f"Pente {pente.__version__}", threads


def network(job):
    layers = []
    for weight, bias in job.parameters():
        if layers:
            layers.append(pente.ReLU(dtype=job.dtype))
        layers.append(pente.Linear(weight.shape[1], weight.shape[0], dtype=job.dtype))
        layers[-1].load_state_dict({"weight": weight, "bias": bias})
    return layers[0] if len(layers) == 1 else pente.Chain(layers)


def make(job):
    x, y = job.data()
    layer = network(job)
    sgd, mse = pente.SGD(layer, lr=job.lr), pente.MSELoss()
    trainer = pente.Trainer(layer, sgd, mse)
    if job.task == "step":
        return partial(trainer.step, x, y), float
    if job.task == "fit":
        return partial(trainer.fit, x, y, batch_size=job.batch), None
    if job.task == "forward":
        return partial(layer.predict, x, np.empty_like(y)), mean_square
    if job.task == "gradx":
        return gradx(layer, sgd, mse, x, y), float
    raise Refused("no such task")


def gradx(layer, sgd, mse, x, y):
    grad_x = np.empty(x.shape, x.dtype)

    def call():
        sgd.zero_grad()
        loss = mse(layer(x), y)
        layer.backward(mse.backward(target_gradient=False), grad_x)
        sgd.step()
        return loss

    return call


main(start, make)
