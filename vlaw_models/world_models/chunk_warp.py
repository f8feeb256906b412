"""The tiny world model: moves what it has already seen, and paints only what is new, a whole chunk at once.

A network (view_unet.py) decides for every pixel of the coming frames where it comes from: a context frame, one of them
moved as the poses tell (copies.py), or new paint (the transforming predictors of Finn et al., arXiv 1605.07157). Why: a
block that is carried stays the block; a network of this size that paints every frame anew blurs it away within two
chunks. A chunk at once: one pass of the network for its frames, and what moves is sampled anew once for each chunk and
not for each frame, so that it stays sharp. The frames are the mean of what may come, which for a robot and a table is
nearly all there is: there is no noise to remove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.device import mixed
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import Pinhole, RobotSpec
from vlaw_models.world_models import copies
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel
from vlaw_models.world_models.copies import COLOURS
from vlaw_models.world_models.edm import EdmConfig
from vlaw_models.world_models.view_unet import Exchange, ViewUNet
from vlaw_models.world_models.window import Corners, corners, cut, put_back

WAVES = (0.5, 1.0, 2.0)
"""Frequencies of the sines in which poses are also given."""
PIECE = 8
"""Windows per pass when sampling: what they touch stays in a CPU's cache."""
STAY = 3.0
"""Initial advantage (in logits) of 'comes from the current frame'."""
SHARPER = 1.5
"""When sampling, logits of where a pixel comes from are multiplied by this: blends are nearest on average, but over
many chunks what is blended fades away (ink, a carried block)."""


@dataclass(frozen=True)
class ChunkWarpConfig:
    """Shapes and pose range of the tiny world model."""

    pose_low: tuple[float, ...]
    """What poses are scaled by, with `pose_high`."""
    pose_high: tuple[float, ...]
    cameras: tuple[Pinhole, ...]
    """Calibration of every view."""
    views: int = 3
    height: int = 64
    """Rows of one view; latents are the pixels (autoencoders/folded_pixels.py, not folded)."""
    width: int = 64
    window: tuple[int, int] = (48, 40)
    """Rows and columns of a fixed camera's picture, around the hand, that are predicted: the rest stays as it is.
    Multiples of 8."""
    context: tuple[int, ...] = (ANCHOR, 6, 0)
    """Frames that may be copied from, the first one of the trajectory first and the current one last: what the hand hid
    for a while is in an older one."""
    chunk: int = 4
    channels: tuple[int, ...] = (32, 64, 96)
    """Of the networks' three levels."""
    embedding: int = 128
    """Numbers that tell the networks the poses."""


class _View(NamedTuple):
    """One camera's pictures, and what is in their windows."""

    whole: torch.Tensor
    """(B, K, 3, h, w)."""
    at: Corners
    places: torch.Tensor
    """(B, rows, columns, 2): of each pixel in the whole picture, x and y from -1 to 1."""
    seen: torch.Tensor
    """(B, K, 3, rows, columns)."""
    grids: torch.Tensor
    """(B, H, layers + 1, rows, columns, 2), see `copies.origin_grids`."""
    moved: torch.Tensor
    """(B, H, layers + 1, 3, rows, columns), see `copies.moved`."""


class ChunkWarp(WorldModel):
    """Predicts the frames of a chunk from the current one, an earlier one, the first one, and the poses of all."""

    config_class = ChunkWarpConfig
    deterministic = True
    latents_are_pixels = True
    change_patch = 4

    def __init__(self, config: ChunkWarpConfig):
        super().__init__(config)
        c = config
        if len(c.cameras) != c.views:
            raise VlawError(
                f"{len(c.cameras)} calibrated cameras for {c.views} views",
                where="ChunkWarp's configuration",
                remedy="Give the calibration of every view, or use a ChunkUNet, which needs none.",
            )
        if any(not 8 <= side <= whole or side % 8 for side, whole in zip(c.window, (c.height, c.width), strict=True)):
            raise VlawError(
                f"a window of {c.window[0]} x {c.window[1]} in pictures of {c.height} x {c.width} pixels",
                where="ChunkWarp's configuration",
                remedy="Give rows and columns in multiples of 8, no more than the pictures have.",
            )
        self.edm, self.chunk, self.views, self.pose_dim = EdmConfig(), c.chunk, c.views, len(c.pose_low)
        self.latent_shape = (COLOURS, c.views * c.height, c.width)
        known, moments = len(c.context), 2 + c.chunk
        self.copied = [copies.count(camera, known) for camera in c.cameras]
        spots = COLOURS * (1 + 2 * copies.WAVES) * moments
        self.networks = nn.ModuleList(
            ViewUNet(
                COLOURS * (known + (copied - known) * c.chunk),
                spots + 2,
                c.channels,
                c.embedding,
                (copied + copies.PLATES + 1 + COLOURS) * c.chunk,
            )
            for copied in self.copied
        ).to(memory_format=torch.channels_last)
        self.priors = nn.ModuleList(copies.Prior(camera, known, c.height, c.width) for camera in c.cameras)
        self.windows = [(c.height, c.width) if camera.on_hand else c.window for camera in c.cameras]
        cells = sum((rows >> len(c.channels)) * (columns >> len(c.channels)) for rows, columns in self.windows)
        self.exchange = Exchange(cells, c.channels[-1])
        self.feature_shape = (1, cells, c.channels[-1] + 2 * c.channels[0])
        with torch.no_grad():
            for network in self.networks:
                network.head.weight.mul_(0.1)
                network.head.bias.zero_()
                network.head.bias.view(c.chunk, -1, 4)[:, known - 1].fill_(STAY)
        features = self.pose_dim * (moments * (1 + 2 * len(WAVES)) + c.chunk)
        self.told = nn.Sequential(
            nn.Linear(features, 256),
            nn.SiLU(),
            nn.Linear(256, c.embedding),
            nn.SiLU(),
            nn.Linear(c.embedding, c.embedding),
        )
        self.register_buffer("pixels", _grid(c.height, c.width), persistent=False)
        self.register_buffer("half_pixel", torch.tensor([1 / c.width, 1 / c.height]), persistent=False)
        self.register_buffer("pose_low", torch.tensor(c.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(c.pose_high), persistent=False)

    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """(B, H, C, h, w): the frames to come, whatever the noise."""
        del scaled, sigma
        return self.predict(condition)

    def predict(self, condition: Condition) -> torch.Tensor:
        """The frames to come (B, H, C, V*h, w), float32."""
        return self._pieces(condition)[0]

    def with_features(
        self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, 1, P, F): of every place of the cameras' smallest maps, what all cameras exchanged and what was
        decided there."""
        del scaled, sigma
        frames, features = self._pieces(condition)
        return frames, torch.cat(features, dim=2).mT[:, None]

    def _pieces(self, condition: Condition) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Frames (B, H, C, V*h, w), and of each camera features (B, F, places)."""
        if self.training or len(condition.context) <= PIECE:
            return self._predict(condition.context, condition.poses)
        pieces = zip(condition.context.split(PIECE), condition.poses.split(PIECE), strict=True)
        frames, features = zip(*(self._predict(*piece) for piece in pieces), strict=True)
        return torch.cat(frames), [torch.cat(of_camera) for of_camera in zip(*features, strict=True)]

    def _predict(self, context: torch.Tensor, poses: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        c, poses = self.config, poses.float()
        known = len(c.context)
        frames = context.float().unflatten(3, (c.views, c.height)).unbind(3)
        views = [self._looked_at(*of_view, poses) for of_view in zip(c.cameras, self.windows, frames, strict=True)]
        told = self.told(self._pose_features(poses))
        moments = poses[:, [0, *range(known - 1, poses.shape[1])]]
        maps = []
        for camera, network, view in zip(c.cameras, self.networks, views, strict=True):
            half = view.places[:, ::2, ::2] + self.half_pixel
            spots = copies.spots(camera, moments, half.flatten(1, 2))
            known_places = torch.cat([spots, half.flatten(1, 2).mT], dim=1).unflatten(2, half.shape[1:3])
            pictures = torch.cat([view.seen.flatten(1, 2), view.moved.flatten(1, 3)], dim=1)
            maps.append(network.down(pictures, known_places, told))
        met = self.exchange([levels[-1] for levels in maps])
        found, features = [], []
        for i, (network, view) in enumerate(zip(self.networks, views, strict=True)):
            decided, inside = network.up([*maps[i][:-1], met[i]], told)
            decided = decided.float().contiguous().unflatten(1, (c.chunk, -1))
            prior, plates = self.priors[i](poses, view.grids, view.places, view.at)
            given = [*view.seen[:, None].unbind(2), *view.moved.unbind(2), *plates]
            made = _composed(decided, prior, given, 1.0 if self.training else SHARPER)
            found.append(put_back(view.whole[:, -1], view.at, made))
            if self.heads is not None:
                features.append(_at_places(met[i], inside))
        return torch.cat(found, dim=3).clamp(-1, 1), features

    def _looked_at(self, camera: Pinhole, window: tuple[int, int], frames: torch.Tensor, poses: torch.Tensor) -> _View:
        """What is in a camera's windows: `frames` (B, K, 3, h, w), poses (B, K + H, D)."""
        known = len(self.config.context)
        at = corners(camera, poses[:, known - 1 :], window, frames.shape[-2:])
        places = cut(self.pixels.expand(len(poses), -1, -1, -1), at, window).permute(0, 2, 3, 1).contiguous()
        grids = copies.origin_grids(camera, poses, known, places)
        return _View(frames, at, places, cut(frames, at, window), grids, copies.moved(camera, frames, grids))

    def _pose_features(self, poses: torch.Tensor) -> torch.Tensor:
        """(B, K + H, D) to (B, features): the first, the current and the coming poses, plain and in waves, and the
        changes, magnified: one control step moves the hand by a small part of its range."""
        known = len(self.config.context)
        normal = 2 * (poses - self.pose_low) / (self.pose_high - self.pose_low) - 1
        moments = torch.cat([normal[:, :1], normal[:, known - 1 :]], dim=1)
        waves = [wave(k * torch.pi * moments) for k in WAVES for wave in (torch.sin, torch.cos)]
        return torch.cat([moments, *waves, 3 * normal[:, known - 1 :].diff(dim=1)], dim=1).flatten(1)

    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        del rng
        return self.config.context, tuple(range(1, self.chunk + 1))

    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As it is: noise would teach to blend copies, and blends fade. Its own imagination prepares it for closed
        loops."""
        del generator
        return context

    @classmethod
    def of_robot(cls, robot: RobotSpec) -> dict[str, Any]:
        """Raises VlawError too for a robot whose cameras are not calibrated, or whose hand does more than pitch."""
        known = tuple(camera.pinhole for camera in robot.cameras if camera.pinhole is not None)
        if len(known) != len(robot.cameras) or robot.state.orientation != "pitch":
            raise VlawError(
                f"robot {robot.name!r} has {len(known)} calibrated cameras of {len(robot.cameras)}, and an orientation "
                f"written as {robot.state.orientation or 'nothing'!r}; a ChunkWarp needs all of them, and a pitch",
                where="ChunkWarp's configuration",
                remedy="Use a ChunkUNet or a CtrlWorld, which need no calibration.",
            )
        return {**super().of_robot(robot), "cameras": known}


def _composed(
    decided: torch.Tensor, prior: torch.Tensor, given: Sequence[torch.Tensor], sharper: float
) -> torch.Tensor:
    """Frames (B, H, 3, h, w) from the logits of all sources and the paint's colours (B, H, sources + 3, h, w), the
    prior's logits (B, H, sources, h, w), and what may be copied, each (B, H or 1, 3, h, w): all sources but paint."""
    with mixed(decided.device, enabled=False):
        logits, paint = decided.split((prior.shape[2], COLOURS), dim=2)
        *shares, new = (sharper * (logits + prior)).softmax(dim=2).unsqueeze(3).unbind(2)
        frame = new * torch.tanh(paint)
        for share, copy in zip(shares, given, strict=True):
            frame = torch.addcmul(frame, share, copy)
        return frame


def _at_places(smallest: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) and a larger map (B, c, H, W) to (B, C + 2c, h*w): the larger one's mean and peak in each place."""
    shape = smallest.shape[-2:]
    pooled = F.adaptive_avg_pool2d(largest, shape), F.adaptive_max_pool2d(largest, shape)
    return torch.cat([smallest, *pooled], dim=1).float().flatten(2)


def _grid(height: int, width: int) -> torch.Tensor:
    """The centres of all pixels (2, h, w), x and y from -1 to 1."""
    return F.affine_grid(torch.eye(3)[None, :2], [1, 1, height, width], align_corners=False)[0].movedim(2, 0)
