"""Prompt lookup: the very same answers, what is guessed, and what it may cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import CancelledError, _testing
from hypervl_engine.engine import Engine, load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LONGEST = 16  # tokens of a match that are compared
SAID = ("text", "tokens", "logprobs", "top_logprobs", "finish_reason")
LAX = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def always(engine: Engine) -> Engine:
    """Its sessions guess whenever anything matches, so that tests do not depend on times."""
    new_session = engine.new_session

    def make() -> Any:
        session = new_session()
        session.speculate_always(True)
        return session

    engine.new_session = make  # type: ignore[method-assign]
    return engine


@pytest.fixture(scope="module")
def eager(tiny: Path) -> Engine:
    return always(load(tiny, threads=2, context_length=256, progress=False))


@pytest.fixture(scope="module")
def eager_demo() -> Engine:
    return always(load(threads=2, progress=False))


def said(result: Any) -> list[Any]:
    return [getattr(result, name) for name in SAID]


def compare(engine: Engine, image: Any, prompt: str, **options: Any) -> Any:
    """The answer with speculation, after checking that it is the one without."""
    plain = engine.generate(image, prompt, **options)
    guessed = engine.generate(image, prompt, speculate="lookup", **options)
    assert said(guessed) == said(plain)
    assert plain.stats.drafted_tokens == 0
    assert 0 <= guessed.stats.accepted_tokens <= guessed.stats.drafted_tokens
    return guessed


# The answers.


@LAX
@given(
    prompt=st.text("abc x?", min_size=1, max_size=30).filter(str.strip),
    limit=st.integers(1, 40),
    sampling=st.sampled_from(
        [{}, {}, {"temperature": 1.0, "seed": 3}, {"temperature": 0.7, "top_k": 3, "seed": 4},
         {"repetition_penalty": 1.2}, {"logprobs": 2}]
    ),
)  # fmt: skip
def test_the_same_answers(eager: Engine, prompt: str, limit: int, sampling: dict[str, Any]) -> None:
    compare(eager, None, prompt, max_new_tokens=limit, **sampling)


@pytest.mark.parametrize("branch", ["base", "large"])
def test_the_same_answers_with_pictures(eager: Engine, picture: np.ndarray, branch: str) -> None:
    guessed = 0
    for prompt in ("what is it?", "a b a b a b", "hello hello hello"):
        guessed += compare(eager, picture, prompt, branch=branch, scale=0.5, max_new_tokens=40).stats.drafted_tokens
    assert guessed > 0


def test_the_demo_says_the_same(eager_demo: Engine) -> None:
    image = np.full((128, 128, 3), 255, np.uint8)
    image[40:90, 30:80] = (200, 30, 30)
    for question in ("what is the total?", "how many shapes?", "read it"):
        compare(eager_demo, image, f"{question} {question}", max_new_tokens=48)
        compare(eager_demo, image, question, max_new_tokens=48, temperature=1.5, seed=1)
    ids = np.tile(np.arange(300, 310, dtype=np.int32), 5)
    expect_same(eager_demo.new_session(), eager_demo.new_session(), ids, 100, temperature=5.0, top_k=2)


def test_as_its_times_decide(tiny: Path) -> None:
    engine = load(tiny, threads=1, context_length=512, progress=False)
    for prompt in ("a b a b a b", "hello", "x x x x x x"):
        compare(engine, None, prompt, max_new_tokens=200)


def test_every_limit(eager: Engine) -> None:
    for limit in range(1, 30):
        result = compare(eager, None, "a b a b a b a b", max_new_tokens=limit)
        assert result.finish_reason == "stop" or len(result.tokens) == limit


def test_stop_strings_anywhere(eager: Engine) -> None:
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 1.0, "seed": 1}
    text = eager.generate(None, "a b a b a b", **options).text
    assert len(text) > 10
    for start in range(0, len(text) - 3, 2):
        stopped = compare(eager, None, "a b a b a b", stop=text[start : start + 3], **options)
        assert stopped.finish_reason == "stop"


def test_an_end_among_the_guessed(edited: Callable[[dict[str, dict[str, Any]]], Path], tiny: Path) -> None:
    tokens = load(tiny, threads=1, progress=False).generate(None, "a b a b", max_new_tokens=40, temperature=1.0, seed=2).tokens
    folder = edited({"generation_config.json": {"eos_token_id": [tokens[20]]}})
    engine = always(load(folder, threads=2, context_length=256, progress=False))
    result = compare(engine, None, "a b a b", max_new_tokens=40, temperature=1.0, seed=2)
    assert result.finish_reason == "stop"
    assert len(result.tokens) == tokens.index(tokens[20])


def test_the_context_runs_full(tiny: Path) -> None:
    engine = always(load(tiny, threads=1, context_length=64, progress=False))
    reasons = {compare(engine, None, "a b a b", max_new_tokens=1000, temperature=1.0, seed=s).finish_reason for s in range(8)}
    assert "context" in reasons


def test_pieces_come_in_the_same_order(eager: Engine) -> None:
    plain, guessed = (
        list(eager.stream(None, "a b a b", max_new_tokens=30, temperature=1.0, seed=5, speculate=how)) for how in (None, "lookup")
    )
    assert guessed == plain


def test_chats(eager: Engine, picture: np.ndarray) -> None:
    options = {"max_new_tokens": 20, "scale": 0.5, "temperature": 1.0, "stop": ["e"]}
    plain, guessing = eager.chat(**options), eager.chat(speculate="lookup", **options)
    for turn, (prompt, image) in enumerate([("a b a b", picture), ("again a b a b", None), ("and again a b", None)]):
        answers = [chat.ask(prompt, image, seed=turn) for chat in (plain, guessing)]
        assert said(answers[0]) == said(answers[1])
    guessing.close()
    plain.close()


def test_cancelling(eager: Engine) -> None:
    stream = eager.stream(None, "a b a b a b", max_new_tokens=200, temperature=1.0, seed=1, speculate="lookup")
    next(stream)
    stream.cancel()
    with pytest.raises(CancelledError):
        list(stream)
    compare(eager, None, "a b a b a b", max_new_tokens=20)


@pytest.mark.parametrize("eager_transfers", [False, True])
def test_staged(tiny: Path, eager_transfers: bool) -> None:
    """Sessions of device "cpu-staged" whose kernels fault on what was not copied for them."""
    engine = load(tiny, threads=2, context_length=256, device="cpu-staged", vtcm="512KiB", progress=False)
    reference = load(tiny, threads=1, context_length=256, progress=False).new_session()
    session = engine.new_session()
    session.set_eager_transfers(eager_transfers)
    session.protect_ddr(True)
    session.speculate_always(True)
    expect_same(reference, session, np.tile(np.arange(10, 20, dtype=np.int32), 4), 40)


def expect_same(plain: Any, guessing: Any, ids: np.ndarray, count: int, **how: Any) -> None:
    """Tokens, and at the end the logits and what the caches hold, of two sessions. Right and wrong guesses must have been made."""
    how = how or {"temperature": 5.0, "top_k": 2}
    for session in (plain, guessing):
        session.prefill(ids)
        session.seed(3)
    tokens = [plain.sample(**how)]
    while len(tokens) < count:
        plain.decode(tokens[-1]["id"])
        tokens.append(plain.sample(**how))
    got = [guessing.sample(**how)]
    while len(got) < count:
        several = guessing.speculate(got[-1]["id"], count - len(got), **how)
        assert 1 <= len(several) <= count - len(got)
        got += several
    assert got == tokens
    assert guessing.length == plain.length == len(ids) + count - 1
    np.testing.assert_array_equal(guessing.last_logits(), plain.last_logits())
    assert guessing.stats()["drafted_tokens"] > guessing.stats()["accepted_tokens"] > 0
    assert guessing.stats()["decode_tokens"] == count - 1
    more = np.arange(5, 25, dtype=np.int32)
    np.testing.assert_array_equal(guessing.prefill(more, logits=True), plain.prefill(more, logits=True))


@pytest.mark.parametrize("kv_bits", [16, 8])
@pytest.mark.parametrize("activation_bits", [16, 8])
def test_a_session_goes_on_as_without(tiny: Path, kv_bits: int, activation_bits: int) -> None:
    engine = load(tiny, threads=2, context_length=256, kv_bits=kv_bits, activation_bits=activation_bits, progress=False)
    session = engine.new_session()
    session.speculate_always(True)
    expect_same(engine.new_session(), session, np.tile(np.arange(10, 20, dtype=np.int32), 4), 60)


def test_arguments(engine: Engine) -> None:
    with pytest.raises(ValueError, match="speculate is 'guess': expected lookup or None"):
        engine.generate(None, "a", speculate="guess")  # type: ignore[arg-type]
    session = engine.new_session()
    session.prefill(np.arange(5, dtype=np.int32))
    for token, most, how in ((-1, 1, {}), (10**6, 1, {}), (1, 0, {}), (1, 1, {"top_p": 0.0}), (1, 1, {"vocab_size": -1})):
        with pytest.raises(ValueError):
            session.speculate(token, most, **how)
    assert session.length == 5
    assert len(session.last_logits()) > 0
    assert "speculate" in {f.name for f in dataclasses.fields(engine.generation_config)}


# What is guessed.


def guesses(text: list[int], most: int) -> list[int]:
    """In words: the longest end of the text that stands earlier, of equals the latest; and what followed there."""
    for length in range(min(LONGEST, len(text) - 1), 1, -1):
        end = text[-length:]
        places = [i for i in range(len(text) - length) if text[i : i + length] == end and min(end) >= 0]
        if places:
            out: list[int] = []
            whole = list(text)
            for at in range(places[-1] + length, places[-1] + length + most):
                if whole[at] < 0:
                    break
                out.append(whole[at])
                whole.append(whole[at])
            return out
    return []


@settings(max_examples=500, deadline=None)
@given(text=st.lists(st.integers(-1, 3), min_size=1, max_size=60), most=st.integers(0, 10))
def test_the_longest_and_latest_match(text: list[int], most: int) -> None:
    lookup = _testing.Lookup()
    lookup.always(True)
    assert lookup.draft(text, most) == guesses(text, min(most, _testing.MOST_DRAFT))


def test_a_period_goes_on() -> None:
    lookup = _testing.Lookup()
    lookup.always(True)
    assert lookup.draft([9, 1, 2, 1, 2, 1], 7) == [2, 1, 2, 1, 2, 1, 2]
    assert lookup.draft([5] * 4, 3) == [5, 5, 5]


# What it may cost: a machine on which n rows take a given time, and a text.


def drive(tokens: Iterator[int], count: int, seconds: Callable[[int], float]) -> float:
    """How much faster `count` tokens come with lookup than one by one."""
    lookup = _testing.Lookup()
    lookup.restart()
    source = [next(tokens) for _ in range(count + 40)]
    text, spent = source[:30], 0.0
    while len(text) < count + 30:
        following = source[len(text) :]
        draft = lookup.draft(text, count + 30 - len(text) - 1)
        accepted = 0
        while accepted < len(draft) and draft[accepted] == following[accepted]:
            accepted += 1
        lookup.ran(accepted, seconds(len(draft) + 1))
        spent += seconds(len(draft) + 1)
        text += following[: accepted + 1]
    return (len(text) - 30) * seconds(1) / spent


def repeating(period: int) -> Iterator[int]:
    while True:
        yield from range(period)


def noise(kinds: int, seed: int = 0) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(kinds))


MACHINES = {
    "bound by memory": lambda n: 1.0 + 0.03 * (n - 1),
    "between": lambda n: max(1.0, 0.35 * n),
    "bound by arithmetic": lambda n: 0.2 + 0.8 * n,
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kinds", [2, 3, 10, 1000])
@pytest.mark.parametrize("count", [30, 100, 1000])
def test_little_is_lost_on_noise(machine: str, kinds: int, count: int) -> None:
    """Small vocabularies match all the time, and what follows is anybody's guess."""
    assert min(drive(noise(kinds, seed), count, MACHINES[machine]) for seed in range(5)) >= 0.97


@pytest.mark.parametrize("period", [1, 5, 12])
def test_repetition_is_fast(period: int) -> None:
    assert drive(repeating(period), 100, MACHINES["bound by memory"]) > 3
    assert drive(repeating(period), 100, MACHINES["between"]) > 1.9


def test_changes_of_mind() -> None:
    """Text that repeats itself, then does not, then does."""

    def mixed() -> Iterator[int]:
        rng = np.random.default_rng(1)
        while True:
            for _ in range(20):
                yield from range(10)
            yield from (int(i) for i in rng.integers(0, 4, 200))

    assert drive(mixed(), 2000, MACHINES["between"]) > 1.3
