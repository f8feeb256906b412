"""FoldedPixels: the pixels themselves; latents lie in [-1, 1]."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.autoencoders.base import Autoencoder, config_values
from vlaw_models.checkpoint import load_config, load_tensors, load_weights, save_checkpoint


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

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes config.json and model.safetensors."""
        config = {"class": "FoldedPixels", **asdict(self.config)}
        return save_checkpoint(folder, config, {k: v.to(dtype) for k, v in self.state_dict().items()})

    @classmethod
    def load(cls, folder: Path) -> FoldedPixels:
        """Raises VlawError for a damaged checkpoint."""
        model = cls(FoldedPixelsConfig(**config_values(load_config(folder), FoldedPixelsConfig, where=folder)))
        load_weights(model, {k: v.float() for k, v in load_tensors(folder).items()}, where=folder)
        return model.eval()
