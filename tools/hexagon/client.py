"""Calls kernels in the emulated test server (hexagon/test_server; its protocol.h has the format of the messages)."""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

ROOT = Path(__file__).resolve().parents[2]
REQUEST_MAGIC, REPLY_MAGIC = 0x514C5648, 0x524C5648
_REPLY_HEAD = struct.Struct("<7I")
_MOST_REPLY = (256 << 20) + (1 << 16)
_TICK = 0.5  # seconds


class HexagonError(RuntimeError):
    """A call to the test server failed."""


class EmulatorDied(HexagonError):
    """The emulated process ended within a call; the message has its exit code and what it wrote to standard error."""


class EmulatorTimeout(HexagonError):
    """There was no reply in time; the process was killed."""


class BadReply(HexagonError):
    """What came back is not a reply; the process was killed."""


class MalformedMessage(HexagonError):
    """The server could not read the request."""


class TooLarge(HexagonError):
    """The request or its outputs are larger than the server takes, or than its memory."""


class UnknownKernel(HexagonError):
    """The server has no kernel of that name."""


class InvalidArguments(HexagonError):
    """The kernel refused its arguments."""


class BufferOverrun(HexagonError):
    """The kernel wrote beyond the end of an output."""


_ERRORS = {1: MalformedMessage, 2: TooLarge, 3: UnknownKernel, 4: InvalidArguments, 5: BufferOverrun}


class Counts(NamedTuple):
    """What the kernel took, by QEMU's counters: the same from run to run. Packets are not cycles."""

    packets: int
    instructions: int
    hvx_instructions: int


class Output(NamedTuple):
    shape: tuple[int, ...]
    dtype: DTypeLike


def encode_request(kernel: str, scalars: Sequence[int], inputs: Sequence[bytes], output_bytes: Sequence[int]) -> bytes:
    """The request's bytes, without their length in front."""
    name = kernel.encode()
    numbers = [len(scalars), len(inputs), len(output_bytes)]
    head = struct.pack("<5I", REQUEST_MAGIC, len(name), *numbers) + name + struct.pack(f"<{len(scalars)}i", *scalars)
    return b"".join([head, struct.pack(f"<{len(inputs) + len(output_bytes)}I", *map(len, inputs), *output_bytes), *inputs])


def _complete(reply: bytearray) -> bool:
    """Whether the reply is there as a whole. Raises BadReply."""
    if len(reply) < 4:
        return False
    expected = 4 + int.from_bytes(reply[:4], "little")
    if expected > _MOST_REPLY or len(reply) > expected:
        raise BadReply(f"a reply of {expected} bytes, {len(reply)} of them there")
    return len(reply) == expected


def _parse(reply: bytes) -> tuple[int, Counts, str, list[bytes]]:
    """Status, counts, text and outputs. Raises BadReply."""
    try:
        magic, status, packets, instructions, hvx_instructions, text_bytes, outputs = _REPLY_HEAD.unpack_from(reply)
        sizes = struct.unpack_from(f"<{outputs}I", reply, _REPLY_HEAD.size)
    except struct.error as error:
        raise BadReply(f"{len(reply)} bytes: {error}") from error
    begin = _REPLY_HEAD.size + 4 * outputs
    if magic != REPLY_MAGIC or begin + text_bytes + sum(sizes) != len(reply):
        raise BadReply(f"{len(reply)} bytes with the magic number {magic:#x}")
    text = reply[begin : begin + text_bytes].decode(errors="replace")
    found, begin = [], begin + text_bytes
    for size in sizes:
        found.append(reply[begin : begin + size])
        begin += size
    return status, Counts(packets, instructions, hvx_instructions), text, found


class TestServer:
    """One emulated process. The first call starts it, as does the first after a failure that ended it; `close`, or a `with`, ends it.

    folder: build/hexagon, as hexagon/setup.sh lays it. timeout: seconds for one call.
    """

    __test__ = False  # no class of tests

    def __init__(self, folder: Path, timeout: float = 300.0) -> None:
        self.command = [str(folder / "bin" / "qemu-hexagon"), str(folder / "v68" / "test_server")]
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> TestServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def call(
        self, kernel: str, scalars: Sequence[int], inputs: Sequence[ArrayLike], outputs: Sequence[Output], timeout: float | None = None
    ) -> tuple[list[NDArray[np.generic]], Counts]:
        """Runs `kernel` on the inputs' bytes. Returns the outputs and what the kernel took.

        Raises a HexagonError: one for each status of the server, EmulatorDied, EmulatorTimeout or BadReply.
        """
        sizes = [int(np.prod(output.shape, dtype=np.int64)) * np.dtype(output.dtype).itemsize for output in outputs]
        request = encode_request(kernel, scalars, [np.asarray(array).tobytes() for array in inputs], sizes)
        reply = self.exchange(request, timeout)
        try:
            status, counts, text, found = _parse(reply)
            if status not in (0, *_ERRORS):
                raise BadReply(f"{kernel}: status {status}")
            if status == 0 and [len(data) for data in found] != sizes:
                raise BadReply(f"{kernel}: outputs of {[len(data) for data in found]} bytes, not {sizes}")
        except BadReply:
            self.kill()
            raise
        if status != 0:
            raise _ERRORS[status](f"{kernel}: {text}")
        return [np.frombuffer(data, o.dtype).reshape(o.shape) for data, o in zip(found, outputs, strict=True)], counts

    def exchange(self, message: bytes, timeout: float | None = None) -> bytes:
        """Sends a message of any bytes, and returns the reply's. Raises TooLarge, EmulatorDied, EmulatorTimeout or BadReply."""
        if len(message) >= 1 << 32:
            raise TooLarge(f"a message of {len(message)} bytes")
        try:
            return self._exchange(memoryview(struct.pack("<I", len(message)) + message), self.timeout if timeout is None else timeout)
        except BaseException:  # nobody would read what is still to come
            self.kill()
            raise

    def _exchange(self, sending: memoryview, timeout: float) -> bytes:
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        reply, left = bytearray(), timeout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stdin, selectors.EVENT_WRITE)
            while not _complete(reply):
                if left <= 0:
                    raise EmulatorTimeout(f"no reply in {timeout} s")
                begin = time.monotonic()
                for key, _ in selector.select(min(left, _TICK)):
                    if key.fileobj is process.stdin:
                        try:
                            sending = sending[os.write(process.stdin.fileno(), sending) :]
                        except BrokenPipeError:
                            sending = sending[len(sending) :]
                        if not sending:
                            selector.unregister(process.stdin)
                    else:
                        got = os.read(process.stdout.fileno(), 1 << 20)
                        if not got:
                            raise self._died(process)
                        reply += got
                # No more than two ticks a turn: while this process itself was stopped, so was the server perhaps.
                left -= min(time.monotonic() - begin, 2 * _TICK)
        return bytes(reply[4:])

    def _start(self) -> subprocess.Popen[bytes]:
        self._stderr.seek(0)
        self._stderr.truncate()
        self.process = subprocess.Popen(self.command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        return self.process

    def _died(self, process: subprocess.Popen[bytes]) -> EmulatorDied:
        try:
            end = f"exit code {process.wait(10)}"
        except subprocess.TimeoutExpired:
            end = "it closed its output, and goes on"
        self._stderr.seek(0)
        return EmulatorDied(f"{end}: {self._stderr.read().decode(errors='replace').strip()[-2000:]}")

    def kill(self) -> None:
        """Ends the process at once. The next call starts another."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def close(self) -> None:
        """Ends the process by the end of its input; kills it if that takes more than 10 s."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self._reap()
        self._stderr.close()

    def _reap(self) -> None:
        assert self.process is not None
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process = None
