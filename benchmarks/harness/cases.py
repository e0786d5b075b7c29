"""What is timed: the cases, in groups."""

from dataclasses import dataclass

SIZES = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class Shape:
    """A batch of q rows, and a linear layer's widths; more than two are a chain with relu between. X may be a block of
    columns of a table of `stride`."""

    q: int
    widths: tuple[int, ...]
    stride: int

    @classmethod
    def of(cls, text):
        """From "32x64->8", or "32x64/80->8" for a block of a table of 80 columns."""
        rows, rest = text.split("x", 1)
        first, *others = rest.split("->")
        columns, _, stride = first.partition("/")
        return cls(int(rows), (int(columns), *map(int, others)), int(stride or columns))

    def __str__(self):
        first, *others = self.widths
        stride = f"/{self.stride}" if self.stride != first else ""
        return "->".join([f"{self.q}x{first}{stride}", *map(str, others)])

    @property
    def parameters(self):
        return sum((n + 1) * p for n, p in zip(self.widths, self.widths[1:]))

    def flops(self, task):
        """Of the products: forward, the weights' gradients, and the gradients of each layer's input that are needed."""
        products = [2 * self.q * n * p for n, p in zip(self.widths, self.widths[1:])]
        if task == "forward":
            return sum(products)
        return 3 * sum(products) - (0 if task == "gradx" else products[0])

    def work(self):
        """Of a step of one layer with bias, residual and loss, so that odd shapes of few columns compare fairly."""
        return self.flops("step") + 5 * self.q * self.widths[-1]

    def bytes(self, dtype, task):
        """That must be read at least once: X, the parameters, and Y for a step."""
        numbers = self.q * self.widths[0] + self.parameters + (0 if task == "forward" else self.q * self.widths[-1])
        return numbers * SIZES[dtype]


@dataclass(frozen=True)
class Case:
    group: str
    shape: Shape
    rule: str  # which targets apply, see targets.py
    task: str = "step"
    batch: int = 1  # of fit
    beside: Shape | None = None  # a neighbour that is timed with it, by Pente from C

    @property
    def label(self):
        return {"step": "", "forward": "inference ", "gradx": "with ∂X ", "fit": "fit "}[self.task] + str(self.shape)

    @property
    def lr(self):
        """Small enough for every shape to converge."""
        return 1 / max(100, self.shape.widths[0])


def cases(group, texts, **options):
    return [Case(group, Shape.of(text), **({"rule": group} | options)) for text in texts]


def odd(text, neighbour):
    return Case("odd", Shape.of(text), "odd", beside=Shape.of(neighbour))


# The first of each group is what --quick times.
CASES = [
    *cases("tiny", ["32x10->1", "1x4->1"]),
    *cases("small", ["32x64->8", "128x64->64", "1024x256->10"]),
    *cases("memory", ["262144x128->1", "1000000x32->1", "65536x512->4", "262144x128->2", "262144x128->8",
                      "262144x128->16", "262144x128/160->1"]),
    *cases("compute", ["1024x1024->1024", "4096x768->768", "256x4096->1000"]),
    odd("1000x17->3", "1000x16->4"),
    odd("333x129->7", "333x128->8"),
    odd("4099x1023->65", "4096x1024->64"),
    odd("100000x1->4", "100000x2->4"),
    odd("1000x1->1", "1000x2->1"),
    odd("1001x255->1", "1000x256->1"),
    *cases("chains", ["32x64->64->32->10", "256x64->64->32->10"], rule="small"),
    *cases("chains", ["32x64->64->32->10", "256x64->64->32->10"], rule="small", task="gradx"),
    *cases("inference", ["1x64->64", "64x64->64", "1x256->10", "64x256->10"], rule="small", task="forward"),
    *cases("inference", ["1x4096->1000"], rule="no slower", task="forward"),
    *cases("inference", ["64x4096->1000"], rule="compute", task="forward"),
    *cases("fit", ["1000000x32->1"], task="fit", batch=32),
]  # fmt: skip
GROUPS = list(dict.fromkeys(case.group for case in CASES)) + ["growth", "footprint"]


def selected(patterns, quick):
    """The cases of a group, or with a part of a label, that `patterns` name, or all; if quick, one of each group."""
    if patterns:
        chosen = [case for case in CASES if any(p == case.group or p in case.label for p in patterns)]
    else:
        chosen = CASES
    if not quick:
        return chosen
    first = {case.group: case for case in reversed(chosen)}
    return [case for case in chosen if case is first[case.group]]
