"""RECAP: a policy conditioned on the sign of the advantage learns from every episode, and is sampled at 'positive'.

An imagined episode's return is 1 where P(yes) > alpha, else 0: with P(yes) itself an unlikely success would be called
good wherever the policy succeeds more rarely still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_models.learners.advantages import advantages_of, positive
from vlaw_models.learners.base import IMAGINED, NOTHING, Candidate, Examples, Member, Misfit
from vlaw_models.learners.imitation import Imitation
from vlaw_models.progress import Progress

if TYPE_CHECKING:
    from vlaw_models.config import PolicyConfig
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.policies.base import Policy


@dataclass(frozen=True)
class Recap(Imitation):
    """Flow matching on all episodes, of weight 1, each with the sign of its advantage as a condition."""

    reads_alpha = True

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        returns = [float(c.score > alpha) if c.source == IMAGINED else c.score for c in candidates]
        value, advantage = advantages_of(candidates, returns)
        signs = zip(candidates, positive(returns, advantage), strict=True)
        return [Member.of(candidate, positive=bool(good)) for candidate, good in signs], {"value": value}

    def fits(self, policy_class: type[Any], settings: PolicyConfig) -> Misfit | None:
        found = super().fits(policy_class, settings)
        if found is None and not policy_class.can_condition:
            return Misfit(
                "policy.learner",
                f"does not fit {policy_class.__name__}, which cannot be conditioned on the advantage",
                "Choose another learner, or another base policy.",
            )
        return found

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
        from vlaw_models.policies.base import TrainedPolicy

        assert isinstance(policy, TrainedPolicy), "`fits` says so before"
        policy.condition_on_advantage()
        options: dict[str, Any] = {"rehearsed": rehearsed, "stops": stops, "seed": seed, "progress": progress}
        return super().fit(policy, real, imagined, settings, **options)
