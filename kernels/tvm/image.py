"""Image operations (contracts: kernels/resize/resize.h, kernels/patchify/patchify.h).

Every factory returns one PrimFunc for one target. The functions are plain C functions: pointers and integers.
Work is cut by the caller (tvm_body.h of the folders).
"""

# mypy: ignore-errors
# TVMScript is parsed, not run: annotations such as T.handle("uint8") mean nothing to a type checker.
from collections.abc import Sequence

from expressions import in_order, load, shuffle, span, splat, to_u8, vector, zip_pairs
from targets import Isa
from tvm.script import tirx as T
from tvm.tirx import Buffer, Expr, PrimFunc

PRECISION = 22  # fraction bits of the filter taps
HALF = 1 << (PRECISION - 1)
TABLE = 257  # entries of a patchify table, a channel; the last is the pad value


def scaled(low: Buffer, high: Buffer, v: int, lanes: int) -> Expr:
    """Vector v of a sum from those of its two digits."""
    total = T.shift_left(load(high, v * lanes, lanes), splat(T.int32(16), lanes)) + load(low, v * lanes, lanes)
    return T.shift_right(total, splat(T.int32(PRECISION), lanes))


def resize_horizontal(isa: Isa, rows: int) -> PrimFunc:
    """Outputs [0, count) of `rows` (1 or 4) lines, at least lanes / 4 of them.

    A vector holds lanes / 4 outputs, red, green, blue and nothing of each. Four taps of an output are 12 bytes next to each
    other; 16 are read: the caller sees to it that the image has them, or leaves outputs to resize_horizontal_edge.
    """
    lanes = isa.lanes
    step = lanes // 4  # outputs

    def pixels(image: Buffer, first: Buffer, output: Expr, tap: Expr, line: Expr) -> Expr:
        places = [(T.Cast("int64", first[output + i]) + tap) * 3 + line for i in range(step)]
        return shuffle([load(image, at, 16) for at in places], range(4 * lanes))

    def pairs(sixteens: Expr, tap: int) -> Expr:
        """In lane 4 * i + c: colour c of taps tap and tap + 1 of output i, as two 16-bit values."""
        zero = 4 * lanes
        indices = []
        for i in range(0, zero, 16):
            for c in range(3):
                indices += [i + 3 * tap + c, zero, i + 3 * tap + 3 + c, zero]
            indices += [zero] * 4
        return T.reinterpret(vector("int32", lanes), shuffle([sixteens, splat(T.uint8(0), zero)], indices))

    def weight(digits: Buffer, at: Expr) -> Expr:
        """Of `step` outputs, each for its four lanes."""
        return shuffle([load(digits, at, step)] * 4, [i // 4 for i in range(lanes)])

    def add_pair(acc: Buffer, row: Expr, pixels: Expr, weights: Expr) -> None:
        T.buffer_store(acc, isa.dot2(load(acc, row * lanes, lanes), pixels, weights), [span(row * lanes, lanes)])

    def lines(packed: Expr) -> Expr:
        """Bytes of four lines -> for each line 3 * step bytes and `step` of no meaning."""
        indices = []
        for r in range(4):
            indices += [4 * (r * step + i) + c for i in range(step) for c in range(3)] + [0] * step
        return shuffle([in_order(packed, lanes)], indices)

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        first: T.handle("int32"),
        digits: T.handle("int32"),
        groups: T.int64,
        in_width: T.int64,
        out_width: T.int64,
        count: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((rows * in_width * 3,), "uint8", data=x, align=1)
        Y = T.decl_buffer((rows * out_width * 3,), "uint8", data=y, align=1)
        F = T.decl_buffer((out_width,), "int32", data=first, align=4)
        D = T.decl_buffer((groups * 4 * out_width,), "int32", data=digits, align=4)
        low = T.alloc_buffer((rows * lanes,), "int32", scope="local")
        high = T.alloc_buffer((rows * lanes,), "int32", scope="local")
        four = T.alloc_buffer((4 * lanes,), "uint8", scope="local")
        packed = T.alloc_buffer((4 * lanes,), "uint8", scope="local")
        for s in range((count + (step - 1)) // step):
            o = T.meta_var(T.min(s * step, count - step))
            for r in T.unroll(rows):
                low[span(r * lanes, lanes)] = splat(T.int32(0), lanes)
                high[span(r * lanes, lanes)] = splat(T.int32(HALF >> 16), lanes)
            for g in range(groups):
                for r in T.unroll(rows):
                    four[span(0, 4 * lanes)] = pixels(X, F, o, g * 4, r * in_width * 3)
                    at = T.meta_var(g * 4 * out_width + o)
                    add_pair(low, r, pairs(load(four, 0, 4 * lanes), 0), weight(D, at))
                    add_pair(high, r, pairs(load(four, 0, 4 * lanes), 0), weight(D, at + out_width))
                    add_pair(low, r, pairs(load(four, 0, 4 * lanes), 2), weight(D, at + out_width * 2))
                    add_pair(high, r, pairs(load(four, 0, 4 * lanes), 2), weight(D, at + out_width * 3))
            packed[span(0, 4 * lanes)] = lines(isa.pack_u8([scaled(low, high, min(r, rows - 1), lanes) for r in range(4)]))
            for r in T.unroll(rows):
                at = T.meta_var((r * out_width + o) * 3)
                if o * 3 + 4 * step <= out_width * 3:
                    Y[span(at, 4 * step)] = load(packed, r * 4 * step, 4 * step)
                else:
                    Y[span(at, 2 * step)] = load(packed, r * 4 * step, 2 * step)
                    Y[span(at + 2 * step, step)] = load(packed, r * 4 * step + 2 * step, step)

    return function


def resize_horizontal_edge(_isa: Isa) -> PrimFunc:
    """Outputs [begin, end) of one row, a byte at a time."""

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
            for c in T.unroll(3):
                acc = T.alloc_buffer((1,), "int32", scope="local")
                acc[0] = HALF
                for t in range(taps):
                    acc[0] = acc[0] + T.Cast("int32", X[(T.Cast("int64", F[o]) + t) * 3 + c]) * W[o * taps + t]
                Y[o * 3 + c] = to_u8(T.shift_right(acc[0], T.int32(PRECISION)), 1)

    return function


def resize_vertical(isa: Isa) -> PrimFunc:
    """Output row `row` in spans of 4 * lanes bytes; the last one ends at `width` (overlaps: same values)."""
    lanes = isa.lanes
    reach = 4 * lanes

    def add_pair(low: Buffer, high: Buffer, rows: Sequence[Expr], weights: Sequence[Expr]) -> None:
        pairs = zip_pairs(*rows, lanes)
        for acc, weight in zip((low, high), weights, strict=True):
            for j, pair in enumerate(pairs):
                T.buffer_store(acc, isa.dot2(load(acc, j * lanes, lanes), pair, splat(weight, lanes)), [span(j * lanes, lanes)])

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        digits: T.handle("int32"),
        taps: T.int64,
        width: T.int64,
        out_height: T.int64,
        row: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((taps * width,), "uint8", data=x, align=1)
        Y = T.decl_buffer((width,), "uint8", data=y, align=1)
        D = T.decl_buffer(((taps + 3) // 4 * 4 * out_height,), "int32", data=digits, align=4)
        low = T.alloc_buffer((reach,), "int32", scope="local")
        high = T.alloc_buffer((reach,), "int32", scope="local")
        for s in range((width + (reach - 1)) // reach):
            at = T.meta_var(T.min(s * reach, width - reach))
            for v in T.unroll(4):
                low[span(v * lanes, lanes)] = splat(T.int32(0), lanes)
                high[span(v * lanes, lanes)] = splat(T.int32(HALF >> 16), lanes)
            for p in range((taps + 1) // 2):
                # The weight of a tap that is not there is 0: any row serves.
                rows = T.meta_var((load(X, p * 2 * width + at, reach), load(X, T.min(p * 2 + 1, taps - 1) * width + at, reach)))
                add_pair(low, high, rows, (D[p * 2 * out_height + row], D[(p * 2 + 1) * out_height + row]))
            Y[span(at, reach)] = isa.pack_u8([scaled(low, high, v, lanes) for v in range(4)])

    return function


def resize_vertical_byte(_isa: Isa) -> PrimFunc:
    """One output row, a byte at a time."""

    @T.prim_func
    def function(x: T.handle("uint8"), y: T.handle("uint8"), weights: T.handle("int32"), taps: T.int64, width: T.int64):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((taps * width,), "uint8", data=x, align=1)
        Y = T.decl_buffer((width,), "uint8", data=y, align=1)
        W = T.decl_buffer((taps,), "int32", data=weights, align=4)
        for i in range(width):
            acc = T.alloc_buffer((1,), "int32", scope="local")
            acc[0] = HALF
            for t in range(taps):
                acc[0] = acc[0] + T.Cast("int32", X[t * width + i]) * W[t]
            Y[i] = to_u8(T.shift_right(acc[0], T.int32(PRECISION)), 1)

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
                    inside = T.meta_var(T.if_then_else(py < rows, T.min(T.max(columns - g * patch, T.int64(0)), patch), T.int64(0)))
                    for px in range(inside):
                        Y[base + px] = L[c * TABLE + T.Cast("int64", X[(py * image_width + g * patch + px) * 3 + c])]
                    for px in range(patch - inside):
                        Y[base + inside + px] = L[c * TABLE + (TABLE - 1)]

    return function
