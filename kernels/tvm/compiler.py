"""Compiles the schedules ahead of time: one object a kernel and target.

An object holds plain C functions of hidden visibility and has no undefined symbols but memset of C.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import dots
import image
import tvm
import vrc
from targets import ISAS, Isa
from tvm import tirx
from tvm.tirx import PrimFunc

# Object name -> its functions. A function is exported as hvl_tvm_<name>_<isa>.
KERNELS: dict[str, dict[str, Callable[[Isa], PrimFunc]]] = {
    "resize": {
        "resize_horizontal": lambda isa: image.resize_horizontal(isa, 4),
        "resize_horizontal_row": lambda isa: image.resize_horizontal(isa, 1),
        "resize_horizontal_edge": image.resize_horizontal_edge,
        "resize_vertical": image.resize_vertical,
        "resize_vertical_byte": image.resize_vertical_byte,
    },
    "patchify": {"patchify": image.patchify},
    "vrc_stem": {"vrc_stem": vrc.stem},
    "vrc_depthwise": {
        "vrc_depthwise": vrc.depthwise,
        "vrc_depthwise_wide": lambda isa: vrc.depthwise_wide(isa, 1),
        "vrc_depthwise_wide_two": lambda isa: vrc.depthwise_wide(isa, 2),
        "vrc_depthwise_half": lambda isa: vrc.depthwise_wide(isa.half or isa, 1),
        "vrc_depthwise_half_two": lambda isa: vrc.depthwise_wide(isa.half or isa, 2),
    },
    "vrc_pointwise": {
        "vrc_pointwise": lambda isa: vrc.pointwise(isa, isa.pixels, isa.blocks),
        "vrc_pointwise_one": lambda isa: vrc.pointwise(isa, 1, 4),
    },
    "vrc_pool": {"vrc_pool": vrc.pool},
}

DOTS: dict[str, dict[str, Callable[[Isa], PrimFunc]]] = {
    "linear": {
        "widen_nibbles": lambda _isa: dots.widen_nibbles(),
        "widen_bytes": lambda _isa: dots.widen_bytes(),
        "widen_x8": lambda _isa: dots.widen_x(1),
        "widen_x16": lambda _isa: dots.widen_x(2),
        "linear_dots": lambda _isa: dots.linear_dots(),
    },
    "attention": {
        f"{name}_{form}_{rows}": lambda _isa, make=make, form=form, rows=rows: make(form == "wide", rows)
        for name, make in (("qk", dots.qk), ("pv", dots.pv))
        for form in ("words", "wide")
        for rows in (1, 2)
    },
}

# TVM's default lowering without MakePackedAPI: callers are C++ of ours, which needs no argument checks and no runtime.
PASSES = [
    tirx.transform.StmtSimplify(),
    tirx.transform.FlattenBuffer(),
    tirx.transform.VectorizeLoop(True),
    tirx.transform.UnrollLoop(),
    tirx.transform.StmtSimplify(),
    tirx.transform.CommonSubexprElim(),
    tirx.transform.VerifyMemory(),
    tirx.transform.LowerIntrin(),
]


def compile_object(functions: dict[str, PrimFunc], isa: Isa, path: Path) -> None:
    """Writes `functions` (exported name -> function) as one ELF object."""
    target = isa.tvm_target()
    module = tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in functions.items()})
    module = tirx.transform.BindTarget(target)(module)
    module = tvm.ir.transform.Sequential(PASSES)(module)
    tvm.get_global_func("target.build.llvm")(module, target).write_to_file(str(path))


def hide_symbols(path: Path) -> None:
    """Hides the global symbols of an ELF64 little-endian object, so that none leaves the extension module."""
    data = bytearray(path.read_bytes())
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    for i in range(count):
        header = sections_at + i * entry_size
        kind = struct.unpack_from("<I", data, header + 4)[0]
        if kind != 2:  # SHT_SYMTAB
            continue
        offset, size = struct.unpack_from("<QQ", data, header + 24)
        for symbol in range(offset, offset + size, 24):
            info, section = data[symbol + 4], struct.unpack_from("<H", data, symbol + 6)[0]
            if info >> 4 != 0 and section != 0:  # not local, not undefined
                data[symbol + 5] = data[symbol + 5] & ~3 | 2  # STV_HIDDEN
    path.write_bytes(data)


def compile_all(out_dir: Path, objcopy: str, names: list[str]) -> list[Path]:
    """Writes KERNEL_ISA.o for every kernel and every instruction set named; returns their paths."""
    paths = []
    for isa in (ISAS[name] for name in names):
        for kernel, factories in {**KERNELS, **(DOTS if isa.dots else {})}.items():
            path = out_dir / f"{kernel}_{isa.name}.o"
            functions = {f"hvl_tvm_{name}_{isa.name}": factory(isa) for name, factory in factories.items()}
            compile_object(functions, isa, path)
            # LLVM adds weak half-float helpers that nobody calls: they must not replace anyone else's.
            keep = [f"--keep-global-symbol={name}" for name in functions]
            subprocess.run([objcopy, *keep, str(path)], check=True)
            hide_symbols(path)
            paths.append(path)
    return paths
