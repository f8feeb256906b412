"""Learning a world model, in pretraining and finetuning alike: the objective of world_models/edm.py, co-training with
weight lambda (VLAW Eq. 2), reward and state heads with the frames or alone.

Deterministic: same episodes, configuration, seed and number of threads, same weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder, load_autoencoder
from vlaw_models.config import WorldModelConfig
from vlaw_models.device import first_process
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.loop import LoopConfig, train
from vlaw_models.learners.resume import Checkpoints
from vlaw_models.progress import Progress
from vlaw_models.sources import KeptLatents
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel, check_autoencoder, load_world_model
from vlaw_models.world_models.heads import PRETRAINED, Targets
from vlaw_models.world_models.latents import (
    Imagined,
    LatentEpisodes,
    Runs,
    Stored,
    Windows,
    encode_episodes,
    targets,
    windows,
)


def finetune_world_model(
    start_dir: Path,
    autoencoder_dir: Path,
    episodes: list[Episode],
    co_training: Sequence[Episode],
    cfg: WorldModelConfig,
    out_dir: Path,
    *,
    seed: int,
    latents: KeptLatents | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Continues a world model on real episodes, successes and failures alike; writes `out_dir`. `latents`: those of
    all these episodes, where they were encoded before. `checkpoints`: as in `train_world_model`.

    Returns {"losses": one per step, "steps", "seconds"}. Raises VlawError before anything is written.
    """
    began = time.perf_counter()
    model, autoencoder = load_world_model(start_dir), load_autoencoder(autoencoder_dir)
    check_fit(model, autoencoder, episodes, where=str(start_dir))
    if model.heads is None and (cfg.reward_weight or cfg.state_weight):
        if (pretrained := Path(start_dir) / PRETRAINED).is_dir():
            model.take_heads(pretrained)
        else:
            model.add_heads([episode.instruction for episode in [*episodes, *co_training]], seed=seed)
    data = encode_episodes(autoencoder, episodes, when_drawn=autoencoder.when_drawn, kept=latents)
    weight = cfg.co_training_weight if co_training else 0.0
    others = (
        encode_episodes(autoencoder, co_training, when_drawn=autoencoder.when_drawn, kept=latents) if weight else None
    )
    losses = train_world_model(
        model,
        data,
        others,
        loop=world_model_loop(
            cfg.steps, cfg.learning_rate, ema=0.99, micro_batch=cfg.micro_batch, recompute=cfg.recompute
        ),
        batch_size=cfg.batch_size,
        co_training_weight=weight,
        change_weight=cfg.change_weight,
        unroll=cfg.unroll,
        reward_weight=cfg.reward_weight,
        state_weight=cfg.state_weight,
        frozen_trunk=cfg.frozen_trunk,
        seed=seed,
        checkpoints=checkpoints,
        progress=progress,
    )
    if first_process():
        model.save(out_dir)
    return {"losses": losses, "steps": cfg.steps, "seconds": time.perf_counter() - began}


def train_world_model(
    model: WorldModel,
    data: LatentEpisodes,
    co_training: LatentEpisodes | None = None,
    *,
    loop: LoopConfig,
    batch_size: int,
    seed: int,
    co_training_weight: float = 0.0,
    change_weight: float = WorldModelConfig.change_weight,
    unroll: int = 0,
    reward_weight: float = 0.0,
    state_weight: float = 0.0,
    frozen_trunk: bool = False,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Minimises L = L(data) + lambda L(co_training), half the batch from each; leaves the averaged weights in `model`.

    `unroll`: runs of windows go on from up to so many chunks of the model's own imagination (latents.Runs).
    `reward_weight`, `state_weight`: of the heads' losses (edm.loss); `frozen_trunk`: nothing but the heads is trained.
    `checkpoints`: where an interrupted training is gone on with (resume.py). Returns the loss of every step.
    Raises VlawError where the loss is no longer finite, for weights of heads that are not there, and for `unroll`
    where frames share latents.
    """
    _check_keys(model, reward_weight, state_weight, frozen_trunk=frozen_trunk, unroll=unroll)
    rng = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    parts = [(data, batch_size, 1.0)]
    if co_training is not None and co_training_weight > 0:
        half = batch_size // 2
        parts = [(data, half, 1.0), (co_training, batch_size - half, co_training_weight)]
    counts = [count for _, count, _ in parts]
    runs = [Runs(source, model, count, rng, unroll) for source, count, _ in parts]
    imagined = [Imagined(count) if unroll else None for count in counts]

    def batch_loss(model: WorldModel, batch: list[tuple[Windows, np.ndarray]]) -> torch.Tensor:
        # One pass for both sources: half batches cost more than half a batch's time.
        here = [
            (*of_source, chosen, found, before)
            for of_source, (chosen, found), before in zip(parts, batch, imagined, strict=True)
            if len(chosen)
        ]
        drawn = [windows(source, model, chosen, found, before) for source, _, _, chosen, found, before in here]
        future = torch.cat([d[0] for d in drawn])
        condition = _concatenate([d[1] for d in drawn])
        told = [targets(source, model, chosen) for source, _, _, chosen, _, _ in here]
        known = [one for one in told if one is not None]
        losses, estimate = edm.loss(
            model,
            future,
            condition,
            generator,
            change_weight=change_weight,
            targets=Targets(*map(torch.cat, zip(*known, strict=True))) if known else None,
            reward_weight=reward_weight,
            state_weight=state_weight,
        )
        if unroll:
            made = estimate if model.deterministic else _sampled(model, condition, generator)
            for (*_, chosen, _, kept), part in zip(here, made.split([len(one[3]) for one in here]), strict=True):
                assert kept is not None
                kept.keep(part, chosen)
        # Of a part of the batch: the mean over a source is over all of its samples in the batch.
        shares = [len(chosen) * batch_size / (count * len(losses)) for _, count, _, chosen, _, _ in here]
        weighted = zip(here, shares, losses.split([len(one[3]) for one in here]), strict=True)
        return torch.stack([one[2] * share * part.mean() for one, share, part in weighted]).sum()

    stored = [source.stored for source, _, _ in parts]
    heads = model.need_heads(needed_by="frozen_trunk").parameters() if frozen_trunk else None
    return train(
        model,
        Batches(
            batch_size,
            lambda: [run() for run in runs],
            partial(read_windows, stored),
            portable=all(isinstance(part, Stored) and part.portable for part in stored),
        ),
        batch_loss,
        loop,
        what="world model",
        generator=generator,
        seed=seed,
        parameters=None if heads is None else [parameter for parameter in heads if parameter.requires_grad],
        checkpoints=checkpoints,
        own={f"imagined_{number}": kept for number, kept in enumerate(imagined) if kept is not None},
        progress=progress,
    )


def _check_keys(
    model: WorldModel, reward_weight: float, state_weight: float, *, frozen_trunk: bool, unroll: int
) -> None:
    if frozen_trunk and not (reward_weight or state_weight):
        raise VlawError(
            "frozen_trunk trains nothing but the heads, and their losses have no weight",
            where="training of the world model",
            remedy="Set world_model.reward_weight or state_weight above 0.",
        )
    if reward_weight or state_weight:
        model.need_heads(needed_by="world_model.reward_weight or state_weight above 0")
    if unroll and model.frames_per_latent > 1:
        raise VlawError(
            f"unroll = {unroll}, but {model.frames_per_latent} frames of a {type(model).__name__} share a latent",
            where="training of the world model",
            remedy="Set world_model.unroll = 0.",
        )


def world_model_loop(
    steps: int, learning_rate: float, *, ema: float = 0.999, micro_batch: int = 0, recompute: bool = False
) -> LoopConfig:
    """How world models are optimised; bfloat16 is the model's own choice (edm.py)."""
    return LoopConfig(
        steps=steps,
        learning_rate=learning_rate,
        ema=ema,
        betas=(0.9, 0.99),
        weight_decay=1e-3,
        bfloat16=False,
        micro_batch=micro_batch,
        recompute=recompute,
    )


def check_fit(model: WorldModel, autoencoder: Autoencoder, episodes: Iterable[Episode], *, where: str) -> None:
    """Raises VlawError unless cameras, picture size and pose of the episodes, and how many frames share a latent, are
    those of the world model."""
    check_autoencoder(model, autoencoder, where=where)
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


def read_windows(stored: Sequence[np.ndarray | Stored], chosen: Sequence[Windows]) -> list[tuple[Windows, np.ndarray]]:
    """Each source's windows with their frames; of a source without any, none."""
    return [
        (part, source[part.frames] if len(part) else np.empty(0)) for source, part in zip(stored, chosen, strict=True)
    ]


def _sampled(model: WorldModel, condition: Condition, generator: torch.Generator) -> torch.Tensor:
    """The chunk (B, H, C, h, w) that one step of sampling gives, whatever the mode that the model is in."""
    training = model.training
    made = edm.sample(model.eval(), condition, steps=1, generator=generator)
    model.train(training)
    return made


def _concatenate(conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]

    def join(values: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        given = [value for value in values if value is not None]
        return torch.cat(given) if given else None

    return Condition(
        torch.cat([c.context for c in conditions]),
        torch.cat([c.poses for c in conditions]),
        join([c.text for c in conditions]),
        join([c.drop for c in conditions]),
        join([c.words for c in conditions]),
    )
