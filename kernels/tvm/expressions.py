"""Vector expressions the schedules share. `lanes` is the number of values; indices are in elements of the buffer."""

from __future__ import annotations

from tvm.script import tirx as T
from tvm.tirx import Buffer, Expr


def span(index: Expr, lanes: int) -> Expr:
    return index if lanes == 1 else T.Ramp(index, 1, lanes)


def splat(value: Expr, lanes: int) -> Expr:
    return value if lanes == 1 else T.Broadcast(value, lanes)


def vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def load(buffer: Buffer, index: Expr, lanes: int) -> Expr:
    return buffer[span(index, lanes)]


def load_i32(buffer: Buffer, index: Expr, lanes: int) -> Expr:
    return T.Cast(vector("int32", lanes), load(buffer, index, lanes))


def dword(buffer: Buffer, index: Expr, lanes: int) -> Expr:
    """Four bytes at `index`, in every lane."""
    return splat(T.reinterpret("int32", load(buffer, index, 4)), lanes)


def to_u8(value: Expr, lanes: int) -> Expr:
    low = T.max(value, splat(T.int32(0), lanes))
    return T.Cast(vector("uint8", lanes), T.min(low, splat(T.int32(255), lanes)))


def requantise(acc: Expr, multiplier: Expr, shift: Expr, lanes: int) -> Expr:
    """(acc * multiplier + 2^(shift - 1)) >> shift in 64 bits; the result fits int32 (kernels/vrc/pack.h sees to it)."""
    wide = vector("int64", lanes)
    one = splat(T.int64(1), lanes)
    r = T.Cast(wide, shift)
    half = T.shift_left(one, r - one)
    return T.Cast(vector("int32", lanes), T.shift_right(T.Cast(wide, acc) * T.Cast(wide, multiplier) + half, r))
