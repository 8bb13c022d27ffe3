"""Opening a checkpoint: what it says is checked, its weights are packed once for this machine and mapped from then on.

The cache. Packed weights of 64 MB and more are kept in a file in `cache_dir`, else $HVL_CACHE_DIR, else
$XDG_CACHE_HOME/hypervl_engine, else ~/.cache/hypervl_engine; smaller ones are packed into private memory at every load:
that takes a few milliseconds and needs no writable folder. One process packs at a time (a lock file), into a temporary
name that is renamed when complete; the others wait and use the result. Where the file cannot be written (read-only
folder, full disk) the weights are packed into private memory, with a warning. A cache file is believed only if its
fingerprint names exactly these source files (names, sizes, times, headers, config) and every checksum is right; else it
is rebuilt. All checksums are verified at the first load after it was made, after every start of the system, and whenever
the file is not the very one that was verified (device, inode, size, times of its last write and change); a file beside
it, *.checked, remembers that. Header and table are verified at every load. So damage by a program, a disk that loses
power or a copy is found as if every load verified everything; a bit that flips in the page cache meanwhile is not,
unless load(verify=True) asks. In return a load takes a fraction of the time, and weights that are not used (the vision
towers of a text session) are never read.

A mapped file that another program truncates in place ends the process with SIGBUS; the engine itself only ever replaces
files by renaming.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervl_engine import _core
from hypervl_engine.config import Config, read_json
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFolder, TensorInfo, header_bytes, widen
from hypervl_engine.tensors import FLOATS, TensorSpec, expected_tensors

MIN_CACHE_BYTES = 64 << 20
_PROGRESS_AFTER_SECONDS = 1.0
_log = logging.getLogger("hypervl_engine")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose configs have been read and validated."""

    folder: Path
    parsed_config: Config
    generation_config: dict[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json's content in canonical form, every default filled in."""
        return self.parsed_config.to_dict()

    def open_weights(
        self,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
        verify: bool = False,
        min_cache_bytes: int = MIN_CACHE_BYTES,
    ) -> _core.WeightStore:
        """The packed weights, from the cache or packed now. CheckpointError, FileNotFoundError or MemoryError.

        verify: check every byte of a cache file that was checked before, too.
        """
        return _Loader(self, progress, verify).open(cache_dir, min_cache_bytes)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint folder's config.json and generation_config.json.

    Raises FileNotFoundError when the folder or its config.json is missing, CheckpointError when they are not valid.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a checkpoint folder, there is no such folder")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a checkpoint folder, it has no config.json")
    config = Config.load(folder)
    generation: Any = {}
    if (folder / "generation_config.json").is_file():
        generation = read_json(folder / "generation_config.json")
        if not isinstance(generation, dict):
            kind = type(generation).__name__
            raise CheckpointError(f"{folder}/generation_config.json: expected a JSON object, got {kind}")
    return Checkpoint(folder, config, generation)


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where cache files go: `cache_dir`, or what the environment says."""
    if cache_dir is not None:
        return Path(cache_dir)
    if own := os.environ.get("HVL_CACHE_DIR"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "hypervl_engine"


class _CacheUnwritable(Exception):
    """The cache file cannot be written; the cause says why."""


class _Loader:
    """One load of one checkpoint's weights."""

    def __init__(self, checkpoint: Checkpoint, progress: bool, verify: bool = False) -> None:
        self.folder = checkpoint.folder
        self.config = checkpoint.config
        self.specs = expected_tensors(checkpoint.parsed_config)
        self.progress, self.verify = progress, verify

    def open(self, cache_dir: str | os.PathLike[str] | None, min_cache_bytes: int) -> _core.WeightStore:
        if estimate_bytes(self.specs) < min_cache_bytes:
            return self.pack(None, "")
        folder = cache_folder(cache_dir)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", self.folder.resolve().name)[:60] or "checkpoint"
        where = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]
        path = folder / f"{name}-{where}-v{_core.PACK_VERSION}.hvlpack"
        fingerprint = self.fingerprint()
        if (store := self.cached(path, fingerprint)) is not None:
            return store
        try:
            return self.locked_pack(path, fingerprint)
        except _CacheUnwritable as unwritable:
            error = unwritable.__cause__
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            warnings.warn(
                f"packed weights cannot be kept in {folder} ({reason}): packing into private memory, at every load "
                "anew; set HVL_CACHE_DIR to a folder with room",
                stacklevel=4,
            )
            return self.pack(None, "")

    def locked_pack(self, path: Path, fingerprint: str) -> _core.WeightStore:
        with _cache_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(path.name + ".lock").open("ab")
        with lock:
            with _cache_errors():
                _wait_for(lock.fileno(), path.name, self.progress)
            # Whoever held the lock before may have packed just what is needed here.
            store = self.cached(path, fingerprint)
            return self.pack_file(path, fingerprint) if store is None else store

    def fingerprint(self) -> str:
        """What the packed weights depend on: this engine's packing, the config, the source files as they are now."""
        digest = hashlib.sha256(json.dumps([_core.PACK_VERSION, self.config], sort_keys=True).encode())
        for file in _source_files(self.folder):
            info = file.stat()
            digest.update(json.dumps([file.name, info.st_size, info.st_mtime_ns]).encode())
            digest.update(header_bytes(file) if file.suffix == ".safetensors" else file.read_bytes())
        return digest.hexdigest()

    def cached(self, path: Path, fingerprint: str) -> _core.WeightStore | None:
        """The cache file's weights, or None when there is no usable one."""
        mark = path.with_name(path.name + ".checked")
        known = "" if self.verify else _checked_identity(mark)
        try:
            store = _core.WeightStore.open(str(path), fingerprint, known)
        except FileNotFoundError:
            return None
        except (CheckpointError, OSError) as error:
            _log.info("packing again: %s", error)
            return None
        for name, spec in self.specs.items():
            if not _stored_as(store, name, spec):
                _log.info("packing again: %s: %s is not what this engine expects", path, name)
                return None
        if store.identity != known:
            _remember_checked(mark, store.identity)
        return store

    def pack_file(self, path: Path, fingerprint: str) -> _core.WeightStore:
        """Packs under a temporary name, which is renamed when all is on the disk. The lock is held."""
        with _cache_errors():
            for stale in path.parent.glob(f".{path.name}.*.tmp"):
                stale.unlink(missing_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
        try:
            store = self.pack(str(temporary), fingerprint)
            with _cache_errors():
                os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the name outlives a power cut; not every file system can do this
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return store

    def pack(self, path: str | None, fingerprint: str) -> _core.WeightStore:
        """Checks every tensor of the source and packs it, into a file or private memory."""
        source = SafetensorsFolder(self.folder)
        check_tensors(source, self.specs)
        packer = _core.WeightPacker(path, fingerprint, json.dumps(self.config))
        for name, spec in self.specs.items():
            if spec.kind == "linear":
                scale_bits = 16 if _exact_in_f16(read_scales(source, name, spec)) else 32
                rows, columns = spec.shape
                packer.plan_linear(name, rows, columns, spec.bits, spec.engine_group, scale_bits, spec.zero_points)
            else:
                packer.plan_array(name, spec.dtypes[0], spec.shape)
        with _cache_errors():
            packer.begin()
        with progress_bar(estimate_bytes(self.specs), "packing weights", self.progress) as advance:
            for name, spec in self.specs.items():
                if spec.kind == "linear":
                    words = np.ascontiguousarray(source.array(name + "_packed"))
                    packer.write_linear(name, words, read_scales(source, name, spec), read_zero_points(source, name, spec))
                else:
                    packer.write_array(name, _read_array(source, name, spec))
                advance(_spec_bytes(spec))
        with _cache_errors():
            return packer.finish()


def stored_tensors(name: str, spec: TensorSpec) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """The tensors of the file that make up one of the model: name -> (dtypes allowed, shape)."""
    if spec.kind == "array":
        return {name: (spec.dtypes, spec.shape)}
    rows, columns = spec.shape
    stored: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
        name + "_packed": (("I32",), (rows, -(-columns * spec.bits // 32))),
        name + "_scale": (FLOATS, (rows, spec.groups)),
        name + "_shape": (("I64", "I32"), (2,)),
    }
    if spec.zero_points:
        stored[name + "_zero_point"] = (("I32",), (-(-rows * spec.bits // 32), spec.groups))
    return stored


def check_tensors(source: SafetensorsFolder, specs: dict[str, TensorSpec]) -> None:
    """CheckpointError naming what is missing, or the first of another shape or dtype; extra ones are one warning."""
    wanted = {key: value for name, spec in specs.items() for key, value in stored_tensors(name, spec).items()}
    missing = [name for name in wanted if name not in source]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"{source.path}: expected the tensors {', '.join(missing[:5])}{more}: they are missing")
    for name, (dtypes, shape) in wanted.items():
        _check_tensor(f"{source.path}: {name}", source[name], dtypes, shape)
    for name, spec in specs.items():
        if spec.kind == "linear":
            stored = tuple(int(n) for n in source.array(name + "_shape"))
            if stored != spec.shape:
                raise CheckpointError(f"{source.path}: {name}_shape: expected {spec.shape}, got {stored}")
    extra = [name for name in source if name not in wanted]
    if extra:
        _log.warning("%s: %d tensors are not used, among them %s", source.path, len(extra), ", ".join(map(repr, extra[:3])))


def _check_tensor(where: str, info: TensorInfo, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    # A scale by row may be stored as (rows) too, and a scalar as (1).
    shapes = (shape, shape[:1]) if len(shape) == 2 and shape[1] == 1 else (shape, (1,)) if shape == () else (shape,)
    if info.shape not in shapes:
        raise CheckpointError(f"{where}: expected the shape {shape}, got {info.shape}")
    if info.dtype not in dtypes:
        raise CheckpointError(f"{where}: expected {' or '.join(dtypes)}, got {info.dtype}")


def read_scales(source: SafetensorsFolder, name: str, spec: TensorSpec) -> NDArray[np.float32]:
    """(rows, groups) scales, checked to be finite and not negative."""
    return _checked(source, name + "_scale", (spec.shape[0], spec.groups), negative=False)


def read_zero_points(source: SafetensorsFolder, name: str, spec: TensorSpec) -> NDArray[np.int8] | None:
    """(rows, groups) zero points in the range of the weights, or None. They are stored as the weights are, but packed along the rows."""
    if not spec.zero_points:
        return None
    words = np.ascontiguousarray(source.array(name + "_zero_point")).view(np.uint32).reshape(-1, 1, spec.groups)
    shifts = np.arange(0, 32, spec.bits, dtype=np.uint32).reshape(1, -1, 1)
    values = (words >> shifts & np.uint32((1 << spec.bits) - 1)).reshape(-1, spec.groups)[: spec.shape[0]]
    return (values.astype(np.int16) - (1 << (spec.bits - 1))).astype(np.int8)


def _read_array(source: SafetensorsFolder, name: str, spec: TensorSpec) -> NDArray[Any]:
    if spec.dtypes[0] != "F32":
        return np.ascontiguousarray(source.array(name)).reshape(spec.shape)
    return _checked(source, name, spec.shape, negative=not name.endswith("_scale"))


def _checked(source: SafetensorsFolder, name: str, shape: tuple[int, ...], negative: bool) -> NDArray[np.float32]:
    # The reshape comes last: ascontiguousarray makes (1) of a scalar.
    values = np.ascontiguousarray(widen(source.array(name), source[name].dtype)).reshape(shape)
    bad = ~np.isfinite(values)
    if bad.any():
        got = f"{values[bad].flat[0]} at {_first(bad)}"
        raise CheckpointError(f"{source.path}: {name}: expected finite values, got {got}")
    if not negative and values.size and values.min() < 0:
        got = f"{values.min()} at {_first(values == values.min())}"
        raise CheckpointError(f"{source.path}: {name}: expected no negative scales, got {got}")
    return values


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def _exact_in_f16(scales: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        return bool((scales.astype(np.float16).astype(np.float32) == scales).all())


def _spec_bytes(spec: TensorSpec) -> int:
    size = int(np.prod(spec.shape, dtype=np.int64))
    if spec.kind == "linear":
        return size * spec.bits // 8 + size // spec.engine_group * 2
    return size * (4 if spec.dtypes[0] == "F32" else 1)


def estimate_bytes(specs: dict[str, TensorSpec]) -> int:
    """About what the packed weights take."""
    return sum(_spec_bytes(spec) for spec in specs.values())


def _stored_as(store: _core.WeightStore, name: str, spec: TensorSpec) -> bool:
    try:
        info = store.info(name)
    except CheckpointError:
        return False
    if spec.kind == "linear":
        return (info["shape"], info.get("bits"), info.get("group_size")) == (spec.shape, spec.bits, spec.engine_group)
    return (info["shape"], info["dtype"]) == (spec.shape, spec.dtypes[0])


def _boot() -> str:
    """Differs from one start of the system to the next; "" where that cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _checked_identity(mark: Path) -> str:
    """Of the file whose every byte was found right since the system started; "" when there is none."""
    try:
        boot, _, identity = mark.read_text("ascii").strip().partition(" ")
    except (OSError, ValueError):
        return ""
    return identity if boot and boot == _boot() else ""


def _remember_checked(mark: Path, identity: str) -> None:
    """Where this cannot be written the next load checks again."""
    temporary = mark.with_name(f".{mark.name}.{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(OSError):
        try:
            temporary.write_text(f"{_boot()} {identity}\n", "ascii")
            os.replace(temporary, mark)
        finally:
            temporary.unlink(missing_ok=True)


def _source_files(folder: Path) -> list[Path]:
    """The files whose content the packed weights depend on."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return SafetensorsFolder(folder).files
    return [index, *SafetensorsFolder(folder).files]


@contextlib.contextmanager
def _cache_errors() -> Iterator[None]:
    """Tells an error of writing the cache (not fatal) from one of reading the checkpoint (fatal)."""
    try:
        yield
    except OSError as error:
        raise _CacheUnwritable from error


def _wait_for(lock: int, name: str, progress: bool) -> None:
    """Takes the lock, waiting for another process that packs; it is given back when the file is closed.

    Where locks are not supported there is none: renaming is atomic anyway, two packers only waste time.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if progress:
            print(f"waiting for another process that packs {name}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextlib.contextmanager
def progress_bar(total: int, what: str, progress: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes that appears only when the work takes long enough to wonder."""
    from tqdm import tqdm

    started = time.monotonic()
    bar: tqdm[Any] | None = None
    done = 0

    def advance(amount: int) -> None:
        nonlocal bar, done
        done += amount
        if bar is not None:
            bar.update(amount)
        elif progress and time.monotonic() - started > _PROGRESS_AFTER_SECONDS:
            bar = tqdm(total=total, desc=what, unit="B", unit_scale=True, leave=False)
            bar.update(done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()
