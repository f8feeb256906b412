"""Showing how far a study is: a bar over its partitions and one per running partition; plain lines where there is no
terminal."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vlaw_assets.pipeline.progress import ENDINGS, REUSED

if TYPE_CHECKING:
    from rich.console import Console

    from vlaw_assets.studies.order import Order
    from vlaw_assets.studies.running import Ended

LONG_S = 5.0
"""Assets that took longer get a line of their own."""


class StudyDisplay:
    """A study's watcher. Use as a context manager; `order` is asked how many partitions have ended."""

    def __init__(self, console: Console, order: Order, name: str):
        from vlaw_assets.studies.order import ENDED

        self._console, self._order, self._ended = console, order, ENDED
        self._lock = threading.Lock()
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._all = self._progress.add_task(f"study {name}", total=len(order.slots), note="")
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[tuple[str, str], float] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def begins(self, key: str) -> None:
        with self._lock:
            self._tasks[key] = self._progress.add_task(f"  {key}", total=None, note="")
            if not self._live:
                self._console.print(f"{key}: begins", markup=False)

    def __call__(self, asset: str, partition: str, done: int, total: int, text: str) -> None:
        with self._lock:
            if total == 0:
                self._begun[asset, partition] = time.monotonic()
            elif text in ENDINGS:
                seconds = time.monotonic() - self._begun.pop((asset, partition), time.monotonic())
                if text != REUSED and seconds >= LONG_S:
                    self._console.print(f"  {partition}  {asset:<28} {text:<7} {seconds:7.1f} s", markup=False)
            if partition in self._tasks:
                known = total if total > 0 and text not in ENDINGS else None
                self._progress.update(
                    self._tasks[partition], completed=done, total=known, note=escape(f"{asset} {text}")
                )

    def ends(self, key: str, ended: Ended) -> None:
        with self._lock:
            if key in self._tasks:
                self._progress.remove_task(self._tasks.pop(key))
            self._progress.update(self._all, completed=self._order.count(*self._ended))
            place = f"[{self._order.count(*self._ended)} of {len(self._order.slots)}]"
            self._console.print(f"{place:>12} {key}: {line(ended)}", markup=False, soft_wrap=True)


def line(ended: Ended) -> str:
    """How a partition ended, in words."""
    if ended.why:
        return f"{ended.status}: {ended.why.splitlines()[0]}"
    said = [f"success {ended.progress['success']:.3f} of {ended.progress['trials']}"] if ended.progress else []
    if ended.progress.get("target") is not None:
        said.append(
            f"{'reaches' if ended.reached else 'is below'} {ended.progress['until']}'s {ended.progress['target']:.3f} "
            f"after {ended.progress['real_rollouts']} real rollouts"
        )
    how = (
        "was there already"
        if ended.found
        else f"made {len(ended.made)}, reused {len(ended.reused)}, {ended.wall_s:.0f} s ({ended.cpu_s:.0f} s CPU)"
    )
    return "; ".join([how, *said])
