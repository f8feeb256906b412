"""What one stage takes on given GPUs, and how it would run there, by what its models need (vlaw_models/planning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlaw_models.planning.choose import Hardware
    from vlaw_models.planning.needs import Generation, Training

GIB = 2**30


@dataclass(frozen=True)
class StagePlan:
    """What one stage of an iteration takes."""

    stage: str
    model: str
    parameters: int
    state: int
    """Bytes of weights, and in training of gradients, optimizer and averages, all GPUs together if sharded."""
    optimizer: int
    """Of `state`, bytes of the optimizer: Adam's two moments of what is trained."""
    activations: int
    """Bytes of one sample at the peak, on a GPU."""
    batch: str
    """What is computed at once, on each GPU."""
    memory: int
    """Bytes of each GPU, at the peak."""
    disk: int
    """Bytes that it leaves in the lake, at most."""
    hours: float
    keys: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe that say so."""
    sharded: bool = False
    fits: bool = True
    remedy: str = ""
    """What would make it fit."""


def of_training(
    stage: str, needs: Training, hardware: Hardware, *, steps: int, batch_size: int, samples: str, averaged: bool = True
) -> StagePlan:
    """Of so many updates, each of a batch of what `samples` names; `averaged`: whether averages are kept."""
    from vlaw_models.planning.choose import Misfit, choose, run_of

    found = choose(needs, batch_size, hardware, averaged=averaged)
    state, optimizer = needs.weights + (4 if averaged else 3) * needs.trained, 2 * needs.trained
    # The checkpoint, and the whole state that an interrupted training goes on from.
    disk = needs.weights + needs.weights + (3 if averaged else 2) * needs.trained
    own = (stage, needs.model, needs.parameters, state, optimizer)
    if isinstance(found, Misfit):
        run = needs.recomputed or needs.kept
        more = f", or {found.gpus} GPUs like these" if found.gpus else ""
        remedy = f"Use GPUs of {-(-found.memory // GIB)} GiB each{more}."
        return StagePlan(*own, run.peak - run.copies, "-", found.memory, disk, 0.0, fits=False, remedy=remedy)
    settings, run = found.settings, run_of(needs, found.settings)
    parts = -(-batch_size // (settings.micro_batch * hardware.gpus))
    return StagePlan(
        *own,
        run.peak - run.copies,
        f"{settings.micro_batch} {samples}" + (f", {parts} parts" if parts > 1 else ""),
        found.memory,
        disk,
        hours(steps * batch_size * found.flop, hardware),
        keys={f"{stage}.micro_batch": settings.micro_batch, f"{stage}.recompute": settings.recompute},
        sharded=settings.sharded,
    )


def of_generation(
    stage: str,
    models: Sequence[Generation],
    hardware: Hardware,
    *,
    samples: int,
    batch: str,
    flop: float,
    disk: int = 0,
    key: str = "",
) -> StagePlan:
    """Of work that GPUs share, each with whole models; `samples` at once, by the recipe's `key` where it has one."""
    from vlaw_models.planning.choose import generating, most_at_once

    memory = generating(models, samples)
    fits, most = memory <= hardware.usable, most_at_once(models, hardware)
    remedy = f"Use GPUs of {-(-int(memory * hardware.memory / hardware.usable) // GIB)} GiB each"
    return StagePlan(
        stage,
        models[0].model,
        sum(one.parameters for one in models),
        sum(one.weights for one in models),
        0,
        max(one.run.peak - one.run.copies for one in models if one.grows or len(models) == 1),
        batch,
        memory,
        disk,
        hours(flop, hardware),
        fits=fits,
        remedy="" if fits else f"{remedy}, or set {key} = {most}." if key and most else f"{remedy}.",
    )


def hours(flop: float, hardware: Hardware) -> float:
    return flop / (hardware.gpus * hardware.rate) / 3600
