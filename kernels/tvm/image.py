"""Image operations (contracts: kernels/resize/resize.h, kernels/patchify/patchify.h).

Every factory returns one PrimFunc for one target. The functions are plain C functions: pointers and integers.
Work is cut by the caller (tvm_body.h of the folders).
"""

# mypy: ignore-errors
# TVMScript is parsed, not run: annotations such as T.handle("uint8") mean nothing to a type checker.
from expressions import load, load_i32, span, splat, to_u8
from targets import Isa
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

PRECISION = 22  # fraction bits of the filter taps
TABLE = 257  # entries of a patchify table, a channel; the last is the pad value


def resize_horizontal(lanes: int) -> PrimFunc:
    """Outputs [begin, end) of one row.

    With lanes = 4 a pixel is read and written as four bytes, one of them its neighbour's: the caller leaves the last
    output of a row and the last row of the image to lanes = 1, which walks the three channels.
    """
    channels = 1 if lanes == 4 else 3

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        first: T.handle("int32"),
        weights: T.handle("int32"),
        taps: T.int64,
        begin: T.int64,
        end: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((taps * 3,), "uint8", data=x, align=1)
        Y = T.decl_buffer((end * 3,), "uint8", data=y, align=1)
        F = T.decl_buffer((end,), "int32", data=first, align=4)
        W = T.decl_buffer((end * taps,), "int32", data=weights, align=4)
        for i in range(end - begin):
            o = T.meta_var(begin + i)
            for c in T.unroll(channels):
                acc = T.alloc_buffer((lanes,), "int32", scope="local")
                acc[span(0, lanes)] = splat(T.int32(1 << (PRECISION - 1)), lanes)
                for t in range(taps):
                    acc[span(0, lanes)] = load(acc, 0, lanes) + load_i32(
                        X, (T.Cast("int64", F[o]) + t) * 3 + c, lanes
                    ) * splat(W[o * taps + t], lanes)
                Y[span(o * 3 + c, lanes)] = to_u8(
                    T.shift_right(load(acc, 0, lanes), splat(T.int32(PRECISION), lanes)), lanes
                )

    return function


def resize_vertical(lanes: int, count: int) -> PrimFunc:
    """One output row in `spans` spans of lanes * count bytes; the last one ends at `width` (overlaps: same values)."""
    reach = lanes * count

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        weights: T.handle("int32"),
        taps: T.int64,
        width: T.int64,
        spans: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((taps * width,), "uint8", data=x, align=1)
        Y = T.decl_buffer((width,), "uint8", data=y, align=1)
        W = T.decl_buffer((taps,), "int32", data=weights, align=4)
        for s in range(spans):
            at = T.meta_var(T.min(s * reach, width - reach))
            acc = T.alloc_buffer((reach,), "int32", scope="local")
            for v in T.unroll(count):
                acc[span(v * lanes, lanes)] = splat(T.int32(1 << (PRECISION - 1)), lanes)
            for t in range(taps):
                for v in T.unroll(count):
                    acc[span(v * lanes, lanes)] = load(acc, v * lanes, lanes) + load_i32(
                        X, t * width + at + v * lanes, lanes
                    ) * splat(W[t], lanes)
            for v in T.unroll(count):
                Y[span(at + v * lanes, lanes)] = to_u8(
                    T.shift_right(load(acc, v * lanes, lanes), splat(T.int32(PRECISION), lanes)), lanes
                )

    return function


def patchify(_isa: Isa) -> PrimFunc:
    """One row of patches: table lookups; `rows` and `columns` of its pixels lie in the image, the rest is pad."""

    @T.prim_func
    def function(
        image: T.handle("uint8"),
        table: T.handle("int16"),
        out: T.handle("int16"),
        image_width: T.int64,
        rows: T.int64,
        columns: T.int64,
        grid_w: T.int64,
        patch: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((rows * image_width * 3,), "uint8", data=image, align=1)
        L = T.decl_buffer((3 * TABLE,), "int16", data=table, align=2)
        Y = T.decl_buffer((grid_w * 3 * patch * patch,), "int16", data=out, align=2)
        for g in range(grid_w):
            for c in range(3):
                for py in range(patch):
                    base = T.meta_var(((g * 3 + c) * patch + py) * patch)
                    inside = T.meta_var(
                        T.if_then_else(py < rows, T.min(T.max(columns - g * patch, T.int64(0)), patch), T.int64(0))
                    )
                    for px in range(inside):
                        Y[base + px] = L[c * TABLE + T.Cast("int64", X[(py * image_width + g * patch + px) * 3 + c])]
                    for px in range(patch - inside):
                        Y[base + inside + px] = L[c * TABLE + (TABLE - 1)]

    return function
