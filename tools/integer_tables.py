"""Fits the polynomials of the integer arithmetic (docs/integer_arithmetic.md) and writes them as C++ headers.

    python -m tools.integer_tables            # prints the largest errors, in units of 2^-15 or relative
    python -m tools.integer_tables --write    # and writes kernels/activation/fixed_tables.h

Coefficients are least-squares fits at Chebyshev nodes, in float64, rounded. Floats differ in their last bits from machine to machine, so
the written file counts, not what this prints elsewhere; tests hold the errors.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = Path(__file__).parent.parent / "kernels" / "activation" / "fixed_tables.h"
SEGMENTS, DEGREE, FRACTION = 32, 3, 16  # of the table of an activation's tail; fraction bits of its coefficients
EXP2_DEGREE, EXP2_FRACTION = 4, 30
Values = NDArray[np.float64]


def _tanh_gate(a: Values) -> Values:
    return 1 / (1 + np.exp(2 * math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))


def _normal_tail(a: Values) -> Values:
    return np.array([0.5 * math.erfc(x / math.sqrt(2)) for x in a.ravel()]).reshape(a.shape)


# name: (tail h, log2 of the width of a segment); activation(x) = max(x, 0) - h(|x|), and h is 0 from SEGMENTS segments on.
TAILS: dict[str, tuple[Callable[[Values], Values], int]] = {
    "GeluTanh": (lambda a: a * _tanh_gate(a), -2),
    "GeluErf": (lambda a: a * _normal_tail(a), -2),
    "Silu": (lambda a: a / (1 + np.exp(a)), -1),
    "QuickGelu": (lambda a: a / (1 + np.exp(1.702 * a)), -2),
}


def chebyshev_nodes(count: int) -> Values:
    """Of [0, 1]."""
    return (1 - np.cos((np.arange(count) + 0.5) * math.pi / count)) / 2


def tail_table(name: str) -> NDArray[np.int64]:
    """(DEGREE + 1, SEGMENTS): coefficients of t^0 .. t^DEGREE, t in [0, 1) across a segment."""
    tail, width = TAILS[name]
    t = chebyshev_nodes(64)
    powers = np.vander(t, DEGREE + 1, increasing=True)
    columns = [np.linalg.lstsq(powers, tail((s + t) * 2.0**width), rcond=None)[0] for s in range(SEGMENTS)]
    return np.rint(np.stack(columns, axis=1) * 2**FRACTION).astype(np.int64)


def exp2_table() -> NDArray[np.int64]:
    """(EXP2_DEGREE + 1): coefficients of 2^f, f in [0, 1), of which the first is 1, by relative error."""
    f = chebyshev_nodes(256)
    target = np.exp2(f)
    powers = np.vander(f, EXP2_DEGREE + 1, increasing=True)[:, 1:] / target[:, None]
    rest = np.linalg.lstsq(powers, (target - 1) / target, rcond=None)[0]
    return np.rint(np.concatenate([[1.0], rest]) * 2**EXP2_FRACTION).astype(np.int64)


def tail_error(name: str) -> float:
    """The largest error of the fit before the kernel's own rounding, in units of 2^-15."""
    tail, width = TAILS[name]
    t = np.linspace(0, 1, 200, endpoint=False)
    table = tail_table(name) / 2.0**FRACTION
    errors = [np.abs(np.polynomial.polynomial.polyval(t, table[:, s]) - tail((s + t) * 2.0**width)).max() for s in range(SEGMENTS)]
    return float(max(*errors, tail(np.array([SEGMENTS * 2.0**width]))[0]) * 2**15)


def exp2_error() -> float:
    """The largest relative error of the fit."""
    f = np.linspace(0, 1, 5000)
    return float(np.abs(np.polynomial.polynomial.polyval(f, exp2_table() / 2.0**EXP2_FRACTION) / np.exp2(f) - 1).max())


def header() -> str:
    """The text of kernels/activation/fixed_tables.h."""
    out = [
        "// Tails of the activations as cubics over 32 segments (docs/integer_arithmetic.md, section Activations). Written by",
        "// `python -m tools.integer_tables --write`.",
        "#pragma once",
        "",
        "#include <stdint.h>",
        "",
        "namespace hvl::fixed {",
        "namespace {",
        "",
        f"constexpr int32_t kTailSegments = {SEGMENTS}, kTailFraction = {FRACTION};",
        "",
        "struct TailTable {",
        "  int32_t shift;  // a segment is 2^shift units of an activation wide",
        f"  int16_t coefficients[{DEGREE + 1}][kTailSegments];  // of t^0 .. t^{DEGREE}",
        "};",
    ]
    for name in TAILS:
        out += ["", f"constexpr TailTable k{name}Tail = {{{15 + TAILS[name][1]}, {{"]
        for row in tail_table(name):
            for start in range(0, SEGMENTS, 16):
                cells = ", ".join(str(v) for v in row[start : start + 16])
                out.append(f"    {'{' if start == 0 else ' '}{cells}{'},' if start + 16 == SEGMENTS else ','}")
        out.append("}};")
    out += ["", "}  // namespace", "}  // namespace hvl::fixed", ""]
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {HEADER.name}")
    options = parser.parse_args()
    for name in TAILS:
        print(f"{name}: {tail_error(name):.2f} units")
    print(f"exp2: {exp2_error():.2e} relative; coefficients {', '.join(str(c) for c in exp2_table())}")
    if options.write:
        HEADER.write_text(header())


if __name__ == "__main__":
    main()
