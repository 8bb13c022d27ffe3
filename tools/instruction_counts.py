"""Counts the instructions of the hot kernels' AVX2 variants with callgrind, which no busy machine disturbs.

    python -m tools.instruction_counts             counts beside those in tests/instruction_counts.json; exit code 1 where one grew
    python -m tools.instruction_counts --record    writes them there

valgrind knows no AVX-512; what a change does to the shared structure of a kernel shows in AVX2 too. Counts depend on the compiler, whose
name and flags are recorded beside them. Half a minute. Needs the test module (_testing) and valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "instruction_counts.json"
TOLERANCE = 0.01  # the little that Python and memory allocation around a kernel may differ by
_VARIANT = "avx2"


def cases() -> dict[str, Callable[[], Any]]:
    """Name -> a call of one kernel on made-up operands. Values do not change what runs."""
    import numpy as np
    from hypervl_engine import _testing

    rng = np.random.default_rng(0)
    found: dict[str, Callable[[], Any]] = {}

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    def linear(tokens: int, rows: int, cols: int, x_bits: int, bits: int) -> None:
        limit = 1 << (bits - 1)
        weight = rng.integers(-limit, limit, (rows, cols), np.int8)
        packed = _testing.pack_linear(weight, np.full((rows, 1), 1 / 64, np.float32), bits, 128, 16)
        x = _testing.quantize(normal(tokens, cols), 128, x_bits, _VARIANT)
        out = np.zeros((tokens, rows), np.float32)
        name = f"linear W{bits}A{x_bits}, {tokens} x {rows} x {cols}"
        found[name] = lambda: _testing.linear(*x, cols, x_bits, packed, rows, bits, 128, 16, None, None, out, _VARIANT)

    def attention(rows: int, keys: int, heads: int, head_dim: int, causal: bool, kv_bits: int, x_bits: int) -> None:
        q, k, v = normal(rows, heads * head_dim), normal(keys, heads * head_dim), normal(keys, heads * head_dim)
        k_cache, v_cache = np.zeros((2, heads, -(-keys // 16), _testing.kv_block_bytes(head_dim, kv_bits)), np.uint8)
        _testing.kv_store(_VARIANT, k, v, 0, k_cache, v_cache, head_dim, kv_bits)
        name = f"attention KV{kv_bits} A{x_bits}, {rows} x {keys}, {heads} heads of {head_dim}"
        position = keys - rows if causal else 0
        arguments = (k_cache, v_cache, head_dim, kv_bits, x_bits, heads, position, keys, causal, head_dim**-0.5, np.empty_like(q))
        found[name] = lambda: _testing.attention(_VARIANT, q, *arguments)

    for x_bits in (16, 8):
        linear(1, 512, 2048, x_bits, 4)
        linear(32, 128, 2048, x_bits, 4)
        linear(32, 128, 1024, x_bits, 8)
        x = normal(16, 2048)
        found[f"quantize A{x_bits}, 16 x 2048"] = lambda x=x, x_bits=x_bits: _testing.quantize(x, 128, x_bits, _VARIANT)
    attention(64, 256, 1, 64, False, 16, 16)
    attention(64, 256, 1, 64, False, 8, 8)
    attention(64, 256, 1, 128, True, 16, 16)
    attention(1, 1024, 4, 128, True, 8, 16)
    tile, weight = normal(32, 1024), np.ones(1024, np.float32)
    out = np.empty_like(tile)
    found["layer norm, 32 x 1024"] = lambda: _testing.norm(_VARIANT, tile, weight, weight, 1e-6, out)
    found["gelu_tanh, 32 x 1024"] = lambda: _testing.activation(_VARIANT, "gelu_tanh", tile, out)
    found["silu_mul, 32 x 1024"] = lambda: _testing.silu_mul(_VARIANT, tile, tile, out)
    heads, table = normal(16, 24 * 128), np.full((16, 64), 0.7, np.float32)
    found["rope, 16 x 24 heads of 128"] = lambda: _testing.rope(_VARIANT, heads, weight[:128], 1e-6, table, table, 0, 24)
    return found


def run_cases() -> None:
    """Inside valgrind: every case once before it is counted, so that what is set up at a first call does not count."""
    from hypervl_engine import _testing

    for name, call in cases().items():
        call()
        _testing.count_instructions(name, call)


def count() -> dict[str, int]:
    """Instructions by case. RuntimeError where valgrind fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        env = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, sys.executable, "-m", "tools.instruction_counts", "--inside"], cwd=ROOT, env=env, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"valgrind: exit code {done.returncode}: {' '.join(done.stderr.split())[-500:]}")
        return dict(sorted(filter(None, (_read_dump(file.read_text()) for file in Path(folder).iterdir()))))


def _read_dump(text: str) -> tuple[str, int] | None:
    """Name and instructions of a dump that was asked for; None for the one at the end."""
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None


def grown(recorded: dict[str, int], counted: dict[str, int], unit: str = "instructions") -> list[str]:
    """What takes more (instructions) than recorded, with by how much; and cases that are in one of the two only."""
    problems = [f"{name}: not {'counted' if name in recorded else 'recorded'}" for name in sorted(recorded.keys() ^ counted.keys())]
    for name in recorded.keys() & counted.keys():
        ratio = counted[name] / recorded[name]
        if ratio > 1 + TOLERANCE:
            problems.append(f"{name}: {counted[name]} {unit}, {ratio - 1:.1%} more than the {recorded[name]} recorded")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the counts to tests/instruction_counts.json")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_cases()
        return 0
    from hypervl_engine import _testing

    counted = count()
    if options.record:
        RECORD.write_text(json.dumps({"compiler": _testing.compiler, "counts": counted}, indent=2) + "\n")
        return 0
    recorded = json.loads(RECORD.read_text())
    for name, number in counted.items():
        known = recorded["counts"].get(name)
        print(f"{number:12d} {f'{number / known - 1:+7.2%}' if known else '    new'}  {name}")
    if recorded["compiler"] != _testing.compiler:
        print(f"recorded with {recorded['compiler']}, this is {_testing.compiler}: they do not compare", file=sys.stderr)
        return 0
    return 1 if grown(recorded["counts"], counted) else 0


if __name__ == "__main__":
    sys.exit(main())
