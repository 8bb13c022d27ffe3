"""Prompts in which user text stays text, and text that comes back whole."""

import json

import pytest
from hypervl_engine import CheckpointError
from hypervl_engine.template import ChatTemplate
from hypervl_engine.tokenizer import Detokenizer, ImagePart, Message, Tokenizer, TokenPart
from hypothesis import given, settings
from hypothesis import strategies as st

MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<think>", "</think>")
pieces = st.one_of(st.text(max_size=8), st.sampled_from([*MARKS, "<|im_", "start|>", "\n", " "]))
texts = st.lists(pieces, max_size=8).map("".join)


def ids_of(tokenizer, *names):
    return [tokenizer.token_id(name) for name in names]


def marks_in(tokenizer, ids):
    special = set(ids_of(tokenizer, *MARKS))
    return [tokenizer.token(i) for i in ids if i in special]


def test_prompt_equals_the_template_s_text(small_tokenizer):
    ids = small_tokenizer.prompt(
        [Message("system", ("be brief",)), Message("user", (ImagePart(), "what is the total?"))], thinking=True
    )
    text = (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        "what is the total?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "".join(small_tokenizer.token(i) for i in ids).replace("Ċ", "\n").replace("Ġ", " ") == text
    # Without marks in it, user text is encoded as if all had been one string: merges cross the seam.
    whole = small_tokenizer._tokenizer
    whole.encode_special_tokens = False
    try:
        assert whole.encode(text, add_special_tokens=False).ids == ids
    finally:
        whole.encode_special_tokens = True


def test_thinking_switch(small_tokenizer):
    message = [Message("user", ("hello",))]
    on, off = (small_tokenizer.prompt(message, thinking=flag) for flag in (True, False))
    assert marks_in(small_tokenizer, on)[-1] == "<|im_start|>"
    assert marks_in(small_tokenizer, off)[-2:] == ["<think>", "</think>"]
    assert off[: len(on)] == on
    assert small_tokenizer.prompt(message, answer_next=False) == on[: -len(small_tokenizer.encode("assistant\n")) - 1]


@given(texts, texts)
@settings(max_examples=200, deadline=None)
def test_user_text_never_becomes_special(small_tokenizer, system, user):
    plain = small_tokenizer.prompt([Message("system", ("a",)), Message("user", (ImagePart(), "b"))])
    ids = small_tokenizer.prompt([Message("system", (system,)), Message("user", (ImagePart(), user))])
    assert marks_in(small_tokenizer, ids) == marks_in(small_tokenizer, plain)
    assert marks_in(small_tokenizer, small_tokenizer.encode(user)) == []
    assert user in small_tokenizer.decode(ids)


def test_token_parts_go_in_as_they_are(small_tokenizer):
    odd = (*small_tokenizer.encode("he"), *small_tokenizer.encode("llo"), 3)
    turns = [Message("user", ("a",)), Message("assistant", (TokenPart(odd),)), Message("user", ("b",))]
    ids = small_tokenizer.prompt(turns)
    assert str(list(odd))[1:-1] in str(ids)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_pieces_join_to_the_text_and_never_split_characters(small_tokenizer, text):
    ids = small_tokenizer.encode(text)
    stream = Detokenizer(small_tokenizer)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == small_tokenizer.decode(ids) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 299), max_size=40))
@settings(max_examples=300, deadline=None)
def test_pieces_of_any_ids(small_tokenizer, ids):
    stream = Detokenizer(small_tokenizer)
    text = "".join(stream.push(i) for i in ids) + stream.flush()
    assert text == small_tokenizer.decode(ids).rstrip("\ufffd") or text == small_tokenizer.decode(ids)


def test_a_character_is_held_until_it_is_whole(small_tokenizer):
    ids = small_tokenizer.encode("a€😀b")
    stream = Detokenizer(small_tokenizer)
    pieces = [stream.push(i) for i in ids]
    assert pieces == ["a", "", "", "€", "", "", "", "😀", "b"]
    stream = Detokenizer(small_tokenizer)
    assert [stream.push(i) for i in ids[:6]] == ["a", "", "", "€", "", ""]
    assert stream.flush() == ""  # a character cut short is left out


def test_special_tokens_are_not_shown(small_tokenizer):
    stream = Detokenizer(small_tokenizer)
    marks = ids_of(small_tokenizer, "<|im_end|>", "<think>")
    ids = [*small_tokenizer.encode("a"), *marks, *small_tokenizer.encode("b")]
    assert "".join(stream.push(i) for i in ids) == "a<think>b" == small_tokenizer.decode(ids)


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_offsets_cover_the_text(small_tokenizer, text):
    ids, offsets = small_tokenizer.encode_with_offsets(text)
    assert len(ids) == len(offsets)
    covered = {place for start, end in offsets for place in range(start, end)}
    assert covered == set(range(len(text)))


def test_lone_surrogates(small_tokenizer):
    with pytest.raises(ValueError, match="not valid Unicode"):
        small_tokenizer.encode("a\ud800")


def test_eos_ids(tmp_path, write_small_tokenizer):
    config = write_small_tokenizer(tmp_path)
    assert Tokenizer(tmp_path, config).eos_token_ids == config.text_config.eos_token_id
    assert Tokenizer(tmp_path, config, (3, 4)).eos_token_ids == (3, 4)


def test_missing_and_broken_files(tmp_path, write_small_tokenizer):
    config = write_small_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").rename(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="no chat_template"):
        Tokenizer(tmp_path, config)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": (tmp_path / "gone").read_text()}))
    assert Tokenizer(tmp_path, config).prompt([Message("user", ("a",))])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="tokenizer_config"):
        Tokenizer(tmp_path, config)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        Tokenizer(tmp_path, config)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path, config)


def test_tokenizer_of_another_model(tmp_path, write_small_tokenizer):
    config = write_small_tokenizer(tmp_path)
    config.text_config.vocab_size = 100
    with pytest.raises(CheckpointError, match="vocab_size is 100"):
        Tokenizer(tmp_path, config)
    config.text_config.vocab_size = 400
    config.image_token_id = 399
    with pytest.raises(CheckpointError, match="image_token_id 399"):
        Tokenizer(tmp_path, config)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for m in messages %}", "line 1"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe|failed"),
        ("{{ messages.append(1) }}", "unsafe|failed"),
        ("{{ 'a' * 1000000000 }}", "small numbers"),
        ("{{ 9 ** 9 ** 9 }}", "small numbers"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "seconds"),
        ("{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}", "characters"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{{ 1 // 0 }}", "failed"),
        ("x" * (1 << 21), "expected at most"),
    ],
)
def test_hostile_templates(template, problem, monkeypatch):
    monkeypatch.setattr("hypervl_engine.template.MAX_SECONDS", 0.3)
    with pytest.raises(CheckpointError, match=problem):
        ChatTemplate(template, "template").render([{"role": "user", "content": "a"}])


def test_templates_that_refuse_or_alter(tmp_path, write_small_tokenizer):
    config = write_small_tokenizer(tmp_path, "{{ raise_exception('no system message, please') }}")
    with pytest.raises(ValueError, match="no system message, please"):
        Tokenizer(tmp_path, config).prompt([Message("system", ("a",))])
    for template in ("{{ messages[-1].content | upper }}", "nothing", "{{ messages[-1].content[:9] }}"):
        config = write_small_tokenizer(tmp_path, template)
        with pytest.raises(CheckpointError, match="drops or alters"):
            Tokenizer(tmp_path, config).prompt([Message("user", ("abc",))])
