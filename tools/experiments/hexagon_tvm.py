"""What the CPU's TVM schedules (kernels/tvm) make of HVX beside the kernels by hand: packets, and whether the bits are the reference's.

    python -m tools.experiments.hexagon_tvm     writes a part of docs/hexagon.md

The same functions as the CPU's, with HVX as one more `Isa`, compiled by TVM and linked into the emulated test server in place of the
kernels by hand. Needs apache-tvm and what `hexagon/setup.sh build` made. What comes out is no part of the engine: half vectors are read
as whole ones.
"""

# mypy: ignore-errors
# Imports kernels/tvm, which a type checker does not follow either.
from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from tools.experiments.sections import replace_section
from tools.hexagon import resize, vrc
from tools.hexagon.client import ROOT, Counts, EmulatorDied, TestServer

sys.path.insert(0, str(ROOT / "kernels" / "tvm"))
from compiler import KERNELS, compile_object
from expressions import shuffle, to_u8
from targets import VRC_LANES, Isa
from tvm.script import tirx as T
from tvm.tirx import Expr

HEXAGON = ROOT / "build" / "hexagon"
CPU = ["--target=hexagon-linux-musl", "-mcpu=hexagonv68+hvx+hvxv68+hvx_length128b", "-g0", "-O3"]
CXX = ["-std=c++20", "-fno-exceptions", "-fno-rtti", "-ffunction-sections", "-DHVL_TVM_KERNELS", "-DHVL_VARIANT(name)=name##_hvx"]
CXX += ["-DHVL_TVM_FUNCTION(name)=hvl_tvm_##name##_hvx"]
CXX += ["-DHVL_TVM_SPAN=128", "-DHVL_TVM_OUTPUTS=8", "-DHVL_TVM_PIXELS=4", "-DHVL_TVM_CHANNELS=128"]  # of vectors of 32 values and of 16
WHOLE = 32  # int32 values of a vector
# What walks blocks of VRC_LANES channels takes half vectors; the others whole ones.
HALF_VECTORS = {"vrc_stem", "vrc_depthwise", "vrc_pointwise", "vrc_pointwise_one", "vrc_pool"}


def _hvx(name: str, *args: Expr) -> Expr:
    return T.call_llvm_pure_intrin(f"int32x{WHOLE}", T.llvm_lookup_intrinsic_id(f"llvm.hexagon.V6.{name}.128B"), *args)


def isa(lanes: int) -> Isa:
    """Vectors of `lanes` int32 values."""

    def of(name: str, acc: Expr, x: Expr, w: Expr) -> Expr:
        if lanes == WHOLE:
            return _hvx(name, acc, x, w)
        whole = (shuffle([v, v], range(WHOLE)) for v in (acc, x, w))
        return shuffle([_hvx(name, *whole)], range(lanes))

    def pack(vectors: Sequence[Expr]) -> Expr:
        places = [(b % 16 // 4) * lanes + 4 * (b // 16) + b % 4 for b in range(4 * lanes)]
        if lanes < WHOLE:
            return to_u8(shuffle(vectors, places), 4 * lanes)
        halves = [_hvx("vpackwh.sat", vectors[i + 1], vectors[i]) for i in (0, 2)]
        return shuffle([T.reinterpret("uint8x128", _hvx("vpackhub.sat", halves[1], halves[0]))], places)

    return Isa(
        "hvx",
        {"kind": "llvm", "mtriple": "hexagon-unknown-linux-musl", "mcpu": "hexagonv68", "mattr": ["+hvxv68", "+hvx-length128b"]},
        lanes, 4, 1,
        dot4=lambda acc, x, w: of("vrmpybusv.acc", acc, x, w),
        dot2=lambda acc, x, w: of("vdmpyhvsat.acc", acc, x, w),
        pack_u8=pack,
        multiply_add=lambda acc, x, w: acc + x * w,
        half=isa(VRC_LANES) if lanes == WHOLE else None,
    )  # fmt: skip


# Resizing's kernels by hand take no digits, and the test server gives none: making them is counted, 1 to 3 % of the packets.
RESIZE_SHIM = """
#include <vector>
#include "kernels/resize/resize_taps.h"
#define resize_horizontal_hvx inner_resize_horizontal
#define resize_vertical_hvx inner_resize_vertical
#include "kernels/resize/tvm_body.h"
#undef resize_horizontal_hvx
#undef resize_vertical_hvx
namespace hvl {
using Kernel = void(const ResizeArgs&, int32_t, int32_t) noexcept;
void with_digits(Kernel* kernel, ResizeArgs a, int32_t begin, int32_t end) {
  const std::vector<int32_t> digits = resize_digits(a.out_size, a.taps, a.weights);
  a.digits = digits.data();
  kernel(a, begin, end);
}
void resize_horizontal_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  with_digits(inner_resize_horizontal, a, begin, end);
}
void resize_vertical_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept { with_digits(inner_resize_vertical, a, begin, end); }
}
#include "kernels/resize/resize_taps.cc"
"""


def server_of(folder: Path) -> None:
    """Makes folder/v68/test_server with TVM's kernels of resizing and of the VRC."""
    zig, objects, built = str(HEXAGON / "bin" / "zig-c++"), [], HEXAGON / "v68"
    for group, functions in KERNELS.items():
        for name, factory in functions.items() if group != "patchify" else ():
            one = isa(VRC_LANES if name in HALF_VECTORS else WHOLE)
            objects.append(folder / f"{name}.o")
            compile_object({f"hvl_tvm_{name}_hvx": factory(one)}, one, objects[-1])
    for name, source in (("resize", RESIZE_SHIM), ("vrc", '#include "kernels/vrc/tvm_body.h"\n')):
        (folder / f"{name}.cc").write_text(source)
        objects.append(folder / f"{name}.cc.o")
        subprocess.run([zig, f"-I{ROOT}", *CPU, *CXX, "-c", str(folder / f"{name}.cc"), "-o", str(objects[-1])], check=True)
    for part in ("bin", "v68"):
        (folder / part).mkdir()
    (folder / "bin" / "qemu-hexagon").symlink_to(HEXAGON / "bin" / "qemu-hexagon")
    others = [*built.glob("CMakeFiles/test_server.dir/**/*.o"), built / "libhvl_hexagon_kernels.a", built / "libhvl_plain_kernels.a"]
    subprocess.run([zig, *CPU, "-static", *map(str, [*objects, *others]), "-o", str(folder / "v68" / "test_server")], check=True)


def calls() -> dict[str, object]:
    """The cases of tools.hexagon.packets by name."""
    found: list[object] = []

    def record(call: object, *_: object) -> tuple[None, Counts]:
        found.append(call)
        return None, Counts(0, 0, 0)

    with mock.patch.object(resize.Pass, "run", record), mock.patch.object(vrc.Call, "run", record):
        names = [*resize.count_resize(None), *vrc.count_vrc(None)]
    return dict(zip(names, found, strict=True))


def row(name: str, call: object, tvm_folder: Path) -> str:
    with TestServer(HEXAGON) as by_hand:
        packets = call.run(by_hand, "hvx")[1].packets
        expected = call.run(by_hand, "reference")[0]
    with TestServer(tvm_folder) as by_tvm:
        try:
            out, counts = call.run(by_tvm, "hvx")
        except EmulatorDied as died:
            fault = "exit code -11" in str(died)  # SIGSEGV
            return f"| {name} | {packets:,} | - | {'touches what is not its own' if fault else died} |"
    if not np.array_equal(out, expected):
        return f"| {name} | {packets:,} | {counts.packets:,} | wrong |"
    return f"| {name} | {packets:,} | {counts.packets:,} | {counts.packets / packets:.1f}x |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server_of(Path(folder))
        rows = [row(name, call, Path(folder)) for name, call in calls().items()]
    table = ["| case | by hand, packets | TVM, packets | TVM / by hand |", "| --- | ---: | ---: | ---: |", *rows]
    replace_section(ROOT / "docs" / "hexagon.md", "tvm", "\n".join(table))
    print("\n".join(table))


if __name__ == "__main__":
    main()
