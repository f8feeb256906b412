"""Episodes as film strips of HTML: words that can be read and linked, and a row of moments as one JPEG."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from vlaw_assets.reports.markup import Html, data_of, note, tag
from vlaw_models.film import even

MOMENTS = 8
MOST_HEIGHT = 112
"""Pixels; larger frames are shrunk to it."""
GAP = 2
QUALITY = 88


def moments(images: np.ndarray | None, camera: int = 0) -> list[np.ndarray]:
    """`MOMENTS` frames (h, w, 3) of one camera of (T, V, h, w, 3), evenly from first to last; all where there are
    fewer, none of None."""
    if images is None or not len(images):
        return []
    return [np.asarray(images[at][camera]) for at in even(len(images), MOMENTS)]


def rows_of_frames(rows: Sequence[Sequence[np.ndarray]], alt: str) -> Html:
    """Rows of frames below one another, a few pixels between them, all in the size of the first; where there are no
    frames, words that say so."""
    from PIL import Image

    rows = [row for row in rows if row]
    if not rows:
        return note("No frames were kept.")
    height, width = rows[0][0].shape[:2]
    scale = min(1.0, MOST_HEIGHT / height)
    height, width = round(height * scale), round(width * scale)
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for down, row in enumerate(rows):
        for across, frame in enumerate(row):
            cell = Image.fromarray(np.ascontiguousarray(frame))
            if cell.size != (width, height):
                cell = cell.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(cell, (across * (width + GAP), down * (height + GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    return tag("img", alt=alt, cls="frames", src=data_of(buffer.getvalue(), "image/jpeg"))


def strip(words: Sequence[str], frames: Html, *, success: bool | None) -> Html:
    """A row: words beside frames, coloured by the outcome, which the words name too."""
    return tag(
        "div",
        tag("div", *(tag("p", line) for line in words)),
        tag("div", frames),
        cls=f"strip {outcome(success=success)}",
    )


class OfTask(Protocol):
    """Whatever is of a task."""

    @property
    def task(self) -> str: ...


T = TypeVar("T", bound=OfTask)


def of_every_task(ordered: Sequence[T], count: int) -> list[T]:
    """The first `count` of them, of as many different tasks as there are."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int]] = []
    for place, one in enumerate(ordered):
        ranked.append((seen[one.task], place))
        seen[one.task] += 1
    return [ordered[place] for _, place in sorted(ranked)[:count]]


def outcome(*, success: bool | None) -> str:
    """A class of style."""
    return "unknown" if success is None else "won" if success else "lost"


def counted(row: Mapping[str, Any], *, success: bool) -> dict[str, Any]:
    """A row of the table `episodes` as the labels in force have it; how it ended is what was recorded of another
    outcome."""
    return {**row, "success": success, "event": row["event"] if row["success"] is success else ""}


def ending(row: Mapping[str, Any]) -> str:
    """'success', 'failure: toppled', 'not judged', of a row of the table `episodes`."""
    if row["success"] is None:
        return "not judged"
    if row["success"]:
        return "success"
    event = str(row["event"] or "")
    return f"failure: {event.replace('_', ' ')}" if event not in ("", "failure") else "failure"
