"""Digests of what the kernels and the demo model compute, to compare processors: `python -m tools.digests [VARIANT...]`.

One JSON object: {variant: {kernel call: sha256}, "demo": {setting: {question: [answer, sha256 of the logits]}}}, of the variants named
(all that this processor has, when none is) and of the demo under the one in use (`HVL_FORCE_ISA`), in 16 and 8 bits and in integers
("hexagon-ref"). Operands come from fixed seeds through numpy's generators and exact arithmetic alone, which give the same bits
everywhere; libm does not. Needs the test module (_testing).
tests/test_arm.py compares an emulated Arm processor with this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypervl_engine import _core, _testing, load
from hypervl_engine.demo import ask
from numpy.typing import NDArray

_Calls = Iterator[tuple[str, Callable[[], Any]]]


def _floats(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Magnitudes over several powers of two, exact in float32."""
    return (rng.integers(-(1 << 20), 1 << 20, shape) * 2.0 ** rng.integers(-22, -16, shape)).astype(np.float32)


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _linear(rng: np.random.Generator, variant: str, tokens: int, x_bits: int, bits: int, group: int, zero_points: bool) -> str:
    rows, cols, limit = 75, 300, 1 << (bits - 1)
    groups = -(-cols // group)
    weight = rng.integers(-limit, limit, (rows, cols), np.int8)
    scales = (rng.integers(1, 1 << 10, (rows, groups)) / 4096).astype(np.float32)
    zeros = rng.integers(-limit, limit, (rows, groups), np.int8) if zero_points else None
    packed = _testing.pack_linear(weight, scales, bits, group, 16 if group == 128 else 32, zero_points=zeros)
    x = _testing.quantize(_floats(rng, tokens, cols), group, x_bits, variant)
    out = np.zeros((tokens, rows), np.float32)
    bias, residual = _floats(rng, rows), _floats(rng, tokens, rows)
    _testing.linear(*x, cols, x_bits, packed, rows, bits, group, 16 if group == 128 else 32, bias, residual, out, variant)
    return _digest(*x, out)


def _attention(rng: np.random.Generator, variant: str, rows: int, keys: int, heads: int, head_dim: int, kv_bits: int, x_bits: int) -> str:
    causal = rows < keys
    q, k, v = _floats(rng, rows, heads * head_dim), _floats(rng, keys, head_dim), _floats(rng, keys, head_dim)
    k_cache, v_cache = np.zeros((2, 1, -(-keys // 16), _testing.kv_block_bytes(head_dim, kv_bits)), np.uint8)
    _testing.kv_store(variant, k, v, 0, k_cache, v_cache, head_dim, kv_bits)
    out = np.empty_like(q)
    position = keys - rows if causal else 0
    _testing.attention(variant, q, k_cache, v_cache, head_dim, kv_bits, x_bits, heads, position, keys, causal, 0.125, out)
    return _digest(k_cache, v_cache, out)


def _calls(variant: str) -> _Calls:
    """Name and call of each case; every one draws from a generator of its own."""
    for tokens in (1, 2, 5, 8, 19):
        for x_bits in (16, 8):
            for bits in (4, 8):
                for group, zero_points in ((32, False), (64, True), (128, False), *([(256, False)] if bits == 8 else [])):
                    name = f"linear W{bits}A{x_bits} tokens {tokens} group {group}{' zero points' if zero_points else ''}"
                    yield name, lambda rng, a=(tokens, x_bits, bits, group, zero_points): _linear(rng, variant, *a)
    for kv_bits, x_bits in ((16, 16), (8, 16), (8, 8)):
        for rows, keys, heads, head_dim in ((1, 700, 2, 64), (37, 37, 1, 72), (21, 300, 2, 128)):
            name = f"attention KV{kv_bits} A{x_bits} {rows} x {keys}, {heads} heads of {head_dim}"
            yield name, lambda rng, a=(rows, keys, heads, head_dim, kv_bits, x_bits): _attention(rng, variant, *a)

    def elementwise(rng: np.random.Generator, call: Callable[[NDArray[np.float32], NDArray[np.float32]], object]) -> str:
        x = _floats(rng, 7, 203)
        out = np.empty_like(x)
        call(x, out)
        return _digest(out)

    weight = (np.arange(203) / 64 - 1).astype(np.float32)
    for name in ("gelu_tanh", "gelu_erf", "silu", "quick_gelu", "relu"):
        yield name, lambda rng, name=name: elementwise(rng, lambda x, out: _testing.activation(variant, name, x, out))
    yield "silu_mul", lambda rng: elementwise(rng, lambda x, out: _testing.silu_mul(variant, x, x, out))
    yield "layer norm", lambda rng: elementwise(rng, lambda x, out: _testing.norm(variant, x, weight, weight, 1e-6, out))
    yield "rms norm", lambda rng: elementwise(rng, lambda x, out: _testing.norm(variant, x, weight, None, 1e-6, out))


def kernels(variant: str) -> dict[str, str]:
    """Digests of the kernels' results, by case."""
    return {name: call(np.random.default_rng(number)) for number, (name, call) in enumerate(_calls(variant))}


class _Recorder:
    """A session that keeps a digest of the logits from which tokens were sampled."""

    def __init__(self, session: Any) -> None:
        self._session, self.digest = session, hashlib.sha256()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def sample(self, **options: Any) -> Any:
        self.digest.update(self._session.last_logits().tobytes())
        return self._session.sample(**options)


def demo(questions: int | None = None, **options: Any) -> dict[str, list[str]]:
    """The demo's answers, and a digest of all logits on the way to each. options: of `load`."""
    engine = load(progress=False, **options)
    recorders: list[_Recorder] = []
    new_session = engine.new_session

    def recorded() -> Any:
        recorders.append(_Recorder(new_session()))
        return recorders[-1]

    engine.new_session = recorded  # type: ignore[method-assign]
    found = {}
    for answered in ask.ask(engine, ask.bundled()[:questions]):
        digest = recorders[-1].digest.hexdigest()[:16]
        found[f"{answered.item.name}: {answered.item.question}"] = [answered.result.text, digest]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=_core.cpu_info()["available"])
    parser.add_argument("--questions", type=int, help="of the demo, instead of all")
    options = parser.parse_args()
    found: dict[str, Any] = {variant: kernels(variant) for variant in options.variants}
    demos = {str(bits): demo(options.questions, activation_bits=bits, kv_bits=bits) for bits in (16, 8)}
    demos["hexagon-ref"] = demo(options.questions, device="hexagon-ref")
    print(json.dumps({**found, "demo": demos}, indent=1))


if __name__ == "__main__":
    main()
