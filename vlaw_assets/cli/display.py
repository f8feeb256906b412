"""Showing how far a run is: bars on a terminal, plain lines elsewhere (a log file, CI)."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vlaw_assets.pipeline.progress import ENDINGS, REUSED, SAY_S, Pace

LONG_S = 5.0


class Display:
    """A progress listener: one line per asset that is being made. Use as a context manager."""

    def __init__(self, console: Console, *, brief: bool = False):
        """`brief`: of assets that have ended only those that were made and took LONG_S or more leave a line."""
        self.console, self.brief = console, brief
        self.live = console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._printed: dict[tuple[str, str], float] = {}

    def __enter__(self) -> Self:
        if self.live:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.progress.stop()

    def __call__(self, asset: str, partition: str, done: int, total: int, text: str) -> None:
        key = (asset, partition)
        name = f"{partition or 'foundation'}  {asset}"
        if total == 0:
            self._paces[key], self._printed[key] = Pace(), time.monotonic()
            if self.live:
                self._tasks[key] = self.progress.add_task(escape(name), total=None, note="")
            return
        if text in ENDINGS:
            self._end(key, name, text)
            return
        pace = self._paces.setdefault(key, Pace())
        pace.note(done, total, text)
        if self.live and key in self._tasks:
            note = ", ".join(filter(None, (pace.speed(), text)))
            self.progress.update(self._tasks[key], completed=done, total=total, note=escape(note))
        elif not self.brief and done < total and time.monotonic() - self._printed.get(key, 0.0) >= SAY_S:
            self._printed[key] = time.monotonic()
            self.console.print(f"{name}: {pace.line()}", markup=False)

    def forget(self, partition: str) -> None:
        """Takes away what is still shown of a partition: its process may have ended without a word."""
        for key in [key for key in self._tasks if key[1] == partition]:
            self.progress.remove_task(self._tasks.pop(key))

    def _end(self, key: tuple[str, str], name: str, ending: str) -> None:
        seconds = time.monotonic() - self._paces.pop(key, Pace()).begun
        if self.live and key in self._tasks:
            self.progress.remove_task(self._tasks.pop(key))
        if not self.brief or (ending != REUSED and seconds >= LONG_S):
            self.console.print(f"{name:<44} {ending:<7} {seconds:7.1f} s", markup=False)
