"""Vector expressions the schedules share. `lanes` is the number of values; indices are in elements of the buffer."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import DataType
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
    return splat(T.reinterpret("int32", load(buffer, index, 32 // DataType(str(buffer.dtype)).bits)), lanes)


def pairs_dot(a: Expr, b: Expr, lanes: int) -> Expr:
    """The sum of the two products of int16 in every lane; LLVM knows the instructions of its targets for these shuffles."""
    wide, words = vector("int32", 2 * lanes), vector("int16", 2 * lanes)
    product = T.Cast(wide, T.reinterpret(words, a)) * T.Cast(wide, T.reinterpret(words, b))
    even, odd = (T.Shuffle([product], [T.int32(2 * i + part) for i in range(lanes)]) for part in (0, 1))
    return even + odd


def to_u8(value: Expr, lanes: int) -> Expr:
    low = T.max(value, splat(T.int32(0), lanes))
    return T.Cast(vector("uint8", lanes), T.min(low, splat(T.int32(255), lanes)))


def shuffle(vectors: Sequence[Expr], indices: Sequence[int]) -> Expr:
    """The elements `indices` of the vectors one after the other."""
    return T.Shuffle(list(vectors), [T.int32(i) for i in indices])


def load_quads(buffer: Buffer, index: Expr, stride: int, lanes: int) -> Expr:
    """Four values from each of index, index + stride, ..."""
    return shuffle([load(buffer, index + stride * i, 4) for i in range(lanes // 4)], range(lanes))


def _zip(a: Expr, b: Expr, width: int, high: int, lanes: int) -> Expr:
    """Elements of `width` bytes in turn from the low or high halves of each 16 bytes of a and of b."""
    size, count = 4 * lanes // width, 16 // width
    indices = []
    for part in range(0, size, count):
        for i in range(part + high * count // 2, part + (high + 1) * count // 2):
            indices += [i, size + i]
    return shuffle([a, b], indices)


def zip_bytes(rows: Sequence[Expr], lanes: int) -> list[Expr]:
    """Four vectors of 4 * lanes bytes -> four of int32, with byte i of a lane from rows[i].

    In the order that processors with vectors of 16-byte parts make fastest: lane 4 * l + k of vector j holds
    bytes 16 * l + 4 * j + k. pack_u8 of targets.py puts results back into their places.
    """
    words, dwords = vector("uint16", 2 * lanes), vector("int32", lanes)
    result = []
    for high in (0, 1):
        first, second = (T.reinterpret(words, _zip(rows[i], rows[i + 1], 1, high, lanes)) for i in (0, 2))
        result += [T.reinterpret(dwords, _zip(first, second, 2, top, lanes)) for top in (0, 1)]
    return result


def zip_pairs(a: Expr, b: Expr, lanes: int) -> list[Expr]:
    """zip_bytes([a, 0, b, 0]) with fewer instructions: the bytes of a and b as pairs of 16-bit values."""
    zero = splat(T.uint8(0), 4 * lanes)
    result = []
    for high in (0, 1):
        both = _zip(a, b, 1, high, lanes)
        result += [T.reinterpret(vector("int32", lanes), _zip(both, zero, 1, top, lanes)) for top in (0, 1)]
    return result


def in_order(packed: Expr, lanes: int) -> Expr:
    """What pack_u8 made of four vectors that lay one after the other: their bytes one after the other."""
    parts = lanes // 4
    dwords = T.reinterpret(vector("int32", lanes), packed)
    return T.reinterpret(vector("uint8", 4 * lanes), shuffle([dwords], [4 * (i % parts) + i // parts for i in range(lanes)]))


def odd_lanes(x: Expr, lanes: int) -> Expr:
    """The odd lanes of an int32 vector in the even ones."""
    wide = vector("int64", lanes // 2)
    return T.reinterpret(vector("int32", lanes), T.shift_right(T.reinterpret(wide, x), splat(T.int64(32), lanes // 2)))


def multiply_high(a: Expr, b: Expr, b_odd: Expr, lanes: int) -> Expr:
    """(a * b) >> 32 of int32 vectors: even lanes by themselves, and odd ones, as processors multiply to 64 bits."""
    half = splat(T.int64(32), lanes // 2)

    def even_lanes(x: Expr) -> Expr:
        return T.shift_right(T.shift_left(T.reinterpret(vector("int64", lanes // 2), x), half), half)

    pairs = ((a, b), (odd_lanes(a, lanes), b_odd))
    products = [T.reinterpret(vector("int32", lanes), even_lanes(x) * even_lanes(y)) for x, y in pairs]
    # The high halves: of even products from the first vector, of odd ones from the second.
    return shuffle(products, [lanes + i if i % 2 else i + 1 for i in range(lanes)])


def requantise(acc: Expr, multiplier: Expr, shift: Expr, lanes: int) -> Expr:
    """(acc * multiplier + 2^(shift - 1)) >> shift in 64 bits; the result fits int32 (kernels/vrc/pack.h sees to it)."""
    wide = vector("int64", lanes)
    one = splat(T.int64(1), lanes)
    r = T.Cast(wide, shift)
    half = T.shift_left(one, r - one)
    return T.Cast(vector("int32", lanes), T.shift_right(T.Cast(wide, acc) * T.Cast(wide, multiplier) + half, r))


def prepare_requantise(multiplier: Expr, shift: Expr, lanes: int) -> tuple[Expr, ...]:
    """What requantise_prepared wants of a channel's multiplier and shift, which must exceed 32."""
    one = splat(T.int32(1), lanes)
    r = shift - splat(T.int32(32), lanes)
    return multiplier, odd_lanes(multiplier, lanes), T.shift_left(one, r - one), r


def requantise_prepared(acc: Expr, multiplier: Expr, odd: Expr, half: Expr, r: Expr, lanes: int) -> Expr:
    """requantise where shift > 32: rounding then adds nothing below bit 32, so that 32 bits are enough after the product."""
    return T.shift_right(multiply_high(acc, multiplier, odd, lanes) + half, r)


def requantise_high(acc: Expr, multiplier: Expr, shift: Expr, lanes: int) -> Expr:
    return requantise_prepared(acc, *prepare_requantise(multiplier, shift, lanes), lanes)
