"""VRC layers (contract: kernels/vrc/vrc.h).

Every factory returns one PrimFunc for one target; sizes are run-time values. The functions are plain C functions:
pointers and integers, no packed arguments. Work is cut by the caller (kernels/vrc/tvm_body.h).
"""

# mypy: ignore-errors
# TVMScript is parsed, not run: annotations such as T.handle("uint8") mean nothing to a type checker.
from collections.abc import Sequence

from expressions import (
    dword,
    in_order,
    load,
    load_i32,
    load_quads,
    prepare_requantise,
    requantise,
    requantise_high,
    requantise_prepared,
    shuffle,
    span,
    splat,
    to_u8,
    vector,
    zip_bytes,
)
from targets import VRC_LANES, Isa
from tvm.script import tirx as T
from tvm.tirx import Buffer, Expr, PrimFunc

STRETCH = 16  # groups of pixels that pass through all channel blocks while they are in L1
COLUMNS = 8  # output columns a depthwise row is walked in: their inputs stay in L1 while all channels pass


def pack_four(isa: Isa, acc: Buffer, first: int, last: int = 3) -> Expr:
    """Vectors first .. first + 3 of acc, but at most `last`, to bytes."""
    return isa.pack_u8([load(acc, T.min(first + v, last) * isa.lanes, isa.lanes) for v in range(4)])


def pointwise(isa: Isa, pixels: int, blocks: int) -> PrimFunc:
    """`groups` times `pixels` consecutive pixels through a 1x1 convolution, `blocks` channel blocks (a power of 2) at a time.

    `high`: every shift is greater than 32, so that requantise_high does.
    """
    lanes = isa.lanes
    parts = VRC_LANES // lanes
    group_bytes = VRC_LANES * 4  # weights of one k group of one block

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        e: T.handle("uint8"),
        w: T.handle("int8"),
        bias: T.handle("int32"),
        multiplier: T.handle("int32"),
        shift: T.handle("int32"),
        groups: T.int64,
        in_stride: T.int64,
        k_groups: T.int64,
        channels: T.int64,
        zero_point: T.int32,
        has_residual: T.int32,
        e_m: T.int32,
        e_s: T.int32,
        high: T.int32,
    ):
        X = T.decl_buffer((groups * pixels * in_stride,), "uint8", data=x, align=1)
        Y = T.decl_buffer((groups * pixels * channels,), "uint8", data=y, align=1)
        E = T.decl_buffer((groups * pixels * channels,), "uint8", data=e, align=1)
        W = T.decl_buffer((channels * k_groups * 4,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)

        @T.inline
        def tile(at, pixels, block, count):
            acc = T.alloc_buffer((pixels * count * lanes,), "int32", scope="local")
            for p in T.unroll(pixels):
                for v in T.unroll(count):
                    acc[span((p * count + v) * lanes, lanes)] = load(B, block * VRC_LANES + v * lanes, lanes)
            for k in T.serial(k_groups):
                for p in T.unroll(pixels):
                    for v in T.unroll(count):
                        acc[span((p * count + v) * lanes, lanes)] = isa.dot4(
                            load(acc, (p * count + v) * lanes, lanes),
                            dword(X, (at + p) * in_stride + k * 4, lanes),
                            T.reinterpret(
                                f"int32x{lanes}",
                                load(
                                    W,
                                    ((block + v // parts) * k_groups + k) * group_bytes + v % parts * lanes * 4,
                                    lanes * 4,
                                ),
                            ),
                        )
            if high != 0:
                for i in T.unroll(pixels * count):
                    c = T.meta_var(block * VRC_LANES + i % count * lanes)
                    acc[span(i * lanes, lanes)] = requantise_high(load(acc, i * lanes, lanes), load(M, c, lanes), load(S, c, lanes), lanes)
            else:
                for i in T.unroll(pixels * count):
                    c = T.meta_var(block * VRC_LANES + i % count * lanes)
                    acc[span(i * lanes, lanes)] = requantise(load(acc, i * lanes, lanes), load(M, c, lanes), load(S, c, lanes), lanes)
            if has_residual != 0:
                for i in T.unroll(pixels * count):
                    o = T.meta_var((at + i // count) * channels + block * VRC_LANES + i % count * lanes)
                    # residual - 128 at the top of its lane: with 24 more to shift by, requantise_high serves any scale.
                    top = T.meta_var(T.shift_left(load_i32(E, o, lanes) - splat(T.int32(128), lanes), splat(T.int32(24), lanes)))
                    acc[span(i * lanes, lanes)] = load(acc, i * lanes, lanes) + requantise_high(
                        top, splat(e_m, lanes), splat(T.min(e_s + 24, 63), lanes), lanes
                    )
            for i in T.unroll(pixels * count):
                acc[span(i * lanes, lanes)] = load(acc, i * lanes, lanes) + splat(zero_point, lanes)
            # Four vectors at a time to bytes: a part of a pixel's channels, or all channels of the tile of several pixels.
            for i in T.unroll((pixels * count + 3) // 4):
                packed = T.alloc_buffer((4 * lanes,), "uint8", scope="local")
                packed[span(0, 4 * lanes)] = in_order(pack_four(isa, acc, i * 4, pixels * count - 1), lanes)
                run = T.meta_var(min(count, 4) * lanes)  # bytes that lie together in the output
                for j in T.unroll(min(4, pixels * count) * lanes // run):
                    at_byte = T.meta_var(i * 4 * lanes + j * run)  # of the tile
                    o = T.meta_var((at + at_byte // (count * lanes)) * channels + block * VRC_LANES + at_byte % (count * lanes))
                    Y[span(o, run)] = load(packed, j * run, run)

        @T.inline
        def tiles(stretch, block, count):
            """As many sums as with `blocks` blocks: groups of pixels together where there are fewer."""
            together = T.meta_var(blocks // count)
            left = T.meta_var(T.min(groups - stretch * STRETCH, T.int64(STRETCH)))
            for g in range(left // together):
                tile((stretch * STRETCH + g * together) * pixels, pixels * together, block, count * parts)
            if together > 1:
                for g in range(left % together):
                    tile((stretch * STRETCH + left // together * together + g) * pixels, pixels, block, count * parts)

        for stretch in range((groups + (STRETCH - 1)) // STRETCH):
            for b in range(channels // (VRC_LANES * blocks)):
                tiles(stretch, b * blocks, blocks)
            if blocks > 2:  # noqa: SIM102 (decided here, not when it runs)
                if T.bitwise_and(channels // VRC_LANES, 2) != 0:
                    tiles(stretch, channels // (VRC_LANES * 4) * 4, 2)
            if blocks > 1:  # noqa: SIM102
                if T.bitwise_and(channels // VRC_LANES, 1) != 0:
                    tiles(stretch, channels // VRC_LANES - 1, 1)

    return function


def depthwise(isa: Isa) -> PrimFunc:
    """One output row `row` of a 3x3 depthwise convolution."""
    lanes = isa.lanes

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        w: T.handle("int8"),
        bias: T.handle("int32"),
        multiplier: T.handle("int32"),
        shift: T.handle("int32"),
        in_height: T.int64,
        in_width: T.int64,
        out_width: T.int64,
        channels: T.int64,
        stride: T.int64,
        zero_point: T.int32,
        row: T.int64,
        high: T.int32,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((in_height * in_width * channels,), "uint8", data=x, align=1)
        Y = T.decl_buffer(((row + 1) * out_width * channels,), "uint8", data=y, align=1)
        W = T.decl_buffer((channels * 9,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)
        rows_inside = T.meta_var(T.And(row * stride >= 1, row * stride + 1 < in_height))
        for stretch in range((out_width + (COLUMNS - 1)) // COLUMNS):
            for v in range(channels // lanes):
                c = T.meta_var(v * lanes)
                # Weights (block, tap, lane): the block's part v covers.
                base = T.meta_var(c // VRC_LANES * (9 * VRC_LANES) + c % VRC_LANES)
                taps = T.alloc_buffer((9 * lanes,), "int32", scope="local")
                for t in T.unroll(9):
                    taps[span(t * lanes, lanes)] = load_i32(W, base + t * VRC_LANES, lanes)
                for i in range(T.min(out_width - stretch * COLUMNS, T.int64(COLUMNS))):
                    column = T.meta_var(stretch * COLUMNS + i)
                    acc = T.alloc_buffer((lanes,), "int32", scope="local")
                    acc[span(0, lanes)] = load(B, c, lanes)
                    if rows_inside and column * stride >= 1 and column * stride + 1 < in_width:
                        for t in T.unroll(9):
                            acc[span(0, lanes)] = isa.multiply_add(
                                load(acc, 0, lanes),
                                load_i32(
                                    X,
                                    ((row * stride - 1 + t // 3) * in_width + column * stride - 1 + t % 3) * channels + c,
                                    lanes,
                                ),
                                load(taps, t * lanes, lanes),
                            )
                    else:
                        for t in T.unroll(9):
                            iy = T.meta_var(row * stride - 1 + t // 3)
                            ix = T.meta_var(column * stride - 1 + t % 3)
                            acc[span(0, lanes)] = isa.multiply_add(
                                load(acc, 0, lanes),
                                T.if_then_else(
                                    T.And(T.And(iy >= 0, iy < in_height), T.And(ix >= 0, ix < in_width)),
                                    load_i32(X, (iy * in_width + ix) * channels + c, lanes),
                                    splat(zero_point, lanes),
                                ),
                                load(taps, t * lanes, lanes),
                            )
                    scale = T.meta_var((load(M, c, lanes), load(S, c, lanes), lanes))
                    if high != 0:
                        acc[span(0, lanes)] = requantise_high(load(acc, 0, lanes), *scale)
                    else:
                        acc[span(0, lanes)] = requantise(load(acc, 0, lanes), *scale)
                    Y[span((row * out_width + column) * channels + c, lanes)] = to_u8(load(acc, 0, lanes), lanes)

    return function


def depthwise_wide(isa: Isa, stride: int) -> PrimFunc:
    """Output rows [begin, end) of channels [first, last) of a 3x3 depthwise convolution, whose shifts exceed 32.

    Works on 4 * lanes channels, at least so many, some of them twice where they do not divide. The three pixels of an input column are
    zipped once, and a dot4 takes all of them; sums of the outputs that a column belongs to wait for the next columns.
    """
    lanes = isa.lanes
    width = 4 * lanes
    parts = lanes // 4  # of 16 bytes, a channel block

    def weights(buffer: Buffer, channel: Expr, tap: int) -> Expr:
        base = channel * 9 + tap * VRC_LANES
        rows = [load(buffer, base + i * (9 * VRC_LANES), VRC_LANES) for i in range(parts)]
        return T.reinterpret(vector("uint8", width), shuffle(rows, range(width)))

    def quads(buffer: Buffer, channel: Expr) -> list[Expr]:
        """One value a channel, in the order of zip_bytes."""
        return [load_quads(buffer, channel + 4 * j, VRC_LANES, lanes) for j in range(4)]

    def set_table(table: Buffer, at: Expr, W: Buffer, B: Buffer, M: Buffer, S: Buffer, c: Expr) -> None:
        """Taps of the left, middle and right column, zipped like pixels; what sums start from; prepare_requantise."""
        nothing = splat(T.uint8(0), width)
        found = [zip_bytes([*(weights(W, c, 3 * ky + kx) for ky in range(3)), nothing], lanes) for kx in range(3)]
        found += [quads(B, c)]
        found += zip(*(prepare_requantise(*scale, lanes) for scale in zip(quads(M, c), quads(S, c), strict=True)), strict=True)
        for i, value in enumerate(value for vectors in found for value in vectors):
            T.buffer_store(table, T.reinterpret(vector("uint8", width), value), [span(at + i * width, width)])

    def constants(table: Buffer, at: Expr, place: int) -> list[Expr]:
        values = [load(table, at + (place * 4 + j) * width, width) for j in range(4)]
        return [T.reinterpret(vector("int32", lanes), value) for value in values]

    def vectors(buffer: Buffer) -> list[Expr]:
        return [load(buffer, j * lanes, lanes) for j in range(4)]

    def set_four(buffer: Buffer, values: Sequence[Expr]) -> None:
        for j, value in enumerate(values):
            T.buffer_store(buffer, value, [span(j * lanes, lanes)])

    def dot_four(acc: Sequence[Expr], pixels: Buffer, taps: Sequence[Expr]) -> list[Expr]:
        return [isa.dot4(*of_vector) for of_vector in zip(acc, vectors(pixels), taps, strict=True)]

    def finish(acc: Buffer, table: Buffer, at: Expr) -> Expr:
        prepared = [constants(table, at, place) for place in range(4, 8)]
        return isa.pack_u8([requantise_prepared(*of_vector, lanes) for of_vector in zip(vectors(acc), *prepared, strict=True)])

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        w: T.handle("int8"),
        bias: T.handle("int32"),
        multiplier: T.handle("int32"),
        shift: T.handle("int32"),
        in_height: T.int64,
        in_width: T.int64,
        out_width: T.int64,
        channels: T.int64,
        zero_point: T.int32,
        begin: T.int64,
        end: T.int64,
        first: T.int64,
        last: T.int64,
        table: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((in_height * in_width * channels,), "uint8", data=x, align=1)
        Y = T.decl_buffer((end * out_width * channels,), "uint8", data=y, align=1)
        W = T.decl_buffer((channels * 9,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)

        # Constants lie in memory of the caller's, `table` bytes from y. For all the compiler knows, each store to y may change them, and
        # so it reads them where they are. It would keep copies on the stack, and align those to 16 bytes only.
        C = T.decl_buffer((8 * 4 * width,), "uint8", data=y, align=1)
        ends = T.alloc_buffer((2 * width,), "uint8", scope="local")
        pixels = T.alloc_buffer((width,), "int32", scope="local")
        sums = T.alloc_buffer((width,), "int32", scope="local")
        later = T.alloc_buffer((width,), "int32", scope="local")
        done = T.alloc_buffer((width,), "int32", scope="local")

        nothing = T.meta_var(splat(T.uint8(0), width))
        padding = T.meta_var(splat(T.Cast("uint8", zero_point), width))

        @T.inline
        def zip_column(row, column, c):
            at = T.meta_var((row * in_width + column) * channels + c)
            line = T.meta_var(in_width * channels)
            ends[span(0, width)] = T.if_then_else(row >= 1, load(X, at - line, width), padding)
            ends[span(width, width)] = T.if_then_else(row + 1 < in_height, load(X, at + line, width), padding)
            set_four(pixels, zip_bytes([load(ends, 0, width), load(X, at, width), load(ends, width, width), nothing], lanes))

        for group in range((last - first + (width - 1)) // width):
            c = T.meta_var(T.min(first + group * width, last - width))
            set_table(C, table, W, B, M, S, c)

            for line in range(end - begin):
                row = T.meta_var((begin + line) * stride)

                set_four(pixels, zip_bytes([padding, padding, padding, nothing], lanes))
                set_four(sums, dot_four(constants(C, table, 3), pixels, constants(C, table, 0)))
                if stride == 1:
                    zip_column(row, T.int64(0), c)
                    set_four(sums, dot_four(vectors(sums), pixels, constants(C, table, 1)))
                    set_four(later, dot_four(constants(C, table, 3), pixels, constants(C, table, 0)))
                for i in range(out_width):
                    if stride == 2:
                        zip_column(row, i * 2, c)
                        set_four(sums, dot_four(vectors(sums), pixels, constants(C, table, 1)))
                    if i * stride + 1 < in_width:
                        zip_column(row, i * stride + 1, c)
                    else:
                        set_four(pixels, zip_bytes([padding, padding, padding, nothing], lanes))
                    set_four(done, dot_four(vectors(sums), pixels, constants(C, table, 2)))
                    if stride == 1:
                        set_four(sums, dot_four(vectors(later), pixels, constants(C, table, 1)))
                        set_four(later, dot_four(constants(C, table, 3), pixels, constants(C, table, 0)))
                    else:
                        set_four(sums, dot_four(constants(C, table, 3), pixels, constants(C, table, 0)))
                    Y[span(((begin + line) * out_width + i) * channels + c, width)] = finish(done, C, table)

    return function


def stem(isa: Isa) -> PrimFunc:
    """One output row `row` of the 3x3 stride 2 convolution of RGB pixels."""
    lanes = isa.lanes
    group_bytes = VRC_LANES * 4

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        y: T.handle("uint8"),
        w: T.handle("int8"),
        bias: T.handle("int32"),
        multiplier: T.handle("int32"),
        shift: T.handle("int32"),
        in_height: T.int64,
        in_width: T.int64,
        out_width: T.int64,
        channels: T.int64,
        row: T.int64,
        high: T.int32,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((in_height * in_width * 3,), "uint8", data=x, align=1)
        Y = T.decl_buffer(((row + 1) * out_width * channels,), "uint8", data=y, align=1)
        W = T.decl_buffer((channels * 36,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)
        # Columns 1 .. inner have all their pixels and the fourth of each row, too: nine bytes are read as three dwords.
        rows_inside = T.meta_var(T.And(row >= 1, row * 2 + 1 < in_height))
        inner = T.meta_var(T.if_then_else(T.And(rows_inside, in_width >= 11), (in_width - 1) // 2 - 1, T.int64(0)))

        @T.inline
        def rescale(acc, i, c):
            scale = T.meta_var((load(M, c, lanes), load(S, c, lanes), lanes))
            if high != 0:
                acc[span(i * lanes, lanes)] = requantise_high(load(acc, i * lanes, lanes), *scale)
            else:
                acc[span(i * lanes, lanes)] = requantise(load(acc, i * lanes, lanes), *scale)

        for v in range(channels // lanes):
            c = T.meta_var(v * lanes)
            base = T.meta_var(c // VRC_LANES * (9 * group_bytes) + c % VRC_LANES * 4)

            for quad in range((inner + 3) // 4):
                column = T.meta_var(T.min(quad * 4 + 1, inner - 3))
                four = T.alloc_buffer((4 * lanes,), "int32", scope="local")
                packed = T.alloc_buffer((4 * lanes,), "uint8", scope="local")
                for i in T.unroll(4):
                    four[span(i * lanes, lanes)] = load(B, c, lanes)
                for t in T.unroll(9):
                    for i in T.unroll(4):
                        at = T.meta_var(((row * 2 - 1 + t // 3) * in_width + (column + i) * 2 - 1) * 3 + t % 3 * 4)
                        taps = T.meta_var(T.reinterpret(f"int32x{lanes}", load(W, base + t * group_bytes, lanes * 4)))
                        four[span(i * lanes, lanes)] = isa.dot4(load(four, i * lanes, lanes), dword(X, at, lanes), taps)
                for i in T.unroll(4):
                    rescale(four, i, c)
                packed[span(0, 4 * lanes)] = in_order(pack_four(isa, four, 0), lanes)
                for i in T.unroll(4):
                    Y[span((row * out_width + column + i) * channels + c, lanes)] = load(packed, i * lanes, lanes)
            for column in range(out_width):
                if T.Or(column < 1, column > inner):
                    acc = T.alloc_buffer((lanes,), "int32", scope="local")
                    acc[span(0, lanes)] = load(B, c, lanes)
                    for ky in T.serial(3):
                        for j in T.unroll(9):
                            iy = T.meta_var(row * 2 - 1 + ky)
                            ix = T.meta_var(column * 2 - 1 + j // 3)
                            pixel = T.meta_var(
                                T.if_then_else(
                                    T.And(T.And(iy >= 0, iy < in_height), T.And(ix >= 0, ix < in_width)),
                                    T.Cast("int32", X[(iy * in_width + ix) * 3 + j % 3]),
                                    T.int32(128),
                                )
                            )
                            # One byte at its place in the dword; the others are 0.
                            acc[span(0, lanes)] = isa.dot4(
                                load(acc, 0, lanes),
                                splat(T.shift_left(pixel, T.Cast("int32", j % 4 * 8)), lanes),
                                T.reinterpret(f"int32x{lanes}", load(W, base + (ky * 3 + j // 4) * group_bytes, lanes * 4)),
                            )
                    rescale(acc, 0, c)
                    Y[span((row * out_width + column) * channels + c, lanes)] = to_u8(load(acc, 0, lanes), lanes)

    return function


def pool(isa: Isa) -> PrimFunc:
    """Channel vectors [begin, end) of the weighted mean over pixels."""
    lanes = isa.lanes

    @T.prim_func
    def function(
        x: T.handle("uint8"),
        weight: T.handle("uint8"),
        y: T.handle("uint8"),
        pixels: T.int64,
        channels: T.int64,
        weight_stride: T.int64,
        begin: T.int64,
        end: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((pixels * channels,), "uint8", data=x, align=1)
        W = T.decl_buffer((pixels * weight_stride,), "uint8", data=weight, align=1)
        Y = T.decl_buffer((channels,), "uint8", data=y, align=1)
        total = T.alloc_buffer((1,), "int32", scope="local")
        total[0] = 0
        for p in range(pixels):
            total[0] = total[0] + T.Cast("int32", W[p * weight_stride]) + 1
        for v in range((end - begin) * (VRC_LANES // lanes)):
            c = T.meta_var(begin * VRC_LANES + v * lanes)
            acc = T.alloc_buffer((lanes,), "int32", scope="local")
            acc[span(0, lanes)] = splat(T.truncdiv(total[0], 2), lanes)
            for p in range(pixels):
                acc[span(0, lanes)] = load(acc, 0, lanes) + load_i32(X, p * channels + c, lanes) * splat(
                    T.Cast("int32", W[p * weight_stride]) + 1, lanes
                )
            for i in T.serial(lanes):
                Y[c + i] = T.Cast("uint8", T.truncdiv(acc[i], total[0]))

    return function
