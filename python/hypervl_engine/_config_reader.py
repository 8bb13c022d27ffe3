"""Typed access to one JSON object, with errors that name the key."""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Any, TypeVar, overload

from hypervl_engine.errors import CheckpointError

T = TypeVar("T")
_REQUIRED: Any = object()


def check(holds: bool, name: str, expected: str, got: object) -> None:
    """CheckpointError unless `holds`."""
    if not holds:
        text = repr(got)
        raise CheckpointError(f"{name}: expected {expected}, got {text if len(text) <= 200 else text[:200] + '...'}")


class Reader:
    """One JSON object; `where` is how errors call it."""

    def __init__(self, values: Any, where: str) -> None:
        check(isinstance(values, dict), where, "a JSON object", values)
        self._values: dict[str, Any] = values
        self._where = where

    def name(self, key: str = "") -> str:
        """What errors call `key`."""
        if not key:
            return self._where
        return f"{self._where}: {key}" if self._where.endswith(".json") else f"{self._where}.{key}"

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def items(self) -> ItemsView[str, Any]:
        return self._values.items()

    def only(self, *known: str) -> None:
        """A key that is not known is an error: a misspelt one would be a wrong default."""
        for key in self._values:
            check(key in known, self.name(key), "one of the keys " + ", ".join(known), key)

    def _value(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        if value is None:
            check(default is not _REQUIRED, self.name(key), "a value", None if key in self._values else "nothing")
            return default
        return value

    @overload
    def section(self, key: str) -> Reader: ...
    @overload
    def section(self, key: str, *, optional: bool) -> Reader | None: ...
    def section(self, key: str, *, optional: bool = False) -> Reader | None:
        value = self._value(key, None if optional else _REQUIRED)
        return None if value is None else Reader(value, self.name(key))

    @overload
    def integer(self, key: str, low: int, high: int) -> int: ...
    @overload
    def integer(self, key: str, low: int, high: int, *, default: int) -> int: ...
    @overload
    def integer(self, key: str, low: int, high: int, *, default: None) -> int | None: ...
    def integer(self, key: str, low: int, high: int, *, default: int | None = _REQUIRED) -> int | None:
        value = self._value(key, default)
        if value is None:
            return None
        check(type(value) is int and low <= value <= high, self.name(key), f"an integer from {low} to {high}", value)
        return int(value)

    def number(self, key: str, low: float, high: float, *, default: float = _REQUIRED) -> float:
        value = self._value(key, default)
        fits = type(value) in (int, float) and low <= value <= high
        check(fits, self.name(key), f"a number from {low:g} to {high:g}", value)
        return float(value)

    def boolean(self, key: str, *, default: bool = _REQUIRED) -> bool:
        value = self._value(key, default)
        check(isinstance(value, bool), self.name(key), "true or false", value)
        return bool(value)

    def choice(self, key: str, choices: tuple[str, ...], *, default: str = _REQUIRED) -> str:
        value = self._value(key, default)
        check(isinstance(value, str) and value in choices, self.name(key), " or ".join(map(repr, choices)), value)
        return str(value)

    def array(self, key: str, shortest: int, longest: int) -> list[Any]:
        value = self._value(key, _REQUIRED)
        fits = isinstance(value, list) and shortest <= len(value) <= longest
        check(fits, self.name(key), f"a list of {shortest} to {longest} items", value)
        return list(value)

    def triple(
        self, key: str, low: float, high: float, *, default: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        if self._values.get(key) is None:
            return default
        values = self.array(key, 3, 3)
        a, b, c = (Reader({key: v}, f"{self.name(key)}[{i}]").number(key, low, high) for i, v in enumerate(values))
        return a, b, c
