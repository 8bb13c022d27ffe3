"""Device "hexagon-sim": what the DSP program computes is what "hexagon-ref" computes, bit for bit; whatever goes wrong is a typed error."""

from __future__ import annotations

import os
import signal
import struct
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypervl_engine.engine import Engine, load
from hypervl_engine.errors import CancelledError, HyperVLError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.compare_questions import questions
from tools.hexagon.dsp import CACHES, CANCEL, INVALID, LOAD, MAGIC, MALFORMED, MEMORY, OK, OPEN, PUT, RESIZE, RUN, Dsp, message, messages
from tools.hexagon.processes import running
from tools.hexagon.record_session import IDS, recorder


@pytest.fixture(scope="module", autouse=True)
def emulator(hexagon_folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVL_HEXAGON", str(hexagon_folder))
        yield


def opened(device: str, **options: object) -> Engine:
    """The demo model."""
    return load(device=device, progress=False, **{"threads": 1, "context_length": 512, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reference() -> Engine:
    return opened("hexagon-ref")


@pytest.fixture(scope="module")
def emulated() -> Engine:
    return opened("hexagon-sim")


@pytest.fixture(scope="module")
def small_picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)


def test_a_tile_is_the_same(reference: Engine, emulated: Engine, small_picture: np.ndarray) -> None:
    for branch in emulated.branches:
        (ours,), (expected,) = (e.new_session().encode_tower(small_picture, 1.0, branch) for e in (emulated, reference))
        np.testing.assert_array_equal(ours, expected)


def test_images_are_resized_the_same(reference: Engine, emulated: Engine) -> None:
    image = np.random.default_rng(4).integers(0, 256, (150, 217, 3), np.uint8)
    sessions = [engine.new_session() for engine in (emulated, reference)]
    ours, expected = (session.pixel_values(image, 0.63) for session in sessions)
    np.testing.assert_array_equal(ours, expected)
    ours, expected = (session.vrc_scale(image) for session in sessions)
    assert ours == expected
    counts = sessions[0].remote_counts()["resize"]
    assert counts["runs"] == 2
    assert counts["packets"] > 100_000
    assert counts["ops"] == []
    assert "resize" not in sessions[1].remote_counts()


def test_prefill_and_decode_are_the_same(reference: Engine, emulated: Engine) -> None:
    sessions = [engine.new_session() for engine in (emulated, reference)]
    ours, expected = (session.prefill(IDS, logits=True) for session in sessions)
    assert ours is not None
    np.testing.assert_array_equal(ours, expected)
    for token in (17, 5):
        for session in sessions:
            session.decode(token)
        np.testing.assert_array_equal(sessions[0].last_logits(), sessions[1].last_logits())
    counts = sessions[0].remote_counts()
    assert counts["qwen3_layers"]["runs"] == 3
    ops = counts["qwen3_layers"]["ops"]
    assert all(op["steps"] and op["packets"] for op in ops)
    assert 0.9 < sum(op["packets"] for op in ops) / counts["qwen3_layers"]["packets"] < 1  # the rest is between the kernels
    assert {"linear", "attention", "norm", "kv_store"} <= {op["kind"] for op in ops}
    assert sessions[1].remote_counts() == {}


def test_questions_are_answered_the_same(reference: Engine) -> None:
    """Eight of those of tools/hexagon/compare_questions.py, planned for the NPU."""
    planned = opened("hexagon-sim", spec="hexagon-v73")
    for branch, image, question, _ in questions(8):
        ours, expected = (e.generate(image, question, branch=branch, max_new_tokens=8) for e in (planned, reference))
        assert ours.tokens == expected.tokens, question
    assert planned.stats["programs"]["siglip2_tile"]["packets"] > 0


@pytest.mark.parametrize("eager", [False, True])
def test_a_staged_plan_gives_the_same(reference: Engine, eager: bool) -> None:
    staged = opened("hexagon-sim", spec="hexagon-v73", vtcm="300KiB", threads=2)
    sessions = [engine.new_session() for engine in (staged, reference)]
    sessions[0].set_eager_transfers(eager)
    ours, expected = (session.prefill(IDS, logits=True) for session in sessions)
    np.testing.assert_array_equal(ours, expected)  # type: ignore[arg-type]
    stats = sessions[0].stats()
    assert stats["transferred_in_bytes"] > 0
    # Of the four contexts that were planned for, two have no thread here, nor any use for their scratch.
    assert 0.8 * stats["fast_planned_bytes"] < stats["fast_peak_bytes"] <= stats["fast_planned_bytes"] <= 300 << 10


def test_cancelling_leaves_a_session_that_works(reference: Engine, emulated: Engine) -> None:
    session, other = emulated.new_session(), reference.new_session()
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


def test_resizing_can_be_cancelled(reference: Engine, emulated: Engine) -> None:
    session, other = emulated.new_session(), reference.new_session()
    canceller = threading.Timer(0.3, session.cancel)
    canceller.start()
    with pytest.raises(CancelledError):  # seconds' work
        session.pixel_values(np.zeros((2000, 2500, 3), np.uint8), 0.6)
    canceller.join()
    assert "resize" not in session.remote_counts()
    image = np.random.default_rng(5).integers(0, 256, (60, 90, 3), np.uint8)
    np.testing.assert_array_equal(session.pixel_values(image, 0.6), other.pixel_values(image, 0.6))


def test_a_picture_that_fits_into_no_message_is_resized_on_the_host(reference: Engine, emulated: Engine) -> None:
    image = np.random.default_rng(6).integers(0, 256, (6000, 7500, 3), np.uint8)  # 135 MB
    sessions = [engine.new_session() for engine in (emulated, reference)]
    ours, expected = (session.pixel_values(image, 0.02) for session in sessions)
    np.testing.assert_array_equal(ours, expected)
    assert "resize" not in sessions[0].remote_counts()


def test_a_device_that_dies_is_a_typed_error(emulated: Engine) -> None:
    session = emulated.new_session()
    session.prefill(IDS)
    os.kill(running("v68/dsp", os.getpid())[-1], signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(HyperVLError, match="the emulated device ended"):
            session.decode(3)
    emulated.new_session().prefill(IDS)


def test_no_emulator_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVL_HEXAGON", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"setup\.sh"):
        opened("hexagon-sim")


def test_what_is_no_device_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in {"bin/qemu-hexagon": "#!/bin/sh\necho no such luck >&2\nexit 3\n", "v68/dsp": ""}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("HVL_HEXAGON", str(tmp_path))
    with pytest.raises(HyperVLError, match=r"ended \(exit code 3\): no such luck"):
        opened("hexagon-sim").new_session()


@pytest.fixture(scope="module")
def recorded(hexagon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The messages of a prefill of 40 tokens."""
    folder = tmp_path_factory.mktemp("recorder")
    recorder(folder, hexagon_folder, folder / "stream")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVL_HEXAGON", str(folder))
        opened("hexagon-sim", spec="hexagon-v73", vtcm="300KiB").new_session().prefill(IDS)
    return messages((folder / "stream").read_bytes())


def kind(of: bytes) -> int:
    magic, found = struct.unpack_from("<2I", of)
    assert magic == MAGIC
    return int(found)


def first(recorded: list[bytes], of_kind: int) -> bytes:
    return next(one for one in recorded if kind(one) == of_kind)


def changed(of: bytes, change: Callable[[bytearray], object]) -> bytes:
    """A message with its body changed, and its hash right."""
    body = bytearray(of[8:-8])
    change(body)
    return message(kind(of), bytes(body))


def word(at: int, value: int) -> Callable[[bytearray], object]:
    return lambda body: body.__setitem__(slice(at, at + 4), struct.pack("<I", value))


@pytest.fixture
def dsp(hexagon_folder: Path) -> Iterator[Dsp]:
    with Dsp(hexagon_folder) as running:
        yield running


def replay(dsp: Dsp, recorded: list[bytes]) -> bytes:
    """All of them; what the last gave."""
    outputs = b""
    for one in recorded:
        answer = dsp.ask(one)
        assert answer.status == OK, answer.text
        outputs = answer.outputs
    return outputs


def test_every_message_needs_those_before_it(dsp: Dsp, recorded: list[bytes]) -> None:
    assert message(kind(recorded[0]), recorded[0][8:-8]) == recorded[0]
    for of_kind in (PUT, LOAD, CACHES, RUN):
        assert dsp.ask(first(recorded, of_kind)).status == INVALID
    assert dsp.ask(first(recorded, OPEN)).status == OK
    for of_kind in (OPEN, LOAD, RUN):
        assert dsp.ask(first(recorded, of_kind)).status == INVALID
    assert len(replay(dsp, recorded[1:])) > 0


def test_too_much_is_refused(dsp: Dsp, recorded: list[bytes]) -> None:
    assert dsp.ask(message(OPEN, struct.pack("<iq", 1, 1 << 40))).status == INVALID
    assert dsp.ask(message(OPEN, struct.pack("<iq", 1000, 1 << 20))).status == INVALID
    assert dsp.ask(first(recorded, OPEN)).status == OK
    assert dsp.ask(message(CACHES, struct.pack("<5i", 4000, 8, 128, 1 << 16, 8))).status == MEMORY
    assert dsp.ask(message(CACHES, struct.pack("<5i", 1, 8, 128, 2**31 - 16, 8))).status == INVALID


def test_a_plan_for_more_memory_is_refused(dsp: Dsp, recorded: list[bytes]) -> None:
    assert dsp.ask(message(OPEN, struct.pack("<iq", 1, 1 << 12))).status == OK
    for one in recorded[1:]:
        if kind(one) == LOAD:
            answer = dsp.ask(one)
            assert answer.status == INVALID
            assert "bytes of fast memory" in answer.text
            return
        assert dsp.ask(one).status == OK


def test_tokens_beyond_the_vocabulary_are_refused(dsp: Dsp, recorded: list[bytes]) -> None:
    runs = [i for i, one in enumerate(recorded) if kind(one) == RUN]
    outputs = replay(dsp, recorded[: runs[0] + 1])
    answer = dsp.ask(changed(recorded[runs[0]], word(24, 1 << 20)))  # the first bound part: ids
    assert answer.status == INVALID
    assert "outside the vocabulary" in answer.text
    assert dsp.ask(recorded[runs[0]]).outputs == outputs


def test_truncated_and_damaged_messages_give_a_status(dsp: Dsp, recorded: list[bytes]) -> None:
    outputs = replay(dsp, recorded)
    for of_kind in (OPEN, PUT, LOAD, CACHES, RUN):
        whole = first(recorded, of_kind)
        for end in {0, 1, 7, 8, 15, 16, 17, 27, len(whole) // 2, len(whole) - 1}:
            assert dsp.ask(whole[:end]).status == MALFORMED
        if of_kind != PUT:  # a weight may be shorter
            for end in {0, 1, 7, (len(whole) - 16) // 2, len(whole) - 17}:
                assert dsp.ask(message(of_kind, whole[8 : 8 + end])).status == MALFORMED
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 16
        assert dsp.ask(bytes(flipped)).status == MALFORMED
    assert dsp.ask(message(99, b"")).status == MALFORMED
    assert dsp.ask(recorded[-1]).outputs == outputs


class Axis(NamedTuple):
    """Taps of a side, as a message has them."""

    taps: int = 0
    first: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    def packed(self) -> bytes:
        words = (self.taps, len(self.first), *self.first, len(self.weights), *self.weights)
        return struct.pack(f"<{len(words)}i", *words)


WHOLE, HALVES = Axis(), Axis(2, (0, 2), (1 << 21,) * 4)  # of four pixels


def resizing(sides: tuple[int, int, int, int] = (4, 3, 2, 3), across: Axis = WHOLE, down: Axis = HALVES, pixels: int = 36) -> bytes:
    """A message: (in height, in width, height, width)."""
    return message(RESIZE, struct.pack("<4i", *sides) + across.packed() + down.packed() + bytes(range(pixels)))


def test_an_image_is_resized(dsp: Dsp) -> None:
    assert dsp.ask(resizing()).status == INVALID  # nothing was opened
    assert dsp.ask(message(OPEN, struct.pack("<iq", 2, 1 << 20))).status == OK
    answer = dsp.ask(resizing())
    assert (answer.status, answer.packets > 0) == (OK, True)
    lines = np.arange(36).reshape(2, 2, 9)
    np.testing.assert_array_equal(np.frombuffer(answer.outputs, np.uint8).reshape(2, 9), (lines.sum(1) + 1) // 2)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (resizing(pixels=35), MALFORMED),
        (resizing(pixels=37), MALFORMED),
        (message(RESIZE, struct.pack("<4i", 4, 3, 2, 3)), MALFORMED),
        (resizing((0, 3, 2, 3)), INVALID),
        (resizing((-4, 3, 2, 3)), INVALID),
        (resizing((4, 3, 1 << 23, 1 << 23)), INVALID),
        (resizing((4, 3, 2, 4)), INVALID),
        (resizing(across=HALVES), INVALID),
        (resizing(down=WHOLE), INVALID),
        (resizing(down=Axis(5, (0, 0), (1,) * 10)), INVALID),
        (resizing(down=Axis(2, (0, 3), (1,) * 4)), INVALID),
        (resizing(down=Axis(2, (-1, 2), (1,) * 4)), INVALID),
        (resizing(down=Axis(2, (2, 0), (1,) * 4)), INVALID),
        (resizing(down=Axis(2, (0, 2), (1,) * 3)), INVALID),
        (resizing(down=Axis(2, (0, 2), (-(2**31),) * 4)), INVALID),
        (resizing(down=Axis(2, (0, 2), (127 << 16, -1) * 2)), INVALID),
    ],
)
def test_what_cannot_be_resized_is_refused(dsp: Dsp, wrong: bytes, status: int) -> None:
    assert dsp.ask(message(OPEN, struct.pack("<iq", 1, 1 << 20))).status == OK
    answer = dsp.ask(wrong)
    assert (answer.status, answer.outputs) == (status, b"")
    assert dsp.ask(resizing()).status == OK


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_program_plan_run_or_resizing_ends_the_process(changing: tuple[Dsp, list[bytes], bytes], data: st.DataObject) -> None:
    """Words of good messages replaced by others, under a right hash."""
    dsp, recorded, outputs = changing
    of_kind = data.draw(st.sampled_from([LOAD, RUN, CACHES, RESIZE]))
    whole = resizing() if of_kind == RESIZE else first(recorded, of_kind)
    body = bytearray(whole[8:-8])
    if kind(whole) == LOAD:
        struct.pack_into("<I", body, 0, data.draw(st.integers(100, 2**32 - 1)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, min(len(body), 20000) - 4))
        value = data.draw(st.sampled_from([0, 1, 3, 255, 2**15 - 1, 2**16, 2**24, 2**28 + 1, 2**31 - 1, 2**31, 2**32 - 1]))
        struct.pack_into("<I", body, at, value)
    dsp.ask(message(kind(whole), bytes(body)))
    dsp.ask(first(recorded, CACHES))
    last = dsp.ask(recorded[-1])
    assert (last.status, last.outputs) == (OK, outputs)


@pytest.fixture(scope="module")
def changing(hexagon_folder: Path, recorded: list[bytes]) -> Iterator[tuple[Dsp, list[bytes], bytes]]:
    with Dsp(hexagon_folder) as running:
        yield running, recorded, replay(running, recorded)


def test_every_message_that_fuzzing_found_is_answered(dsp: Dsp, recorded: list[bytes]) -> None:
    """tests/hexagon/wire_corpus.tar.xz: a file for each path through the code that `make hexagon-fuzz` reached, the kind first."""
    expected = replay(dsp, recorded)
    statuses = Counter[int]()
    with tarfile.open(Path(__file__).parent / "wire_corpus.tar.xz") as corpus:
        for member in corpus:
            stream = corpus.extractfile(member) if member.isfile() else None
            found = stream.read() if stream else b""
            if found and found[0] % 16 != CANCEL:  # which is not answered
                statuses[dsp.ask(message(found[0] % 16, found[1:])).status] += 1
    assert statuses.total() > 300
    assert {OK, MALFORMED, INVALID} <= set(statuses) <= {OK, MALFORMED, INVALID, MEMORY}
    assert dsp.ask(first(recorded, CACHES)).status == OK
    assert replay(dsp, [one for one in recorded if kind(one) == RUN]) == expected
