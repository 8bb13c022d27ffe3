"""The comparison with other engines: which cases, how ratios come about, what the report says. No other engine runs here."""

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypervl_engine.convert.random_model import PRESETS

from tools import bench_peers
from tools.experiments.openvino_dots import dot_kind
from tools.experiments.results import ResultsFile
from tools.experiments.sections import replace_section
from tools.peers.cases import OURS, PACKAGES, Case, all_cases, module, needs_preparation
from tools.peers.gguf import WEIGHTS, write_qwen3
from tools.peers.report import document, target_table
from tools.peers.targets import Results, Target, targets

DECODE = Target("decode", "llm", "decode_8", "a16", (("llama.cpp", "fa"), ("llama.cpp", "no-fa")), 1.05, more=True)


def kept(path: Path, rounds: dict[Case, list[dict[str, Any]]]) -> Results:
    """Results of made-up rounds."""
    file = ResultsFile(path)
    for case, results in rounds.items():
        for number, result in enumerate(results):
            defaults = {
                "status": "ok", "others_before": 0.0, "when": "2026-01-01T00:00Z", "commit": "abc",
                "limit_threads": dict(case.limits), "model_bytes": 9e8, "limits": {"read": 4e10, "int8": 9e11, "bf16": 4e11},
            }  # fmt: skip
            file.add(case.record(number), {**defaults, **result})
    return Results(file)


def test_cases_are_distinct_and_have_modules() -> None:
    cases = list(all_cases())
    assert len({case.label for case in cases}) == len(cases)
    root = Path(bench_peers.__file__).parents[1]
    for case in cases:
        assert case.engine in PACKAGES
        path = root / (module(case).replace(".", "/") + ".py")
        assert path.is_file()
        assert not needs_preparation(case) or "prepare" in path.read_text()


def test_every_target_is_measured() -> None:
    cases = set(all_cases())
    for target in targets():
        for engine, setting in ((OURS, target.ours), *target.peers):
            assert Case(target.workload, engine, setting) in cases, target.label


def test_ratio_is_the_median_of_rounds_against_the_best_peer(tmp_path: Path) -> None:
    results = kept(
        tmp_path / "r.jsonl",
        {
            Case("llm", OURS, "a16"): [{"decode_8": 40.0}, {"decode_8": 20.0}, {"decode_8": 44.0}],
            # The machine was slow in the second round, for both.
            Case("llm", "llama.cpp", "fa"): [{"decode_8": 25.0}, {"decode_8": 12.0}, {"decode_8": 25.0}],
            Case("llm", "llama.cpp", "no-fa"): [{"decode_8": 32.0}, {"decode_8": 16.0}, {"decode_8": 32.0}],
        },
    )
    found = results.compare(DECODE)
    assert found is not None
    assert (found.peer, found.rounds) == (("llama.cpp", "no-fa"), 3)
    assert found.ratio == pytest.approx(1.25)


def test_less_is_better_for_times(tmp_path: Path) -> None:
    target = Target("tile", "vision base 256", "latency_ms", "a8", (("openvino", "w8a8"),), 1.0)
    results = kept(
        tmp_path / "r.jsonl",
        {
            Case("vision base 256", OURS, "a8"): [{"latency_ms": 80.0}],
            Case("vision base 256", "openvino", "w8a8"): [{"latency_ms": 100.0}, {"latency_ms": 70.0}],
        },
    )
    found = results.compare(target)
    assert found is not None
    assert found.ratio == pytest.approx(1.25)
    assert found.rounds == 1  # the round that only one has does not count


def test_what_failed_is_not_there_but_named(tmp_path: Path) -> None:
    ours, theirs = Case("llm", OURS, "a16"), Case("llm", "llama.cpp", "fa")
    results = kept(tmp_path / "r.jsonl", {ours: [{"decode_8": 40.0}], theirs: [{"status": "failed", "reason": "no such file"}]})
    assert results.compare(DECODE) is None
    assert "llm: llama.cpp fa: failed: no such file" in document(results)


def test_shares_of_limits(tmp_path: Path) -> None:
    results = kept(
        tmp_path / "r.jsonl",
        {
            Case("llm", OURS, "a16"): [{"decode_8": 40.0, "prefill_512": 150.0, "cache_bytes_per_token": 0.0}],
            Case("llm", OURS, "a8"): [{"prefill_512": 150.0}],
            Case("vision large 256", "openvino", "bf16"): [{"latency_ms": 500.0, "dots": "bf16"}],
            Case("llm", "openvino-genai", "dq128"): [{"prefill_512": 150.0, "dots": "bf16"}],
            Case("llm", "openvino-genai", "f32-dq128"): [{"prefill_512": 150.0, "dots": None}],
        },
    )
    assert results.share(Case("llm", OURS, "a16"), "decode_8") == pytest.approx(40 * 9e8 / 4e10)
    a16, a8 = (results.share(Case("llm", OURS, setting), "prefill_512") for setting in ("a16", "a8"))
    assert a8 == pytest.approx(150 * 2.95e9 / 9e11, rel=0.03)
    assert a16 == pytest.approx(2 * a8)
    assert results.share(Case("vision large 256", "openvino", "bf16"), "latency_ms") == pytest.approx(161.5e9 / 0.5 / 4e11, rel=0.01)
    assert results.share(Case("llm", OURS, "a8"), "peak_rss_mib") is None
    bf16, unknown = (results.share(Case("llm", "openvino-genai", setting), "prefill_512") for setting in ("dq128", "f32-dq128"))
    assert bf16 == pytest.approx(a8 * 9e11 / 4e11)
    assert unknown is None


def test_peak_is_the_best_settings_of_those_with_all_workloads(tmp_path: Path) -> None:
    (target,) = (target for target in targets() if target.metric == "peak_rss_mib")
    results = kept(
        tmp_path / "r.jsonl",
        {
            Case("llm", OURS, "a16"): [{"peak_rss_mib": 1000.0}],
            Case("llm", "llama.cpp", "fa"): [{"peak_rss_mib": 2000.0}],
            Case("llm", "llama.cpp", "fa unmapped"): [{"peak_rss_mib": 1200.0}],
            Case("llm", "llama.cpp", "q8_0 fa"): [{"prefill_512": 150.0}],
        },
    )
    found = results.compare(target)
    assert found is not None
    assert (found.peer, found.ratio) == (("llama.cpp", "fa unmapped"), pytest.approx(1.2))


def test_what_openvino_says_it_ran() -> None:
    def graph(*layers: tuple[str, str]) -> Any:
        def text(value: str) -> Any:
            return SimpleNamespace(astype=lambda _: value)

        nodes = [{"layerType": text(layer), "primitiveType": text(name)} for layer, name in layers]
        ops = [SimpleNamespace(get_rt_info=lambda info=info: info) for info in nodes]
        return SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ops=lambda: ops))

    fc = "FullyConnected"
    assert dot_kind(graph(("MatMul", "brgemm_avx512_f32"), (fc, "brgemm_avx512_amx_bf16"))) == "bf16"
    assert dot_kind(graph((fc, "brgemm_avx512_amx_I8"), (fc, "brgemm_avx512_amx_bf16"), (fc, "brgemm_avx512_amx_i8"))) == "int8"
    assert dot_kind(graph((fc, "brgemm_avx512_f32"))) is None
    assert dot_kind(graph(("Eltwise", "jit_avx512_bf16"))) is None


def test_report_of_made_up_results(tmp_path: Path) -> None:
    rounds: dict[Case, list[dict[str, Any]]] = {}
    metrics = (
        "decode_8",
        "decode_512",
        "prefill_512",
        "prefill_1024",
        "load_s",
        "peak_rss_mib",
        "latency_ms",
        "ms",
        "error",
        "worst_error",
    )
    for case in all_cases():
        rounds[case] = [dict.fromkeys(metrics, 12.0 if case.engine == OURS else 10.0)]
    results = kept(tmp_path / "r.jsonl", rounds)
    text = document(results)
    assert "| decode, context 8, against llama.cpp | 12.0 tok/s | 10.0 tok/s (llama.cpp fa) | **1.20x** | 1.05x | 27% |" in text
    assert "| decode, context 512, against llama.cpp | 12.0 tok/s | 10.0 tok/s (llama.cpp fa) | 1.20x | 1.25x |" in text
    assert len(target_table(results).splitlines()) == 2 + len(targets())
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- begin peers -->\nold\n<!-- end peers -->\nafter\n")
    replace_section(readme, "peers", target_table(results))
    assert "old" not in readme.read_text()
    assert "Nothing is measured yet" in document(kept(tmp_path / "empty.jsonl", {}))


def test_rounds_go_on_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    ours, theirs = Case("vrc", OURS, "int8"), Case("vrc", "torch", "float32")

    def measured(case: Case, *_: Any) -> dict[str, Any]:
        ran.append(case.engine)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return {"status": "ok", "ms": 1.0}

    monkeypatch.setattr(bench_peers, "Machine", lambda: None)
    monkeypatch.setattr(bench_peers, "prepare", lambda *_: {"status": "ok"})
    monkeypatch.setattr(bench_peers, "missing_packages", lambda *_: [])
    monkeypatch.setattr(bench_peers, "measure", measured)
    options = argparse.Namespace(rounds=2, redo_failed=False, minutes=60.0)
    with pytest.raises(KeyboardInterrupt):
        bench_peers.run([ours, theirs], ResultsFile(tmp_path / "r.jsonl"), options)
    bench_peers.run([ours, theirs], ResultsFile(tmp_path / "r.jsonl"), options)
    assert ran == [OURS, "torch", "torch", "torch", OURS]  # rounds begin at alternating ends
    bench_peers.run([ours, theirs], ResultsFile(tmp_path / "r.jsonl"), options)
    assert len(ran) == 5


def test_every_workload_has_a_round_before_one_has_two() -> None:
    order = list(bench_peers.in_turn(list(all_cases()), 2))
    assert [number for number, _ in order] == sorted(number for number, _ in order)
    assert len(set(order)) == len(order) == sum(1 if case.once else 2 for case in all_cases())
    towers = [(number, case.setting) for number, case in order if case.workload == "vision base 256"]
    assert towers == [(0, "a8"), (0, "w8a8"), (0, "a16"), (0, "bf16"), (1, "bf16"), (1, "a16"), (1, "w8a8"), (1, "a8")]


def test_nothing_begins_after_the_time_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(bench_peers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bench_peers, "Machine", lambda: None)
    monkeypatch.setattr(bench_peers, "missing_packages", lambda *_: [])
    monkeypatch.setattr(bench_peers, "prepare", lambda *_: {"status": "ok"})
    monkeypatch.setattr(bench_peers, "measure", lambda *_: now.__setitem__(0, now[0] + 50) or {"status": "ok", "ms": 1.0})
    file = ResultsFile(tmp_path / "r.jsonl")
    case, options = Case("vrc", OURS, "int8"), argparse.Namespace(rounds=3, redo_failed=False, minutes=1.0)
    bench_peers.run([case], file, options)
    assert [file.get(case.record(number)) is not None for number in range(3)] == [True, True, False]
    assert "stopped after 1 minutes" in capsys.readouterr().err
    bench_peers.run([case], file, options)
    assert file.get(case.record(2)) is not None
    bench_peers.run([case], file, options)
    assert "stopped" not in capsys.readouterr().err


def test_a_failure_ends_a_case_but_not_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, gone = Case("vrc", OURS, "int8"), Case("vrc", "torch", "float32"), Case("vrc", "pillow", "x")
    monkeypatch.setattr(bench_peers, "Machine", lambda: None)
    monkeypatch.setattr(bench_peers, "missing_packages", lambda engine, _: ["PIL"] if engine == "pillow" else [])
    monkeypatch.setattr(bench_peers, "prepare", lambda case, _: {"status": "ok" if case == ours else "failed"})
    monkeypatch.setattr(bench_peers, "measure", lambda *_: {"status": "ok", "ms": 1.0})
    file = ResultsFile(tmp_path / "r.jsonl")
    bench_peers.run([theirs, ours, gone], file, argparse.Namespace(rounds=2, redo_failed=False, minutes=60.0))
    assert [(file.get(c.record(n)) or {}).get("status") for c in (ours, theirs, gone) for n in (0, 1)] == [
        "ok",
        "ok",
        "failed",
        None,
        None,
        None,
    ]
    assert bench_peers.wanted({"status": "failed"}, True)
    assert not bench_peers.wanted({"status": "failed"}, False)


def test_packages_are_looked_for_in_the_engines_interpreter() -> None:
    options = argparse.Namespace(python={"torch": Path(sys.executable)}, llama_bench=None)
    assert bench_peers.missing_packages(OURS, options) == []
    with pytest.raises(argparse.ArgumentTypeError, match="expected ENGINE=PYTHON"):
        bench_peers._engine_and_python("torch")
    assert bench_peers._engine_and_python(f"torch={sys.executable}") == ("torch", Path(sys.executable).absolute())


@pytest.mark.parametrize(("weights", "number", "block_bytes"), [("q4_0", 2, 18), ("q8_0", 8, 34)])
def test_gguf_is_laid_out_as_its_header_says(tmp_path: Path, weights: str, number: int, block_bytes: int) -> None:
    text = {**PRESETS["tiny"]["text_config"]}
    path = tmp_path / "x.gguf"
    write_qwen3(path, text, WEIGHTS[weights])
    content = path.read_bytes()
    at = 0

    def take(form: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", content, at)
        at += struct.calcsize(f"<{form}")
        return value

    def string() -> str:
        nonlocal at
        length = take("Q")
        at += length
        return content[at - length : at].decode()

    assert content[:4] == b"GGUF"
    at = 4
    assert take("I") == 3
    tensors, pairs = take("Q"), take("Q")
    metadata = {}
    for _ in range(pairs):
        key, kind = string(), take("I")
        metadata[key] = string() if kind == 8 else take({4: "I", 6: "f"}[kind])
    assert metadata["qwen3.block_count"] == text["num_hidden_layers"]
    assert metadata["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    end = 0
    for _ in range(tensors):
        name, rank = string(), take("I")
        shape = [take("Q") for _ in range(rank)]
        kind, offset = take("I"), take("Q")
        assert offset == -(-end // 32) * 32, name
        assert kind == (0 if rank == 1 else number)
        end = offset + (int(np.prod(shape)) * 4 if kind == 0 else int(np.prod(shape)) // 32 * block_bytes)
    data = -(-at // 32) * 32
    assert len(content) == data + -(-end // 32) * 32
    assert tensors == 2 + 11 * text["num_hidden_layers"]
