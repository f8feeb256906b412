"""TinyAutoencoder: small and convolutional, quick on one CPU thread; latents of zero mean and mean variance 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.autoencoders.base import Autoencoder


@dataclass(frozen=True)
class TinyAutoencoderConfig:
    """diffusers' AutoencoderTiny on patches: `patch` pixels each way become channels before the first convolution."""

    patch: int = 4
    channels: int = 64
    latent_channels: int = 32
    encoder_blocks: tuple[int, ...] = (1, 2)
    """Residual blocks per level; each further level halves the resolution."""
    decoder_blocks: tuple[int, ...] = (2, 1)
    """From the coarsest level to the finest."""


class TinyAutoencoder(Autoencoder):
    """A convolutional autoencoder for 64-pixel frames, fast on one CPU thread (why it works on patches).

    A linear map of whole latent cells runs beside diffusers' AutoencoderTiny, which learns what it leaves over; started
    at the principal components (`start_linear`) it saves most of the training.
    """

    config_class = TinyAutoencoderConfig

    def __init__(self, config: TinyAutoencoderConfig | None = None):
        super().__init__()
        from diffusers import AutoencoderTiny

        self.config = config or TinyAutoencoderConfig()
        c, pixels = self.config, 3 * self.config.patch**2
        self.network = AutoencoderTiny(
            in_channels=pixels,
            out_channels=pixels,
            latent_channels=c.latent_channels,
            encoder_block_out_channels=(c.channels,) * len(c.encoder_blocks),
            num_encoder_blocks=c.encoder_blocks,
            decoder_block_out_channels=(c.channels,) * len(c.decoder_blocks),
            num_decoder_blocks=c.decoder_blocks,
        ).to(memory_format=torch.channels_last)
        self.latent_channels = c.latent_channels
        self.factor = c.patch * 2 ** (len(c.encoder_blocks) - 1)
        self.project = nn.Conv2d(3, c.latent_channels, self.factor, stride=self.factor)
        self.expand = nn.ConvTranspose2d(c.latent_channels, 3, self.factor, stride=self.factor)
        self.register_buffer("mean", torch.zeros(c.latent_channels))
        self.register_buffer("std", torch.ones(c.latent_channels))

    def raw_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) before normalisation, limited to [-3, 3] so that noise added in training is never negligible."""
        # Pixel unshuffling in channels-last order costs nothing and keeps the convolutions' fast path.
        patches = F.pixel_unshuffle(pixels, self.config.patch).contiguous(memory_format=torch.channels_last)
        return torch.tanh((self.network.encoder(patches).float() + self.project(pixels).float()) / 3) * 3

    def reconstruct(self, raw: torch.Tensor) -> torch.Tensor:
        """(N, 3, height, width) from latents before normalisation."""
        return F.pixel_shuffle(self.network.decoder(raw), self.config.patch) + self.expand(raw)

    @torch.no_grad()
    def start_linear(self, pixels: torch.Tensor) -> None:
        """Sets the linear path to the principal components of `pixels` (N, 3, height, width), the rest to nothing."""
        channels, size = self.latent_channels, self.factor
        cells = F.unfold(pixels.double(), size, stride=size).movedim(1, 2).flatten(0, 1)
        mean = cells.mean(dim=0)
        values, vectors = torch.linalg.eigh((cells - mean).T @ (cells - mean) / len(cells))
        order = values.argsort(descending=True)[:channels]
        basis, scale = vectors[:, order], values[order].clamp_min(1e-8).sqrt()
        self.project.weight.copy_((basis / scale).T.reshape(channels, 3, size, size))
        self.project.bias.copy_(-(mean @ (basis / scale)))
        self.expand.weight.copy_((basis * scale).T.reshape(channels, 3, size, size))
        for layer, bias in ((self.network.encoder.layers[-1], 0.0), (self.network.decoder.layers[-1], 0.5)):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, bias)  # the decoder ends in 2x - 1
        self.expand.bias.copy_(mean.reshape(3, -1).mean(dim=1))

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.raw_latents(pixels) - self.mean[:, None, None]) / self.std[:, None, None]

    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        return self.reconstruct(latents * self.std[:, None, None] + self.mean[:, None, None])
