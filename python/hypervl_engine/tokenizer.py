"""Text to token ids and back: chat prompts in which user text stays text, and detokenising piece by piece."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import AddedToken
from tokenizers import Tokenizer as HfTokenizer

from .config import Config, read_json
from .errors import CheckpointError
from .template import ChatTemplate


@dataclass(frozen=True)
class ImagePart:
    """Where an image stands in a message."""


@dataclass(frozen=True)
class TokenPart:
    """Text that is already tokens (an earlier answer) and goes into the prompt as it is."""

    ids: tuple[int, ...]


Part: TypeAlias = str | ImagePart | TokenPart


@dataclass(frozen=True)
class Message:
    """One message of a conversation; role is "system", "user" or "assistant"."""

    role: str
    parts: tuple[Part, ...]


class Tokenizer:
    """A checkpoint's tokenizer.json and chat template."""

    def __init__(self, folder: Path, config: Config, eos_token_ids: tuple[int, ...] = ()) -> None:
        """folder: the checkpoint; eos_token_ids: ends of a sequence, default the text config's.

        Raises CheckpointError for missing or unusable files.
        """
        self._folder = folder
        check_files(folder)
        path = folder / "tokenizer.json"
        try:
            self._tokenizer = HfTokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._hidden = frozenset(i for i, token in added.items() if token.special)
        # Marks such as <think> are added tokens without being "special": they must not come out of user text either.
        self._tokenizer.add_special_tokens([_special(token) for token in added.values() if not token.special])
        self._tokenizer.encode_special_tokens = True
        self._added = {token.content: i for i, token in added.items()}
        names = sorted((re.escape(name) for name in self._added), key=len, reverse=True)
        self._marks = re.compile(f"({'|'.join(names)})") if names else None
        self.vocab_size = self._count(path, config.text_config.vocab_size, max(added, default=-1) + 1)
        self.image_token_id = config.image_token_id
        self.eos_token_ids = eos_token_ids or config.text_config.eos_token_id
        self._check_marks(path, config)
        self._template = ChatTemplate(*_template_source(folder))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no mark in it, whatever it spells, becomes a special token."""
        return self.encode_with_offsets(text)[0]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and of each the characters [start, end) of `text` that it is a part of."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"the text is not valid Unicode: {error.reason} at character {error.start}") from None
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return list(encoding.ids), [(int(a), int(b)) for a, b in encoding.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out; bytes that are no UTF-8 come as U+FFFD."""
        return str(self._tokenizer.decode([i for i in ids if i not in self._hidden], skip_special_tokens=False))

    def token(self, token_id: int) -> str:
        """How the vocabulary spells a token; "" for an id that is not in it."""
        return self._tokenizer.id_to_token(token_id) or ""

    def token_id(self, token: str) -> int | None:
        """The id of a token spelled as in the vocabulary."""
        return self._tokenizer.token_to_id(token)

    def is_special(self, token_id: int) -> bool:
        """True when the token is never shown as text."""
        return token_id in self._hidden

    def prompt(self, messages: Iterable[Message], *, thinking: bool = False, answer_next: bool = True) -> list[int]:
        """Ids of a conversation in the checkpoint's chat format, with one image_token_id for every image.

        answer_next: end with the opening of the assistant's answer. Raises ValueError when the template refuses the
        conversation.
        """
        # The template sees stand-ins that nobody can guess in place of texts; its own output is split there, so only
        # what the template itself wrote may turn into special tokens.
        nonce = secrets.token_hex(16)
        parts: list[Part] = []
        shaped = [self._shape(message, nonce, parts) for message in messages]
        rendered = self._template.render(
            shaped, add_generation_prompt=answer_next, enable_thinking=thinking, tools=None,
            bos_token="", eos_token=self.token(self.eos_token_ids[0]) if self.eos_token_ids else "",
        )  # fmt: skip
        pieces = re.split(f"HVL{nonce}N([0-9]+)E", rendered)
        missing = set(range(len(parts))) - {int(n) for n in pieces[1::2]}
        if missing or nonce in "".join(pieces[0::2]):
            raise CheckpointError(f"the chat template in {self._folder} drops or alters the text of messages")
        builder = _IdBuilder(self)
        for position, piece in enumerate(pieces):
            if position % 2 == 0:
                self._literal(piece, builder)
                continue
            part = parts[int(piece)]
            if isinstance(part, TokenPart):
                builder.ids(part.ids)
            elif isinstance(part, str):
                builder.text(part)
        return builder.finish()

    def _shape(self, message: Message, nonce: str, parts: list[Part]) -> dict[str, Any]:
        content: list[dict[str, str]] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                content.append({"type": "image"})
            elif part != "":
                content.append({"type": "text", "text": f"HVL{nonce}N{len(parts)}E"})
                parts.append(part)
        if any(piece["type"] == "image" for piece in content):
            return {"role": message.role, "content": content}
        return {"role": message.role, "content": "".join(piece["text"] for piece in content)}

    def _literal(self, text: str, builder: _IdBuilder) -> None:
        """Text that the template wrote: marks become their tokens."""
        pieces = self._marks.split(text) if self._marks else [text]
        for position, piece in enumerate(pieces):
            if position % 2:
                builder.ids((self._added[piece],))
            else:
                builder.text(piece)

    def _count(self, path: Path, limit: int, added: int) -> int:
        """One more than the highest id, found from above because reading a large vocabulary takes long."""
        known = max(self._tokenizer.get_vocab_size(with_added_tokens=True), added)
        if not 0 < known <= limit:
            raise CheckpointError(
                f"{path} has {known} ids, but config.json's text_config.vocab_size is {limit}: expected a tokenizer of this model"
            )
        return next((i + 1 for i in range(limit - 1, known - 1, -1) if self.token(i)), known)

    def _check_marks(self, path: Path, config: Config) -> None:
        for name in ("image_token_id", "vision_start_token_id", "vision_end_token_id"):
            token_id = getattr(config, name)
            if not self.token(token_id):
                raise CheckpointError(f"config.json's {name} {token_id} is not in {path}")


def check_files(folder: Path) -> None:
    """CheckpointError when there is no tokenizer.json."""
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json: expected a checkpoint folder (docs/checkpoint.md)")


class _IdBuilder:
    """Joins neighbouring texts before they are encoded, so that merges cross from template text into user text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._out: list[int] = []
        self._pending: list[str] = []

    def text(self, text: str) -> None:
        self._pending.append(text)

    def ids(self, ids: Iterable[int]) -> None:
        self.finish().extend(ids)

    def finish(self) -> list[int]:
        text = "".join(self._pending)
        self._pending.clear()
        if text:
            self._out.extend(self._tokenizer.encode(text))
        return self._out


class Detokenizer:
    """Text of a growing sequence of ids in pieces that never end within a character.

    The pieces joined are `Tokenizer.decode` of all ids, less a character that was never completed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # since `_start`; what is before cannot change any more
        self._known = ""  # text of the ids whose text was handed out
        self._known_ids = 0

    def push(self, token_id: int) -> str:
        """Text that this token completes ("" while a character is still open)."""
        if self._tokenizer.is_special(token_id):
            return ""
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        if text.endswith("\ufffd"):  # perhaps the first bytes of a character
            return ""
        new = text[len(self._known) :]
        # Keep the last handed-out ids as context: decoders treat the first token of a sequence in their own way.
        self._ids = self._ids[self._known_ids :]
        self._known_ids = len(self._ids)
        self._known = self._tokenizer.decode(self._ids)
        return new

    def flush(self) -> str:
        """What is left at the end, without a character that was cut short."""
        text = self._tokenizer.decode(self._ids)[len(self._known) :].rstrip("\ufffd")
        self._ids, self._known, self._known_ids = [], "", 0
        return text


def _special(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content, single_word=token.single_word, lstrip=token.lstrip, rstrip=token.rstrip,
        normalized=token.normalized, special=True,
    )  # fmt: skip


def _template_source(folder: Path) -> tuple[str, str]:
    """The chat template and its name, from its own file or from tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    try:
        if path.is_file():
            return path.read_text("utf-8"), str(path)
        path = folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    if not isinstance(template, str):
        raise CheckpointError(f"{folder} has no chat_template.jinja: expected one (docs/checkpoint.md)")
    return template, str(path)
