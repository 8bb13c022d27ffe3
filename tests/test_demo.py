"""The demo that ships with the package: pictures, questions, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import hypervl_engine
import numpy as np
from hypervl_engine.demo import ask
from PIL import Image

PACKAGE = Path(hypervl_engine.__file__).parent


def run(*arguments):
    command = [sys.executable, "-m", "hypervl_engine.demo", "--threads", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_bundled_pictures():
    items = ask.bundled()
    assert len(items) >= 6
    assert len({item.name for item in items}) >= 4
    assert len({item.family for item in items}) == 4
    sides = []
    for item in items:
        with Image.open(item.image) as image:
            sides.append(max(image.size))
    assert min(sides) >= 64
    assert max(sides) <= 512
    assert max(sides) > 2 * min(sides)


def test_the_model_is_small_enough_to_ship():
    folder = PACKAGE / "demo" / "model"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000


def test_bundled_questions_are_answered_right():
    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WRONG" not in result.stdout
    for word in ("expected", "scale", "tiles", "visual tokens", "vrc", "preprocess", "encode", "project", "prefill",
                 "decode", "tokens/s", "arena peak"):  # fmt: skip
        assert word in result.stdout


def test_fresh_questions_are_answered_well():
    result = run("--seed", "7", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 24
    assert sum(a["right"] for a in answers) >= 18
    assert all(a["stats"]["tiles"] >= 1 for a in answers)


def test_a_wrong_answer_fails(demo, tmp_path):
    wrong = [ask.Item("blank", np.full((64, 64, 3), 255, np.uint8), "what is the total?", "no such answer", "receipt")]
    answered = list(ask.ask(demo, wrong))
    assert not answered[0].right
    assert ask.line(answered[0]).startswith("WRONG")


def test_fresh_pictures_are_the_same_for_the_same_seed():
    one, again, other = ask.fresh(3, 8), ask.fresh(3, 8), ask.fresh(4, 8)
    assert [i.answer for i in one] == [i.answer for i in again]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, again, strict=True))
    assert [i.question + i.answer for i in one] != [i.question + i.answer for i in other]
    assert {i.family for i in one} == {"receipt", "label", "shapes", "bars"}
