"""Our engine beside others on the same shapes, in turn: one command, one table.

    python tools/bench_peers.py                        all workloads, 3 rounds (about an hour and a half); goes on where it stopped
    python tools/bench_peers.py --minutes 60           begins nothing new after an hour; say it again for the rest
    python tools/bench_peers.py --only 'llm|vrc'       some of them; --list shows what there is
    python tools/bench_peers.py --report               writes docs/peers.md from what is there

Installs nothing: engines that cannot be imported are left out, and said so. An engine may live in an interpreter of its own (--python
openvino-genai=/path/to/python), and llama.cpp may be a program (--llama-bench). Models with random weights are made in the folder on
first use (some 8 GB with every peer's).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.experiments.child import run_child
from tools.experiments.machine import wait_until_quiet
from tools.experiments.results import Record, ResultsFile
from tools.experiments.sections import replace_section
from tools.experiments.tile_memory_profile import REPOSITORY, commit
from tools.peers.cases import PACKAGES, Case, all_cases, arguments, module, needs_preparation
from tools.peers.report import conditions, target_table, write
from tools.peers.targets import MOST_ROUNDS, Results

_TIME_LIMIT_S, _PREPARATION_LIMIT_S = 900, 3600
_README_SECTION = "peers"


class Machine:
    """The machine's limits, sampled around every run."""

    def __init__(self) -> None:
        from hypervl_engine.roofline import Limits

        self._limits = {threads: Limits(threads) for threads in (1, 2)}

    def sample(self, case: Case) -> dict[str, float]:
        """Kind -> rate, of what bounds the case."""
        found = {}
        for kind, threads in case.limits:
            if kind in self._limits[threads].kinds:
                found[kind] = max(self._limits[threads].sample(kind))
        return found


def interpreter_of(engine: str, options: argparse.Namespace) -> str:
    return str(options.python.get(engine, sys.executable))


def missing_packages(engine: str, options: argparse.Namespace) -> list[str]:
    """Packages an engine needs that its interpreter does not find."""
    if engine == "llama.cpp" and options.llama_bench is not None:
        return []
    code = "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n) is None]))"
    command = [interpreter_of(engine, options), "-c", code, *PACKAGES[engine]]
    return list(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure(case: Case, machine: Machine, options: argparse.Namespace) -> Record:
    """One round of a case."""
    given = arguments(case, options.folder, options.checkpoint, options.llama_bench)
    python = interpreter_of(case.engine, options)
    quiet = wait_until_quiet(options.quiet_wait)
    before = machine.sample(case)
    result = run_child(module(case), given, time_limit_s=_TIME_LIMIT_S, python=python)
    after = machine.sample(case)
    limits = {kind: (rate + after[kind]) / 2 for kind, rate in before.items()}
    when = {"when": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "commit": commit()}
    return {**result, **quiet, **when, "limits": limits, "limit_threads": dict(case.limits)}


def prepare(case: Case, options: argparse.Namespace) -> Record:
    """Makes a case's model, unless it is there."""
    if not needs_preparation(case):
        return {"status": "ok"}
    given = {**arguments(case, options.folder, options.checkpoint, options.llama_bench), "prepare": True}
    return run_child(module(case), given, time_limit_s=_PREPARATION_LIMIT_S, python=interpreter_of(case.engine, options))


def run(cases: list[Case], results: ResultsFile, options: argparse.Namespace) -> None:
    """Measures what is not there yet: a round of every workload, then the next; within a workload the order alternates."""
    usable = []
    for engine in dict.fromkeys(case.engine for case in cases):
        if missing := missing_packages(engine, options):
            print(f"{engine}: left out, not installed: {', '.join(missing)}", file=sys.stderr)
        else:
            usable.append(engine)
    machine = Machine()
    end = time.monotonic() + 60 * options.minutes
    failed: set[Case] = set()
    for number, case in in_turn([case for case in cases if case.engine in usable], options.rounds):
        if case in failed or not wanted(results.get(case.record(number)), options.redo_failed):
            continue
        if time.monotonic() >= end:
            print(f"stopped after {options.minutes:g} minutes; the same command goes on from here", file=sys.stderr)
            return
        result = prepare(case, options)
        if result["status"] == "ok":
            result = measure(case, machine, options)
        if result["status"] != "ok":
            failed.add(case)
        results.add(case.record(number), result)
        print(f"round {number + 1}, {case.label}: {summary(result)}", file=sys.stderr, flush=True)


def in_turn(cases: list[Case], rounds: int) -> Iterator[tuple[int, Case]]:
    """(round, case) in the order they are measured."""
    for number in range(rounds):
        for workload in dict.fromkeys(case.workload for case in cases):
            group = [case for case in cases if case.workload == workload and not (case.once and number > 0)]
            yield from ((number, case) for case in (group if number % 2 == 0 else group[::-1]))


def wanted(result: Record | None, redo_failed: bool) -> bool:
    """Whether a round of a case is (again) to be measured."""
    return result is None or (redo_failed and result["status"] != "ok")


def summary(result: Record) -> str:
    """One line."""
    if result["status"] != "ok":
        return f"{result['status']}: {result.get('reason', '')}"
    names = ("decode_8", "decode_512", "prefill_512", "prefill_1024", "load_s", "peak_rss_mib", "latency_ms", "ms", "error")
    return ", ".join(f"{name} {result[name]:.4g}" for name in names if name in result)


def _engine_and_python(text: str) -> tuple[str, Path]:
    engine, separator, path = text.partition("=")
    if not separator or engine not in PACKAGES or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"got {text!r}: expected ENGINE=PYTHON, an interpreter for one of {', '.join(PACKAGES)}")
    return engine, Path(path).absolute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no measurement after so many (one takes up to 15 itself)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases whose label (see --list) it is found in")
    parser.add_argument("--list", action="store_true", help="print the cases and how many rounds of them are there")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the documents")
    parser.add_argument("--fresh", action="store_true", help="forget all results first (after a change of an engine, on another machine)")
    parser.add_argument("--redo-failed", action="store_true", help="try again what failed before")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "experiments", help="for results and models")
    parser.add_argument("--checkpoint", type=Path, help="our 1.8B model (default: one with random weights is made)")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs", help="where peers.md goes")
    parser.add_argument("--readme", type=Path, help="a document between whose marks '<!-- begin peers -->' the target table goes too")
    parser.add_argument("--python", type=_engine_and_python, action="append", default=[], metavar="ENGINE=PYTHON", help="its interpreter")
    parser.add_argument("--llama-bench", type=Path, metavar="PROGRAM", help="llama.cpp's own, instead of llama-cpp-python")
    parser.add_argument("--quiet-wait", type=float, default=60, metavar="SECONDS", help="the longest wait for a quiet machine, each time")
    options = parser.parse_args()
    if not 1 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds is {options.rounds}: expected 1 to {MOST_ROUNDS}")
    options.python = dict(options.python)
    options.folder = options.folder.resolve()
    if options.checkpoint is not None:
        options.checkpoint = options.checkpoint.resolve()
    results = ResultsFile(options.folder / "peers.jsonl", fresh=options.fresh)
    cases = [case for case in all_cases() if re.search(options.only, case.label)]
    if options.list:
        for case in cases:
            done: list[Any] = [results.get(case.record(number)) for number in range(options.rounds)]
            print(f"{case.label:45s} {sum(r is not None and r['status'] == 'ok' for r in done)}")
        return
    documents = options.docs.resolve(), options.readme.resolve() if options.readme else None
    os.chdir(REPOSITORY)  # children find this package from here
    if not options.report:
        run(cases, results, options)
    found = Results(results)
    write(found, documents[0])
    if documents[1] is not None:
        replace_section(documents[1], _README_SECTION, f"{target_table(found)}\n\n{conditions(found)}")


if __name__ == "__main__":
    main()
