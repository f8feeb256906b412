"""How a long stage tells whoever is watching how far it is.

A stage of `vlaw_models` calls back with (done, total, text). In `vlaw run` a listener draws bars; elsewhere (a run
started from the UI) the same calls become a few log lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from vlaw_models.progress import Progress

Listener = Callable[[str, str, int, int, str], None]
"""(asset, partition, done, total, text); an asset begins with total 0 and ends with one of ENDINGS."""
MADE, REUSED, FAILED = "made", "reused", "failed"
ENDINGS = (MADE, REUSED, FAILED)

_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block, progress of every stage that runs in this process goes to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(asset: str, partition: str, done: int, total: int, text: str) -> None:
    """Says to the listeners that an asset begins (total 0) or how it ended."""
    for listener in _listeners:
        listener(asset, partition, done, total, text)


def reporter(asset: str, partition: str, log: Callable[[str], None]) -> Progress:
    """The callback to hand to a stage: forwards to the listeners, or logs each tenth of the way where there are
    none."""
    logged = -1

    def report(done: int, total: int, text: str = "") -> None:
        nonlocal logged
        tell(asset, partition, done, total, text)
        tenth = 10 * done // max(total, 1)
        if not _listeners and tenth != logged:
            logged = tenth
            log(f"{asset}: {done} of {total} {text}".rstrip())

    return report
