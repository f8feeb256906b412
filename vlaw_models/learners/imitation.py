"""Imitation: the weighted error of chunks (Eq. 4), on successes alone ('filtered', VLAW's own) or on all episodes
('awr')."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vlaw_models.learners.advantages import advantages_of, awr_weights
from vlaw_models.learners.base import IMAGINED, NOTHING, REAL, Candidate, Examples, Learner, Member, Misfit
from vlaw_models.progress import Progress
from vlaw_models.ranges import AboveZero

if TYPE_CHECKING:
    from vlaw_models.config import PolicyConfig
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.policies.base import Policy


@dataclass(frozen=True)
class Imitation(Learner):
    """A learner that imitates its members; subclasses choose and weigh them."""

    policy_keys: ClassVar[tuple[str, ...]] = (
        "steps",
        "batch_size",
        "learning_rate",
        "imagined_fraction",
        "rehearsal",
        "rehearse",
        "use_real",
        "frozen_encoder",
        "lora_rank",
        "micro_batch",
        "recompute",
    )

    def fits(self, policy_class: type[Any], settings: PolicyConfig) -> Misfit | None:
        from vlaw_models.learners.flow_matching import misfit

        return misfit(policy_class, settings)

    def fit(
        self,
        policy: Policy,
        real: Examples,
        imagined: Examples,
        settings: PolicyConfig,
        *,
        rehearsed: Examples = NOTHING,
        stops: Stops,
        seed: int,
        progress: Progress | None = None,
    ) -> tuple[Policy, list[float]]:
        from vlaw_models.learners.flow_matching import update
        from vlaw_models.policies.base import TrainedPolicy

        assert isinstance(policy, TrainedPolicy), "`fits` says so before"
        options: dict[str, Any] = {"rehearsed": rehearsed, "stops": stops, "seed": seed, "progress": progress}
        return policy, update(policy, real, imagined, settings, **options)


@dataclass(frozen=True)
class Filtered(Imitation):
    """Real successes, and imagined episodes with P(yes) > alpha, all of weight 1."""

    real = "successes"
    reads_alpha = True
    one_by_one = True

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        return [
            Member.of(candidate)
            for candidate in candidates
            if candidate.score > (alpha if candidate.source == IMAGINED else 0.5)
        ], {}


@dataclass(frozen=True)
class AdvantageWeighted(Imitation):
    """Every episode, with weight exp(A / beta) of mean 1 over the real and over the imagined ones (Eqs. 7, 11)."""

    beta: AboveZero = 0.25
    """Temperature."""

    member_keys = ("beta",)

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        del alpha
        value, advantage = advantages_of(candidates, [candidate.score for candidate in candidates])
        weights = np.ones(len(candidates))
        for source in (REAL, IMAGINED):
            rows = [row for row, candidate in enumerate(candidates) if candidate.source == source]
            weights[rows] = awr_weights(advantage[rows], self.beta)
        members = zip(candidates, weights, strict=True)
        return [Member.of(candidate, weight=float(weight)) for candidate, weight in members], {"value": value}
