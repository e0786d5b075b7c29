"""JAX: the whole step compiled by jax.jit, its parameters donated.

XLA makes as many threads as the process may use processors, and no option says less. So the process starts on as many
as it is to have threads; its first computation makes the threads, and then all may run where they like.
"""

import os

from worker import Refused, main, mean_square


def start(threads):
    global jax, jnp
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(everywhere)[:threads])
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # faster where each step is waited for
    jax.jit(lambda x: x @ x)(jnp.ones((256, 256))).block_until_ready()
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), everywhere)
    return f"JAX {jax.__version__}", min(threads, len(everywhere))


def predict(parameters, x):
    *hidden, (weight, bias) = parameters
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ weight + bias


def mse(parameters, x, y):
    return jnp.mean(jnp.square(predict(parameters, x) - y))


def make(job):
    x, y = (jnp.asarray(array) for array in job.data())
    parameters = [(jnp.asarray(weight.T.copy()), jnp.asarray(bias)) for weight, bias in job.parameters()]
    if job.task == "forward":
        return inference(parameters, x)
    if job.task not in ("step", "gradx"):
        raise Refused("no such task")

    def update(parameters, x, y):
        with_x = job.task == "gradx"
        loss, gradients = jax.value_and_grad(mse, argnums=(0, 1) if with_x else 0)(parameters, x, y)
        grad_parameters, grad_x = gradients if with_x else (gradients, None)
        new = jax.tree.map(lambda value, gradient: value - job.lr * gradient, parameters, grad_parameters)
        return new, loss, grad_x

    compiled = jax.jit(update, donate_argnums=0)

    def step():
        nonlocal parameters
        parameters, loss, _ = jax.block_until_ready(compiled(parameters, x, y))
        return loss

    return step, float


def inference(parameters, x):
    compiled = jax.jit(predict)
    def forward():
        return compiled(parameters, x).block_until_ready()

    return forward, mean_square


main(start, make)
