"""Several camera views in one latent picture: stacked along its height, in the order of the robot's cameras.

Why stacked (as Ctrl-World does): one network sees all views of a
moment and keeps them consistent, whatever the number of cameras.
"""

from __future__ import annotations

import torch


def stack_views(latents: torch.Tensor) -> torch.Tensor:
    """(..., V, C, h, w) -> (..., C, V*h, w): rows 0..h-1 are the first camera."""
    *lead, views, channels, height, width = latents.shape
    return latents.movedim(-4, -3).reshape(*lead, channels, views * height, width)


def split_views(latents: torch.Tensor, views: int) -> torch.Tensor:
    """(..., C, V*h, w) -> (..., V, C, h, w), the inverse of `stack_views`."""
    *lead, channels, height, width = latents.shape
    if height % views:
        raise ValueError(f"a latent picture {height} rows high does not hold {views} views")
    return latents.reshape(*lead, channels, views, height // views, width).movedim(-3, -4)


def position_maps(views: int, height: int, width: int) -> torch.Tensor:
    """(V + 2, V*h, w) float32: one-hot view maps, then row and column within the view in [-1, 1]."""
    rows = torch.linspace(-1, 1, height).repeat(views)[:, None].expand(-1, width)
    columns = torch.linspace(-1, 1, width)[None].expand(views * height, -1)
    which = torch.eye(views).repeat_interleave(height, dim=1)[:, :, None].expand(-1, -1, width)
    return torch.cat([which, rows[None], columns[None]])
