"""The error tables of tools/experiments/cost_model.py, and the parts of a document that tools write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.experiments.cost_model import op_seconds
from tools.experiments.cost_model_report import error, report
from tools.experiments.sections import replace_section


def record(predicted_ms: float, measured_ms: float, kind: str = "linear", noisy: bool = False) -> dict:
    return {
        "checkpoint": "demo", "bits": 16, "case": "decode at 16", "stage": "decode", "op": 0, "kind": kind, "name": "q_proj",
        "bound": "compute",
        "predicted_ms": predicted_ms, "measured_ms": measured_ms, "noisy": noisy,
    }  # fmt: skip


def test_error_is_relative_to_what_was_measured() -> None:
    assert error(record(3.0, 2.0)) == pytest.approx(0.5)
    assert error(record(1.0, 4.0)) == pytest.approx(-0.75)


def test_report_has_median_percentile_and_sums() -> None:
    records = [record(1.1, 1.0), record(0.8, 1.0), record(3.0, 2.0, "norm", noisy=True), record(5.0, 0.0)]
    machine = {"date": "2026-01-01", "cpu": "CPU", "threads": 2, "cores": 2, "isa": "avx2", "others_before": 0.01}
    text = report({"machine": machine, "records": records})
    # Errors +10 %, -20 %, +50 %; what takes no time has no error.
    assert "| all | 3 | 20 % | 44 % | +10 % | 4.9 | 4.0 | +23 % |" in text
    assert "| linear | 2 | 15 % | 19 % | -5 % | 1.9 | 2.0 | -5 % |" in text
    assert "during 33 % of the records" in text


def test_seconds_add_up_by_op_without_transfers() -> None:
    def event(op: int, us: float, track: str = "compute") -> dict:
        return {"op": op, "duration_us": us, "track": track}

    assert op_seconds([event(0, 2.0), event(2, 3.0), event(0, 5.0), event(1, 7.0, "transfer")], 3) == pytest.approx([7e-6, 0.0, 3e-6])


def test_only_the_part_between_the_marks_changes(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("top\n<!-- begin a -->\nold\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\nbottom\n")
    replace_section(document, "a", "new\nlines\n")
    replace_section(document, "b", "B")
    replace_section(document, "b", "C")
    assert document.read_text() == (
        "top\n<!-- begin a -->\nnew\nlines\n<!-- end a -->\nmiddle\n<!-- begin b -->\nC\n<!-- end b -->\nbottom\n"
    )


@pytest.mark.parametrize(
    "text", ["", "<!-- begin a -->\n", "<!-- end a -->\n<!-- begin a -->\n", "<!-- begin a -->\n<!-- begin a -->\n<!-- end a -->"]
)
def test_document_without_the_marks_is_refused(tmp_path: Path, text: str) -> None:
    document = tmp_path / "page.md"
    document.write_text(text)
    with pytest.raises(ValueError, match="begin a"):
        replace_section(document, "a", "new")
    assert document.read_text() == text
