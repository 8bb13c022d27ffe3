"""MobileNetV2-1.0 on 224 x 224 pixels in one thread: our integer VRC, or torch eager in float32. Run by tools/bench_peers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import serve
from tools.experiments.machine import measure_runs

SIDE = 224
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # t, c, n, s
_BATCH = 20  # images a sample


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: engine ("hypervl", "torch"), checkpoint (of ours)."""
    run, versions = _ours(Path(case["checkpoint"])) if case["engine"] == "hypervl" else _torch()

    def batch() -> None:
        for _ in range(_BATCH):
            run()

    batch()
    measured = measure_runs(batch, seconds=4.0, most=9)
    return {"ms": measured["latency_ms"] / _BATCH, "noisy": measured["noisy"], "versions": versions}


def _ours(checkpoint: Path) -> tuple[Any, dict[str, str]]:
    import hypervl_engine

    session = hypervl_engine.load(checkpoint, threads=1, progress=False).new_session()
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return lambda: session.vrc_scale(rgb), {}


def _torch() -> tuple[Any, dict[str, str]]:
    import torch
    from torch import nn

    torch.set_num_threads(1)

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int, active: bool) -> list[nn.Module]:
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        return [*layers, nn.ReLU6(inplace=True)] if active else layers

    class Residual(nn.Module):
        def __init__(self, *layers: nn.Module) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Any) -> Any:
            return x + self.layers(x)

    layers: list[nn.Module] = convolution(3, 32, 3, 2, 1, True)
    channels = 32
    for expansion, outputs, repeats, first_stride in _BLOCKS:
        for repeat in range(repeats):
            stride, inner = first_stride if repeat == 0 else 1, channels * expansion
            block = convolution(channels, inner, 1, 1, 1, True) if expansion > 1 else []
            block += [*convolution(inner, inner, 3, stride, inner, True), *convolution(inner, outputs, 1, 1, 1, False)]
            layers.append(Residual(*block) if stride == 1 and channels == outputs else nn.Sequential(*block))
            channels = outputs
    layers += [*convolution(channels, 1280, 1, 1, 1, True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    network = nn.Sequential(*layers).eval()
    x = torch.randn(1, 3, SIDE, SIDE)

    def run() -> None:
        with torch.inference_mode():
            network(x)

    return run, {"torch": torch.__version__}


if __name__ == "__main__":
    serve(measure)
