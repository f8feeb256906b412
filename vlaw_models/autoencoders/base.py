"""What every autoencoder is: frames to normalised latents and back, deterministic in both directions.

Pictures are uint8 (height, width, 3); stacked latents put the views under each other (views.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.autoencoders.views import split_views, stack_views
from vlaw_models.checkpoint import (
    described,
    load_checkpoint,
    load_config,
    load_tensors,
    load_weights,
    preset_class,
    save_checkpoint,
)
from vlaw_models.device import mixed, seeded
from vlaw_models.errors import VlawError


class Autoencoder(nn.Module, ABC):
    """Frames <-> normalised latents; both directions are deterministic."""

    config_class: ClassVar[type]
    """The dataclass of a preset's sizes, the constructor's only argument."""
    config: Any
    """The configuration that it was made of."""
    latent_channels: int
    factor: int
    """Pixels per latent pixel, each way."""
    batch_size = 192
    """Pictures per pass; fixed, so that results do not depend on how many are asked for at once."""
    costless = False
    """Encoding is only a rearrangement: done again and again rather than kept in memory."""
    frames_per_latent = 1
    """r: coming frames that share one latent picture. A still one, such as a context frame, has one of its own."""

    @abstractmethod
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, height, width) in [-1, 1] -> (N, C, h, w) normalised."""

    @abstractmethod
    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) normalised -> (N, 3, height, width), about [-1, 1]."""

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> torch.Tensor:
        """(..., V, height, width, 3) uint8 -> (..., C, V*h, w) float32 stacked latents."""
        *lead, height, width, _ = images.shape
        if height % self.factor or width % self.factor:
            raise VlawError(
                f"frames of {height}x{width} pixels do not divide by {self.factor}",
                where="autoencoder",
                remedy="Resize the frames to the size that the autoencoder was trained for.",
            )
        flat = torch.from_numpy(np.require(images, requirements=["C", "W"])).reshape(-1, height, width, 3)
        parts = []
        for piece in flat.split(self.batch_size):
            pixels = piece.movedim(-1, 1).to(self._device).float() / 127.5 - 1  # a permuted view: channels last already
            with mixed(pixels.device):
                latents = self.to_latents(pixels)
            parts.append(latents.float().cpu())
        latents = torch.cat(parts)
        return stack_views(latents.reshape(*lead, *latents.shape[1:]))

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, views: int) -> np.ndarray:
        """(..., C, V*h, w) stacked latents -> (..., V, height, width, 3) uint8."""
        split = split_views(latents, views)
        flat = split.flatten(0, -4).to(self._device)
        parts = []
        for piece in flat.split(self.batch_size):
            with mixed(piece.device):
                pixels = self.to_pixels(piece.contiguous(memory_format=torch.channels_last))
            levels = (pixels.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
            parts.append(levels.movedim(1, -1).cpu())
        images = torch.cat(parts)
        return images.reshape(*split.shape[:-3], *images.shape[1:]).numpy()

    def encode_chunk(self, images: np.ndarray) -> torch.Tensor:
        """A frame and the H that follow (B, 1 + H, V, height, width, 3) -> (B, 1 + H / r, C, V*h, w): the first one's
        latents are those of a still."""
        return self.encode(images)

    def decode_chunk(self, current: torch.Tensor, latents: torch.Tensor, views: int) -> np.ndarray:
        """Latents (B, H / r, C, V*h, w) of what follows the frame of latents `current` (B, C, V*h, w) -> frames (B, H,
        V, height, width, 3) uint8."""
        del current
        return self.decode(latents, views)

    @property
    def when_drawn(self) -> bool:
        """Frames are encoded when a batch draws them, and none are kept: that costs nothing, or latents depend on the
        frame at which the chunk begins."""
        return self.costless or self.frames_per_latent > 1

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The autoencoder of a checkpoint folder, in evaluation mode. Raises VlawError for a damaged one."""
        values, tensors = cls.as_own(load_config(folder), load_tensors(folder))
        model = cls(described(cls.config_class, values, by=cls.__name__, where=folder))
        load_weights(model, tensors, where=folder)
        return model.eval()

    @classmethod
    def as_own(
        cls, config: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What a folder holds, config.json and tensors, as this class has it: others read other layouts too."""
        return {key: value for key, value in config.items() if key != "class"}, tensors

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes the checkpoint folder (config.json, model.safetensors); float16 halves what is shipped."""
        config = {"class": type(self).__name__, **asdict(self.config)}
        return save_checkpoint(folder, config, {name: value.to(dtype) for name, value in self.state_dict().items()})


class DiffusersAutoencoder(Autoencoder):
    """One whose `network` is of diffusers. It reads diffusers' `vae` folders too, whose keys have no prefix."""

    @classmethod
    def as_own(
        cls, config: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        known = {field.name for field in fields(cls.config_class)}
        own = {name if name.startswith("network.") else f"network.{name}": value for name, value in tensors.items()}
        return {key: value for key, value in config.items() if key in known}, own


def load_autoencoder(folder: Path | str) -> Autoencoder:
    """The autoencoder in a checkpoint folder, on the device that computes, in evaluation mode. Raises VlawError."""
    return load_checkpoint(folder, AUTOENCODERS)


def build_autoencoder(preset: Mapping[str, Any], *, seed: int) -> Autoencoder:
    """A new autoencoder of a preset (presets.AUTOENCODER[...]), seeded, on torch's default device.

    Raises VlawError for a preset of another kind.
    """
    model = preset_class(preset, AUTOENCODERS)
    with seeded(seed):
        return model(model.config_class(**preset["sizes"]))
