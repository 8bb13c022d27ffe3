"""What several tests need: small tokenizers, an engine whose model follows a script, and the checkpoints to run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypervl_engine.convert import convert_random
from hypervl_engine.engine import Engine, load
from hypervl_engine.hardware import default_cpu_spec
from hypervl_engine.placement import Placement
from hypervl_engine.tokenizer import Tokenizer
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HfTokenizer

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if not enable_thinking -%}
<think>

</think>

{% endif -%}
{%- endif -%}
"""
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
MARKS = ("<think>", "</think>")


def write_tokenizer(folder: Path, template: str = TEMPLATE) -> SimpleNamespace:
    """A byte-level BPE with the usual marks in `folder`; returns as much of a config as a Tokenizer looks at."""
    tokenizer = HfTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(["user assistant system hello world what is the total?\n"] * 9, trainer)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    tokenizer.add_tokens([AddedToken(s, special=False, normalized=False) for s in MARKS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template)
    ids = {s: tokenizer.token_to_id(s) for s in SPECIALS}
    return SimpleNamespace(
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        text_config=SimpleNamespace(
            vocab_size=400, eos_token_id=(ids["<|im_end|>"],), num_hidden_layers=1, hidden_size=8,
            max_position_embeddings=4096,
        ),
        vision_configs={"base": None, "large": None},
        default_branch="base",
        tiling=SimpleNamespace(tile_size=64),
        vrc_config=None,
    )  # fmt: skip


@pytest.fixture(scope="session")
def write_small_tokenizer():
    """The function that writes a small tokenizer and template into a folder."""
    return write_tokenizer


@pytest.fixture(scope="session")
def small_tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer(folder, write_tokenizer(folder))


class ScriptedSession:
    """Stands in for `_core.Session`: says the script's tokens one after another, and records what was prefilled."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine, self.context_length = engine, engine.context_length
        self.ids: list[int] = []
        self.prefills: list[list[int]] = []
        self.images: list[int] = []
        self.said = 0
        self.before_call = lambda name: None

    @property
    def length(self) -> int:
        return len(self.ids)

    def vrc_scale(self, rgb) -> float:
        return 0.5

    def prefill(self, input_ids, images=(), branch="", logits=False):
        self.before_call("prefill")
        placeholders = int((input_ids == self.engine.tokenizer.image_token_id).sum())
        expected = sum(self.engine.model.plan_image(*rgb.shape[:2], scale)["visual_tokens"] for rgb, scale in images)
        assert placeholders == expected
        assert len(self.ids) + len(input_ids) <= self.context_length
        self.ids += [int(i) for i in input_ids]
        self.prefills.append([int(i) for i in input_ids])
        self.images.append(len(images))
        self.said = 0

    def decode(self, token):
        self.before_call("decode")
        assert len(self.ids) < self.context_length
        self.ids.append(token)

    def sample(self, *, logprobs=0, **_):
        script = self.engine.script
        token = script[self.said] if self.said < len(script) else self.engine.tokenizer.eos_token_ids[0]
        self.said += 1
        return {"id": token, "logprob": -0.5, "top_logprobs": [(token, -0.5)] * logprobs}

    device_failed = False

    def remote_counts(self):
        return {}

    def truncate(self, length):
        assert 0 <= length <= len(self.ids)
        del self.ids[length:]

    def reset(self):
        self.ids = []

    def seed(self, seed):
        self.engine.seeds.append(seed)

    def cancel(self):
        pass

    def reset_stats(self):
        pass

    def stats(self):
        times = dict.fromkeys(
            ("vrc_ms", "preprocess_ms", "encode_ms", "project_ms", "prefill_ms", "decode_ms"), 1.0
        )  # fmt: skip
        counts = dict.fromkeys(
            (
                "tiles",
                "visual_tokens",
                "prefill_tokens",
                "decode_tokens",
                "drafted_tokens",
                "accepted_tokens",
                "arena_bytes",
                "kv_cache_bytes",
            ),
            1,
        )
        return {**times, **counts}


class ScriptedModel:
    """Stands in for `_core.Model`: one visual token for every 16x16 pixels."""

    threads, weight_bytes, budget, cpus = 1, 0, 0, []

    def __init__(self, image_token_id: int) -> None:
        self.image_token_id = image_token_id

    def plan_image(self, height, width, scale):
        tokens = max(1, round(height * scale) // 16) * max(1, round(width * scale) // 16)
        return {"resized": (height, width), "tile_grid": (1, 1), "tiles": 1, "visual_tokens": tokens}

    def image_token_ids(self, height, width, scale):
        count = self.plan_image(height, width, scale)["visual_tokens"]
        return np.full(count, self.image_token_id, np.int32)


class ScriptedEngine(Engine):
    """An engine that answers what `script` (token ids) says."""

    def __init__(self, tokenizer: Tokenizer, config, context_length: int) -> None:
        checkpoint = SimpleNamespace(parsed_config=config, folder=Path("scripted"), generation_config={})
        placement = Placement(1, default_cpu_spec(1), 0, None)
        super().__init__(checkpoint, ScriptedModel(config.image_token_id), lambda: tokenizer, context_length, 16, 16, placement)
        self.script: list[int] = []
        self.seeds: list[int] = []
        self.sessions: list[ScriptedSession] = []

    def new_session(self):
        self.sessions.append(ScriptedSession(self))
        return self.sessions[-1]

    def says(self, text: str) -> None:
        self.script = self.tokenizer.encode(text)


@pytest.fixture
def scripted(tmp_path):
    """A factory of scripted engines."""

    def make(context_length: int = 512, template: str = TEMPLATE) -> ScriptedEngine:
        config = write_tokenizer(tmp_path, template)
        return ScriptedEngine(Tokenizer(tmp_path, config), config, context_length)

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint of every part in small, with random weights."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    convert_random("tiny", folder, progress=False)
    # With tied random embeddings a model repeats its last token, whatever it is shown; a last norm of mixed signs makes
    # it say something that depends on all of the prompt.
    path = folder / "model.safetensors"
    tensors = load_file(path)
    norm = tensors["model.language_model.norm.weight"]
    tensors["model.language_model.norm.weight"] = np.random.default_rng(1).normal(0, 0.4, norm.shape).astype(norm.dtype)
    save_file(tensors, path)
    return folder


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Engine:
    """The random tiny checkpoint on two threads."""
    return load(tiny, threads=2, progress=False)


@pytest.fixture(scope="session")
def demo() -> Engine:
    """The demo model that ships with the package."""
    return load(threads=2, progress=False)


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """(100, 150, 3) uint8: several tiles at the tiny checkpoint's size."""
    y, x = np.mgrid[:100, :150]
    return np.stack([x % 256, y * 2 % 256, (x + y) % 256], axis=2).astype(np.uint8)


@pytest.fixture
def edited(tmp_path, tiny):
    """A factory of copies of the tiny checkpoint with changes to its JSON files: edited({"config.json": {...}})."""

    def make(changes: dict[str, dict]) -> Path:
        folder = tmp_path / "edited"
        folder.mkdir()
        for file in tiny.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        for name, values in changes.items():
            path = folder / name
            content = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps({**content, **values}))
        return folder

    return make
