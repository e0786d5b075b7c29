"""Writes Tests/data/torch.safetensors: what PyTorch answers, for tests in any language to compare with.

    python Tests/torch/generate.py        # needs torch, numpy and safetensors, on a processor with FMA

The file's metadata holds one string, "cases": a JSON list of objects. Each has a "kind", a "name" and its options; its
tensors are called name + "/" + role. Seeds are decimal strings, since a double does not hold 64 bits.

kind        options                       roles, with their shapes
init        n p bias dtype seed           weight (p, n), bias (p)
linear      q n p bias dtype              x (q, n), weight (p, n), bias (p), output (q, p), grad_output (q, p),
                                          grad_x, grad_weight, grad_bias
mse         q p reduction weighted dtype  prediction, target (q, p), sample_weight (q, 1), grad_output and loss (1, 1)
                                          (both (q, p) for none), grad_prediction, grad_target
sgd         steps dtype groups layers     for each layer i: i/weight (p, n), i/bias (p), the given gradients
                                          i/weight_gradients (steps, p, n), i/bias_gradients (steps, p), and the
                                          parameters after each step i/weights, i/biases, shaped likewise
randperm    n seed count                  0, 1, ... count - 1 (n): successive permutations of one generator
training    q n p bias dtype seed steps   x (q, n), y (q, p), losses (steps), and the parameters after each step
            momentum ... (as in a group)  weights (steps, p, n), biases (steps, p); the layer starts as init's does
activation  q n dtype function            x, output, grad_output, grad_x (q, n)
            negative_slope (of leaky_relu)
chain       q n p dtype seed steps        x (q, n), y, grad_output, output (q, p), grad_x; of each parameter, by its
            architecture momentum ...     name in torch.nn.Sequential, initial/0.weight, grad/0.weight (for grad_output)
                                          and, after steps on x and y from the initial ones, final/0.weight; losses
                                          (steps)
clipping    dtype layers max_norm         for each layer i: the given gradients i/weight_gradient (p, n) and
                                          i/bias_gradient (p), and as clip_grad_norm_ leaves them i/weight_clipped and
                                          i/bias_clipped; norm (1, 1)

A group's "lr" is a list, one number a step. An architecture is a list of layers: {"type": "linear", "n", "p", "bias"},
{"type": "chain", "layers": a list like this one}, or {"type": a function, ...} with an activation's options. init, sgd,
randperm and a chain's initial parameters are to be met bit for bit; the others are rounded as MKL happened to on the
machine that made them.

PyTorch's softplus is x itself above a threshold, of 20 unless told otherwise, where float64 still tells log(1 + e^x)
from x. Here the threshold is 80: neither type does, and float32's e^80 is finite.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OUTPUT = Path(__file__).parents[1] / "data" / "torch.safetensors"
DTYPES = {"float32": torch.float32, "float64": torch.float64}

cases: list[dict] = []
tensors: dict[str, torch.Tensor] = {}


def add(kind, label, roles, **options):
    name = f"{kind}/{label}"
    assert all(case["name"] != name for case in cases), name
    cases.append({"kind": kind, "name": name, **options})
    for role, tensor in roles.items():
        if tensor is not None:
            tensors[f"{name}/{role}"] = tensor.detach().clone().contiguous()


def linear_layer(n, p, bias, dtype, seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(n, p, bias, dtype=DTYPES[dtype])


def suffix(bias, dtype):
    return f"{'bias' if bias else 'nobias'}/{dtype}"


def initial_weights():
    seeds = [0, 1, 42, 2**31 - 1, 2**32 - 1, 2**32 + 7, 2**63 + 5, 2**64 - 1]
    shapes = [(1, 1), (2, 3), (3, 7), (5, 1), (10, 1), (13, 11), (47, 16), (100, 9)]
    pairs = list(zip(shapes, seeds)) + [((10, 1), 0), ((10, 1), 1), ((100, 9), 42), ((7, 5), 2**32 + 7), ((7, 5), 7)]
    for dtype in DTYPES:
        for bias in (True, False):
            for (n, p), seed in sorted(set(pairs)):
                layer = linear_layer(n, p, bias, dtype, seed)
                add("init", f"{n}x{p}/seed{seed}/{suffix(bias, dtype)}", {"weight": layer.weight, "bias": layer.bias},
                    n=n, p=p, bias=bias, dtype=dtype, seed=str(seed))


def linear():
    shapes = [(1, 1, 1), (1, 4, 1), (5, 1, 1), (1, 1, 6), (3, 7, 2), (8, 8, 8), (32, 10, 1), (17, 16, 13), (2, 33, 31),
              (67, 29, 5), (31, 64, 8), (13, 5, 37), (48, 32, 16), (300, 9, 3), (1100, 3, 2)]
    for dtype in DTYPES:
        for bias in (True, False):
            # A layer without bias shares every path but one, so a few shapes do.
            for q, n, p in shapes if bias else shapes[3:10]:
                layer = linear_layer(n, p, bias, dtype, q + n + p)
                x = torch.randn(q, n, dtype=DTYPES[dtype], requires_grad=True)
                grad_output = torch.randn(q, p, dtype=DTYPES[dtype])
                output = layer(x)
                output.backward(grad_output)
                add("linear", f"{q}x{n}x{p}/{suffix(bias, dtype)}",
                    {"x": x, "weight": layer.weight, "bias": layer.bias, "output": output, "grad_output": grad_output,
                     "grad_x": x.grad, "grad_weight": layer.weight.grad,
                     "grad_bias": layer.bias.grad if bias else None},
                    q=q, n=n, p=p, bias=bias, dtype=dtype)


def mse_loss(prediction, target, v, reduction):
    """PyTorch's loss, and from its elements the reductions and the weights that it does not have."""
    if v is None and reduction in ("mean", "sum", "none"):
        return F.mse_loss(prediction, target, reduction=reduction)
    squares = F.mse_loss(prediction, target, reduction="none")
    q, p = squares.shape
    v = torch.ones(q, 1, dtype=squares.dtype) if v is None else v
    divisor = {"mean": p * v.sum(), "sum": 1, "none": 1, "batch_mean": v.sum(), "output_mean": p}[reduction]
    elements = v * squares / divisor
    return elements if reduction == "none" else elements.sum()


def mse():
    torch.manual_seed(2)
    for dtype in DTYPES:
        for q, p in [(1, 1), (7, 1), (5, 3), (37, 2), (11, 9)]:
            for weighted in (False, True):
                for reduction in ("mean", "sum", "none", "batch_mean", "output_mean"):
                    prediction = torch.randn(q, p, dtype=DTYPES[dtype], requires_grad=True)
                    target = torch.randn(q, p, dtype=DTYPES[dtype], requires_grad=True)
                    v = torch.rand(q, 1, dtype=DTYPES[dtype]) * 3 if weighted else None
                    if weighted and q > 1:
                        v[q // 2] = 0
                    loss = mse_loss(prediction, target, v, reduction)
                    grad_output = torch.randn_like(loss)
                    loss.backward(grad_output)
                    shape = (q, p) if reduction == "none" else (1, 1)
                    add("mse", f"{q}x{p}/{reduction}/{'weighted' if weighted else 'plain'}/{dtype}",
                        {"prediction": prediction, "target": target, "sample_weight": v, "loss": loss.reshape(shape),
                         "grad_output": grad_output.reshape(shape), "grad_prediction": prediction.grad,
                         "grad_target": target.grad},
                        q=q, p=p, reduction=reduction, weighted=weighted, dtype=dtype)


STEPS = 12
SGD_OPTIONS = {
    "plain": {},
    "lr": {"lr": 0.3},
    "lr_zero": {"lr": 0.0, "momentum": 0.9},
    "lr_one": {"lr": 1.0},
    "lr_change": {"lr": [0.1] * 5 + [0.013] * 7},
    "momentum": {"momentum": 0.9},
    "momentum_one": {"momentum": 1.0},
    "momentum_lr_change": {"momentum": 0.9, "lr": [0.2 / (1 + step) for step in range(STEPS)]},
    "dampening": {"momentum": 0.9, "dampening": 0.3},
    "dampening_one": {"momentum": 0.5, "dampening": 1.0},
    "dampening_negative": {"momentum": 0.5, "dampening": -0.7},
    "dampening_alone": {"dampening": 0.3},
    "weight_decay": {"weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "maximize": {"maximize": True},
    "momentum_weight_decay": {"momentum": 0.37, "weight_decay": 1e-4},
    "momentum_maximize": {"momentum": 0.9, "maximize": True},
    "weight_decay_maximize": {"weight_decay": 0.1, "maximize": True},
    "nesterov_weight_decay": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "nesterov_maximize": {"momentum": 0.7, "nesterov": True, "maximize": True},
    "dampening_weight_decay": {"momentum": 0.8, "dampening": 0.1, "weight_decay": 0.02},
    "dampening_maximize": {"momentum": 0.8, "dampening": 0.9, "maximize": True},
    "dampening_all": {"lr": 0.07, "momentum": 0.8, "dampening": 0.2, "weight_decay": 0.02, "maximize": True},
    "nesterov_all": {"lr": [0.5] * 3 + [0.05] * 9, "momentum": 0.95, "nesterov": True, "weight_decay": 0.02,
                     "maximize": True},
}


def complete(options):
    defaults = {"lr": 0.01, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False,
                "maximize": False}
    options = {**defaults, **options}
    return options if isinstance(options["lr"], list) else {**options, "lr": [options["lr"]] * STEPS}


def optimizer(groups):
    """PyTorch's SGD over [(parameters, options)]; foreach=False is the plain loop that its documentation states."""
    groups = [{"params": parameters, **options, "lr": options["lr"][0]} for parameters, options in groups]
    return torch.optim.SGD(groups, foreach=False)


def sgd_case(label, dtype, groups, layers):
    """Layers are (n, p, bias, group). The gradients are given, so that each update can be compared bit for bit."""
    groups = [complete(options) for options in groups]
    modules = [linear_layer(n, p, bias, dtype, n * p) for n, p, bias, _ in layers]
    roles = {}
    for i, module in enumerate(modules):
        for plural, (role, parameter) in zip(("weights", "biases"), module.named_parameters()):
            roles[f"{i}/{role}"] = parameter.detach().clone()
            roles[f"{i}/{role}_gradients"] = torch.randn(STEPS, *parameter.shape, dtype=DTYPES[dtype])
            roles[f"{i}/{plural}"] = torch.empty(STEPS, *parameter.shape, dtype=DTYPES[dtype])
    sgd = optimizer([
        ([parameter for module, (*_, g) in zip(modules, layers) if g == group for parameter in module.parameters()],
         options) for group, options in enumerate(groups)])
    for step in range(STEPS):
        for param_group, options in zip(sgd.param_groups, groups):
            param_group["lr"] = options["lr"][step]
        for i, module in enumerate(modules):
            for role, parameter in module.named_parameters():
                parameter.grad = roles[f"{i}/{role}_gradients"][step].clone()
        sgd.step()
        for i, module in enumerate(modules):
            for plural, parameter in zip(("weights", "biases"), module.parameters()):
                roles[f"{i}/{plural}"][step] = parameter.detach()
    add("sgd", f"{label}/{dtype}", roles, steps=STEPS, dtype=dtype, groups=groups,
        layers=[{"n": n, "p": p, "bias": bias, "group": group} for n, p, bias, group in layers])


def sgd():
    for dtype in DTYPES:
        for label, options in SGD_OPTIONS.items():
            sgd_case(label, dtype, [options], [(7, 3, True, 0)])
        for label in ("plain", "nesterov_all", "dampening_all"):
            sgd_case(f"large_{label}", dtype, [SGD_OPTIONS[label]], [(19, 13, False, 0)])
        sgd_case("layers", dtype, [{"momentum": 0.9}], [(1, 1, True, 0), (5, 4, False, 0), (2, 9, True, 0)])
        sgd_case("groups", dtype, [{"momentum": 0.9}, {"lr": 0.5, "weight_decay": 0.1}, SGD_OPTIONS["nesterov_all"]],
                 [(4, 3, True, 0), (3, 5, True, 1), (6, 1, False, 0), (2, 2, True, 2)])


def randperm():
    for n, seeds, count in [(1, (0,), 3), (2, (0, 1), 3), (3, (0, 1), 3), (10, (0, 42, 2**32 + 7), 3),
                            (442, (0, 2**63 + 5), 3), (1000, (1,), 3), (70000, (0,), 1)]:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            add("randperm", f"{n}/seed{seed}",
                {str(i): torch.randperm(n, generator=generator).to(torch.int32) for i in range(count)},
                n=n, seed=str(seed), count=count)


def training():
    steps = 10
    for dtype in DTYPES:
        for q, n, p, bias, seed, options in [
                (32, 10, 1, True, 0, {"lr": 0.05, "momentum": 0.9}),
                (20, 3, 3, True, 1, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
                (57, 17, 5, False, 42, {"lr": 0.2, "momentum": 0.5, "dampening": 0.1}),
                (400, 6, 2, True, 3, {"lr": 0.1})]:
            options = complete(options)
            layer = linear_layer(n, p, bias, dtype, seed)
            x = torch.randn(q, n, dtype=DTYPES[dtype])
            y = x @ torch.randn(n, p, dtype=DTYPES[dtype]) + 0.1 * torch.randn(q, p, dtype=DTYPES[dtype])
            sgd = optimizer([(list(layer.parameters()), options)])
            losses, weights, biases = [], [], []
            for _ in range(steps):
                sgd.zero_grad()
                loss = F.mse_loss(layer(x), y)
                loss.backward()
                sgd.step()
                losses.append(loss.detach())
                weights.append(layer.weight.detach().clone())
                biases.append(layer.bias.detach().clone() if bias else None)
            options["lr"] = options["lr"][:steps]
            add("training", f"{q}x{n}x{p}/{suffix(bias, dtype)}",
                {"x": x, "y": y, "losses": torch.stack(losses), "weights": torch.stack(weights),
                 "biases": torch.stack(biases) if bias else None},
                q=q, n=n, p=p, bias=bias, dtype=dtype, seed=str(seed), steps=steps, **options)


def function_module(function, negative_slope=None):
    if function == "leaky_relu":
        return torch.nn.LeakyReLU(negative_slope)
    return {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid,
            "softplus": lambda: torch.nn.Softplus(threshold=80)}[function]()


def activation():
    torch.manual_seed(4)
    # Where e^x, e^-x or a square of either overflows, vanishes, or no longer changes a 1; and the kink.
    magnitudes = [0.0, 1e-30, 1e-8, 1e-4, 0.3, 5.0, 9.1, 16.7, 19.9, 20.1, 37.0, 45.0, 79.9, 80.1, 88.8, 104.0, 710.0,
                  746.0, 1e4, 1e30]
    for dtype in DTYPES:
        large = torch.tensor([sign * magnitude for magnitude in magnitudes for sign in (1, -1)], dtype=DTYPES[dtype])
        for function, options in [("relu", {}), ("leaky_relu", {"negative_slope": 0.01}),
                                  ("leaky_relu", {"negative_slope": -1.75}), ("tanh", {}), ("sigmoid", {}),
                                  ("softplus", {})]:
            module = function_module(function, **options)
            label = "".join([function, *map(str, options.values())])
            for shape, x in [("1x1", torch.randn(1, 1, dtype=DTYPES[dtype])),
                             ("7x5", torch.randn(7, 5, dtype=DTYPES[dtype])),
                             ("33x9", 4 * torch.randn(33, 9, dtype=DTYPES[dtype])),
                             ("large", large.reshape(2, -1))]:
                x = x.clone().requires_grad_()
                output = module(x)
                grad_output = torch.randn_like(output)
                output.backward(grad_output)
                add("activation", f"{label}/{shape}/{dtype}",
                    {"x": x, "output": output, "grad_output": grad_output, "grad_x": x.grad},
                    q=x.shape[0], n=x.shape[1], dtype=dtype, function=function, **options)


def linear_entry(n, p, bias=True):
    return {"type": "linear", "n": n, "p": p, "bias": bias}


def chain_entry(*layers):
    return {"type": "chain", "layers": list(layers)}


RELU, TANH, SIGMOID, SOFTPLUS = ({"type": function} for function in ("relu", "tanh", "sigmoid", "softplus"))
LEAKY_RELU = {"type": "leaky_relu", "negative_slope": 0.2}
CHAINS = {
    # q, seed, layers, options
    "linear": (20, 0, [linear_entry(5, 4), linear_entry(4, 3)], {"lr": 0.05, "momentum": 0.9}),
    "relu": (32, 1, [linear_entry(10, 16), RELU, linear_entry(16, 1)], {"lr": 0.05, "momentum": 0.9}),
    "three": (25, 2**32 + 7, [linear_entry(20, 33), RELU, linear_entry(33, 17), SOFTPLUS, linear_entry(17, 4)],
              {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "mixed": (17, 42, [linear_entry(4, 7), TANH, linear_entry(7, 5), SIGMOID, linear_entry(5, 3)],
              {"lr": 0.2, "momentum": 0.8, "weight_decay": 0.01}),
    "nobias": (13, 3, [linear_entry(9, 12, False), LEAKY_RELU, linear_entry(12, 4, False), SIGMOID],
               {"lr": 0.3, "momentum": 0.5, "dampening": 0.1}),
    "first": (9, 4, [TANH, linear_entry(6, 5, False), SOFTPLUS, TANH, linear_entry(5, 2)],
              {"lr": 0.1, "momentum": 0.9}),
    "nested": (29, 2**63 + 5,
               [chain_entry(linear_entry(6, 8), LEAKY_RELU), linear_entry(8, 8, False),
                chain_entry(SOFTPLUS, chain_entry(linear_entry(8, 3), TANH), linear_entry(3, 2))],
               {"lr": 0.1, "momentum": 0.9}),
    "rows": (1100, 5, [linear_entry(3, 5), TANH, linear_entry(5, 2)], {"lr": 0.1, "momentum": 0.9}),
}


def sequential(layers, dtype):
    modules = []
    for layer in layers:
        layer = dict(layer)
        kind = layer.pop("type")
        if kind == "linear":
            modules.append(torch.nn.Linear(layer["n"], layer["p"], layer["bias"], dtype=DTYPES[dtype]))
        elif kind == "chain":
            modules.append(sequential(layer["layers"], dtype))
        else:
            modules.append(function_module(kind, **layer))
    return torch.nn.Sequential(*modules)


def chain():
    steps = 10
    for dtype in DTYPES:
        for label, (q, seed, layers, options) in CHAINS.items():
            torch.manual_seed(seed)
            module = sequential(layers, dtype)
            sizes = [(part.in_features, part.out_features) for part in module.modules()
                     if isinstance(part, torch.nn.Linear)]
            n, p = sizes[0][0], sizes[-1][1]
            x = torch.randn(q, n, dtype=DTYPES[dtype], requires_grad=True)
            y = torch.randn(q, p, dtype=DTYPES[dtype])
            grad_output = torch.randn(q, p, dtype=DTYPES[dtype])
            roles = {"x": x.detach(), "y": y, "grad_output": grad_output}
            roles |= {f"initial/{name}": value.detach().clone() for name, value in module.named_parameters()}
            roles["output"] = module(x)
            roles["output"].backward(grad_output)
            roles["grad_x"] = x.grad
            roles |= {f"grad/{name}": value.grad.clone() for name, value in module.named_parameters()}
            options = complete(options)
            sgd = optimizer([(list(module.parameters()), options)])
            losses = []
            for _ in range(steps):
                sgd.zero_grad()
                loss = F.mse_loss(module(x.detach()), y)
                loss.backward()
                sgd.step()
                losses.append(loss.detach())
            roles["losses"] = torch.stack(losses)
            roles |= {f"final/{name}": value for name, value in module.named_parameters()}
            options["lr"] = options["lr"][:steps]
            add("chain", f"{label}/{dtype}", roles, q=q, n=n, p=p, dtype=dtype, seed=str(seed), architecture=layers,
                steps=steps, **options)


def clipping():
    torch.manual_seed(6)
    for dtype in DTYPES:
        for label, shapes, max_norm in [
                ("one", [(1, 1, True)], 0.5), ("small", [(7, 3, True)], 1e-3), ("below", [(5, 4, False)], 100.0),
                ("layers", [(19, 13, False), (2, 9, True)], 3.0)]:
            modules = [torch.nn.Linear(n, p, bias, dtype=DTYPES[dtype]) for n, p, bias in shapes]
            named = {f"{i}/{role}": parameter for i, module in enumerate(modules)
                     for role, parameter in module.named_parameters()}
            for parameter in named.values():
                parameter.grad = torch.randn_like(parameter)
            roles = {f"{name}_gradient": parameter.grad.clone() for name, parameter in named.items()}
            norm = torch.nn.utils.clip_grad_norm_(named.values(), max_norm, error_if_nonfinite=True, foreach=False)
            roles |= {f"{name}_clipped": parameter.grad for name, parameter in named.items()}
            add("clipping", f"{label}/{dtype}", roles | {"norm": norm.reshape(1, 1)}, dtype=dtype, max_norm=max_norm,
                layers=[{"n": n, "p": p, "bias": bias, "group": 0} for n, p, bias in shapes])


if __name__ == "__main__":
    # Without FMA, PyTorch's kernels round twice where Pente, and PyTorch elsewhere, rounds once.
    assert torch.backends.cpu.get_cpu_capability() != "DEFAULT", "this processor has no FMA"
    for make in (initial_weights, linear, mse, sgd, randperm, training, activation, chain, clipping):
        make()
    OUTPUT.parent.mkdir(exist_ok=True)
    save_file(tensors, OUTPUT, metadata={"cases": json.dumps(cases)})
    print(f"{OUTPUT}: {len(cases)} cases, {len(tensors)} tensors, {OUTPUT.stat().st_size:,} bytes, "
          f"torch {torch.__version__}")
