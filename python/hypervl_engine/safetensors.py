"""Reading and writing safetensors: memory-mapped, everything in the header checked before it is believed.

Our own reader because numpy has no bfloat16, which real checkpoints are stored in: BF16 comes as uint16, and `widen`
makes float32 of it.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervl_engine.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the format's own cap
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("u1"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. `begin` and `end` are offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def widen(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """F32, F16 or BF16 (as uint16) to float32, exactly. ValueError for another dtype."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in ("F32", "F16"):
        return np.asarray(values, dtype=np.float32)
    raise ValueError(f"expected F32, F16 or BF16, got {dtype}")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _read_header(path: Path, limit: int) -> tuple[bytes, int]:
    """The header's bytes and the file's size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length < 2 or length > limit or length > size - 8:
            most = max(2, min(limit, size - 8))
            raise CheckpointError(
                f"{path}: expected a safetensors header of 2 to {most} bytes in a file of {size}, got {length}"
            )
        header = file.read(length)
    if len(header) != length:
        raise CheckpointError(f"{path}: the header is cut short: expected {length} bytes, got {len(header)}")
    return header, size


def header_bytes(path: Path) -> bytes:
    """The raw header, for telling whether a file is still the same. CheckpointError when there is none."""
    return _read_header(path, MAX_HEADER_BYTES)[0]


def _tensor_info(path: Path, name: str, entry: Any, start: int, size: int) -> TensorInfo:
    where = f"{path}: tensor {name[:200]!r}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where}: expected a JSON object, got {type(entry).__name__}")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{where}: expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise CheckpointError(f"{where}: expected a shape of at most 8 sides, got {shape!r:.200}")
    fits = isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets)
    begin, end = offsets if isinstance(offsets, list) and fits else (-1, -1)
    if not 0 <= begin <= end <= size - start:
        expected = f"data_offsets within the {size - start} bytes of data"
        raise CheckpointError(f"{where}: expected {expected}, got {offsets!r:.200}")
    elements = 1
    for side in shape:
        elements *= side
    if end - begin != elements * DTYPES[dtype].itemsize:
        raise CheckpointError(
            f"{where}: expected {elements * DTYPES[dtype].itemsize} bytes for {dtype} {tuple(shape)}, "
            f"got offsets of {end - begin}"
        )
    return TensorInfo(dtype, tuple(shape), start + begin, start + end)


class SafetensorsFile:
    """One file. Tensors are read-only views of the mapped file; nothing is read before it is used."""

    def __init__(self, path: Path) -> None:
        """CheckpointError unless the header is exactly right: lengths, dtypes, no overlap, no byte without a tensor."""
        self.path = Path(path)
        header, size = _read_header(self.path, MAX_HEADER_BYTES)
        try:
            entries = json.loads(header, object_pairs_hook=_reject_duplicates)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path}: the header is not valid JSON: {error}") from None
        if not isinstance(entries, dict):
            raise CheckpointError(f"{self.path}: expected a JSON object as header, got {type(entries).__name__}")
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise CheckpointError(f"{self.path}: expected __metadata__ to map strings to strings")
        self.metadata: dict[str, str] = metadata
        start = 8 + len(header)
        self.tensors = {name: _tensor_info(self.path, name, entry, start, size) for name, entry in entries.items()}
        at = start
        for name, info in sorted(self.tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
            if info.begin != at:
                problem = "overlaps the tensor before it" if info.begin < at else "leaves a gap before it"
                raise CheckpointError(
                    f"{self.path}: tensor {name[:200]!r} {problem}: expected it at byte {at}, got {info.begin}"
                )
            at = info.end
        if at != size:
            raise CheckpointError(f"{self.path}: expected a file of {at} bytes by its header, got {size}")
        self._bytes: np.memmap[Any, np.dtype[np.uint8]] | None = None

    def release(self) -> None:
        """Let go of the memory of what has been read; it is read again when touched."""
        if self._bytes is not None:
            self._bytes._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def array(self, name: str) -> NDArray[Any]:
        """The tensor as stored (BF16 as uint16), read-only. KeyError when there is none."""
        info = self.tensors[name]
        if info.begin == info.end:
            return np.empty(info.shape, DTYPES[info.dtype])
        if self._bytes is None:
            self._bytes = np.memmap(self.path, np.uint8, mode="r")
            if self._bytes.size < max(i.end for i in self.tensors.values()):
                raise CheckpointError(f"{self.path} has become shorter since it was opened")
        raw = self._bytes.view(np.ndarray)[info.begin : info.end]
        dtype = DTYPES[info.dtype]
        # A header of odd length leaves the data unaligned, which views do not mind but arithmetic in C might.
        if info.begin % dtype.itemsize:
            raw = raw.copy()
        return np.asarray(raw.view(dtype).reshape(info.shape))


class SafetensorsFolder(Mapping[str, TensorInfo]):
    """All tensors of a folder: model.safetensors, or the shards its index lists, or one given file."""

    def __init__(self, path: Path) -> None:
        path = Path(path)
        self.path = path
        index = path / "model.safetensors.index.json"
        if path.is_file():
            files, listed = [path], None
        elif index.is_file():
            files, listed = _shards(index)
        elif (path / "model.safetensors").is_file():
            files, listed = [path / "model.safetensors"], None
        else:
            raise FileNotFoundError(f"{path}: expected model.safetensors or model.safetensors.index.json")
        self.files = files
        self._file_of: dict[str, SafetensorsFile] = {}
        for file in files:
            opened = SafetensorsFile(file)
            for name in opened.tensors:
                if name in self._file_of:
                    raise CheckpointError(f"{file}: tensor {name!r} is in {self._file_of[name].path.name} already")
                self._file_of[name] = opened
        for name, shard in (listed or {}).items():
            if name not in self._file_of or self._file_of[name].path.name != shard:
                raise CheckpointError(f"{index}: expected tensor {name!r} in {shard}, it is not there")

    def __getitem__(self, name: str) -> TensorInfo:
        return self._file_of[name].tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def array(self, name: str) -> NDArray[Any]:
        """The tensor as stored (BF16 as uint16), read-only. KeyError when there is none."""
        return self._file_of[name].array(name)

    def release(self) -> None:
        """Let go of the memory of what has been read."""
        for file in {id(f): f for f in self._file_of.values()}.values():
            file.release()

    def floats(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32. CheckpointError when it is not F32, F16 or BF16."""
        dtype = self[name].dtype
        if dtype not in ("F32", "F16", "BF16"):
            raise CheckpointError(f"{self.path}: tensor {name!r}: expected F32, F16 or BF16, got {dtype}")
        return widen(self.array(name), dtype)


def _shards(index: Path) -> tuple[list[Path], dict[str, str]]:
    """The files an index lists, and which tensor it says is in which. Names that lead out of the folder are refused."""
    if index.stat().st_size > MAX_HEADER_BYTES:
        raise CheckpointError(f"{index}: expected at most {MAX_HEADER_BYTES} bytes, got {index.stat().st_size}")
    try:
        listed = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index}: expected a JSON object with a weight_map: {error!r}") from None
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        raise CheckpointError(f"{index}: expected weight_map to map tensor names to file names")
    for shard in listed.values():
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(f"{index}: expected file names in the same folder, got {shard!r:.200}")
    files = [index.parent / shard for shard in sorted(set(listed.values()))]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{index}: expected {file.name} beside it, there is no such file")
    return files, listed


class SafetensorsWriter:
    """Writes tensors one at a time, in any order, into a file whose layout is known beforehand.

    Use as a context manager; leaving it normally checks that every tensor was written and flushes to disk.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
    ) -> None:
        header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
        at = 0
        # Wide elements first, as the reference implementation does, so that every tensor is aligned.
        order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name][0]].itemsize, name))
        self._at: dict[str, int] = {}
        for name in order:
            dtype, shape = tensors[name]
            size = int(np.prod(shape, dtype=np.int64)) * DTYPES[dtype].itemsize
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
            self._at[name] = at
            at += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._tensors = dict(tensors)
        self._left = set(tensors)
        self._start = 8 + len(text)
        self._file = Path(path).open("xb")  # noqa: SIM115 (closed by __exit__)
        try:
            self._file.write(len(text).to_bytes(8, "little") + text)
            self._file.truncate(self._start + at)
        except BaseException:
            self._file.close()
            raise
        self.bytes = self._start + at

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Write one whole tensor (BF16 as uint16). ValueError when dtype or shape is not the announced one."""
        dtype, shape = self._tensors[name]
        if values.dtype != DTYPES[dtype] or values.shape != shape:
            raise ValueError(f"{name}: expected {dtype} {shape}, got {values.dtype} {values.shape}")
        self.write_rows(name, 0, values)
        self._left.discard(name)

    def write_rows(self, name: str, first_row: int, values: NDArray[Any], last: bool = False) -> None:
        """Write rows from `first_row` on of a tensor too large to hold; `last` marks the tensor complete."""
        dtype, shape = self._tensors[name]
        row = int(np.prod(shape[1:], dtype=np.int64)) * DTYPES[dtype].itemsize
        self._file.seek(self._start + self._at[name] + first_row * row)
        self._file.write(values.tobytes())
        if last:
            self._left.discard(name)

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._left:
                    raise ValueError(f"tensors were announced but not written: {', '.join(sorted(self._left)[:5])}")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
