"""Raw messages to the DSP program (csrc/remote/wire.h), for tests: the engine itself speaks to it in C++."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import TestServer

MAGIC = 0x32445648
OPEN, PUT, LOAD, CACHES, RUN, CANCEL, RESIZE = range(1, 8)
OK, MALFORMED, INVALID, MEMORY, CANCELLED, FATAL = range(6)
_MASK, _STEP, _CHUNK = (1 << 64) - 1, 0x9E3779B97F4A7C15, 1 << 20


def _mix(x: int) -> int:
    x ^= x >> 31
    x = x * 0xD6E8FEB86659FD93 & _MASK
    x ^= x >> 29
    x = x * 0xA0761D6478BD642F & _MASK
    return x ^ x >> 32


def _hash_chunk(data: bytes, index: int) -> int:
    padded: NDArray[np.uint64] = np.frombuffer(data + bytes(-len(data) % 64), np.uint64).reshape(-1, 8)
    keys = np.array([_mix((index << 4) + lane + 17) for lane in range(8)], np.uint64)
    steps = np.arange(len(padded), dtype=np.uint64) * np.uint64(_STEP)
    mixed = padded ^ (keys + steps[:, None])
    sums = ((mixed & np.uint64(0xFFFFFFFF)) * (mixed >> np.uint64(32))).sum(0) + padded.sum(0)[[1, 0, 3, 2, 5, 4, 7, 6]]
    found = _mix(len(data) ^ _STEP)
    for lane in range(8):
        found = _mix(found ^ (int(sums[lane]) + _mix(lane + 1) & _MASK)) + _STEP * lane & _MASK
    return found


def hash64(data: bytes) -> int:
    """csrc/base/hash.h"""
    found = _mix(len(data) + _STEP & _MASK)
    for i in range((len(data) + _CHUNK - 1) // _CHUNK):
        found = _mix(found ^ _hash_chunk(data[i * _CHUNK : (i + 1) * _CHUNK], i)) + _STEP * (i + 1) & _MASK
    return _mix(found)


def message(kind: int, body: bytes) -> bytes:
    """A message, without its length."""
    head = struct.pack("<2I", MAGIC, kind) + body
    return head + struct.pack("<Q", hash64(head))


class Answer(NamedTuple):
    status: int
    text: str
    packets: int
    outputs: bytes


class Dsp(TestServer):
    """An emulated DSP program. folder: build/hexagon, as hexagon/setup.sh lays it."""

    def __init__(self, folder: Path, timeout: float = 300.0) -> None:
        super().__init__(folder, timeout)
        self.command = [str(folder / "bin" / "qemu-hexagon"), str(folder / "v68" / "dsp")]

    def ask(self, asked: bytes) -> Answer:
        """What it answers to a message of any bytes but a kCancel. Raises as `exchange` does."""
        reply = self.exchange(asked)
        magic, status, text_bytes = struct.unpack_from("<3I", reply)
        assert magic == MAGIC
        assert struct.unpack("<Q", reply[-8:])[0] == hash64(reply[:-8])
        text = reply[12 : 12 + text_bytes].decode(errors="replace")
        packets, _, _, _, ops = struct.unpack_from("<QqqqI", reply, 12 + text_bytes)
        return Answer(status, text, packets, reply[12 + text_bytes + 36 + 24 * ops : -8])


def messages(recorded: bytes) -> list[bytes]:
    """Those of a stream, without their lengths."""
    found = []
    at = 0
    while at < len(recorded):
        (length,) = struct.unpack_from("<I", recorded, at)
        found.append(recorded[at + 4 : at + 4 + length])
        at += 4 + length
    return found
