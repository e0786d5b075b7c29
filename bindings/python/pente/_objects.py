"""What the extension leaves to Python: how its objects are pickled, copied and compared, and PyTorch's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pickle import PickleBuffer
from typing import Any, TypeVar

from ._pente import SGD, Chain, CustomLayer, Layer, LeakyReLU, Linear, Matrix, Scaler, Trainer

_CODES = {"float32": "f", "float64": "d"}
_L = TypeVar("_L", bound=Layer)
_Custom = TypeVar("_Custom", bound=CustomLayer)
_Reduced = tuple[Callable[..., object], tuple[Any, ...]] | tuple[Callable[..., object], tuple[Any, ...], Any]


def reduce_matrix(matrix: Matrix, protocol: int) -> _Reduced:
    """A view of a layer becomes a matrix of its own. Protocol 5 may keep the bytes apart."""
    data = PickleBuffer(Matrix(matrix)) if protocol >= 5 else memoryview(matrix).tobytes()
    return _matrix, (matrix.dtype, matrix.shape, data)


def _matrix(dtype: str, shape: tuple[int, ...], data: Any) -> Matrix:
    if 0 in shape:  # which no memoryview is cast to
        kind = import_module("ctypes").c_float if dtype == "float32" else import_module("ctypes").c_double
        for size in reversed(shape):
            kind *= size
        return Matrix(kind())
    return Matrix(memoryview(data).cast("B").cast(_CODES[dtype], shape))  # type: ignore[call-overload, unused-ignore]


def to_array(matrix: Matrix, dtype: Any, copy: bool | None) -> Any:
    """For whoever asks for __array__, as pandas does; NumPy itself takes the buffer."""
    return import_module("numpy").array(memoryview(matrix), dtype, copy=copy)


def reduce_layer(layer: Layer) -> _Reduced:
    """The class and its arguments, and the parameters, if they are not those of layers inside."""
    kind = type(layer)
    if isinstance(layer, Chain):
        return kind, tuple(layer)
    if isinstance(layer, Linear):
        return _layer, (kind, (layer.in_features, layer.out_features, layer.bias is not None, layer.dtype, 0),
                        layer.state_dict())
    if isinstance(layer, Scaler):
        return _layer, (kind, (layer.in_features, layer.dtype), layer.state_dict())
    if isinstance(layer, LeakyReLU):
        return kind, (layer.negative_slope, layer.dtype)
    return kind, (layer.dtype,)


def _layer(kind: type[_L], arguments: tuple[Any, ...], state: Mapping[str, Matrix]) -> _L:
    layer = kind(*arguments)
    layer.load_state_dict(state)
    return layer


def reduce_custom(layer: CustomLayer, forward: object, backward: object) -> _Reduced:
    """As for any class, but for the part that is the extension's, and has no __init__ of the class's own arguments."""
    arguments = (layer.in_features, layer.out_features, forward, backward, layer.state_dict(), layer.dtype)
    return _custom, (type(layer), arguments), layer.__getstate__()


def _custom(kind: type[_Custom], arguments: tuple[Any, ...]) -> _Custom:
    layer = kind.__new__(kind)
    CustomLayer.__init__(layer, *arguments)
    return layer


def layers_equal(a: Layer, b: Layer) -> bool:
    """Of two of one class."""
    if a is b:
        return True
    if isinstance(a, Chain) and isinstance(b, Chain):
        return len(a) == len(b) and all(x == y for x, y in zip(a, b))
    return bool(a.__reduce__()[1:] == b.__reduce__()[1:])


def reduce_sgd(sgd: SGD) -> _Reduced:
    """The groups with the layers themselves, so that what shares them goes on to."""
    groups = [{"layers": layers, **options} for layers, options in zip(sgd.layers, sgd.groups)]
    return _sgd, (groups, sgd.defaults, sgd.state_dict())


def _sgd(groups: list[Any], defaults: dict[str, Any], state: Mapping[str, Any]) -> SGD:
    sgd = SGD(groups, **defaults)
    sgd.load_state_dict(state)
    return sgd


def parts_equal(a: SGD | Trainer, b: SGD | Trainer) -> bool:
    """Of two of one class, by what they are made of."""
    return a is b or bool(a.__reduce__()[1] == b.__reduce__()[1])


def torch_function(
    function: Callable[..., object], types: object, arguments: object = (), keywords: Mapping[str, object] | None = None
) -> object:
    """Calls it with tensors that share the matrices' memory."""
    from_dlpack = import_module("torch").from_dlpack

    def tensors(value: Any) -> Any:
        if isinstance(value, Matrix):
            return from_dlpack(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(tensors, value))
        return value

    return function(*tensors(arguments), **{name: tensors(value) for name, value in (keywords or {}).items()})
