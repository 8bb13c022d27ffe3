"""Configs, stop strings, results; streams against a scripted model."""

import dataclasses
import math

import numpy as np
import pytest
from hypervl_engine import CheckpointError, GenerationConfig, HyperVLError, Result, Score
from hypervl_engine.generation import StopStrings, eos_token_ids
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "bad",
    [
        {"max_new_tokens": 0}, {"max_new_tokens": 1.5}, {"max_new_tokens": True}, {"temperature": -1},
        {"temperature": math.nan}, {"temperature": math.inf}, {"temperature": "hot"}, {"top_k": -1}, {"top_p": 0},
        {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 2}, {"repetition_penalty": 0}, {"repetition_penalty": math.inf},
        {"seed": -1}, {"seed": 1 << 64}, {"stop": ""}, {"stop": ["a", ""]}, {"stop": [3]}, {"stop": 3},
        {"logprobs": -1}, {"logprobs": 100000},
    ],
)  # fmt: skip
def test_options_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        GenerationConfig(**bad)
    with pytest.raises(ValueError, match=next(iter(bad))):
        GenerationConfig().with_options(**bad)


def test_options():
    config = GenerationConfig(temperature=0.5, stop="a")
    assert config.stop == ("a",)
    assert config.with_options(temperature=None, top_k=np.int64(3), stop=["b", "c"]) == GenerationConfig(
        temperature=0.5, top_k=3, stop=("b", "c")
    )
    with pytest.raises(TypeError, match="beams"):
        config.with_options(beams=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.top_k = 3


def test_generation_config_json():
    values = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [3, 4], "max_new_tokens": 9, "other": 1}
    assert GenerationConfig.from_checkpoint(values) == GenerationConfig(max_new_tokens=9)
    sampling = GenerationConfig.from_checkpoint({**values, "do_sample": True})
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 20, 0.95)
    assert GenerationConfig.from_checkpoint({"do_sample": True}).temperature == 1.0
    with pytest.raises(CheckpointError, match=r"generation_config.json: top_p"):
        GenerationConfig.from_checkpoint({"do_sample": True, "top_p": 3})
    assert eos_token_ids(values) == (3, 4)
    assert eos_token_ids({"eos_token_id": 3}) == (3,)
    assert eos_token_ids({}) == ()
    for bad in ("x", [None], True, -1):
        with pytest.raises(CheckpointError, match="eos_token_id"):
            eos_token_ids({"eos_token_id": bad})


def first_stop(text, stops):
    """Where the text is cut: at the stop string that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return end - max(map(len, found))
    return None


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
@settings(max_examples=500, deadline=None)
def test_stop_strings_in_any_pieces(text, stops, data):
    checker = StopStrings(stops)
    out, rest = "", text
    while rest:
        size = data.draw(st.integers(1, 4))
        out += checker.push(rest[:size])
        rest = rest[size:]
        cut = first_stop(text[: len(text) - len(rest)], stops)
        whole = text[: len(text) - len(rest)] if cut is None else text[:cut]
        assert whole.startswith(out)
        assert checker.stopped == (cut is not None)
        # No more is held back than could still become a stop string.
        held = whole[len(out) :]
        assert not held or any(stop.startswith(held) for stop in stops)
    out += checker.flush()
    cut = first_stop(text, stops)
    assert out == (text if cut is None else text[:cut])


def make_result(text):
    return Result(text, (), (), (), "stop", None)


def test_thinking_part_of_a_result():
    result = make_result("<think>\nhm\n</think>\n\n42")
    assert (result.thinking, result.answer, str(result)) == ("hm", "42", result.text)
    assert (make_result("42").thinking, make_result("42").answer) == (None, "42")
    assert (make_result("hm</think>42").thinking, make_result("hm</think>42").answer) == ("hm", "42")
    assert (make_result("<think>hm").thinking, make_result("<think>hm").answer) == ("hm", "")


def test_score_sums_up():
    assert Score("ab", (1, 2), (-0.5, -0.25), ((0, 1), (1, 2))).total == -0.75


@pytest.mark.parametrize("text", ["hello world", "naïve €5 😀 done", "", "the total is 42"])
def test_stream_equals_generate(scripted, text):
    engine = scripted()
    engine.says(text)
    with engine.stream(None, "hello") as stream:
        pieces = list(stream)
        result = stream.result
    assert "".join(pieces) == result.text == text
    assert all(pieces)
    assert not any("\ufffd" in piece for piece in pieces)
    again = engine.generate(None, "hello")
    assert (again.text, again.tokens, again.finish_reason) == (text, tuple(engine.script), "stop")
    assert len(again.logprobs) == len(again.tokens)


def test_stop_string_across_tokens(scripted):
    engine = scripted()
    engine.says("one END two")
    assert len(engine.tokenizer.encode("END")) == 3
    with engine.stream(None, "hello", stop=["END", "never"]) as stream:
        pieces = list(stream)
    assert "".join(pieces) == stream.result.text == "one "
    assert stream.result.finish_reason == "stop"
    assert engine.tokenizer.decode(stream.result.tokens) == "one END"
    engine.says("one EN")  # held back, and then it was none
    assert engine.generate(None, "hello", stop="END").text == "one EN"
    engine.says("a€b")
    assert engine.generate(None, "hello", stop="€").text == "a"


def test_length_and_context(scripted):
    engine = scripted(context_length=40)
    engine.says("x" * 100)
    result = engine.generate(None, "hi", max_new_tokens=3)
    assert (result.text, result.finish_reason, len(result.tokens)) == ("xxx", "length", 3)
    result = engine.generate(None, "hi")
    assert result.finish_reason == "context"
    assert result.stats.prompt_tokens + result.stats.new_tokens == 41  # the last one is said, not read
    with pytest.raises(ValueError, match=r"tokens \(0 of them for 0 images\), the context holds 40"):
        engine.generate(None, "hi" * 100)
    engine.says("€")
    result = engine.generate(None, "hi", max_new_tokens=2)
    assert (result.text, len(result.tokens)) == ("", 2)  # never half a character


def test_seed_is_reported(scripted):
    engine = scripted()
    engine.says("a")
    assert engine.generate(None, "a", seed=7).stats.seed == 7 == engine.seeds[-1]
    drawn = {engine.generate(None, "a").stats.seed for _ in range(4)}
    assert len(drawn) == 4


def test_stream_must_be_finished_for_its_result(scripted):
    engine = scripted()
    engine.says("hello")
    stream = engine.stream(None, "a")
    next(stream)
    with pytest.raises(HyperVLError, match="no result yet"):
        _ = stream.result
    stream.close()
    assert list(stream) == []
    with pytest.raises(HyperVLError, match="no result yet"):
        _ = stream.result


def test_sessions_come_back(scripted):
    engine = scripted()
    engine.says("hello")
    for _ in range(3):
        engine.generate(None, "a")
        engine.stream(None, "a").close()
        with engine.stream(None, "a") as stream:
            next(stream)
        stream = engine.stream(None, "a")
        del stream
    with pytest.raises(ValueError, match="empty"):
        engine.generate(None, "")
    assert len(engine.sessions) == 1
    two = [engine.stream(None, "a") for _ in range(2)]
    assert len(engine.sessions) == 2
    assert ["".join(stream) for stream in two] == ["hello", "hello"]


def test_images_and_their_places(scripted):
    engine = scripted()
    engine.says("ok")
    image = np.zeros((64, 64, 3), np.uint8)
    engine.generate([image, image[:32]], "compare", scale=1.0)
    session = engine.sessions[0]
    assert session.images == [2]
    pad = engine.tokenizer.image_token_id
    runs = "".join("i" if i == pad else "." for i in session.prefills[0]).strip(".").split(".")
    assert [len(run) for run in runs if run] == [16, 8]
    assert engine.generate(image, "x").stats.scale == 0.5  # the model's choice
    assert engine.generate(image, "x", min_scale=0.75).stats.scale == 0.75
    assert engine.generate(image, "x", min_scale=0.25).stats.scale == 0.5
    assert engine.generate(image, "").finish_reason == "stop"  # an image alone is a prompt


@pytest.mark.parametrize("bad", [0, -0.5, 1.5, math.nan, "big", None, True])
def test_bad_scales(scripted, bad):
    with pytest.raises(ValueError, match=r"scale is .*expected"):
        scripted().generate(np.zeros((8, 8, 3), np.uint8), "x", scale=bad)


def test_other_bad_arguments(scripted):
    engine = scripted()
    image = np.zeros((320, 320, 3), np.uint8)
    with pytest.raises(ValueError, match=r"branch is 'huge': this checkpoint has base, large"):
        engine.generate(image, "x", branch="huge")
    with pytest.raises(ValueError, match="below min_scale"):
        engine.generate(image, "x", scale=0.2, min_scale=0.5)
    with pytest.raises(ValueError, match=r"400 visual tokens, max_visual_tokens is 100: scale=0\.50 would fit"):
        engine.generate(image, "x", scale=1.0, max_visual_tokens=100)
    with pytest.raises(ValueError, match="no scale"):
        engine.generate([image] * 3, "x", scale=1.0, max_visual_tokens=1)
    with pytest.raises(ValueError, match="over the cap of 1000"):
        engine.generate(image, "x", max_pixels=1000)
    for empty in ("", " \n"):
        with pytest.raises(ValueError, match="prompt is empty"):
            engine.generate(None, empty)
    with pytest.raises(TypeError, match="prompt is bytes"):
        engine.generate(None, b"x")
    with pytest.raises(TypeError, match="beams"):
        engine.generate(None, "x", beams=3)
    assert len(engine.sessions) == 1


def test_template_without_image_places(scripted):
    engine = scripted(template="{{ messages[-1].content[-1].text }}")
    with pytest.raises(ValueError, match="0 image places for 1 images"):
        engine.generate(np.zeros((8, 8, 3), np.uint8), "x")
