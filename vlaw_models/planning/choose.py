"""How a stage runs on the GPUs at hand: samples at once, activation checkpointing, sharding; or that it cannot.

Memory of a GPU in training: weights, gradients, Adam's two moments and the averages, a share of each where they are
sharded; one more copy of the gradients where processes share them without sharding (DDP's buckets); what is whole while
it is computed, where they are; bfloat16 copies of the weights; activations of each sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlaw_models.planning.fake import Run
from vlaw_models.planning.needs import Generation, Training

SPARE = 0.08
"""Share of a GPU's memory that is left alone: CUDA's context, buffers of communication, gaps between tensors."""
ENOUGH = 4
"""Samples at once that keep a GPU busy: fewer are taken only where no more fit."""
MOST_GPUS = 4096
GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """What there is to run on."""

    gpus: int
    memory: int
    """Bytes of each."""
    rate: float
    """Operations per second that each really does."""

    @property
    def usable(self) -> int:
        return int(self.memory * (1 - SPARE))


@dataclass(frozen=True)
class Settings:
    """How a training runs. All that planning knows of a trainer."""

    micro_batch: int
    """Samples that a GPU computes at once."""
    recompute: bool
    sharded: bool
    """Whether weights, gradients and optimizer are spread over all GPUs (FSDP), or on each (DDP)."""


@dataclass(frozen=True)
class Chosen:
    """How a stage runs, and what that takes of each GPU."""

    settings: Settings
    memory: int
    """Bytes."""
    flop: int
    """Operations per sample."""


@dataclass(frozen=True)
class Misfit:
    """That a stage cannot run, and what would change that."""

    memory: int
    """Bytes that each GPU needs at least, as many as there are."""
    gpus: int | None
    """How many of this memory would do; None where no number would."""


def choose(needs: Training, batch_size: int, hardware: Hardware, *, averaged: bool) -> Chosen | Misfit:
    """The simplest of the ways to train in which ENOUGH samples fit at once, else the one in which most do.

    Simplest first: all on each GPU, sharded, activations computed again, both. `averaged`: whether averages of the
    weights are kept.
    """
    each = -(-batch_size // hardware.gpus)
    found = [_most(needs, each, hardware, settings, averaged=averaged) for settings in _ways(needs, hardware)]
    fitting = [one for one in found if one is not None]
    if fitting:
        enough = [one for one in fitting if one.settings.micro_batch >= min(each, ENOUGH)]
        return enough[0] if enough else max(fitting, key=lambda one: one.settings.micro_batch)
    least = min(memory_of(needs, way, hardware.gpus, averaged=averaged) for way in _ways(needs, hardware))
    return Misfit(int(least / (1 - SPARE)), _gpus_that_do(needs, hardware, averaged=averaged))


def memory_of(needs: Training, settings: Settings, gpus: int, *, averaged: bool) -> int:
    """Bytes of a GPU that a training takes at its peak."""
    run = run_of(needs, settings)
    # Gradients and two moments; what is not trained is there without them.
    state = needs.weights + (4 if averaged else 3) * needs.trained
    # Sharded, one layer is whole while it is computed, and the next one is on its way; what is in no layer is whole all
    # the time, and so are its gradients.
    held = state / gpus + 2 * needs.whole if settings.sharded else state + needs.trained * (gpus > 1)
    return int(held + run.copies + settings.micro_batch * max(run.peak - run.copies, 0))


def run_of(needs: Training, settings: Settings) -> Run:
    return needs.recomputed if settings.recompute and needs.recomputed is not None else needs.kept


def generating(models: Sequence[Generation], samples: int) -> int:
    """Bytes of a GPU that models take that are on it together, each in its turn."""
    held = sum(one.weights + one.run.copies for one in models)
    return held + max((samples if one.grows else 1) * (one.run.peak - one.run.copies) for one in models)


def most_at_once(models: Sequence[Generation], hardware: Hardware) -> int:
    """Samples that fit at once where all these models are on one GPU; 0: not one does."""
    if generating(models, 1) > hardware.usable:
        return 0
    left = hardware.usable - sum(one.weights + one.run.copies for one in models)
    return int(left / max((one.run.peak - one.run.copies for one in models if one.grows), default=left))


def _ways(needs: Training, hardware: Hardware) -> list[Settings]:
    return [
        Settings(1, recompute, sharded)
        for recompute in (False, True)[: 1 if needs.recomputed is None else 2]
        for sharded in (False, True)[: 1 if hardware.gpus == 1 else 2]
    ]


def _most(needs: Training, each: int, hardware: Hardware, way: Settings, *, averaged: bool) -> Chosen | None:
    """With as many samples at once as fit, at most `each`, in equal parts; None where not one does."""
    run, one = run_of(needs, way), memory_of(needs, way, hardware.gpus, averaged=averaged)
    if one > hardware.usable:
        return None
    most = 1 + int((hardware.usable - one) / max(run.peak - run.copies, 1))
    parts = -(-each // min(most, each))
    settings = Settings(-(-each // parts), way.recompute, way.sharded)
    return Chosen(settings, memory_of(needs, settings, hardware.gpus, averaged=averaged), run.flop)


def _gpus_that_do(needs: Training, hardware: Hardware, *, averaged: bool) -> int | None:
    gpus = hardware.gpus
    while (gpus := 2 * gpus) <= MOST_GPUS:
        more = Hardware(gpus, hardware.memory, hardware.rate)
        if any(memory_of(needs, way, gpus, averaged=averaged) <= more.usable for way in _ways(needs, more)):
            return gpus
    return None
