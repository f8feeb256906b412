"""Learning a TinyAutoencoder from pictures, and the scale of its latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.device import compute_device, mixed, seeded
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.loop import LoopConfig, train
from vlaw_models.progress import Progress


def train_autoencoder(
    frames: np.ndarray,
    config: TinyAutoencoderConfig | None = None,
    *,
    steps: int,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
    seed: int,
    latent_noise: float = 0.1,
    ema: float = 0.995,
    progress: Progress | None = None,
) -> tuple[TinyAutoencoder, list[float]]:
    """A new autoencoder from pictures (N, height, width, 3) uint8 (or (..., V, height, width, 3)), and the loss of
    every step.

    `latent_noise` is added in training (latents lie in [-3, 3]): the decoder must tolerate a world model's errors.
    """
    frames = frames.reshape(-1, *frames.shape[-3:])
    rng = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with seeded(int(rng.integers(2**62))):
        model = TinyAutoencoder(config)
        _scale_for_relu(model.network)
    device = compute_device()
    model.to(device)

    def pixels(index: np.ndarray) -> torch.Tensor:
        # Sorted: the frames may be a memory map. channels-last by construction.
        return torch.from_numpy(frames[np.sort(index)]).to(device).movedim(-1, 1).float() / 127.5 - 1

    model.start_linear(pixels(rng.choice(len(frames), size=min(len(frames), 512), replace=False)))

    def draw() -> list[np.ndarray]:
        return [rng.integers(len(frames), size=batch_size)]

    def take(groups: list[np.ndarray]) -> torch.Tensor:
        return pixels(groups[0])

    def batch_loss(model: TinyAutoencoder, batch: torch.Tensor) -> torch.Tensor:
        raw = model.raw_latents(batch)
        raw = raw + latent_noise * torch.randn(raw.shape, generator=generator).to(device)
        out = model.reconstruct(raw)
        error = out.float() - batch
        return error.square().mean() * 4 + error.abs().mean()

    loop = LoopConfig(steps=steps, learning_rate=learning_rate, ema=ema, betas=(0.9, 0.99), weight_decay=1e-3)
    batches = Batches(batch_size, draw, take)
    options: dict[str, Any] = {"generator": generator, "seed": seed, "progress": progress}
    losses = train(model, batches, batch_loss, loop, what="autoencoder", **options)
    with torch.inference_mode(), mixed(device):
        chosen = rng.choice(len(frames), size=min(len(frames), 2048), replace=False)
        raw = torch.cat([model.raw_latents(pixels(part)) for part in np.array_split(chosen, max(1, len(chosen) // 64))])
    scale_latents(model, raw)
    return model, losses


@torch.no_grad()
def scale_latents(model: TinyAutoencoder, raw: torch.Tensor) -> None:
    """Sets the normalisation from raw latents (N, C, h, w): zero mean, mean variance 1, telling channels larger.

    Unit variance in every channel would make the world model spend most of its loss on fine texture. A channel's
    deviation is the square root of how far one deviation of it moves the pixels: half way to pixel error.
    """
    deviation = raw.std(dim=(0, 2, 3)).clamp_min(1e-3)
    sample = raw[:64]
    with mixed(raw.device):
        pixels = model.reconstruct(sample).float()
        moved = torch.stack(
            [
                (model.reconstruct(sample + step).float() - pixels).square().mean().sqrt()
                for step in torch.diag(deviation)[:, None, :, None, None]
            ]
        )
    gain = moved.sqrt()
    model.mean.copy_(raw.mean(dim=(0, 2, 3)))
    model.std.copy_(deviation / (gain / gain.square().mean().sqrt()))


def _scale_for_relu(network: nn.Module) -> None:
    # PyTorch's default shrinks the signal about threefold per layer, which costs hundreds of steps to undo.
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for module in network.modules():
        if type(module).__name__ == "AutoencoderTinyBlock":
            nn.init.kaiming_normal_(module.conv[-1].weight, a=7.0)
