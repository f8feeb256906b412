"""The objective and the sampler of every world model: EDM (Karras et al.) with v-prediction, as in Ctrl-World.

Noise levels, preconditioning, loss (VLAW Eq. 1; World-VLA-Loop's with reward and state), Euler sampling with guidance.
Latents have unit standard deviation (sigma_data = 1), so c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in =
1/sqrt(s^2+1), c_noise = ln(s)/4 and the weight (s^2+1)/s^2 makes the loss on the raw network uniform in s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import max_pool2d

from vlaw_models.config import Sampling, Schedule
from vlaw_models.device import mixed
from vlaw_models.world_models.heads import Targets, head_errors

if TYPE_CHECKING:
    from vlaw_models.world_models.base import Condition, WorldModel

HIGHEST, LOWEST = 0.999, 0.05
"""Quantiles of the noise in training between which the schedule 'trained' lies."""


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
    """The guidance scale that a model was published with; what is used is the recipe's (`Sampling`)."""


class Prediction(NamedTuple):
    """What a world model tells of H control steps."""

    frames: torch.Tensor
    """(B, H / r, C, h, w) latents."""
    reward: torch.Tensor | None
    """(B, H) from 0 to 1, or None without heads."""
    states: torch.Tensor | None
    """(B, H, D) poses in robot units, or None without heads."""


def expand(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, 1, ...) with as many dimensions as `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def denoise(model: WorldModel, noisy: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
    """Estimate of the clean frames: noisy (B, F, C, h, w) at noise level sigma (B,) -> (B, F, C, h, w) float32."""
    return _denoise(model, noisy, sigma, condition)[0]


def _denoise(
    model: WorldModel, noisy: torch.Tensor, sigma: torch.Tensor, condition: Condition
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`denoise`, and the features that the heads read of the same pass, if there are heads."""
    s = expand(sigma, noisy)
    norm = (s**2 + 1).sqrt()
    with mixed(noisy.device, enabled=model.autocast):
        raw, features = _passed(model, noisy / norm, sigma, condition)
    return noisy / (s**2 + 1) - s / norm * raw.float(), features


def _passed(
    model: WorldModel, scaled: torch.Tensor, sigma: torch.Tensor, condition: Condition
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if model.heads is None:
        return model(scaled, sigma, condition), None
    return model.with_features(scaled, sigma, condition)


def loss(
    model: WorldModel,
    future: torch.Tensor,
    condition: Condition,
    generator: torch.Generator,
    *,
    change_weight: float = 0.0,
    change_threshold: float = 0.5,
    targets: Targets | None = None,
    reward_weight: float = 0.0,
    state_weight: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted denoising error per sample, (B,), and the estimate of the clean frames `future` (B, H, C, h, w).

    `change_weight` k multiplies the error by 1 + k where a patch of latent pixels (the model's `change_patch` each way)
    differs from the current frame: most of a picture is a still background, and what decides a task is small. A
    deterministic model's error is that of what it predicts, without noise levels and their weight.

    `targets`, for a model with heads, adds `reward_weight` times the reward's cross-entropy and `state_weight` times
    the pose's squared error, both times 1 / (1 + s): the share of the clean frames in what the denoiser is shown, so
    that what cannot be seen is not asked for. (The paper's weight depends on the noise too; how, is not published.)
    """
    current = condition.context[:, -1:]
    weight: torch.Tensor | float = 1.0
    clear: torch.Tensor | float = 1.0
    if model.deterministic:
        condition = condition.with_context(model.augment(condition.context, generator))
        clean = future
        estimate, features = _predict(model, condition)
    else:
        device, batch = future.device, len(future)
        clean = torch.cat([current, future], dim=1) if model.includes_current else future
        sigma = (model.edm.log_std * torch.randn(batch, generator=generator) + model.edm.log_mean).exp().to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        condition = condition.with_context(model.augment(condition.context, generator))
        estimate, features = _denoise(model, clean + expand(sigma, clean) * noise, sigma, condition)
        weight, clear = expand((sigma**2 + 1) / sigma**2, clean), 1 / (1 + sigma)
        if model.includes_current and not model.learn_current:
            estimate, clean = estimate[:, 1:], clean[:, 1:]
    error = (estimate - clean) ** 2
    if change_weight:
        change, patch = (clean - current).abs().amax(dim=2), model.change_patch
        changed = max_pool2d(change, patch, ceil_mode=True) > change_threshold
        changed = changed.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        error = error * (1 + change_weight * changed[:, :, None, : error.shape[3], : error.shape[4]])
    losses = (weight * error).flatten(1).mean(dim=1)
    if targets is not None and features is not None:
        reward, state = head_errors(*model.tell(features, estimate, condition), targets, model.half_range)
        losses = losses + clear * (reward_weight * reward + state_weight * state)
    return losses, estimate[:, -future.shape[1] :]


def predict(model: WorldModel, condition: Condition) -> torch.Tensor:
    """The frames to come (B, H, C, h, w) of a deterministic model."""
    return _predict(model, condition)[0]


def _predict(model: WorldModel, condition: Condition) -> tuple[torch.Tensor, torch.Tensor | None]:
    with mixed(condition.context.device, enabled=model.autocast):
        if model.heads is None:
            return model.predict(condition), None
        nothing = condition.context.new_zeros(len(condition.context))
        return model.with_features(condition.context, nothing, condition)


def sigmas(config: EdmConfig, steps: int, schedule: Schedule = "karras") -> torch.Tensor:
    """(steps + 1,) float32: falling noise levels, then 0.

    'karras': from sigma_max to sigma_min. Of few steps the first ones see nothing but noise, and the last one has
    nothing left to do. 'trained': quantiles of the levels that training draws, equally far apart, from one that hides
    nearly all to one that hides no more than details.
    """
    if steps < 1:
        raise ValueError("sampling needs at least one step")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    if schedule == "trained":
        quantiles = HIGHEST + ramp * (LOWEST - HIGHEST)
        levels = (config.log_mean + config.log_std * torch.special.ndtri(quantiles)).exp()
    else:
        high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
        levels = (high + ramp * (low - high)) ** config.rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).float()


def sample(model: WorldModel, condition: Condition, *, steps: int, generator: torch.Generator) -> torch.Tensor:
    """Draws the frames to come: (B, H / r, C, h, w) float32. Euler steps; deterministic given the CPU generator's
    state."""
    return imagine(model, condition, Sampling(steps), generator=generator).frames


@torch.inference_mode()
def imagine(model: WorldModel, condition: Condition, sampling: Sampling, *, generator: torch.Generator) -> Prediction:
    """The frames to come, by Euler steps, and what the heads tell of them in the last pass, with action and text in
    sight. Deterministic given the CPU generator's state."""
    if model.deterministic:
        return _told(model, *_predict(model, condition), condition)
    features = None
    batch, _, *shape = condition.context.shape
    levels = sigmas(model.edm, sampling.steps, sampling.schedule)
    x = torch.randn((batch, model.num_denoised, *shape), generator=generator) * levels[0]
    x = x.to(condition.context.device)
    # One block for all passes: the bfloat16 copies of the weights are made once.
    with mixed(x.device, enabled=model.autocast):
        for high, low in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
            sigma = torch.full((batch,), high, device=x.device)
            estimate, features = _guided(model, x, sigma, condition, sampling.guidance)
            x = estimate + (low / high) * (x - estimate)
    return _told(model, x[:, 1:] if model.includes_current else x, features, condition)


def _told(model: WorldModel, frames: torch.Tensor, features: torch.Tensor | None, condition: Condition) -> Prediction:
    if features is None:
        return Prediction(frames, None, None)
    logits, states = model.tell(features, frames, condition)
    return Prediction(frames, logits.sigmoid(), states)


def _guided(
    model: WorldModel, x: torch.Tensor, sigma: torch.Tensor, condition: Condition, guidance: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The estimate, moved away from one that sees neither action nor text; the scale grows linearly from 1 over the
    frames to `guidance`."""
    estimate, features = _denoise(model, x, sigma, condition)
    if guidance == 1.0:
        return estimate, features
    blind = denoise(model, x, sigma, condition.unconditional())
    scale = torch.linspace(1.0, guidance, x.shape[1], device=x.device)[None, :, None, None, None]
    return blind + scale * (estimate - blind), features
