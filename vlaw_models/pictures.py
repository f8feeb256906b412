"""Pictures for people: a contact sheet of episodes, as an image, as PNG bytes or inline in Markdown (PIL only).

The frame's colour is the outcome: green success, red failure, grey not judged.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.plain_text import readable

GREEN, RED, GREY = (40, 160, 70), (205, 50, 45), (140, 140, 140)
BORDER, GAP, CAPTION = 4, 6, 22
PREVIEW_BYTES = 6000
"""Of a preview: 8 KB as text."""


def contact_sheet(
    episodes: Sequence[Episode], path: Path | str | None = None, columns: int = 8, scale: int = 2
) -> Image.Image:
    """One row per episode, `columns` moments from first to last, at each moment the cameras side by side.

    Pixels are enlarged `scale` times without smoothing. A caption above each row names task, instruction, outcome and,
    where `episode.extra` has them, the judge's P(yes) ("p_success") and how far it is from another one ("distance").
    Saved as PNG where `path` is given. Episodes may differ in length. VlawError without episodes.
    """
    if not episodes or columns < 1 or scale < 1:
        raise VlawError(
            f"a contact sheet of {len(episodes)} episodes, {columns} columns, scale {scale}",
            where="contact sheet",
            remedy="Give at least one episode, one column and scale 1.",
        )
    rows = [_row(episode, columns, scale) for episode in episodes]
    width = max(row.width for row in rows) + 2 * GAP
    height = sum(row.height + CAPTION + GAP for row in rows) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    top = GAP
    for episode, row in zip(episodes, rows, strict=True):
        text = fit(caption(episode), width - 2 * GAP, draw, font)
        draw.text((GAP, top + 2), text, fill=_colour(episode), font=font)
        sheet.paste(row, (GAP, top + CAPTION))
        top += row.height + CAPTION + GAP
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(png_bytes(sheet))
    return sheet


def caption(episode: Episode) -> str:
    """What a person wants to know about an episode at a glance, one line."""
    outcome = "not judged" if episode.success is None else "success" if episode.success else "failure"
    if episode.event and episode.event != outcome:
        outcome += f" ({episode.event})"
    named = [episode.task] if episode.task == episode.instruction else [episode.task, f'"{episode.instruction}"']
    parts = [*named, outcome]
    if "p_success" in episode.extra:
        parts.append(f"P(yes) {float(episode.extra['p_success']):.2f}")
    if "distance" in episode.extra:
        parts.append(f"distance {float(episode.extra['distance']):.4f}")
    parts.append(f"imagined from {episode.start_episode_id}" if episode.start_episode_id else f"seed {episode.seed}")
    parts.append(f"{episode.num_steps} steps")
    return readable("  ·  ".join(parts))


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file; same pixels, same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def preview(png: bytes, most: int = PREVIEW_BYTES) -> bytes:
    """The picture as WebP of at most so many bytes: as it is if that is enough, else as large as fits."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    found = _webp(image, 75)
    if len(found) > most:
        found = _webp(image, 25)
    width = image.width
    while len(found) > most and width > 1:
        # Bytes go with the area; the guess is refined by what it gave.
        width = max(1, min(width - 1, round(width * min(0.95, (most / len(found)) ** 0.5))))
        found = _webp(
            image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS), 25
        )
    return found


def md_image(image: bytes, alt: str = "contact sheet") -> str:
    """A PNG or WebP as Markdown with the picture inside it (base64), as Dagster shows it in an asset's metadata."""
    kind = "webp" if image[8:12] == b"WEBP" else "png"
    return f"![{alt}](data:image/{kind};base64,{base64.b64encode(image).decode('ascii')})"


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality)
    return buffer.getvalue()


def _row(episode: Episode, columns: int, scale: int) -> Image.Image:
    images = episode.images
    moments = np.rint(np.linspace(0, len(images) - 1, min(columns, len(images)))).astype(int)
    cells = [np.concatenate(list(images[moment]), axis=1) for moment in moments]
    height, width = cells[0].shape[:2]
    cell_width, cell_height = width * scale + 2 * BORDER, height * scale + 2 * BORDER
    row = Image.new("RGB", (columns * (cell_width + GAP) - GAP, cell_height), "white")
    for column, cell in enumerate(cells):
        frame = Image.new("RGB", (cell_width, cell_height), _colour(episode))
        picture = Image.fromarray(cell).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        frame.paste(picture, (BORDER, BORDER))
        row.paste(frame, (column * (cell_width + GAP), 0))
    return row


def fit(text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut off where it is wider than so many pixels."""
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip() + "…"
    return text


def _colour(episode: Episode) -> tuple[int, int, int]:
    return GREY if episode.success is None else GREEN if episode.success else RED
