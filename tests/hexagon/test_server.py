"""The test server and its client: what goes wrong gives a typed error within its time, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import (
    REPLY_MAGIC,
    REQUEST_MAGIC,
    BadReply,
    BufferOverrun,
    EmulatorDied,
    EmulatorTimeout,
    InvalidArguments,
    MalformedMessage,
    Output,
    TestServer,
    TooLarge,
    UnknownKernel,
    encode_request,
)

MALFORMED, TOO_LARGE = 1, 2
GOOD = encode_request("echo", [7], [b"abc", b""], [3, 0])


@pytest.fixture
def own_server(hexagon_folder: Path) -> Iterator[TestServer]:
    """One that a test may end."""
    with TestServer(hexagon_folder) as running:
        yield running


def echo(server: TestServer) -> None:
    data = np.arange(5, dtype=np.int32)
    (found,), _ = server.call("echo", [], [data], [Output((5,), np.int32)])
    np.testing.assert_array_equal(found, data)


def status(server: TestServer, message: bytes) -> int:
    magic, found = struct.unpack_from("<2I", server.exchange(message))
    assert magic == REPLY_MAGIC
    return found


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@given(st.lists(st.binary(max_size=1000), max_size=16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_buffers_come_back(server: TestServer, buffers: list[bytes]) -> None:
    inputs = [np.frombuffer(data, np.uint8) for data in buffers]
    found, _ = server.call("echo", [], inputs, [Output(data.shape, data.dtype) for data in inputs])
    assert [data.tobytes() for data in found] == buffers


def test_large_buffers_come_back(server: TestServer) -> None:
    data = np.random.default_rng(0).integers(0, 256, 20_000_001, np.uint8)
    (found,), counts = server.call("echo", [], [data], [Output(data.shape, data.dtype)])
    np.testing.assert_array_equal(found, data)
    assert counts.packets > 0
    assert counts.hvx_instructions <= counts.instructions


def test_counts_are_the_same_at_every_run(server: TestServer) -> None:
    data = np.zeros(1000, np.uint8)
    first, second = (server.call("echo", [], [data], [Output(data.shape, data.dtype)])[1] for _ in range(2))
    assert first == second


def head(name: int = 4, scalars: int = 0, inputs: int = 0, outputs: int = 0, magic: int = REQUEST_MAGIC) -> bytes:
    return struct.pack("<5I", magic, name, scalars, inputs, outputs)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 19,
        head(magic=REPLY_MAGIC) + b"echo",
        head(name=0),
        head(name=65) + b"e" * 65,
        head(name=2**32 - 1) + b"echo",
        head() + b"ech",
        head() + b"ec\0o",
        head(scalars=33) + b"echo" + b"\0" * 132,
        head(scalars=1) + b"echo" + b"\0" * 3,
        head(inputs=17) + b"echo" + b"\0" * 68,
        head(outputs=2**32 - 1) + b"echo",
        head(inputs=1) + b"echo" + b"\xff" * 4,
        head(inputs=2) + b"echo" + struct.pack("<2I", 2**31, 2**31 + 3) + b"abc",  # 3 modulo 2^32
        GOOD + b"\0",
    ],
)
def test_malformed_messages_give_a_status(server: TestServer, message: bytes) -> None:
    assert status(server, message) == MALFORMED
    echo(server)


def test_every_beginning_of_a_message_is_malformed(server: TestServer) -> None:
    for bytes_there in range(len(GOOD)):
        assert status(server, GOOD[:bytes_there]) == MALFORMED
    assert status(server, GOOD) == 0


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_ends_the_server(server: TestServer, data: st.DataObject) -> None:
    """Words of a good message replaced by others, and bytes taken off or added."""
    message = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 4))
        message[at : at + 4] = struct.pack("<I", data.draw(st.sampled_from([0, 1, 3, 16, 17, 64, 2**24, 2**28 + 1, 2**31, 2**32 - 1])))
    end = data.draw(st.integers(0, len(message)))
    assert status(server, bytes(message[:end]) + data.draw(st.binary(max_size=64))) in range(6)
    assert server.process is not None


def test_messages_and_outputs_too_large_give_a_status(server: TestServer) -> None:
    with pytest.raises(TooLarge, match="256 MiB of outputs"):
        server.call("echo", [], [], [Output((200 << 20,), np.uint8)] * 2)
    assert status(server, bytes((256 << 20) + 1)) == TOO_LARGE
    echo(server)


def test_unknown_kernels_and_wrong_arguments_are_typed_errors(server: TestServer) -> None:
    with pytest.raises(UnknownKernel, match="no_such_kernel"):
        server.call("no_such_kernel", [], [], [])
    with pytest.raises(InvalidArguments, match="another size"):
        server.call("echo", [], [np.zeros(3)], [Output((4,), np.float64)])
    with pytest.raises(MalformedMessage, match="16 inputs"):
        server.call("echo", [], [np.zeros(3)] * 17, [])
    echo(server)


def test_a_write_beyond_an_output_is_found(server: TestServer) -> None:
    with pytest.raises(BufferOverrun):
        server.call("write_past_end", [], [], [Output((127,), np.uint8)])
    echo(server)


@pytest.mark.parametrize("kernel", ["write_to_input", "read_past_guard"])
def test_a_kernel_that_faults_ends_the_process(own_server: TestServer, kernel: str) -> None:
    with pytest.raises(EmulatorDied, match="exit code -11"):
        own_server.call(kernel, [], [np.zeros(128, np.uint8)], [])
    assert own_server.process is None
    echo(own_server)


def test_an_emulator_that_is_killed_is_a_typed_error(own_server: TestServer) -> None:
    echo(own_server)
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGKILL)
    own_server.process.wait()
    with pytest.raises(EmulatorDied, match="exit code -9"):
        echo(own_server)
    echo(own_server)


def test_an_emulator_killed_within_a_call_is_a_typed_error(own_server: TestServer) -> None:
    echo(own_server)
    assert own_server.process is not None
    killer = threading.Timer(0.5, own_server.process.kill)
    killer.start()
    with pytest.raises(EmulatorDied, match="exit code -9"):
        own_server.call("hang", [], [], [])
    killer.join()


def test_a_call_that_takes_too_long_is_ended(own_server: TestServer) -> None:
    echo(own_server)
    assert own_server.process is not None
    pid = own_server.process.pid
    with pytest.raises(EmulatorTimeout, match="no reply in 1 s"):
        own_server.call("hang", [], [], [], timeout=1)
    assert not runs(pid)
    echo(own_server)


def test_an_input_that_ends_within_a_message_ends_the_process(own_server: TestServer) -> None:
    echo(own_server)
    process = own_server.process
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(struct.pack("<I", 100) + b"abc")
    process.stdin.close()
    assert process.wait(60) == 1
    own_server.kill()


def test_closing_leaves_no_process(hexagon_folder: Path) -> None:
    with TestServer(hexagon_folder) as server:
        echo(server)
        assert server.process is not None
        pid = server.process.pid
    assert not runs(pid)


def test_what_is_no_reply_is_a_typed_error(tmp_path: Path) -> None:
    """Programs in the emulator's place."""
    for script, error in [
        ("printf '\\377\\377\\377\\377'; exec sleep 60", BadReply),  # 4 GiB announced
        ("printf '\\4\\0\\0\\0abcd'; exec sleep 60", BadReply),  # no reply's head
        ("head -c 4 /dev/zero; exec sleep 60", BadReply),
        ("printf '\\4\\0\\0\\0abcdefgh'; exec sleep 60", BadReply),  # more than announced
        ("echo wrong >&2; exit 3", EmulatorDied),
    ]:
        emulator = tmp_path / "bin" / "qemu-hexagon"
        emulator.parent.mkdir(exist_ok=True)
        emulator.write_text(f"#!/bin/sh\n{script}\n")
        emulator.chmod(0o755)
        begin = time.monotonic()
        with TestServer(tmp_path, timeout=30) as server, pytest.raises(error):
            server.call("echo", [], [], [])
        assert time.monotonic() - begin < 20
