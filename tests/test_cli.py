"""The command line: output, JSON, exit codes, one-line errors."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypervl_engine.cli import main
from hypervl_engine.engine import load
from PIL import Image


@pytest.fixture
def png(tmp_path, picture):
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    return str(path)


def model_options(folder):
    return ["--model", str(folder), "--threads", "2", "--quiet"]


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "hypervl_engine", *arguments], capture_output=True, text=True, timeout=300, **options
    )


def test_generate(tiny, engine, png, picture, capsys):
    expected = engine.generate(picture, "what is it?", max_new_tokens=6)
    options = [*model_options(tiny), "--image", png, "--max-new-tokens", "6", "what is it?"]
    assert main(["generate", *options]) == 0
    assert capsys.readouterr().out == expected.text + "\n"
    assert main(["generate", "--stream", *options]) == 0
    assert capsys.readouterr().out == expected.text + "\n"
    assert main(["generate", "--json", "--logprobs", "3", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["text"] == expected.text
    assert tuple(report["tokens"]) == expected.tokens
    assert len(report["top_logprobs"][0]) == 3
    assert report["stats"]["scale"] == expected.stats.scale
    assert report["finish_reason"] == expected.finish_reason


def test_generate_in_integers(tiny, capsys):
    options = [*model_options(tiny), "--device", "hexagon-ref", "--max-new-tokens", "5", "hello there"]
    assert main(["generate", *options]) == 0
    expected = load(tiny, threads=2, device="hexagon-ref", progress=False).generate(None, "hello there", max_new_tokens=5)
    assert capsys.readouterr().out == expected.text + "\n"
    assert main(["generate", "--kv-bits", "16", *options]) == 2
    assert "KV caches of 8 bits only" in capsys.readouterr().err
    assert main(["info", *model_options(tiny), "--device", "hexagon-ref", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert (model["device"], model["arithmetic"], model["kv_bits"]) == ("hexagon-ref", "integer", 8)


def test_generate_expect(tiny, engine, capsys):
    text = engine.generate(None, "hi", max_new_tokens=3).text
    options = [*model_options(tiny), "--max-new-tokens", "3", "hi"]
    assert main(["generate", "--expect", text, *options]) == 0
    assert main(["generate", "--expect", text + "!", *options]) == 1
    assert "expected" in capsys.readouterr().err


def test_prompt_from_standard_input(tiny, engine, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("hi"))
    assert main(["generate", *model_options(tiny), "--max-new-tokens", "3", "-"]) == 0
    assert capsys.readouterr().out == engine.generate(None, "hi", max_new_tokens=3).text + "\n"


def test_chat(tiny, engine, picture, png, monkeypatch, capsys):
    chat = engine.chat("be brief", max_new_tokens=4)
    expected = [chat.ask("first", picture).text, chat.ask("second").text]
    lines = f"/image {png}\nfirst\nsecond\n\n/reset\n/image /nowhere.png\nthird\n/image {png}\nfirst\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    options = ["--json", "--system", "be brief", "--max-new-tokens", "4"]
    assert main(["chat", *model_options(tiny), *options]) == 2  # one line was bad; the conversation went on
    captured = capsys.readouterr()
    assert [json.loads(line)["text"] for line in captured.out.splitlines()] == [*expected, expected[0]]
    assert "/nowhere.png" in captured.err


def test_info(tiny, capsys):
    assert main(["info", *model_options(tiny), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["isa"] in report["available"]
    assert report["variants"]
    assert report["model"]["branches"] == ["base", "large"]
    assert report["model"]["threads"] == 2
    assert main(["info", *model_options(tiny)]) == 0
    assert "isa: " in capsys.readouterr().out


def test_bench(tiny, capsys):
    options = ["--prompt-tokens", "16", "--new-tokens", "4", "--repeat", "1"]
    assert main(["bench", *model_options(tiny), *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prefill"]["tok_s"] > 0
    assert report["decode"]["share"] > 0  # may pass 1 for a model that stays in the caches
    assert 0 < report["prefill"]["share"] < 1
    assert report["read_bandwidth_gb_s"] > 0.1
    assert set(report["tile"]) == {"base", "large"}
    assert main(["bench", *model_options(tiny), "--prompt-tokens", "0"]) == 2


def test_bench_roofline(capsys):
    assert main(["bench", "roofline", "--threads", "2", "--repeat", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["threads"] == [1, 2]
    assert {"read", "clock"} <= set(report["limits"])
    assert main(["bench", "roofline", "--threads", "1", "--repeat", "1"]) == 0
    assert "GB/s" in capsys.readouterr().out
    assert main(["bench", "roofline", "--threads", "0"]) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--image", "/nowhere.png", "hi"], "/nowhere.png"),
        ([""], "prompt is empty"),
        (["--scale", "2", "hi"], "scale is 2"),
        (["--branch", "huge", "hi"], "branch is 'huge'"),
        (["--top-p", "0", "hi"], "top_p"),
        (["--context-length", "1", "hi"], "context_length"),
        (["--threads", "0", "hi"], "threads is 0"),
    ],
)
def test_bad_input_is_one_line_and_2(tiny, arguments, problem, capsys):
    assert main(["generate", *model_options(tiny), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert problem in captured.err
    assert captured.err.startswith("hypervl-engine: ")
    assert captured.err.count("\n") == 1


def test_missing_and_broken_checkpoints(tmp_path, capsys):
    assert main(["generate", "--model", str(tmp_path / "none"), "hi"]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert main(["info", "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_usage_errors(capsys):
    for arguments in ([], ["dance"], ["generate"], ["generate", "--scale", "x", "hi"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert "usage:" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    quiet, loud = (
        run("info", "--model", str(tmp_path), env={**os.environ, "HVL_DEBUG": flag}) for flag in ("0", "1")
    )
    assert quiet.returncode == 2
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_reader_that_goes_away(tiny):
    command = [sys.executable, "-m", "hypervl_engine", "generate", *model_options(tiny), "--stream", "hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) in (0, 1)


def test_help_of_every_command(capsys):
    for command in ("generate", "chat", "convert", "info", "bench"):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert "--help" in capsys.readouterr().out


def test_environment_forces_the_variant(tiny):
    outputs = set()
    info = json.loads(run("info", *model_options(tiny), "--json").stdout)
    for isa in info["available"]:
        result = run(
            "generate", *model_options(tiny), "--max-new-tokens", "5", "--json", "hello there",
            env={**os.environ, "HVL_FORCE_ISA": isa},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        outputs.add((report["text"], tuple(report["logprobs"])))
    assert len(outputs) == 1, "every variant gives the same bits"
    assert np.isfinite(next(iter(outputs))[1]).all()
