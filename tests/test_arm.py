"""An emulated Arm processor computes the bits that this one does. `make arm` and `make arm-quick` run it, on a package cross-compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypervl_engine import _core

ROOT = Path(__file__).parent.parent
PYTHON = os.environ.get("HVL_ARM_PYTHON", "")  # tools/arm.sh made it
QUESTIONS = 3  # in 16 and in 8 bits, and in integers

pytestmark = pytest.mark.skipif(not PYTHON, reason="needs HVL_ARM_PYTHON: `make arm-quick` sets it")


@cache
def digests(python: str, cpu: str = "") -> dict[str, Any]:
    command = [python, "-m", "tools.digests", "--questions", str(QUESTIONS)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"ARM_CPU": cpu}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("cpu", "variants"),
    [
        ("max", ["reference", "neondot", "i8mm"]),
        ("cortex-a76", ["reference", "neondot"]),  # dotprod without i8mm, as Snapdragon 855 to 888
        ("cortex-a72", ["reference"]),
    ],
)
def test_kernels_and_demo_give_the_same_bits(cpu: str, variants: list[str]) -> None:
    here, arm = dict(digests(sys.executable)), dict(digests(PYTHON, cpu))
    assert arm.pop("demo") == here.pop("demo")
    assert list(arm) == variants
    expected = here[_core.cpu_info()["available"][-1]]
    for variant, found in arm.items():
        assert found == expected, variant


def test_tvm_kernels_are_compiled_for_arm_too() -> None:
    script = "from hypervl_engine import _core; print(_core.cpu_info()['tvm'])"
    done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "True"
