"""What the schedules are compiled for: TVM targets, and the operations whose best instruction differs between them.

A schedule is written once against `Isa`; a new target (Arm, Hexagon HVX) is one more entry of ISAS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T
from tvm.target import Target
from tvm.tirx import Expr

VRC_LANES = 16  # kVrcLanes of kernels/vrc/vrc.h


@dataclass(frozen=True)
class Isa:
    """One instruction set."""

    name: str
    target: dict[str, Any]
    lanes: int  # int32 values of a vector; divides VRC_LANES
    pixels: int  # times blocks: the outputs vrc_pointwise keeps in registers; divides kVrcPixelBlock
    blocks: int  # channel blocks
    # acc + sum of the four byte products of each 32-bit lane: x holds u8, w holds s8; all int32 vectors.
    dot4: Callable[[Expr, Expr, Expr], Expr]
    # acc + sum of the two products of each 32-bit lane: x holds 0 .. 255 as 16-bit values, w int16; all int32 vectors.
    dot2: Callable[[Expr, Expr, Expr], Expr]
    # Four vectors of int32 in the order of zip_bytes (expressions.py), saturated to 4 * lanes bytes one after the other.
    pack_u8: Callable[[Sequence[Expr]], Expr]
    # acc + x * w, lane by lane, for 0 <= x <= 255 and -128 <= w <= 127.
    multiply_add: Callable[[Expr, Expr, Expr], Expr]

    def tvm_target(self) -> Target:
        target = Target(self.target)
        return target.with_host(target)


def _intrinsic(dtype: str, name: str, *args: Expr) -> Expr:
    return T.call_llvm_pure_intrin(dtype, T.llvm_lookup_intrinsic_id(name), *args)


def _vnni_dot4(acc: Expr, x: Expr, w: Expr) -> Expr:
    x8, w8 = T.reinterpret("uint8x64", x), T.reinterpret("int8x64", w)
    return _intrinsic("int32x16", "llvm.x86.avx512.vpdpbusd.512", acc, x8, w8)


def _vnni_dot2(acc: Expr, x: Expr, w: Expr) -> Expr:
    x16, w16 = T.reinterpret("int16x32", x), T.reinterpret("int16x32", w)
    return _intrinsic("int32x16", "llvm.x86.avx512.vpdpwssd.512", acc, x16, w16)


def _avx2_pairs(x: Expr, w: Expr) -> Expr:
    return _intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", T.reinterpret("int16x16", x), T.reinterpret("int16x16", w))


def _avx2_dot4(acc: Expr, x: Expr, w: Expr) -> Expr:
    # vpmaddubsw saturates on 8-bit weights: widen even and odd bytes to 16 bits instead.
    x16, w16 = T.reinterpret("uint16x16", x), T.reinterpret("int16x16", w)
    eight = T.Broadcast(T.int16(8), 16)
    x_even = T.bitwise_and(x16, T.Broadcast(T.uint16(255), 16))
    x_odd = T.shift_right(x16, T.Broadcast(T.uint16(8), 16))
    w_even = T.shift_right(T.shift_left(w16, eight), eight)
    w_odd = T.shift_right(w16, eight)
    return acc + _avx2_pairs(x_even, w_even) + _avx2_pairs(x_odd, w_odd)


def _pack_u8(name: str, lanes: int) -> Callable[[Sequence[Expr]], Expr]:
    """vpackssdw and vpackuswb, which work on parts of 16 bytes. `name`: of the intrinsics, with a place for each one's own."""

    def pack(vectors: Sequence[Expr]) -> Expr:
        low, high = (_intrinsic(f"int16x{2 * lanes}", name.format("packssdw"), *vectors[i : i + 2]) for i in (0, 2))
        return T.reinterpret(f"uint8x{4 * lanes}", _intrinsic(f"int8x{4 * lanes}", name.format("packuswb"), low, high))

    return pack


# Features are those the run-time dispatch checks (csrc/base/cpu_info.cc), not a CPU model's: no others may be used.
_AVX2 = ["+avx2", "+fma", "+f16c"]
_AVX512 = [*_AVX2, "+avx512f", "+avx512bw", "+avx512dq", "+avx512vl", "+avx512vnni"]
_X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"}

ISAS = {
    isa.name: isa
    for isa in (
        Isa(
            "avx2",
            {**_X86, "mattr": _AVX2},
            lanes=8,
            pixels=4,
            blocks=1,
            dot4=_avx2_dot4,
            dot2=lambda acc, x, w: acc + _avx2_pairs(x, w),
            pack_u8=_pack_u8("llvm.x86.avx2.{}", 8),
            multiply_add=lambda acc, x, w: acc + _avx2_pairs(x, w),
        ),
        Isa(
            "avx512vnni",
            {**_X86, "mattr": _AVX512},
            lanes=16,
            pixels=4,
            blocks=4,
            dot4=_vnni_dot4,
            dot2=_vnni_dot2,
            pack_u8=_pack_u8("llvm.x86.avx512.{}.512", 16),
            multiply_add=_vnni_dot4,
        ),
    )
}
