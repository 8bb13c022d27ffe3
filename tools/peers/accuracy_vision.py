"""Errors of vision features against float32 of the same dequantised weights, on images nobody calibrated with. Run by tools/bench_peers.py.

The weights have outlier channels: 1 % of every norm's weights are eight times as large (tools/reference.py), as trained towers have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import THREADS, serve

_SIDE, _HELD_OUT, _CALIBRATION = 256, 6, 12
Features = NDArray[np.float32]


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), branch, engine ("hypervl", "torch", "openvino"), setting. "error": median relative L2 of a token's features."""
    from tools.reference import relative_l2, siglip, write_random

    folder = Path(case["cache"]) / "outlier-towers"
    if case.get("prepare"):
        if not (folder / "config.json").exists():
            write_random(folder, vision="hypervl-1.8b")
        return {}
    import torch

    torch.set_num_threads(THREADS)
    held_out = [_image(seed) for seed in range(_HELD_OUT)]
    tower = siglip(folder, case["branch"])

    def float32() -> list[Features]:
        with torch.no_grad():
            return [tower(torch.from_numpy(_pixels(rgb))).last_hidden_state[0].numpy() for rgb in held_out]

    reference = float32()
    if case["engine"] == "hypervl":
        features, versions = _ours(folder, case["branch"], int(case["setting"][1:]), held_out)
    elif case["engine"] == "openvino":
        features, versions = _openvino(tower, case["setting"], held_out)
    else:
        tower = tower.to(torch.bfloat16)
        with torch.no_grad():
            outputs = [tower(torch.from_numpy(_pixels(rgb)).to(torch.bfloat16)).last_hidden_state for rgb in held_out]
        features, versions = [out[0].float().numpy() for out in outputs], {"torch": torch.__version__}
    errors = np.concatenate([relative_l2(ours, theirs) for ours, theirs in zip(features, reference, strict=True)])
    return {"error": float(np.median(errors)), "worst_error": float(errors.max()), "versions": versions}


def _image(seed: int) -> NDArray[np.uint8]:
    """(side, side, 3): flat squares under noise."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (_SIDE // 16, _SIDE // 16, 3)).repeat(16, 0).repeat(16, 1)
    return np.clip(squares + rng.integers(-20, 21, (_SIDE, _SIDE, 3)), 0, 255).astype(np.uint8)


def _pixels(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, side, side), normalised as SigLIP does."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(127.5) - np.float32(1)


def _ours(folder: Path, branch: str, bits: int, images: list[NDArray[np.uint8]]) -> tuple[list[Features], dict[str, str]]:
    import hypervl_engine

    engine = hypervl_engine.load(folder, threads=THREADS, activation_bits=bits, context_length=512, progress=False)
    session = engine.new_session()
    return [session.encode_tower(rgb, 1.0, branch)[0] for rgb in images], {}


def _openvino(tower: Any, setting: str, images: list[NDArray[np.uint8]]) -> tuple[list[Features], dict[str, str]]:
    import openvino
    import torch

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, pixel_values: Any) -> Any:
            return self.tower(pixel_values=pixel_values).last_hidden_state

    with torch.no_grad():
        model = openvino.convert_model(Features().eval(), example_input=torch.zeros(1, 3, _SIDE, _SIDE), input=[1, 3, _SIDE, _SIDE])
    if setting == "w8a8":
        import nncf

        samples = nncf.Dataset([_pixels(_image(1000 + seed)) for seed in range(_CALIBRATION)])
        model = nncf.quantize(model, samples, subset_size=_CALIBRATION, model_type=nncf.ModelType.TRANSFORMER, fast_bias_correction=True)
    precision = {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": THREADS, **precision})
    return [np.array(compiled([_pixels(rgb)])[0][0], np.float32) for rgb in images], {"openvino": openvino.__version__}


if __name__ == "__main__":
    serve(measure)
