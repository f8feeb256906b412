"""Decides, for every pixel of a coming picture, where it comes from: a small network applied to each pixel alone.

What is known of a pixel (its colour in every picture it could be copied from, which spot of the hand or of the table
the calibrated cameras say it shows, features of its surroundings) and the decision. The pictures and features are
warp_unet.py's. Why: a hand's outline follows from its pose, and a network that sees only coarse features draws it
blurred.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.device import mixed
from vlaw_models.robots.cameras import places
from vlaw_models.robots.spec import Pinhole

WAVES = (1.0, 2.0, 5.0, 12.0)
"""Frequencies of the sines in which a spot is also given, in half turns per reach: the finest tell two pixels apart."""
REACH = {False: 0.12, True: 0.3}
"""Metres around the pinch point (fixed camera) or the table's centre (camera on the hand) that spots tell apart."""
MOMENTS = 2
"""A pixel's spot is given for the coming pose and for the current one."""


class PixelDecoder(nn.Module):
    """Logits of where a pixel comes from, and the colour it has if from nowhere."""

    def __init__(
        self,
        pictures: int,
        features: int,
        sources: int,
        cameras: tuple[Pinhole, ...],
        height: int,
        width: int,
        hidden: int,
        pose_dim: int,
    ):
        super().__init__()
        self.cameras, self.height, self.width = cameras, height, width
        spots = 3 * (1 + 2 * len(WAVES))
        self.colours = nn.Conv2d(3 * pictures + features, hidden, 1)
        self.spots = nn.ModuleList(nn.Linear(MOMENTS * spots, hidden) for _ in cameras)
        self.poses = nn.Linear(MOMENTS * pose_dim, hidden)
        self.decide = nn.Sequential(
            nn.SiLU(), nn.Conv2d(hidden, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, sources + 3, 1)
        )
        with torch.no_grad():
            self.decide[-1].weight.mul_(0.1)
            self.decide[-1].bias.zero_()
        grid = F.affine_grid(torch.eye(3)[None, :2], [1, 1, height, width], align_corners=False).view(-1, 2)
        self.register_buffer("pixels", grid, persistent=False)

    def forward(
        self, pictures: torch.Tensor, surroundings: torch.Tensor, poses: torch.Tensor, normal: torch.Tensor
    ) -> torch.Tensor:
        """(N, 3 pictures, V*height, width), (N, features, same), poses and normalised poses (N, MOMENTS, D) to (N,
        sources + 3, same)."""
        # In float32 and as sums of products: most of the time goes into moving pixels around, not into multiplying.
        with mixed(poses.device, enabled=False):
            shared = self.poses(normal.flatten(1)) + self.colours.bias
            x = torch.cat(
                [
                    self._spots(camera, linear, poses, shared)
                    for camera, linear in zip(self.cameras, self.spots, strict=True)
                ],
                2,
            )
            from_pictures, from_surroundings = self.colours.weight.flatten(1).split(
                (pictures.shape[1], surroundings.shape[1]), dim=1
            )
            x = _plus(
                _plus(x, from_pictures, pictures.float().flatten(2)), from_surroundings, surroundings.float().flatten(2)
            )
            for layer in self.decide[1::2]:
                x = _plus(layer.bias[:, None], layer.weight.flatten(1), F.silu(x, inplace=not self.training))
            return x.unflatten(2, pictures.shape[2:])

    def _spots(self, camera: Pinhole, linear: nn.Linear, poses: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """(N, hidden, P) from the spots of one view's pixels and what all pixels share (N, hidden)."""
        spot = places(camera, poses.flatten(0, 1).float(), self.pixels)
        spot = (spot / REACH[camera.on_hand]).clamp(-1.5, 1.5).unflatten(0, poses.shape[:2]).flatten(1, 2)
        known = [spot, *(f(k * torch.pi * spot) for k in WAVES for f in (torch.sin, torch.cos))]
        x = (shared + linear.bias)[:, :, None]
        for weight, values in zip(linear.weight.split(spot.shape[1], dim=1), known, strict=True):
            x = _plus(x, weight, values)
        return x


def _plus(x: torch.Tensor, weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """x + weight @ values: (N, hidden, P) or what becomes that, (hidden, C), (N, C, P) to (N, hidden, P)."""
    weight = weight.expand(len(values), -1, -1)
    return (
        x.baddbmm_(weight, values)
        if not x.requires_grad and x.shape[-1] == values.shape[-1]
        else torch.baddbmm(x, weight, values)
    )
