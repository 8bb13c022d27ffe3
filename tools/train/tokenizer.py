"""The demo model's tokenizer: byte-level BPE of 512 ids, merges learned from lower-case chat text only.

Printed strings are upper case and digits, which no merge ever joins: they are spelled one character a token.
"""

from __future__ import annotations

from pathlib import Path

from hypervl_engine.convert.chat_template import PLAIN_CHAT_TEMPLATE
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB_SIZE = 512
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
            "<|image_pad|>", "<|tile|>", "<|row|>")

_NOUNS = ["circle", "square", "triangle", "star", "shape", "bar", "item", "label", "receipt", "total", "number",
          "value", "word", "picture", "image", "colour", "price", "text", "line", "name", "letter", "digit", "chart"]
_COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "black", "white"]


def _corpus() -> list[str]:
    lines = ["system", "user", "assistant", "user\n", "assistant\n", "system\n"] * 40
    for noun in _NOUNS:
        lines += [f"what does the {noun} say?", f"what is the {noun}?", f"how many {noun}s?", f"what {noun} is it?",
                  f"how much is the {noun}?", f"what colour is the {noun}?", f"which {noun} is tallest?",
                  f"what is the value of {noun} ", f"read the {noun}s.", f"describe this {noun}."] * 4
        lines += [f"how many {c} {noun}s?" for c in _COLOURS] + [f"what {noun} is {c}?" for c in _COLOURS]
    lines += ["how many shapes?", "what is the total?", "how many bars?", "which bar is tallest?", "read the text.",
              "what does the label say?", "what is the number?", "how much is the ", "what is the value of bar ",
              "you are a helpful assistant.", "there is no answer.", "yes", "no"] * 30
    return lines


def build() -> Tokenizer:
    """Learn the merges; always the same result."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE - len(SPECIALS), show_progress=False, special_tokens=[],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return tokenizer


def write(folder: Path) -> Tokenizer:
    """Write tokenizer.json and chat_template.jinja."""
    tokenizer = build()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(PLAIN_CHAT_TEMPLATE)
    return tokenizer
