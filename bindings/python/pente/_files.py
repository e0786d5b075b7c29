"""Layers in safetensors files: an 8-byte little-endian length, a JSON header of that length, the raw data."""

import json
import math
import os
import secrets
import struct
import sys
from array import array
from typing import Any, Literal, NamedTuple, NoReturn

from ._pente import Linear

_LENGTH = struct.Struct("<Q")
_HEADER_LIMIT = 100_000_000  # the format's own
_DTYPES: dict[str, Literal["float32", "float64"]] = {"F32": "float32", "F64": "float64"}
_CODES: dict[str, Literal["f", "d"]] = {"F32": "f", "F64": "d"}  # array's and struct's


class _Tensor(NamedTuple):
    """A checked entry of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


# ---- Writing ---------------------------------------------------------------------------------------------------------


def save(layer: Linear, path: str | os.PathLike[str]) -> None:
    """Writes the file beside its place and then moves it there, so that nobody ever meets half of one."""
    path = os.fsdecode(path)
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(_encode(layer))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _encode(layer: Linear) -> bytes:
    dtype = "F32" if layer.dtype == "float32" else "F64"
    header = {}
    data = b""
    for name, value in sorted(layer.state_dict().items()):
        raw = _little_endian(array(_CODES[dtype], bytes(value))).tobytes()
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": (len(data), len(data) + len(raw))}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    return _LENGTH.pack(len(text)) + text + data


def _little_endian(values: "array[float]") -> "array[float]":
    """To the file's byte order, or back from it."""
    if sys.byteorder == "big":
        values.byteswap()
    return values


# ---- Reading ---------------------------------------------------------------------------------------------------------


def load(cls: type[Linear], path: str | os.PathLike[str]) -> Linear:
    """The layer in a file that holds a weight and perhaps a bias, and nothing else."""
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        contents = file.read()
    try:
        return _decode(cls, contents)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no linear layer: {error}") from error


def _decode(cls: type[Linear], contents: bytes) -> Linear:
    header, data = _split(contents)
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    _check_coverage(tensors, len(data))
    _check_names(tensors)
    weight = tensors["weight"]
    out_features, in_features = weight.shape
    layer = cls(in_features, out_features, bias="bias" in tensors, dtype=_DTYPES[weight.dtype], seed=0)
    state = {}
    for name, tensor in tensors.items():
        values = _little_endian(array(_CODES[tensor.dtype], data[tensor.begin : tensor.end].tobytes()))
        state[name] = memoryview(values).cast("B").cast(_CODES[tensor.dtype], tensor.shape)
    layer.load_state_dict(state)
    return layer


def _split(contents: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header's entries and the data after it."""
    if len(contents) < _LENGTH.size:
        raise ValueError(f"{len(contents)} bytes are too few for the header's length")
    (length,) = _LENGTH.unpack_from(contents)
    if length > _HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes is longer than the format allows")
    if length > len(contents) - _LENGTH.size:
        raise ValueError(f"the file ends within its header of {length} bytes")
    text = contents[_LENGTH.size : _LENGTH.size + length].decode()
    header = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not text.startswith("{") or not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    header.pop("__metadata__", None)
    return header, memoryview(contents)[_LENGTH.size + length :]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("the header has a name twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the header has {name}, which is not JSON")


def _tensor(name: str, entry: Any) -> _Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} must have a dtype, a shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name} has dtype {dtype!r}, but must be 'F32' or 'F64'")
    if not _is_whole_numbers(shape, least=1):
        raise ValueError(f"{name} has shape {shape!r}, but must have positive dimensions")
    if not _is_whole_numbers(offsets, least=0) or len(offsets) != 2:
        raise ValueError(f"{name} has data_offsets {offsets!r}, but must have a begin and an end")
    size = math.prod(shape) * struct.calcsize(_CODES[dtype])
    if offsets[1] - offsets[0] != size:
        raise ValueError(f"{name} has data_offsets {offsets!r}, but its shape takes {size} bytes")
    return _Tensor(dtype, tuple(shape), offsets[0], offsets[1])


def _is_whole_numbers(value: Any, least: int) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= least for item in value)


def _check_coverage(tensors: dict[str, _Tensor], size: int) -> None:
    """The tensors lie end to end, from the data's first byte to its last."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
        if tensor.begin != position:
            raise ValueError(f"{name} begins at byte {tensor.begin} of the data, but must at {position}")
        position = tensor.end
    if position != size:
        raise ValueError(f"the header tells of {position} bytes of data, but there are {size}")


def _check_names(tensors: dict[str, _Tensor]) -> None:
    if "weight" not in tensors:
        raise ValueError("it has no 'weight'")
    for name in tensors.keys() - {"weight", "bias"}:
        raise ValueError(f"{name!r} is no parameter of a linear layer")
    weight = tensors["weight"]
    if len(weight.shape) != 2:
        raise ValueError(f"weight has shape {weight.shape}, but must have two dimensions")
    bias = tensors.get("bias", weight)
    if bias.dtype != weight.dtype:
        raise ValueError(f"bias is {bias.dtype}, but weight is {weight.dtype}")
    if bias is not weight and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {bias.shape}, but weight has {weight.shape}")
