"""NumPy as an expert writes it: every array and view there before, every result by out=, sums as products with ones."""

import numpy as np
from worker import Refused, main, mean_square


def start(threads):
    return f"NumPy {np.__version__}", threads  # its BLAS takes the number of threads from the environment


class Layer:
    """A linear layer, with relu after it unless it is the last; W is n x p."""

    def __init__(self, x, weight, bias, is_last):
        q, (p, n) = len(x), weight.shape
        self.weight, self.bias = np.ascontiguousarray(weight.T), bias
        self.grad_weight, self.grad_bias = np.empty_like(self.weight), np.empty_like(bias)
        self.y, self.gradient = np.empty((q, p), x.dtype), np.empty((q, p), x.dtype)
        self.active = None if is_last else np.empty((q, p), bool)
        self.x, self.x_transposed, self.weight_transposed = x, x.T, self.weight.T
        self.ones = np.ones(q, x.dtype)
        self.multiply = np.dot if x.flags.forc else np.matmul  # dot costs less, but would copy a block of columns

    def forward(self):
        self.multiply(self.x, self.weight, out=self.y)
        np.add(self.y, self.bias, out=self.y)
        if self.active is not None:
            np.maximum(self.y, 0, out=self.y)

    def backward(self, grad_x):
        """From `gradient`, dL/dy; writes dL/dx, or nothing for None."""
        if self.active is not None:
            np.greater(self.y, 0, out=self.active)
            np.multiply(self.gradient, self.active, out=self.gradient)
        self.multiply(self.x_transposed, self.gradient, out=self.grad_weight)
        np.dot(self.ones, self.gradient, out=self.grad_bias)
        if grad_x is not None:
            np.dot(self.gradient, self.weight_transposed, out=grad_x)

    def update(self, lr):
        for value, gradient in ((self.weight, self.grad_weight), (self.bias, self.grad_bias)):
            np.multiply(gradient, lr, out=gradient)
            np.subtract(value, gradient, out=value)


class Network:
    def __init__(self, job):
        x, self.y = job.data()
        self.grad_x = np.empty(x.shape, x.dtype) if job.task == "gradx" else None
        self.layers = []
        for i, (weight, bias) in enumerate(job.parameters()):
            self.layers.append(Layer(x, weight, bias, i + 2 == len(job.widths)))
            x = self.layers[-1].y
        self.lr, self.scale = x.dtype.type(job.lr), x.dtype.type(2 / x.size)

    def forward(self):
        for layer in self.layers:
            layer.forward()
        return self.layers[-1].y

    def step(self):
        gradient = self.layers[-1].gradient
        np.subtract(self.forward(), self.y, out=gradient)
        flat = gradient.reshape(-1)
        loss = np.dot(flat, flat) / flat.size
        np.multiply(gradient, self.scale, out=gradient)
        for i in reversed(range(len(self.layers))):
            self.layers[i].backward(self.layers[i - 1].gradient if i > 0 else self.grad_x)
        for layer in self.layers:
            layer.update(self.lr)
        return loss


def make(job):
    network = Network(job)
    if job.task in ("step", "gradx"):
        return network.step, float
    if job.task == "forward":
        return network.forward, mean_square
    raise Refused("no such task")


main(start, make)
