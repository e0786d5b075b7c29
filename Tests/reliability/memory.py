"""Every allocation in Python's use of the package fails in its turn: a MemoryError, no crash, no leak, and the same bits
when there is memory again.

LD_PRELOAD names failing.c's library, and PYTHONMALLOC is malloc. The argument, if any, is how many allocations of a call
fail at most: those after them are tried in larger and larger steps.
"""

import copy
import ctypes
import gc
import mmap
import os
import sys
import tempfile
from array import array

import pente
import pente.lr_scheduler

failing = ctypes.CDLL(os.environ["LD_PRELOAD"])
begin, end, live_blocks = failing.failing_begin, failing.failing_end, failing.failing_live_blocks
begin.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long]
end.restype = live_blocks.restype = ctypes.c_long
DENSE = int(sys.argv[1]) if len(sys.argv) > 1 else 8
ROUNDS = 6
# Whose allocations fail, and in how many tries at least, half of what it was with 3 for an argument: if malloc were
# another one, none would fail.
LIBRARIES = {b"libpente.so": 130, b"_pente.abi3": 53, b"": 286}
NO_CELL = b"PyCell_New"  # CPython 3.11's own: where a function has none for a closure's variable, its frame leaks
NO_FRAME = "error return without exception set"  # CPython's own: it had no memory for a function's frame


def matrix(rows, columns, step=7):
    flat = array("d", [(k * step % 11 - 5) / 8 for k in range(rows * columns)])
    return memoryview(flat).cast("B").cast("d", (rows, columns))


class Squares(pente.CustomLayer):
    def compute_forward(self, x, scale):
        return matrix(len(x), x.shape[1])

    def compute_backward(self, x, y, grad_output, scale):
        return matrix(len(x), x.shape[1], 3), {"scale": matrix(1, 2)}


class Borrowed:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


def refused(call):
    try:
        call()
    except ValueError as error:
        return str(error)


class Bench:
    """One of each thing, and all the calls on them."""

    def __init__(self, folder):
        self.x, self.y, self.few = matrix(40, 3), matrix(40, 2, 5), matrix(4, 2)
        self.weight = array("d", [0.5] * 40)
        self.linear = pente.Linear(3, 2, dtype="float64", seed=1)
        self.custom = Squares(2, 2, parameters={"scale": matrix(1, 2)}, dtype="float64")
        self.scaler = pente.Scaler(3, "float64")
        self.chain = pente.Chain(self.scaler, self.linear, pente.Tanh("float64"), self.custom)
        self.mse, self.none = pente.MSELoss(), pente.MSELoss("none")
        self.sgd = pente.SGD(self.linear, lr=0.01, momentum=0.9)
        self.trainer = pente.Trainer(self.linear, self.sgd, self.mse, max_grad_norm=0.5)
        self.schedule = pente.lr_scheduler.StepLR(self.sgd, 1)
        self.chain_sgd = pente.SGD(self.chain, lr=1e-3)
        self.chain_trainer = pente.Trainer(self.chain, self.chain_sgd, self.mse)
        self.out = pente.Matrix(matrix(40, 2))
        self.path = os.path.join(folder, "bench")
        self.linear.save(self.path, self.sgd)
        self.sgd.step()

    def fit(self):
        history = self.trainer.fit(
            self.x, self.y, epochs=3, batch_size=16, seed=2, sample_weight=self.weight, validation=(self.x, self.y),
            patience=2, on_epoch=lambda epoch: [epoch.epoch] and None, lr_scheduler=self.schedule,
        )  # fmt: skip
        self.sgd.set_options(0, lr=0.01)
        return history.training_losses

    def backward(self):
        self.linear.forward(self.x)
        return self.linear.backward(self.y)

    def loss(self):
        return self.mse(self.out, self.y), self.mse.backward(), self.mse.target_grad

    def add_group(self):
        sgd = pente.SGD([{"layers": self.linear, "lr": 0.5}])
        sgd.add_group([pente.Linear(2, 2, dtype="float64", seed=3)], momentum=0.5)
        return sgd.groups, sgd.defaults, sgd.layers

    def custom_function(self):
        layer = pente.CustomLayer(forward=lambda x: x, backward=lambda x, y, g: g, dtype="float64")
        return bytes(layer(self.x))

    calls = {
        "Linear": lambda b: pente.Linear(3, 2, dtype="float64", seed=1),
        "activations": lambda b: [pente.ReLU(), pente.LeakyReLU(0.1), pente.Sigmoid(), pente.Softplus("float64")],
        "Scaler": lambda b: pente.Scaler(3, "float64").fit(b.x),
        "Chain": lambda b: [layer.dtype for layer in pente.Chain(b.scaler, b.linear)],
        "Chain's layers": lambda b: (len(b.chain), b.chain[0], list(b.chain)),
        "CustomLayer": lambda b: Squares(2, 2, parameters={"scale": matrix(1, 2)}, dtype="float64"),
        "custom functions": custom_function,
        "forward": lambda b: b.linear(b.x),
        "forward, out": lambda b: b.chain.forward(b.x, out=b.out),
        "predict": lambda b: b.chain.predict(b.x),
        "backward": backward,
        "parameters": lambda b: (b.chain.parameters, b.chain.gradients),
        "state_dict": lambda b: b.chain.load_state_dict(b.chain.state_dict()),
        "reset_parameters": lambda b: b.linear.reset_parameters(1),
        "zero_grad": lambda b: (b.linear.zero_grad(), b.sgd.zero_grad()),
        "save": lambda b: b.linear.save(b.path, b.sgd),
        "load": lambda b: pente.Layer.load(b.path).predict(b.x),
        "load_parameters": lambda b: b.linear.load_parameters(b.path, b.sgd),
        "Matrix": lambda b: (pente.Matrix(b.x).tolist(), b.out[1, 0], list(b.out), b.out == b.out, repr(b.out)),
        "Matrix's exports": lambda b: (memoryview(b.out), b.out.__array_interface__, b.out.__dlpack__()),
        "dlpack": lambda b: pente.Matrix(Borrowed(b.out)),
        "MSELoss": loss,
        "MSELoss none": lambda b: (b.none(b.out, b.y), b.none.backward(matrix(40, 2))),
        "SGD": lambda b: pente.SGD([b.linear], lr=0.1),
        "add_group": add_group,
        "set_options": lambda b: (b.sgd.set_options(0, dampening=0.0), b.sgd.groups),
        "SGD's state": lambda b: b.sgd.load_state_dict(b.sgd.state_dict()),
        "clip_gradients": lambda b: b.sgd.clip_gradients(0.5),
        "SGD's step": lambda b: b.sgd.step(),
        "Trainer": lambda b: pente.Trainer(b.linear, b.sgd, b.mse),
        "step": lambda b: b.trainer.step(b.x, b.y, b.weight),
        "a custom layer's step": lambda b: b.chain_trainer.step(b.x, b.y),
        "fit": fit,
        "gradcheck": lambda b: pente.gradcheck(b.linear, matrix(4, 3), b.few, b.mse),
        "a copy": lambda b: copy.copy(b.linear).predict(b.x),
        "threads": lambda b: (pente.set_num_threads(2), pente.get_num_threads(), pente.set_num_threads(1)),
        "a refusal": lambda b: refused(lambda: b.linear(b.y)),
        "repr": lambda b: (repr(b.chain), repr(b.sgd), repr(b.trainer), repr(b.mse), repr(b.linear)),
    }


def fail(call, bench, library, skipped, count):
    """Makes the call when so many allocations fail; returns whether any did, and what is wrong with it."""
    wrong = None
    try:
        if not begin(library, skipped, count):
            raise LookupError("it is not loaded")
        call(bench)
    except MemoryError:
        pass
    except SystemError as error:
        if str(error) != NO_FRAME:
            wrong = error
    except BaseException as error:
        wrong = error  # said when there is memory
    while True:
        try:
            seen = end()
            break
        except MemoryError:
            pass
    return seen > skipped, wrong and f"gave {wrong!r}"


def try_all(name, library, count, skipped, progress, folder):
    """In a process of its own: from `skipped` on, until the call has enough memory."""
    call, bench = Bench.calls[name], Bench(folder)
    for _ in range(3):
        call(bench)
    gc.collect()
    gc.freeze()
    complaints, is_refused = 0, True
    while is_refused:
        progress[0] = skipped
        growth = []
        for _ in range(ROUNDS):
            before = live_blocks()
            is_refused, wrong = fail(call, bench, library, skipped, count)
            gc.collect()
            growth.append(live_blocks() - before)
            if wrong:
                break
        if not wrong and min(growth[1:], default=0) > 0 and not failing.failing_was_in(NO_CELL):
            wrong = f"leaked: {growth}"
        call(bench)  # with memory again
        if wrong:
            complaints += 1
            print(f"memory.py: {name}, {count} failures of {library} after {skipped}: {wrong}", flush=True)
        progress[1] += is_refused
        skipped += 1 if skipped < DENSE else skipped // 2 + 1
    os._exit(min(complaints, 100))


def main():
    progress = memoryview(mmap.mmap(-1, 16)).cast("q")  # how many allocations succeed, and in how many tries one failed
    complaints = failures = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        for call in Bench.calls.values():
            call(bench)
        del bench
        for library, least in LIBRARIES.items():
            progress[1] = 0
            for name in Bench.calls:
                for count in (1, 1000):
                    skipped = 0
                    while True:
                        child = os.fork()
                        if child == 0:
                            try:
                                try_all(name, library, count, skipped, progress, folder)
                            except BaseException as error:
                                print(f"memory.py: {name}: with memory again {error!r}", flush=True)
                                os._exit(101)
                        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                        complaints += abs(status)
                        if status >= 0:
                            break
                        skipped = progress[0] + 1
                        print(f"memory.py: {name}, {count} failures of {library} after {skipped - 1}: {status}")
            print(f"memory.py: {progress[1]} tries in which allocations of {library} failed")
            failures += progress[1]
            if progress[1] < least:
                complaints += 1
                print(f"memory.py: there should be {least}")
    print(f"memory.py: {len(Bench.calls)} calls, {failures} failures, {complaints} complaints")
    return 1 if complaints else 0


sys.exit(main())
