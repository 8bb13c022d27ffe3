"""The cache file of packed weights: when it is used again, what damage is found, other processes, folders and disks in its way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypervl_engine import _core, checkpoint
from hypervl_engine.checkpoint import cache_folder, open_checkpoint
from hypervl_engine.errors import CheckpointError
from hypervl_engine.tensors import expected_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_checkpoint import NORM, cache_file, edit, packed, same_weights, write_tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source, tmp_path / "tiny")
    return tmp_path / "tiny"


def test_small_checkpoints_need_no_cache(source: Path, tmp_path: Path) -> None:
    store = open_checkpoint(source).open_weights(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert set(store.names()) == set(expected_tensors(open_checkpoint(source).parsed_config))


def test_the_cache_is_used_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(source, tmp_path / "cache")
    monkeypatch.setattr(_core, "WeightPacker", None)
    second = packed(source, tmp_path / "cache")
    assert same_weights(first, second)
    assert json.loads(second.config_json) == open_checkpoint(source).config


@pytest.mark.parametrize("extra", [0, 1, 1023])
def test_a_large_cache_file_is_mapped_where_huge_pages_fit(tmp_path: Path, extra: int) -> None:
    values = np.arange((5 << 18) + extra, dtype=np.float32)
    path = tmp_path / "x.hvlpack"
    packer = _core.WeightPacker(str(path), "of a test", "{}")
    packer.plan_array("values", "F32", values.shape)
    packer.begin()
    packer.write_array("values", values)
    packer.finish()
    del packer
    store = _core.WeightStore.open(str(path), "of a test")
    np.testing.assert_array_equal(store.array("values"), values)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    begin, end = (int(x, 16) for x in mapped[0][0].split("-"))
    assert len(mapped) == 1
    assert begin % (2 << 20) == 0
    assert end - begin == -(-path.stat().st_size // os.sysconf("SC_PAGESIZE")) * os.sysconf("SC_PAGESIZE")


def _mapped(path: Path) -> int:
    """Bytes of a file that this process has mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    return sum(int(end, 16) - int(begin, 16) for begin, end in (line[0].split("-") for line in lines))


@pytest.mark.parametrize("prefix", ["text.", "text.b", "vision", "nothing", ""])
def test_private_copies_are_the_same(tmp_path: Path, prefix: str) -> None:
    """Huge pages within a stretch of tensors are copied, and what lies at its ends stays."""
    sizes = {"vision": 5 << 20, "text.a": 3 << 20, "text.b": (5 << 20) + 77, "text.c": 900, "text.d": 70 << 20, "last": 100}
    arrays = {name: np.random.default_rng(size).integers(-128, 128, size, np.int8) for name, size in sizes.items()}
    path = tmp_path / "x.hvlpack"
    packer = _core.WeightPacker(str(path), "of a test", "{}")
    for name, values in arrays.items():
        packer.plan_array(name, "I8", values.shape)
    packer.begin()
    for name, values in arrays.items():
        packer.write_array(name, values)
    packer.finish()
    del packer
    store = _core.WeightStore.open(str(path), "of a test")
    whole = _mapped(path)
    store.make_private([prefix])
    copied = sum(values.size for name, values in arrays.items() if name.startswith(prefix))
    gone = whole - _mapped(path)
    assert gone % (2 << 20) == 0
    assert max(copied - (4 << 20), 0) <= gone <= copied
    for name, values in arrays.items():
        np.testing.assert_array_equal(store.array(name), values)
    again = _core.WeightStore.open(str(path), "of a test")
    np.testing.assert_array_equal(again.array("text.d"), arrays["text.d"])


def test_private_copies_are_made_while_weights_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-128, 128, 200 << 20, np.int8)
    path = tmp_path / "x.hvlpack"
    packer = _core.WeightPacker(str(path), "of a test", "{}")
    packer.plan_array("values", "I8", values.shape)
    packer.begin()
    packer.write_array("values", values)
    packer.finish()
    del packer
    store = _core.WeightStore.open(str(path), "of a test")
    whole = _mapped(path)
    store.make_private_later(["values"])
    reads = 0
    while reads < 3 or (_mapped(path) > 4 << 20 and reads < 200):
        np.testing.assert_array_equal(store.array("values"), values)
        reads += 1
    assert _mapped(path) <= 4 << 20 < whole


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
