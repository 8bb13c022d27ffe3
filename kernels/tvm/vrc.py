"""VRC layers (contract: kernels/vrc/vrc.h).

Every factory returns one PrimFunc for one target; sizes are run-time values. The functions are plain C functions:
pointers and integers, no packed arguments. Work is cut by the caller (kernels/vrc/tvm_body.h).
"""

# mypy: ignore-errors
# TVMScript is parsed, not run: annotations such as T.handle("uint8") mean nothing to a type checker.
from expressions import dword, load, load_i32, requantise, span, splat, to_u8
from targets import VRC_LANES, Isa
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

COLUMNS = 8  # output columns a depthwise row is walked in: their inputs stay in L1 while all channels pass


def pointwise(isa: Isa, pixels: int, blocks: int) -> PrimFunc:
    """`groups` times `pixels` consecutive pixels through a 1x1 convolution, `blocks` channel blocks at a time."""
    lanes = isa.lanes
    parts = VRC_LANES // lanes
    group_bytes = VRC_LANES * 4  # weights of one k group of one block

    @T.macro
    def tile(at, block, count, X, Y, E, W, B, M, S, in_stride, k_groups, channels, zero_point, has_residual, e_m, e_s):
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
        for p in T.unroll(pixels):
            for v in T.unroll(count):
                c = T.meta_var(block * VRC_LANES + v * lanes)
                o = T.meta_var((at + p) * channels + c)
                q = T.meta_var(
                    requantise(load(acc, (p * count + v) * lanes, lanes), load(M, c, lanes), load(S, c, lanes), lanes)
                    + splat(zero_point, lanes)
                )
                if has_residual != 0:
                    centred = T.meta_var(load_i32(E, o, lanes) - splat(T.int32(128), lanes))
                    extra = T.meta_var(requantise(centred, splat(e_m, lanes), splat(e_s, lanes), lanes))
                    Y[span(o, lanes)] = to_u8(q + extra, lanes)
                else:
                    Y[span(o, lanes)] = to_u8(q, lanes)

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
    ):
        X = T.decl_buffer((groups * pixels * in_stride,), "uint8", data=x, align=1)
        Y = T.decl_buffer((groups * pixels * channels,), "uint8", data=y, align=1)
        E = T.decl_buffer((groups * pixels * channels,), "uint8", data=e, align=1)
        W = T.decl_buffer((channels * k_groups * 4,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)
        wide = T.meta_var(channels // (VRC_LANES * blocks))
        for g in range(groups):
            for b in range(wide):
                tile(
                    g * pixels, b * blocks, blocks * parts, X, Y, E, W, B, M, S,
                    in_stride, k_groups, channels, zero_point, has_residual, e_m, e_s,
                )  # fmt: skip
            for b in range(channels // VRC_LANES - wide * blocks):
                tile(
                    g * pixels, wide * blocks + b, parts, X, Y, E, W, B, M, S,
                    in_stride, k_groups, channels, zero_point, has_residual, e_m, e_s,
                )  # fmt: skip

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
                                    ((row * stride - 1 + t // 3) * in_width + column * stride - 1 + t % 3) * channels
                                    + c,
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
                    Y[span((row * out_width + column) * channels + c, lanes)] = to_u8(
                        requantise(load(acc, 0, lanes), load(M, c, lanes), load(S, c, lanes), lanes), lanes
                    )

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
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((in_height * in_width * 3,), "uint8", data=x, align=1)
        Y = T.decl_buffer(((row + 1) * out_width * channels,), "uint8", data=y, align=1)
        W = T.decl_buffer((channels * 36,), "int8", data=w, align=1)
        B = T.decl_buffer((channels,), "int32", data=bias, align=4)
        M = T.decl_buffer((channels,), "int32", data=multiplier, align=4)
        S = T.decl_buffer((channels,), "int32", data=shift, align=4)
        rows_inside = T.meta_var(T.And(row >= 1, row * 2 + 1 < in_height))
        for v in range(channels // lanes):
            c = T.meta_var(v * lanes)
            base = T.meta_var(c // VRC_LANES * (9 * group_bytes) + c % VRC_LANES * 4)
            for column in range(out_width):
                acc = T.alloc_buffer((lanes,), "int32", scope="local")
                acc[span(0, lanes)] = load(B, c, lanes)
                # Three dwords a row read twelve bytes of which nine count: the fourth pixel must exist too.
                if rows_inside and column >= 1 and column * 2 + 2 < in_width:
                    for t in T.unroll(9):
                        acc[span(0, lanes)] = isa.dot4(
                            load(acc, 0, lanes),
                            dword(X, ((row * 2 - 1 + t // 3) * in_width + column * 2 - 1) * 3 + t % 3 * 4, lanes),
                            T.reinterpret(f"int32x{lanes}", load(W, base + t * group_bytes, lanes * 4)),
                        )
                else:
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
                                T.reinterpret(
                                    f"int32x{lanes}", load(W, base + (ky * 3 + j // 4) * group_bytes, lanes * 4)
                                ),
                            )
                Y[span((row * out_width + column) * channels + c, lanes)] = to_u8(
                    requantise(load(acc, 0, lanes), load(M, c, lanes), load(S, c, lanes), lanes), lanes
                )

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
