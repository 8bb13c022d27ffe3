"""A byte-level BPE tokenizer of any size made by a program: for benchmarks, where no real vocabulary is at hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QWEN_VOCABULARY = 151_936
_QWEN_BASE = 151_643
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
_QWEN_IDS = {
    "<|endoftext|>": 151_643,
    "<|im_start|>": 151_644,
    "<|im_end|>": 151_645,
    "<|vision_start|>": 151_652,
    "<|vision_end|>": 151_653,
    "<|image_pad|>": 151_655,
    "<think>": 151_667,
    "</think>": 151_668,
}
_LETTERS = "etaoinsrhldcumfpgwybvkxjqz"  # by frequency in English


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE, by byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs whose parts are bytes or earlier results: syllables, then words, with and without a space before them."""
    space = byte_alphabet()[ord(" ")]
    pairs = [a + b for a, b in itertools.product(_LETTERS, repeat=2)]
    yield from ((p[0], p[1]) for p in pairs)
    yield from ((space, letter) for letter in _LETTERS)
    yield from ((space, pair) for pair in pairs)
    yield from itertools.product(pairs, _LETTERS)
    for pair, letter in itertools.product(pairs, _LETTERS):
        yield space + pair, letter
    yield from itertools.product(pairs, repeat=2)


def special_ids(vocab_size: int) -> dict[str, int]:
    """The special tokens' ids: Qwen's when there is room for them, else the last ones."""
    if vocab_size >= QWEN_VOCABULARY:
        return dict(_QWEN_IDS)
    return {token: vocab_size - len(_SPECIALS) + i for i, token in enumerate(_SPECIALS)}


def build(vocab_size: int) -> dict[str, Any]:
    """The content of a tokenizer.json with exactly the ids 0 .. vocab_size - 1. ValueError below 262."""
    if vocab_size < 256 + len(_SPECIALS):
        raise ValueError(f"expected a vocabulary of at least {256 + len(_SPECIALS)}, got {vocab_size}")
    special = special_ids(vocab_size)
    base = _QWEN_BASE if vocab_size >= QWEN_VOCABULARY else vocab_size - len(_SPECIALS)
    merges = [list(m) for m in itertools.islice(_merges(), base - 256)]
    vocabulary = {token: i for i, token in enumerate([*byte_alphabet(), *(a + b for a, b in merges)])}
    names = {number: token for token, number in special.items()}
    added = [
        {
            "id": number,
            "content": names.get(number, f"<|reserved_{number}|>"),
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": "think" not in names.get(number, ""),
        }
        for number in range(base, vocab_size)
    ]
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": bytes_only,
        "post_processor": None,
        "decoder": bytes_only,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def write(folder: Path, vocab_size: int) -> None:
    """Write tokenizer.json."""
    text = json.dumps(build(vocab_size), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, "utf-8")
