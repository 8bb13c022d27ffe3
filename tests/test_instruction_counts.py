"""The hot kernels take no more instructions than recorded (tools/instruction_counts.py)."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from hypervl_engine import _core, _testing

from tools.instruction_counts import RECORD, count, grown


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    if "avx2" not in _core.cpu_info()["available"]:
        pytest.skip("this processor has no AVX2")
    return count()


def test_no_kernel_takes_more_instructions(counted: dict[str, int]) -> None:
    recorded = json.loads(RECORD.read_text())
    if recorded["compiler"] != _testing.compiler:
        pytest.skip(f"recorded with {recorded['compiler']}, this is {_testing.compiler}")
    problems = grown(recorded["counts"], counted)
    assert not problems, "if it must be so: python -m tools.instruction_counts --record\n" + "\n".join(problems)


def test_counts_are_those_of_the_kernels(counted: dict[str, int]) -> None:
    """At least one instruction for 32 multiplications, the most AVX2 does at once, and no more than one for each."""
    linears = [(name, *map(int, m.groups())) for name in counted if (m := re.search(r"W(\d)A(\d+), (\d+) x (\d+) x (\d+)", name))]
    assert len(linears) == 6
    for name, _, activation_bits, tokens, rows, cols in linears:
        multiplications = tokens * rows * cols
        assert multiplications * (activation_bits // 8) / 32 < counted[name] < multiplications, name


def test_growth_is_found() -> None:
    assert grown({"a": 1000, "b": 1000}, {"a": 1009, "b": 500}) == []
    assert grown({"a": 1000}, {"a": 1020}) == ["a: 1020 instructions, 2.0% more than the 1000 recorded"]
    assert grown({"a": 1000, "old": 1}, {"a": 1000, "new": 1}) == ["new: not recorded", "old: not counted"]
