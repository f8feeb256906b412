"""Training a policy: pretraining of the base policy and the update of Algorithm 1 (weighted flow matching, Eq. 4).

Here: the optimiser loop, shared by both, and `finetune_policy`. Not here: which episodes have weight 1 (scoring and
the training set decide), sampling of steps (policies/data.py), the loss (policies/base.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.config import PolicyConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import FlowMatchingPolicy, load_policy
from vlaw_models.policies.data import MixedData, SeenData, StepData

Progress = Callable[[int, int, str], None]
WARMUP_STEPS = 100
FINAL_RATE = 0.02
"""The learning rate ends at this share of its peak."""


def train_policy(
    policy: FlowMatchingPolicy,
    data: StepData | MixedData | Sequence[Episode],
    *,
    weights: Sequence[float] | None = None,
    steps: int,
    batch_size: int,
    lr: float,
    ema: float,
    seed: int,
    warmup: int = WARMUP_STEPS,
    weight_decay: float = 1e-4,
    autocast: torch.dtype | None = torch.bfloat16,
    progress: Progress | None = None,
) -> list[float]:
    """Trains in place and leaves the averaged (EMA) weights in the policy; returns the loss of every step.

    `weights`: w per episode, only where `data` is a list of episodes. Cosine schedule after `warmup` steps (at most a
    tenth of all). Same policy, data, arguments and thread count give the same weights. Raises VlawError where the loss
    is no longer a finite number.
    """
    source = data if isinstance(data, (StepData, MixedData)) else StepData.from_episodes(data, weights=weights)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tokens: dict[str, torch.Tensor] = {}

    def step_loss() -> torch.Tensor:
        batch = source.draw(rng, batch_size, policy.chunk_size)
        for text in set(batch.instructions) - set(tokens):
            tokens[text] = policy.tokenizer([text])[0]
        return policy.loss(
            torch.from_numpy(batch.images), torch.from_numpy(batch.states),
            torch.stack([tokens[text] for text in batch.instructions]), torch.from_numpy(batch.actions),
            torch.from_numpy(batch.weights), generator, torch.from_numpy(batch.points),
        )

    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return _optimise(
        policy, parameters, step_loss, steps=steps, lr=lr, ema=ema, warmup=warmup, weight_decay=weight_decay,
        autocast=autocast, progress=progress,
    )


def train_head(
    policy: FlowMatchingPolicy,
    sources: Sequence[StepData],
    shares: Sequence[float],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    ema: float,
    seed: int,
    warmup: int = WARMUP_STEPS,
    weight_decay: float = 1e-4,
    progress: Progress | None = None,
) -> list[float]:
    """Like `train_policy` with the encoder of the pictures frozen: each picture is looked at once, before training.

    `shares`: of every batch, per source. Raises VlawError for a policy that cannot be trained so.
    """
    if not policy.can_freeze:
        raise VlawError(f"a {type(policy).__name__} cannot be trained with a frozen encoder", where="policy training",
                        remedy="Set policy.frozen_encoder = false in the recipe.")
    policy.eval()
    seen = [SeenData(policy, source) for source in sources]
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    counts = np.diff(np.round(np.cumsum([0.0, *shares]) * batch_size).astype(int))

    def step_loss() -> torch.Tensor:
        parts = [source.draw(rng, int(count)) for source, count in zip(seen, counts, strict=True) if count > 0]
        features, states, actions, weights = (torch.cat(column) for column in zip(*parts, strict=True))
        context = policy.encode_seen(features, policy.normalization.state(states))
        return policy.flow_error(context, states, actions, weights, generator)

    return _optimise(
        policy, policy.head_parameters(), step_loss, steps=steps, lr=lr, ema=ema, warmup=warmup,
        weight_decay=weight_decay, autocast=torch.bfloat16, progress=progress,
    )


def _optimise(
    policy: FlowMatchingPolicy, parameters: list[torch.nn.Parameter], step_loss: Callable[[], torch.Tensor], *,
    steps: int, lr: float, ema: float, warmup: int, weight_decay: float, autocast: torch.dtype | None,
    progress: Progress | None,
) -> list[float]:
    device = next(policy.parameters()).device
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps, min(warmup, steps // 10)))
    losses: list[float] = []
    policy.train()
    for step in range(steps):
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            loss = step_loss()
        value = loss.item()
        if not math.isfinite(value):
            raise VlawError(f"the policy's loss is {value} at step {step}", where="policy training",
                            remedy="Lower the learning rate, or look for extreme actions in the data.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            # The average follows quickly at first, so that a short training is not dominated by its start.
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - min(ema, (1 + step) / (10 + step)))
        losses.append(value)
        if progress is not None:
            progress(step + 1, steps, f"loss {np.mean(losses[-50:]):.4f}")
    with torch.no_grad():
        torch._foreach_copy_([p.detach() for p in parameters], averaged)
    policy.eval()
    return losses


def finetune_policy(
    start_dir: Path,
    real: list[Episode],
    imagined: list[Episode],
    cfg: PolicyConfig,
    out_dir: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Updates the policy in `start_dir` on real and imagined successes and writes the new one to `out_dir`.

    `cfg.imagined_fraction` of every batch is imagined where there are both; normalisation statistics and tokenizer are
    those of the start policy. Returns {"losses", "seconds", "real_steps", "imagined_steps"}. Raises VlawError where
    there is nothing to learn from; then nothing is written.
    """
    begun = time.monotonic()
    policy = load_policy(start_dir)
    real = real if cfg.use_real else []
    sources = [StepData.from_episodes(episodes) for episodes in (real, imagined) if episodes]
    if not sources:
        raise VlawError("there is no successful episode to learn from", where="policy update",
                        remedy="Collect more rollouts, imagine more episodes, or lower alpha of the score stage.")
    _check_fits(policy, sources)
    shares = [1 - cfg.imagined_fraction, cfg.imagined_fraction] if len(sources) == 2 else [1.0]
    settings = {
        "steps": cfg.steps, "batch_size": cfg.batch_size, "lr": cfg.learning_rate, "ema": cfg.ema, "seed": seed,
        "progress": progress,
    }
    if cfg.frozen_encoder:
        losses = train_head(policy, sources, shares, **settings)
    else:
        losses = train_policy(policy, MixedData(sources, shares), **settings)
    policy.save(out_dir)
    return {
        "losses": losses,
        "seconds": time.monotonic() - begun,
        "real_steps": sum(episode.num_steps for episode in real),
        "imagined_steps": sum(episode.num_steps for episode in imagined),
    }


def _check_fits(policy: FlowMatchingPolicy, sources: Sequence[StepData]) -> None:
    expected = (policy.normalization.state_dim, policy.action_dim)
    for source in sources:
        for state, action in zip(source.states, source.actions, strict=True):
            if (state.shape[1], action.shape[1]) != expected:
                raise VlawError(
                    f"the policy has {expected[0]} state and {expected[1]} action dimensions, an episode has "
                    f"{state.shape[1]} and {action.shape[1]}", where="policy update",
                    remedy="Start from a policy that was trained for this robot.",
                )


def _cosine(steps: int, warmup: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, steps - warmup)
        return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
