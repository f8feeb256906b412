"""Learning the world model and its autoencoder: pretraining and finetuning use the same two functions.

Here: the optimisation (AdamW, warm-up and cosine, moving average of the weights), co-training with weight lambda
(VLAW Eq. 2). Not here: the objective (world_models/edm.py), which episodes are used (the caller's choice).
Deterministic: same episodes, configuration, seed and number of threads, same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vlaw_models.autoencoders.base import Autoencoder, load_autoencoder
from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.config import WorldModelConfig
from vlaw_models.device import mixed
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import WorldModel, load_world_model
from vlaw_models.world_models.latents import LatentEpisodes, draw_unrolled, draw_windows, encode_episodes

CHANGE_WEIGHT = 3.0
REPORT_EVERY = 20


def finetune_world_model(
    start_dir: Path,
    autoencoder_dir: Path,
    episodes: list[Episode],
    co_training: list[Episode],
    cfg: WorldModelConfig,
    out_dir: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Continues a world model on real episodes, successes and failures alike; writes `out_dir`.

    Returns {"losses": mean loss per 20 steps, "steps", "seconds"}. Raises VlawError before anything is written.
    """
    began = time.perf_counter()
    model, autoencoder = load_world_model(start_dir), load_autoencoder(autoencoder_dir)
    check_fit(model, autoencoder, episodes, where=str(start_dir))
    data = encode_episodes(autoencoder, episodes, when_drawn=autoencoder.costless)
    weight = cfg.co_training_weight if co_training else 0.0
    others = encode_episodes(autoencoder, co_training, when_drawn=autoencoder.costless) if weight else None
    losses = train_world_model(
        model,
        data,
        others,
        steps=cfg.steps,
        batch_size=cfg.batch_size,
        learning_rate=cfg.learning_rate,
        co_training_weight=weight,
        ema=0.99,
        unroll=cfg.unroll,
        seed=seed,
        progress=progress,
    )
    model.save(out_dir)
    return {"losses": losses, "steps": cfg.steps, "seconds": time.perf_counter() - began}


def train_world_model(
    model: WorldModel,
    data: LatentEpisodes,
    co_training: LatentEpisodes | None = None,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    co_training_weight: float = 0.0,
    ema: float = 0.999,
    change_weight: float = CHANGE_WEIGHT,
    unroll: int = 0,
    progress: Progress | None = None,
) -> list[float]:
    """Minimises L = L(data) + lambda L(co_training), half the batch from each; leaves the averaged weights in `model`.

    `unroll`: at each step the model starts from up to so many chunks of its own imagination (a uniform choice per
    step). Returns the mean loss of every 20 steps. Raises VlawError where the loss is no longer finite.
    """
    rng = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    mixed = co_training is not None and co_training_weight > 0
    parts = [(data, batch_size // 2 if mixed else batch_size, 1.0)]
    if mixed:
        parts.append((co_training, batch_size - batch_size // 2, co_training_weight))

    def step_loss() -> torch.Tensor:
        total = torch.zeros((), device=model.device)
        # One pass for both parts: half batches cost more than half a batch's time.
        chunks = int(rng.integers(unroll + 1)) if unroll else 0
        drawn = [
            draw_unrolled(source, model, count, rng, chunks=chunks, generator=generator)
            if chunks
            else draw_windows(source, model, count, rng)
            for source, count, _ in parts
        ]
        future = torch.cat([d[0] for d in drawn])
        condition = _concatenate([d[1] for d in drawn])
        losses = edm.loss(model, future, condition, generator, change_weight=change_weight)
        begin = 0
        for _, count, weight in parts:
            total = total + weight * losses[begin : begin + count].mean()
            begin += count
        return total

    model.train()
    losses = _optimise(
        model, step_loss, steps=steps, learning_rate=learning_rate, ema=ema, progress=progress, text="world model"
    )
    model.eval()
    return losses


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
    """A new autoencoder from pictures (N, height, width, 3) uint8 (or (..., V, height, width, 3)); mean loss per 20
    steps.

    `latent_noise` is added in training (latents lie in [-3, 3]): the decoder must tolerate a world model's errors.
    """
    frames = frames.reshape(-1, *frames.shape[-3:])
    rng = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        model = TinyAutoencoder(config)
        _scale_for_relu(model.network)

    def pixels(index: np.ndarray) -> torch.Tensor:
        # Sorted: the frames may be a memory map. channels-last by construction.
        return torch.from_numpy(frames[np.sort(index)]).movedim(-1, 1).float() / 127.5 - 1

    model.start_linear(pixels(rng.choice(len(frames), size=min(len(frames), 512), replace=False)))

    def step_loss() -> torch.Tensor:
        batch = pixels(rng.integers(len(frames), size=batch_size))
        with mixed("cpu"):
            raw = model.raw_latents(batch)
            raw = raw + latent_noise * torch.randn(raw.shape, generator=generator)
            out = model.reconstruct(raw)
        error = out.float() - batch
        return error.square().mean() * 4 + error.abs().mean()

    model.train()
    losses = _optimise(
        model, step_loss, steps=steps, learning_rate=learning_rate, ema=ema, progress=progress, text="autoencoder"
    )
    model.eval()
    with torch.inference_mode(), mixed("cpu"):
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
    with mixed("cpu"):
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


def check_fit(model: WorldModel, autoencoder: Autoencoder, episodes: Iterable[Episode], *, where: str) -> None:
    """Raises VlawError unless cameras, picture size and pose of the episodes are those of the world model."""
    for episode in episodes:
        _, views, height, width, _ = episode.images.shape
        shape = (autoencoder.latent_channels, views * (height // autoencoder.factor), width // autoencoder.factor)
        if shape != tuple(model.latent_shape) or views != model.views or episode.states.shape[1] != model.pose_dim:
            raise VlawError(
                f"an episode of {views} cameras, {height}x{width} pixels and {episode.states.shape[1]} state numbers "
                f"gives latents {shape}; the world model takes {tuple(model.latent_shape)} and {model.pose_dim} "
                f"numbers",
                where=where,
                remedy="Use a world model and an autoencoder that were trained for this robot.",
            )


def _optimise(
    model: nn.Module,
    step_loss: Callable[[], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    ema: float,
    progress: Progress | None,
    text: str,
) -> list[float]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    warmup = max(1, min(100, steps // 10))
    average = [p.detach().clone() for p in parameters]
    means, recent = [], []
    for step in range(steps):
        rate = min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = learning_rate * rate
        value = step_loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        # A single window whose gradient explodes teaches nothing; a loss that is itself not finite is refused below.
        if nn.utils.clip_grad_norm_(parameters, 1.0).isfinite():
            optimizer.step()
        # The average forgets its start: early steps count less the longer training lasts.
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(ema, (step + 1) / (step + 10)))
        recent.append(float(value.detach()))
        if len(recent) == REPORT_EVERY or step + 1 == steps:
            means.append(float(np.mean(recent)))
            recent = []
            if not math.isfinite(means[-1]):
                raise VlawError(
                    f"the loss is not finite after {step + 1} steps",
                    where=text,
                    remedy="Lower the learning rate or look for damaged frames in the training episodes.",
                )
            if progress is not None:
                progress(step + 1, steps, f"{text}: loss {means[-1]:.4f}")
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)
    return means


def _scale_for_relu(network: nn.Module) -> None:
    # PyTorch's default shrinks the signal about threefold per layer, which costs hundreds of steps to undo.
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for module in network.modules():
        if type(module).__name__ == "AutoencoderTinyBlock":
            nn.init.kaiming_normal_(module.conv[-1].weight, a=7.0)


def _concatenate(conditions: Sequence[Any]) -> Any:
    if len(conditions) == 1:
        return conditions[0]

    def join(name: str) -> torch.Tensor | None:
        values = [getattr(c, name) for c in conditions]
        return None if values[0] is None else torch.cat(values)

    return type(conditions[0])(join("context"), join("poses"), join("text"), join("drop"))
