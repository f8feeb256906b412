"""Training a policy on chunks of actions, each with a weight (Eq. 4): pretraining, and the update that imitation and
RECAP share. The error is the policy's: flow matching, or the cross entropy of action tokens.

Pictures are encoded anew for every batch (`train_policy`), or once, by an encoder that stays as it is (`train_head`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from vlaw_models.config import PolicyConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import NOTHING, Examples, Misfit
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.loop import LoopConfig, train
from vlaw_models.learners.resume import Checkpoints
from vlaw_models.learners.stopping import Stops
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.data import Batch, FeatureData, MixedData, StepData, check_fits
from vlaw_models.progress import Progress

CONDITION_DROPOUT = 0.3
"""Share of the samples of a conditioned policy whose advantage is hidden (RECAP)."""


def misfit(policy_class: type, settings: PolicyConfig) -> Misfit | None:
    """Why policies of a class cannot be updated by imitation as the recipe says; None where they can."""
    name = policy_class.__name__
    if not issubclass(policy_class, TrainedPolicy):
        return Misfit(
            "policy.learner",
            f"does not fit {name}, which does not learn from actions",
            'Choose a learner that updates it ("dsrl" goes on with what it made), or start anew from a policy that '
            'does: policy.start = "base", where base_policy of foundation.toml [weights] is one.',
        )
    if settings.frozen_encoder and not policy_class.can_freeze:
        return Misfit(
            "policy.frozen_encoder",
            f"= true does not fit {name}, whose encoder is not apart from the rest",
            "Set policy.frozen_encoder = false.",
        )
    if settings.lora_rank and not policy_class.can_adapt:
        return Misfit(
            "policy.lora_rank",
            f"= {settings.lora_rank} does not fit {name}, which has no layers for LoRA",
            "Set policy.lora_rank = 0, which trains all weights.",
        )
    return None


def update(
    policy: TrainedPolicy,
    real: Examples,
    imagined: Examples,
    settings: PolicyConfig,
    *,
    rehearsed: Examples = NOTHING,
    stops: Stops,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """Trains the policy in place on examples in the shares of `batch_shares`; the loss of each of `stops.last` steps.

    Normalisation statistics and tokenizer stay as they are. Raises VlawError for an episode of another robot.
    """
    kinds = (real, imagined, rehearsed)
    counts = [Counter(episode.task for episode in examples.episodes) for examples in kinds]
    shares = batch_shares(*counts, imagined_fraction=settings.imagined_fraction, rehearsal=settings.rehearsal)
    sources = []
    for task, kind in shares:
        part = kinds[kind].of_task(task)
        sources.append(StepData.from_episodes(part.episodes, weights=part.weights, positive=part.positive))
        check_fits(policy, sources[-1])
    loop = LoopConfig(
        steps=stops.last,
        learning_rate=settings.learning_rate,
        ema=settings.ema,
        micro_batch=settings.micro_batch,
        recompute=settings.recompute,
    )
    options: dict[str, Any] = {"batch_size": settings.batch_size, "seed": seed, "stops": stops, "progress": progress}
    if settings.lora_rank:
        policy.adapt(settings.lora_rank, seed=seed)
    if settings.frozen_encoder:
        # Pictures are encoded once and for all, so that a second pair (eps, t) would cost as much as another sample.
        return train_head(policy, sources, list(shares.values()), loop, flow_samples=1, **options)
    return train_policy(policy, MixedData(sources, list(shares.values())), loop, **options)


def train_policy(
    policy: TrainedPolicy,
    data: StepData | MixedData | Sequence[Episode],
    loop: LoopConfig,
    *,
    batch_size: int,
    seed: int,
    weights: Sequence[float] | None = None,
    stops: Stops | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Trains in place and leaves the averaged (EMA) weights in the policy; returns the loss of every step.

    `weights`: w per episode, only where `data` is a list of episodes. `checkpoints`: where an interrupted training is
    gone on with (resume.py). Same policy, data, arguments and thread count give the same weights. Raises VlawError
    where the loss is no longer a finite number.
    """
    if not isinstance(data, (StepData, MixedData)):
        data = StepData.from_episodes(data, weights=weights)
    source = data if isinstance(data, MixedData) else MixedData([data], [1.0])
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def draw() -> list[np.ndarray]:
        return source.choose(rng, batch_size)

    def batch_loss(policy: TrainedPolicy, batch: Batch) -> torch.Tensor:
        return policy.loss(
            torch.from_numpy(batch.images),
            torch.from_numpy(batch.states),
            batch.instructions,
            torch.from_numpy(batch.actions),
            torch.from_numpy(batch.weights),
            generator,
            torch.from_numpy(batch.points),
            _shown_advantage(policy, torch.from_numpy(batch.positive), generator),
        )

    take = partial(source.at, chunk_size=policy.chunk_size)
    options: dict[str, Any] = {"stops": stops, "checkpoints": checkpoints, "progress": progress}
    batches = Batches(batch_size, draw, take, portable=source.portable)
    return train(policy, batches, batch_loss, loop, what="policy", generator=generator, seed=seed, **options)


def train_head(
    policy: TrainedPolicy,
    sources: Sequence[StepData],
    shares: Sequence[float],
    loop: LoopConfig,
    *,
    batch_size: int,
    seed: int,
    flow_samples: int | None = None,
    stops: Stops | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Like `train_policy` with the encoder of the pictures frozen: each picture is looked at once, before training.

    `shares`: of every batch, per source. `flow_samples`: instead of the policy's own. Raises VlawError for a policy
    that cannot be trained so.
    """
    if not policy.can_freeze:
        raise VlawError(
            f"a {type(policy).__name__} cannot be trained with a frozen encoder",
            where="policy training",
            remedy="Set policy.frozen_encoder = false in the recipe.",
        )
    policy.eval()
    frozen = [FeatureData(policy, source) for source in sources]
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    counts = np.diff(np.round(np.cumsum([0.0, *shares]) * batch_size).astype(int))

    def draw() -> list[np.ndarray]:
        return [source.choose(rng, int(count)) for source, count in zip(frozen, counts, strict=True)]

    def take(chosen: list[np.ndarray]) -> list[torch.Tensor]:
        parts = [source.at(steps) for source, steps in zip(frozen, chosen, strict=True) if len(steps)]
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def batch_loss(policy: TrainedPolicy, batch: list[torch.Tensor]) -> torch.Tensor:
        columns = (column.to(policy.device) for column in batch)
        features, states, actions, weights, positive = columns
        context = policy.encode_features(features, policy.normalization.state(states))
        advantage = _shown_advantage(policy, positive, generator)
        if advantage is not None:
            context = policy.condition(context, advantage)
        return policy.chunk_error(context, states, actions, weights, generator, samples=flow_samples)

    options: dict[str, Any] = {"generator": generator, "seed": seed, "stops": stops, "progress": progress}
    options["parameters"] = policy.head_parameters()
    return train(policy, Batches(batch_size, draw, take), batch_loss, loop, what="policy", **options)


def batch_shares(
    real: Mapping[str, int],
    imagined: Mapping[str, int],
    rehearsed: Mapping[str, int],
    *,
    imagined_fraction: float,
    rehearsal: float,
) -> dict[tuple[str, int], float]:
    """(task, 0 real, 1 imagined or 2 rehearsed) -> its share of every batch, from the episodes of each kind per task;
    they add up to 1.

    Every task has the same share. Within a task `rehearsal` is rehearsed, all where nothing is new: a task without a
    success would otherwise be forgotten. Of the rest `imagined_fraction` is imagined, at most: no imagined episode is
    drawn more often than a real one. A handful of imagined successes of one task, some of them wrong, would otherwise
    fill three quarters of all batches, and the other tasks would be forgotten.
    """
    tasks = sorted({*real, *imagined, *rehearsed})
    shares: dict[tuple[str, int], float] = {}
    for task in tasks:
        counts = real.get(task, 0), imagined.get(task, 0), rehearsed.get(task, 0)
        new = counts[0] + counts[1]
        again = (rehearsal if new else 1.0) if counts[2] else 0.0
        fraction = min(imagined_fraction, counts[1] / new) if counts[0] and counts[1] else float(counts[1] > 0)
        parts = (1 - again) * (1 - fraction), (1 - again) * fraction, again
        shares |= {(task, kind): part / len(tasks) for kind, part in enumerate(parts) if counts[kind]}
    return shares


def _shown_advantage(policy: TrainedPolicy, positive: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    """What a conditioned policy is told of each sample's advantage, see `TrainedPolicy.condition`."""
    if not policy.conditioned:
        return None
    hidden = torch.rand(len(positive), generator=generator).to(positive.device) < CONDITION_DROPOUT
    return positive.long().masked_fill(hidden, -1)
