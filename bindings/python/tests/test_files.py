"""Layers in safetensors files, written here and read by others, and the reverse."""

import json
import os
import pathlib
import random
import stat
import struct

import pente
import pytest
from support import DTYPES, snapshot


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


WEIGHT = entry("F32", [2, 3], 0, 24)
BIAS = entry("F32", [2], 24, 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layer.safetensors"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_round_trip(path, dtype, bias):
    layer = pente.Linear(3, 2, bias=bias, dtype=dtype)
    layer.save(path)
    loaded = pente.Linear.load(str(path))
    assert snapshot(loaded) == snapshot(layer)
    assert repr(loaded) == repr(layer)


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
def test_paths_of_every_kind(path, kind):
    pente.Linear(3, 2).save(kind(path))
    pente.Linear.load(kind(path))


def test_a_file_is_written_whole_or_not_at_all(path, monkeypatch):
    pente.Linear(3, 2, seed=1).save(path)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="disk full"):
                pente.Linear(3, 2, seed=2).save(path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]


def test_a_new_file_has_the_usual_rights(path):
    pente.Linear(3, 2).save(path)
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)


def test_the_systems_errors_come_out_as_themselves(tmp_path):
    with pytest.raises(FileNotFoundError):
        pente.Linear.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        pente.Linear(3, 2).save(tmp_path / "none" / "layer")
    with pytest.raises(IsADirectoryError):
        pente.Linear(3, 2).save(tmp_path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(TypeError):
        pente.Linear.load(3.5)


def test_what_others_may_write_is_read(path):
    data = struct.pack("<8f", *range(8))
    for header in [
        {"weight": WEIGHT, "bias": BIAS},
        {"__metadata__": {"format": "pt"}, "weight": WEIGHT, "bias": BIAS},
        {"bias": entry("F32", [2], 0, 8), "weight": entry("F32", [2, 3], 8, 32)},
        json.dumps({"weight": WEIGHT, "bias": BIAS}).encode() + b" " * 5,
    ]:
        path.write_bytes(file_of(header, data))
        layer = pente.Linear.load(path)
        assert layer.weight[0, 1] - layer.weight[0, 0] == 1.0


DEEP = b'{"weight":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DATA = bytes(32)


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"", "0 bytes are too few"),
        (b"1234567", "7 bytes are too few"),
        (file_of({"weight": WEIGHT}, length=2**63), "longer than the format allows"),
        (file_of({"weight": WEIGHT}, length=100_000_001), "longer than the format allows"),
        (file_of({"weight": WEIGHT}, length=10_000), "ends within its header"),
        (file_of(b""), ""),
        (file_of(b"{"), ""),
        (file_of(b"\xff\xfe{}"), ""),
        (file_of('{"weight": 1}'.encode("utf-16")), ""),
        (file_of(b'[{"weight": 1}]'), "not a JSON object"),
        (file_of(b" {}"), "not a JSON object"),
        (file_of(b'{"weight": NaN}'), "NaN"),
        (file_of(b'{"weight": {"dtype": "F32", "dtype": "F64"}}'), "twice"),
        (file_of(b'{"weight": 1, "weight": 2}'), "twice"),
        (file_of(b'{"weight": ' + b"9" * 5000 + b"}"), ""),
        (file_of(DEEP), ""),
        (file_of({}), "no 'weight'"),
        (file_of({"weight": 3}), "weight must have a dtype"),
        (file_of({"weight": {}}), "weight must have a dtype"),
        (file_of({"weight": {**WEIGHT, "more": 1}}, DATA[:24]), "weight must have a dtype"),
        (file_of({"weight": entry("F16", [2, 3], 0, 12)}, DATA[:12]), "dtype 'F16'"),
        (file_of({"weight": entry(["F32"], [2, 3], 0, 24)}, DATA[:24]), "dtype"),
        (file_of({"weight": entry("F32", [2, 3], 0, 20)}, DATA[:20]), "takes 24 bytes"),
        (file_of({"weight": entry("F32", [2, 3], 24, 0)}, DATA[:24]), "takes 24 bytes"),
        (file_of({"weight": entry("F32", [2, 3], -24, 0)}, DATA[:24]), "data_offsets"),
        (file_of({"weight": entry("F32", [2, 3], 0.0, 24)}, DATA[:24]), "data_offsets"),
        (file_of({"weight": entry("F32", [2, 3], False, 24)}, DATA[:24]), "data_offsets"),
        (file_of({"weight": {**WEIGHT, "data_offsets": [0, 24, 24]}}, DATA[:24]), "data_offsets"),
        (file_of({"weight": {**WEIGHT, "data_offsets": 24}}, DATA[:24]), "data_offsets"),
        (file_of({"weight": entry("F32", [2, -3], 0, 24)}, DATA[:24]), "shape"),
        (file_of({"weight": entry("F32", [0, 3], 0, 0)}), "shape"),
        (file_of({"weight": entry("F32", "23", 0, 24)}, DATA[:24]), "shape"),
        (file_of({"weight": entry("F32", [2**40, 2**40], 0, 24)}, DATA[:24]), "takes"),
        (file_of({"weight": entry("F32", [6], 0, 24)}, DATA[:24]), "two dimensions"),
        (file_of({"weight": entry("F32", [1, 2, 3], 0, 24)}, DATA[:24]), "two dimensions"),
        (file_of({"weight": WEIGHT}, DATA[:23]), "24 bytes of data, but there are 23"),
        (file_of({"weight": WEIGHT}, DATA[:25]), "24 bytes of data, but there are 25"),
        (file_of({"weight": entry("F32", [2, 3], 8, 32)}, DATA), "begins at byte 8"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [2], 16, 24)}, DATA[:24]), "begins at byte 16"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [2], 28, 36)}, bytes(36)), "begins at byte 28"),
        (file_of({"weight": WEIGHT, "scale": BIAS}, DATA), "'scale' is no parameter"),
        (file_of({"bias": entry("F32", [2], 0, 8)}, DATA[:8]), "no 'weight'"),
        (file_of({"weight": WEIGHT, "bias": entry("F64", [2], 24, 40)}, bytes(40)), "bias is F64"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [3], 24, 36)}, bytes(36)), "bias has shape"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [1, 2], 24, 32)}, DATA), "bias has shape"),
    ],
)
def test_a_malformed_file_is_refused(path, contents, message):
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"(?s)layer.safetensors holds no linear layer: .*{message}"):
        pente.Linear.load(path)


def test_a_damaged_file_is_a_layer_or_a_value_error(path):
    pente.Linear(3, 2, seed=0).save(path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    generator = random.Random(0)
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(header)] = generator.randrange(256)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            pente.Linear.load(path)
        except ValueError:
            pass


class TestSafetensors:
    """The format's own reader and writer."""

    @pytest.fixture(autouse=True)
    def packages(self):
        self.np = pytest.importorskip("numpy")
        self.safetensors = pytest.importorskip("safetensors.numpy")

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(3, 2), (1, 1), (64, 10)])
    def test_both_ways(self, path, dtype, bias, shape):
        layer = pente.Linear(*shape, bias=bias, dtype=dtype)
        layer.save(path)
        read = self.safetensors.load_file(path)
        assert {name: value.tobytes() for name, value in read.items()} == snapshot(layer)
        assert read["weight"].shape == shape[::-1]
        ours = path.read_bytes()
        self.safetensors.save_file(read, path)
        assert path.read_bytes() == ours
        assert snapshot(pente.Linear.load(path)) == snapshot(layer)

    def test_what_it_refuses_is_refused(self, path):
        """On damaged files, ours is at least as strict."""
        pente.Linear(3, 2, seed=0).save(path)
        whole = path.read_bytes()
        generator = random.Random(1)
        for _ in range(2000):
            damaged = bytearray(whole)
            damaged[generator.randrange(len(damaged) - 32)] = generator.randrange(32, 127)
            path.write_bytes(damaged)
            try:
                pente.Linear.load(path)
            except ValueError:
                continue
            self.safetensors.load(bytes(damaged))
