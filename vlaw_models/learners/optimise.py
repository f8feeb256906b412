"""The optimiser loop of the policy learners: AdamW, warm-up and cosine, gradient clipping, averaged (EMA) weights.

Not here: losses (imitation.py, dsrl.py), which of the kept weights is the best (stopping.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from vlaw_models.device import mixed
from vlaw_models.errors import VlawError
from vlaw_models.learners.stopping import Stops
from vlaw_models.progress import Progress

WARMUP_STEPS = 100
FINAL_RATE = 0.02
"""The learning rate ends at this share of its peak."""


def optimise(
    model: torch.nn.Module,
    parameters: list[torch.nn.Parameter],
    step_loss: Callable[[], torch.Tensor],
    *,
    steps: int,
    lr: float,
    ema: float,
    warmup: int = WARMUP_STEPS,
    weight_decay: float = 1e-4,
    autocast: torch.dtype | None = None,
    stops: Stops | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Minimises `step_loss` and leaves the averages in `parameters`; returns the loss of every step.

    `stops` keeps the averages at each of its stopping points. Raises VlawError where the loss is no longer finite.
    """
    device = next(model.parameters()).device
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps, min(warmup, steps // 10)))
    losses: list[float] = []
    model.train()
    for step in range(steps):
        with mixed(device, enabled=autocast is not None, dtype=autocast or torch.bfloat16):
            loss = step_loss()
        value = loss.item()
        if not math.isfinite(value):
            raise VlawError(
                f"the policy's loss is {value} at step {step}",
                where="policy training",
                remedy="Lower the learning rate, or look for extreme actions in the data.",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            # The average follows quickly at first, so that a short training is not dominated by its start.
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - min(ema, (1 + step) / (10 + step)))
        losses.append(value)
        if stops is not None:
            stops.keep(step + 1, parameters, averaged)
        if progress is not None:
            progress(step + 1, steps, f"loss {np.mean(losses[-50:]):.4f}")
    with torch.no_grad():
        torch._foreach_copy_([p.detach() for p in parameters], averaged)
    model.eval()
    return losses


def _cosine(steps: int, warmup: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, steps - warmup)
        return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
