"""Draws docs/plan_tile.svg: what a Large tile's plan looks like on a Hexagon target. python tools/plan_picture.py CHECKPOINT FILE.svg"""

from __future__ import annotations

import argparse
from pathlib import Path

import hypervl_engine
from hypervl_engine.memory_map import Panel, memory_map
from hypervl_engine.plan_view import heading, notes, stage_title, with_events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder of a model of the 1.8B shape")
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    plan = hypervl_engine.load(args.checkpoint, threads=2, progress=False).plan((1024, 768), target="hexagon-v73", branch="large")
    stages = zip(plan.stages, with_events(plan), strict=True)
    panels = [Panel(stage_title(stage, report), report) for stage, report in stages if stage.name.startswith("tile")]
    args.file.write_text(memory_map(heading(plan), notes(plan), panels))


if __name__ == "__main__":
    main()
