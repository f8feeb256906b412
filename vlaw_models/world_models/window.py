"""The part of a fixed camera's picture in which things move: around the hand. The rest stays as it is.

What a hand moves it touches, so a network need not look at the whole table to tell the next frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlaw_models.robots.cameras import project
from vlaw_models.robots.spec import Pinhole

ABOVE = 1 / 16
"""Share of the picture's height by which the window's middle is above the pinch point: the hand hangs from an arm."""
STEP = 2
"""Windows begin at multiples of so many pixels: networks begin with patches of that size."""

Corners = list[tuple[int, int]]
"""Top and left of each sample's window, pixels."""


@torch.no_grad()
def corners(camera: Pinhole, poses: torch.Tensor, window: Sequence[int], picture: Sequence[int]) -> Corners:
    """Where windows of (rows, columns) lie in pictures of (rows, columns), of hands that pass `poses` (B, M, D): the
    middle of the way of the pinch point is a little below that of the window, as far as the picture reaches."""
    each = poses.flatten(0, 1)
    way = project(camera, each, each[:, :3]).unflatten(0, poses.shape[:2])
    size, own = (torch.tensor(shape, device=poses.device) for shape in (picture, window))
    middle = (1 + (way.amin(1) + way.amax(1)).flip(1) / 2) * size / 2  # rows come first
    middle[:, 0] -= ABOVE * size[0]
    first = ((middle - own / 2) / STEP).round().long() * STEP
    return [(top, left) for top, left in first.clamp(min=torch.zeros_like(own), max=size - own).tolist()]


def cut(pictures: torch.Tensor, at: Corners, window: Sequence[int]) -> torch.Tensor:
    """(B, ..., h, w) to what is in the windows, (B, ..., rows, columns)."""
    found = zip(pictures.unbind(), at, strict=True)
    return torch.stack([one[..., top : top + window[0], left : left + window[1]] for one, (top, left) in found])


def put_back(pictures: torch.Tensor, at: Corners, parts: torch.Tensor) -> torch.Tensor:
    """The `pictures` (B, 3, h, w) at each of H moments, (B, H, 3, h, w), but in the windows `parts` (B, H, 3, rows,
    columns)."""
    rows, columns = parts.shape[-2:]
    whole = []
    for picture, part, (top, left) in zip(pictures, parts, at, strict=True):
        one = picture.expand(len(part), -1, -1, -1).clone()
        one[..., top : top + rows, left : left + columns] = part
        whole.append(one)
    return torch.stack(whole)
