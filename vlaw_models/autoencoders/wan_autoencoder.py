"""WanAutoencoder: Wan 2.1's video autoencoder, frozen, as Cosmos-Predict2 has it: four frames to one latent picture.

It is causal: a chunk begins with a frame that is encoded alone, and what follows depends on it. So latents are those of
a chunk and not of an episode, and are made anew for each (`Autoencoder.when_drawn`); 25 frames give 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vlaw_models.autoencoders.base import DiffusersAutoencoder
from vlaw_models.autoencoders.views import split_views, stack_views
from vlaw_models.device import mixed
from vlaw_models.errors import VlawError

FRAMES = 4
"""Frames that follow the first one, to a latent: diffusers' network has no other."""


@dataclass(frozen=True)
class WanAutoencoderConfig:
    """The published autoencoder; the defaults are diffusers' constructor arguments for it, but for those of the
    latents' normalisation, which are constants of its weights."""

    base_dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    """diffusers' spelling. Where the network halves the frames: twice."""
    latents_mean: tuple[float, ...] = ()
    """Of each channel; empty: Wan's own, which has 16."""
    latents_std: tuple[float, ...] = ()


class WanAutoencoder(DiffusersAutoencoder):
    """`AutoencoderKLWan`, frozen. Encodes to the mean of the posterior, so without chance."""

    config_class = WanAutoencoderConfig
    frames_per_latent = FRAMES
    batch_size = 8
    """Stills per pass; chunks go one view of one sample at a time."""

    def __init__(self, config: WanAutoencoderConfig | None = None):
        """Raises VlawError for sizes that do not make four frames one latent."""
        super().__init__()
        from diffusers import AutoencoderKLWan

        self.config = c = config or WanAutoencoderConfig()
        if 2 ** sum(c.temperal_downsample) != FRAMES or len(c.temperal_downsample) != len(c.dim_mult) - 1:
            raise VlawError(
                f"temperal_downsample {c.temperal_downsample} for {len(c.dim_mult)} levels",
                where="WanAutoencoder's configuration",
                remedy="Give one value fewer than dim_mult has, two of them true.",
            )
        own = {"latents_mean": c.latents_mean, "latents_std": c.latents_std}
        self.network = AutoencoderKLWan(
            base_dim=c.base_dim,
            z_dim=c.z_dim,
            dim_mult=list(c.dim_mult),
            num_res_blocks=c.num_res_blocks,
            temperal_downsample=list(c.temperal_downsample),
            **{name: list(values) for name, values in own.items() if values},
        )
        self.latent_channels, self.factor = c.z_dim, 2 ** (len(c.dim_mult) - 1)
        for name in own:
            values = torch.tensor(getattr(self.network.config, name)[: c.z_dim])
            if len(values) != c.z_dim:
                raise VlawError(
                    f"{len(values)} numbers for {c.z_dim} channels",
                    where=f"WanAutoencoder's configuration, {name}",
                    remedy="Give one number for each channel.",
                )
            self.register_buffer(name, values[:, None, None, None], persistent=False)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._encoded(pixels[:, :, None])[:, :, 0]

    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        return self._decoded(latents[:, :, None])[:, :, 0]

    def _encoded(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, 3, 1 + H, height, width) in [-1, 1] -> (N, C, 1 + H / 4, h, w) normalised."""
        with mixed(clips.device):
            found = self.network.encode(clips).latent_dist.mode().float()
        return (found - self.latents_mean) / self.latents_std

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, 1 + H / 4, h, w) normalised -> (N, 3, 1 + H, height, width) in [-1, 1]."""
        with mixed(latents.device):
            return self.network.decode(latents.float() * self.latents_std + self.latents_mean).sample

    @torch.inference_mode()
    def encode_chunk(self, images: np.ndarray) -> torch.Tensor:
        """(B, 1 + H, V, height, width, 3) -> (B, 1 + H / 4, C, V*h, w). Raises VlawError for H that is no multiple of
        4."""
        batch, count, views = images.shape[:3]
        if (count - 1) % FRAMES:
            raise VlawError(
                f"a frame and {count - 1} that follow it",
                where="WanAutoencoder",
                remedy=f"Give a frame and a multiple of {FRAMES} that follow it.",
            )
        clips = torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 2, 5, 1, 3, 4).flatten(0, 1)
        found = [self._encoded(clip.to(self._device).float() / 127.5 - 1).cpu() for clip in clips.split(1)]
        latents = torch.cat(found).unflatten(0, (batch, views))  # (B, V, C, time, h, w)
        return stack_views(latents.movedim(3, 1))

    @torch.inference_mode()
    def decode_chunk(self, current: torch.Tensor, latents: torch.Tensor, views: int) -> np.ndarray:
        split = split_views(torch.cat([current[:, None], latents], dim=1), views)  # (B, time, V, C, h, w)
        batch = len(split)
        clips = split.permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
        found = []
        for clip in clips.split(1):
            pixels = self._decoded(clip.to(self._device))[:, :, 1:].float()
            found.append((pixels * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        frames = torch.cat(found).unflatten(0, (batch, views))  # (B, V, 3, H, height, width)
        return frames.permute(0, 3, 1, 4, 5, 2).contiguous().numpy()
