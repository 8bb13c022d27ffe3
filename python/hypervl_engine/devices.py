"""The names of what `load(device=...)` takes."""

INTEGER_DEVICE = "hexagon-ref"
"""The NPU's integer arithmetic (docs/integer_arithmetic.md) in plain C++ on this machine."""

DEVICES = ("cpu", "cpu-staged", INTEGER_DEVICE)
