"""Layers in safetensors files, written here and read by others, and the reverse."""

import errno
import json
import os
import pathlib
import random
import stat
import struct
import threading
import time

import pente
import pytest
from support import DTYPES, Affine, network, randoms, run_python, snapshot, square


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


def layers(dtype):
    """One of each kind that a file can hold, and chains of them."""
    linear, scaler = pente.Linear(3, 2, dtype=dtype), pente.Scaler(3, dtype).fit(randoms(5, 3, dtype))
    kinds = [pente.ReLU, pente.Tanh, pente.Sigmoid, pente.Softplus]
    activations = [*(kind(dtype) for kind in kinds), pente.LeakyReLU(0.1, dtype)]
    inner = pente.Chain(linear, *activations, pente.Linear(2, 4, bias=False, dtype=dtype))
    return [linear, scaler, *activations, inner, pente.Chain(scaler, inner, activations[0], activations[0])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", range(9))
def test_every_kind_comes_back(path, dtype, index):
    layer = layers(dtype)[index]
    layer.save(path)
    for loaded in (pente.Layer.load(path), type(layer).load(path)):
        assert type(loaded) is type(layer) and repr(loaded) == repr(layer)
        assert snapshot(loaded) == snapshot(layer)
        x = randoms(4, 3, dtype, seed=1)
        assert bytes(loaded.predict(x)) == bytes(layer.predict(x))
    other = layers(dtype)[index]
    other.load_parameters(path)
    assert snapshot(other) == snapshot(layer)


def test_another_kind_is_refused(path):
    pente.Chain(pente.Linear(3, 2), pente.ReLU()).save(path)
    with pytest.raises(ValueError, match="layer.safetensors holds a Chain, but a Linear is wanted"):
        pente.Linear.load(path)
    with pytest.raises(ValueError, match="holds a Chain, but a Affine is wanted"):
        Affine.load(path)
    pente.Sigmoid().save(path)
    for kind in (pente.ReLU, pente.Tanh, pente.Chain, pente.Scaler, pente.CustomLayer):
        with pytest.raises(ValueError, match="holds a Sigmoid"):
            kind.load(path)


def test_a_loaded_chain_has_layers_of_its_own(path):
    chain = network("float64")
    chain.save(path)
    loaded = pente.Chain.load(path)
    assert [type(layer) for layer in loaded] == [pente.Linear, pente.Tanh, pente.Linear]
    assert loaded[0] is loaded[0]
    loaded[2].weight[0, 0] = 5.0
    assert loaded.parameters["2.weight"][0, 0] == 5.0 and chain[2].weight[0, 0] != 5.0
    trainer = pente.Trainer(loaded, pente.SGD(list(loaded)[::2], lr=0.1), pente.MSELoss())
    trainer.step(randoms(4, 5), randoms(4, 2))
    kept = loaded[0]
    del loaded, trainer
    assert kept.predict(randoms(4, 5)).shape == (4, 4)


def test_a_layer_of_ones_own_is_in_no_file(path):
    linear = pente.Linear(3, 2, dtype="float64", seed=0)
    for layer in (Affine(linear), pente.Chain(Affine(linear), square())):
        layer.save(path)
        with pytest.raises(ValueError):
            pente.Layer.load(path)
        before = snapshot(layer)
        next(iter(layer.parameters.values()))[0, 0] = 5.0
        layer.load_parameters(path)
        assert snapshot(layer) == before


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
def test_paths_of_every_kind(path, kind):
    pente.Linear(3, 2).save(kind(path))
    pente.Linear.load(kind(path))
    pente.Linear(3, 2).load_parameters(kind(path))
    odd = path.with_name("größe 1\n.safetensors")
    pente.Linear(3, 2).save(path=kind(odd))
    pente.Linear.load(path=kind(odd))


def test_a_file_is_written_whole_or_not_at_all(path):
    """Where there is no room, the old file stays, and nothing else."""
    run_python(
        f"""
        import os, resource, signal
        import pente
        directory, path = {str(path.parent)!r}, {str(path)!r}
        pente.Linear(3, 2, seed=1).save(path)
        before = open(path, "rb").read()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            pente.Linear(30, 20, seed=2).save(path)
        except OSError as error:
            assert error.filename == path and error.errno and error.strerror, repr(error)
        else:
            raise AssertionError("saved")
        assert open(path, "rb").read() == before
        assert os.listdir(directory) == [os.path.basename(path)], os.listdir(directory)
        """
    )


def test_writers_at_the_same_time_leave_a_whole_file(path):
    several = [pente.Linear(300, 200, seed=seed) for seed in range(4)]
    whole = [snapshot(layer) for layer in several]
    several[0].save(path)
    stop, found = threading.Event(), []

    def read():
        while not stop.is_set():
            found.append(snapshot(pente.Linear.load(path)))

    def write(layer):
        for _ in range(20):
            layer.save(path)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(layer,)) for layer in several]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert found and all(state in whole for state in found)
    assert os.listdir(path.parent) == [path.name]


def test_a_new_file_has_the_usual_rights(path):
    pente.Linear(3, 2).save(path)
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)


def test_the_systems_errors_come_out_as_themselves(tmp_path):
    missing = tmp_path / "none"
    for call in (
        lambda: pente.Linear.load(missing),
        lambda: pente.Linear(3, 2).load_parameters(missing),
        lambda: pente.Linear(3, 2).save(missing / "layer"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert caught.value.errno == errno.ENOENT and caught.value.strerror == os.strerror(errno.ENOENT)
        assert caught.value.filename.startswith(str(missing))
    with pytest.raises(FileNotFoundError) as caught:
        pente.Layer.load(os.fsencode(missing))
    assert caught.value.filename == os.fsencode(missing)
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").touch()
        pente.Linear.load(tmp_path / "file" / "layer")
    (tmp_path / "file").unlink()
    with pytest.raises(IsADirectoryError):
        pente.Linear(3, 2).save(tmp_path)
    with pytest.raises(IsADirectoryError):
        pente.Linear.load(tmp_path)
    assert os.listdir(tmp_path) == []


def test_arguments_are_refused(path):
    layer = pente.Linear(3, 2)
    for call in (layer.save, layer.load_parameters, pente.Linear.load):
        for stranger in (3.5, None, ["x"]):
            with pytest.raises(TypeError):
                call(stranger)
        with pytest.raises(ValueError, match="null"):
            call(f"{path}\0")
        with pytest.raises(TypeError):
            call()
        with pytest.raises(TypeError, match="mode"):
            call(path, mode="w")
    assert not path.exists()


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
TENSORS = [json.dumps(entry("F32", [1, 1], begin, begin + 4)).encode() for begin in (0, 4)]


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"", "0 bytes, too few"),
        (b"1234567", "7 bytes, too few"),
        (file_of({"weight": WEIGHT}, length=2**63), "longer than the file"),
        (file_of({"weight": WEIGHT}, length=100_000_001), "longer than the file"),
        (file_of({"weight": WEIGHT}, length=10_000), "longer than the file"),
        (file_of(b""), "empty"),
        (file_of(b"{"), "byte 1 of its JSON"),
        (file_of(b"\xff\xfe{}"), "not begin with an object"),
        (file_of('{"weight": 1}'.encode("utf-16")), "not begin with an object"),
        (file_of(b'[{"weight": 1}]'), "not begin with an object"),
        (file_of(b" {}"), "not begin with an object"),
        (file_of(b'{"weight": NaN}'), "byte 11 of its JSON"),
        (file_of(b'{"weight": {"dtype": "F32", "dtype": "F64"}}'), "dtype, twice"),
        (file_of(b'{"weight": 1, "weight": 2}'), "an object was expected"),
        (file_of(b'{"weight": ' + TENSORS[0] + b', "weight": ' + TENSORS[1] + b"}", DATA[:8]), "weight twice"),
        (file_of(b'{"weight": ' + b"9" * 5000 + b"}"), "byte 11 of its JSON"),
        (file_of(DEEP), "byte 10 of its JSON"),
        (file_of({}), "no weight"),
        (file_of({"weight": 3}), "an object was expected"),
        (file_of({"weight": {}}), "weight lacks its dtype"),
        (file_of({"weight": {**WEIGHT, "more": 1}}, DATA[:24]), "weight has the entry more"),
        (file_of({"weight": entry("F16", [2, 3], 0, 12)}, DATA[:12]), "dtype F16"),
        (file_of({"weight": entry(["F32"], [2, 3], 0, 24)}, DATA[:24]), "a string was expected"),
        (file_of({"weight": entry("F32", [2, 3], 0, 20)}, DATA[:20]), "0 and 20, which do not fit its shape"),
        (file_of({"weight": entry("F32", [2, 3], 24, 0)}, DATA[:24]), "24 and 0, which do not fit its shape"),
        (file_of({"weight": entry("F32", [2, 3], -24, 0)}, DATA[:24]), "a whole number was expected"),
        (file_of({"weight": entry("F32", [2, 3], 0.0, 24)}, DATA[:24]), "JSON"),
        (file_of({"weight": entry("F32", [2, 3], False, 24)}, DATA[:24]), "a whole number was expected"),
        (file_of({"weight": {**WEIGHT, "data_offsets": [0, 24, 24]}}, DATA[:24]), "data_offsets are not two"),
        (file_of({"weight": {**WEIGHT, "data_offsets": 24}}, DATA[:24]), "an array was expected"),
        (file_of({"weight": entry("F32", [2, -3], 0, 24)}, DATA[:24]), "a whole number was expected"),
        (file_of({"weight": entry("F32", [0, 3], 0, 0)}), "at least 1"),
        (file_of({"weight": entry("F32", "23", 0, 24)}, DATA[:24]), "an array was expected"),
        (file_of({"weight": entry("F32", [2**40, 2**40], 0, 24)}, DATA[:24]), "too large a shape"),
        (file_of({"weight": entry("F32", [6], 0, 24)}, DATA[:24]), "two dimensions"),
        (file_of({"weight": entry("F32", [1, 2, 3], 0, 24)}, DATA[:24]), "two dimensions"),
        (file_of({"weight": WEIGHT}, DATA[:23]), "24 bytes of data, but there are 23"),
        (file_of({"weight": WEIGHT}, DATA[:25]), "24 bytes of data, but there are 25"),
        (file_of({"weight": entry("F32", [2, 3], 8, 32)}, DATA), "begins at byte 8"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [2], 16, 24)}, DATA[:24]), "begins at byte 16"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [2], 28, 36)}, bytes(36)), "begins at byte 28"),
        (file_of({"weight": WEIGHT, "scale": BIAS}, DATA), "scale"),
        (file_of({"bias": entry("F32", [2], 0, 8)}, DATA[:8]), "no weight"),
        (file_of({"weight": WEIGHT, "bias": entry("F64", [2], 24, 40)}, bytes(40)), "bias"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [3], 24, 36)}, bytes(36)), "bias .* 1×3"),
        (file_of({"weight": WEIGHT, "bias": entry("F32", [1, 2], 24, 32)}, DATA), "bias has 2 dimensions"),
    ],
)
def test_a_malformed_file_is_refused(path, contents, message):
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"(?s)layer.safetensors: .*{message}"):
        pente.Linear.load(path)
    layer = pente.Linear(3, 2, seed=0)
    before = snapshot(layer)
    with pytest.raises(ValueError):
        layer.load_parameters(path)
    assert snapshot(layer) == before


def scalers(count, depth=1):
    """A file of a chain of so many scalers, in so many chains around it."""
    leaves = ",".join(['{"type":"scaler","features":1}'] * count)
    layer = '{"type":"chain","layers":[' * depth + leaves + "]}" * depth
    header = {"__metadata__": {"pente": '{"dtype":"float32","layer":' + layer + "}"}}
    for i in range(2 * count):
        name = "0." * (depth - 1) + f"{i // 2}.{('mean', 'scale')[i % 2]}"
        header[name] = entry("F32", [1], 4 * i, 4 * i + 4)
    return file_of(header, bytes(8 * count))


def seconds_to_load(path, count):
    path.write_bytes(scalers(count))
    start = time.process_time()
    assert len(pente.Chain.load(path)) == count
    return time.process_time() - start


def test_four_times_the_layers_take_about_four_times_as_long(path):
    assert seconds_to_load(path, 30_000) < 10 * seconds_to_load(path, 7_500)


def test_chains_have_half_a_million_names_at_most(path):
    path.write_bytes(scalers(8_064, 32))
    with pytest.raises(ValueError, match="500,000 names"):
        pente.Chain.load(path)


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
        self.safetensors.save_file(read, path)
        assert snapshot(pente.Linear.load(path)) == snapshot(layer)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_chains_both_ways(self, path, dtype):
        chain = layers(dtype)[-1]
        chain.save(path, pente.SGD(chain, lr=0.1, momentum=0.9))
        read = self.safetensors.load_file(path)
        assert {name: read[name].tobytes() for name in chain.parameters} == snapshot(chain)
        assert all(read[name].shape == value.shape for name, value in chain.parameters.items())
        self.safetensors.save_file({name: read[name] + 1 for name in chain.parameters}, path)
        chain.load_parameters(path)
        for name, value in chain.state_dict().items():
            assert (self.np.asarray(value) == read[name] + 1).all()

    def test_the_metadata_tell_how_it_is_built(self, path):
        safetensors = pytest.importorskip("safetensors")
        network().save(path)
        with safetensors.safe_open(path, "np") as file:
            assert file.metadata().keys() >= {"pente"}
            assert sorted(file.keys()) == ["0.bias", "0.weight", "2.bias", "2.weight"]

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


class TestTorch:
    """A Chain and the same nn.Sequential, through a file."""

    @pytest.fixture(autouse=True)
    def packages(self):
        self.torch = pytest.importorskip("torch")
        self.safetensors = pytest.importorskip("safetensors.torch")

    def pair(self, dtype):
        nn, kind = self.torch.nn, getattr(self.torch, dtype)
        inner = nn.Sequential(nn.Linear(4, 3, bias=False, dtype=kind), nn.ReLU())
        theirs = nn.Sequential(nn.Linear(5, 4, dtype=kind), nn.Softplus(), inner)
        inner = pente.Chain(pente.Linear(4, 3, bias=False, dtype=dtype), pente.ReLU(dtype))
        return pente.Chain(pente.Linear(5, 4, dtype=dtype), pente.Softplus(dtype), inner), theirs

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_both_ways(self, path, dtype):
        ours, theirs = self.pair(dtype)
        ours.save(path)
        theirs.load_state_dict(self.safetensors.load_file(path), strict=True)
        assert snapshot(ours) == {name: value.numpy().tobytes() for name, value in theirs.state_dict().items()}
        _, theirs = self.pair(dtype)
        self.safetensors.save_file(theirs.state_dict(), path)
        ours.load_parameters(path)
        assert snapshot(ours) == {name: value.numpy().tobytes() for name, value in theirs.state_dict().items()}

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_linear_layer(self, path, dtype):
        theirs = self.torch.nn.Linear(3, 2, dtype=getattr(self.torch, dtype))
        self.safetensors.save_model(theirs, path)
        ours = pente.Layer.load(path)
        assert isinstance(ours, pente.Linear)
        assert snapshot(ours) == {name: value.numpy().tobytes() for name, value in theirs.state_dict().items()}
