"""Pictures on their way into a policy's network: made square, and shifted at random in training."""

from __future__ import annotations

import torch
from torch.nn import functional


def square_pixels(images: torch.Tensor, size: int) -> torch.Tensor:
    """(B, V, h, w, 3) uint8 to (B, V, 3, size, size) in [-1, 1], resized without distortion, padded with black."""
    batch, views, height, width, _ = images.shape
    pixels = images.reshape(batch * views, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1
    if (height, width) != (size, size):
        scale = size / max(height, width)
        fitted = (round(height * scale), round(width * scale))
        pixels = functional.interpolate(pixels, size=fitted, mode="bilinear", align_corners=False, antialias=scale < 1)
        top, left = (size - fitted[0]) // 2, (size - fitted[1]) // 2
        right, bottom = size - fitted[1] - left, size - fitted[0] - top
        pixels = functional.pad(pixels, (left, right, top, bottom), value=-1.0)
    return pixels.unflatten(0, (batch, views))


def openpi_pixels(images: torch.Tensor, size: int) -> torch.Tensor:
    """`square_pixels` as openpi's robots make their pictures square, by PIL: width first, then height, rounded to whole
    levels after each, sides rounded down."""
    batch, views, height, width, _ = images.shape
    pixels = images.reshape(batch * views, height, width, 3).permute(0, 3, 1, 2).float()
    if (height, width) != (size, size):
        ratio = max(width / size, height / size)
        fitted = (int(height / ratio), int(width / ratio))
        for shape in ((height, fitted[1]), fitted):
            pixels = functional.interpolate(pixels, size=shape, mode="bilinear", align_corners=False, antialias=True)
            pixels = (pixels + 0.5).floor().clamp(0, 255)
        top, left = (size - fitted[0]) // 2, (size - fitted[1]) // 2
        right, bottom = size - fitted[1] - left, size - fitted[0] - top
        pixels = functional.pad(pixels, (left, right, top, bottom))
    return (pixels / 127.5 - 1).unflatten(0, (batch, views))


def shifted(
    images: torch.Tensor, points: torch.Tensor | None, reach: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Every image (B, V, h, w, 3) moved by up to `reach` pixels, its border repeated; its points move with it."""
    if reach == 0:
        return images, points
    batch, views, height, width, _ = images.shape
    offsets = torch.randint(-reach, reach + 1, (batch, views, 2), generator=generator)
    # One slice per picture is several times faster than one gather over all pixels.
    moved, padded = images.new_empty(images.shape), _repeat_border(images, reach)
    for i, row in enumerate(offsets.tolist()):
        for view, (x, y) in enumerate(row):
            moved[i, view] = padded[i, view, reach + y : reach + y + height, reach + x : reach + x + width]
    if points is not None:
        points = points - (offsets / torch.tensor([width, height]))[:, :, None].to(points.device)
    return moved, points


def _repeat_border(images: torch.Tensor, reach: int) -> torch.Tensor:
    """(B, V, h, w, 3) with `reach` more pixels on every side."""
    rows = torch.arange(-reach, images.shape[2] + reach, device=images.device).clamp(0, images.shape[2] - 1)
    columns = torch.arange(-reach, images.shape[3] + reach, device=images.device).clamp(0, images.shape[3] - 1)
    return images.index_select(2, rows).index_select(3, columns)
