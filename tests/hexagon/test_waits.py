"""A transfer that nobody waits for is seen: the DSP program, built with one of the executor's waits left out, gives other results, or ends
when the ring is full of blocks that nobody popped. (The emulation copies when a block is popped, csrc/runtime/dma_copies.cc.)"""

from __future__ import annotations

import json
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from hypervl_engine.engine import load

from tools.hexagon.client import ROOT, EmulatorDied
from tools.hexagon.dsp import FATAL, OK, Dsp, messages
from tools.hexagon.record_session import IDS, recorder
from tools.hexagon.rpc import CLOSE, DONE, FAILED, Rpc, scalars

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


def built(program: str, hexagon_folder: Path, folder: Path, left_out: tuple[str, str]) -> str:
    """dsp or dsp_rpc with another executor."""
    source = EXECUTOR.read_text()
    assert left_out[0] in source
    (folder / "executor.cc").write_text(source.replace(*left_out, 1))
    v68 = hexagon_folder / "v68"
    commands = json.loads((v68 / "compile_commands.json").read_text())
    words = shlex.split(next(one["command"] for one in commands if Path(one["file"]).resolve() == EXECUTOR))
    words[words.index("-o") + 1] = str(folder / "executor.o")
    words[words.index("-c") + 1] = str(folder / "executor.cc")
    subprocess.run(words, cwd=v68, check=True)
    objects = [one["output"] for one in commands if f"/{program}.dir/" in one["output"]]
    libraries = [f"libhvl_{name}.a" for name in ("service", "hexagon_kernels", "plain_kernels")]
    flags = [word for word in words if word.startswith(("--target", "-mcpu", "-g", "-O"))]  # others would build zig's libraries anew
    command = [words[0], *flags, "-static", *objects, str(folder / "executor.o"), *libraries, "-o", str(folder / program)]
    subprocess.run(command, cwd=v68, check=True)
    return str(folder / program)


@pytest.mark.parametrize("missing", WAITS)
def test_a_missing_wait_changes_results(missing: str, hexagon_folder: Path, recorded: list[bytes], tmp_path: Path) -> None:
    emulator = str(hexagon_folder / "bin" / "qemu-hexagon")
    right = outputs([emulator, str(hexagon_folder / "v68" / "dsp")], hexagon_folder, recorded)
    found = outputs([emulator, built("dsp", hexagon_folder, tmp_path, WAITS[missing])], hexagon_folder, recorded)
    assert len(right) == len(recorded)
    assert (found == right) == (missing == "none")


def test_a_session_that_cannot_go_on_says_so(hexagon_folder: Path, recorded: list[bytes], tmp_path: Path) -> None:
    """The library's entry, in the same predicament, ends the session and not the process."""
    with Rpc(hexagon_folder) as rpc:
        rpc.command[1] = built("dsp_rpc", hexagon_folder, tmp_path, WAITS["before a block"])
        (ours,), (other,) = rpc.open().handles, rpc.open().handles
        replies = (rpc.ask(ours, one)[1] for one in recorded)
        fatal = next(reply for reply in replies if struct.unpack_from("<I", reply, 4) == (FATAL,))
        assert b"more than 32 transfers at once" in fatal
        assert rpc.ask(ours, recorded[0]) == (FAILED, b"")
        assert struct.unpack_from("<I", rpc.ask(other, recorded[0])[1], 4) == (OK,)
        for handle in (ours, other):
            assert rpc.invoke(0, scalars(CLOSE, handles_in=1), handles=[handle]).code == DONE
