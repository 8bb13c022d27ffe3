"""Rates of the Hexagon presets from packets that were counted under emulation: `python -m tools.hexagon.rates [--write]`.

Runs each HVX kernel at some shapes in the test server, fits what the cost model needs (csrc/schedule/cost.cc) to the packets as
`hypervl-engine calibrate` does to times, and turns packets into cycles by `CYCLES_PER_PACKET`, which is assumed. --write puts the rates
into python/hypervl_engine/hardware/presets. Packets are the same at every run; those of v68 stand for all architectures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from hypervl_engine.hardware.calibrate import fit_rates
from hypervl_engine.hardware.spec import Figure, HardwareSpec
from numpy.typing import NDArray

from tools.hexagon import elementwise
from tools.hexagon.attention import random_attention
from tools.hexagon.client import ROOT, Counts, TestServer
from tools.hexagon.kv_store import random_kv_store
from tools.hexagon.linear_operands import random_linear
from tools.hexagon.rope import random_rope
from tools.hexagon.row_operands import embed, quantize

CYCLES_PER_PACKET = 2.0
SOURCE = (
    "packets counted under qemu-hexagon (python -m tools.hexagon.rates), at the 2 cycles a packet that others measured on one device"
)
PRESETS = ROOT / "python" / "hypervl_engine" / "hardware" / "presets"
TOKEN_TILE = 4  # kernels/linear/hexagon_body.h
Amounts = dict[str, float]


def _linear(server: TestServer, rng: np.random.Generator) -> dict[str, float]:
    amounts: list[Amounts] = []
    packets = []
    shapes = [(bits, x_bits, group) for x_bits in (16, 8) for bits, group in ((4, 128), (4, 32), (8, 128), (8, 512))]
    for bits, x_bits, group in shapes:
        for tokens in (1, 3, 4, 16):
            rows, cols = 256, 1024
            call = random_linear(rng, tokens, rows, cols, bits, group, x_bits=x_bits)
            packets.append(float(call.run(server, "linear_hvx")[1].packets))
            weights = rows * cols
            amounts.append({
                f"macs_w{bits}a{x_bits}": weights * tokens,
                f"unpack_w{bits}": weights * -(-tokens // TOKEN_TILE),
                "scales": rows * tokens * cols / group,
            })  # fmt: skip
    return fit_rates(amounts, packets)


def _attention(server: TestServer, rng: np.random.Generator) -> dict[str, float]:
    amounts: list[Amounts] = []
    packets = []
    shapes = [(64, 2, 1, 256, 256, False), (72, 1, 1, 64, 256, False)]
    shapes += [(128, 1, 2, 32, 512, True), (128, 1, 2, 128, 1024, True), (128, 1, 2, 1, 1024, True)]
    for head_dim, kv_heads, group, rows, keys, causal in shapes:
        call = random_attention(
            rng, head_dim=head_dim, kv_heads=kv_heads, group=group, rows=rows, position=keys - rows, key_end=keys, causal=causal
        )
        packets.append(float(call.run(server, "attention_hvx")[1].packets))
        pairs = (rows * keys + causal * rows * (min(32, 2 * rows) - (rows - 1) / 2)) * kv_heads * group  # visible_pairs in cost.cc
        amounts.append({"macs_attention_a16": 2 * head_dim * pairs, "exps_attention": pairs})
    rates = fit_rates(amounts, packets)
    return {**rates, "macs_attention_a8": rates["macs_attention_a16"]}  # queries and weights have 16 bits there whatever activations have


def _elementwise(server: TestServer, rng: np.random.Generator) -> dict[str, float]:
    def values(*shape: int) -> NDArray[np.int32]:
        return rng.integers(-(1 << 18), 1 << 18, shape, np.int32)

    def rate(elements: float, counts: Counts) -> float:
        return elements / counts.packets

    def mean(*rates: float) -> float:
        return float(np.exp(np.mean(np.log(rates))))

    def norm(rows: int, cols: int, layer: bool) -> float:
        weight = ((rng.integers(1 << 14, 1 << 15, cols) << 16) | (-14 & 0xFFFF)).astype(np.int32)
        return rate(rows * cols, elementwise.Norm(values(rows, cols), weight, values(cols), 1e-6, layer).run(server, "hvx")[1])

    def quantized(cols: int, group: int) -> float:
        return rate(8 * (cols + cols // group * 100), quantize(server, "quantize_hvx", values(8, cols), group, 16)[1])

    def rotated(rows: int, heads: int, normed: bool) -> float:
        call = random_rope(rng, head_dim=128, heads=heads, rows=rows, normed=normed)
        return rate(rows * heads * 128, call.run(server, "rope_hvx")[1])

    def stored(rows: int, heads: int, head_dim: int, position: int) -> float:
        call = random_kv_store(rng, head_dim=head_dim, kv_heads=heads, rows=rows, position=position)
        return rate(2 * (rows + (8 if position else 0)) * heads * head_dim, call.run(server, "kv_store_hvx")[1])

    def embedded(group: int) -> float:
        rows, cols = 16, 1536
        weight, scales = rng.integers(-8, 8, (64, cols), np.int8), rng.uniform(0.001, 0.01, (64, cols // group)).astype(np.float16)
        ids = rng.integers(0, 64, rows, np.int32)
        return rate(rows * cols, embed(server, "embed_hvx", ids, weight, scales, None, 4, group)[1])

    def activated(kind: str) -> float:
        return rate(4 * 3072, elementwise.activation(server, "hvx", kind, values(4, 3072), elementwise.Rows())[1])

    patch = 16
    image, table = rng.integers(0, 256, (4 * patch, 8 * patch, 3), np.uint8), rng.integers(-32768, 32768, (3, 257), np.int16)
    patches = elementwise.Patches(image, table, (0, 0), (4, 8), patch)
    return {
        "norm": mean(norm(16, 2048, False), 1.5 * norm(16, 1024, True)),  # cost.cc counts a LayerNorm 1.5 times
        "quantize": mean(*(quantized(1536, group) for group in (128, 512))),
        "activation": mean(activated("gelu_tanh"), activated("silu")),
        "silu_mul": rate(4 * 3072, elementwise.silu_mul(server, "hvx", values(4, 3072), values(4, 3072), elementwise.Rows())[1]),
        "rope": mean(rotated(16, 16, True), rotated(1, 16, True)),
        "kv_store": mean(stored(256, 2, 64, 0), stored(32, 2, 128, 0), stored(1, 2, 128, 21)),
        "embed": mean(embedded(128), embedded(32)),
        "patchify": rate(4 * 8 * 3 * patch**2, patches.run(server, "hvx")[1]),
        "copy": rate(4 * 4 * 1024, elementwise.pixel_shuffle(server, "hvx", values(4, 4, 1024), 2, (0, 4), (0, 0))[1]),
    }  # fmt: skip


KERNELS: tuple[Callable[[TestServer, np.random.Generator], dict[str, float]], ...] = (_linear, _attention, _elementwise)


def rates(server: TestServer) -> dict[str, float]:
    """By figure of a preset: amounts a packet."""
    rng = np.random.default_rng(0)
    found: dict[str, float] = {}
    for kernel in KERNELS:
        found |= kernel(server, rng)
    return found


def figures(found: dict[str, float]) -> dict[str, Figure]:
    """What goes into the presets."""
    figures = {name: Figure(float(f"{value / CYCLES_PER_PACKET:.3g}"), SOURCE, "emulated") for name, value in found.items()}
    tile = Figure(TOKEN_TILE, "tokens that share a block's unpacked weights: kernels/linear/hexagon_body.h", "emulated")
    return {**figures, "token_tile_a16": tile, "token_tile_a8": tile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into the presets")
    options = parser.parse_args()
    with TestServer(ROOT / 'build' / 'hexagon') as server:
        found = figures(rates(server))
    for name, figure in found.items():
        print(f"{name:20} {figure.value:g} a cycle and context")
    if options.write:
        for path in sorted(PRESETS.glob("hexagon-*.json")):
            HardwareSpec.load(path).with_figures(found).save(path)


if __name__ == "__main__":
    main()
