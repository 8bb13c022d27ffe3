"""One running answer: the loop over tokens, and the handles to read, close and cancel it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, ParamSpec, TypeVar

from . import _core
from .errors import CancelledError, HyperVLError
from .generation import FinishReason, GenerationConfig, Result, Stats, StopStrings
from .prompt import Prompt
from .tokenizer import Detokenizer, Tokenizer

P = ParamSpec("P")
T = TypeVar("T")


class Call:
    """A request that is being worked on: the one thing that other threads may touch, by `cancel`."""

    def __init__(self, session: _core.Session) -> None:
        self.session: _core.Session | None = session
        self._lock = threading.RLock()  # re-entrant: a signal handler may cancel the call it interrupted
        self._busy = False
        self._cancelled = False
        self.started = time.perf_counter()
        self.stats: dict[str, Any] | None = None  # the session's, when the answer is complete

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls into the engine. Raises CancelledError when the request was cancelled."""
        self._busy = True
        try:
            if self._cancelled:
                raise CancelledError("the call was cancelled")
            return function(*args, **kwargs)
        finally:
            self._busy = False

    def cancel(self) -> None:
        """From any thread: the call raises CancelledError within a layer."""
        self._cancelled = True
        # The session forgets a cancel that comes before its call has begun, so ask again until the call is out.
        for _ in range(50):
            with self._lock:
                if self.session is None or not self._busy:
                    return
                self.session.cancel()
            time.sleep(0.002)

    def finish(self) -> _core.Session | None:
        """Takes the session away, so that a late `cancel` does nothing; None when it was taken before."""
        with self._lock:
            session, self.session = self.session, None
            return session


class Stream(Iterator[str]):
    """Pieces of an answer as they come. Iterate to the end, or `close` it; a `with` block does so by itself."""

    def __init__(self, work: Generator[str, None, Result], call: Call, done: Callable[[Call, bool], None]) -> None:
        """work: yields pieces and returns the result; done(call, finished): gives the session back, called once."""
        self._work: Generator[str, None, Result] | None = work
        self._call, self._done = call, done
        self._result: Result | None = None
        self._recording = False
        self.trace: list[tuple[str, list[_core.Event]]] = []

    def record(self) -> None:
        """From here on every kernel step and transfer is timed, which costs a little; at the end `trace` has them.

        trace: (name of a Program, its events) of each run in order, as `hypervl_engine.trace` takes them.
        """
        if self._call.session is not None:
            self._call.session.start_trace()
            self._recording = True

    def __next__(self) -> str:
        if self._work is None:
            raise StopIteration
        try:
            while True:
                piece = next(self._work)
                if piece:
                    return piece
        except StopIteration as end:
            self._result = end.value
            self._end()
            raise StopIteration from None
        except BaseException:
            self._end()
            raise

    @property
    def result(self) -> Result:
        """The finished answer. Raises HyperVLError before the end of the stream and after a failure."""
        if self._result is None:
            raise HyperVLError("the stream has no result yet: iterate it to its end first")
        return self._result

    def cancel(self) -> None:
        """From any thread: whoever iterates gets CancelledError within a layer."""
        self._call.cancel()

    def close(self) -> None:
        """Stops and gives the memory back."""
        if self._work is not None:
            self._work.close()
            self._end()

    def _end(self) -> None:
        if self._work is not None:
            self._work = None
            if self._recording and self._call.session is not None:
                self.trace = self._call.session.take_trace()
            self._done(self._call, self._result is not None)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_work", None) is not None:
            self._end()


def answer(
    call: Call, session: _core.Session, tokenizer: Tokenizer, prompt: Prompt, branch: str, config: GenerationConfig,
    cached: int = 0,
) -> Generator[str, None, Result]:  # fmt: skip
    """Prefills `prompt` behind its first `cached` tokens, which the session holds, and yields the answer's text."""
    seed = config.seed if config.seed is not None else secrets.randbits(63)
    tokens: list[int] = []
    logprobs: list[float] = []
    top: list[tuple[tuple[int, float], ...]] = []
    text: list[str] = []
    detokenizer, stops = Detokenizer(tokenizer), StopStrings(config.stop)
    reason: FinishReason = "length"

    input_ids, images = prompt.rest(cached)
    call.run(session.prefill, input_ids, images, branch)
    session.seed(seed)
    first_token = 0.0
    for sampled in _sampled(call, session, tokenizer.vocab_size, config):
        first_token = first_token or time.perf_counter()
        if sampled["id"] in tokenizer.eos_token_ids:
            reason = "stop"
            break
        tokens.append(sampled["id"])
        logprobs.append(sampled["logprob"])
        top.append(tuple(sampled["top_logprobs"]))
        piece = stops.push(detokenizer.push(sampled["id"]))
        text.append(piece)
        yield piece
        if stops.stopped:
            reason = "stop"
            break
        if len(tokens) == config.max_new_tokens:
            break
        if len(prompt.ids) + len(tokens) > session.context_length:
            reason = "context"
            break
    # What was guessed beyond the end is forgotten: a chat goes on from what was said.
    if session.length > len(prompt.ids) + len(tokens):
        session.truncate(len(prompt.ids) + len(tokens))
    if not stops.stopped:
        piece = stops.push(detokenizer.flush())
        piece += stops.flush()
        text.append(piece)
        yield piece
        reason = "stop" if stops.stopped else reason
    stats = _stats(session, call, prompt, branch, cached, len(tokens), first_token, seed)
    return Result("".join(text), tuple(tokens), tuple(logprobs), tuple(top), reason, stats)


def _sampled(
    call: Call, session: _core.Session, vocab_size: int, config: GenerationConfig
) -> Generator[_core.SampledToken, None, None]:
    """One token after another; the next is worked out when it is asked for."""
    how: dict[str, Any] = {
        "temperature": float(config.temperature), "top_k": config.top_k, "top_p": float(config.top_p),
        "min_p": float(config.min_p), "repetition_penalty": float(config.repetition_penalty),
        "logprobs": config.logprobs, "vocab_size": vocab_size,
    }  # fmt: skip
    last = call.run(session.sample, **how)
    yield last
    left = config.max_new_tokens - 1
    while True:
        if config.speculate is None:
            call.run(session.decode, last["id"])
            last = call.run(session.sample, **how)
            yield last
        else:
            several = call.run(session.speculate, last["id"], left, **how)
            yield from several
            last = several[-1]
            left -= len(several)


def _stats(
    session: _core.Session, call: Call, prompt: Prompt, branch: str, cached: int, new_tokens: int, first_token: float,
    seed: int,
) -> Stats:  # fmt: skip
    raw = call.stats = session.stats()
    scales = tuple(picture.scale for picture in prompt.pictures)
    prefill_s, decode_s = raw["prefill_ms"] / 1e3, raw["decode_ms"] / 1e3
    return Stats(
        branch=branch,
        scale=min(scales) if scales else None,
        scales=scales,
        tiles=raw["tiles"],
        visual_tokens=raw["visual_tokens"],
        prompt_tokens=len(prompt.ids),
        cached_tokens=cached,
        new_tokens=new_tokens,
        vrc_ms=raw["vrc_ms"],
        preprocess_ms=raw["preprocess_ms"],
        encode_ms=raw["encode_ms"],
        project_ms=raw["project_ms"],
        prefill_ms=raw["prefill_ms"],
        decode_ms=raw["decode_ms"],
        ttft_ms=(first_token - call.started) * 1e3,
        total_ms=(time.perf_counter() - call.started) * 1e3,
        prefill_tok_s=raw["prefill_tokens"] / prefill_s if prefill_s > 0 else 0.0,
        decode_tok_s=raw["decode_tokens"] / decode_s if decode_s > 0 else 0.0,
        arena_bytes=raw["arena_bytes"],
        kv_cache_bytes=raw["kv_cache_bytes"],
        drafted_tokens=raw["drafted_tokens"],
        accepted_tokens=raw["accepted_tokens"],
        seed=seed,
    )
