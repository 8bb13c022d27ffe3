"""Several turns on one KV cache, against a scripted model that records what is prefilled."""

import numpy as np
import pytest
from hypervl_engine import CancelledError, HyperVLError

IMAGE = np.zeros((64, 64, 3), np.uint8)  # 16 visual tokens at scale 1, 4 at 0.5
# A template whose history is a prefix of the next prompt: no empty thinking part before an answer.
PLAIN = """\
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ p.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def fresh_prompt(engine, chat):
    """What a session would hold that had prefilled the whole conversation at once."""
    return [int(i) for i in chat._prompt([*chat.turns], False).ids]


def test_only_new_tokens_are_prefilled(scripted):
    engine = scripted(template=PLAIN)
    chat = engine.chat("be brief")
    engine.says("hello")
    first = chat.ask("what is it?", IMAGE)
    assert first.text == "hello"
    session = engine.sessions[-1]
    held = list(session.ids)
    engine.says("world")
    second = chat.ask("and now?")
    assert session.images == [1, 0]
    whole = fresh_prompt(engine, chat)
    assert second.stats.cached_tokens == len(held) > len(session.prefills[0])
    assert session.prefills[1] == whole[len(held) :]
    assert session.ids == whole + engine.tokenizer.encode("world")


def test_template_that_rewrites_history(scripted):
    engine = scripted()  # puts an empty thinking part before a new answer, and leaves it out of old ones
    chat = engine.chat()
    for text in ("one", "two", "three"):
        engine.says(text)
        assert chat.ask(f"say {text}").text == text
        session = engine.sessions[-1]
        prompt = fresh_prompt(engine, chat)
        assert session.ids == prompt + engine.tokenizer.encode(text)
    assert len(session.prefills[2]) < len(prompt)


def test_images_in_later_turns(scripted):
    engine = scripted()
    chat = engine.chat(scale=1.0)
    engine.says("ok")
    chat.ask("a", IMAGE)
    chat.ask("b", [IMAGE, IMAGE[:16]])
    result = chat.ask("c")
    session = engine.sessions[-1]
    assert session.images == [1, 2, 0]
    pad = engine.tokenizer.image_token_id
    assert session.ids.count(pad) == 16 + 16 + 4
    assert len(result.stats.scales) == 3


def test_same_size_of_another_image_is_not_reused(scripted):
    engine = scripted(context_length=80, template=PLAIN)
    chat = engine.chat(scale=1.0, max_new_tokens=4)
    engine.says("ok")
    chat.ask("a", IMAGE)
    chat.ask("b", IMAGE + 1)
    chat.ask("c", IMAGE + 2)
    assert chat.dropped_turns == 1
    session = engine.sessions[-1]
    assert session.images == [1, 1, 2]  # after dropping the first turn, both images that are left are read again


def test_oldest_turns_are_dropped_and_the_system_message_stays(scripted):
    engine = scripted(context_length=160)
    chat = engine.chat("be brief", max_new_tokens=8)
    engine.says("fine")
    for number in range(12):
        assert chat.ask(f"question number {number} of many").text == "fine"
        session = engine.sessions[-1]
        assert len(session.ids) <= 160
        text = engine.tokenizer.decode(session.ids)
        assert text.startswith("system\nbe brief")
        assert f"number {number} " in text
    assert chat.dropped_turns > 5
    assert len(chat.turns) == 12 - chat.dropped_turns
    assert "number 0 " not in text


def test_a_turn_that_does_not_fit_changes_nothing(scripted):
    engine = scripted(context_length=120)
    chat = engine.chat(max_new_tokens=8)
    engine.says("fine")
    chat.ask("hello")
    before = list(chat.turns)
    with pytest.raises(ValueError, match="the context holds 120"):
        chat.ask("x" * 200)
    assert chat.turns == before
    assert chat.dropped_turns == 0
    assert chat.ask("hello").text == "fine"
    result = chat.ask("x" * 80, max_new_tokens=100)  # alone it fits, but not all of its answer might
    assert result.finish_reason == "stop"


@pytest.mark.parametrize("failing", ["prefill", "decode"])
def test_a_turn_that_fails_changes_nothing(scripted, failing):
    engine = scripted()
    chat = engine.chat()
    engine.says("fine")
    chat.ask("hello")
    session = engine.sessions[-1]

    def fail(name):
        if name == failing:
            raise KeyboardInterrupt

    session.before_call = fail
    with pytest.raises(KeyboardInterrupt):
        chat.ask("again")
    session.before_call = lambda name: None
    assert len(chat.turns) == 1
    assert chat.ask("again").text == "fine"
    assert session.ids == fresh_prompt(engine, chat) + engine.tokenizer.encode("fine")


def test_stream_left_early(scripted):
    engine = scripted()
    chat = engine.chat()
    engine.says("hello world")
    with chat.stream("a") as stream:
        next(stream)
        with pytest.raises(HyperVLError, match="answering already"):
            chat.ask("b")
        with pytest.raises(HyperVLError, match="close its stream"):
            chat.reset()
    assert chat.turns == []
    assert "".join(chat.stream("a")) == "hello world"
    assert len(chat.turns) == 1


def test_cancel_between_tokens(scripted):
    engine = scripted()
    chat = engine.chat()
    engine.says("hello")
    stream = chat.stream("a")
    next(stream)
    engine.cancel()
    with pytest.raises(CancelledError):
        next(stream)
    assert chat.ask("a").text == "hello"


def test_thinking_is_left_out_of_history(scripted):
    engine = scripted()
    chat = engine.chat(thinking=True)
    marks = [engine.tokenizer.token_id(t) for t in ("<think>", "</think>")]
    engine.script = [marks[0], *engine.tokenizer.encode("hm"), marks[1], *engine.tokenizer.encode("42")]
    result = chat.ask("a")
    assert (result.thinking, result.answer) == ("hm", "42")
    chat.ask("b")
    ids = engine.sessions[-1].ids
    assert "hm" not in engine.tokenizer.decode(ids[: -len(engine.script)])
    assert chat.turns[0].answer == tuple(engine.tokenizer.encode("42"))


def test_reset_and_close(scripted):
    engine = scripted()
    chat = engine.chat("be brief")
    engine.says("hello")
    chat.ask("a")
    chat.reset()
    assert (chat.turns, engine.sessions[-1].ids) == ([], [])
    assert chat.ask("a").stats.cached_tokens == 0
    with chat:
        pass
    with pytest.raises(HyperVLError, match="closed"):
        chat.ask("a")
    with pytest.raises(TypeError, match="system is int"):
        engine.chat(3)
    with pytest.raises(TypeError, match="beams"):
        engine.chat(beams=3).ask("a")
