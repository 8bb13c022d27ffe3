"""The compiled engine. Plain objects over C++; the public API is `hypervl_engine.engine`."""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

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

class Event(TypedDict):
    """A kernel step, or a list of transfers for it; times are microseconds from the start of the run."""

    track: Literal["compute", "transfer"]
    store: bool  # a transfer from fast memory to DDR
    op: int  # of the Program
    kind: str
    name: str  # of the weights, else of the output
    section: str
    repetition: int
    block: int
    rows: tuple[int, int]  # begin, end
    units: tuple[int, int]  # linear: blocks of 32 outputs; attention: K/V heads
    keys: tuple[int, int]  # attention
    start_us: float
    duration_us: float
    bytes: int
    transfers: int

def cpu_info() -> dict[str, Any]:
    """`features` (list of str), `isa` (the one in use), `available` (list), `threads` (of the machine), `variants` (kernel ->
    variant), `tvm` (bool: the image operations and the VRC are the TVM-compiled ones)."""

def time_kernel(kind: str, threads: int, *, runs: int = 5, run_seconds: float = 2e-3, **numbers: int) -> float:
    """Seconds one call of a kernel takes on made-up operands in `threads` threads: the best of `runs` runs of at least
    `run_seconds` each. The kinds and their numbers (ValueError when one is missing, unknown or out of range):
    linear (rows, outputs, inputs, weight_bits, activation_bits, group_size=128, copies=1: weights taken in turn),
    quantize (rows, cols, activation_bits, group_size=128), quantize_i16 (rows, cols), norm (rows, cols, layer_norm=0|1),
    activation (rows, cols, function=0..4 as in kernels/activation), silu_mul (rows, cols), rope (rows, heads, head_dim),
    kv_store (rows, kv_heads, head_dim, bits), attention (rows, heads, kv_heads, head_dim, keys, causal=0|1, bits,
    activation_bits=bits), embed (rows, cols,
    group_size=128),
    pixel_shuffle (side, cols), patchify (side, patch), vrc_stem (side, channels), vrc_depthwise (side, channels, stride),
    vrc_pointwise (pixels, inputs, channels); read (bytes: all of them once), copy (bytes, block: of one block),
    launch (handing out nothing once), cycle (one clock cycle). Kinds that read what the op before wrote (quantize, norm, activation,
    silu_mul, rope, kv_store, attention, pixel_shuffle) also take cold=0|1: 1 lets other memory pass through the caches in between."""

class Roofline:
    """This machine's limits in `threads` threads, with the instructions of `isa` (default: the one in use). One call at a time; others
    wait."""

    def __init__(self, threads: int, isa: str = "") -> None: ...
    @property
    def kinds(self) -> dict[str, str]:
        """What `rate` takes, and the instructions that are timed: "read" (memory far beyond the caches), "clock" (cycles), and, where
        the processor has them, "f32", "bf16", "int8", "int16" (multiplications and additions on registers)."""
    def rate(self, kind: str, seconds: float = 0.02) -> float:
        """Bytes, cycles or operations a second, all threads together, in one run of about that long. ValueError for another kind. The
        first "read" takes memory of half a GiB or more (an eighth of the machine's at most) and keeps it."""

class WeightPacker:
    """Writes a packed weight file (or private memory) section by section, in the order given to `plan_*`, then `finish`."""

    def __init__(self, path: str | None, fingerprint: str, config_json: str) -> None: ...
    def plan_linear(
        self, name: str, rows: int, cols: int, bits: int, group_size: int, scale_bits: int, zero_points: bool = False
    ) -> None: ...
    def plan_array(self, name: str, dtype: str, shape: Sequence[int]) -> None: ...
    def begin(self) -> int:
        """Lays out the file (total bytes returned) and maps it."""
    def write_linear(
        self,
        name: str,
        weight_packed: NDArray[np.int32],
        weight_scale: NDArray[np.float32],
        zero_points: NDArray[np.int8] | None = None,
    ) -> None: ...
    def write_array(self, name: str, values: NDArray[Any]) -> None: ...
    def finish(self) -> WeightStore:
        """Checksums, flushes and (with a path) leaves a complete file there; the returned store reads the same memory."""

class WeightStore:
    """Packed weights, immutable, memory-mapped or private."""

    @staticmethod
    def open(path: str, fingerprint: str, known: str = "") -> WeightStore:
        """Checks every byte; only header and table when the file's identity is `known`, the one it had when it was checked as a whole.
        Raises CheckpointError when the file is damaged, of another version or of another fingerprint."""
    def make_private(self, prefixes: Sequence[str]) -> None:
        """Copies the tensors whose names begin so from the file into private memory in huge pages, if twice as much is available."""
    def make_private_later(self, prefixes: Sequence[str]) -> None:
        """The same in a thread of its own. The first token that is decoded waits for it, a second at most."""
    def names(self) -> list[str]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def config_json(self) -> str: ...
    @property
    def identity(self) -> str:
        """Changes whenever the file is replaced or written to; "" for private memory."""
    def info(self, name: str) -> dict[str, Any]:
        """`shape`, `dtype` ("linear" for a packed one), `bytes`; of a linear `bits`, `group_size`, `scale_bits`, `zero_points` too."""
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
        spec: dict[str, Any],
        activation_bits: int = 16,
        kv_bits: int = 16,
        budget: int = 0,
        context_length: int = 0,
        cpus: list[int] = ...,
        plans: list[dict[str, Any]] = ...,
        integer: bool = False,
        remote_command: Sequence[str] = (),
        remote_library: str = "",
        remote_arch: int = 0,
        remote_timeout_s: float = ...,
        remote_window_bytes: int = ...,
    ) -> None:
        """`config` is config.json's content, validated. `spec`: HardwareSpec.values(); `budget`: bytes of fast memory (0: what the spec
        has); `context_length`: prefill and decode are planned for it at once (0: when they are first asked for); `cpus`: one for each
        thread, to bind a session's threads to (the caller's own, the first, is left alone), or none; `plans`: used for the Programs
        they were made for; `integer`: the arithmetic of docs/integer_arithmetic.md instead of float32 (kv_bits 8 only).
        `remote_command`: of a process that every session starts one of, and that runs all Programs instead of this one;
        `remote_library`: of FastRPC, whose DSP does, of architecture `remote_arch` (0: it is asked); `remote_timeout_s`: for one run there;
        `remote_window_bytes`: that one program there can address; what does not fit goes to further ones.
        MemoryError naming the smallest budget that works when a Program of a full tile or of the text does not fit."""
    @property
    def budget(self) -> int:
        """Bytes of fast memory."""
    @property
    def threads(self) -> int: ...
    @property
    def cpus(self) -> list[int]:
        """That threads are bound to; empty: none."""
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
    @property
    def parallel_jobs(self) -> int:
        """Kernel steps that several threads shared, since the session was made."""
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
        vocab_size: int = 0,
    ) -> SampledToken:
        """From the last logits. `vocab_size`: ids from there on are never sampled (0: all may be)."""
    def speculate(
        self,
        token: int,
        most: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        logprobs: int = 0,
        vocab_size: int = 0,
    ) -> list[SampledToken]:
        """Appends a token and what prompt lookup rightly guesses to follow; 1 .. most tokens, those that decode and sample in turn
        would give. The last of them is not appended yet."""
    def speculate_always(self, on: bool) -> None:
        """For tests: speculate guesses whenever it can, whatever that costs."""
    def stats(self) -> dict[str, Any]:
        """Since the last `reset_stats`: vrc_ms, preprocess_ms, encode_ms, project_ms, prefill_ms, decode_ms, tiles, visual_tokens,
        prefill_tokens, decode_tokens, drafted_tokens, accepted_tokens, transferred_in_bytes, transferred_out_bytes. Since the session was
        made: fast_peak_bytes (measured), fast_planned_bytes. And fast_budget_bytes, ddr_bytes, block_bytes (features, embeddings, hidden
        states, logits), arena_bytes (planned fast, DDR and blocks: all activations), kv_cache_bytes, image_bytes (resized pixels)."""
    @property
    def device_failed(self) -> bool:
        """Whether the device that runs its Programs has ended: every later call is that DeviceError."""
    @property
    def device_parts(self) -> int:
        """Programs on that device, each with memory of its own."""
    def remote_counts(self) -> dict[str, dict[str, Any]]:
        """What ran on such a device took since the last `reset_stats`, by Program: runs, packets, and ops, a list in the
        order of the Program: kind, name, steps, packets, hvx_instructions. All of the thread that walks the Plan. Else empty."""
    def reset_stats(self) -> None: ...
    def start_trace(self) -> None:
        """Every kernel step and transfer is timed from now on, which costs a little."""
    def take_trace(self) -> list[tuple[str, list[Event]]]:
        """What ran since start_trace: name of each Program and its events, times from the start of its run. Ends the trace."""
    def set_eager_transfers(self, eager: bool) -> None:
        """For tests, device "cpu-staged": copies when a transfer starts instead of when it is waited for. Results do not change."""
    def protect_ddr(self, protect: bool) -> None:
        """For tests, device "cpu-staged": a kernel that touches DDR faults."""

def quantize_groups(
    weight: NDArray[np.float32], bits: int, group_size: int, search: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round to nearest with (search) MSE-searched clipping: q (rows, cols), scales (rows, groups) exact in F16. Threaded, GIL released."""

PACK_VERSION: int

def hash64(data: NDArray[np.uint8]) -> int: ...

SPEC_FIGURES: tuple[str, ...]
"""Names of the figures of csrc/schedule/hardware_spec.h, in its order."""
PLAN_VERSION: int
PREFILL_CHUNK: int
"""Tokens of a prefill step."""

def check_spec(spec: dict[str, Any]) -> None:
    """`spec`: HardwareSpec.values(). ValueError naming the figure that is out of range or does not agree with another."""

class Program:
    """What to compute, recorded once a shape; immutable."""

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str:
        """16 hexadecimal digits: a plan made for one Program fits only Programs of the same hash."""
    @property
    def state_bytes(self) -> int:
        """Of the KV caches it reads and writes."""
    @property
    def bound_bytes(self) -> dict[str, int]:
        """Of the buffers that the caller of a run provides, by name."""

def make_plan(program: Program, spec: dict[str, Any], budget: int | None = None) -> dict[str, Any]:
    """The Plan (csrc/schedule/plan.h) as plain data. `budget`: bytes of fast memory, default what the spec has. MemoryError naming the
    smallest budget that works."""

def smallest_budget(program: Program, spec: dict[str, Any]) -> int: ...
def check_plan(program: Program, plan: dict[str, Any]) -> None:
    """ValueError when the plan is damaged, of another version or Program, or does not hold (overlaps, blocks beyond windows, ...)."""

def plan_hash(program: Program, plan: dict[str, Any]) -> str: ...
def describe_plan(
    program: Program,
    plan: dict[str, Any],
    spec: dict[str, Any],
    *,
    rows: int | None = None,
    position: int | None = None,
    events: int = 0,
) -> dict[str, Any]:
    """What a run of `rows` rows at `position` of the KV cache (default: the largest) does and should cost. Plain data:

    name, program_hash, plan_hash, spec, staged, contexts, budget, peak_bytes, ddr_bytes, ring_slot_bytes, rows, position;
    sections: name, repeat, first_op, op_count; groups: section, first_op, op_count, block_rows, blocks;
    ops: index, kind, name, section, group, rows, block_rows, n, block_n, k, block_k, block_keys, and, summed over all repetitions and
    blocks, steps, bytes_in, bytes_out, transfers, compute_ms, transfer_ms, ms, bound ("compute", "memory": what kernels read from DDR by
    themselves, "transfer" or "launch"); peak_bytes: the highest byte of fast memory in use during the op;
    buffers: name, rows, cols, dtype, bytes, home ("none", "resident", "ddr", "bound"), offset;
    allocations: name, kind ("resident", "window", "scratch", "ring"), offset, bytes, first_op, last_op (inclusive);
    predicted_ms, compute_ms, transfer_ms, bytes_in, bytes_out, transfers; events: list of Event, of the first `events` repetitions of
    each section, when `events` > 0.
    """

def model_programs(
    model: Model, branch: str, tiles: list[tuple[int, int]], context_length: int
) -> list[tuple[str, Program, dict[str, Any]]]:
    """(stage, Program, the model's own plan) of all that an image with tiles of these (height, width) runs: vrc (if there is one), for each
    size "tile HxW" and "projector HxW", prefill, decode, head."""

def model_fingerprint(model: Model) -> str:
    """16 hexadecimal digits that tell checkpoints apart, by config, names, shapes and a part of every tensor."""

def tile_sizes(model: Model, height: int, width: int, scale: float) -> list[tuple[int, int]]:
    """(height, width) of the tiles of an image, in the order they are encoded, the thumbnail included."""
