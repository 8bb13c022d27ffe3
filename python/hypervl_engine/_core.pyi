"""The compiled engine. Plain objects over C++; the public API is `hypervl_engine.engine`."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class HyperVLError(RuntimeError): ...
class CheckpointError(HyperVLError): ...
class CancelledError(HyperVLError): ...

class ImagePlan(TypedDict):
    resized: tuple[int, int]  # height, width after the scale
    tile_grid: tuple[int, int]  # rows, columns
    tiles: int  # tiles encoded, thumbnail included
    visual_tokens: int  # image_token_id placeholders
    thumbnail: bool

class SampledToken(TypedDict):
    id: int
    logprob: float
    top_logprobs: list[tuple[int, float]]  # as many as asked for, best first

def cpu_info() -> dict[str, Any]:
    """`features` (list of str), `isa` (the one in use), `available` (list), `threads` (of the machine), `variants` (kernel ->
    variant), `tvm` (bool: the image operations and the VRC are the TVM-compiled ones)."""

def time_kernel(kind: str, threads: int, *, runs: int = 5, run_seconds: float = 2e-3, **numbers: int) -> float:
    """Seconds one call of a kernel takes on made-up operands in `threads` threads: the best of `runs` runs of at least
    `run_seconds` each. The kinds and their numbers (ValueError when one is missing, unknown or out of range):
    linear (rows, outputs, inputs, weight_bits, activation_bits, group_size=128, copies=1: weights taken in turn),
    quantize (rows, cols, activation_bits), quantize_i16 (rows, cols), norm (rows, cols, layer_norm=0|1), activation (rows, cols,
    function=0..4 as in kernels/activation), silu_mul (rows, cols), rope (rows, heads, head_dim), kv_store (rows, kv_heads,
    head_dim, bits), attention (rows, heads, kv_heads, head_dim, keys, causal=0|1, bits), embed (rows, cols),
    pixel_shuffle (side, cols), patchify (side, patch), vrc_stem (side, channels), vrc_depthwise (side, channels, stride),
    vrc_pointwise (pixels, inputs, channels); read (bytes: all of them once), copy (bytes, block: of one block),
    launch (handing out nothing once), cycle (one clock cycle)."""

class WeightPacker:
    """Writes a packed weight file (or private memory) section by section, in the order given to `plan_*`, then `finish`."""

    def __init__(self, path: str | None, fingerprint: str, config_json: str) -> None: ...
    def plan_linear(self, name: str, rows: int, cols: int, bits: int, group_size: int, scale_bits: int) -> None: ...
    def plan_array(self, name: str, dtype: str, shape: Sequence[int]) -> None: ...
    def begin(self) -> int:
        """Lays out the file (total bytes returned) and maps it."""
    def write_linear(self, name: str, weight_packed: NDArray[np.int32], weight_scale: NDArray[np.float32]) -> None: ...
    def write_array(self, name: str, values: NDArray[Any]) -> None: ...
    def finish(self) -> WeightStore:
        """Checksums, flushes and (with a path) leaves a complete file there; the returned store reads the same memory."""

class WeightStore:
    """Packed weights, immutable, memory-mapped or private."""

    @staticmethod
    def open(path: str, fingerprint: str) -> WeightStore:
        """Raises CheckpointError when the file is damaged, of another version or of another fingerprint."""
    def names(self) -> list[str]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def config_json(self) -> str: ...
    def info(self, name: str) -> dict[str, Any]:
        """`shape`, `dtype` ("linear" for a packed one), `bytes`; of a linear `bits`, `group_size`, `scale_bits` too."""
    def array(self, name: str) -> NDArray[Any]:
        """A copy of a tensor that is not a packed linear."""
    def dequantize(self, name: str) -> NDArray[np.float32]:
        """(rows, cols) of a packed linear as the engine computes with it: for tests and tools."""

class Model:
    """Immutable; shared by sessions and threads."""

    def __init__(
        self,
        config: dict[str, Any],
        weights: WeightStore,
        *,
        threads: int,
        activation_bits: int = 16,
        valid_vocab_size: int = 0,
    ) -> None:
        """`config` is config.json's content, validated. `valid_vocab_size`: ids from there on are never sampled (0: all may be)."""
    @property
    def threads(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    def plan_image(self, height: int, width: int, scale: float) -> ImagePlan: ...
    def image_token_ids(self, height: int, width: int, scale: float) -> NDArray[np.int32]:
        """Placeholders and separators that stand for the image in input_ids (without vision start and end)."""

class Session:
    """KV cache, arena and random state of one caller."""

    def __init__(self, model: Model, context_length: int) -> None: ...
    @property
    def length(self) -> int:
        """Positions in the KV cache."""
    @property
    def context_length(self) -> int: ...
    def reset(self) -> None: ...
    def truncate(self, length: int) -> None:
        """Forgets positions from `length` on."""
    def cancel(self) -> None:
        """From any thread: the running call raises CancelledError within a layer; later calls are not affected."""
    def vrc_scale(self, rgb: NDArray[np.uint8]) -> float:
        """(height, width, 3) -> a scale of the VRC's grid (1.0 without a VRC)."""
    def pixel_values(self, rgb: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
        """(3, padded height, padded width): normalised and padded pixels before tiling, for inspection and for training."""
    def encode(self, rgb: NDArray[np.uint8], scale: float, branch: str) -> NDArray[np.float32]:
        """(visual_tokens, hidden): projected image embeddings in token order."""
    def encode_tower(self, rgb: NDArray[np.uint8], scale: float, branch: str) -> list[NDArray[np.float32]]:
        """The ViT's post-layernorm output of each tile, (patches, vision hidden), for tests and tools."""
    def prefill(
        self,
        input_ids: NDArray[np.int32],
        images: Sequence[tuple[NDArray[np.uint8], float]] = (),
        branch: str = "",
        logits: bool = False,
    ) -> NDArray[np.float32] | None:
        """Appends tokens (image placeholders filled tile by tile). `logits=True`: (tokens, vocab) of every position, else the last
        position's logits stay inside for `sample` / `last_logits`. ValueError when placeholders and image features disagree."""
    def decode(self, token: int) -> None:
        """Appends one token; its logits stay inside."""
    def last_logits(self) -> NDArray[np.float32]: ...
    def seed(self, seed: int) -> None: ...
    def sample(
        self,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        logprobs: int = 0,
    ) -> SampledToken: ...
    def stats(self) -> dict[str, Any]:
        """Since the last `reset_stats`: vrc_ms, preprocess_ms, encode_ms, project_ms, prefill_ms, decode_ms, tiles, visual_tokens,
        prefill_tokens, decode_tokens; and arena_bytes, kv_cache_bytes."""
    def reset_stats(self) -> None: ...

def quantize_groups(
    weight: NDArray[np.float32], bits: int, group_size: int, search: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round to nearest with (search) MSE-searched clipping: q (rows, cols), scales (rows, groups) exact in F16. Threaded, GIL released."""

PACK_VERSION: int

def hash64(data: NDArray[np.uint8]) -> int: ...
