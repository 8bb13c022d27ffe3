"""What the scheduler knows of a machine, and where each figure comes from.

>>> from hypervl_engine.hardware import load_spec
>>> spec = load_spec("hexagon-v73")  # a preset, "cpu", "cpu-staged", or the path of a JSON file
>>> spec.figures["transfer_bytes_per_s"].status
'assumed'
"""

from .cpu import calibration_path, cpu_spec, default_cpu_spec
from .spec import FIGURES, Figure, HardwareSpec, Status
from .targets import PRESETS, TARGETS, load_spec, preset

__all__ = [
    "FIGURES",
    "PRESETS",
    "TARGETS",
    "Figure",
    "HardwareSpec",
    "Status",
    "calibration_path",
    "cpu_spec",
    "default_cpu_spec",
    "load_spec",
    "preset",
]
