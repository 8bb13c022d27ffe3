"""A conversation on one KV cache."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import HyperVLError
from .generation import GenerationConfig, Result
from .prompt import Picture, Prompt, Scale, check_context, check_visual_tokens, expand
from .stream import Call, Stream, answer
from .tokenizer import Message, TokenPart

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class Turn:
    """A question with its pictures, and the answer's tokens as they stand in the conversation."""

    prompt: str
    pictures: tuple[Picture, ...]
    answer: tuple[int, ...]
    text: str


class Chat:
    """Several turns on one KV cache: of every prompt only what the cache does not hold yet is prefilled.

    When the context is full the oldest turns are dropped, the system message stays, and what is left is prefilled
    anew; `dropped_turns` counts them. A single turn that does not fit is a ValueError and leaves the chat as it was.
    So does a turn that fails or is cancelled. Thinking is left out of later turns' prompts. One chat serves one caller
    at a time.
    """

    def __init__(self, engine: Engine, system: str | None = None, **options: Any) -> None:
        """Use `Engine.chat`. options: defaults of `ask`'s keyword arguments."""
        from .engine import check_text

        self._engine = engine
        self._system = None if system is None else check_text("system", system)
        self._options = options
        self._session: _core.Session | None = engine.new_session()
        self._cached: tuple[object, ...] = ()  # keys of the positions in the session
        self._turn_lock = threading.Lock()
        self.turns: list[Turn] = []
        self.dropped_turns = 0

    def ask(self, prompt: str, image: Any = None, **options: Any) -> Result:
        """Asks the next question, with or without new images, and returns the complete answer."""
        with self.stream(prompt, image, **options) as stream:
            for _ in stream:
                pass
            return stream.result

    def stream(self, prompt: str, image: Any = None, **options: Any) -> Stream:
        """Like `ask`, but yields the text in pieces. The turn counts when the stream was read to its end.

        options: `branch`, `scale`, `min_scale`, `max_visual_tokens`, `max_pixels`, `config`, and every field of
        GenerationConfig, as in `Engine.generate`.
        """
        if not self._turn_lock.acquire(blocking=False):
            raise HyperVLError("this chat is answering already: read its stream to the end, or close it, first")
        try:
            return self._start(prompt, image, **{**self._options, **options})
        except BaseException:
            self._turn_lock.release()
            raise

    def reset(self) -> None:
        """Forgets all turns; the system message stays."""
        if not self._turn_lock.acquire(blocking=False):
            raise HyperVLError("this chat is answering: close its stream first")
        try:
            self.turns, self._cached, self.dropped_turns = [], (), 0
            self._open_session().reset()
        finally:
            self._turn_lock.release()

    def close(self) -> None:
        """Gives the KV cache's memory back. The chat cannot be used afterwards."""
        self._session = None

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_session(self) -> _core.Session:
        if self._session is None:
            raise HyperVLError("this chat is closed: start a new one with Engine.chat")
        return self._session

    def _start(
        self, prompt: str, image: Any, *, branch: str | None = None, scale: Scale = "auto",
        min_scale: float | None = None, max_visual_tokens: int | None = None, max_pixels: int | None = None,
        config: GenerationConfig | None = None, **options: Any,
    ) -> Stream:  # fmt: skip
        engine, session = self._engine, self._open_session()
        chosen = (config or engine.generation_config).with_options(**options)
        branch = engine.check_branch(branch)
        session.reset_stats()
        call = engine.watch(session)
        try:
            pictures = tuple(engine.pictures(session, image, scale, min_scale, max_pixels))
            check_visual_tokens(engine.model, pictures, max_visual_tokens)
            turn = Turn(prompt, pictures, (), "")
            first, built = self._fit(turn, chosen)
            cached = min(built.common_prefix(self._cached), built.common_prefix(built.keys[:-1]))
            session.truncate(cached)
            self._cached = built.keys[:cached]
        except BaseException:
            engine.forget(call)
            raise
        work = answer(call, session, engine.tokenizer, built, branch, chosen, cached)

        def done(call: Call, finished: bool) -> None:
            try:
                engine.forget(call)
                if finished:
                    self._finish(stream.result, turn, first, built, session)
                else:
                    session.truncate(min(cached, session.length))
            finally:
                self._turn_lock.release()

        stream = Stream(work, call, done)
        return stream

    def _fit(self, turn: Turn, config: GenerationConfig) -> tuple[int, Prompt]:
        """Which turn to start from so that the answer has room, and the prompt from there on."""
        limit = self._engine.context_length
        for first in range(len(self.turns) + 1):
            built = self._prompt([*self.turns[first:], turn], config.thinking)
            if len(built.ids) + config.max_new_tokens <= limit:
                return first, built
        check_context(built, limit)  # alone it may use up the context, if there is room for a beginning
        return first, built

    def _prompt(self, turns: list[Turn], thinking: bool) -> Prompt:
        from .engine import user_message

        messages = [] if self._system is None else [Message("system", (self._system,))]
        for number, turn in enumerate(turns):
            messages.append(user_message(turn.prompt, len(turn.pictures)))
            if number < len(turns) - 1:
                messages.append(Message("assistant", (TokenPart(turn.answer),)))
        tokenizer = self._engine.tokenizer
        pictures = [picture for turn in turns for picture in turn.pictures]
        return expand(tokenizer.prompt(messages, thinking=thinking), tokenizer.image_token_id, pictures)

    def _finish(self, result: Result, turn: Turn, first: int, built: Prompt, session: _core.Session) -> None:
        self._cached = (*built.keys, *result.tokens)[: session.length]
        end = self._engine.tokenizer.token_id("</think>")
        said = result.tokens
        if end is not None and end in said:
            said = said[len(said) - said[::-1].index(end) :]
        self.turns = [*self.turns[first:], Turn(turn.prompt, turn.pictures, said, result.text)]
        self.dropped_turns += first
