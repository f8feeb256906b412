"""The tiny world model: moves what it has already seen, and paints only what is new.

diffusers' UNet2DModel and a network per pixel (pixel_decoder.py) that decide, for every pixel of the next frame, where
it comes from: the frame before, an earlier one, one of these moved as the poses tell, or new paint (the transforming
predictors of Finn et al., arXiv 1605.07157); a chunk is predicted frame by frame, and gradients flow through all of it.
Why: a block that is carried stays the block. A network of this size that paints every frame anew blurs it away within
two chunks (stacking: the carried block was gone; 17.6 dB in the wrist view). The estimate does not depend on the noisy
frames, so one sampling step is exact and more change nothing: it is the mean of what may come, which for a robot and a
table is nearly all there is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.autoencoders.views import position_maps
from vlaw_models.checkpoint import load_config, load_tensors, load_weights, save_checkpoint
from vlaw_models.device import mixed
from vlaw_models.errors import VlawError
from vlaw_models.robots.cameras import PLANES, follow, origins
from vlaw_models.robots.spec import Pinhole, RobotSpec
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel
from vlaw_models.world_models.edm import EdmConfig, expand
from vlaw_models.world_models.pixel_decoder import PixelDecoder

WAVES = (0.5, 1.0, 2.0)
"""Frequencies of the sines in which poses are also given: they place the hand to a few pixels."""
PIECE = 20
"""Windows per pass when sampling: what they touch stays in a CPU's cache."""
STAY = 3.0
"""Initial advantage (in logits) of 'comes from the frame before'."""


def one_step_edm() -> EdmConfig:
    """A single high noise level: the estimate does not use the noisy frames."""
    return EdmConfig(log_mean=3.0, log_std=0.1, sigma_min=0.5, sigma_max=20.0)


@dataclass(frozen=True)
class WarpUNetConfig:
    """Shapes and pose range of the tiny world model. Latents are folded pixels (autoencoder.FoldedPixels)."""

    pose_low: tuple[float, ...]
    """What poses are scaled by, with `pose_high`."""
    pose_high: tuple[float, ...]
    cameras: tuple[Pinhole, ...]
    """Calibration of every view."""
    views: int = 3
    fold: int = 4
    """Pixels per latent pixel each way; latents have 3 fold^2 channels."""
    latent_height: int = 16
    """Rows of one view."""
    latent_width: int = 16
    context: tuple[int, ...] = (ANCHOR, 6, 0)
    """Frames that may be copied from, the newest last: what the hand hid for a while is in an older one."""
    chunk: int = 4
    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    warps: int = 2
    """Moved copies of the frame before, by the cameras' calibration (the first two) and learned affine maps."""
    picture_channels: int = 24
    """Each input picture is read through this many channels."""
    pose_maps: int = 12
    """Learned maps that say where in each view the hand will be."""
    pixel_features: int = 8
    """What each pixel gets of its surroundings."""
    pixel_hidden: int = 24
    sharpness: float = 2.0
    """When sampling, logits of where a pixel comes from are multiplied by this: blends look best, but over many frames
    what is blended fades away (ink, a carried block)."""
    edm: EdmConfig = field(default_factory=one_step_edm)


class WarpUNet(WorldModel):
    """Predicts each frame from the one before, the poses of both, an earlier frame and what the scene looked like at
    first."""

    config_class = WarpUNetConfig

    def __init__(self, config: WarpUNetConfig):
        super().__init__()
        from diffusers import UNet2DModel

        self.config = c = config
        if len(c.cameras) != c.views:
            raise VlawError(
                f"{len(c.cameras)} calibrated cameras for {c.views} views",
                where="WarpUNet's configuration",
                remedy="Give the calibration of every view, or use a ChunkUNet, which needs none.",
            )
        self.edm, self.chunk, self.views, self.pose_dim = c.edm, c.chunk, c.views, len(c.pose_low)
        folded, rows, depth = 3 * c.fold**2, c.views * c.latent_height, len(c.channels)
        self.latent_shape = (folded, rows, c.latent_width)
        pictures = len(c.context) + c.warps + 1
        features = self.pose_dim * (2 + 2 * len(WAVES) * 2 + 1)
        self.read = nn.Conv2d(pictures * folded, pictures * c.picture_channels, 1, groups=pictures)
        self.network = UNet2DModel(
            in_channels=pictures * c.picture_channels + c.pose_maps + c.views + 2,
            out_channels=c.channels[0] * 2,
            block_out_channels=c.channels,
            layers_per_block=c.layers,
            norm_num_groups=8,
            attention_head_dim=32,
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
        ).to(memory_format=torch.channels_last)
        # Where a pixel comes from: a context frame, the last of them moved, the first one moved, paint; then the
        # paint's colours.
        self.sources = pictures + 1
        self.head = nn.Conv2d(c.channels[0] * 2, (self.sources + 3 + c.pixel_features) * c.fold**2, 1)
        with torch.no_grad():
            self.head.weight[: (self.sources + 3) * c.fold**2].mul_(0.1)
            self.head.bias.zero_()
            self.head.bias.view(-1, c.fold**2)[len(c.context) - 1].fill_(STAY)
        self.decoder = PixelDecoder(
            pictures,
            c.pixel_features,
            self.sources,
            c.cameras,
            c.latent_height * c.fold,
            c.latent_width * c.fold,
            c.pixel_hidden,
            self.pose_dim,
        )
        self.pose_embedding = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, 4 * c.channels[0]))
        self.motion = nn.Sequential(
            nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, c.views * c.warps * 6)
        )
        with torch.no_grad():
            self.motion[-1].weight.mul_(0.1)
            self.motion[-1].bias.zero_()
        self.pose_places = nn.Sequential(
            nn.Linear(features, 192),
            nn.SiLU(),
            nn.Linear(192, c.pose_maps * rows * c.latent_width),
            nn.Unflatten(1, (c.pose_maps, rows, c.latent_width)),
        )
        self.register_buffer("position", position_maps(c.views, c.latent_height, c.latent_width), persistent=False)
        self.register_buffer("pose_low", torch.tensor(c.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(c.pose_high), persistent=False)
        self.register_buffer("identity", torch.eye(3), persistent=False)

    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """(B, H, C, h, w) -> (B, H, C, h, w), such that the denoiser's estimate is `predict`'s, whatever the noise."""
        s = expand(sigma, scaled)
        norm = (s**2 + 1).sqrt()
        pieces = (
            [condition]
            if self.training
            else [
                Condition(context, poses)
                for context, poses in zip(condition.context.split(PIECE), condition.poses.split(PIECE), strict=True)
            ]
        )
        estimate = torch.cat([self.predict(piece) for piece in pieces])
        return (scaled / norm - estimate) * norm / s

    def predict(self, condition: Condition) -> torch.Tensor:
        """The frames to come (B, H, C, h, w), float32."""
        c, poses = self.config, condition.poses.float()
        known = F.pixel_shuffle(condition.context.float(), c.fold)
        frames: list[torch.Tensor] = []
        for step in range(-c.chunk, 0):
            before = frames[-1] if frames else known[:, -1]
            seen = torch.cat([known[:, :-1], before[:, None]], dim=1)
            frames.append(self._next(seen, torch.stack([poses[:, 0], poses[:, step - 1], poses[:, step]], dim=1)))
        return F.pixel_unshuffle(torch.stack(frames, dim=1), c.fold)

    def _next(self, seen: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """The frame after `seen` (B, K, 3, V*height, width); `poses` (B, 3, D) of the first, the last and the next
        frame."""
        c = self.config
        normal = self._normal(poses)
        features = self._pose_features(normal)
        pictures = torch.cat([seen, self._moved(seen, poses, self.motion(features))], dim=1)
        x = torch.cat(
            [
                F.silu(self.read(F.pixel_unshuffle(pictures.flatten(1, 2), c.fold))),
                self.pose_places(features),
                self.position.expand(len(features), -1, -1, -1),
            ],
            dim=1,
        ).contiguous(memory_format=torch.channels_last)
        out = self.network(x, torch.zeros(len(x), device=x.device), class_labels=self.pose_embedding(features)).sample
        out = F.pixel_shuffle(self.head(F.silu(out)).float(), c.fold)
        out, surroundings = out.split((self.sources + 3, c.pixel_features), dim=1)
        # The hand's spots: in the coming frame and in the last one.
        recent = [2, 1]
        out = out + self.decoder(pictures.flatten(1, 2), surroundings, poses[:, recent], normal[:, recent]).float()
        share = ((1.0 if self.training else c.sharpness) * out[:, : self.sources]).softmax(dim=1)[:, :, None]
        frame = share[:, -1] * torch.tanh(out[:, self.sources :])
        for i in range(self.sources - 1):
            frame = torch.addcmul(frame, share[:, i], pictures[:, i])
        return frame.clamp(-1, 1)

    def _moved(self, seen: torch.Tensor, poses: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """(B, K, 3, V*height, width), poses (B, 3, D) and motion (B, V W 6) to (B, W + 1, 3, V*height, width): the last
        frame as each of the maps moves it, and the first one as the cameras' calibration does."""
        c = self.config
        with mixed(seen.device, enabled=False):
            maps = F.pad(motion.float().view(-1, c.views, c.warps, 2, 3), (0, 0, 0, 1)) + self.identity
            first, last, coming = poses.unbind(1)
            calibrated = torch.stack(
                [
                    torch.stack(
                        [origins(camera, last, coming, layer) for layer in range(min(c.warps, len(PLANES)))], dim=1
                    )
                    for camera in c.cameras
                ],
                dim=1,
            )
            known = calibrated.shape[2]
            maps = torch.cat([calibrated @ maps[:, :, :known], maps[:, :, known:]], dim=2)
            begun = torch.stack([origins(camera, first, coming, 0) for camera in c.cameras], dim=1)[:, :, None]
            return torch.cat([self._sampled(seen[:, -1], maps), self._sampled(seen[:, 0], begun)], dim=1)

    def _sampled(self, frames: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """(B, 3, V*height, width) and homographies (B, V, W, 3, 3) to (B, W, 3, V*height, width)."""
        views, copies = maps.shape[1:3]
        batch, colours, rows, width = frames.shape
        height = rows // views
        grids = follow(maps.flatten(0, 2), self.decoder.pixels).view(batch * views, copies * height, width, 2)
        pictures = frames.float().view(batch, colours, views, height, width).movedim(2, 1).flatten(0, 1)
        # Bicubic: what moves is sampled anew in every frame, and bilinear weights would blur it away.
        moved = F.grid_sample(pictures, grids, mode="bicubic", padding_mode="border", align_corners=False)
        moved = moved.view(batch, views, colours, copies, height, width)
        return moved.permute(0, 3, 2, 1, 4, 5).reshape(batch, copies, colours, rows, width)

    def _normal(self, poses: torch.Tensor) -> torch.Tensor:
        return 2 * (poses.float() - self.pose_low) / (self.pose_high - self.pose_low) - 1

    def _pose_features(self, normal: torch.Tensor) -> torch.Tensor:
        """Normalised poses (B, 3, D) to (B, features): the last and the coming one, plain and in waves, and the
        change."""
        _, last, coming = normal.unbind(1)
        waves = [f(k * torch.pi * p) for p in (last, coming) for k in WAVES for f in (torch.sin, torch.cos)]
        return torch.cat([last, coming, *waves, 3 * (coming - last)], dim=1)

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
                f"written as {robot.state.orientation or 'nothing'!r}; a WarpUNet needs all of them, and a pitch",
                where="WarpUNet's configuration",
                remedy="Use a ChunkUNet or a CtrlWorld, which need no calibration.",
            )
        return {**super().of_robot(robot), "cameras": known}

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes config.json and model.safetensors (float16 halves what is shipped)."""
        config = {"class": "WarpUNet", **asdict(self.config)}
        return save_checkpoint(folder, config, {k: v.to(dtype) for k, v in self.state_dict().items()})

    @classmethod
    def load(cls, folder: Path) -> WarpUNet:
        """Raises VlawError for a damaged checkpoint."""
        values = load_config(folder)
        try:
            edm = EdmConfig(**values.pop("edm"))
            cameras = tuple(Pinhole(**_tuples(camera)) for camera in values.pop("cameras"))
            values.pop("class")
            model = cls(WarpUNetConfig(**_tuples(values), cameras=cameras, edm=edm))
        except (KeyError, TypeError) as error:
            raise VlawError(
                f"config.json does not describe a WarpUNet: {error}",
                where=str(folder),
                remedy="Use a checkpoint written by this version, or make it again.",
            ) from error
        load_weights(model, {k: v.float() for k, v in load_tensors(folder).items()}, where=folder)
        return model.eval()


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
