"""A long count for people: a bar with the time left on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vlaw_assets.cli.output import errors
from vlaw_assets.pipeline.progress import Pace
from vlaw_models.progress import Progress

LINE_S = 30.0
"""How often a line is written where there is no terminal."""


@contextmanager
def counting(what: str) -> Iterator[Progress]:
    """Within the block, shows how far the callback says that something is."""
    live = errors.is_terminal
    with Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not live,
    ) as bars:
        task = bars.add_task(what, total=None, speed="")
        pace, said = Pace(), time.monotonic()

        def progress(done: int, total: int, text: str) -> None:
            nonlocal said
            pace.note(done, total, text)
            if live:
                bars.update(task, completed=done, total=total, speed=pace.speed().partition(",")[0])
            elif time.monotonic() - said >= LINE_S:
                said = time.monotonic()
                errors.print(f"{what}: {pace.line()}", markup=False, soft_wrap=True)

        yield progress
