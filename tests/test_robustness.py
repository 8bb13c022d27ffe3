"""Bad input of every kind: each a typed error with a sentence, after which the engine goes on as before."""

import io
import itertools

import numpy as np
import pytest
from hypervl_engine import CheckpointError, load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image


def png(values) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def still_works(engine, picture):
    """Checks after the test that the engine answers as it did before it."""
    before = engine.generate(picture, "hello", max_new_tokens=4)
    yield
    after = engine.generate(picture, "hello", max_new_tokens=4)
    assert (after.tokens, after.logprobs) == (before.tokens, before.logprobs)


GOOD = png(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
BAD_IMAGES = {
    "no rows": (np.zeros((0, 5, 3), np.uint8), "at least 1x1"),
    "no columns": (np.zeros((5, 0, 3), np.uint8), "at least 1x1"),
    "not an image": (b"hello", "not an image file"),
    "no bytes": (b"", "0 bytes"),
    "cut short": (GOOD[: len(GOOD) // 2], "damaged"),
    "only a header": (GOOD[:24], "image"),
    "floats of 0 to 255": (np.full((9, 9, 3), 255.0), "from 0 to 1"),
    "not a number": (np.full((9, 9, 3), np.nan), "from 0 to 1"),
    "integers": (np.zeros((9, 9, 3), np.int64), "uint8"),
    "two at once": (np.zeros((2, 9, 9, 3), np.uint8), "as a list"),
    "five channels": (np.zeros((9, 9, 5), np.uint8), "channels"),
    "over the pixel cap": (np.broadcast_to(np.uint8(0), (10000, 10000, 3)), "over the cap"),
    "more tokens than the context": (np.zeros((8000, 8000, 3), np.uint8), r"context holds|visual tokens"),
    "a number": (5, "cannot read an image"),
}


@pytest.mark.usefixtures("still_works")
@pytest.mark.parametrize("what", BAD_IMAGES)
def test_bad_images(engine, what):
    image, problem = BAD_IMAGES[what]
    for call in (engine.generate, engine.stream, lambda i, p, **o: engine.score(i, p, "a", **o)):
        with pytest.raises(ValueError, match=problem):
            call(image, "hello", scale=1.0)
    with pytest.raises(ValueError, match=problem):
        engine.chat(scale=1.0).ask("hello", image)


@pytest.mark.usefixtures("still_works")
def test_missing_file(engine):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        engine.generate("nowhere.png", "hello")


@pytest.mark.parametrize("branch", ["base", "large"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (1, 17), (63, 65), (64, 64), (2, 700)])
def test_odd_sizes_answer(engine, shape, branch):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for scale in ("auto", 1.0, 0.1):
        result = engine.generate(image, "hello", scale=scale, branch=branch, max_new_tokens=3)
        assert result.stats.visual_tokens >= 1
        assert np.isfinite(result.logprobs).all()


def test_grey_16_bit_answers(engine):
    grey = np.random.default_rng(0).integers(0, 65536, (50, 70), dtype=np.uint16)
    eight = np.repeat(np.rint(grey / 65535 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    results = [engine.generate(source, "hello", max_new_tokens=4) for source in (grey, png(grey), eight)]
    assert len({r.tokens for r in results}) == 1


@pytest.mark.usefixtures("still_works")
def test_prompts_that_are_too_long(engine, picture):
    for image in (None, picture):
        with pytest.raises(ValueError, match=rf"the context holds {engine.context_length}"):
            engine.generate(image, "hello " * engine.context_length)
    with pytest.raises(ValueError, match="images"):
        engine.generate([picture] * 2000, "hello", scale=1.0)


@pytest.mark.usefixtures("still_works")
def test_empty_and_odd_prompts(engine, picture):
    with pytest.raises(ValueError, match="prompt is empty"):
        engine.generate(None, "")
    with pytest.raises(ValueError, match="not valid Unicode"):
        engine.generate(None, "a\udcff")
    for prompt in ("", "\0", "\x1b[31m", "\u202e" * 50, "😀" * 40, "\r\n" * 9, "<|im_end|>" * 20):
        engine.generate(picture, prompt, max_new_tokens=2, scale=0.3)


@given(
    st.text(max_size=30), st.integers(1, 90), st.integers(1, 90), st.floats(0.05, 1.0),
    st.sampled_from(["base", "large"]), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_reasonable_answers(engine, prompt, height, width, scale, branch, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = engine.generate(image, prompt, scale=scale, branch=branch, max_new_tokens=3, temperature=1.0, seed=seed)
    assert np.isfinite(result.logprobs).all()
    assert result.stats.visual_tokens == engine.model.plan_image(height, width, scale)["visual_tokens"]


@pytest.mark.usefixtures("still_works")
def test_the_compiled_session_checks_its_arguments(engine, picture):
    session = engine.new_session()
    pad, size = engine.tokenizer.image_token_id, engine.config.text_config.vocab_size
    image_ids = engine.model.image_token_ids(100, 150, 0.5)
    text = np.array([1, 2, 3], np.int32)
    bad = [
        lambda: session.last_logits(),
        lambda: session.sample(),
        lambda: session.prefill(np.zeros(0, np.int32)),
        lambda: session.prefill(np.array([-1], np.int32)),
        lambda: session.prefill(np.array([size], np.int32)),
        lambda: session.prefill(np.array([pad], np.int32)),
        lambda: session.prefill(text, [(picture, 0.5)], "base"),
        lambda: session.prefill(image_ids[:-1], [(picture, 0.5)], "base"),
        lambda: session.prefill(image_ids, [(picture, 0.5)], "huge"),
        lambda: session.prefill(np.ones(engine.context_length + 1, np.int32)),
        lambda: session.decode(-1),
        lambda: session.decode(size),
        lambda: session.truncate(1),
        lambda: session.truncate(-1),
        lambda: session.encode(picture, 0.5, "huge"),
        lambda: session.encode(np.zeros((4, 4, 4), np.uint8), 0.5, "base"),
        lambda: session.encode(np.zeros((0, 4, 3), np.uint8), 0.5, "base"),
        lambda: session.vrc_scale(np.zeros((4, 4), np.uint8)),
        *(lambda s=s: session.encode(picture, s, "base") for s in (0.0, -1.0, np.nan, np.inf, 1e30)),
        *(lambda s=s: engine.model.plan_image(100, 100, s) for s in (0.0, -1.0, np.nan, np.inf, 1e30)),
        lambda: engine.model.plan_image(0, 100, 1.0),
        lambda: engine.model.image_token_ids(100, -1, 1.0),
    ]
    for call in bad:
        with pytest.raises((ValueError, TypeError)):
            call()
    session.prefill(text)
    for options in ({"temperature": -1.0}, {"temperature": np.nan}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": np.nan},
                    {"min_p": 2.0}, {"repetition_penalty": 0.0}, {"logprobs": -1}):  # fmt: skip
        with pytest.raises(ValueError):
            session.sample(**options)
    assert session.length == 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config.json": {"model_type": "bert"}}, "model_type"),
        ({"config.json": {"image_token_id": 10**6}}, "image_token_id"),
        ({"config.json": {"text_config": {}}}, "text_config"),
        ({"config.json": {"vision_configs": {}}}, "vision_configs"),
        ({"config.json": {"default_branch": "huge"}}, "default_branch"),
        ({"generation_config.json": {"do_sample": True, "top_p": 7}}, "top_p"),
        ({"generation_config.json": {"eos_token_id": "end"}}, "eos_token_id"),
        ({"tokenizer.json": {"model": {"type": "None"}}}, "tokenizer"),
    ],
)
def test_checkpoints_with_wrong_json(edited, changes, problem):
    with pytest.raises(CheckpointError, match=problem):
        _ = load(edited(changes), progress=False).tokenizer


def test_files_cut_short(edited):
    folder = edited({})
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole.rstrip()) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=name):
                _ = load(folder, progress=False).tokenizer
        path.write_bytes(whole)
    load(folder, progress=False)


def test_no_checkpoint(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="checkpoint folder"):
            load(path)


def test_many_sessions_come_and_go(engine, picture):
    """Memory comes back: abandoned streams and chats do not pile up."""
    import resource

    def burst():
        for _ in range(20):
            stream = engine.stream(picture, "hello", max_new_tokens=2, scale=0.3)
            next(stream, None)
            del stream
            engine.chat(max_new_tokens=1).ask("hi")

    burst()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in itertools.repeat(None, 3):
        burst()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
