"""The tiny world model: one 2-D U-Net whose channels hold the frames of a chunk.

diffusers' UNet2DModel with pose conditioning. Why a substitute: Ctrl-World's spatio-temporal U-Net spends a CPU's time
on eleven frames per chunk at every layer; with frames in channels one pass over one latent picture predicts the whole
chunk (benchmarks/model_classes.py). Context: the first frame (an anchor: what the hand hides is not forgotten), t-4,
t-2 and t.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from vlaw_models.autoencoders.views import position_maps
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel, output_of
from vlaw_models.world_models.edm import EdmConfig, expand

WAVES = (0.5, 1.0, 2.0)
"""Frequencies of the sines in which the current and coming poses are also given: they place the hand to a few
pixels."""


def few_step_edm() -> EdmConfig:
    """Noise levels for one to four sampling steps, and training on those: little at levels that are never visited."""
    return EdmConfig(log_mean=2.0, log_std=1.0, sigma_min=0.5, sigma_max=20.0)


@dataclass(frozen=True)
class ChunkUNetConfig:
    """Shapes, noise and pose range of the tiny world model."""

    pose_low: tuple[float, ...]
    """What poses are scaled by, with `pose_high`."""
    pose_high: tuple[float, ...]
    views: int = 3
    latent_channels: int = 32
    latent_height: int = 8
    """Rows of one view."""
    latent_width: int = 8
    context: tuple[int, ...] = (ANCHOR, 4, 2, 0)
    chunk: int = 4
    channels: tuple[int, ...] = (64, 96, 128)
    layers: int = 1
    context_noise: float = 0.2
    """Largest noise level on context frames in training, uniform per sample and frame; a tenth of it on the anchor."""
    change_std: float = 0.2
    """Deviation r of the change within a chunk, over the whole picture (see `ChunkUNet.forward`)."""
    pose_maps: int = 16
    """Learned maps that say where in each view a pose is: channels of the network's input, 0 for none."""
    edm: EdmConfig = field(default_factory=few_step_edm)


class ChunkUNet(WorldModel):
    """Denoises the H frames of a chunk at once, as channels of one stacked latent picture."""

    config_class = ChunkUNetConfig

    def __init__(self, config: ChunkUNetConfig):
        super().__init__(config)
        from diffusers import UNet2DModel

        c = config
        self.edm, self.chunk, self.views, self.pose_dim = c.edm, c.chunk, c.views, len(c.pose_low)
        self.latent_shape = (c.latent_channels, c.views * c.latent_height, c.latent_width)
        depth, self.maps_dim = len(c.channels), self.pose_dim * (c.chunk + 1)
        places = (c.views * c.latent_height >> depth - 1) * (c.latent_width >> depth - 1)
        self.feature_shape = (1, places, c.channels[-1])
        frames = c.latent_channels * (c.chunk + len(c.context))
        embedding, features = 4 * c.channels[0], self.pose_dim * (len(c.context) + 2 * c.chunk)
        self.network = UNet2DModel(
            in_channels=frames + self.maps_dim + c.views + 2 + c.pose_maps,
            out_channels=c.latent_channels * c.chunk,
            block_out_channels=c.channels,
            layers_per_block=c.layers,
            norm_num_groups=16,
            attention_head_dim=32,
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
        ).to(memory_format=torch.channels_last)
        # The last layer starts at zero: an untrained model predicts that nothing moves (see forward).
        nn.init.zeros_(self.network.conv_out.weight)
        nn.init.zeros_(self.network.conv_out.bias)
        self.pose_embedding = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, embedding))
        # Poses to places: a dense decoder learns where the hand appears far sooner than convolutions over constant
        # maps.
        rows = c.views * c.latent_height
        self.pose_places = nn.Sequential(
            nn.Linear(features + 2 * len(WAVES) * self.pose_dim * (1 + c.chunk), 256),
            nn.SiLU(),
            nn.Linear(256, c.pose_maps * rows * c.latent_width),
            nn.Unflatten(1, (c.pose_maps, rows, c.latent_width)),
        )
        maps = position_maps(c.views, c.latent_height, c.latent_width)
        self.register_buffer("position", maps, persistent=False)
        self.register_buffer("pose_low", torch.tensor(c.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(c.pose_high), persistent=False)

    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """(B, H, C, h, w) -> (B, H, C, h, w), such that the denoiser's estimate is current + k (x - current) + c_out N.

        k = r^2 / (s^2 + r^2) is EDM's skip for a change of deviation r: where nothing moves, x - current is all noise
        and N = 0 is right, so a short training does not have to learn to copy the background through the network.
        """
        batch, _, _, height, width = scaled.shape
        near, maps, waves = self._pose_features(condition.poses)
        maps = maps[:, :, None, None].expand(-1, -1, height, width)
        s, r = expand(sigma, scaled), self.config.change_std
        current = condition.context[:, -1:]
        noisy = scaled * (s**2 + 1).sqrt()
        change = (noisy - current) / (s**2 + r**2).sqrt()
        x = torch.cat(
            [
                change.flatten(1, 2),
                condition.context.flatten(1, 2),
                maps,
                self.pose_places(torch.cat([near, waves], dim=1)),
                self.position.expand(batch, -1, -1, -1),
            ],
            dim=1,
        )
        x = x.contiguous(memory_format=torch.channels_last)
        # 250 ln(sigma) = 1000 c_noise: the range that sinusoidal timestep embeddings are made for.
        out = self.network(x, 250 * sigma.log(), class_labels=self.pose_embedding(near)).sample
        base = current + r**2 / (s**2 + r**2) * (noisy - current)
        return out.float().unflatten(1, (self.chunk, -1)) - (base - noisy / (s**2 + 1)) * (s**2 + 1).sqrt() / s

    def with_features(
        self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, 1, P, F): the U-Net's smallest map."""
        with output_of(self.network.mid_block) as smallest:
            raw = self(scaled, sigma, condition)
        return raw, smallest[0].flatten(2).mT[:, None]

    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        del rng  # the same frames in training and inference
        return self.config.context, tuple(range(1, self.chunk + 1))

    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x -> (x + s e) / sqrt(s^2 + 1), s uniform in [0, context_noise] per frame; the anchor is nearly clean."""
        batch, frames = context.shape[:2]
        level = self.config.context_noise * torch.rand((batch, frames, 1, 1, 1), generator=generator)
        scale = torch.tensor([0.1 if offset == ANCHOR else 1.0 for offset in self.config.context])
        level = (level * scale[:, None, None, None]).to(context.device)
        noise = torch.randn(context.shape, generator=generator).to(context.device)
        return (context + level * noise) / (level**2 + 1).sqrt()

    def _pose_features(self, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, K+H, D) -> embedding (B, D(K+2H)), constant maps (B, D(1+H)) and waves (B, 2|WAVES| D(1+H)), about [-1,
        1]."""
        scaled = 2 * (poses - self.pose_low) / (self.pose_high - self.pose_low) - 1
        k = len(self.config.context)
        current, future = scaled[:, k - 1 : k], scaled[:, k:]
        # Differences from now, magnified: one control step moves the hand by a small part of its range.
        near = torch.cat([scaled, 3 * (future - current)], dim=1)
        maps = torch.cat([current, 3 * (future - current)], dim=1)
        phases = torch.cat([k * torch.pi * scaled[:, -self.chunk - 1 :] for k in WAVES], dim=1)
        return near.flatten(1), maps.flatten(1), torch.cat([phases.sin(), phases.cos()], dim=1).flatten(1)
