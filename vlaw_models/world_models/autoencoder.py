"""Frames to latents and back: folded pixels, a tiny deterministic autoencoder, and Stable Video Diffusion's by path.

Here: the classes behind one protocol; learned latents are normalised to zero mean and mean variance 1 (the statistics
are part of the checkpoint), folded pixels lie in [-1, 1]. Not here: training (learn_world_model.train_autoencoder), the
world models. Pictures are uint8 (height, width, 3); stacked latents put the views under each other (views.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.checkpoint import (
    load_checkpoint,
    load_config,
    load_tensors,
    load_weights,
    preset_class,
    save_checkpoint,
)
from vlaw_models.device import mixed
from vlaw_models.errors import VlawError
from vlaw_models.world_models.views import split_views, stack_views


class Autoencoder(nn.Module, ABC):
    """Frames <-> normalised latents; both directions are deterministic."""

    latent_channels: int
    factor: int
    """Pixels per latent pixel, each way."""
    batch_size = 192
    """Pictures per pass; fixed, so that results do not depend on how many are asked for at once."""
    costless = False
    """Encoding is only a rearrangement: done again and again rather than kept in memory."""

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

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


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

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Writes config.json and model.safetensors (float16 halves what is shipped)."""
        config = {"class": "TinyAutoencoder", **asdict(self.config)}
        return save_checkpoint(folder, config, {k: v.to(dtype) for k, v in self.state_dict().items()})

    @classmethod
    def load(cls, folder: Path) -> TinyAutoencoder:
        """Raises VlawError for a damaged checkpoint."""
        values = _without_class(load_config(folder), TinyAutoencoderConfig, folder)
        model = cls(TinyAutoencoderConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}))
        load_weights(model, {k: v.float() for k, v in load_tensors(folder).items()}, where=folder)
        return model.eval()


@dataclass(frozen=True)
class FoldedPixelsConfig:
    """`fold` pixels each way become channels."""

    fold: int = 4


class FoldedPixels(Autoencoder):
    """Pixels as they are, folded: nothing is lost and nothing is learned. For world models that move what they see."""

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
        model = cls(FoldedPixelsConfig(**_without_class(load_config(folder), FoldedPixelsConfig, folder)))
        load_weights(model, {k: v.float() for k, v in load_tensors(folder).items()}, where=folder)
        return model.eval()


@dataclass(frozen=True)
class VideoAutoencoderConfig:
    """Stable Video Diffusion's autoencoder; the defaults are diffusers' constructor arguments for it."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    scaling_factor: float = 0.18215
    decode_frames: int = 7


class VideoAutoencoder(Autoencoder):
    """`AutoencoderKLTemporalDecoder`, frozen: the paper's. Encodes to the mean of the posterior, so without chance."""

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

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        config = {"class": "VideoAutoencoder", **asdict(self.config)}
        return save_checkpoint(folder, config, {k: v.to(dtype) for k, v in self.state_dict().items()})

    @classmethod
    def load(cls, folder: Path) -> VideoAutoencoder:
        """Reads this platform's checkpoints and a plain diffusers `vae` folder (its keys have no prefix)."""
        values = load_config(folder)
        values = {k: v for k, v in values.items() if k in VideoAutoencoderConfig.__dataclass_fields__}
        model = cls(VideoAutoencoderConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}))
        tensors = {
            k if k.startswith("network.") else f"network.{k}": v.float() for k, v in load_tensors(folder).items()
        }
        load_weights(model, tensors, where=folder)
        return model.eval()


def load_autoencoder(folder: Path | str) -> Any:
    """The autoencoder in a checkpoint folder, on the CPU, in evaluation mode. Raises VlawError."""
    return load_checkpoint(folder, kind="autoencoder")


def build_autoencoder(preset: Mapping[str, Any], *, seed: int) -> Any:
    """A new autoencoder of a preset (presets.AUTOENCODER[...]), seeded, on torch's default device.

    The tiny class is trained by learn_world_model.train_autoencoder, which takes the preset's sizes as its `config`;
    the paper's is frozen: load Stable Video Diffusion's `vae` folder instead. Raises VlawError for another kind.
    """
    model, config = preset_class(preset, kind="autoencoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(config(**preset["sizes"]))


def _without_class(config: dict[str, Any], kind: type, folder: Path) -> dict[str, Any]:
    values = {k: v for k, v in config.items() if k != "class"}
    unknown = sorted(set(values) - set(kind.__dataclass_fields__))
    if unknown:
        raise VlawError(
            f"config.json has unknown keys: {', '.join(unknown)}",
            where=str(folder),
            remedy="The checkpoint was made by another version; make it again with this one.",
        )
    return values
