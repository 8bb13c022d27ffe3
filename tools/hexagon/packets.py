"""Counts the packets that kernels take on Hexagon, by QEMU's counters, which say the same at every run. Packets are not cycles.

    python -m tools.hexagon.packets             packets beside those in tests/hexagon/packets.json; exit code 1 where one grew
    python -m tools.hexagon.packets --record    writes them there

Runs what `make hexagon` or `hexagon/setup.sh build` built. The compiler is one version of ziglang (hexagon/setup.sh).
"""

from __future__ import annotations

import argparse
import json
import sys

from tools.experiments.sections import replace_section
from tools.hexagon import elementwise
from tools.hexagon.attention import count_attention
from tools.hexagon.client import ROOT, TestServer
from tools.hexagon.kv_store import count_kv_store
from tools.hexagon.linear_operands import count_linear
from tools.hexagon.resize import count_resize
from tools.hexagon.rope import count_rope
from tools.hexagon.row_operands import count_rows
from tools.hexagon.vrc import count_vrc
from tools.instruction_counts import grown

RECORD = ROOT / "tests" / "hexagon" / "packets.json"
DOCUMENT = ROOT / "docs" / "hexagon.md"


def count(server: TestServer) -> dict[str, int]:
    """Packets by case."""
    found: dict[str, int] = {}

    found |= elementwise.count_packets(server)
    found |= count_attention(server)
    found |= count_kv_store(server)
    found |= count_rope(server)
    found |= count_linear(server)
    found |= count_rows(server)
    found |= count_resize(server)
    found |= count_vrc(server)
    return found


def multiplications(name: str) -> int | None:
    """How many a case has, where its name says it: `linear ..., tokens x rows x columns, ...`."""
    if not name.startswith("linear"):
        return None
    tokens, rows, cols = map(int, name.split(", ")[1].split(" x "))
    return tokens * rows * cols


def table(counted: dict[str, int]) -> str:
    """Markdown."""
    lines = ["| case | packets | multiplications a packet |", "| --- | ---: | ---: |"]
    for name, packets in counted.items():
        work = multiplications(name)
        lines.append(f"| {name} | {packets:,} | {f'{work / packets:.1f}' if work else ''} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the packets to tests/hexagon/packets.json and docs/hexagon.md")
    options = parser.parse_args()
    with TestServer(ROOT / "build" / "hexagon") as server:
        counted = count(server)
    if options.record:
        RECORD.write_text(json.dumps(counted, indent=2) + "\n")
        replace_section(DOCUMENT, "packets", table(counted))
        return 0
    recorded = json.loads(RECORD.read_text())
    for name, packets in counted.items():
        known = recorded.get(name)
        work = multiplications(name)
        rate = f"{work / packets:6.1f} MAC/packet" if work else ""
        print(f"{packets:10d} {f'{packets / known - 1:+7.2%}' if known else '    new'}  {rate:>17}  {name}")
    return 1 if grown(recorded, counted, "packets") else 0


if __name__ == "__main__":
    sys.exit(main())
