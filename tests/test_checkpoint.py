"""Loading a packed checkpoint: what is checked, and the cache file's promises."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _core, checkpoint
from hypervl_engine.checkpoint import cache_folder, open_checkpoint
from hypervl_engine.convert import convert_random
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFile, SafetensorsWriter
from hypervl_engine.tensors import expected_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Q_PROJ = "model.language_model.layers.0.self_attn.q_proj.weight"
NORM = "model.language_model.norm.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    convert_random("tiny", folder, layers=1, progress=False)
    return folder


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source, tmp_path / "tiny")
    return tmp_path / "tiny"


def edit(folder: Path, change: Callable[[dict[str, tuple[str, np.ndarray[Any, Any]]]], None]) -> None:
    """Rewrite model.safetensors with `change` applied to {name: (dtype, values)}."""
    path = folder / "model.safetensors"
    file = SafetensorsFile(path)
    tensors = {name: (info.dtype, file.array(name).copy()) for name, info in file.tensors.items()}
    change(tensors)
    path.unlink()
    with SafetensorsWriter(path, {name: (dtype, values.shape) for name, (dtype, values) in tensors.items()}) as writer:
        for name, (_, values) in tensors.items():
            writer.write(name, values)


def same_weights(a: _core.WeightStore, b: _core.WeightStore) -> bool:
    def read(store: _core.WeightStore, name: str) -> np.ndarray[Any, Any]:
        return store.dequantize(name) if store.info(name)["dtype"] == "linear" else store.array(name)

    return a.names() == b.names() and all(np.array_equal(read(a, n), read(b, n)) for n in a.names())


def packed(folder: Path, cache: Path, verify: bool = False) -> _core.WeightStore:
    return open_checkpoint(folder).open_weights(cache_dir=cache, min_cache_bytes=0, progress=False, verify=verify)


def cache_file(cache: Path) -> Path:
    (path,) = cache.glob("*.hvlpack")
    return path


def test_small_checkpoints_need_no_cache(source: Path, tmp_path: Path) -> None:
    store = open_checkpoint(source).open_weights(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert set(store.names()) == set(expected_tensors(open_checkpoint(source).parsed_config))


def test_packed_weights_are_the_files(source: Path, tmp_path: Path) -> None:
    store = packed(source, tmp_path / "cache")
    file = SafetensorsFile(source / "model.safetensors")
    nibbles = file.array(Q_PROJ + "_packed").view(np.uint8)
    q = np.stack([nibbles & 15, nibbles >> 4], -1).reshape(nibbles.shape[0], -1).astype(np.float32) - 8
    scales = file.array(Q_PROJ + "_scale")
    expected = (q.reshape(*scales.shape, -1) * scales[:, :, None]).reshape(q.shape)
    np.testing.assert_array_equal(store.dequantize(Q_PROJ), expected)
    np.testing.assert_array_equal(store.array(NORM), file.array(NORM))
    assert store.info(Q_PROJ)["scale_bits"] == 16


def test_the_cache_is_used_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(source, tmp_path / "cache")
    monkeypatch.setattr(_core, "WeightPacker", None)
    second = packed(source, tmp_path / "cache")
    assert same_weights(first, second)
    assert json.loads(second.config_json) == open_checkpoint(source).config


def test_a_changed_checkpoint_replaces_its_cache(copy: Path, tmp_path: Path) -> None:
    old = packed(copy, tmp_path / "cache")
    before = old.array(NORM)
    edit(copy, lambda tensors: tensors.update({NORM: ("F32", tensors[NORM][1] + 1)}))
    new = packed(copy, tmp_path / "cache")
    np.testing.assert_array_equal(new.array(NORM), before + 1)
    np.testing.assert_array_equal(old.array(NORM), before)  # the old file lives on under whoever maps it
    assert len(list((tmp_path / "cache").glob("*.hvlpack"))) == 1


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVL_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(tmp_path) == tmp_path
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("HVL_CACHE_DIR")
    assert cache_folder() == tmp_path / "xdg" / "hypervl_engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/hypervl_engine").expanduser()


def test_a_cache_file_is_verified_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After packing, when the system has started anew, and when asked; else the identity of what was verified will do."""
    known: list[str] = []
    open_store = _core.WeightStore.open

    def recorded(path: str, fingerprint: str, identity: str) -> _core.WeightStore:
        known.append(identity)
        return open_store(path, fingerprint, identity)

    monkeypatch.setattr(_core, "WeightStore", SimpleNamespace(open=recorded))
    first = packed(source, tmp_path)
    known.clear()
    second = packed(source, tmp_path)
    third = packed(source, tmp_path)
    assert known == ["", second.identity]
    assert first.identity == ""
    assert second.identity == third.identity
    assert same_weights(first, third)
    packed(source, tmp_path, verify=True)
    monkeypatch.setattr(checkpoint, "_boot", lambda: "another")
    packed(source, tmp_path)
    monkeypatch.setattr(checkpoint, "_boot", lambda: "")  # cannot be known: never trusted
    packed(source, tmp_path)
    packed(source, tmp_path)
    assert known[2:] == ["", "", "", ""]


@pytest.mark.parametrize("how", ["written", "times put back", "replaced", "cut short", "stretched"])
def test_damage_after_verifying_is_found(source: Path, tmp_path: Path, how: str) -> None:
    good = packed(source, tmp_path / "good")  # another file: what is done to a mapped one in place shows in it
    for _ in range(2):
        packed(source, tmp_path)
    path = cache_file(tmp_path)
    assert (tmp_path / (path.name + ".checked")).is_file()
    data, times = bytearray(path.read_bytes()), path.stat()
    if how == "cut short":
        del data[-4096:]
    elif how == "stretched":
        data += bytes(4096)
    else:
        data[len(data) * 2 // 3] ^= 4
    if how == "replaced":
        (tmp_path / "other").write_bytes(data)
        os.replace(tmp_path / "other", path)
    else:
        with path.open("r+b") as file:  # the same inode
            file.write(data)
            file.truncate()
    if how in ("times put back", "replaced"):
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = packed(source, tmp_path)
    assert again.identity == "", "the damaged file was used"
    assert same_weights(good, again)


def test_what_only_verifying_finds(source: Path, tmp_path: Path) -> None:
    """A byte that changes without the file system knowing, here by a forged mark."""
    good = packed(source, tmp_path / "good")
    for _ in range(2):
        packed(source, tmp_path)
    path = cache_file(tmp_path)
    at = path.read_bytes().rfind(good.array(NORM).tobytes())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x01")
    identity = ".".join(str(n) for n in _identity(path))
    (tmp_path / (path.name + ".checked")).write_text(f"{checkpoint._boot()} {identity}\n")
    assert packed(source, tmp_path).identity == identity
    assert same_weights(packed(source, tmp_path, verify=True), good)


def _identity(path: Path) -> tuple[int, ...]:
    info = path.stat()
    times = (n for ns in (info.st_mtime_ns, info.st_ctime_ns) for n in divmod(ns, 10**9))
    return (info.st_dev, info.st_ino, info.st_size, *times)


@pytest.mark.parametrize("mark", ["a folder", b"", b"\xff\xfe", b"nonsense", b"too many words here"])
def test_an_unusable_mark_is_no_obstacle(source: Path, tmp_path: Path, mark: str | bytes) -> None:
    good = packed(source, tmp_path)
    path = tmp_path / (cache_file(tmp_path).name + ".checked")
    if isinstance(mark, str):
        path.mkdir()
    else:
        path.write_bytes(mark)
    for _ in range(2):
        assert same_weights(packed(source, tmp_path), good)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.fixture(scope="module")
def cached(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A good cache file's bytes and its fingerprint."""
    folder = tmp_path_factory.mktemp("cache")
    packed(source, folder)
    loader = checkpoint._Loader(open_checkpoint(source), progress=False)
    return cache_file(folder).read_bytes(), loader.fingerprint()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(cached: tuple[bytes, str], tmp_path: Path, data: st.DataObject) -> None:
    good, fingerprint = cached
    size = data.draw(st.sampled_from([72, 4096, len(good)]))  # header, table, anywhere
    position = data.draw(st.integers(0, size - 1))
    bad = bytearray(good)
    bad[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "x.hvlpack"
    path.write_bytes(bad)
    with pytest.raises(CheckpointError):
        _core.WeightStore.open(str(path), fingerprint)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 1 << 20), extra=st.booleans())
def test_another_length_is_found(cached: tuple[bytes, str], tmp_path: Path, size: int, extra: bool) -> None:
    good, fingerprint = cached
    path = tmp_path / "x.hvlpack"
    path.write_bytes(good + b"\0" * (1 + size % 8192) if extra else good[: size % len(good)])
    with pytest.raises(CheckpointError):
        _core.WeightStore.open(str(path), fingerprint)


def _forge(good: bytes, offset: int, value: bytes) -> bytes:
    """Changes the table or header and makes the checksums right again, as a careful liar would."""
    bad = bytearray(good)
    bad[offset : offset + len(value)] = value
    sizes = np.frombuffer(bad[24:56], np.uint64)
    meta = 72 + int(sizes[0]) * 64 + int(sizes[1:].sum())
    end = min(len(bad), (meta + 4095) // 4096 * 4096)

    def checksum(part: bytearray) -> bytes:
        return _core.hash64(np.frombuffer(bytes(part), np.uint8)).to_bytes(8, "little")

    bad[56:64] = checksum(bad[72:end])
    bad[64:72] = checksum(bad[:64])
    return bytes(bad)


FORGERIES = {
    "sections 2^60": (24, (1 << 60).to_bytes(8, "little")),
    "sections past the end": (24, (1 << 20).to_bytes(8, "little")),
    "names 2^63": (32, (1 << 63).to_bytes(8, "little")),
    "fingerprint longer": (40, (65).to_bytes(8, "little")),
    "config huge": (48, (1 << 40).to_bytes(8, "little")),
    "rows 0": (72 + 8, bytes(8)),
    "rows 2^63": (72 + 8, (1 << 63).to_bytes(8, "little")),
    "rows one more block": (72 + 8, (4096).to_bytes(8, "little")),
    "cols 2^40": (72 + 16, (1 << 40).to_bytes(8, "little")),
    "rank 3": (72 + 40, (3).to_bytes(4, "little")),
    "rank 2^31": (72 + 40, (1 << 31).to_bytes(4, "little")),
    "name too long": (72 + 44, (1 << 31).to_bytes(4, "little")),
    "dtype unknown": (72 + 48, b"XYZ\0"),
    "bits 5": (72 + 52, (5).to_bytes(2, "little")),
    "group 48": (72 + 54, (48).to_bytes(2, "little")),
    "group 0": (72 + 54, (0).to_bytes(2, "little")),
    "scale bits 8": (72 + 56, (8).to_bytes(2, "little")),
    "layout of another version": (12, (99).to_bytes(4, "little")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_tables_that_lie_with_right_checksums(cached: tuple[bytes, str], tmp_path: Path, forgery: str) -> None:
    good, fingerprint = cached
    path = tmp_path / "x.hvlpack"
    path.write_bytes(_forge(good, 0, good[:1]))
    assert _core.WeightStore.open(str(path), fingerprint).names()  # the forger's checksums are right
    path.write_bytes(_forge(good, *FORGERIES[forgery]))
    with pytest.raises(CheckpointError):
        _core.WeightStore.open(str(path), fingerprint)


def test_a_damaged_cache_is_rebuilt(source: Path, tmp_path: Path, cached: tuple[bytes, str]) -> None:
    first = packed(source, tmp_path)
    path = cache_file(tmp_path)
    for bad in (b"", b"HVLPAW01", cached[0][:-1], cached[0][:5000] + b"!" + cached[0][5001:]):
        path.unlink()
        path.write_bytes(bad)
        assert same_weights(packed(source, tmp_path), first)
        assert path.read_bytes() == cached[0]


def test_a_foreign_cache_is_rebuilt(source: Path, copy: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "a")
    edit(copy, lambda tensors: tensors.update({NORM: ("F32", tensors[NORM][1] + 1)}))
    expected = open_checkpoint(copy).open_weights()
    packed(copy, tmp_path / "b")
    os.replace(cache_file(tmp_path / "a"), cache_file(tmp_path / "b"))
    assert same_weights(packed(copy, tmp_path / "b"), expected)


def test_what_is_in_the_way_of_the_cache_is_not_followed(source: Path, tmp_path: Path) -> None:
    packed(source, tmp_path)
    path = cache_file(tmp_path)
    path.unlink()
    os.mkfifo(path)  # opening it for reading would wait for ever
    packed(source, tmp_path)
    assert path.is_file()


def test_leftovers_of_a_killed_packer_are_removed(source: Path, tmp_path: Path) -> None:
    packed(source, tmp_path)
    path = cache_file(tmp_path)
    path.unlink()
    leftover = tmp_path / f".{path.name}.0123.tmp"
    leftover.write_bytes(b"half")
    packed(source, tmp_path)
    assert not leftover.exists()


PACKER = """
import sys
from hypervl_engine import checkpoint
pack_file = checkpoint._Loader.pack_file
def counted(self, path, fingerprint):
    print("packing", flush=True)
    return pack_file(self, path, fingerprint)
checkpoint._Loader.pack_file = counted
store = checkpoint.open_checkpoint(sys.argv[1]).open_weights(cache_dir=sys.argv[2], min_cache_bytes=0, progress=False)
print(len(store.names()))
"""


def test_one_process_packs_and_the_others_wait(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PACKER, str(source), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum("packing" in output for output in outputs) == 1
    assert len({output.split()[-1] for output in outputs}) == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_threads_share(source: Path, tmp_path: Path) -> None:
    stores: list[_core.WeightStore] = []
    threads = [threading.Thread(target=lambda: stores.append(packed(source, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_weights(stores[0], store) for store in stores[1:])
    assert len(stores) == 4


@pytest.mark.parametrize("folder", ["/proc/hypervl", "/dev/null/hypervl"])
def test_no_writable_cache(source: Path, tmp_path: Path, folder: str) -> None:
    with pytest.warns(UserWarning, match="private memory"):
        store = packed(source, Path(folder))
    assert same_weights(store, packed(source, tmp_path))


def test_read_only_folder(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o555)
    mounted = os.geteuid() == 0  # permissions do not stop root, a read-only file system does
    if mounted:
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "hypervl-test", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("mounting a read-only file system is not permitted here")
    try:
        with pytest.warns(UserWarning, match="private memory"):
            packed(source, folder)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


FULL = """
import sys, resource
from hypervl_engine import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = checkpoint.open_checkpoint(sys.argv[1]).open_weights(cache_dir=sys.argv[2], min_cache_bytes=0, progress=False)
print(len(store.names()))
"""


def test_a_file_that_may_not_grow(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(source), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "private memory" in result.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_a_full_disk(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "hypervl-test", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        with pytest.warns(UserWarning, match="No space left"):
            store = packed(source, folder)
        assert not list(folder.glob(".*.tmp"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert same_weights(store, packed(source, tmp_path / "cache"))


# What the source says.


def test_missing_tensors_are_named(copy: Path) -> None:
    edit(copy, lambda tensors: [tensors.pop(name) for name in (NORM, Q_PROJ + "_scale")])
    with pytest.raises(CheckpointError, match=r"missing") as caught:
        open_checkpoint(copy).open_weights()
    assert NORM in str(caught.value)
    assert Q_PROJ + "_scale" in str(caught.value)


def test_extra_tensors_are_one_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(copy, lambda t: t.update({f"extra.{i}": ("F32", np.zeros(2, np.float32)) for i in range(9)}))
    with caplog.at_level(logging.WARNING, "hypervl_engine"):
        open_checkpoint(copy).open_weights()
    assert len(caplog.records) == 1
    assert "9 tensors are not used" in caplog.text


CHANGES: dict[str, tuple[str, str, Any]] = {
    "norm shape": (NORM, "F32", np.zeros(5, np.float32)),
    "norm dtype": (NORM, "I32", np.zeros(128, np.int32)),
    "norm NaN": (NORM, "F32", np.full(128, np.nan, np.float32)),
    "words shape": (Q_PROJ + "_packed", "I32", np.zeros((128, 15), np.int32)),
    "words dtype": (Q_PROJ + "_packed", "F32", np.zeros((128, 16), np.float32)),
    "scale shape": (Q_PROJ + "_scale", "F32", np.ones((128, 2), np.float32)),
    "scale NaN": (Q_PROJ + "_scale", "F32", np.full((128, 1), np.nan, np.float32)),
    "scale infinite": (Q_PROJ + "_scale", "F16", np.full((128, 1), np.inf, np.float16)),
    "scale negative": (Q_PROJ + "_scale", "F32", np.full((128, 1), -0.5, np.float32)),
    "scale integer": (Q_PROJ + "_scale", "I32", np.ones((128, 1), np.int32)),
    "shape differs": (Q_PROJ + "_shape", "I64", np.array([128, 127])),
    "shape shape": (Q_PROJ + "_shape", "I64", np.array([128])),
    "vrc dtype": ("model.vrc.fc1.weight", "F32", np.zeros((24, 50), np.float32)),
    "vrc scale": ("model.vrc.fc1.weight_scale", "F32", np.full(24, -1.0, np.float32)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wrong_tensors_are_named(copy: Path, change: str) -> None:
    name, dtype, values = CHANGES[change]
    edit(copy, lambda tensors: tensors.update({name: (dtype, values)}))
    with pytest.raises(CheckpointError, match=r"expected .*got ") as caught:
        open_checkpoint(copy).open_weights()
    assert name in str(caught.value)


@pytest.mark.parametrize(("dtype", "numpy_dtype", "bits"), [("F16", np.float16, 16), ("F32", np.float32, 32)])
def test_scales_of_any_float(copy: Path, dtype: str, numpy_dtype: Any, bits: int) -> None:
    values = (np.arange(128).reshape(128, 1) / 997 + 0.001).astype(numpy_dtype)
    edit(copy, lambda tensors: tensors.update({Q_PROJ + "_scale": (dtype, values)}))
    store = open_checkpoint(copy).open_weights()
    assert store.info(Q_PROJ)["scale_bits"] == bits
    ones = np.abs(store.dequantize(Q_PROJ)) / values.astype(np.float32)
    np.testing.assert_allclose(ones, np.rint(ones), atol=1e-4)


def test_bfloat16_scales_keep_their_value(copy: Path) -> None:
    values = np.full((128, 1), 0x3E2B, np.uint16)
    edit(copy, lambda tensors: tensors.update({Q_PROJ + "_scale": ("BF16", values)}))
    scale = np.array([0x3E2B0000], np.uint32).view(np.float32)[0]
    weights = open_checkpoint(copy).open_weights().dequantize(Q_PROJ)
    assert set(np.unique(weights)) <= {np.float32(q) * scale for q in range(-8, 8)}


def test_zero_points_are_compressed_tensors_zero_points(copy: Path) -> None:
    import torch
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_name

    config = json.loads((copy / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["weights"]["symmetric"] = False
    (copy / "config.json").write_text(json.dumps(config))
    linears = {n: s for n, s in expected_tensors(open_checkpoint(copy).parsed_config).items() if s.kind == "linear"}
    rng = np.random.default_rng(0)

    def add(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]]) -> None:
        for name, spec in linears.items():
            high = 1 << (spec.bits - 1)
            zero = rng.integers(-high, high, (spec.shape[0], spec.groups), np.int8)
            tensors[name + "_zero_point"] = ("I32", pack_to_int32(torch.from_numpy(zero), spec.bits, packed_dim=0).numpy())

    edit(copy, add)
    store = open_checkpoint(copy).open_weights()
    file = SafetensorsFile(copy / "model.safetensors")
    groups = QuantizationConfig(**config["quantization_config"]).config_groups.values()
    for name in linears:
        module = name.removesuffix(".weight")
        scheme = next(s for s in groups if any(match_name(module, t) for t in s.targets))
        parts = ("packed", "scale", "shape", "zero_point")
        stored = {f"weight_{part}": torch.from_numpy(file.array(f"{name}_{part}").copy()) for part in parts}
        theirs = PackedQuantizationCompressor.decompress(stored, scheme)["weight"].numpy()
        np.testing.assert_array_equal(store.dequantize(name), theirs)
        assert store.info(name)["zero_points"]
    edit(copy, lambda tensors: tensors.pop(Q_PROJ + "_zero_point") and None)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight_zero_point"):
        open_checkpoint(copy).open_weights()


def test_a_truncated_source(copy: Path, tmp_path: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        packed(copy, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.hvlpack"))


def test_missing_files(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_checkpoint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        open_checkpoint(tmp_path / "empty")
    (copy / "generation_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="generation_config"):
        open_checkpoint(copy)
    (copy / "generation_config.json").unlink()
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        packed(copy, tmp_path / "cache")


# The packer by itself.


def test_packer_wants_its_plan() -> None:
    packer = _core.WeightPacker(None, "", "{}")
    packer.plan_array("a", "F32", [2, 3])
    packer.plan_linear("w", 40, 64, 4, 32, 16)
    for bad in (lambda: packer.plan_array("a", "F32", [1]), lambda: packer.finish()):
        with pytest.raises(ValueError):
            bad()
    for shape, dtype in (([-1], "F32"), ([1 << 50, 1 << 50], "F32"), ([1], "C64"), ([1] * 5, "F32")):
        with pytest.raises(CheckpointError, match="bad"):
            packer.plan_array("bad", dtype, shape)
    for rows, cols, bits, group, scale in (
        (0, 64, 4, 32, 16),
        (8, 64, 3, 32, 16),
        (8, 64, 4, 48, 16),
        (8, 64, 4, 32, 8),
    ):
        with pytest.raises(CheckpointError, match="bad"):
            packer.plan_linear("bad", rows, cols, bits, group, scale)
    packer.begin()
    words, scales = np.zeros((40, 8), np.int32), np.ones((40, 2), np.float32)
    for bad_words, bad_scales in (
        (words[:39], scales[:39]),
        (words[:, :7].copy(), scales),
        (words, np.ones((40, 3), np.float32)),
        (words[:, ::2], scales),
        (words.astype(np.int64), scales),
        (words, scales.astype(np.float64)),
        (words.reshape(-1), scales),
        (words, np.full((40, 2), 1 / 3, np.float32)),
    ):
        with pytest.raises(ValueError):
            packer.write_linear("w", bad_words, bad_scales)
    with pytest.raises(ValueError, match="without zero points"):
        packer.write_linear("w", words, scales, np.zeros((40, 2), np.int8))
    packer.write_linear("w", words, scales)
    with pytest.raises(ValueError, match="already"):
        packer.write_linear("w", words, scales)
    with pytest.raises(ValueError, match="not planned"):
        packer.write_array("b", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="linear"):
        packer.write_array("w", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="not written"):
        packer.finish()
    with pytest.raises(ValueError):
        packer.write_array("a", np.zeros((3, 2), np.float32))
    packer.write_array("a", np.zeros((2, 3), np.float32))
    store = packer.finish()
    assert store.names() == ["a", "w"]
    with pytest.raises(CheckpointError, match="nothing"):
        store.info("nothing")


def test_an_unfinished_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.hvlpack"
    packer = _core.WeightPacker(str(path), "f", "{}")
    packer.plan_array("a", "I8", [3])
    packer.begin()
    packer.write_array("a", np.ones(3, np.int8))
    with pytest.raises(CheckpointError, match="never finished"):
        _core.WeightStore.open(str(path), "f")
    packer.finish()
    assert _core.WeightStore.open(str(path), "f").array("a").tolist() == [1, 1, 1]
    again = _core.WeightPacker(str(path), "f", "{}")
    again.plan_array("a", "I8", [3])
    with pytest.raises(FileExistsError):
        again.begin()


@settings(max_examples=100, deadline=None)
@given(size=st.integers(0, 5000), position=st.integers(0, 4999), bit=st.integers(0, 7), seed=st.integers(0, 99))
def test_hash_sees_every_bit(size: int, position: int, bit: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    before = _core.hash64(data)
    assert before != _core.hash64(np.append(data, np.uint8(0)))
    if size:
        data[position % size] ^= 1 << bit
        assert _core.hash64(data) != before


def test_hash_of_large_data_sees_order() -> None:
    data = np.random.default_rng(0).integers(0, 256, 9 << 20, dtype=np.uint8)
    swapped = np.concatenate([data[1 << 20 : 2 << 20], data[: 1 << 20], data[2 << 20 :]])
    assert len({_core.hash64(data), _core.hash64(swapped), _core.hash64(data[::-1].copy())}) == 3
