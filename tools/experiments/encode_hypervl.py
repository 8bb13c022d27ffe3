"""One measurement of this engine: encoding a square image. Run by tile_memory_profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import THREADS, serve
from tools.experiments.machine import measure_runs
from tools.experiments.vision_shapes import PATCH


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: checkpoint, precision ("a16", "a8"), branch, image (side in pixels), tile (side in pixels; None: the whole image is one)."""
    import hypervl_engine

    unit = 2 * PATCH
    image = int(case["image"])
    tile = case["tile"] or -(-image // unit) * unit
    bits = int(case["precision"][1:])
    engine = hypervl_engine.load(Path(case["checkpoint"]), threads=THREADS, activation_bits=bits, tile_size=tile, progress=False)
    rgb = np.random.default_rng(0).integers(0, 256, (image, image, 3), dtype=np.uint8)
    # A session of its own faults the weights in, so that what follows counts activations only.
    engine.new_session().encode(rgb[:unit, :unit].copy(), 1.0, case["branch"])

    session = engine.new_session()

    def encode() -> float:
        session.reset_stats()
        session.encode(rgb, 1.0, case["branch"])
        return float(session.stats()["encode_ms"])

    measured = measure_runs(encode)
    layout = engine.model.plan_image(image, image, 1.0)
    stats = session.stats()
    return {
        **measured,
        "tiles": layout["tiles"],
        "project_ms": stats["project_ms"],
        "preprocess_ms": stats["preprocess_ms"],
        "activation_bytes": stats["arena_bytes"],  # fast memory at its highest, the DDR arena, the session's blocks
        "fast_peak_bytes": stats["fast_peak_bytes"],
        "image_bytes": stats["image_bytes"],
        "output_bytes": layout["visual_tokens"] * engine.config.text_config.hidden_size * 4 * 2,  # the engine's own, and numpy's copy
    }


if __name__ == "__main__":
    serve(measure)
