"""The objective and the sampler of every world model: EDM (Karras et al.) with v-prediction, as in Ctrl-World.

Noise levels, preconditioning, loss (VLAW Eq. 1), Euler sampling with guidance. Latents have unit standard deviation
(sigma_data = 1), so c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4 and the weight
(s^2+1)/s^2 makes the loss on the raw network uniform in s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import max_pool2d

from vlaw_models.device import mixed

if TYPE_CHECKING:
    from vlaw_models.world_models.base import Condition, WorldModel


@dataclass(frozen=True)
class EdmConfig:
    """Noise levels of training and sampling. Defaults: Ctrl-World."""

    log_mean: float = 0.7
    log_std: float = 1.6
    """ln(sigma) ~ N(log_mean, log_std^2), one sigma per sample, shared by its frames."""
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    guidance: float = 1.0
    """Largest guidance scale; it grows linearly from 1 over the frames. 1 turns guidance off. Published: 2."""


def expand(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, 1, ...) with as many dimensions as `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def denoise(model: WorldModel, noisy: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
    """Estimate of the clean frames: noisy (B, F, C, h, w) at noise level sigma (B,) -> (B, F, C, h, w) float32."""
    s = expand(sigma, noisy)
    norm = (s**2 + 1).sqrt()
    with mixed(noisy.device, enabled=model.autocast):
        raw = model(noisy / norm, sigma, condition)
    return noisy / norm**2 - s / norm * raw.float()


def loss(
    model: WorldModel,
    future: torch.Tensor,
    condition: Condition,
    generator: torch.Generator,
    *,
    change_weight: float = 0.0,
    change_threshold: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted denoising error per sample, (B,), and the estimate of the clean frames `future` (B, H, C, h, w).

    `change_weight` k multiplies the error by 1 + k where a patch of latent pixels (the model's `change_patch` each way)
    differs from the current frame: most of a picture is a still background, and what decides a task is small. A
    deterministic model's error is that of what it predicts, without noise levels and their weight.
    """
    current = condition.context[:, -1:]
    weight: torch.Tensor | float = 1.0
    if model.deterministic:
        condition = condition.with_context(model.augment(condition.context, generator))
        clean, estimate = future, predict(model, condition)
    else:
        device, batch = future.device, len(future)
        clean = torch.cat([current, future], dim=1) if model.includes_current else future
        sigma = (model.edm.log_std * torch.randn(batch, generator=generator) + model.edm.log_mean).exp().to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        condition = condition.with_context(model.augment(condition.context, generator))
        estimate = denoise(model, clean + expand(sigma, clean) * noise, sigma, condition)
        weight = (sigma**2 + 1) / sigma**2
    error = (estimate - clean) ** 2
    if change_weight:
        change, patch = (clean - current).abs().amax(dim=2), model.change_patch
        changed = max_pool2d(change, patch, ceil_mode=True) > change_threshold
        changed = changed.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        error = error * (1 + change_weight * changed[:, :, None, : error.shape[3], : error.shape[4]])
    return weight * error.flatten(1).mean(dim=1), estimate[:, -future.shape[1] :]


def predict(model: WorldModel, condition: Condition) -> torch.Tensor:
    """The frames to come (B, H, C, h, w) of a deterministic model."""
    with mixed(condition.context.device, enabled=model.autocast):
        return model.predict(condition)


def sigmas(config: EdmConfig, steps: int) -> torch.Tensor:
    """(steps + 1,) float32: Karras noise levels from sigma_max to sigma_min, then 0."""
    if steps < 1:
        raise ValueError("sampling needs at least one step")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    levels = (high + ramp * (low - high)) ** config.rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).float()


@torch.inference_mode()
def sample(model: WorldModel, condition: Condition, *, steps: int, generator: torch.Generator) -> torch.Tensor:
    """Draws the frames to come: (B, H, C, h, w) float32. Euler steps; deterministic given the CPU generator's state."""
    if model.deterministic:
        return predict(model, condition)
    batch, _, *shape = condition.context.shape
    levels = sigmas(model.edm, steps)
    x = torch.randn((batch, model.num_denoised, *shape), generator=generator) * levels[0]
    x = x.to(condition.context.device)
    for high, low in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        estimate = _guided(model, x, torch.full((batch,), high, device=x.device), condition)
        x = estimate + (low / high) * (x - estimate)
    return x[:, 1:] if model.includes_current else x


def _guided(model: WorldModel, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
    estimate = denoise(model, x, sigma, condition)
    if model.edm.guidance == 1.0:
        return estimate
    blind = denoise(model, x, sigma, condition.unconditional())
    scale = torch.linspace(1.0, model.edm.guidance, x.shape[1], device=x.device)[None, :, None, None, None]
    return blind + scale * (estimate - blind)
