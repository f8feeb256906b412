"""Cosmos-Predict2's diffusion transformer with actions, as World-VLA-Loop has it: chunks of 24 frames.

The network is diffusers' `CosmosTransformer3DModel`; the action embedding is added to the time embedding of each latent
picture, as in NVIDIA's action-conditioned models. Its autoencoder makes one latent of four frames
(autoencoders/wan_autoencoder.py): context frames are stills on the time axis, then come H / 4 latents, each told the
poses of its four frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from diffusers import CosmosTransformer3DModel
from torch import Tensor, nn

from vlaw_models.errors import VlawError
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel, output_of
from vlaw_models.world_models.edm import EdmConfig, expand
from vlaw_models.world_models.t5_text import FOLDER, T5Text

STILL = 1e-4
"""Noise level of the context frames that the network is told: nearly none (diffusers' `sigma_conditioning`)."""
_EMPTY = 1
"""Tokens of an instruction that is not given."""


def flow_edm() -> EdmConfig:
    """Noise levels of Cosmos-Predict2."""
    return EdmConfig(log_mean=0.0, log_std=1.0, sigma_min=0.002, sigma_max=80.0)


@dataclass(frozen=True)
class CosmosWorldConfig:
    """Defaults: the published model of 2 billion parameters (latents 16 x 72 x 40 of three views)."""

    pose_low: tuple[float, ...]
    """What poses are scaled by, with `pose_high`, to [-1, 1]."""
    pose_high: tuple[float, ...]
    views: int = 3
    latent_channels: int = 16
    latent_height: int = 24
    latent_width: int = 40
    context: tuple[int, ...] = (ANCHOR, 0)
    """Frames that are shown, the current one last."""
    chunk: int = 24
    frames_per_latent: int = 4
    frames_per_second: int = 16
    """What the rotary embedding of time is told."""
    context_noise: float = 0.1
    """Largest noise level on context frames in training, uniform per sample and frame."""
    drop_probability: float = 0.05
    heads: int = 16
    head_dim: int = 128
    layers: int = 28
    text_dim: int = 1024
    adaln_dim: int = 256
    max_size: tuple[int, int, int] = (128, 240, 240)
    rope_scale: tuple[float, float, float] = (1.0, 3.0, 3.0)
    edm: EdmConfig = field(default_factory=flow_edm)


class ActionTransformer(CosmosTransformer3DModel):
    """diffusers' network with something added to the time embedding of each latent picture, before it is normalised, as
    in NVIDIA's action-conditioned models."""

    def forward(
        self, video: Tensor, level: Tensor, known: Tensor, text: Tensor, added: Sequence[Tensor], fps: int
    ) -> Tensor:
        """(B, C, F, h, w), noise levels (B, F) from 0 to 1, `known` (B, 1, F, h, w) 1 where a frame is given, tokens
        (B, L, text_dim), `added` (B, F, W) and (B, F, 3W) to (B, C, F, h, w)."""
        c, (batch, _, frames, height, width) = self.config, video.shape
        # The last channel marks padding: there is none.
        hidden = torch.cat([video, known, torch.zeros_like(known)], dim=1)
        rows, columns = height // c.patch_size[1], width // c.patch_size[2]
        rotary = self.rope(hidden, fps=fps)
        hidden = self.patch_embed(hidden).flatten(1, 3)
        waves = self.time_embed.time_proj(level.flatten()).unflatten(0, (batch, frames)).type_as(hidden)
        time = self.time_embed.norm(waves + added[0]).repeat_interleave(rows * columns, dim=1)
        shift = (self.time_embed.t_embedder(waves) + added[1]).repeat_interleave(rows * columns, dim=1)
        for block in self.transformer_blocks:
            given = (hidden, text, time, shift, rotary)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = self._gradient_checkpointing_func(block, *given)
            else:
                hidden = block(*given)
        out = self.proj_out(self.norm_out(hidden, time, shift))
        # As diffusers unfolds patches: (p, p, C) of each.
        out = out.unflatten(2, (c.patch_size[1], c.patch_size[2], -1)).unflatten(1, (frames, rows, columns))
        return out.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


class CosmosWorld(WorldModel):
    """Denoises the H / 4 latents of a chunk, with the context frames before them on the time axis."""

    config_class = CosmosWorldConfig

    def __init__(self, config: CosmosWorldConfig):
        """Raises VlawError for a chunk that does not divide into latents, and latents that do not into patches."""
        super().__init__(config)
        c = config
        if c.chunk % c.frames_per_latent:
            raise VlawError(
                f"a chunk of {c.chunk} frames, of which {c.frames_per_latent} share a latent",
                where="CosmosWorld's configuration",
                remedy=f"Give a chunk that is a multiple of {c.frames_per_latent}.",
            )
        if (c.views * c.latent_height) % 2 or c.latent_width % 2:
            raise VlawError(
                f"latents of {c.views * c.latent_height} x {c.latent_width} do not divide into patches of 2 x 2",
                where="CosmosWorld's configuration",
                remedy="Give an even number of rows (of all views) and of columns.",
            )
        self.edm, self.chunk, self.views, self.pose_dim = c.edm, c.chunk, c.views, len(c.pose_low)
        self.frames_per_latent, self.drop_probability = c.frames_per_latent, c.drop_probability
        self.latent_shape = (c.latent_channels, c.views * c.latent_height, c.latent_width)
        width = c.heads * c.head_dim
        places = (c.views * c.latent_height // 2) * (c.latent_width // 2)
        self.feature_shape = (c.chunk // c.frames_per_latent, places, width)
        self.network = ActionTransformer(
            in_channels=c.latent_channels + 1,
            out_channels=c.latent_channels,
            num_attention_heads=c.heads,
            attention_head_dim=c.head_dim,
            num_layers=c.layers,
            text_embed_dim=c.text_dim,
            adaln_lora_dim=c.adaln_dim,
            max_size=c.max_size,
            rope_scale=c.rope_scale,
            extra_pos_embed_type=None,
        )
        # To the time embedding, and to what it modulates every block by; at the beginning nothing.
        told = c.frames_per_latent * self.pose_dim
        self.action_embedders = nn.ModuleList(
            nn.Sequential(nn.Linear(told, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, size))
            for size in (width, 3 * width)
        )
        for embedder in self.action_embedders:
            nn.init.zeros_(embedder[-1].weight)
            nn.init.zeros_(embedder[-1].bias)
        self.register_buffer("pose_low", torch.tensor(c.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(c.pose_high), persistent=False)
        self.text_encoder: Callable[[Sequence[str]], torch.Tensor] | None = None
        """Frozen, instructions to (B, L, text_dim), of a model that reads them. A T5Text is in the checkpoint."""

    def recomputed(self) -> list[nn.Module]:
        return list(self.network.transformer_blocks)

    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """(B, H / 4, C, h, w) -> the same, such that the denoiser's estimate is x / (1 + s) - s / (1 + s) N: the flow's
        velocity, as the published weights have it."""
        c, s = self.config, expand(sigma, scaled)
        noisy, known = scaled * (s**2 + 1).sqrt(), condition.context.shape[1]
        video = torch.cat([condition.context, noisy / (1 + s)], dim=1).transpose(1, 2)
        level = (sigma / (1 + sigma))[:, None].expand(-1, video.shape[2]).clone()
        level[:, :known] = STILL
        given = torch.zeros_like(video[:, :1])
        given[:, :, :known] = 1
        actions = self.poses_of_latents(condition)
        added = [embedder(actions) for embedder in self.action_embedders]
        text = condition.text
        if text is None:
            text = scaled.new_zeros(len(scaled), _EMPTY, c.text_dim)
        if condition.drop is not None:
            added = [one.masked_fill(condition.drop[:, None, None], 0.0) for one in added]
            text = text.masked_fill(condition.drop[:, None, None], 0.0)
        out = self.network(video, level, given, text.to(scaled.dtype), added, c.frames_per_second)
        estimate = (noisy - s * out[:, :, known:].transpose(1, 2).float()) / (1 + s)
        return (noisy / (s**2 + 1) - estimate) * (s**2 + 1).sqrt() / s

    def with_features(
        self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, H / 4, P, F): the last layer's tokens of the latents to come."""
        with output_of(self.network.transformer_blocks[-1]) as last:
            raw = self(scaled, sigma, condition)
        count, places, _ = self.feature_shape or (0, 0, 0)
        return raw, last[0].unflatten(1, (-1, places))[:, -count:]

    def poses_of_latents(self, condition: Condition) -> torch.Tensor:
        """(B, K + H / 4, 4 D): of each latent the poses of its frames, about [-1, 1]; of a still four times its own."""
        c = self.config
        poses = (condition.poses - self.pose_low) / self.half_range - 1
        context, coming = poses.split((poses.shape[1] - c.chunk, c.chunk), dim=1)
        return torch.cat(
            [context.repeat(1, 1, c.frames_per_latent), coming.unflatten(1, (-1, c.frames_per_latent)).flatten(2)],
            dim=1,
        )

    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        del rng  # the same frames in training and inference
        return self.config.context, tuple(range(1, self.chunk + 1))

    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x -> (x + s e) / sqrt(s^2 + 1), s uniform in [0, context_noise] per frame."""
        batch, frames = context.shape[:2]
        level = self.config.context_noise * torch.rand((batch, frames, 1, 1, 1), generator=generator)
        noise = torch.randn(context.shape, generator=generator)
        level, noise = level.to(context.device), noise.to(context.device)
        return (context + level * noise) / (level**2 + 1).sqrt()

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = super().load(folder)
        text = Path(folder) / FOLDER
        if text.is_dir():
            encoder = T5Text(text)
            if encoder.size != model.config.text_dim:
                raise VlawError(
                    f"a text encoder of {encoder.size} numbers a token for a model that reads {model.config.text_dim}",
                    where=str(text),
                    remedy="Use the text encoder that the world model was trained with.",
                )
            model.text_encoder = encoder
        return model

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        if isinstance(self.text_encoder, T5Text):
            self.text_encoder.save(Path(folder) / FOLDER)
        return super().save(folder, dtype)

    def embed_text(self, instructions: Sequence[str]) -> torch.Tensor | None:
        return None if self.text_encoder is None else self.text_encoder(instructions)
