"""NumPy as an expert writes it: every array there before, every result by out=."""

import numpy as np
from worker import Refused, main, mean_square


def start(threads):
    return f"NumPy {np.__version__}", threads  # its BLAS takes the number of threads from the environment


class Network:
    """Linear layers with relu between; W is n x p."""

    def __init__(self, job):
        self.x, self.y = job.data()
        parameters = list(job.parameters())
        self.weights = [np.ascontiguousarray(weight.T) for weight, _ in parameters]
        self.biases = [bias for _, bias in parameters]
        self.outputs = [np.empty((job.q, p), job.dtype) for p in job.widths[1:]]
        self.gradients = [np.empty_like(output) for output in self.outputs]
        self.active = [np.empty(output.shape, bool) for output in self.outputs[:-1]]
        self.grad_weights = [np.empty_like(weight) for weight in self.weights]
        self.grad_biases = [np.empty_like(bias) for bias in self.biases]
        self.grad_x = np.empty(self.x.shape, job.dtype) if job.task == "gradx" else None
        self.lr = self.y.dtype.type(job.lr)
        self.scale = self.y.dtype.type(2 / self.y.size)

    def forward(self):
        x = self.x
        for i, (weight, bias, y) in enumerate(zip(self.weights, self.biases, self.outputs)):
            np.matmul(x, weight, out=y)
            np.add(y, bias, out=y)
            if i < len(self.active):
                np.maximum(y, 0, out=y)
            x = y
        return x

    def step(self):
        self.forward()
        gradient = self.gradients[-1]
        np.subtract(self.outputs[-1], self.y, out=gradient)
        flat = gradient.reshape(-1)
        loss = np.dot(flat, flat) / flat.size
        np.multiply(gradient, self.scale, out=gradient)
        self.backward()
        return loss

    def backward(self):
        for i in reversed(range(len(self.weights))):
            gradient = self.gradients[i]
            np.matmul((self.outputs[i - 1] if i > 0 else self.x).T, gradient, out=self.grad_weights[i])
            np.sum(gradient, axis=0, out=self.grad_biases[i])
            if i == 0 and self.grad_x is not None:
                np.matmul(gradient, self.weights[0].T, out=self.grad_x)
            if i > 0:
                np.matmul(gradient, self.weights[i].T, out=self.gradients[i - 1])
                np.greater(self.outputs[i - 1], 0, out=self.active[i - 1])
                np.multiply(self.gradients[i - 1], self.active[i - 1], out=self.gradients[i - 1])
        for value, gradient in zip(self.weights + self.biases, self.grad_weights + self.grad_biases):
            np.multiply(gradient, self.lr, out=gradient)
            np.subtract(value, gradient, out=value)


def make(job):
    network = Network(job)
    if job.task in ("step", "gradx"):
        return network.step, float
    if job.task == "forward":
        return network.forward, mean_square
    raise Refused("no such task")


main(start, make)
