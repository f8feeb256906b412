"""What a pixel of a coming picture may be copied from, and what the cameras' calibration tells about it.

Pictures that moved as the poses say, for every pixel which spot of the hand or of the table it shows, and what a
source is worth there before any picture is looked at.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.robots.cameras import PLANES, follow, origins, places
from vlaw_models.robots.spec import Pinhole
from vlaw_models.world_models.window import Corners, cut

WAVES = 3
"""A spot is also given as sines and cosines of 1, 3 and 9 half turns per reach: the finest tell two pixels apart."""
REACH = {False: 0.12, True: 0.3}
"""Metres around the pinch point (fixed camera) or the table's centre (camera on the hand) that spots tell apart."""
PLATES = 2
"""Learned pictures that a pixel may be taken from: of what moves in the camera's picture, and of what stays."""
COLOURS = 3


def layers(camera: Pinhole) -> int:
    """How many moved copies of the current frame a camera's picture has: a camera on the hand sees one per plane."""
    return len(PLANES) if camera.on_hand else 1


def count(camera: Pinhole, context: int) -> int:
    """How many pictures a pixel may be copied from: the context frames, the current one moved, the first one moved."""
    return context + layers(camera) + 1


@torch.no_grad()
def origin_grids(camera: Pinhole, poses: torch.Tensor, known: int, pixels: torch.Tensor) -> torch.Tensor:
    """Where each pixel was, (B, H, layers + 1, rows, columns, 2), as the hand's motion to each of the H coming poses
    tells: in the current frame for each layer, and in the first one.

    `poses` (B, known + H, D) of the context frames, the first one of the trajectory first and the current one last, and
    of the coming frames; `pixels` (B, rows, columns, 2) from -1 to 1. For a camera on the hand the table moves, for a
    fixed one the hand.
    """
    coming = poses[:, known:]
    since = [(known - 1, layer) for layer in range(layers(camera))] + [(0, 0)]
    maps = [
        origins(camera, poses[:, begin, None].expand_as(coming).flatten(0, 1), coming.flatten(0, 1), layer)
        for begin, layer in since
    ]
    each = pixels.flatten(1, 2).repeat_interleave(coming.shape[1] * len(since), 0)
    grids = follow(torch.stack(maps, dim=1).flatten(0, 1), each)
    return grids.view(len(poses), coming.shape[1], len(since), *pixels.shape[1:])


@torch.no_grad()
def moved(camera: Pinhole, frames: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """The current and the first of `frames` (B, K, 3, h, w), moved by `origin_grids` of some of their pixels, (B, H,
    layers + 1, rows, columns, 2): (B, H, layers + 1, 3, rows, columns).

    On the hand by bicubic weights: what moves is moved again in every chunk, and bilinear ones would blur it away.
    """
    batch, chunk, _, height, width, _ = grids.shape

    def sampled(picture: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
        grid = grid.reshape(batch, -1, width, 2)
        found = F.grid_sample(picture, grid, mode=mode, padding_mode="border", align_corners=False)
        return found.view(batch, 3, chunk, -1, height, width).movedim(1, 3)

    mode = "bicubic" if camera.on_hand else "bilinear"
    now, begun = sampled(frames[:, -1], grids[:, :, :-1], mode), sampled(frames[:, 0], grids[:, :, -1:], "bilinear")
    return torch.cat([now, begun], dim=2)


class Prior(nn.Module):
    """What is known of a pixel before any picture is looked at: learned tables over the hand and over the scene.

    A fixed camera always shows the same scene and a hand that moves: the scene's tables are pictures, the hand's lie on
    the plane through the hand that faces the camera. For a camera on the hand it is the other way round: the hand's are
    pictures, the scene's lie on the table. Tables say how what is there looks when nothing can be copied (PLATES),
    which source is right there (those that move with the poses: what moves, and its plate), and that the hand hides
    what is behind it: where it was in a context frame, and where its picture came to lie in one that was moved, that is
    no source.
    """

    GAIN = 10
    """Tables times this are logits: each of their cells is looked up for few pixels, and is to learn as quickly."""
    HAND = (32, (0.0, 0.05), (0.1, 0.14))
    """Cells each way of a table over the hand; its middle, metres from the pinch point to the right and upwards as the
    camera sees it; and half its size."""
    TABLE = (96, (0.0, 0.0), (0.5, 0.5))
    """The same of a table over the table, its middle that of the table."""

    def __init__(self, camera: Pinhole, context: int, height: int, width: int):
        super().__init__()
        self.camera, self.context = camera, context
        cells, centre, scale = self.TABLE if camera.on_hand else self.HAND
        self.sources = count(camera, context) + PLATES + 1
        self.still = nn.Parameter(torch.zeros(self.sources + COLOURS, height, width))
        self.moving = nn.Parameter(torch.zeros(self.sources - context - 2 + COLOURS, cells, cells))
        self.hides = nn.Parameter(torch.zeros(1, *(self.still if camera.on_hand else self.moving).shape[1:]))
        axes = torch.eye(3)[:2] if camera.on_hand else torch.tensor([camera.right, camera.up])
        self.register_buffer("axes", axes, persistent=False)
        self.register_buffer("centre", torch.tensor(centre), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(
        self, poses: torch.Tensor, grids: torch.Tensor, pixels: torch.Tensor, at: Corners
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (B, H, sources, rows, columns) of `poses` (B, K + H, D), and the plates, each as (B, H, 3, rows,
        columns).

        `grids` (B, H, layers + 1, rows, columns, 2): where in its own frame each pixel of a moved picture was; they
        are those of `pixels` (B, rows, columns, 2), of windows that begin `at`.
        """
        batch, chunk, copies, height, width, _ = grids.shape
        charts = self._charts(poses, pixels.flatten(1, 2)).unflatten(2, (height, width))
        coming = charts[:, self.context :]
        found, colours = self._looked_up(self.moving, coming).split((self.moving.shape[0] - COLOURS, COLOURS), dim=2)
        # Sources are the context, what is moved, the plate of what moves, that of what stays, and paint.
        still = cut(self.still.expand(batch, -1, -1, -1), at, (height, width))[:, None]
        logits = F.pad(found, (0, 0, 0, 0, self.context, 2)) + still[:, :, : self.sources]
        plates = [torch.tanh(colours), torch.tanh(still[:, :, self.sources :]).expand_as(colours)]
        if self.camera.on_hand:
            hidden = F.grid_sample(
                self.hides.expand(batch, -1, -1, -1), grids.view(batch, -1, width, 2), align_corners=False
            ).view(batch, chunk, copies, height, width)
            before = self.context
        else:
            hidden = self._looked_up(self.hides, charts[:, : self.context]).movedim(2, 1)
            hidden = hidden.expand(-1, chunk, -1, -1, -1)
            before = 0
        after = self.sources - before - hidden.shape[2]
        return self.GAIN * (logits - F.pad(hidden, (0, 0, 0, 0, before, after))), plates

    @torch.no_grad()
    def _charts(self, poses: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """(B, M, D) to (B, M, P, 2): the place in the tables that each pixel shows, from -1 to 1."""
        found = places(self.camera, poses.flatten(0, 1), pixels.repeat_interleave(poses.shape[1], 0))
        return (((self.axes @ found).transpose(1, 2) - self.centre) / self.scale).unflatten(0, poses.shape[:2])

    def _looked_up(self, table: torch.Tensor, charts: torch.Tensor) -> torch.Tensor:
        """(C, cells, cells) at (B, M, h, w, 2): (B, M, C, h, w)."""
        batch, moments, height, width, _ = charts.shape
        found = F.grid_sample(
            table.expand(batch, -1, -1, -1),
            charts.reshape(batch, moments * height, width, 2),
            padding_mode="border",
            align_corners=False,
        )
        return found.unflatten(2, (moments, height)).movedim(2, 1)


@torch.no_grad()
def spots(camera: Pinhole, poses: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(B, M, D) poses and pixels (B, P, 2) to (B, M * 3 (1 + 2 WAVES), P): what each pixel shows at each moment.

    For a fixed camera where on the hand, if the hand is there; for one on the hand where on the table.
    """
    spot = places(camera, poses.flatten(0, 1), pixels.repeat_interleave(poses.shape[1], 0)) / REACH[camera.on_hand]
    spot = spot.clamp(-1.5, 1.5)
    sine, cosine = (torch.pi * spot).sin(), (torch.pi * spot).cos()
    found = [spot, sine, cosine]
    for _ in range(WAVES - 1):  # three times the angle: cheaper than another sine
        sine, cosine = sine * (3 - 4 * sine**2), cosine * (4 * cosine**2 - 3)
        found += [sine, cosine]
    return torch.cat([part.view(len(poses), -1, part.shape[-1]) for part in found], dim=1)
