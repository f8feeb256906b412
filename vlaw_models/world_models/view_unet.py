"""The network of the tiny world model: a small U-Net for each camera, which meet in their smallest maps.

Cameras are apart because they see different things (a fixed one the hand move, one on the hand the table): weights of
their own cost no time. Blocks are diffusers' residual blocks, what the poses tell enters as their time embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8


class ViewUNet(nn.Module):
    """Three levels, at 1/2, 1/4 and 1/8 of the pictures' size; `down`, then what cameras exchange, then `up`."""

    def __init__(self, pictures: int, places: int, channels: Sequence[int], embedding: int, out: int):
        """`pictures` channels of pictures at full size, `places` at half; `out` channels for each pixel.

        `channels`: of each level, multiples of 16, for which CPUs are quick.
        """
        super().__init__()
        from diffusers.models.resnet import ResnetBlock2D

        def block(width: int) -> nn.Module:
            return ResnetBlock2D(
                in_channels=width, temb_channels=embedding, groups=GROUPS, time_embedding_norm="scale_shift"
            )

        self.pictures = nn.Conv2d(pictures, channels[0], 2, stride=2)
        self.places = nn.Conv2d(places, channels[0], 1)
        self.before = nn.ModuleList(block(width) for width in channels)
        self.after = nn.ModuleList(block(width) for width in channels)
        steps = list(pairwise(channels))
        self.smaller = nn.ModuleList(nn.Conv2d(wide, deep, 2, stride=2) for wide, deep in steps)
        self.larger = nn.ModuleList(nn.Conv2d(deep, 4 * wide, 1) for wide, deep in steps)
        self.normal = nn.GroupNorm(GROUPS, channels[0])
        self.head = nn.Conv2d(channels[0], 4 * out, 1)

    def down(self, pictures: torch.Tensor, places: torch.Tensor, embedding: torch.Tensor) -> list[torch.Tensor]:
        """(B, pictures, h, w), (B, places, h/2, w/2), (B, E) to the maps of each level, the smallest last."""
        x = self.pictures(pictures) + self.places(places)
        maps = [self.before[0](x, embedding)]
        for smaller, block in zip(self.smaller, self.before[1:], strict=True):
            maps.append(block(smaller(F.silu(maps[-1])), embedding))
        return maps

    def up(self, maps: Sequence[torch.Tensor], embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The maps of `down`, the smallest with what other cameras told, to (B, out, h, w), and the largest map inside,
        (B, C, h/2, w/2)."""
        x = self.after[-1](maps[-1], embedding)
        for level in reversed(range(len(self.larger))):
            x = F.pixel_shuffle(self.larger[level](F.silu(x)), 2) + maps[level]
            x = self.after[level](x, embedding)
        x = F.silu(self.normal(x))
        return F.pixel_shuffle(self.head(x), 2), x


class Exchange(nn.Module):
    """Every place of every camera's smallest map attends to all of them."""

    def __init__(self, places: int, width: int):
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(places, width))
        self.layer = nn.TransformerEncoderLayer(
            width, max(1, width // 32), 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One (B, C, h, w) per camera, of any sizes, to the same."""
        shapes = [one.shape[-2:] for one in maps]
        tokens = torch.cat([one.flatten(2) for one in maps], dim=2).transpose(1, 2)
        told = self.layer(tokens + self.position).transpose(1, 2).split([shape.numel() for shape in shapes], dim=2)
        parts = zip(told, shapes, strict=True)
        return [one.unflatten(2, shape).contiguous(memory_format=torch.channels_last) for one, shape in parts]
