"""A photo of 12 megapixels to normalised tiles: our engine, or transformers' functions on Pillow and numpy. Run by tools/bench_peers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import THREADS, serve
from tools.experiments.machine import measure_runs

_HEIGHT, _WIDTH, _SCALE, _TILE = 3000, 4000, 0.5, 256


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: engine ("hypervl", "pillow"), checkpoint (of ours). From decoded pixels on; decoding a JPEG is Pillow's work for both."""
    # Noise over a slow gradient; what the pixels are does not change what is done with them.
    ramp = np.linspace(0, 200, _WIDTH, dtype=np.float32)[None, :, None]
    photo = (ramp + np.random.default_rng(0).integers(0, 56, (_HEIGHT, _WIDTH, 3))).astype(np.uint8)
    run, versions = _ours(Path(case["checkpoint"]), photo) if case["engine"] == "hypervl" else _pillow(photo)
    run()
    measured = measure_runs(run, seconds=6.0, most=9)
    return {"ms": measured["latency_ms"], "noisy": measured["noisy"], "versions": versions}


def _ours(checkpoint: Path, photo: Any) -> tuple[Any, dict[str, str]]:
    """Milliseconds of resizing and of cutting tiles into normalised patches, as the session itself measures them."""
    import hypervl_engine

    engine = hypervl_engine.load(checkpoint, threads=THREADS, progress=False)
    session = engine.new_session()
    if engine.config.tiling.tile_size != _TILE:
        raise ValueError(f"the checkpoint's tiles are {engine.config.tiling.tile_size} pixels wide: expected {_TILE}")

    def run() -> float:
        session.reset_stats()
        session.start_trace()
        session.encode(photo, _SCALE, "base")
        events = [event for _, program in session.take_trace() for event in program]
        cutting = sum(event["duration_us"] for event in events if event["kind"] in ("patchify", "quantize_i16"))
        return float(session.stats()["preprocess_ms"]) + cutting / 1e3

    return run, {}


def _pillow(photo: Any) -> tuple[Any, dict[str, str]]:
    import PIL
    import transformers
    from PIL import Image
    from transformers.image_transforms import normalize, rescale, resize

    height, width = round(_HEIGHT * _SCALE), round(_WIDTH * _SCALE)
    rows, cols = -(-height // _TILE), -(-width // _TILE)

    def run() -> None:
        pixels = resize(
            photo, (height, width), resample=Image.Resampling.BICUBIC, data_format="channels_last", input_data_format="channels_last"
        )
        pixels = rescale(pixels, 1 / 255, data_format="channels_last", input_data_format="channels_last")
        pixels = normalize(pixels, 0.5, 0.5, data_format="channels_first", input_data_format="channels_last")
        padded = np.zeros((3, rows * _TILE, cols * _TILE), np.float32)
        padded[:, :height, :width] = pixels
        np.ascontiguousarray(padded.reshape(3, rows, _TILE, cols, _TILE).transpose(1, 3, 0, 2, 4))

    return run, {"pillow": PIL.__version__, "transformers": transformers.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    serve(measure)
