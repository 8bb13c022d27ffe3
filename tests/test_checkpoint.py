"""Loading a packed checkpoint: what is checked, and the packer by itself. Its cache file: test_cache.py."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _core
from hypervl_engine.checkpoint import open_checkpoint
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFile
from hypervl_engine.tensors import expected_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_checkpoint import NORM, Q_PROJ, edit, packed, write_tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source, tmp_path / "tiny")
    return tmp_path / "tiny"


def test_packed_weights_are_the_files(source: Path, tmp_path: Path) -> None:
    store = packed(source, tmp_path / "cache")
    file = SafetensorsFile(source / "model.safetensors")
    nibbles = file.array(Q_PROJ + "_packed").view(np.uint8)
    q = np.stack([nibbles & 15, nibbles >> 4], -1).reshape(nibbles.shape[0], -1).astype(np.float32) - 8
    scales = file.array(Q_PROJ + "_scale")
    expected = (q.reshape(*scales.shape, -1) * scales[:, :, None]).reshape(q.shape)
    np.testing.assert_array_equal(store.dequantize(Q_PROJ), expected)
    np.testing.assert_array_equal(store.array(NORM), file.array(NORM))
    assert store.info(Q_PROJ)["scale_bits"] == 16


def test_missing_tensors_are_named(copy: Path) -> None:
    edit(copy, lambda tensors: [tensors.pop(name) for name in (NORM, Q_PROJ + "_scale")])
    with pytest.raises(CheckpointError, match=r"missing") as caught:
        open_checkpoint(copy).open_weights()
    assert NORM in str(caught.value)
    assert Q_PROJ + "_scale" in str(caught.value)


def test_extra_tensors_are_one_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(copy, lambda t: t.update({f"extra.{i}": ("F32", np.zeros(2, np.float32)) for i in range(9)}))
    with caplog.at_level(logging.WARNING, "hypervl_engine"):
        open_checkpoint(copy).open_weights()
    assert len(caplog.records) == 1
    assert "9 tensors are not used" in caplog.text


CHANGES: dict[str, tuple[str, str, Any]] = {
    "norm shape": (NORM, "F32", np.zeros(5, np.float32)),
    "norm dtype": (NORM, "I32", np.zeros(128, np.int32)),
    "norm NaN": (NORM, "F32", np.full(128, np.nan, np.float32)),
    "words shape": (Q_PROJ + "_packed", "I32", np.zeros((128, 15), np.int32)),
    "words dtype": (Q_PROJ + "_packed", "F32", np.zeros((128, 16), np.float32)),
    "scale shape": (Q_PROJ + "_scale", "F32", np.ones((128, 2), np.float32)),
    "scale NaN": (Q_PROJ + "_scale", "F32", np.full((128, 1), np.nan, np.float32)),
    "scale infinite": (Q_PROJ + "_scale", "F16", np.full((128, 1), np.inf, np.float16)),
    "scale negative": (Q_PROJ + "_scale", "F32", np.full((128, 1), -0.5, np.float32)),
    "scale integer": (Q_PROJ + "_scale", "I32", np.ones((128, 1), np.int32)),
    "shape differs": (Q_PROJ + "_shape", "I64", np.array([128, 127])),
    "shape shape": (Q_PROJ + "_shape", "I64", np.array([128])),
    "vrc dtype": ("model.vrc.fc1.weight", "F32", np.zeros((24, 50), np.float32)),
    "vrc scale": ("model.vrc.fc1.weight_scale", "F32", np.full(24, -1.0, np.float32)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wrong_tensors_are_named(copy: Path, change: str) -> None:
    name, dtype, values = CHANGES[change]
    edit(copy, lambda tensors: tensors.update({name: (dtype, values)}))
    with pytest.raises(CheckpointError, match=r"expected .*got ") as caught:
        open_checkpoint(copy).open_weights()
    assert name in str(caught.value)


@pytest.mark.parametrize(("dtype", "numpy_dtype", "bits"), [("F16", np.float16, 16), ("F32", np.float32, 32)])
def test_scales_of_any_float(copy: Path, dtype: str, numpy_dtype: Any, bits: int) -> None:
    values = (np.arange(128).reshape(128, 1) / 997 + 0.001).astype(numpy_dtype)
    edit(copy, lambda tensors: tensors.update({Q_PROJ + "_scale": (dtype, values)}))
    store = open_checkpoint(copy).open_weights()
    assert store.info(Q_PROJ)["scale_bits"] == bits
    ones = np.abs(store.dequantize(Q_PROJ)) / values.astype(np.float32)
    np.testing.assert_allclose(ones, np.rint(ones), atol=1e-4)


def test_bfloat16_scales_keep_their_value(copy: Path) -> None:
    values = np.full((128, 1), 0x3E2B, np.uint16)
    edit(copy, lambda tensors: tensors.update({Q_PROJ + "_scale": ("BF16", values)}))
    scale = np.array([0x3E2B0000], np.uint32).view(np.float32)[0]
    weights = open_checkpoint(copy).open_weights().dequantize(Q_PROJ)
    assert set(np.unique(weights)) <= {np.float32(q) * scale for q in range(-8, 8)}


def test_zero_points_are_compressed_tensors_zero_points(copy: Path) -> None:
    import torch
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_name

    config = json.loads((copy / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["weights"]["symmetric"] = False
    (copy / "config.json").write_text(json.dumps(config))
    linears = {n: s for n, s in expected_tensors(open_checkpoint(copy).parsed_config).items() if s.kind == "linear"}
    rng = np.random.default_rng(0)

    def add(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]]) -> None:
        for name, spec in linears.items():
            high = 1 << (spec.bits - 1)
            zero = rng.integers(-high, high, (spec.shape[0], spec.groups), np.int8)
            tensors[name + "_zero_point"] = ("I32", pack_to_int32(torch.from_numpy(zero), spec.bits, packed_dim=0).numpy())

    edit(copy, add)
    store = open_checkpoint(copy).open_weights()
    file = SafetensorsFile(copy / "model.safetensors")
    groups = QuantizationConfig(**config["quantization_config"]).config_groups.values()
    for name in linears:
        module = name.removesuffix(".weight")
        scheme = next(s for s in groups if any(match_name(module, t) for t in s.targets))
        parts = ("packed", "scale", "shape", "zero_point")
        stored = {f"weight_{part}": torch.from_numpy(file.array(f"{name}_{part}").copy()) for part in parts}
        theirs = PackedQuantizationCompressor.decompress(stored, scheme)["weight"].numpy()
        np.testing.assert_array_equal(store.dequantize(name), theirs)
        assert store.info(name)["zero_points"]
    edit(copy, lambda tensors: tensors.pop(Q_PROJ + "_zero_point") and None)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight_zero_point"):
        open_checkpoint(copy).open_weights()


def test_a_truncated_source(copy: Path, tmp_path: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        packed(copy, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.hvlpack"))


def test_missing_files(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_checkpoint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        open_checkpoint(tmp_path / "empty")
    (copy / "generation_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="generation_config"):
        open_checkpoint(copy)
    (copy / "generation_config.json").unlink()
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        packed(copy, tmp_path / "cache")


# The packer by itself.


def test_packer_wants_its_plan() -> None:
    packer = _core.WeightPacker(None, "", "{}")
    packer.plan_array("a", "F32", [2, 3])
    packer.plan_linear("w", 40, 64, 4, 32, 16)
    for bad in (lambda: packer.plan_array("a", "F32", [1]), lambda: packer.finish()):
        with pytest.raises(ValueError):
            bad()
    for shape, dtype in (([-1], "F32"), ([1 << 50, 1 << 50], "F32"), ([1], "C64"), ([1] * 5, "F32")):
        with pytest.raises(CheckpointError, match="bad"):
            packer.plan_array("bad", dtype, shape)
    for rows, cols, bits, group, scale in (
        (0, 64, 4, 32, 16),
        (8, 64, 3, 32, 16),
        (8, 64, 4, 48, 16),
        (8, 64, 4, 32, 8),
    ):
        with pytest.raises(CheckpointError, match="bad"):
            packer.plan_linear("bad", rows, cols, bits, group, scale)
    packer.begin()
    words, scales = np.zeros((40, 8), np.int32), np.ones((40, 2), np.float32)
    for bad_words, bad_scales in (
        (words[:39], scales[:39]),
        (words[:, :7].copy(), scales),
        (words, np.ones((40, 3), np.float32)),
        (words[:, ::2], scales),
        (words.astype(np.int64), scales),
        (words, scales.astype(np.float64)),
        (words.reshape(-1), scales),
        (words, np.full((40, 2), 1 / 3, np.float32)),
    ):
        with pytest.raises(ValueError):
            packer.write_linear("w", bad_words, bad_scales)
    with pytest.raises(ValueError, match="without zero points"):
        packer.write_linear("w", words, scales, np.zeros((40, 2), np.int8))
    packer.write_linear("w", words, scales)
    with pytest.raises(ValueError, match="already"):
        packer.write_linear("w", words, scales)
    with pytest.raises(ValueError, match="not planned"):
        packer.write_array("b", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="linear"):
        packer.write_array("w", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="not written"):
        packer.finish()
    with pytest.raises(ValueError):
        packer.write_array("a", np.zeros((3, 2), np.float32))
    packer.write_array("a", np.zeros((2, 3), np.float32))
    store = packer.finish()
    assert store.names() == ["a", "w"]
    with pytest.raises(CheckpointError, match="nothing"):
        store.info("nothing")


def test_an_unfinished_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.hvlpack"
    packer = _core.WeightPacker(str(path), "f", "{}")
    packer.plan_array("a", "I8", [3])
    packer.begin()
    packer.write_array("a", np.ones(3, np.int8))
    with pytest.raises(CheckpointError, match="never finished"):
        _core.WeightStore.open(str(path), "f")
    packer.finish()
    assert _core.WeightStore.open(str(path), "f").array("a").tolist() == [1, 1, 1]
    again = _core.WeightPacker(str(path), "f", "{}")
    again.plan_array("a", "I8", [3])
    with pytest.raises(FileExistsError):
        again.begin()


@settings(max_examples=100, deadline=None)
@given(size=st.integers(0, 5000), position=st.integers(0, 4999), bit=st.integers(0, 7), seed=st.integers(0, 99))
def test_hash_sees_every_bit(size: int, position: int, bit: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    before = _core.hash64(data)
    assert before != _core.hash64(np.append(data, np.uint8(0)))
    if size:
        data[position % size] ^= 1 << bit
        assert _core.hash64(data) != before


def test_hash_of_large_data_sees_order() -> None:
    data = np.random.default_rng(0).integers(0, 256, 9 << 20, dtype=np.uint8)
    swapped = np.concatenate([data[1 << 20 : 2 << 20], data[: 1 << 20], data[2 << 20 :]])
    assert len({_core.hash64(data), _core.hash64(swapped), _core.hash64(data[::-1].copy())}) == 3
