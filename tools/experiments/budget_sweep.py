"""Time and traffic against the size of fast memory, and that results do not depend on it, bit for bit.

python -m tools.experiments.budget_sweep       measures what is not there yet, then writes docs/budget_sweep.md and .svg;
                                               fails where outputs differ between two budgets or devices
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tools.experiments.child import run_child
from tools.experiments.machine import MIB, wait_until_quiet
from tools.experiments.results import Record, ResultsFile
from tools.experiments.tile_memory_profile import REPOSITORY, commit
from tools.experiments.tile_memory_report import commits, number, processor, table

DEVICES = ("cpu", "cpu-staged")
BUDGETS_MIB = (0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16)
STAGES = ("base tile", "large tile", "prefill", "decode")


def cases() -> list[Record]:
    return [{"device": device, "budget": int(budget * MIB)} for budget in BUDGETS_MIB for device in DEVICES]


def different_outputs(results: ResultsFile) -> list[str]:
    """A line for each feasible case whose outputs are not those of the first one; empty when all agree."""
    hashes = [(case, result["sha256"]) for case in cases() if (result := results.get(case)) is not None and result["status"] == "ok"]
    lines = []
    for case, digest in hashes:
        if digest != hashes[0][1]:
            lines.append(f"{case['device']} with {case['budget']} bytes: {digest}, not {hashes[0][1]}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a model (default: one of the 1.8B shape with random weights is made)")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "experiments", help="for results and the checkpoint")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs", help="where the report goes")
    parser.add_argument("--report", action="store_true", help="only write the report from the results that are there")
    parser.add_argument("--fresh", action="store_true", help="forget all results first (after a change of the engine)")
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS", help="of one measurement")
    parser.add_argument("--quiet-wait", type=float, default=60, metavar="SECONDS", help="the longest wait for a quiet machine, each time")
    options = parser.parse_args()
    results = ResultsFile(options.folder / "budget_sweep.jsonl", fresh=options.fresh)
    if not options.report:
        from tools.experiments.checkpoints import full_checkpoint

        os.chdir(REPOSITORY)  # children find this package from here
        checkpoint = options.checkpoint or full_checkpoint(options.folder)
        for case in cases():
            if (known := results.get(case)) is not None and known["status"] in ("ok", "infeasible"):
                continue
            quiet = wait_until_quiet(options.quiet_wait)
            result = run_child("tools.experiments.run_budget", {**case, "checkpoint": str(checkpoint)}, time_limit_s=options.time_limit)
            when = {"when": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "commit": commit()}
            results.add(case, {**result, **quiet, **when})
            print(f"{case['device']}, {case['budget'] / MIB:g} MiB: {summary(result)}", file=sys.stderr, flush=True)
    write_report(results, options.docs)
    if different := different_outputs(results):
        sys.exit("outputs depend on the budget:\n" + "\n".join(different))


def summary(result: Record) -> str:
    """One line."""
    if result["status"] != "ok":
        return f"{result['status']}: {result.get('reason', '')}"
    times = ", ".join(f"{name} {stage['ms']:.1f} ms" for name, stage in result["stages"].items())
    return times + " (noisy)" * result["noisy"]


def write_report(results: ResultsFile, folder: Path) -> None:
    """Writes budget_sweep.md and .svg into `folder`."""
    done = [(case, result) for case in cases() if (result := results.get(case)) is not None]
    ok = [(case, result) for case, result in done if result["status"] == "ok"]
    if not ok:
        raise SystemExit("nothing is measured yet")
    same = "identical bit for bit" if not different_outputs(results) else "**not identical**"
    when = sorted(result["when"] for _, result in ok)
    text = [
        _HEADER.format(
            processor=processor(), commits=commits([result for _, result in ok]), first=when[0], last=when[-1],
            tokens=ok[0][1]["prefill_tokens"], count=len(ok), same=same, digest=ok[0][1]["sha256"][:16],
        )
    ]  # fmt: skip
    for stage in STAGES:
        text.append(f"## {stage}\n\n{stage_table(stage, done)}\n")
    infeasible = [(case, result) for case, result in done if result["status"] != "ok"]
    if infeasible:
        text.append("## Not run\n")
        for case, result in infeasible:
            text.append(f"- {case['device']}, {case['budget'] / MIB:g} MiB: {result['status']}: {result.get('reason', '')}")
        text.append("")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "budget_sweep.md").write_text("\n".join(text))
    plot(ok, folder / "budget_sweep.svg")


_HEADER = """\
# Time and traffic against fast memory

Written by `python -m tools.experiments.budget_sweep`; {processor}, 2 threads; the 1.8B shape with random weights, W4A16 with a W8A16 vision
tower; {commits}, {first} to {last}.

A tile is 256² pixels; prefill is one chunk of {tokens} tokens from position 0, decode one token after it, both with the head. `cpu` reads
weights and DDR buffers in place; `cpu-staged` copies every operand into fast memory, as an NPU would. Moved: bytes of the planned transfers
of one run, loads and stores.

**Outputs of the {count} feasible runs: {same}** (sha256 of image embeddings and logits: `{digest}...`).

![plot](budget_sweep.svg)
"""


def stage_table(stage: str, done: list[tuple[Record, Record]]) -> str:
    by_case = {(case["device"], case["budget"]): result for case, result in done}
    rows = []
    for budget in sorted({case["budget"] for case, _ in done}):
        cells = [f"{budget / MIB:g}"]
        for device in DEVICES:
            result = by_case.get((device, budget))
            if result is None or result["status"] != "ok":
                cells += [result["status"] if result else "not measured", "", "", ""]
                continue
            s = result["stages"][stage]
            moved = number((s["bytes_in"] + s["bytes_out"]) / MIB)
            cells += [number(s["ms"]) + " (noisy)" * result["noisy"], number(s["predicted_ms"]), moved, number(s["peak_bytes"] / MIB)]
        rows.append(cells)
    columns = [f"{device}: {name}" for device in DEVICES for name in ("ms", "predicted ms", "moved MiB", "peak MiB")]
    return table(["budget MiB", *columns], rows)


def plot(ok: list[tuple[Record, Record]], path: Path) -> None:
    """Time (above) and bytes moved (below) against the budget, a column a stage."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "budget_sweep"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(STAGES), figsize=(16, 7), sharex=True)
    for column, stage in enumerate(STAGES):
        for device, color in zip(DEVICES, ("tab:blue", "tab:orange"), strict=True):
            budgets = [case["budget"] / MIB for case, _ in ok if case["device"] == device]
            stages = [result["stages"][stage] for case, result in ok if case["device"] == device]
            axes[0][column].plot(budgets, [s["ms"] for s in stages], "o-", color=color, markersize=3, label=f"{device}, measured")
            axes[0][column].plot(budgets, [s["predicted_ms"] for s in stages], "--", color=color, linewidth=1, label=f"{device}, predicted")
            moved = [(s["bytes_in"] + s["bytes_out"]) / MIB for s in stages]
            axes[1][column].plot(budgets, moved, "o-", color=color, markersize=3, label=device)
        axes[0][column].set(title=f"{stage}: ms", ylim=(0, None))
        axes[1][column].set(title=f"{stage}: MiB moved", ylim=(0, None), xscale="log", xlabel="fast memory, MiB")
        axes[1][column].set_xticks(BUDGETS_MIB, [f"{b:g}" for b in BUDGETS_MIB])
        for axis in axes[:, column]:
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    axes[1][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
