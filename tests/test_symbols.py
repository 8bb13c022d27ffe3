"""No object compiled for a newer instruction set may define a weak symbol: the linker could let it replace baseline code everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_AVX2 = ["-mavx2", "-mfma", "-mf16c"]
_AVX512VNNI = [*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
FLAGS = {
    "fixed.cc": [],
    "portable.cc": ["-DHVL_TVM_KERNELS"],
    "avx2.cc": _AVX2,
    "avxvnni.cc": [*_AVX2, "-mavxvnni"],
    "avx512vnni.cc": _AVX512VNNI,
    "amxint8.cc": [*_AVX512VNNI, "-mamx-tile", "-mamx-int8"],
}
ARM_FLAGS = {"neondot.cc": ["-march=armv8.2-a+dotprod"], "i8mm.cc": ["-march=armv8.2-a+dotprod+i8mm"]}


def check(compiler: str, nm: str, name: str, flags: list[str], folder: Path) -> None:
    sources = sorted((ROOT / "kernels").glob(f"*/{name}"))
    assert sources
    for source in sources:
        common = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-ffp-contract=off", "-fPIC", f"-I{ROOT}"]
        target = folder / (source.parent.name + ".o")
        subprocess.run([compiler, *common, *flags, "-c", source, "-o", target], check=True)
        table = subprocess.run([nm, "-C", target], check=True, capture_output=True, text=True).stdout
        weak = [line for line in table.splitlines() if re.search(r" [VW] ", line)]
        assert not weak, f"{source.relative_to(ROOT)}: {weak}"


@pytest.mark.parametrize("name", FLAGS)
def test_isa_objects_define_no_weak_symbols(tmp_path: Path, name: str) -> None:
    compiler, nm = shutil.which("c++"), shutil.which("nm")
    assert compiler, "the package was built here, so a compiler is here too"
    assert nm
    check(compiler, nm, name, FLAGS[name], tmp_path)


@pytest.mark.parametrize("name", ARM_FLAGS)
def test_arm_objects_define_no_weak_symbols(tmp_path: Path, name: str) -> None:
    compiler, nm = shutil.which("aarch64-linux-gnu-g++"), shutil.which("aarch64-linux-gnu-nm")
    if not compiler or not nm:
        pytest.skip("needs g++-aarch64-linux-gnu")
    check(compiler, nm, name, ARM_FLAGS[name], tmp_path)
