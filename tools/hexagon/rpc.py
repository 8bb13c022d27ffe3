"""Raw calls of FastRPC to the emulated DSP program (hexagon/emulated/rpc_main.cc), and the stand-in of the vendor's library, for tests."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools.hexagon.client import ROOT, TestServer

OPEN, CLOSE, EXCHANGE, FETCH, CANCEL = range(5)
DONE, FAILED, NO_MEMORY, BAD_ARGUMENT, UNKNOWN_METHOD, BUSY = 0, 1, 2, 14, 20, 46


def scalars(method: int, ins: int = 0, outs: int = 0, handles_in: int = 0, handles_out: int = 0) -> int:
    return method << 24 | ins << 16 | outs << 8 | handles_in << 4 | handles_out


class Result(NamedTuple):
    code: int
    outs: list[bytes]
    handles: list[int]


class Rpc(TestServer):
    """The library's entry, in an emulated process. folder: build/hexagon, as hexagon/setup.sh lays it."""

    def __init__(self, folder: Path, timeout: float = 300.0) -> None:
        super().__init__(folder, timeout)
        self.command = [str(folder / "bin" / "qemu-hexagon"), str(folder / "v68" / "dsp_rpc")]

    def invoke(self, handle: int, word: int, ins: Sequence[bytes] = (), outs: Sequence[int] = (), handles: Sequence[int] = ()) -> Result:
        """A call with these scalars, which must go with the arguments. outs: bytes of each. Raises as `exchange` does."""
        sizes = [*map(len, ins), *outs]
        head = struct.pack(f"<IQI{len(sizes)}I", 1, handle, word, *sizes)
        reply = self.exchange(head + b"".join(ins) + struct.pack(f"<{len(handles)}Q", *handles))
        _, code = struct.unpack_from("<Ii", reply)
        at, found = 8, []
        for size in outs:
            found.append(reply[at : at + size])
            at += size
        return Result(code, found, [value for (value,) in struct.iter_unpack("<Q", reply[at:])])

    def open(self) -> Result:
        uri = b"file:///x.so\0"
        return self.invoke(0, scalars(OPEN, 2, 0, 0, 1), [struct.pack("<I", len(uri)), uri])

    def ask(self, handle: int, message: bytes, room: int = 1 << 16) -> tuple[int, bytes]:
        """A message without its length; the result, and the reply likewise."""
        framed = struct.pack("<I", len(message)) + message
        result = self.invoke(handle, scalars(EXCHANGE, 1, 2), [framed], [4, room])
        if result.code != DONE:
            return result.code, b""
        (length,) = struct.unpack("<I", result.outs[0])
        if length <= room:
            return DONE, result.outs[1][4:length]
        whole = self.invoke(handle, scalars(FETCH, 0, 1), [], [length])
        return whole.code, whole.outs[0][4:]


def build_fake(library: Path, compiler: Sequence[str] = ("c++",)) -> None:
    """Compiles tools/hexagon/fake_cdsprpc.cc. CalledProcessError."""
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{ROOT}", "-pthread"]
    subprocess.run([*compiler, *flags, str(ROOT / "tools" / "hexagon" / "fake_cdsprpc.cc"), "-o", str(library)], check=True)


def fake_environment(folder: Path, library: Path) -> dict[str, str]:
    """Variables with which device "hexagon" takes `library` for the vendor's, and the emulated program for the DSP's."""
    command = [folder / "bin" / "qemu-hexagon", folder / "v68" / "dsp_rpc"]
    return {
        "HVL_CDSPRPC": str(library),
        "HVL_FAKE_DSP": "\n".join(map(str, command)),
        "ADSP_LIBRARY_PATH": f"{os.devnull};{library.parent}",
    }
