"""Device "hexagon" with a stand-in of the vendor's library (tools/hexagon/fake_cdsprpc.cc), whose DSP is the emulated program: results are
those of "hexagon-ref", and whatever goes wrong is a typed error in bounded time that leaves nothing running."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import placement
from hypervl_engine.devices import remote_options
from hypervl_engine.engine import Engine, load
from hypervl_engine.errors import CancelledError, DeviceError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.compare_questions import questions
from tools.hexagon.dsp import INVALID, MAGIC, MALFORMED, OK, OPEN, message
from tools.hexagon.processes import running
from tools.hexagon.record_session import IDS
from tools.hexagon.rpc import (
    BAD_ARGUMENT,
    CANCEL,
    CLOSE,
    DONE,
    EXCHANGE,
    FETCH,
    NO_MEMORY,
    UNKNOWN_METHOD,
    Rpc,
    build_fake,
    fake_environment,
    scalars,
)  # fmt: skip


@pytest.fixture(scope="module")
def library(hexagon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vendor")
    build_fake(folder / "libcdsprpc.so")
    (folder / "libhypervl_hexagon_v73.so").touch()
    return folder / "libcdsprpc.so"


@pytest.fixture(scope="module", autouse=True)
def vendor(hexagon_folder: Path, library: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake_environment(hexagon_folder, library).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(programs())
    yield
    deadline = time.monotonic() + 10
    while leftover := set(programs()) - before - module_programs:
        assert time.monotonic() < deadline, f"left running: {leftover}"
        time.sleep(0.05)


module_programs: set[int] = set()  # of engines that live as long as this module


def programs() -> list[int]:
    """Emulated DSP programs of this process."""
    return running("v68/dsp_rpc", os.getpid())


def opened(device: str, **options: Any) -> Engine:
    """The demo model."""
    return load(device=device, progress=False, **{"threads": 1, "context_length": 512, **options})


@pytest.fixture(scope="module")
def reference() -> Engine:
    return opened("hexagon-ref")


@pytest.fixture(scope="module")
def remote() -> Engine:
    engine = opened("hexagon")
    module_programs.update(programs())
    return engine


def with_options(patch: pytest.MonkeyPatch, **options: Any) -> None:
    patch.setattr(placement, "remote_options", lambda device: remote_options(device) | (options if device == "hexagon" else {}))


def test_questions_are_answered_the_same(reference: Engine, remote: Engine) -> None:
    for branch, image, question, _ in questions(4):
        ours, expected = (e.generate(image, question, branch=branch, max_new_tokens=8) for e in (remote, reference))
        assert ours.tokens == expected.tokens, question
    assert remote.stats["programs"]["siglip2_tile"]["runs"] > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_staged_plan_gives_the_same(reference: Engine, threads: int) -> None:
    staged = opened("hexagon", vtcm="300KiB", threads=threads)
    sessions = [engine.new_session() for engine in (staged, reference)]
    ours, expected = (session.prefill(IDS, logits=True) for session in sessions)
    np.testing.assert_array_equal(ours, expected)  # type: ignore[arg-type]
    assert sessions[0].stats()["transferred_in_bytes"] > 0


def test_every_session_has_a_program_of_its_own(reference: Engine) -> None:
    engine = opened("hexagon")
    sessions = [engine.new_session() for _ in range(2)]
    expected = reference.new_session()
    assert len(set(programs()) - module_programs) == 3  # theirs, and that of the engine's first call
    for session in (*sessions, expected):
        session.prefill(IDS)
    sessions[1].decode(5)
    for session in (sessions[0], expected):
        session.decode(7)
    np.testing.assert_array_equal(sessions[0].last_logits(), expected.last_logits())


def test_no_further_session_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVL_FAKE_SESSIONS", "3")
    engine, held = opened("hexagon"), []
    with pytest.raises(DeviceError, match="no further session"):
        held.extend(engine.new_session() for _ in range(4))
    held.clear()
    engine.new_session()


def test_programs_spread_over_sessions(reference: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(monkeypatch, remote_window_bytes=4 << 20)
    monkeypatch.setenv("HVL_FAKE_WINDOW", str(4 << 20))
    session, expected = opened("hexagon").new_session(), reference.new_session()
    picture = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    for branch in reference.branches:
        np.testing.assert_array_equal(session.encode(picture, 1.0, branch), expected.encode(picture, 1.0, branch))
    for one in (session, expected):
        one.prefill(IDS)
        one.decode(7)
    np.testing.assert_array_equal(session.last_logits(), expected.last_logits())
    assert session.device_parts > 1


def test_a_program_beyond_the_window_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(monkeypatch, remote_window_bytes=1 << 18)
    with pytest.raises(DeviceError, match=r"qwen3_layers needs \d+ bytes in one session of the device, which addresses 262144"):
        opened("hexagon").new_session().prefill(IDS)


def test_cancelling_leaves_a_session_that_works(reference: Engine, remote: Engine) -> None:
    session, other = remote.new_session(), reference.new_session()
    session.prefill(IDS)
    canceller = threading.Timer(0.3, session.cancel)
    canceller.start()
    with pytest.raises(CancelledError):  # several seconds' work
        session.encode(np.zeros((400, 400, 3), np.uint8), 1.0, "large")
    canceller.join()
    session.decode(7)
    other.prefill(IDS)
    other.decode(7)
    np.testing.assert_array_equal(session.last_logits(), other.last_logits())


@pytest.mark.parametrize(
    ("name", "value", "kind", "said"),
    [
        ("HVL_CDSPRPC", "/nowhere/libcdsprpc.so", DeviceError, "no FastRPC on this machine.*LD_LIBRARY_PATH"),
        ("HVL_FAKE_FAULT", "refuse", DeviceError, "refused a session.*0x80000415.*ADSP_LIBRARY_PATH"),
        ("HVL_FAKE_FAULT", "unsigned", DeviceError, "refuses unsigned libraries"),
        ("HVL_FAKE_ARCH", "68", DeviceError, "of architecture v68, for which there is no libhypervl_hexagon"),
        ("HVL_FAKE_ARCH", "00", DeviceError, "does not say of which architecture.*HVL_HEXAGON_ARCH"),
        ("HVL_HEXAGON_ARCH", "75", DeviceError, r"did not load libhypervl_hexagon_v75\.so"),
        ("HVL_FAKE_DSP", "/nowhere", DeviceError, "refused a session"),
        ("HVL_FAKE_FAULT", "die:1", DeviceError, "refused a session"),
        ("HVL_FAKE_FAULT", "die:2", DeviceError, "the DSP ended"),
        ("HVL_EMULATED_VTCM", "65536", MemoryError, r"no \d+ bytes of fast memory: this machine has 65536"),
    ],
)  # fmt: skip
def test_what_is_no_device_is_a_typed_error(
    name: str, value: str, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=said):
        opened("hexagon")
    with pytest.warns(RuntimeWarning, match="hexagon-ref is used instead of device hexagon"):
        assert opened("hexagon", fallback="hexagon-ref").info()["device"] == "hexagon-ref"


def test_not_a_library_of_fastrpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", str(tmp_path / "lib.so")], check=True)
    monkeypatch.setenv("HVL_CDSPRPC", str(tmp_path / "lib.so"))
    with pytest.raises(DeviceError, match="has no remote_handle64_open: a newer one is needed"):
        opened("hexagon")


def test_no_memory_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened("hexagon").new_session()
    with monkeypatch.context() as patch:
        patch.setenv("HVL_FAKE_FAULT", "old")
        with pytest.raises(MemoryError, match="bytes of memory that the DSP can read"):
            session.prefill(IDS)
    session.prefill(IDS)


def test_a_dsp_that_dies_in_a_run(reference: Engine) -> None:
    engine = opened("hexagon", fallback="hexagon-ref")
    session = engine.new_session()
    session.prefill(IDS)
    before = set(programs())
    killer = threading.Timer(0.3, lambda: [os.kill(one, signal.SIGKILL) for one in before - module_programs])
    killer.start()
    with pytest.raises(DeviceError, match="the DSP ended, or lost its session"):
        session.encode(np.zeros((400, 400, 3), np.uint8), 1.0, "large")
    killer.join()
    with pytest.raises(DeviceError, match="the DSP ended, or lost its session"):
        session.decode(3)
    branch, image, question, _ = next(iter(questions(1)))
    expected = reference.generate(image, question, branch=branch, max_new_tokens=3).tokens
    with pytest.warns(RuntimeWarning, match="hexagon-ref is used instead of device hexagon: the DSP ended"):
        assert engine.generate(image, question, branch=branch, max_new_tokens=3).tokens == expected
    assert engine.generate(image, question, branch=branch, max_new_tokens=3).tokens == expected  # by another program on the DSP
    assert set(programs()) - before != set()


@pytest.mark.parametrize("call", [2, 4])
def test_no_reply_in_time(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(monkeypatch, remote_timeout_s=1.0)
    monkeypatch.setenv("HVL_FAKE_FAULT", f"hang:{call}")
    began = time.monotonic()
    with pytest.raises(DeviceError, match="gave no reply in 1 s"):
        opened("hexagon").new_session().prefill(IDS)
    assert time.monotonic() - began < 10


@pytest.fixture(scope="module")
def rpc(hexagon_folder: Path) -> Iterator[Rpc]:
    with Rpc(hexagon_folder) as running:
        running.open()
        assert running.process is not None
        module_programs.add(running.process.pid)
        yield running


def test_handles(rpc: Rpc) -> None:
    handles = [result.handles[0] for result in (rpc.open() for _ in range(3))]  # and that of the fixture
    assert len(set(handles)) == 3
    assert rpc.open().code == NO_MEMORY
    assert rpc.ask(handles[0], b"no message") == (DONE, rpc.ask(handles[1], b"no message")[1])
    assert rpc.ask(99, b"no message")[0] == BAD_ARGUMENT
    for handle in handles:
        assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=[handle]).code == DONE
        assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=[handle]).code == BAD_ARGUMENT
        assert rpc.invoke(handle, scalars(CANCEL)).code == BAD_ARGUMENT


def status(reply: bytes) -> int:
    magic, found = struct.unpack_from("<2I", reply)
    assert magic == MAGIC
    return int(found)


def test_replies_that_do_not_fit_are_fetched(rpc: Rpc) -> None:
    (handle,) = rpc.open().handles
    assert rpc.invoke(handle, scalars(FETCH, 0, 1), [], [16]).code == BAD_ARGUMENT
    code, reply = rpc.ask(handle, message(OPEN, struct.pack("<iq", 1, 1 << 16)), room=3)
    assert (code, status(reply)) == (DONE, OK)
    assert rpc.invoke(handle, scalars(FETCH, 0, 1), [], [len(reply) + 3]).code == BAD_ARGUMENT
    assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=[handle]).code == DONE


@pytest.mark.parametrize(
    ("fd", "size", "offset", "count"),
    [(1 << 30, 4096, 0, 4096), (-1, 4096, 0, 4096), (0, 4096, 0, 4096), (5, 1 << 40, 0, 4096), (5, 4096, 64, 4), (5, 4096, 4096, 1),
     (5, 4096, 2**64 - 128, 256), (5, 4096, 0, 0)],
)  # fmt: skip
def test_mapped_weights_that_are_not_there(rpc: Rpc, fd: int, size: int, offset: int, count: int) -> None:
    (handle,) = rpc.open().handles
    assert status(rpc.ask(handle, message(OPEN, struct.pack("<iq", 1, 1 << 16)))[1]) == OK
    body = struct.pack("<Ii3Q", 1, fd, size, offset, count)
    assert status(rpc.ask(handle, message(16, body))[1]) == INVALID
    assert status(rpc.ask(handle, message(16, body[:-1]))[1]) == MALFORMED
    assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=[handle]).code == DONE


counts = st.sampled_from([0, 0, 1, 1, 2, 3])
sizes = st.sampled_from([0, 1, 3, 4, 5, 8, 100])


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_calls_give_a_result(rpc: Rpc, data: st.DataObject) -> None:
    """Any method, any number of arguments, any lengths, any handle."""
    method = data.draw(st.sampled_from([0, 1, 2, 2, 3, 4, 5, 31]))
    ins = [data.draw(st.binary(min_size=n, max_size=n)) for n in data.draw(st.lists(sizes, max_size=3))]
    outs = data.draw(st.lists(sizes, max_size=3))
    handles_in = [data.draw(st.integers(0, 9)) for _ in range(data.draw(counts))]
    handles_out = data.draw(counts)
    word = scalars(method, len(ins), len(outs), len(handles_in), handles_out) | data.draw(st.integers(0, 7)) << 29
    result = rpc.invoke(data.draw(st.integers(0, 9)), word, ins, outs, handles_in)
    if method > CANCEL:
        assert result.code == UNKNOWN_METHOD
    elif method == EXCHANGE and (len(ins), len(outs), len(handles_in), handles_out) != (1, 2, 0, 0):
        assert result.code == BAD_ARGUMENT
    if result.code == DONE and method == 0:
        assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=result.handles).code == DONE
