"""Results as JSON lines, one a measurement, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def key_of(case: Record) -> str:
    """The same text for equal cases."""
    return json.dumps(case, sort_keys=True)


class ResultsFile:
    """Appends {"case": ..., "result": ...} lines. Of several lines for a case the last one counts."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Reads what is there; `fresh` deletes it first. A last line cut short is dropped; another that is not JSON is a ValueError."""
        self.path = path
        self._results: dict[str, Record] = {}
        if fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                self._results[key_of(entry["case"])] = entry["result"]
            except (ValueError, KeyError, TypeError):
                if number < len(lines):
                    raise ValueError(f"{path}, line {number}: expected case and result; mend it, or start over with --fresh") from None
                path.write_text("".join(f"{kept}\n" for kept in lines[:-1]))

    def get(self, case: Record) -> Record | None:
        """The result of a case, None when it has not been measured."""
        return self._results.get(key_of(case))

    def add(self, case: Record, result: Record) -> None:
        """Keeps a result, at once on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"case": case, "result": result}) + "\n")
        self._results[key_of(case)] = result
