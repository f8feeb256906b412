"""FoldedPixels: the pixels themselves; latents lie in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.autoencoders.base import Autoencoder


@dataclass(frozen=True)
class FoldedPixelsConfig:
    """`fold` pixels each way become channels."""

    fold: int = 1


class FoldedPixels(Autoencoder):
    """Pixels as they are, folded: nothing is lost and nothing is learned. For world models that move what they see."""

    config_class = FoldedPixelsConfig
    costless = True

    def __init__(self, config: FoldedPixelsConfig | None = None):
        super().__init__()
        self.config = config or FoldedPixelsConfig()
        self.factor, self.latent_channels = self.config.fold, 3 * self.config.fold**2
        # A checkpoint has weights: this one says only what a latent's unit is.
        self.unit = nn.Parameter(torch.ones(1), requires_grad=False)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.pixel_unshuffle(pixels, self.factor)

    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(latents, self.factor)
