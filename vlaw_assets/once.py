"""Answers that hold for the length of one question: files that many partitions ask for are read and checked once.

    with asking():
        ...            # every function marked with `once` is computed once per arguments

Outside such a block nothing is remembered, so a process that lives long sees every change of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from vlaw_models.errors import VlawError

P = ParamSpec("P")
R = TypeVar("R")
_answers: ContextVar[dict[Any, Any] | None] = ContextVar("answers", default=None)


@contextmanager
def asking() -> Iterator[None]:
    """One question. Inside another one it is part of that one."""
    if _answers.get() is not None:
        yield
        return
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Computed once per question and arguments (hashable ones); a VlawError is the answer too. Callers must not change
    what they get."""

    @wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        answers = _answers.get()
        if answers is None:
            return function(*args, **kwargs)
        key = function, args, tuple(kwargs.items())
        if key not in answers:
            try:
                answers[key] = function(*args, **kwargs)
            except VlawError as error:
                answers[key] = error
        if isinstance(found := answers[key], VlawError):
            raise found
        return found

    return answer
