"""The same bits whatever the threads, the instruction set, and the way a prompt is cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypervl_engine import _core
from hypervl_engine.engine import load

from tools.reference import write_random

SCRIPT = """
import hashlib, sys
import numpy as np
from hypervl_engine.engine import load

threads, activation_bits, kv_bits = map(int, sys.argv[2:5])
options = {"activation_bits": activation_bits, "kv_bits": kv_bits, "device": sys.argv[5]}
engine = load(sys.argv[1], threads=threads, context_length=1024, progress=False, **options)
session = engine.new_session()
digest = hashlib.sha256()
rgb = np.random.default_rng(3).integers(0, 256, (150, 211, 3)).astype(np.uint8)
digest.update(str(session.vrc_scale(rgb)).encode())
digest.update(session.pixel_values(rgb, 0.7).tobytes())
for branch in ("base", "large"):
    digest.update(session.encode(rgb, 0.7, branch).tobytes())
    ids = np.concatenate([[5, 6, 7], engine.model.image_token_ids(150, 211, 0.7), np.arange(300)]).astype(np.int32)
    session.reset()
    digest.update(session.prefill(ids, [(rgb, 0.7)], branch, logits=True).tobytes())
    for token in (4, 99, 300):
        session.decode(token)
        digest.update(session.last_logits().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("tiny") / "checkpoint")


def run(folder: Path, threads: int, activation_bits: int, isa: str, kv_bits: int = 16, device: str = "cpu") -> str:
    environment = os.environ | {"HVL_FORCE_ISA": isa}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(threads), str(activation_bits), str(kv_bits), device]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(("activation_bits", "kv_bits"), [(16, 16), (16, 8), (8, 16), (8, 8)])
def test_same_bits_for_every_thread_count_and_instruction_set(tiny: Path, activation_bits: int, kv_bits: int) -> None:
    best = _core.cpu_info()["available"][-1]
    expected = run(tiny, 1, activation_bits, best, kv_bits)
    assert len(expected) == len(hashlib.sha256().hexdigest())
    assert [run(tiny, threads, activation_bits, best, kv_bits) for threads in (2, 7)] == [expected] * 2
    for isa in _core.cpu_info()["available"]:
        assert run(tiny, 2, activation_bits, isa, kv_bits) == expected, isa


@pytest.mark.parametrize("activation_bits", [16, 8])
def test_same_bits_in_integers(tiny: Path, activation_bits: int) -> None:
    best = _core.cpu_info()["available"][-1]
    expected = run(tiny, 1, activation_bits, best, 8, "hexagon-ref")
    assert [run(tiny, threads, activation_bits, best, 8, "hexagon-ref") for threads in (2, 7)] == [expected] * 2
    for isa in _core.cpu_info()["available"]:  # image operations and the VRC have variants
        assert run(tiny, 2, activation_bits, isa, 8, "hexagon-ref") == expected, isa
    assert run(tiny, 1, activation_bits, best, 8) != expected


def test_activation_and_cache_bits_matter(tiny: Path) -> None:
    best = _core.cpu_info()["available"][-1]
    assert len({run(tiny, 1, bits, best, kv_bits) for bits in (16, 8) for kv_bits in (16, 8)}) == 4


@pytest.mark.parametrize("device", ["cpu", "hexagon-ref"])
def test_prompt_cut_into_pieces(tiny: Path, device: str) -> None:
    """Several prefills, cut anywhere, give one prefill's logits."""
    engine = load(tiny, threads=2, context_length=1024, device=device, progress=False)
    ids = np.random.default_rng(0).integers(0, 400, 300).astype(np.int32)
    whole = engine.new_session().prefill(ids, logits=True)
    assert whole is not None
    session = engine.new_session()
    for begin, end in ((0, 1), (1, 17), (17, 145), (145, 146), (146, 300)):
        part = session.prefill(ids[begin:end], logits=True)
        np.testing.assert_array_equal(part, whole[begin:end])


def test_unknown_instruction_set_is_refused(tiny: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tiny), "1", "16", "16", "cpu"]
    result = subprocess.run(command, env=os.environ | {"HVL_FORCE_ISA": "sse9"}, capture_output=True, text=True)
    assert result.returncode != 0
    assert "sse9" in result.stderr
    assert "reference" in result.stderr  # what is available
