"""Where a VRC's float tensors are: under our names, or under transformers' MobileNetV2Model's."""

from __future__ import annotations

import re

from hypervl_engine.safetensors import SafetensorsFolder

_PREFIXES = ("model.vrc.", "vrc.", "")
_BACKBONES = ("backbone.", "mobilenet_v2.", "")


def vrc_tensors(folder: SafetensorsFolder) -> dict[str, tuple[SafetensorsFolder, str]]:
    """Our name -> (folder, stored name) of everything that belongs to a VRC.

    transformers puts the first block, which does not expand, into the stem (`conv_stem.conv_3x3`) and counts `layer.N`
    from the second; ours counts all of them.
    """
    prefix = next((p for p in _PREFIXES if any(n.startswith(p) and _belongs(n[len(p) :]) for n in folder)), "")
    names = {
        n: _strip_backbone(n[len(prefix) :]) for n in folder if n.startswith(prefix) and _belongs(n[len(prefix) :])
    }
    in_stem = any(inner.startswith("conv_stem.conv_3x3.") for inner in names.values())
    found = {}
    for stored, inner in names.items():
        if in_stem:
            inner = re.sub(r"^layer\.(\d+)\.", lambda m: f"layer.{int(m[1]) + 1}.", inner)
            inner = re.sub(r"^conv_stem\.(conv_3x3|reduce_1x1)\.", r"layer.0.\1.", inner)
        own = inner if inner.startswith(("pool.", "fc1.", "fc2.")) else "backbone." + inner
        found["model.vrc." + own] = (folder, stored)
    return found


def _strip_backbone(name: str) -> str:
    for prefix in _BACKBONES:
        if prefix and name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _belongs(name: str) -> bool:
    return _strip_backbone(name).startswith(("conv_stem.", "layer.", "conv_1x1.", "pool.", "fc1.", "fc2."))
