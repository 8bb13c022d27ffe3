"""What the schedules are compiled for: TVM targets, and the operations whose best instruction differs between them.

A schedule is written once against `Isa`; a new target (Arm, Hexagon HVX) is one more entry of ISAS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from expressions import pairs_dot, shuffle, to_u8
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
    half: Isa | None = None  # the same with vectors half as long, for channels that do not fill these; None for vectors of 16 bytes
    dots: bool = False  # whether linear and attention have no hand-written variant: dots.py's

    def tvm_target(self) -> Target:
        target = Target(self.target)
        return target.with_host(target)


def _intrinsic(dtype: str, name: str, *args: Expr) -> Expr:
    return T.call_llvm_pure_intrin(dtype, T.llvm_lookup_intrinsic_id(name), *args)


def _vnni_dot4(lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    def dot4(acc: Expr, x: Expr, w: Expr) -> Expr:
        x8, w8 = T.reinterpret(f"uint8x{4 * lanes}", x), T.reinterpret(f"int8x{4 * lanes}", w)
        return _intrinsic(f"int32x{lanes}", f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", acc, x8, w8)

    return dot4


def _vnni_dot2(lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    def dot2(acc: Expr, x: Expr, w: Expr) -> Expr:
        x16, w16 = T.reinterpret(f"int16x{2 * lanes}", x), T.reinterpret(f"int16x{2 * lanes}", w)
        return _intrinsic(f"int32x{lanes}", f"llvm.x86.avx512.vpdpwssd.{32 * lanes}", acc, x16, w16)

    return dot2


def _pairs(name: str, lanes: int) -> Callable[[Expr, Expr], Expr]:
    """vpmaddwd, the intrinsic `name`."""

    def pairs(x: Expr, w: Expr) -> Expr:
        words = f"int16x{2 * lanes}"
        return _intrinsic(f"int32x{lanes}", name, T.reinterpret(words, x), T.reinterpret(words, w))

    return pairs


def _pairs_dot2(pairs: Callable[[Expr, Expr], Expr]) -> Callable[[Expr, Expr, Expr], Expr]:
    return lambda acc, x, w: acc + pairs(x, w)


def _pairs_dot4(pairs: Callable[[Expr, Expr], Expr], lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    def dot4(acc: Expr, x: Expr, w: Expr) -> Expr:
        # vpmaddubsw saturates on 8-bit weights: widen even and odd bytes to 16 bits instead.
        words = 2 * lanes
        x16, w16 = T.reinterpret(f"uint16x{words}", x), T.reinterpret(f"int16x{words}", w)
        eight = T.Broadcast(T.int16(8), words)
        x_even = T.bitwise_and(x16, T.Broadcast(T.uint16(255), words))
        x_odd = T.shift_right(x16, T.Broadcast(T.uint16(8), words))
        w_even = T.shift_right(T.shift_left(w16, eight), eight)
        w_odd = T.shift_right(w16, eight)
        return acc + pairs(x_even, w_even) + pairs(x_odd, w_odd)

    return dot4


def _pack_u8(name: str, lanes: int) -> Callable[[Sequence[Expr]], Expr]:
    """vpackssdw and vpackuswb, which work on parts of 16 bytes. `name`: of the intrinsics, with a place for each one's own."""

    def pack(vectors: Sequence[Expr]) -> Expr:
        low, high = (_intrinsic(f"int16x{2 * lanes}", name.format("packssdw"), *vectors[i : i + 2]) for i in (0, 2))
        return T.reinterpret(f"uint8x{4 * lanes}", _intrinsic(f"int8x{4 * lanes}", name.format("packuswb"), low, high))

    return pack


def _sdot_dot4(acc: Expr, x: Expr, w: Expr) -> Expr:
    # sdot takes signed bytes: x - 128, and 128 times the sum of w comes back (one product for all pixels that share w).
    name, offset = "llvm.aarch64.neon.sdot.v4i32.v16i8", T.Broadcast(T.int8(-128), 16)
    w8 = T.reinterpret("int8x16", w)
    signed = T.bitwise_xor(T.reinterpret("int8x16", x), offset)
    return _intrinsic("int32x4", name, acc, signed, w8) - _intrinsic("int32x4", name, T.Broadcast(T.int32(0), 4), offset, w8)


def _neon_dot2(acc: Expr, x: Expr, w: Expr) -> Expr:
    def words(value: Expr, odd: int) -> Expr:
        part = T.Shuffle([T.reinterpret("int16x8", value)], [T.int32(i) for i in range(odd, 8, 2)])
        return T.Cast("int32x4", part)

    return acc + words(x, 0) * words(w, 0) + words(x, 1) * words(w, 1)


def _neon_pack_u8(vectors: Sequence[Expr]) -> Expr:
    def join(parts: Sequence[Expr], size: int) -> Expr:
        return T.Shuffle(list(parts), [T.int32(i) for i in range(2 * size)])

    words = [_intrinsic("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", v) for v in vectors]
    halves = [_intrinsic("int8x8", "llvm.aarch64.neon.sqxtun.v8i8", join(words[i : i + 2], 4)) for i in (0, 2)]
    return T.reinterpret("uint8x16", join(halves, 8))


def _multiply_add(acc: Expr, x: Expr, w: Expr) -> Expr:
    return acc + x * w


# Features are those the run-time dispatch checks (csrc/base/cpu_info.cc), not a CPU model's: no others may be used.
_AVX2 = ["+avx2", "+fma", "+f16c"]
_AVX512 = [*_AVX2, "+avx512f", "+avx512bw", "+avx512dq", "+avx512vl", "+avx512vnni"]
_X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"}
_ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}

_PAIRS4, _PAIRS8 = _pairs("llvm.x86.sse2.pmadd.wd", 4), _pairs("llvm.x86.avx2.pmadd.wd", 8)


def _avx2(lanes: int, pairs: Callable[[Expr, Expr], Expr], pack: str, half: Isa | None = None) -> Isa:
    dot2, dot4 = _pairs_dot2(pairs), _pairs_dot4(pairs, lanes)
    return Isa("avx2", {**_X86, "mattr": _AVX2}, lanes, 4, 1, dot4, dot2, _pack_u8(pack, lanes), dot2, half)


def _avx512(lanes: int, pack: str, half: Isa | None = None) -> Isa:
    dot2, dot4 = _vnni_dot2(lanes), _vnni_dot4(lanes)
    return Isa("avx512vnni", {**_X86, "mattr": _AVX512}, lanes, 4, 4, dot4, dot2, _pack_u8(pack, lanes), dot4, half)


def _portable() -> Isa:
    """What every LLVM target has, in plain expressions: the choice where nothing is hand-written."""
    lanes = 4

    def pairs(x: Expr, w: Expr) -> Expr:
        return pairs_dot(x, w, lanes)

    def pack(vectors: Sequence[Expr]) -> Expr:
        return to_u8(shuffle(vectors, range(4 * lanes)), 4 * lanes)

    dot2, dot4 = _pairs_dot2(pairs), _pairs_dot4(pairs, lanes)
    return Isa("portable", _X86, lanes, 2, 1, dot4, dot2, pack, dot2, dots=True)


ISAS = {
    isa.name: isa
    for isa in (
        _portable(),
        _avx2(8, _PAIRS8, "llvm.x86.avx2.{}", _avx2(4, _PAIRS4, "llvm.x86.sse2.{}.128")),
        _avx512(16, "llvm.x86.avx512.{}.512", _avx512(8, "llvm.x86.avx2.{}")),
        Isa("neondot", {**_ARM, "mattr": ["+neon", "+dotprod"]}, 4, 4, 1, _sdot_dot4, _neon_dot2, _neon_pack_u8, _multiply_add),
    )
}
