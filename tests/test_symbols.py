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
    "portable.cc": ["-DHVL_TVM_KERNELS"],
    "avx2.cc": _AVX2,
    "avxvnni.cc": [*_AVX2, "-mavxvnni"],
    "avx512vnni.cc": _AVX512VNNI,
    "amxint8.cc": [*_AVX512VNNI, "-mamx-tile", "-mamx-int8"],
}


@pytest.mark.parametrize("name", FLAGS)
def test_isa_objects_define_no_weak_symbols(tmp_path: Path, name: str) -> None:
    compiler, nm = shutil.which("c++"), shutil.which("nm")
    assert compiler, "the package was built here, so a compiler is here too"
    assert nm
    for source in sorted((ROOT / "kernels").glob(f"*/{name}")):
        flags = ["-std=c++20", "-O1", "-fno-exceptions", "-ffp-contract=off", "-fPIC", f"-I{ROOT}", *FLAGS[name]]
        target = tmp_path / (source.parent.name + ".o")
        subprocess.run([compiler, *flags, "-c", source, "-o", target], check=True)
        table = subprocess.run([nm, "-C", target], check=True, capture_output=True, text=True).stdout
        weak = [line for line in table.splitlines() if re.search(r" [VW] ", line)]
        assert not weak, f"{source.relative_to(ROOT)}: {weak}"
