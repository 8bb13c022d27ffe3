"""The text model beside transformers' Qwen3ForCausalLM in float32, fed with the dequantised weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypervl_engine.engine import load

from tools.reference import qwen3, relative_l2, write_random

TOLERANCE = 1e-3  # relative L2 of a position's logits
POSITIONS = 256


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1.7B text model at its true width, cut to three layers and a smaller vocabulary."""
    text = {"num_hidden_layers": 3, "vocab_size": 8192, "eos_token_id": 8100, "bos_token_id": 8101}
    return write_random(tmp_path_factory.mktemp("wide") / "checkpoint", text=text)


def test_logits_equal_transformers(wide: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 8000, POSITIONS).astype(np.int32)
    session = load(wide, threads=2, context_length=512, progress=False).new_session()
    ours = session.prefill(ids, logits=True)
    assert ours is not None
    with torch.no_grad():
        theirs = qwen3(wide)(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    error = relative_l2(ours, theirs)
    assert error.max() < TOLERANCE
    # The best token agrees wherever the reference's lead over the second is clear of what the tolerance allows.
    top = np.sort(theirs, axis=-1)
    clear = top[:, -1] - top[:, -2] > 4 * TOLERANCE * np.abs(theirs).max(axis=-1)
    assert clear.mean() > 0.5
    assert (ours.argmax(-1) == theirs.argmax(-1))[clear].all()


@pytest.mark.parametrize("kv_bits", [16, 8])
def test_decode_equals_prefill_bit_for_bit(wide: Path, kv_bits: int) -> None:
    ids = np.random.default_rng(1).integers(0, 8000, 150).astype(np.int32)
    engine = load(wide, threads=2, context_length=512, kv_bits=kv_bits, progress=False)
    whole = engine.new_session().prefill(ids, logits=True)
    assert whole is not None
    session = engine.new_session()
    session.prefill(ids[:133])
    np.testing.assert_array_equal(session.last_logits(), whole[132])
    for position in range(133, 150):
        session.decode(int(ids[position]))
        np.testing.assert_array_equal(session.last_logits(), whole[position])
