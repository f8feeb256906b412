"""Ctrl-World's design: Stable Video Diffusion's U-Net with one action token per frame and noisy history frames.

The network, its conditioning, training noise and frame choice. The one change to diffusers' network is the token per
frame.

What is odd in the published system is behind switches. Defaults train as it does: the temporal layers cross-attend to
the token of the oldest frame only (stock `TransformerSpatioTemporalModel`; `own_tokens`), and the current frame counts
in the loss (`learn_current`). Not as it does, a closed loop by default looks back as far as training has shown the
model, and says the same noise_aug as training: `PUBLISHED_ROLLOUTS` has the values of the published roll-outs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from vlaw_models.checkpoint import read_safetensors, read_text, start_from
from vlaw_models.errors import VlawError
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel, output_of
from vlaw_models.world_models.clip_text import TEXT_TOKENIZER, ClipText
from vlaw_models.world_models.edm import EdmConfig
from vlaw_models.world_models.one_token import answer_at_once

PUBLISHED_ROLLOUTS: dict[str, Any] = {"rollout_history": (ANCHOR, ANCHOR, 44, 32, 20, 8), "rollout_noise_aug": 0.02}
"""How the published scripts roll out with a policy, unlike their training: they keep one history frame per chunk and
take those of 3, 6, 9 and 12 chunks ago, and the pipeline's own noise_aug. For `dataclasses.replace` of a model of 6
history frames."""


@dataclass(frozen=True)
class CtrlWorldConfig:
    """Defaults: the published model (about 1.5 billion parameters; latents 4 x 72 x 40 of three views)."""

    pose_low: tuple[float, ...]
    """1st percentile of each pose dimension, and the 99th: poses are mapped to [-1, 1] between them and clipped."""
    pose_high: tuple[float, ...]
    views: int = 3
    latent_channels: int = 4
    latent_height: int = 24
    latent_width: int = 40
    history: int = 6
    history_spacing: int = 4
    """Frames between history frames, times the skip."""
    chunk: int = 4
    skips: tuple[int, ...] = (1, 2)
    """Frame spacings drawn in training; inference uses the first."""
    still_probability: float = 0.15
    """Share of training windows whose history is the current frame repeated."""
    history_noise: float = 0.3
    current_noise: float = 0.2
    vae_scale: float = 0.18215
    """The current frame enters the channel axis unscaled, as Stable Video Diffusion's image condition does; 1 for
    none."""
    frames_per_second: int = 7
    motion_bucket: int = 127
    noise_aug: float = 0.0
    rollout_noise_aug: float | None = None
    """The same when frames are sampled; None: that of training."""
    rollout_history: tuple[int, ...] = ()
    """How many frames before the current one each history frame is when frames are sampled, the oldest first; empty:
    `history_spacing` apart, as in training."""
    own_tokens: bool = False
    """True: the temporal layers too see each frame's own token, through the same weights. False: the oldest one's for
    all, as published."""
    learn_current: bool = True
    """False: the loss is of the frames to come alone (VLAW Eq. 1 as printed). True: of the current one too, which the
    network denoises with them (the published loss)."""
    drop_probability: float = 0.05
    text_dim: int = 512
    """Of older checkpoints; `text_encoder` says it."""
    text_encoder: dict[str, Any] | None = None
    """Sizes of CLIP's text tower, for a model that reads the instruction (clip_text.py)."""
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: tuple[int, ...] = (5, 10, 20, 20)
    token_dim: int = 1024
    addition_time_embed_dim: int = 256
    edm: EdmConfig = field(default_factory=lambda: EdmConfig(guidance=2.0))


class FrameConditionedUNet(UNetSpatioTemporalConditionModel):
    """diffusers' network, except that `encoder_hidden_states` (B, F, dim) is one token for each frame."""

    _seen: Tensor | None = None
    """The tokens of the present pass."""

    def give_own_tokens(self) -> None:
        """From now on the temporal layers see each frame's own token."""
        for block in self.modules():
            if isinstance(block, TemporalBasicTransformerBlock) and block.attn2 is not None:
                block.attn2.register_forward_hook(self._own)

    def _own(self, attention: nn.Module, _given: tuple[Any, ...], output: Tensor) -> Tensor:
        """Cross-attention (B h w, F, C) to one token each: with nothing to choose between it is that token's value."""
        assert self._seen is not None
        value = self._seen
        for layer in (attention.to_v, *attention.to_out):
            value = layer(value)
        return value.repeat_interleave(len(output) // len(value), dim=0)

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, added_time_ids: Tensor
    ) -> Tensor:
        """sample (B, F, C, h, w), timestep (B,), tokens (B, F, dim), added_time_ids (B, 3) -> (B, F, C, h, w).

        h and w must divide by 2 ** (levels - 1): the stock network's odd-size handling is not needed here.
        """
        batch, frames = sample.shape[:2]
        self._seen = encoder_hidden_states
        emb = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        emb = emb + self.add_embedding(self.add_time_proj(added_time_ids.flatten()).reshape(batch, -1).to(emb.dtype))
        emb = emb.repeat_interleave(frames, dim=0)
        tokens = encoder_hidden_states.flatten(0, 1)[:, None]
        video = torch.zeros(batch, frames, dtype=sample.dtype, device=sample.device)
        hidden = self.conv_in(sample.flatten(0, 1))
        skips = (hidden,)
        for block in self.down_blocks:
            cross = {"encoder_hidden_states": tokens} if getattr(block, "has_cross_attention", False) else {}
            hidden, more = block(hidden_states=hidden, temb=emb, image_only_indicator=video, **cross)
            skips += more
        hidden = self.mid_block(
            hidden_states=hidden, temb=emb, encoder_hidden_states=tokens, image_only_indicator=video
        )
        for block in self.up_blocks:
            cross = {"encoder_hidden_states": tokens} if getattr(block, "has_cross_attention", False) else {}
            count = len(block.resnets)
            hidden = block(
                hidden_states=hidden,
                temb=emb,
                res_hidden_states_tuple=skips[-count:],
                image_only_indicator=video,
                **cross,
            )
            skips = skips[:-count]
        out = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return out.reshape(batch, frames, *out.shape[1:])


class CtrlWorld(WorldModel):
    """Denoises the current frame and the H that follow, with K - 1 history frames before them on the time axis."""

    config_class = CtrlWorldConfig
    includes_current = True

    def __init__(self, config: CtrlWorldConfig):
        super().__init__(config)
        c = config
        self.edm, self.chunk, self.views, self.pose_dim = c.edm, c.chunk, c.views, len(c.pose_low)
        self.latent_shape = (c.latent_channels, c.views * c.latent_height, c.latent_width)
        self.drop_probability, self.learn_current = c.drop_probability, c.learn_current
        if c.rollout_history and len(c.rollout_history) != c.history:
            raise VlawError(
                f"rollout_history names {len(c.rollout_history)} frames, the model has {c.history} history frames",
                where="CtrlWorld's configuration",
                remedy="Name one for each, the oldest first, or leave it empty.",
            )
        depth = len(c.block_out_channels)
        places = (c.views * c.latent_height >> depth - 1) * (c.latent_width >> depth - 1)
        self.feature_shape = (c.chunk, places, c.block_out_channels[-1])
        self.unet = FrameConditionedUNet(
            in_channels=2 * c.latent_channels,
            out_channels=c.latent_channels,
            num_frames=c.history + 1 + c.chunk,
            down_block_types=("CrossAttnDownBlockSpatioTemporal",) * (depth - 1) + ("DownBlockSpatioTemporal",),
            up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * (depth - 1),
            block_out_channels=c.block_out_channels,
            layers_per_block=c.layers,
            num_attention_heads=c.heads,
            cross_attention_dim=c.token_dim,
            addition_time_embed_dim=c.addition_time_embed_dim,
            projection_class_embeddings_input_dim=3 * c.addition_time_embed_dim,
        )
        if c.own_tokens:
            self.unet.give_own_tokens()
        answer_at_once(self.unet)
        self.action_encoder = new_action_encoder(self.pose_dim, c.token_dim)
        self.register_buffer("pose_low", torch.tensor(c.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(c.pose_high), persistent=False)
        self.text_encoder = None if c.text_encoder is None else ClipText(c.text_encoder)
        """Frozen, and in the checkpoint, of a model that reads the instruction."""
        if self.text_encoder is not None and c.token_dim % self.text_encoder.size:
            raise VlawError(
                f"a text of {self.text_encoder.size} numbers does not fill a token of {c.token_dim}",
                where="CtrlWorld's configuration",
                remedy="Use the text encoder that the world model was trained with: its size divides the token's.",
            )

    def forward(self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """(B, 1 + H, C, h, w) -> the same shape."""
        c, history = self.config, condition.context[:, :-1]
        frames = torch.cat([history, scaled], dim=1)
        current = condition.context[:, -1:].expand_as(frames) / c.vae_scale
        noise_aug = c.noise_aug if self.training or c.rollout_noise_aug is None else c.rollout_noise_aug
        ids = torch.tensor([c.frames_per_second, c.motion_bucket, noise_aug], device=scaled.device)
        out = self.unet(
            torch.cat([frames, current], dim=2), sigma.log() / 4, self.tokens(condition), ids.expand(len(scaled), -1)
        )
        return out[:, c.history :]

    def with_features(
        self, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, H, P, F): the U-Net's smallest map of each frame to come."""
        with output_of(self.unet.mid_block) as smallest:
            raw = self(scaled, sigma, condition)
        maps = smallest[0].unflatten(0, (len(scaled), -1))[:, -self.chunk :]
        return raw, maps.flatten(3).mT

    def tokens(self, condition: Condition) -> torch.Tensor:
        """(B, K + H, token_dim): encoded pose plus text for each frame, zero where the condition is dropped."""
        scaled = 2 * (condition.poses - self.pose_low) / (self.pose_high - self.pose_low + 1e-8) - 1
        tokens = self.action_encoder(scaled.clamp(-1, 1))
        if condition.text is not None:
            repeats = self.config.token_dim // condition.text.shape[-1]
            tokens = tokens + condition.text.repeat(1, repeats)[:, None].to(tokens.dtype)
        if condition.drop is not None:
            tokens = tokens.masked_fill(condition.drop[:, None, None], 0.0)
        return tokens

    def offsets(self, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        c = self.config
        skip, spacing = c.skips[0], c.history_spacing
        if rng is not None:
            skip = int(rng.choice(c.skips))
            spacing = 0 if rng.random() < c.still_probability else spacing
        context = tuple(i * spacing * skip for i in range(c.history, -1, -1))
        if rng is None and c.rollout_history:
            context = (*c.rollout_history, 0)
        return context, tuple(i * skip for i in range(1, c.chunk + 1))

    def augment(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x -> (x + s e) / sqrt(s^2 + 1): s ~ history_noise N(0, 1) per history frame, U(0, current_noise) for the
        last."""
        batch, frames = context.shape[:2]
        level = self.config.history_noise * torch.randn((batch, frames, 1, 1, 1), generator=generator)
        level[:, -1] = self.config.current_noise * torch.rand((batch, 1, 1, 1), generator=generator)
        noise = torch.randn(context.shape, generator=generator)
        level, noise = level.to(context.device), noise.to(context.device)
        return (context + level * noise) / (level**2 + 1).sqrt()

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = super().load(folder)
        if model.text_encoder is not None:
            file = Path(folder) / TEXT_TOKENIZER
            model.text_encoder.speak(read_text(file), where=file)
        return model

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        if self.text_encoder is not None and self.text_encoder.tokenizer is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / TEXT_TOKENIZER).write_text(self.text_encoder.tokenizer.to_str(), encoding="utf-8")
        return super().save(folder, dtype)

    def embed_text(self, instructions: Sequence[str]) -> torch.Tensor | None:
        return None if self.text_encoder is None else self.text_encoder(instructions)

    def recomputed(self) -> list[nn.Module]:
        """Every residual and every attention block, along space and along time."""
        return [
            part
            for part in self.unet.modules()
            if isinstance(part, (SpatioTemporalResBlock, TransformerSpatioTemporalModel))
        ]

    def load_stable_video(self, file: Path) -> list[str]:
        """Starts from Stable Video Diffusion's U-Net weights (its diffusion_pytorch_model.safetensors).

        Returns the names that the file lacks; raises VlawError where shapes disagree or a name is foreign.
        """
        remedy = "Use the sizes of the preset 'paper' with Stable Video Diffusion weights."
        return start_from(self.unet, read_safetensors(file), where=file, remedy=remedy)


def new_action_encoder(pose_dim: int, token_dim: int) -> nn.Sequential:
    """Poses (..., D), scaled to [-1, 1], to tokens."""
    encoder = nn.Sequential(
        nn.Linear(pose_dim, token_dim),
        nn.SiLU(),
        nn.Linear(token_dim, token_dim),
        nn.SiLU(),
        nn.Linear(token_dim, token_dim),
    )
    for layer in (encoder[0], encoder[2]):
        nn.init.kaiming_normal_(layer.weight)
    return encoder
