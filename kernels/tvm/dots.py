"""Integer dot products of linear and attention for any LLVM target (contracts: kernels/linear/linear.h, kernels/attention/attention.h).

Everything is brought to pairs of int16, whose products LLVM finds one instruction for (pmaddwd of SSE2; smlal, smlal2, addp of Arm):
weights, keys and values of bytes are taken apart into even and odd bytes, so each four values of K meet x in the order 0 2 1 3.
Scales, softmax and the rest in float are C++ (portable.cc of the folders): only there it is certain where fma is used.
"""

# mypy: ignore-errors
# TVMScript is parsed, not run: annotations such as T.handle("uint8") mean nothing to a type checker.
from expressions import dword, load, pairs_dot, span, splat
from tvm.script import tirx as T
from tvm.tirx import Expr, PrimFunc

ROWS = 32  # kLinearRowBlock of kernels/linear/linear.h
KEYS = 16  # kKvKeyBlock of kernels/kv_store/kv_store.h
LANES = 4  # int32 values of the 128 bits that every target has
ORDER = (0, 2, 1, 3, 4, 6, 5, 7)  # of each eight values of K


def _eight(value: int) -> Expr:
    return T.Broadcast(T.int16(value), 8)


def _even_bytes(words: Expr) -> Expr:
    return T.shift_right(T.shift_left(words, _eight(8)), _eight(8))


def _odd_bytes(words: Expr) -> Expr:
    return T.shift_right(words, _eight(8))


def widen_nibbles() -> PrimFunc:
    """A group of 4-bit weights as (K / 2, ROWS, 2) int16, less `offset` (ROWS, 2), for `vectors` vectors of 8 values of K."""

    @T.prim_func
    def function(w: T.handle("uint8"), offset: T.handle("int16"), out: T.handle("int16"), vectors: T.int64):
        T.func_attr({"tirx.noalias": True})
        W = T.decl_buffer((vectors * ROWS * 4,), "uint8", data=w, align=16)
        O = T.decl_buffer((ROWS * 2,), "int16", data=offset, align=16)
        Y = T.decl_buffer((vectors * ROWS * 8,), "int16", data=out, align=16)
        for j in range(vectors):
            for v in T.unroll(ROWS // LANES):
                words = T.meta_var(T.reinterpret("uint16x8", load(W, j * ROWS * 4 + v * 16, 16)))
                for i in T.unroll(4):  # values 0 2, 1 3, 4 6, 5 7
                    nibbles = T.meta_var(
                        T.bitwise_and(
                            T.shift_right(words, T.Broadcast(T.uint16(i % 2 * 8 + i // 2 * 4), 8)),
                            T.Broadcast(T.uint16(15), 8),
                        )
                    )
                    Y[span((j * 4 + i) * ROWS * 2 + v * 8, 8)] = T.reinterpret("int16x8", nibbles) - load(O, v * 8, 8)

    return function


def widen_bytes() -> PrimFunc:
    """The same of 8-bit weights, for `vectors` vectors of 4 values of K."""

    @T.prim_func
    def function(w: T.handle("uint8"), offset: T.handle("int16"), out: T.handle("int16"), vectors: T.int64):
        T.func_attr({"tirx.noalias": True})
        W = T.decl_buffer((vectors * ROWS * 4,), "uint8", data=w, align=16)
        O = T.decl_buffer((ROWS * 2,), "int16", data=offset, align=16)
        Y = T.decl_buffer((vectors * ROWS * 4,), "int16", data=out, align=16)
        for j in range(vectors):
            for v in T.unroll(ROWS // LANES):
                words = T.meta_var(T.reinterpret("int16x8", load(W, j * ROWS * 4 + v * 16, 16)))
                Y[span(j * 2 * ROWS * 2 + v * 8, 8)] = _even_bytes(words) - load(O, v * 8, 8)
                Y[span((j * 2 + 1) * ROWS * 2 + v * 8, 8)] = _odd_bytes(words) - load(O, v * 8, 8)

    return function


def widen_x(planes: int) -> PrimFunc:
    """`count` values of x (a multiple of 8) of each of `tokens` tokens as int16 in ORDER; a plane is `plane` bytes behind the first."""

    @T.prim_func
    def function(
        x: T.handle("uint8"), out: T.handle("int16"), count: T.int64, tokens: T.int64, row_bytes: T.int64, plane: T.int64
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((tokens * row_bytes,), "uint8", data=x, align=1)
        Y = T.decl_buffer((tokens * count,), "int16", data=out, align=16)
        for t in range(tokens):
            for i in range(count // 8):
                at = T.meta_var(t * row_bytes + i * 8)
                high = T.meta_var(T.Cast("int16x8", T.reinterpret("int8x8", load(X, at, 8))))
                low = T.meta_var(T.Cast("int16x8", load(X, at + plane, 8)))
                value = T.meta_var(T.shift_left(high, _eight(8)) + low if planes == 2 else high)
                Y[span(t * count + i * 8, 8)] = T.Shuffle([value], [T.int32(k) for k in ORDER])

    return function


def linear_dots() -> PrimFunc:
    """(tokens, ROWS) int32 dots of x (tokens, 2 * pairs) and w (pairs, ROWS, 2)."""
    count = ROWS // LANES

    @T.prim_func
    def function(x: T.handle("int16"), w: T.handle("int16"), out: T.handle("int32"), pairs: T.int64, tokens: T.int64):
        T.func_attr({"tirx.noalias": True})
        X = T.decl_buffer((tokens * pairs * 2,), "int16", data=x, align=4)
        W = T.decl_buffer((pairs * ROWS * 2,), "int16", data=w, align=16)
        Y = T.decl_buffer((tokens * ROWS,), "int32", data=out, align=16)
        for t in range(tokens):
            acc = T.alloc_buffer((ROWS,), "int32", scope="local")
            for v in T.unroll(count):
                acc[span(v * LANES, LANES)] = splat(T.int32(0), LANES)
            for p in range(pairs):
                for v in T.unroll(count):
                    acc[span(v * LANES, LANES)] = load(acc, v * LANES, LANES) + pairs_dot(
                        dword(X, (t * pairs + p) * 2, LANES), load(W, p * ROWS * 2 + v * 8, 8), LANES
                    )
            for v in T.unroll(count):
                Y[span(t * ROWS + v * LANES, LANES)] = load(acc, v * LANES, LANES)

    return function
