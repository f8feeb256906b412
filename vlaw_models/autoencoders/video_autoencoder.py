"""VideoAutoencoder: Stable Video Diffusion's, frozen, from its own weights or a checkpoint of ours."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlaw_models.autoencoders.base import DiffusersAutoencoder


@dataclass(frozen=True)
class VideoAutoencoderConfig:
    """Stable Video Diffusion's autoencoder; the defaults are diffusers' constructor arguments for it."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    scaling_factor: float = 0.18215
    decode_frames: int = 7


class VideoAutoencoder(DiffusersAutoencoder):
    """`AutoencoderKLTemporalDecoder`, frozen: the paper's. Encodes to the mean of the posterior, so without chance."""

    config_class = VideoAutoencoderConfig
    batch_size = 7

    def __init__(self, config: VideoAutoencoderConfig | None = None):
        super().__init__()
        from diffusers import AutoencoderKLTemporalDecoder

        self.config = c = config or VideoAutoencoderConfig()
        depth = len(c.block_out_channels)
        self.network = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * depth,
            block_out_channels=c.block_out_channels,
            layers_per_block=c.layers_per_block,
            latent_channels=c.latent_channels,
            scaling_factor=c.scaling_factor,
        )
        self.latent_channels, self.factor, self.batch_size = c.latent_channels, 2 ** (depth - 1), c.decode_frames

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.encode(pixels).latent_dist.mode() * self.config.scaling_factor

    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        # One frame at a time for the temporal layers: the pictures of a batch belong to different views.
        return self.network.decode(latents / self.config.scaling_factor, num_frames=1).sample
