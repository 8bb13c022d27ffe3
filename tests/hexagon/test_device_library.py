"""libhypervl_hexagon_v73.so, as far as it can be known without a device: what it is, exports, needs, and which instructions are in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.hexagon.client import ROOT
from tools.hexagon.elf import Library, read_library

FLOAT_HVX = re.compile(r"\bv\d+(:\d+)?\.([shb]f|qf16|qf32)\b|=\s*v\w+\(.*\.(qf16|qf32)")


def name(arch: str) -> str:
    return f"libhypervl_hexagon_{arch}.so"


@pytest.fixture(scope="module")
def v73(hexagon_folder: Path) -> Path:
    """The folder of that architecture, which is built with the emulated programs."""
    folder = hexagon_folder / "v73"
    if not (folder / name("v73")).exists():
        if os.environ.get("HVL_HEXAGON"):
            pytest.fail(f"no {folder / name('v73')}: `hexagon/setup.sh build v73` makes it")
        pytest.skip("`hexagon/setup.sh build v73` was not run")
    return folder


@pytest.fixture(scope="module")
def libraries(v73: Path) -> dict[str, Library]:
    """By architecture: v73 and whichever others are there."""
    folders = {arch: v73.parent / arch for arch in ("v68", "v73", "v75", "v79", "v81")}
    return {arch: read_library(folder / name(arch)) for arch, folder in folders.items() if (folder / name(arch)).exists()}


def test_they_are_of_their_architectures_and_export_the_entry_alone(libraries: dict[str, Library]) -> None:
    for arch, library in libraries.items():
        assert (library.type, library.machine, library.flags & 0xFF) == (3, 164, int(arch[1:], 16))
        assert [(s.name, s.function, s.weak) for s in library.symbols if s.defined] == [("hypervl_skel_handle_invoke", True, False)]
        assert library.needed == []
        assert library.relocations <= {33, 34, 35}  # addresses of symbols, calls, addresses within the library


def test_they_leave_nothing_undefined_but_what_is_listed(libraries: dict[str, Library]) -> None:
    lines = (ROOT / "hexagon" / "device" / "undefined.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    for library in libraries.values():
        assert {("weak " if s.weak else "") + s.name for s in library.symbols if not s.defined} == listed


def test_there_is_nothing_that_only_the_emulator_or_only_a_device_runs(v73: Path, tmp_path: Path) -> None:
    """HVX in floating point ends the emulator, so nothing of it could have been tested. Each source is compiled to assembly once more."""

    def assembly(numbered: tuple[int, dict[str, str]]) -> str:
        number, command = numbered
        words = shlex.split(command["command"])
        words[words.index("-c")] = "-S"
        words.remove("-Werror")  # zig adds options that go with -c only
        words[words.index("-o") + 1] = str(tmp_path / f"{number}.s")
        subprocess.run(words, cwd=command["directory"], capture_output=True, check=True)
        return (tmp_path / f"{number}.s").read_text()

    commands = json.loads((v73 / "compile_commands.json").read_text())
    with ThreadPoolExecutor(2) as pool:
        for command, text in zip(commands, pool.map(assembly, enumerate(commands)), strict=True):
            assert ".text" in text, command["file"]
            assert not (found := FLOAT_HVX.search(text)), f"{command['file']}: {found}"
            assert "0x6a14c000" not in text, f"{command['file']} reads QEMU's counters, which no device has"


def test_the_pattern_finds_float_vectors() -> None:
    for line in ("v0.qf32 = vadd(v1.sf,v2.sf)", "v3.sf = v1.qf32", "v1.hf = vmax(v1.hf,v2.hf)", "v5:4.qf32 = vmpy(v1.hf,v2.hf)"):
        assert FLOAT_HVX.search(line)
    for line in ("r0 = sfadd(r1,r2)", "v0.w = vadd(v1.w,v2.w)", "v1:0.uh = vunpack(v3.ub)"):
        assert not FLOAT_HVX.search(line)
