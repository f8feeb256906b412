"""Training a policy: pretraining of the base policy and the updates of Algorithm 1 (weighted flow matching, Eq. 4).

Here: losses over mixtures of steps, and `finetune_policy` with all its updates. Not here: which episodes there are and
what they weigh (scoring and the training set decide), sampling of steps (policies/data.py), the loss of a batch
(policies/base.py), the optimiser (optimise.py), the choice of a stopping point (stopping.py), DSRL (dsrl.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlaw_models.config import DsrlConfig, PolicyConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.optimise import WARMUP_STEPS, Progress, optimise
from vlaw_models.learners.stopping import Evaluate, Stops
from vlaw_models.policies.base import FlowMatchingPolicy, load_policy
from vlaw_models.policies.data import MixedData, SeenData, StepData, check_fits

CONDITION_DROPOUT = 0.3
"""Share of the samples of a conditioned policy that are not told their advantage (RECAP)."""


@dataclass(frozen=True)
class Lessons:
    """What an update is told about the episodes it learns from, one entry per episode."""

    real_weights: Sequence[float] | None = None
    """w(o, a) of Eq. 4 ('awr'); None: all 1."""
    imagined_weights: Sequence[float] | None = None
    real_positive: Sequence[bool] | None = None
    """The advantage's sign ('recap'); None: all positive."""
    imagined_positive: Sequence[bool] | None = None


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
    stops: Stops | None = None,
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
            torch.from_numpy(batch.images),
            torch.from_numpy(batch.states),
            torch.stack([tokens[text] for text in batch.instructions]),
            torch.from_numpy(batch.actions),
            torch.from_numpy(batch.weights),
            generator,
            torch.from_numpy(batch.points),
            _told(policy, torch.from_numpy(batch.positive), generator),
        )

    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return optimise(
        policy,
        parameters,
        step_loss,
        steps=steps,
        lr=lr,
        ema=ema,
        warmup=warmup,
        weight_decay=weight_decay,
        autocast=autocast,
        stops=stops,
        progress=progress,
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
    stops: Stops | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Like `train_policy` with the encoder of the pictures frozen: each picture is looked at once, before training.

    `shares`: of every batch, per source. Raises VlawError for a policy that cannot be trained so.
    """
    if not policy.can_freeze:
        raise VlawError(
            f"a {type(policy).__name__} cannot be trained with a frozen encoder",
            where="policy training",
            remedy="Set policy.frozen_encoder = false in the recipe.",
        )
    policy.eval()
    seen = [SeenData(policy, source) for source in sources]
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    counts = np.diff(np.round(np.cumsum([0.0, *shares]) * batch_size).astype(int))

    def step_loss() -> torch.Tensor:
        parts = [source.draw(rng, int(count)) for source, count in zip(seen, counts, strict=True) if count > 0]
        features, states, actions, weights, positive = (torch.cat(column) for column in zip(*parts, strict=True))
        context = policy.encode_seen(features, policy.normalization.state(states))
        told = _told(policy, positive, generator)
        if told is not None:
            context = policy.condition(context, told)
        return policy.flow_error(context, states, actions, weights, generator)

    return optimise(
        policy,
        policy.head_parameters(),
        step_loss,
        steps=steps,
        lr=lr,
        ema=ema,
        warmup=warmup,
        weight_decay=weight_decay,
        autocast=torch.bfloat16,
        stops=stops,
        progress=progress,
    )


def finetune_policy(
    start_dir: Path,
    real: list[Episode],
    imagined: list[Episode],
    cfg: PolicyConfig,
    out_dir: Path,
    *,
    seed: int,
    lessons: Lessons | None = None,
    dsrl: DsrlConfig | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Updates the policy in `start_dir` on real and imagined episodes, as `cfg.update` says, and writes it to
    `out_dir`.

    Every batch is drawn from them as `batch_shares` says; normalisation statistics and tokenizer are
    those of the start policy. `evaluate` measures a policy on validation starts: then the start policy and every one of
    `cfg.stops` is measured, and the best stop is what is written. 'dsrl' learns
    from the real episodes alone, with their outcomes.

    Returns {"losses", "seconds", "real_steps", "imagined_steps"}, and where it was measured "stop" (the one chosen) and
    "outcomes" (stop -> task -> [success per start]; stop 0 is the start policy). Raises VlawError where there is
    nothing to learn from, or stops without an `evaluate`; then nothing is written.
    """
    begun = time.monotonic()
    real = real if cfg.use_real else []
    if cfg.update == "dsrl":
        imagined = []
    if not (real or imagined):
        raise VlawError(
            "there is no successful episode to learn from",
            where="policy update",
            remedy="Collect more rollouts, imagine more episodes, or lower alpha of the score stage.",
        )
    if cfg.stops and evaluate is None:
        raise VlawError(
            "there are stopping points, and nothing to choose between them by",
            where="policy.stops",
            remedy="Set policy.validation_per_task to 1 or more, or policy.stops = [].",
        )
    settings = {"ema": cfg.ema, "seed": seed, "progress": progress}
    if cfg.update == "dsrl":
        from vlaw_models.learners.dsrl import train_noise_policy

        dsrl = dsrl or DsrlConfig()
        stops = Stops(cfg.stops, dsrl.steps)
        policy, losses = train_noise_policy(load_policy(start_dir), real, dsrl, stops=stops, **settings)
    else:
        stops = Stops(cfg.stops, cfg.steps)
        policy, losses = _imitate(load_policy(start_dir), real, imagined, cfg, lessons or Lessons(), stops, settings)
    log = {
        "losses": losses,
        "real_steps": sum(episode.num_steps for episode in real),
        "imagined_steps": sum(episode.num_steps for episode in imagined),
    }
    if evaluate is not None:
        before = evaluate(load_policy(start_dir))
        chosen, outcomes = stops.choose(policy, evaluate)
        log |= {"stop": chosen, "outcomes": {0: before, **outcomes}}
    policy.save(out_dir)
    return {**log, "seconds": time.monotonic() - begun}


def batch_shares(
    real: Mapping[str, int], imagined: Mapping[str, int], imagined_fraction: float
) -> dict[tuple[str, int], float]:
    """(task, 0 real or 1 imagined) -> its share of every batch, from the episodes of each kind per task; they add up to
    1.

    Every task has the same share, and within a task `imagined_fraction` is imagined, at most: no imagined episode is
    drawn more often than a real one. A handful of imagined successes of one task, some of them wrong, would otherwise
    fill three quarters of all batches, and the other tasks would be forgotten.
    """
    tasks = sorted({*real, *imagined})
    shares = {}
    for task in tasks:
        counts = real.get(task, 0), imagined.get(task, 0)
        fraction = min(imagined_fraction, counts[1] / sum(counts)) if all(counts) else float(counts[1] > 0)
        shares |= {
            (task, kind): part / len(tasks) for kind, part in enumerate((1 - fraction, fraction)) if counts[kind]
        }
    return shares


def _imitate(
    policy: FlowMatchingPolicy,
    real: list[Episode],
    imagined: list[Episode],
    cfg: PolicyConfig,
    lessons: Lessons,
    stops: Stops,
    settings: dict[str, Any],
) -> tuple[FlowMatchingPolicy, list[float]]:
    """The updates by flow matching: 'filtered', 'awr' and 'recap'."""
    if not isinstance(policy, FlowMatchingPolicy):
        raise VlawError(
            f"a {type(policy).__name__} cannot be updated by {cfg.update!r}",
            where="policy update",
            remedy='Set policy.start = "base", or policy.update = "dsrl".',
        )
    if cfg.update == "recap":
        policy.condition_on_advantage()
    sources, shares = _sources(real, imagined, lessons, cfg.imagined_fraction)
    for source in sources:
        check_fits(policy, source)
    settings = {**settings, "steps": stops.last, "batch_size": cfg.batch_size, "lr": cfg.learning_rate, "stops": stops}
    if cfg.frozen_encoder:
        return policy, train_head(policy, sources, shares, **settings)
    return policy, train_policy(policy, MixedData(sources, shares), **settings)


def _sources(
    real: list[Episode], imagined: list[Episode], lessons: Lessons, imagined_fraction: float
) -> tuple[list[StepData], list[float]]:
    """The episodes of every task, real and imagined apart, and their shares of a batch."""
    columns = (
        (real, lessons.real_weights, lessons.real_positive),
        (imagined, lessons.imagined_weights, lessons.imagined_positive),
    )
    counts = [Counter(episode.task for episode in episodes) for episodes, _, _ in columns]
    sources, shares = [], batch_shares(*counts, imagined_fraction)
    for task, kind in shares:
        here = [episode.task == task for episode in columns[kind][0]]
        episodes, weights, positive = (
            None if column is None else list(compress(column, here)) for column in columns[kind]
        )
        sources.append(StepData.from_episodes(episodes, weights=weights, positive=positive))
    return sources, list(shares.values())


def _told(policy: FlowMatchingPolicy, positive: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    """What a conditioned policy is told of each sample's advantage, see `FlowMatchingPolicy.condition`."""
    if not policy.conditioned:
        return None
    return positive.long().masked_fill(torch.rand(len(positive), generator=generator) < CONDITION_DROPOUT, -1)
