"""Documents of which each experiment writes its own part, between two marks, and leaves the rest as it is."""

from __future__ import annotations

from pathlib import Path

COST_MODEL = Path("docs/cost_model.md")


def replace_section(document: Path, name: str, text: str) -> None:
    """Puts `text` between the marks of part `name`. ValueError where the document does not have them once each, in order."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    content = document.read_text(encoding="utf-8")
    before, _, rest = content.partition(begin)
    _, found, after = rest.partition(end)
    if content.count(begin) != 1 or content.count(end) != 1 or not found:
        raise ValueError(f"{document}: expected the lines '{begin.strip()}' and '{end}', once each and in this order")
    document.write_text(before + begin + text.rstrip("\n") + "\n" + end + after, encoding="utf-8")
