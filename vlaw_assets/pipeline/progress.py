"""How a stage tells whoever is watching how far it is: in the run's log, and to listeners such as `vlaw run`'s bars.

A stage of `vlaw_models` calls back with (done, total, text), as often as it likes. What people see is paced: a line
with rate and time left at least every SAY_S seconds, also while a stage does something that it cannot count.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Listener = Callable[[str, str, int, int, str], None]
"""(asset, partition, done, total, text); an asset begins with total 0 and ends with one of ENDINGS. While it says
nothing itself, the last that it said is repeated every SAY_S seconds; (0, 1, "") where it said nothing yet."""
MADE, REUSED, FAILED = "made", "reused", "failed"
ENDINGS = (MADE, REUSED, FAILED)
SAY_S = 5.0

_listeners: list[Listener] = []
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block, progress of every stage that runs in this process goes to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(asset: str, partition: str, done: int, total: int, text: str) -> None:
    """Says to the listeners that an asset begins (total 0), how far it is or how it ended."""
    with _one_at_a_time:
        for listener in _listeners:
            listener(asset, partition, done, total, text)


@dataclass
class Pace:
    """How fast something that is counted goes on, and since when."""

    begun: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    text: str = ""
    _counting_since: float = 0.0
    _counted_from: int = 0

    def note(self, done: int, total: int, text: str) -> None:
        if total != self.total or done < self.done:  # something else is counted
            self._counting_since, self._counted_from = time.monotonic(), done
        self.done, self.total, self.text = done, total, text

    def line(self) -> str:
        """Such as "37 of 480 world model: loss 0.2, 1.2 a second, 6 min left"."""
        if not self.done:
            return f"{self.text or 'at work'}, {spoken(time.monotonic() - self.begun)}"
        text = f"{self.done} of {self.total} {self.text}".rstrip()
        return f"{text}, {speed}" if (speed := self.speed()) else text

    def speed(self) -> str:
        """Such as "1.2 a second, 6 min left"; empty as long as nothing was counted."""
        counted, seconds = self.done - self._counted_from, time.monotonic() - self._counting_since
        if counted <= 0 or seconds <= 0:
            return ""
        rate = counted / seconds
        per = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"
        return f"{per}, {spoken((self.total - self.done) / rate)} left"


def spoken(seconds: float) -> str:
    """A length of time as people say it: "8 s", "6 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Reporter:
    """The callback to hand to a stage (`vlaw_models.progress.Progress`). As a context manager it also speaks while the
    stage is silent."""

    def __init__(self, asset: str, partition: str, log: Callable[[str], None]):
        self.asset, self.partition, self._log = asset, partition, log
        self._pace, self._logged, self._over = Pace(), time.monotonic(), threading.Event()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        self._pace.note(done, total, text)
        tell(self.asset, self.partition, done, total, text)
        self._say()

    def __enter__(self) -> Reporter:
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _speak(self) -> None:
        while not self._over.wait(SAY_S):
            if self._say():
                pace = self._pace
                tell(self.asset, self.partition, pace.done, pace.total or 1, pace.text)

    def _say(self) -> bool:
        """Logs a line if the last one is SAY_S old."""
        if time.monotonic() - self._logged < SAY_S:
            return False
        self._logged = time.monotonic()
        self._log(f"{self.asset}: {self._pace.line()}")
        return True
