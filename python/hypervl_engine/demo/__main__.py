"""`python -m hypervl_engine.demo`: the demo model answers questions about pictures; exit code 1 if it answers badly."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time

from ..engine import load
from . import ask


def main() -> int:
    """Runs the demo and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m hypervl_engine.demo", description=__doc__)
    parser.add_argument("--seed", type=int, help=f"draw {ask.FRESH_IMAGES} fresh held-out pictures instead")
    parser.add_argument("--model", metavar="FOLDER", help="another checkpoint")
    parser.add_argument("--branch", help="vision branch (default: the checkpoint's)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object for each answer")
    options = parser.parse_args()
    started = time.perf_counter()
    engine = load(options.model, threads=options.threads)
    if not options.json:
        cpu = engine.info()["cpu"]
        seconds = time.perf_counter() - started
        print(f"model loaded in {seconds:.2f} s: {engine.model.threads} threads, {cpu['isa']}\n")
    items = ask.bundled() if options.seed is None else ask.fresh(options.seed)
    right = 0
    for answered in ask.ask(engine, items, options.branch):
        right += answered.right
        if options.json:
            shown = {"question": answered.item.question, "expected": answered.item.answer, "right": answered.right}
            print(json.dumps({**shown, **dataclasses.asdict(answered.result)}, ensure_ascii=False))
        else:
            print(ask.line(answered), flush=True)
    needed = len(items) if options.seed is None else ask.FRESH_SHARE * len(items)
    if not options.json:
        print(f"\n{right} of {len(items)} right" + ("" if right >= needed else f", {needed:g} needed"))
    return 0 if right >= needed else 1


if __name__ == "__main__":
    sys.exit(main())
