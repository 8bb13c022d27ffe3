"""Which dot products OpenVINO's layers run on, as its own execution graph tells."""

from __future__ import annotations

from collections import Counter
from typing import Any

_KINDS = {"bf16": "bf16", "i8": "int8"}  # ends of names, as in brgemm_avx512_amx_bf16; I8 is written for uint8


def dot_kind(compiled: Any) -> str | None:
    """A kind of `hypervl-engine bench roofline`, of most matrices of a compiled model that has run; None where the graph does not say.

    Under f32 it does not: activations may have been quantised on the way (DYNAMIC_QUANTIZATION_GROUP_SIZE) without the name telling.
    Under bf16 they are not, whatever that property is (2026.4: logits are the same to the last bit for 0, 32 and 128).
    """
    layers = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    names = (info["primitiveType"].astype(str) for info in layers if info["layerType"].astype(str) == "FullyConnected")
    kinds = Counter(_KINDS.get(name.rpartition("_")[2].lower()) for name in names)
    return kinds.most_common(1)[0][0] if kinds else None
