"""The tiny world model: moves what it has already seen, and paints only what is new.

Here: diffusers' UNet2DModel deciding, per pixel of every coming frame, where that pixel comes from: the current frame, the
first frame, the current frame moved by one of a few affine maps that follow from the poses, or new paint (the transforming
predictors of Finn et al., arXiv 1605.07157). Not here: objective and sampler (edm.py, shared with CtrlWorld).
Why: a block that is carried stays the block. A network of this size that paints every frame anew blurs it away within two
chunks (stacking: the carried block was gone; 17.6 dB in the wrist view).
The estimate does not depend on the noisy frames, so one sampling step is exact and more change nothing: it is the mean of
what may come, which for a robot and a table is nearly all there is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.checkpoint import load_config, load_tensors, load_weights, save_checkpoint
from vlaw_models.errors import VlawError
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel
from vlaw_models.world_models.edm import EdmConfig, expand
from vlaw_models.world_models.views import position_maps
from vlaw_models.worlds.cameras import PLANES, TABLETOP, Camera, follow, origins
from vlaw_models.worlds.controller import HIGH, LOW

WAVES = (0.5, 1.0, 2.0)
"""Frequencies of the sines in which poses are also given: they place the hand to a few pixels."""
PIECE = 10
"""Windows per pass when sampling."""
STAY = 3.0
"""Initial advantage (in logits) of 'comes from the current frame'."""


def one_step_edm() -> EdmConfig:
    """A single high noise level: the estimate does not use the noisy frames."""
    return EdmConfig(log_mean=3.0, log_std=0.1, sigma_min=0.5, sigma_max=20.0)


@dataclass(frozen=True)
class WarpUNetConfig:
    """Shapes and pose range of the tiny world model. Latents are folded pixels (autoencoder.FoldedPixels)."""

    views: int = 3
    fold: int = 4
    """Pixels per latent pixel each way; latents have 3 fold^2 channels."""
    latent_height: int = 16
    """Rows of one view."""
    latent_width: int = 16
    context: tuple[int, ...] = (ANCHOR, 2, 0)
    chunk: int = 4
    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    warps: int = 3
    """Moved copies of the current frame per coming frame: two by the cameras' calibration, the others by learned affine maps."""
    picture_channels: int = 24
    """Each input picture is read through this many channels."""
    pose_maps: int = 12
    """Learned maps that say where in each view the hand will be."""
    sharpness: float = 2.0
    """When sampling, logits of where a pixel comes from are multiplied by this: blends look best, but over seven chunks what
    is blended fades away (ink, a carried block)."""
    context_noise: float = 0.05
    """Largest noise on context frames in training, uniform per sample and frame; a tenth of it on the anchor."""
    pose_low: tuple[float, ...] = tuple(float(v) for v in LOW)
    pose_high: tuple[float, ...] = tuple(float(v) for v in HIGH)
    cameras: tuple[Camera, ...] = TABLETOP
    """Calibration of every view."""
    edm: EdmConfig = field(default_factory=one_step_edm)


class WarpUNet(WorldModel):
    """Predicts each frame of a chunk from the current frame, the poses up to it, and what the scene looked like at first."""

    def __init__(self, config: WarpUNetConfig | None = None):
        super().__init__()
        from diffusers import UNet2DModel

        self.config = c = config or WarpUNetConfig()
        if len(c.cameras) != c.views:
            raise VlawError(f"{len(c.cameras)} calibrated cameras for {c.views} views", where="WarpUNet's configuration",
                            remedy="Give the calibration of every view, or use a ChunkUNet, which needs none.")
        self.edm, self.chunk, self.views, self.pose_dim = c.edm, c.chunk, c.views, len(c.pose_low)
        folded, rows, depth = 3 * c.fold**2, c.views * c.latent_height, len(c.channels)
        self.latent_shape = (folded, rows, c.latent_width)
        pictures = len(c.context) + c.warps
        features = self.pose_dim * (1 + c.chunk + 2 * len(WAVES) * 2 + 1)
        self.read = nn.Conv2d(pictures * folded, pictures * c.picture_channels, 1, groups=pictures)
        self.network = UNet2DModel(
            in_channels=pictures * c.picture_channels + c.pose_maps + c.views + 2, out_channels=c.channels[0] * 2,
            block_out_channels=c.channels, layers_per_block=c.layers, norm_num_groups=8, attention_head_dim=32,
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            class_embed_type="identity", resnet_time_scale_shift="scale_shift",
        ).to(memory_format=torch.channels_last)
        # Where a pixel comes from: the current frame, the first one, a moved copy, paint; then the paint's colours.
        self.sources = 2 + c.warps + 1
        self.head = nn.Conv2d(c.channels[0] * 2, (self.sources + 3) * c.fold**2, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
            self.head.bias.view(self.sources + 3, -1)[0].fill_(STAY)
        self.pose_embedding = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, 4 * c.channels[0]))
        self.motion = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(),
                                    nn.Linear(256, c.views * c.warps * 6))
        with torch.no_grad():
            self.motion[-1].weight.mul_(0.1)
            self.motion[-1].bias.zero_()
        self.pose_places = nn.Sequential(
            nn.Linear(features, 192), nn.SiLU(), nn.Linear(192, c.pose_maps * rows * c.latent_width),
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
        # In small pieces where nothing is learned: what ten windows touch stays in a CPU's cache.
        pieces = [condition] if self.training else [
            Condition(context, poses) for context, poses in zip(condition.context.split(PIECE), condition.poses.split(PIECE), strict=True)
        ]
        estimate = torch.cat([self.predict(piece) for piece in pieces])
        return (scaled / norm - estimate) * norm / s

    def predict(self, condition: Condition) -> torch.Tensor:
        """The frames to come (B, H, C, h, w), float32."""
        c, batch = self.config, len(condition.context)
        frames = condition.context.float()
        features = self._pose_features(condition.poses)
        current, first = F.pixel_shuffle(frames[:, -1], c.fold), F.pixel_shuffle(frames[:, 0], c.fold)
        warped = self._warp(current, self.motion(features), condition.poses[:, -c.chunk - 1 :])
        x = torch.cat([
            F.silu(self._read(frames, warped)), self.pose_places(features),
            self.position.expand(len(features), -1, -1, -1),
        ], dim=1).contiguous(memory_format=torch.channels_last)
        out = self.network(x, torch.zeros(len(x), device=x.device), class_labels=self.pose_embedding(features)).sample
        out = F.pixel_shuffle(self.head(F.silu(out)).float(), c.fold)
        sharpness = 1.0 if self.training else c.sharpness
        share = (sharpness * out[:, : self.sources]).softmax(dim=1).unflatten(0, (batch, c.chunk))[:, :, :, None]
        paint = torch.tanh(out[:, self.sources :]).unflatten(0, (batch, c.chunk))
        frame = share[:, :, 0] * current[:, None] + share[:, :, 1] * first[:, None] + share[:, :, -1] * paint
        for warp in range(c.warps):
            frame = frame + share[:, :, 2 + warp] * warped[:, warp].unflatten(0, (batch, c.chunk))
        return F.pixel_unshuffle(frame, c.fold)

    def _read(self, frames: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
        """The input pictures through `read`: context frames (B, K, C, h, w) once per window, moved ones for every frame."""
        c, known = self.config, frames.shape[1]
        cut, moved = known * c.picture_channels, F.pixel_unshuffle(warped.flatten(1, 2), c.fold)
        weight, bias = self.read.weight, self.read.bias
        seen = F.conv2d(frames.flatten(1, 2), weight[:cut], bias[:cut], groups=known)
        new = F.conv2d(moved, weight[cut:], bias[cut:], groups=c.warps)
        return torch.cat([seen[:, None].expand(-1, c.chunk, -1, -1, -1).flatten(0, 1), new], dim=1)

    def _warp(self, current: torch.Tensor, motion: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """(B, 3, V*height, width), (B H, V W 6) and (B, 1 + H, D) to (B H, W, 3, V*height, width): every view, moved W times."""
        c = self.config
        batch, colours, rows, width = current.shape
        height, count = rows // c.views, batch * c.chunk
        with torch.autocast(current.device.type, enabled=False):
            maps = F.pad(motion.float().view(count, c.views, c.warps, 2, 3), (0, 0, 0, 1)) + self.identity
            now = poses[:, :1].expand(-1, c.chunk, -1).flatten(0, 1).float()
            then = poses[:, 1:].flatten(0, 1).float()
            calibrated = torch.stack([
                torch.stack([origins(camera, now, then, layer) for layer in range(min(c.warps, len(PLANES)))], dim=1)
                for camera in c.cameras
            ], dim=1)
            known = calibrated.shape[2]
            maps = torch.cat([calibrated @ maps[:, :, :known], maps[:, :, known:]], dim=2)
            pixels = F.affine_grid(self.identity[None, :2], [1, 1, height, width], align_corners=False).view(1, -1, 2)
            grids = follow(maps.flatten(0, 2), pixels).view(count * c.views, c.warps * height, width, 2)
            views = current.float().view(batch, colours, c.views, height, width).movedim(2, 1)
            views = views[:, None].expand(-1, c.chunk, -1, -1, -1, -1).flatten(0, 2)
            moved = F.grid_sample(views, grids, mode="bilinear", padding_mode="border", align_corners=False)
        moved = moved.view(count, c.views, colours, c.warps, height, width)
        return moved.permute(0, 3, 2, 1, 4, 5).reshape(count, c.warps, colours, rows, width)

    def _pose_features(self, poses: torch.Tensor) -> torch.Tensor:
        """(B, K + H, D) to (B H, features): the current pose, the poses up to each coming frame (then held), their change."""
        c = self.config
        poses = 2 * (poses.float() - self.pose_low) / (self.pose_high - self.pose_low) - 1
        now, coming = poses[:, -c.chunk - 1], poses[:, -c.chunk :]
        rows = []
        for h in range(c.chunk):
            held = coming[:, torch.arange(c.chunk).clamp(max=h)]
            target = coming[:, h]
            waves = [f(k * torch.pi * p) for p in (now, target) for k in WAVES for f in (torch.sin, torch.cos)]
            rows.append(torch.cat([now, held.flatten(1), *waves, 3 * (target - now)], dim=1))
        return torch.stack(rows, dim=1).flatten(0, 1)

    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        del rng
        return self.config.context, tuple(range(1, self.chunk + 1))

    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch, frames = context.shape[:2]
        level = self.config.context_noise * torch.rand((batch, frames, 1, 1, 1), generator=generator)
        scale = torch.tensor([0.1 if offset == ANCHOR else 1.0 for offset in self.config.context])
        level = (level * scale[:, None, None, None]).to(context.device)
        return context + level * torch.randn(context.shape, generator=generator).to(context.device)

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
            cameras = tuple(Camera(**_tuples(camera)) for camera in values.pop("cameras"))
            values.pop("class")
            model = cls(WarpUNetConfig(**_tuples(values), cameras=cameras, edm=edm))
        except (KeyError, TypeError) as error:
            raise VlawError(f"config.json does not describe a WarpUNet: {error}", where=str(folder),
                            remedy="Use a checkpoint written by this version, or make it again.") from error
        load_weights(model, {k: v.float() for k, v in load_tensors(folder).items()}, where=folder)
        return model.eval()


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
