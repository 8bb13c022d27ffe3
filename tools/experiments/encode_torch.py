"""One measurement of transformers' SigLIP vision tower in torch, bf16, without tiles. Run by tile_memory_profile."""

from __future__ import annotations

from typing import Any

from tools.experiments.child import THREADS, serve
from tools.experiments.machine import MIB, available_bytes, measure_runs
from tools.experiments.vision_shapes import PATCH, SHAPES, tokens_of

# For each score of a layer's (heads, tokens, tokens) eager attention holds the product and its scaled copy in bf16, and float32 copies
# before and after the softmax; 10.4 bytes were measured at 4096 tokens.
_EAGER_BYTES_PER_SCORE = 11


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: attention ("sdpa", "eager"), branch, image (side in pixels)."""
    import torch
    import transformers
    from transformers import SiglipVisionConfig, SiglipVisionModel

    shape, image = SHAPES[case["branch"]], int(case["image"])
    if case["attention"] == "eager":
        need = shape.heads * tokens_of(image) ** 2 * _EAGER_BYTES_PER_SCORE
        if need + 3072 * MIB > available_bytes():
            return {"status": "skipped", "reason": f"eager attention's scores would take {need / 2**30:.0f} GiB"}
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        image_size=image, patch_size=PATCH, vision_use_head=False, attn_implementation=case["attention"],
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    tower = SiglipVisionModel(config).eval()
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for parameter in tower.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
    pixels = torch.randn(1, 3, image, image).to(torch.bfloat16)

    def encode() -> None:
        tower(pixel_values=pixels)

    with torch.inference_mode():
        # A small image first: libraries set themselves up, which is not what activations take.
        tower(pixel_values=pixels[:, :, : 4 * PATCH, : 4 * PATCH], interpolate_pos_encoding=True)
        measured = measure_runs(encode)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {**measured, "activation_bytes": measured["growth_bytes"], "versions": versions}


if __name__ == "__main__":
    serve(measure)
