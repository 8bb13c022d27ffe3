"""Our safetensors reader and writer against the reference package, and against files that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFile, SafetensorsFolder, SafetensorsWriter, header_bytes, widen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": offsets}


EIGHT = b"\0" * 8
LIES = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "header longer than the file": raw({}, length=1 << 20),
    "header of 2^63 bytes": raw({}, length=1 << 63),
    "empty header": raw(b""),
    "not JSON": raw(b"{]"),
    "not UTF-8": raw(b'{"\xff": 1}'),
    "a list": raw([]),
    "deep": raw(b"[" * 50_000),
    "tensor is a number": raw({"a": 1}),
    "no dtype": raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT),
    "unknown dtype": raw({"a": entry("F31")}, EIGHT),
    "dtype is a list": raw({"a": entry([])}, EIGHT),
    "negative side": raw({"a": entry(shape=[-2])}, EIGHT),
    "side is a float": raw({"a": entry(shape=[2.0])}, EIGHT),
    "side is true": raw({"a": entry(shape=[True])}, EIGHT),
    "huge side": raw({"a": entry(shape=[1 << 62, 1 << 62])}, EIGHT),
    "offsets out of range": raw({"a": entry(shape=[4], offsets=[0, 16])}, EIGHT),
    "offsets backwards": raw({"a": entry(offsets=[8, 0])}, EIGHT),
    "offsets negative": raw({"a": entry(offsets=[-8, 0])}, EIGHT),
    "three offsets": raw({"a": entry(offsets=[0, 4, 8])}, EIGHT),
    "size differs": raw({"a": entry(shape=[3])}, EIGHT),
    "overlap": raw({"a": entry(), "b": entry()}, EIGHT),
    "partial overlap": raw({"a": entry(), "b": entry(offsets=[4, 12])}, EIGHT * 2),
    "gap": raw({"a": entry(), "b": entry(offsets=[16, 24])}, EIGHT * 3),
    "bytes left over": raw({"a": entry()}, EIGHT + b"x"),
    "key twice": raw(b'{"a":%b,"a":%b}' % (2 * (json.dumps(entry()).encode(),)), EIGHT),
    "metadata of numbers": raw({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_headers(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LIES[lie])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        SafetensorsFile(path)


TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(5, dtype=np.float16),
    "c": np.array(7, np.int64),
    "d": np.arange(3, dtype=np.int8),
    "e": np.zeros((0, 4), np.float32),
    "f": np.array([0x3F80, 0xC000], np.uint16),
}
DTYPES = {"a": "F32", "b": "F16", "c": "I64", "d": "I8", "e": "F32", "f": "BF16"}


def write(path: Path) -> None:
    with SafetensorsWriter(path, {n: (DTYPES[n], v.shape) for n, v in TENSORS.items()}) as writer:
        for name in reversed(TENSORS):
            writer.write(name, TENSORS[name])


def test_the_reference_package_reads_what_we_write(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    write(tmp_path / "x.safetensors")
    loaded = load_file(str(tmp_path / "x.safetensors"))
    assert set(loaded) == set(TENSORS)
    for name, values in TENSORS.items():
        if name == "f":
            assert loaded[name].dtype == torch.bfloat16
            assert loaded[name].tolist() == [1.0, -2.0]
        else:
            np.testing.assert_array_equal(loaded[name].numpy(), values)


def test_we_read_what_the_reference_package_writes(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = {"w": torch.randn(3, 5), "h": torch.randn(7).bfloat16(), "s": torch.tensor(2.5)}
    save_file(values, str(tmp_path / "x.safetensors"), metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.metadata == {"format": "pt"}
    np.testing.assert_array_equal(file.array("w"), values["w"].numpy())
    np.testing.assert_array_equal(widen(file.array("h"), "BF16"), values["h"].float().numpy())
    assert file.array("s").shape == ()
    assert not file.array("w").flags.writeable


def test_round_trip_and_release(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    for _ in range(2):
        for name, values in TENSORS.items():
            np.testing.assert_array_equal(file.array(name), values)
        file.release()


def test_writer_wants_every_tensor_as_announced(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="not written: a"),
        SafetensorsWriter(tmp_path / "x.safetensors", {"a": ("F32", (2,))}),
    ):
        pass
    with SafetensorsWriter(tmp_path / "y.safetensors", {"a": ("F32", (2,))}) as writer:
        with pytest.raises(ValueError, match="expected F32"):
            writer.write("a", np.zeros(3, np.float32))
        writer.write_rows("a", 1, np.array([5], np.float32), last=True)
        writer.write_rows("a", 0, np.array([4], np.float32))
    assert SafetensorsFile(tmp_path / "y.safetensors").array("a").tolist() == [4.0, 5.0]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 1 << 20), value=st.integers(0, 255), cut=st.integers(0, 1 << 20), how=st.booleans())
def test_damage_never_gets_past_the_header(tmp_path: Path, position: int, value: int, cut: int, how: bool) -> None:
    path = tmp_path / "x.safetensors"
    path.unlink(missing_ok=True)
    write(path)
    data = bytearray(path.read_bytes())
    if how:
        data[position % len(data)] = value
    else:
        data = data[: cut % len(data)]
    path.write_bytes(data)
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return
    for name, info in file.tensors.items():
        assert file.array(name).shape == info.shape


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="shorter"):
        file.array("a")


def test_header_bytes(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors")
    assert json.loads(header_bytes(tmp_path / "x.safetensors"))["c"]["dtype"] == "I64"


def shards(folder: Path, weight_map: Any) -> None:
    for i, name in enumerate(("a", "b")):
        with SafetensorsWriter(folder / f"s{i}.safetensors", {name: ("F32", (1,))}) as writer:
            writer.write(name, np.array([i], np.float32))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "s0.safetensors", "b": "s1.safetensors"})
    folder = SafetensorsFolder(tmp_path)
    assert sorted(folder) == ["a", "b"]
    assert folder.floats("b").tolist() == [1.0]


@pytest.mark.parametrize(
    "weight_map",
    [
        [],
        {"a": 1},
        {"a": "../s0.safetensors"},
        {"a": "/etc/passwd"},
        {"a": "s9.safetensors"},
        {"a": "s0.safetensors", "c": "s1.safetensors"},
        {"a": "s1.safetensors", "b": "s0.safetensors"},
        {"a": ".."},
        {"a": "s0\0.safetensors"},
    ],
)
def test_lying_indexes(tmp_path: Path, weight_map: Any) -> None:
    shards(tmp_path, weight_map)
    with pytest.raises(CheckpointError, match="index"):
        SafetensorsFolder(tmp_path)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "s0.safetensors", "b": "s1.safetensors"})
    (tmp_path / "s1.safetensors").unlink()
    with SafetensorsWriter(tmp_path / "s1.safetensors", {"a": ("F32", (1,)), "b": ("F32", (1,))}) as writer:
        for name in ("a", "b"):
            writer.write(name, np.zeros(1, np.float32))
    with pytest.raises(CheckpointError, match="already"):
        SafetensorsFolder(tmp_path)


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        SafetensorsFolder(tmp_path)


def test_integers_are_not_floats(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'c'.*I64"):
        SafetensorsFolder(tmp_path).floats("c")


def test_bfloat16_widening_is_exact() -> None:
    import torch

    bits = np.arange(65536, dtype=np.uint16)
    ours = widen(bits, "BF16")
    theirs = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))
