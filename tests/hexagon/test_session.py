"""The host's session over FastRPC built for arm64 Linux (hexagon/host), under qemu-aarch64, with the stand-in of the vendor's library built
for it too. What test_fastrpc.py does in this process, without Python."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypervl_engine.engine import load

from tools.hexagon.dsp import Dsp, messages
from tools.hexagon.processes import running
from tools.hexagon.record_session import IDS, recorder
from tools.hexagon.rpc import fake_environment


class Recorded(NamedTuple):
    stream: Path
    replies: Path


@pytest.fixture(scope="module")
def recorded(hexagon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A prefill of 40 tokens by staged plans: messages, and what the emulated program replies."""
    folder = tmp_path_factory.mktemp("recorder")
    recorder(folder, hexagon_folder, folder / "stream")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVL_HEXAGON", str(folder))
        engine = load(device="hexagon-sim", spec="hexagon-v73", vtcm="300KiB", threads=1, context_length=512, progress=False)
        engine.new_session().prefill(IDS)
    with Dsp(hexagon_folder) as dsp, (folder / "replies").open("wb") as out:
        for one in messages((folder / "stream").read_bytes()):
            reply = dsp.exchange(one)
            out.write(struct.pack("<I", len(reply)) + reply)
    return Recorded(folder / "stream", folder / "replies")


@pytest.fixture(scope="module")
def built(hexagon_folder: Path) -> Path:
    folder = hexagon_folder / "aarch64"
    missing = [path for path in (folder / "session_test", hexagon_folder / "bin" / "qemu-aarch64") if not path.exists()]
    if missing and os.environ.get("HVL_HEXAGON"):
        pytest.fail(f"no {missing[0]}: `hexagon/setup.sh session` makes it")
    if missing:
        pytest.skip("`hexagon/setup.sh session` was not run")
    return folder


def run(built: Path, hexagon_folder: Path, recorded: Recorded, tmp_path: Path, timeout_s: float = 60, **settings: str) -> tuple[int, str]:
    """Exit code and output."""
    (tmp_path / "libhypervl_hexagon_v73.so").touch()
    (tmp_path / "dsp_rpc").symlink_to(hexagon_folder / "v68" / "dsp_rpc")
    environment = os.environ | fake_environment(hexagon_folder, tmp_path / "libcdsprpc.so")
    environment |= {"HVL_FAKE_DSP": f"{hexagon_folder}/bin/qemu-hexagon\n{tmp_path}/dsp_rpc"} | settings
    library = settings.get("HVL_CDSPRPC", str(built / "libcdsprpc.so"))
    command = [hexagon_folder / "bin" / "qemu-aarch64", built / "session_test", library, *recorded, str(timeout_s)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_it_is_a_program_for_arm64(built: Path) -> None:
    head = (built / "session_test").read_bytes()[:20]
    assert head[:5] == b"\x7fELF\x02"
    assert struct.unpack_from("<H", head, 18) == (183,)


def test_runs_give_what_the_emulated_program_gave(built: Path, hexagon_folder: Path, recorded: Recorded, tmp_path: Path) -> None:
    assert run(built, hexagon_folder, recorded, tmp_path) == (0, "2 runs, 0 of them wrong\n")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("HVL_CDSPRPC", "/nowhere/libcdsprpc.so", "no FastRPC on this machine"),
        ("HVL_FAKE_FAULT", "refuse", "the DSP refused a session"),
        ("HVL_FAKE_ARCH", "68", "the DSP is of architecture v68"),
        ("HVL_FAKE_FAULT", "die:1", "the DSP refused a session"),
        ("HVL_FAKE_FAULT", "die:6", "the DSP ended, or lost its session"),
        ("HVL_FAKE_FAULT", "hang:1", "the DSP gave no reply in 1 s"),
        ("HVL_FAKE_FAULT", "hang:6", "the DSP gave no reply in 1 s"),
        ("HVL_EMULATED_VTCM", "65536", "bytes of fast memory: this machine has 65536"),
    ],
)
def test_failures(setting: str, value: str, said: str, built: Path, hexagon_folder: Path, recorded: Recorded, tmp_path: Path) -> None:
    began = time.monotonic()
    code, output = run(built, hexagon_folder, recorded, tmp_path, timeout_s=1 if "hang" in value else 60, **{setting: value})
    assert code == 2
    assert said in output
    assert time.monotonic() - began < 20
    assert running(f"{tmp_path}/dsp_rpc") == []
