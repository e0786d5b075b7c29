"""What the command writes: whole files or none, and a model that knows the names of its columns."""

import json
import os
import secrets
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from .. import Layer
from .errors import CommandError, because

# Where a model's metadata has its columns' names. The library passes over all entries but its own, "pente".
COLUMNS = "pente.columns"


# ---- Whole files -----------------------------------------------------------------------------------------------------


def require_writable(path: str, others: Sequence[str]) -> None:
    """That a file can be written there, which is to be known before hours of training; and that none of the others,
    which are read or written too, is the same one."""
    if not path:
        raise CommandError("'' cannot be written: it is no name")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise CommandError(f"{path} cannot be written: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise CommandError(f"{path} cannot be written: it is no regular file")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{path} cannot be written: the folder {folder} is not writable")
    for other in others:
        if os.path.realpath(other) == os.path.realpath(path) or (
            os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)
        ):
            raise CommandError(f"{path} cannot be written: it is the same file as {other}")


@contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """A file that takes the path's place, and has its permissions, once all is written to it, and that otherwise was
    never there."""
    target = os.path.realpath(path)
    with _writing(path):
        # Not the process's number: after a kill the file of a former process of that number may be there.
        temporary = os.path.join(os.path.dirname(target), f".pente-{secrets.token_hex(8)}")
        file = open(temporary, "xb")
        try:
            with file:
                with suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), os.stat(target).st_mode & 0o777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """What the system refuses meanwhile is said of this path."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {because(error)}") from None


# ---- Models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """What a model was trained on; empty if its file does not say."""

    features: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


def save_model(layer: Layer, columns: Columns, path: str) -> None:
    """Layer.save, with a further entry in the file's metadata."""
    with _writing(path), tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model.safetensors")
        layer.save(saved)
        header, data = _split(saved.read_bytes())
    header["__metadata__"][COLUMNS] = json.dumps(asdict(columns))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with new_file(path) as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def load_model(path: str) -> tuple[Layer, Columns]:
    try:
        layer = Layer.load(path)
        header, _ = _split(Path(path).read_bytes())
    except OSError as error:
        raise CommandError(f"{path}: {because(error)}") from None
    except ValueError as error:
        raise CommandError(f"{path} is no model that can be loaded: {because(error)}") from None
    if layer.in_features is None:
        raise CommandError(f"{path} holds {layer!r} alone, which is no model: it takes any number of columns")
    try:
        columns = Columns(**json.loads(header["__metadata__"][COLUMNS]))
        "".join([*columns.features, *columns.targets]).encode()  # names, and such as a file can hold
        fits = (len(columns.features), len(columns.targets)) == (layer.in_features, layer.out_features)
    except (KeyError, TypeError, ValueError, RecursionError):
        fits = False
    return layer, columns if fits and type(columns.features) is type(columns.targets) is list else Columns()


def _split(content: bytes) -> tuple[dict[str, dict[str, str]], bytes]:
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]
