"""What can be asked of a generation, and what comes back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from .errors import CheckpointError

FinishReason = Literal["stop", "length", "context"]
MAX_TOP_LOGPROBS = 1000


@dataclass(frozen=True)
class GenerationConfig:
    """How tokens are chosen and when to stop. Immutable; checked when made (ValueError).

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0 and repetition_penalty 1 switch that filter off; the order is
    penalty, temperature, top_k, top_p, min_p, as in transformers. seed None draws a new one each time (in the stats).
    stop: strings that end the answer and are not part of its text. logprobs: how many alternatives of each token to
    report, besides the token's own log-probability, which always is. speculate "lookup": tokens that repeat what stands
    in the context are guessed and verified several at a time; the answer is the same to the bit, with temperature too.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    thinking: bool = False
    speculate: Literal["lookup"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        try:
            object.__setattr__(self, "stop", tuple(self.stop))
        except TypeError:
            raise ValueError(f"stop is {self.stop!r}: expected a string or several") from None
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise ValueError(f"stop is {self.stop!r}: expected strings that are not empty")
        if self.speculate not in (None, "lookup"):
            raise ValueError(f"speculate is {self.speculate!r}: expected lookup or None")
        _check_int("max_new_tokens", self.max_new_tokens, 1, 1 << 30)
        _check_int("top_k", self.top_k, 0, (1 << 31) - 1)
        _check_int("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS)
        if self.seed is not None:
            _check_int("seed", self.seed, 0, (1 << 64) - 1)
        _check_float("temperature", self.temperature, 0.0, 1e4)
        _check_float("top_p", self.top_p, 0.0, 1.0, low_open=True)
        _check_float("min_p", self.min_p, 0.0, 1.0)
        _check_float("repetition_penalty", self.repetition_penalty, 0.0, 1e4, low_open=True)

    def with_options(self, **options: Any) -> GenerationConfig:
        """A copy with every option that is not None put in place. Raises TypeError for an unknown name."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    @classmethod
    def from_checkpoint(cls, values: dict[str, Any]) -> GenerationConfig:
        """The defaults a generation_config.json asks for; as in transformers, it samples only if `do_sample` is true.

        Raises CheckpointError for values out of range.
        """
        own = {"stop", "logprobs", "thinking", "seed", "speculate"}
        known = {f.name for f in fields(cls)} - own
        chosen = {name: value for name, value in values.items() if name in known and value is not None}
        if not values.get("do_sample", False):
            for name in ("temperature", "top_k", "top_p", "min_p"):
                chosen.pop(name, None)
        elif "temperature" not in chosen:
            chosen["temperature"] = 1.0
        try:
            return cls(**chosen)
        except ValueError as error:
            raise CheckpointError(f"generation_config.json: {error}") from None


def eos_token_ids(generation_config: dict[str, Any]) -> tuple[int, ...]:
    """The ids that end a sequence, as a generation_config.json has them; () when it names none."""
    value = generation_config.get("eos_token_id")
    ids = tuple(value) if isinstance(value, list) else () if value is None else (value,)
    if any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise CheckpointError(
            f"generation_config.json: eos_token_id is {value!r}: expected a token id or a list of them"
        )
    return ids


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise ValueError(f"{name} is {value!r}: expected a whole number from {low} to {high}")


def _check_float(name: str, value: object, low: float, high: float, low_open: bool = False) -> None:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(float(value))
    if not good or not low <= float(value) <= high or (low_open and float(value) == low):  # type: ignore[arg-type]
        least = f"{'above' if low_open else 'from'} {low:g}"
        raise ValueError(f"{name} is {value!r}: expected a number {least} to {high:g}")


@dataclass(frozen=True)
class Stats:
    """Where the time and the memory of one answer went. Times are milliseconds, sizes bytes.

    scale is the (smallest) scale over the images, None without one. cached_tokens: prompt tokens that a chat's KV cache
    already held. ttft_ms: from the call to the first token, VRC and image encoding included. drafted_tokens and
    accepted_tokens: guessed by speculation, and of these right.
    """

    branch: str
    scale: float | None
    scales: tuple[float, ...]
    tiles: int
    visual_tokens: int
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    vrc_ms: float
    preprocess_ms: float
    encode_ms: float
    project_ms: float
    prefill_ms: float
    decode_ms: float
    ttft_ms: float
    total_ms: float
    prefill_tok_s: float
    decode_tok_s: float
    arena_bytes: int
    kv_cache_bytes: int
    drafted_tokens: int
    accepted_tokens: int
    seed: int


@dataclass(frozen=True)
class Result:
    """An answer; `str(result)` is its text.

    tokens: sampled ids in order, without the end-of-sequence token, stop strings' tokens included. logprobs: of each
    token, the natural logarithm of its probability among all tokens at temperature 1, after the repetition penalty and
    before any filter. top_logprobs: as many (id, logprob) of each place as `logprobs` asked for, best first.
    finish_reason: "stop" (end of sequence or stop string), "length" (max_new_tokens) or "context" (no room is left).
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...]
    finish_reason: FinishReason
    stats: Stats

    def __str__(self) -> str:
        return self.text

    @property
    def thinking(self) -> str | None:
        """What stands between <think> and </think>; None when the answer has no such part."""
        head, mark, _ = self.text.partition("</think>")
        if not mark and "<think>" not in self.text:
            return None
        return head.partition("<think>")[2].strip() if "<think>" in head else head.strip()

    @property
    def answer(self) -> str:
        """The text without its thinking."""
        if self.thinking is None:
            return self.text
        return self.text.partition("</think>")[2].lstrip()


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a given answer, token by token.

    logprobs: natural logarithm of each token's probability after the prompt and the tokens before it. offsets: the
    characters [start, end) of the answer that each token stands for. total: their sum.
    """

    answer: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    offsets: tuple[tuple[int, int], ...]
    total: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", math.fsum(self.logprobs))


class StopStrings:
    """Cuts a stream of text pieces at the first stop string, holding back what might still become one.

    "First" is the one that is complete earliest (the longest of those that end together), so the cut does not depend on
    how the text falls into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Text that is certainly not part of a stop string; "" for ever once `stopped`."""
        if self.stopped or not self._stops:
            return "" if self.stopped else piece
        text = self._held + piece
        ends = [(found + len(stop), found) for stop in self._stops if (found := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
