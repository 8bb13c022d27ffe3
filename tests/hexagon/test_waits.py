"""A transfer that nobody waits for is seen: the DSP program, built with one of the executor's waits left out, gives other results, or ends
when the ring is full of blocks that nobody popped. (The emulation copies when a block is popped, csrc/runtime/dma_copies.cc.)"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from hypervl_engine.engine import load

from tools.hexagon.client import ROOT, EmulatorDied
from tools.hexagon.dsp import FATAL, OK, Dsp, messages
from tools.hexagon.record_session import IDS, recorder

EXECUTOR = ROOT / "csrc" / "runtime" / "executor.cc"
WAITS = {
    "none": ("", ""),
    "before a block": ("engine.wait(engine.start(loads, step));", "engine.start(loads, step);"),
    "for what is streamed": ("engine_.wait(ahead_.transfers);", ""),
    "behind a block": ("engine.wait(engine.start(stores, step));", "engine.start(stores, step);"),
}


@pytest.fixture(scope="module")
def recorded(hexagon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The messages of a prefill of 40 tokens by staged plans."""
    folder = tmp_path_factory.mktemp("recorder")
    recorder(folder, hexagon_folder, folder / "stream")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVL_HEXAGON", str(folder))
        engine = load(device="hexagon-sim", spec="hexagon-v73", vtcm="300KiB", threads=1, context_length=512, progress=False)
        engine.new_session().prefill(IDS)
    return messages((folder / "stream").read_bytes())


def outputs(command: list[str], hexagon_folder: Path, recorded: list[bytes]) -> list[bytes]:
    """Of every message; fewer when the program ends."""
    found: list[bytes] = []
    with Dsp(hexagon_folder) as dsp:
        dsp.command = command
        for one in recorded:
            try:
                answer = dsp.ask(one)
            except EmulatorDied:
                break
            if answer.status == FATAL:
                assert answer.text == "more than 32 transfers at once"
                break
            assert answer.status == OK
            found.append(answer.outputs)
    return found


def built(hexagon_folder: Path, folder: Path, left_out: tuple[str, str]) -> Path:
    """The DSP program with another executor."""
    source = EXECUTOR.read_text()
    assert left_out[0] in source
    (folder / "executor.cc").write_text(source.replace(*left_out, 1))
    v68 = hexagon_folder / "v68"
    commands = json.loads((v68 / "compile_commands.json").read_text())
    words = shlex.split(next(one["command"] for one in commands if Path(one["file"]).resolve() == EXECUTOR))
    words[words.index("-o") + 1] = str(folder / "executor.o")
    words[words.index("-c") + 1] = str(folder / "executor.cc")
    subprocess.run(words, cwd=v68, check=True)
    objects = [one["output"] for one in commands if "/dsp.dir/" in one["output"]]
    libraries = [f"libhvl_{name}.a" for name in ("service", "hexagon_kernels", "plain_kernels")]
    flags = [word for word in words if word.startswith(("--target", "-mcpu", "-g", "-O"))]  # others would build zig's libraries anew
    command = [words[0], *flags, "-static", *objects, str(folder / "executor.o"), *libraries, "-o", str(folder / "dsp")]
    subprocess.run(command, cwd=v68, check=True)
    return folder / "dsp"


@pytest.mark.parametrize("missing", WAITS)
def test_a_missing_wait_changes_results(missing: str, hexagon_folder: Path, recorded: list[bytes], tmp_path: Path) -> None:
    emulator = str(hexagon_folder / "bin" / "qemu-hexagon")
    right = outputs([emulator, str(hexagon_folder / "v68" / "dsp")], hexagon_folder, recorded)
    found = outputs([emulator, str(built(hexagon_folder, tmp_path, WAITS[missing]))], hexagon_folder, recorded)
    assert len(right) == len(recorded)
    assert (found == right) == (missing == "none")
