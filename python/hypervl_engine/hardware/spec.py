"""`HardwareSpec`: the figures of a machine as plain data, read from JSON and checked, each with its source."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from .. import _core

Status = Literal["measured", "emulated", "published", "assumed"]
_STATUSES: tuple[str, ...] = get_args(Status)

# The names come from csrc/schedule/hardware_spec.h, so that a figure added there is asked for here.
FIGURES: tuple[str, ...] = tuple(_core.SPEC_FIGURES)

MAX_SPEC_BYTES = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One figure. `status`: "measured" (by us, `source` says how), "emulated" (counted by us under emulation, and turned into cycles by an
    assumed ratio), "published" (`source` says where) or "assumed"."""

    value: float
    source: str
    status: Status


@dataclass(frozen=True)
class HardwareSpec:
    """A machine that Programs are planned for.

    staged: kernels read fast memory only, and every operand is transferred there. figures: one of each of `FIGURES`
    (csrc/schedule/hardware_spec.h says what each means), in SI units; rates of compute are per clock cycle and context.

    Checked when made: ValueError naming the figure.
    """

    name: str
    staged: bool
    figures: Mapping[str, Figure]

    def __post_init__(self) -> None:
        _check(self, f"spec {self.name!r}")
        object.__setattr__(self, "figures", MappingProxyType({name: self.figures[name] for name in FIGURES}))

    def __hash__(self) -> int:
        return hash((self.name, self.staged, tuple(self.figures.items())))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be copied or pickled
        return HardwareSpec, (self.name, self.staged, dict(self.figures))

    @property
    def budget(self) -> int:
        """Bytes of fast memory that a Plan may use."""
        return int(self.figures["fast_bytes"].value - self.figures["reserved_bytes"].value)

    def values(self) -> dict[str, Any]:
        """name, staged and the bare figures, as `_core` takes them."""
        return {"name": self.name, "staged": self.staged, **{name: figure.value for name, figure in self.figures.items()}}

    def with_figures(self, figures: Mapping[str, Figure], *, name: str | None = None, staged: bool | None = None) -> HardwareSpec:
        """A copy with some figures (and the name, and staged) replaced. ValueError for a figure that does not exist."""
        return HardwareSpec(
            self.name if name is None else name,
            self.staged if staged is None else staged,
            {**self.figures, **figures},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it."""
        figures = {
            name: {"value": _plain(figure.value), "status": figure.status, "source": figure.source} for name, figure in self.figures.items()
        }
        return {"name": self.name, "staged": self.staged, "figures": figures}

    @classmethod
    def from_dict(cls, values: Any, where: str = "spec") -> HardwareSpec:
        """The spec that `to_dict` wrote. ValueError naming `where` and what is wrong."""
        _require(isinstance(values, dict), where, "a JSON object", values)
        _only(values, ("name", "staged", "figures"), where)
        _require(isinstance(values["figures"], dict), f"{where}: figures", "a JSON object", values["figures"])
        figures = {}
        for name, entry in values["figures"].items():
            _require(isinstance(entry, dict), f"{where}: {name}", 'an object with "value", "status" and "source"', entry)
            _only(entry, ("value", "status", "source"), f"{where}: {name}")
            figures[name] = Figure(_number(entry["value"], f"{where}: {name}"), entry["source"], entry["status"])
        spec = object.__new__(cls)  # so that `where`, and not the name, begins the messages of the checks
        for field, value in (("name", values["name"]), ("staged", values["staged"]), ("figures", figures)):
            object.__setattr__(spec, field, value)
        _check(spec, where)
        spec.__post_init__()
        return spec

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON that `load` reads."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HardwareSpec:
        """Reads a JSON file. ValueError naming the file and the figure when it is not a spec; FileNotFoundError."""
        return cls.from_dict(read_json(path, MAX_SPEC_BYTES), str(path))


def read_json(path: str | os.PathLike[str], limit: int) -> Any:
    """Parses a JSON file of at most `limit` bytes, strictly: a key that comes twice is an error. ValueError."""
    with Path(path).open("rb") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"{path}: expected at most {limit} bytes of JSON, the file is larger")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        for name in seen:
            if sum(1 for key, _ in pairs if key == name) > 1:
                raise _TwiceError(f"{path}: {name}: expected once, it is there twice")
        return seen

    try:
        return json.loads(text, object_pairs_hook=unique)
    except _TwiceError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON: {error}") from None


class _TwiceError(ValueError):
    """A key that comes twice, with the whole message."""


def _require(holds: bool, where: str, expected: str, got: object) -> None:
    if not holds:
        text = repr(got)
        raise ValueError(f"{where}: expected {expected}, got {text if len(text) <= 100 else text[:100] + '...'}")


def _only(values: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in keys:
        _require(key in values, f"{where}: {key}", "a value", "nothing")
    for key in values:
        _require(key in keys, where, "the keys " + ", ".join(keys), key)


def _number(value: object, where: str) -> float:
    _require(isinstance(value, int | float) and not isinstance(value, bool), where, "a number", value)
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(f"{where}: expected a finite number, got one of {len(str(value))} digits") from None


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _check(spec: HardwareSpec, where: str) -> None:
    """ValueError beginning with `where` unless every field is as the class says."""
    _require(isinstance(spec.name, str) and 0 < len(spec.name) <= 100, f"{where}: name", "a name of 1 to 100 characters", spec.name)
    _require(isinstance(spec.staged, bool), f"{where}: staged", "true or false", spec.staged)
    for name in FIGURES:
        _require(name in spec.figures, f"{where}: {name}", "a figure", "nothing")
    for name, figure in spec.figures.items():
        at = f"{where}: {name}"
        _require(name in FIGURES, at, "one of the figures " + ", ".join(FIGURES), name)
        _require(isinstance(figure.source, str) and bool(figure.source.strip()), f"{at}: source", "text", figure.source)
        _require(isinstance(figure.status, str) and figure.status in _STATUSES, f"{at}: status", " or ".join(_STATUSES), figure.status)
        _number(figure.value, at)
    try:
        _core.check_spec(spec.values())  # finite, positive, whole where it must be, and consistent
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
