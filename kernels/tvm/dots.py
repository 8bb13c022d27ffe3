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
        Z = T.decl_buffer((ROWS * 2,), "int16", data=offset, align=16)
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
                    Y[span((j * 4 + i) * ROWS * 2 + v * 8, 8)] = T.reinterpret("int16x8", nibbles) - load(Z, v * 8, 8)

    return function


def widen_bytes() -> PrimFunc:
    """The same of 8-bit weights, for `vectors` vectors of 4 values of K."""

    @T.prim_func
    def function(w: T.handle("uint8"), offset: T.handle("int16"), out: T.handle("int16"), vectors: T.int64):
        T.func_attr({"tirx.noalias": True})
        W = T.decl_buffer((vectors * ROWS * 4,), "uint8", data=w, align=16)
        Z = T.decl_buffer((ROWS * 2,), "int16", data=offset, align=16)
        Y = T.decl_buffer((vectors * ROWS * 4,), "int16", data=out, align=16)
        for j in range(vectors):
            for v in T.unroll(ROWS // LANES):
                words = T.meta_var(T.reinterpret("int16x8", load(W, j * ROWS * 4 + v * 16, 16)))
                Y[span(j * 2 * ROWS * 2 + v * 8, 8)] = _even_bytes(words) - load(Z, v * 8, 8)
                Y[span((j * 2 + 1) * ROWS * 2 + v * 8, 8)] = _odd_bytes(words) - load(Z, v * 8, 8)

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


@T.macro
def _add_step(wide: bool, rows: int, acc, A, a_stride, a, B, b):
    """Dots of one vector of bytes or words for each row: values at `a` (+ row * a_stride) and the 64 bytes at `b` (in int16)."""
    for v in T.unroll(4):
        words = T.meta_var(load(B, b + v * 8, 8))
        for r in T.unroll(rows):
            at = T.meta_var(r * 16 + v * LANES)
            x = T.meta_var(dword(A, a + r * a_stride, LANES))
            if wide:
                y = T.meta_var(dword(A, a + r * a_stride + 2, LANES))
                acc[span(at, LANES)] = (
                    load(acc, at, LANES) + pairs_dot(x, _even_bytes(words), LANES) + pairs_dot(y, _odd_bytes(words), LANES)
                )
            else:
                acc[span(at, LANES)] = load(acc, at, LANES) + pairs_dot(x, words, LANES)


def qk(wide: bool, rows: int) -> PrimFunc:
    """scores (rows, KEYS) = the dots of q and a block of keys over `steps` vectors, added to what is there if not the first.

    Strides are in values.
    """
    step_values = 4 if wide else 2

    @T.prim_func
    def function(
        q: T.handle("int16"),
        k: T.handle("int16"),
        scores: T.handle("float32"),
        q_stride: T.int64,
        scores_stride: T.int64,
        steps: T.int64,
        first: T.int32,
    ):
        T.func_attr({"tirx.noalias": True})
        Q = T.decl_buffer((rows * q_stride,), "int16", data=q, align=4)
        K = T.decl_buffer((steps * 32,), "int16", data=k, align=16)
        S = T.decl_buffer((rows * scores_stride,), "float32", data=scores, align=16)
        acc = T.alloc_buffer((rows * 16,), "int32", scope="local")
        for v in T.unroll(rows * 4):
            acc[span(v * LANES, LANES)] = splat(T.int32(0), LANES)
        for s in range(steps):
            _add_step(wide, rows, acc, Q, q_stride, s * step_values, K, s * 32)
        for r in T.unroll(rows):
            for v in T.unroll(4):
                at = T.meta_var(r * scores_stride + v * LANES)
                dot = T.meta_var(T.Cast(f"float32x{LANES}", load(acc, r * 16 + v * LANES, LANES)))
                if first != 0:
                    S[span(at, LANES)] = dot
                else:
                    S[span(at, LANES)] = load(S, at, LANES) + dot

    return function


def pv(wide: bool, rows: int) -> PrimFunc:
    """dots (rows, 16) of the weights of `blocks` blocks of keys and sixteen values of d; `step`: bytes between the vectors of a block."""
    step_values = 4 if wide else 2
    steps = KEYS // step_values

    @T.prim_func
    def function(
        p: T.handle("int16"),
        v: T.handle("int16"),
        out: T.handle("int32"),
        p_stride: T.int64,
        block_bytes: T.int64,
        step: T.int64,
        blocks: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        P = T.decl_buffer((rows * p_stride,), "int16", data=p, align=4)
        V = T.decl_buffer((blocks * block_bytes // 2,), "int16", data=v, align=16)
        Y = T.decl_buffer((rows * 16,), "int32", data=out, align=16)
        acc = T.alloc_buffer((rows * 16,), "int32", scope="local")
        for i in T.unroll(rows * 4):
            acc[span(i * LANES, LANES)] = splat(T.int32(0), LANES)
        for b in range(blocks):
            for s in range(steps):
                _add_step(
                    wide, rows, acc, P, p_stride, b * KEYS + s * step_values, V, b * (block_bytes // 2) + s * (step // 2)
                )
        for i in T.unroll(rows * 4):
            Y[span(i * LANES, LANES)] = load(acc, i * LANES, LANES)

    return function
