"""The sessions of an engine."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from . import _core
from .stream import Call

_IDLE_SESSIONS = 2


class SessionPool:
    """Lends sessions to calls, and keeps a few for the next ones. A session serves one call at a time."""

    def __init__(self) -> None:
        self._idle: list[_core.Session] = []
        self._calls: set[Call] = set()
        self._lock = threading.RLock()  # re-entrant: a signal handler may call Engine.cancel
        self.last_stats: dict[str, Any] = {}
        _pools.add(self)

    def start(self, new_session: Callable[[], _core.Session]) -> Call:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        session = session or new_session()
        session.reset_stats()
        return self.watch(session)

    def watch(self, session: _core.Session) -> Call:
        """A call on a session that stays with its owner (see `forget`)."""
        call = Call(session)
        with self._lock:
            self._calls.add(call)
        return call

    def forget(self, call: Call) -> _core.Session | None:
        with self._lock:
            self._calls.discard(call)
        return call.finish()

    def end(self, call: Call) -> None:
        session = self.forget(call)
        if session is None:
            return
        raw = session.stats() if call.stats is None else call.stats
        stats: dict[str, Any] = {name: value for name, value in raw.items() if name.endswith("_bytes")}
        if counts := session.remote_counts():
            stats["programs"] = counts
        session.reset()
        with self._lock:
            self.last_stats = stats
            if len(self._idle) < _IDLE_SESSIONS and not session.device_failed:
                self._idle.append(session)

    def cancel(self) -> None:
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def after_fork(self) -> None:
        """In the child: the lock may have been held by a thread that is gone, and with it its calls."""
        self._lock = threading.RLock()
        self._calls = set()


_pools: weakref.WeakSet[SessionPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


os.register_at_fork(after_in_child=_after_fork)
