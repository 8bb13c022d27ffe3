"""Device "hexagon-ref": the whole model in the integer arithmetic of docs/integer_arithmetic.md."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine.convert.random_model import PRESETS
from hypervl_engine.demo import ask
from hypervl_engine.engine import Engine, load
from hypervl_engine.errors import CheckpointError
from safetensors.numpy import load_file, save_file

from kernels.activation.test_activation_fixed import KINDS, table
from kernels.attention.test_attention_fixed import EXP2
from tools.integer_tables import TAILS, exp2_error, exp2_table, tail_error, tail_table
from tools.reference import relative_l2, siglip, write_random

FEATURES = 8e-3  # relative L2 of a token's features beside float32: what 8-bit keys and values cost in two blocks


@pytest.fixture(scope="module")
def integers() -> Engine:
    """The demo model."""
    return load(threads=2, device="hexagon-ref", progress=False)


def with_array(folder: Path, to: Path, name: str, value: float) -> Path:
    """A copy of a checkpoint, one element of an array set."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    path = to / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = tensors[name].copy()
    tensors[name].ravel()[3] = value
    save_file(tensors, path)
    return to


def test_bundled_questions_are_answered_right(integers: Engine) -> None:
    for answered in ask.ask(integers, ask.bundled()):
        assert answered.right, ask.line(answered)


def test_errors_are_those_of_8_bit_keys_and_values(demo: Engine, integers: Engine, picture: np.ndarray) -> None:
    """Beside the CPU's logits with 16-bit caches, integers are about as far as the CPU's with 8-bit caches."""
    embeddings = [engine.encode(picture, scale=1.0) for engine in (demo, integers)]
    assert embeddings[1].dtype == np.float32
    assert relative_l2(embeddings[1], embeddings[0]).max() < FEATURES
    ids = np.arange(120, dtype=np.int32) % 90 + 10
    exact, rounded, ours = (e.new_session().prefill(ids, logits=True) for e in (demo, load(threads=2, kv_bits=8, progress=False), integers))
    assert exact is not None
    assert rounded is not None
    assert ours is not None
    assert np.median(relative_l2(ours, exact)) < 1.5 * np.median(relative_l2(rounded, exact))


def test_scores_are_log_probabilities(integers: Engine, picture: np.ndarray) -> None:
    score = integers.score(picture, "what is the total?", "12")
    assert all(-60 < value <= 0 for value in score.logprobs)
    result = integers.generate(picture, "what is the total?", max_new_tokens=3, logprobs=4)
    assert all(math.isfinite(value) for step in result.top_logprobs for _, value in step)


def test_speculation_says_the_same(integers: Engine) -> None:
    prompt = "one two three one two three one two"
    plain = integers.generate(None, prompt, max_new_tokens=12)
    assert integers.generate(None, prompt, max_new_tokens=12, speculate="lookup").tokens == plain.tokens


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of the published large tower at its true width, on tiles of 256 patches."""
    published = PRESETS["hypervl-1.8b"]
    large = {**published["vision_configs"]["large"], "num_hidden_layers": 2}
    one = {**published, "vision_configs": {"large": large}, "projector_configs": {"large": {"hidden_size": 256}}, "vrc_config": None}
    folder = tmp_path_factory.mktemp("layers") / "checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "large layers", one)
        return write_random(folder, vision="large layers", tiling={"edge_positions": "interpolate"})


def test_tower_beside_transformers(layers: Path) -> None:
    import torch

    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    session = load(layers, threads=2, context_length=64, device="hexagon-ref", progress=False).new_session()
    (ours,) = session.encode_tower(rgb, 1.0, "large")
    with torch.no_grad():
        theirs = siglip(layers, "large")(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1.0).last_hidden_state[0].numpy()
    assert relative_l2(ours, theirs).max() < FEATURES


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.vision_tower.base.encoder.layers.0.mlp.fc1.bias", 70000.0, "holds values within"),
        ("model.vision_tower.base.embeddings.position_embedding.weight", -1e9, "position_rows: the integer arithmetic holds values within"),
    ],
)
def test_values_beyond_the_format_are_refused(tiny: Path, tmp_path: Path, name: str, value: float, message: str) -> None:
    folder = with_array(tiny, tmp_path / "edited", name, value)
    options: dict[str, Any] = {"threads": 1, "context_length": 64, "progress": False}
    load(folder, **options)  # floats hold it
    with pytest.raises(CheckpointError, match=message):
        load(folder, device="hexagon-ref", **options)


def test_norm_weights_of_any_size_are_held(tiny: Path, tmp_path: Path) -> None:
    folder = with_array(tiny, tmp_path / "edited", "model.language_model.norm.weight", 3e7)
    session = load(folder, threads=1, context_length=64, device="hexagon-ref", progress=False).new_session()
    session.prefill(np.arange(5, dtype=np.int32))
    assert np.isfinite(session.last_logits()).all()


def test_the_tables_are_those_of_the_tool() -> None:
    """To what another machine's floats may change in a fit."""
    assert exp2_error() < 4e-6
    np.testing.assert_allclose(EXP2[::-1], exp2_table(), rtol=0, atol=64)
    for kind, name in KINDS.items():
        assert tail_error(name) < 1.0
        shift, coefficients = table(kind)
        assert shift == 15 + TAILS[name][1]
        np.testing.assert_allclose(coefficients, tail_table(name), rtol=0, atol=1)
