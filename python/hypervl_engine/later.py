"""A value that a thread works out meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """`make()`, begun at once in a thread. `result` waits for it, and raises what it raised, every time."""

    def __init__(self, make: Callable[[], T]) -> None:
        """make: may run a second time, in a child that was forked meanwhile."""
        self._make = make
        self._values: list[T] = []
        self._error: BaseException | None = None
        # Not a daemon: the interpreter must not be taken down under code that will ask for it again.
        self._thread = threading.Thread(target=self._run, name="hypervl-later")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._values.append(self._make())
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """The value."""
        self._thread.join()
        if not self._values and self._error is None:  # a forked child has no such thread
            self._run()
        if self._error is not None:
            raise self._error
        return self._values[0]
