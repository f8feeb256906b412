"""Film strips: episodes as rows of moments with a few words beside each, one picture that is readable at 700 pixels.

A row's edge has the colour of its outcome, as in pictures.py. Lines of text between rows part them, such as where the
threshold of a score lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.pictures import GREEN, GREY, RED, fit
from vlaw_models.plain_text import readable

WIDTH = 700
"""Pixels of a strip, and of the pictures that are put above one another."""
WORDS, HEIGHT, GAP, LINE = 156, 64, 4, 16
"""Pixels: of the words beside a row, of a row's frames, between frames, of a line of text."""
LINES = 4
"""Of words beside a row."""
INK, FAINT = (35, 38, 43), (110, 116, 125)


@dataclass(frozen=True)
class Strip:
    """One row."""

    frames: Sequence[np.ndarray]
    """Moments in order, each (height, width, 3) uint8."""
    words: Sequence[str]
    """Beside them, each from a new line; what is more than `LINES` is left out."""
    success: bool | None = None
    """Colours the row: green, red, grey where it is not known."""


@dataclass(frozen=True)
class Line:
    """A line of text between rows."""

    text: str
    colour: tuple[int, int, int] = field(default=FAINT)


def film(rows: Sequence[Strip | Line], width: int = WIDTH) -> Image.Image:
    """The rows below one another, `width` pixels wide. Frames keep their shape; those that do not fit are left out
    evenly. VlawError without rows."""
    if not rows:
        raise VlawError("a film strip of nothing", where="film", remedy="Give at least one row.")
    heights = [LINE + 6 if isinstance(row, Line) else HEIGHT + 4 + GAP for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        if isinstance(row, Line):
            draw.line([(0, top + 1), (width, top + 1)], fill=row.colour, width=1)
            draw.text((GAP, top + 4), fit(readable(row.text), width - 2 * GAP, draw, font), fill=row.colour, font=font)
        else:
            _draw_row(sheet, draw, font, row, top, width)
        top += height
    return sheet


def moments(episode: Episode, count: int = 8, camera: int = 0) -> list[np.ndarray]:
    """`count` frames of one camera, evenly from the first to the last; all where there are fewer."""
    total = len(episode.images)
    return [np.asarray(episode.images[index][camera]) for index in even(total, count)]


def even(total: int, count: int) -> list[int]:
    """At most `count` of the numbers 0 .. total - 1, evenly, first and last among them."""
    return sorted({int(index) for index in np.rint(np.linspace(0, total - 1, min(count, total)))})


def stacked(pictures: Sequence[Image.Image], width: int = WIDTH) -> Image.Image:
    """Pictures above one another on white, those that are wider made smaller."""
    shown = [
        one
        if one.width <= width
        else one.resize((width, max(1, round(one.height * width / one.width))), Image.Resampling.LANCZOS)
        for one in pictures
    ]
    sheet = Image.new("RGB", (width, sum(one.height for one in shown) + GAP * (len(shown) - 1)), "white")
    top = 0
    for one in shown:
        sheet.paste(one, (0, top))
        top += one.height + GAP
    return sheet


def difference(first: np.ndarray, second: np.ndarray, gain: int = 3) -> np.ndarray:
    """What differs between two frames (height, width, 3) uint8: black where nothing does, `gain` times brighter."""
    return np.clip(gain * np.abs(first.astype(np.int16) - second.astype(np.int16)), 0, 255).astype(np.uint8)


def _wrapped(text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines of so many pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fit(line, width, draw, font) for line in lines] or [""]


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, row: Strip, top: int, width: int
) -> None:
    colour = GREY if row.success is None else GREEN if row.success else RED
    draw.rectangle([(0, top), (3, top + HEIGHT + 3)], fill=colour)
    lines = [line for text in row.words for line in _wrapped(readable(text), WORDS - 16, draw, font)]
    for number, line in enumerate(lines[:LINES]):
        draw.text((10, top + number * LINE), line, fill=FAINT if number else INK, font=font)
    frames = list(row.frames)
    if not frames:
        return
    wide = max(1, round(frames[0].shape[1] * HEIGHT / frames[0].shape[0]))
    room = max(1, (width - WORDS + GAP) // (wide + GAP))
    for column, index in enumerate(even(len(frames), room)):
        cell = Image.fromarray(frames[index]).resize((wide, HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(cell, (WORDS + column * (wide + GAP), top + 2))
