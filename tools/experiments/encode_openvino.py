"""One measurement of OpenVINO on the SigLIP tower's shape, without tiles. Run by tile_memory_profile.

bf16, or 8-bit weights and activations (NNCF). `prepare` builds the models with random weights, which speed and memory do not depend on; it
runs in a process of its own too, as each measurement does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import THREADS, serve
from tools.experiments.machine import measure_runs
from tools.experiments.openvino_dots import dot_kind
from tools.experiments.vision_shapes import PATCH, SHAPES, tokens_of

_INPUT = 3 * PATCH * PATCH  # the patch embedding as a linear layer over cut-out patches


def model_path(cache: Path, branch: str, precision: str) -> Path:
    return cache / f"openvino-{branch}-{precision}.xml"


def prepare(case: dict[str, Any]) -> dict[str, Any]:
    """Writes a model unless it is there. case: cache (folder), branch, precision ("bf16": kept as f16, computed in bf16; "w8a8")."""
    path = model_path(Path(case["cache"]), case["branch"], case["precision"])
    if path.with_suffix(".bin").exists():
        return {}
    path.parent.mkdir(parents=True, exist_ok=True)
    import openvino

    model = _random_tower(case["branch"])
    if case["precision"] == "w8a8":
        import nncf

        rng = np.random.default_rng(0)
        patches = nncf.Dataset([rng.standard_normal((1, 256, _INPUT), dtype=np.float32) for _ in range(3)])
        model = nncf.quantize(model, patches, subset_size=3, model_type=nncf.ModelType.TRANSFORMER, fast_bias_correction=True)
    openvino.save_model(model, path, compress_to_fp16=case["precision"] == "bf16")
    return {}


def _random_tower(branch: str) -> Any:
    """transformers' SigLIP encoder as an OpenVINO model: (1, patches, 768) -> (1, patches, hidden)."""
    import openvino
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    shape = SHAPES[branch]
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        image_size=256, patch_size=PATCH, vision_use_head=False, attn_implementation="sdpa",
    )  # fmt: skip

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            siglip = SiglipVisionModel(config)
            siglip = getattr(siglip, "vision_model", siglip)  # transformers 4 and 5
            self.patch_embedding = torch.nn.Linear(_INPUT, shape.hidden)
            self.encoder, self.norm = siglip.encoder, siglip.post_layernorm

        def forward(self, patches: Any) -> Any:
            return self.norm(self.encoder(inputs_embeds=self.patch_embedding(patches)).last_hidden_state)

    tower = Tower().eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
        return openvino.convert_model(tower, example_input=torch.randn(1, 256, _INPUT), input=[1, -1, _INPUT])


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache, precision ("bf16", "w8a8"), branch, image (side in pixels)."""
    if case.get("prepare"):
        return prepare(case)
    import openvino

    tokens = tokens_of(int(case["image"]))
    core = openvino.Core()
    model = core.read_model(model_path(Path(case["cache"]), case["branch"], case["precision"]))
    model.reshape([1, tokens, _INPUT])
    compiled = core.compile_model(
        model,
        "CPU",
        {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "bf16"},
    )
    request = compiled.create_infer_request()
    patches = np.random.default_rng(0).standard_normal((1, tokens, _INPUT), dtype=np.float32)

    def encode() -> None:
        request.infer([patches])

    measured = measure_runs(encode)
    found = {"activation_bytes": measured["growth_bytes"], "dots": dot_kind(compiled), "versions": {"openvino": openvino.__version__}}
    return {**measured, **found}


if __name__ == "__main__":
    serve(measure)
