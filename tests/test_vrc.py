"""The scale the engine's VRC picks beside the integer network of docs/checkpoint.md in numpy, on trained and random weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hypervl_engine
import numpy as np
import pytest
from hypervl_engine.demo import render
from hypervl_engine.engine import load
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from tools.reference import write_random

DEMO = Path(hypervl_engine.__file__).parent / "demo" / "model"


def load_oracle() -> ModuleType:
    """kernels/vrc/vrc_oracle.py: no package holds it."""
    path = Path(__file__).parent.parent / "kernels" / "vrc" / "vrc_oracle.py"
    spec = importlib.util.spec_from_file_location("vrc_oracle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vrc_oracle"] = module
    spec.loader.exec_module(module)
    return module


class Expected:
    """A checkpoint's VRC in the oracle's terms."""

    def __init__(self, folder: Path) -> None:
        self.oracle = load_oracle()
        self.tensors = load_file(folder / "model.safetensors")
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())["vrc_config"]

    def layer(self, name: str, **options: Any) -> Any:
        t, at = self.tensors, f"model.vrc.{name}"
        weight = t[at + ".weight"]
        weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
        return self.oracle.Layer(weight, t[at + ".weight_scale"], t[at + ".bias"], **options)

    def convolution(self, x: NDArray[np.int64], scale: float, name: str, **options: Any) -> NDArray[np.int64]:
        added, added_scale = options.pop("added", None), options.pop("added_scale", 0.0)
        layer = self.layer(f"backbone.{name}.convolution", **options)
        return np.asarray(self.oracle.run_layer(x, layer, scale, added, added_scale))

    def scale(self, rgb: NDArray[np.uint8]) -> float:
        """The grid's scale for an image."""
        c, relu6 = self.config, 6 / 255
        side = c["image_size"]
        thumbnail = np.array(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))
        x = self.convolution(thumbnail.astype(np.int64) - 128, 1 / 128, "conv_stem.first_conv", stride=2)
        scale, number, channels = relu6, 0, c["stem_channels"]
        for expansion, outputs, repeats, first_stride in c["blocks"]:
            for repeat in range(repeats):
                before, before_scale, stride = x, scale, first_stride if repeat == 0 else 1
                at = f"layer.{number}."
                if expansion > 1:
                    x, scale = self.convolution(x, scale, at + "expand_1x1"), relu6
                x, scale = self.convolution(x, scale, at + "conv_3x3", stride=stride, depthwise=True), relu6
                out_scale = float(self.tensors[f"model.vrc.backbone.{at}reduce_1x1.convolution.output_scale"])
                residual = stride == 1 and outputs == channels and number > 0
                added = before if residual else None
                x = self.convolution(
                    x, scale, at + "reduce_1x1", out_scale=out_scale, added=added, added_scale=before_scale if residual else 0.0
                )
                scale, channels, number = out_scale, outputs, number + 1
        x = self.convolution(x, scale, "conv_1x1")
        vector = self.oracle.pool(x, self.oracle.run_layer(x, self.layer("pool"), relu6))
        if c.get("size_norm"):
            sizes = [min(255, (s * 255 + c["size_norm"] // 2) // c["size_norm"]) for s in (rgb.shape[1], rgb.shape[0])]
            vector = np.concatenate([vector, sizes])
        hidden = self.oracle.run_layer(vector.reshape(1, 1, -1), self.layer("fc1"), relu6)
        last = len(c["grid"]) - 1
        index = int(self.oracle.run_layer(hidden, self.layer("fc2"), relu6, out_scale=1 / last)[0, 0, 0])
        return float(c["grid"][min(index, last)])


@pytest.mark.parametrize("which", ["demo", "random"])
def test_scale_equals_the_oracle(tmp_path: Path, which: str) -> None:
    folder = DEMO if which == "demo" else write_random(tmp_path / "checkpoint")
    session = load(folder, threads=2, progress=False).new_session()
    expected = Expected(folder)
    rng = np.random.default_rng(0)
    images = [np.array(render.sample(seed, split="heldout").image.convert("RGB")) for seed in range(12)]
    images += [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((1, 1), (3, 700), (600, 40), (97, 96))]
    scales = [session.vrc_scale(image) for image in images]
    assert scales == [expected.scale(image) for image in images]
    if which == "demo":
        assert len(set(scales)) > 3
