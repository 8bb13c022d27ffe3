"""What a model's passes take, by arithmetic: bytes a decoded token reads, operations of prefill and of a tile."""

from __future__ import annotations

from .config import Config
from .tensors import EMBEDDING, LM_HEAD, expected_tensors, linear_shapes

_TEXT = "model.language_model.layers."


def decode_bytes(config: Config) -> int:
    """Bytes of weights that one decoded token reads: every layer's linears and the head, packed, with their scales."""
    head = EMBEDDING if config.text_config.tie_word_embeddings else LM_HEAD
    size = 0
    for name, spec in expected_tensors(config).items():
        if spec.kind == "linear" and (name == head or name.startswith(_TEXT)):
            rows, cols = spec.shape
            size += rows * cols * spec.bits // 8
            size += rows * cols // spec.engine_group * 2  # a float16 scale for each group
    return size


def prefill_operations(config: Config, tokens: int) -> int:
    """Multiplications and additions of prefilling `tokens` into an empty cache: linears, attention of what each token sees, one head."""
    text = config.text_config
    per_token = sum(rows * cols for name, (rows, cols) in linear_shapes(config) if name.startswith(_TEXT))
    pairs = tokens * (tokens + 1) // 2
    attention = 2 * pairs * text.num_attention_heads * text.head_dim * text.num_hidden_layers
    return 2 * (per_token * tokens + attention + text.vocab_size * text.hidden_size)


def tile_operations(config: Config, branch: str, patches: int) -> int:
    """Multiplications and additions of one tile of `patches`: the vision tower, then the projector."""
    vision = config.vision_configs[branch]
    tower, projector = f"model.vision_tower.{branch}.", f"model.projector.{branch}."
    operations = 2 * vision.num_hidden_layers * patches * patches * vision.hidden_size  # QK and PV
    for name, (rows, cols) in linear_shapes(config):
        if name.startswith(tower):
            operations += rows * cols * patches
        elif name.startswith(projector):
            operations += rows * cols * patches // config.tiling.pixel_shuffle**2
    return 2 * operations
