"""Runs one measurement in a process of its own: `run_child` in the parent, `serve` in the module that measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from tools.experiments.machine import MIB, available_bytes, process_rss_bytes

_MARK = "RESULT "
_LEAST_AVAILABLE = 1024 * MIB  # below it the child is stopped, before the system starts to thrash
THREADS = 2


def run_child(
    module: str,
    arguments: dict[str, Any],
    *,
    time_limit_s: float,
    extra_env: dict[str, str] | None = None,
    python: str = sys.executable,
) -> dict[str, Any]:
    """Runs `python -m module '<arguments as JSON>'` and returns what it measured, with `status`: ok, skipped, failed, timeout or memory."""
    env = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "false", **(extra_env or {})}
    command = [python, "-m", module, json.dumps(arguments)]
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most = 0
    while True:
        try:
            out, err = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            most = max(most, process_rss_bytes(process.pid))
            elapsed = time.monotonic() - start
            status = "timeout" if elapsed > time_limit_s else "memory" if available_bytes() < _LEAST_AVAILABLE else ""
        if status:
            process.kill()
            process.communicate()
            return {"status": status, "reason": f"stopped after {elapsed:.0f} s at {most / MIB:.0f} MiB resident"}
    for line in out.splitlines():
        if line.startswith(_MARK):
            return {**json.loads(line.removeprefix(_MARK)), "process_s": round(time.monotonic() - start, 1)}
    return {"status": "failed", "reason": f"exit code {process.returncode}: {' '.join(err.strip().splitlines()[-1:])[:300]}"}


def serve(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's main: measures what the command line's JSON asks for."""
    try:
        result = {"status": "ok", **measure(json.loads(sys.argv[1]))}
    except Exception as error:  # whatever it is, it belongs into the results beside the others
        traceback.print_exc()
        result = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
    print(_MARK + json.dumps(result), flush=True)
