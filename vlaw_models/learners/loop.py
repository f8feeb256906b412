"""The training loop of all learners: AdamW, warm-up and cosine, gradient clipping, averaged (EMA) weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel

from vlaw_models.device import mixed
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.learners.resume import Resume, Stateful
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.progress import Progress

BatchT = TypeVar("BatchT")
RECENT = 50
"""Losses whose mean is shown; so many steps in a row without a finite gradient end a training."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a model is optimised."""

    steps: int
    learning_rate: float
    """At its peak, after the warm-up."""
    warmup: int = 100
    """Steps of linear warm-up, at most a tenth of all."""
    final_rate: float = 0.02
    """Share of the peak at which the learning rate ends."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    max_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema: float = 0.0
    """Decay of the averaged weights; 0: the last weights are kept."""
    bfloat16: bool = True
    """Whether losses are computed in bfloat16 where the device is quick at it."""


def train(
    model: nn.Module,
    batches: AbstractContextManager[Iterator[BatchT]],
    batch_loss: Callable[[BatchT], torch.Tensor],
    config: LoopConfig,
    *,
    what: str,
    parameters: list[nn.Parameter] | None = None,
    stops: Stops | None = None,
    resume: Resume | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Minimises `batch_loss` and leaves the averaged weights in the model; returns the loss of every step.

    Args:
        batches: one for each of `config.steps` (batches.py), less those that `resume` has done.
        batch_loss: the loss of one batch, a scalar on the model's device.
        what: the noun for messages, "world model".
        parameters: what is trained; None: all that require gradients.
        stops: keeps the averages at each of its stopping points.
        resume: goes on from the state it has found, and keeps it now and then.

    Raises VlawError where the loss, or RECENT gradients in a row, are not finite. The model is in training mode
    meanwhile and in evaluation mode afterwards.
    """
    trained = [p for p in model.parameters() if p.requires_grad] if parameters is None else parameters
    device = trained[0].device
    optimizer = torch.optim.AdamW(
        trained,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    schedule = warmup_and_cosine(optimizer, config)
    current = nn.ParameterList(trained)
    average = AveragedModel(current, multi_avg_fn=_averaging(config.ema)) if config.ema else None
    kept = trained if average is None else list(average.parameters())
    parts: dict[str, Stateful] = {"weights": current, "optimizer": optimizer, "schedule": schedule}
    parts |= {"average": average} if average is not None else {}
    losses = [] if resume is None else resume.load(parts)
    failed = 0
    model.train()
    with batches as found:
        for step, batch in zip(range(len(losses), config.steps), found, strict=True):
            with mixed(device, enabled=config.bfloat16):
                loss = batch_loss(batch)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise VlawError(
                    f"the loss is {losses[-1]} at step {step}",
                    where=f"training of the {what}",
                    remedy="Lower the learning rate, or look for damaged frames and extreme actions in the data.",
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            # One batch whose gradient explodes teaches nothing, and ends nothing.
            failed = 0 if nn.utils.clip_grad_norm_(trained, config.max_norm).isfinite() else failed + 1
            if failed == 0:
                optimizer.step()
            elif failed == RECENT:
                raise VlawError(
                    f"{RECENT} gradients in a row are not finite, until step {step}",
                    where=f"training of the {what}",
                    remedy="Lower the learning rate, or look for extreme values in the data.",
                )
            schedule.step()
            if average is not None:
                average.update_parameters(current)
            if stops is not None:
                stops.keep(step + 1, trained, [value.detach() for value in kept])
            if resume is not None:
                resume.keep(losses, parts)
            if progress is not None:
                progress(step + 1, config.steps, f"{what}: loss {np.mean(losses[-RECENT:]):.4f}")
    if config.steps and average is not None:
        torch._foreach_copy_([p.detach() for p in trained], [value.detach() for value in kept])
    model.eval()
    return losses


def warmup_and_cosine(optimizer: torch.optim.Optimizer, config: LoopConfig) -> LRScheduler:
    """The learning rate's schedule, to be stepped once per step of training."""
    warmup = min(config.warmup, config.steps // 10)
    cosine = CosineAnnealingLR(
        optimizer, max(1, config.steps - warmup), eta_min=config.final_rate * config.learning_rate
    )
    if not warmup:
        return cosine
    linear = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [linear, cosine], milestones=[warmup])


def _averaging(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]:
    """An average that follows quickly at first, so that a short training is not dominated by its start."""

    @torch.no_grad()
    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, float((1 + steps) / (10 + steps))))

    return average
