"""Runs a checkpoint's chat template in a sandbox: it is a program from a file that we did not write."""

from __future__ import annotations

import json
import time
from typing import Any

import jinja2
from jinja2 import sandbox
from jinja2.exceptions import SecurityError

from .errors import CheckpointError

MAX_TEMPLATE_CHARS = 1 << 20
MAX_OUTPUT_CHARS = 1 << 24
MAX_SECONDS = 5.0


class TemplateRaisedError(ValueError):
    """The template refused the conversation by `raise_exception`."""


class _Environment(sandbox.ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with a deadline, and without operators that make huge values from short programs."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.Undefined, cache_size=0)
        self.deadline = float("inf")
        self.globals.pop("lipsum", None)

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise SecurityError(f"it ran for more than {MAX_SECONDS:g} seconds")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self.check()
        return super().call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.check()
        if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise SecurityError(f"operator {operator} is only there for small numbers")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: object) -> None:
    raise TemplateRaisedError(f"the chat template refuses this conversation: {message}")


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A compiled chat template. Safe to use from several threads: every rendering has its own environment."""

    def __init__(self, source: str, name: str) -> None:
        """source: Jinja2 text; name: what errors call it. Raises CheckpointError when it does not parse."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise CheckpointError(f"{name} has {len(source)} characters: expected at most {MAX_TEMPLATE_CHARS}")
        self._source, self._name = source, name
        try:
            self._code = _environment().compile(source, name=name, filename=name)
        except jinja2.TemplateSyntaxError as error:
            raise CheckpointError(f"{name}, line {error.lineno}: {error.message}") from error

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        """The conversation as text. Raises ValueError when the template refuses it, CheckpointError when it fails."""
        environment = _environment()
        environment.deadline = time.monotonic() + MAX_SECONDS
        template = jinja2.Template.from_code(environment, self._code, environment.make_globals(None))
        pieces: list[str] = []
        size = 0
        try:
            for piece in template.generate(messages=messages, **variables):
                environment.check()
                size += len(piece)
                if size > MAX_OUTPUT_CHARS:
                    raise SecurityError(f"it wrote more than {MAX_OUTPUT_CHARS} characters")
                pieces.append(piece)
        except TemplateRaisedError:
            raise
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(f"{self._name} failed on a conversation: {error}") from error
        return "".join(pieces)


def _environment() -> _Environment:
    environment = _Environment()
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _to_json
    return environment
