"""GRPO as a learner of the loop (World-VLA-Loop, arXiv 2602.06508): RL steps, each of which tries the policy in groups
from the same starts and updates it by what came of them (grpo.py).

The learner reads no episode that was there before: `fit` is given a `Practice` (rollouts/practice.py), which makes
them. In `Grpo` that is the world model; in `GrpoOnRobot` the robot, at the price of real rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, doc

from vlaw_models.config import Threshold
from vlaw_models.learners.base import NOTHING, Candidate, Examples, Learner, Member, Misfit
from vlaw_models.progress import Progress
from vlaw_models.ranges import AboveZero, Count, Positive, Scale, Share

if TYPE_CHECKING:
    from vlaw_models.config import PolicyConfig
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.policies.base import Policy
    from vlaw_models.rollouts.practice import Practice

GroupSize = Annotated[int, Ge(2), doc("Use 2 or more, 8 in the paper: rollouts of a group are compared with another.")]


@dataclass(frozen=True)
class Grpo(Learner):
    """The policy improves by what it tries in the world model, from first frames of real episodes."""

    steps: Count = 50
    """RL steps; [policy] stops are numbers of them. Paper: about 50."""
    groups: Positive = 10
    """Groups per RL step, each of one start; tasks take turns. Paper: 64."""
    group_size: GroupSize = 8
    """Rollouts from the same start."""
    temperature: Scale = 0.5
    """How much chance there is in a rollout: of a flow policy the flow-SDE's noise level, of action tokens their
    temperature (paper: 1.6). At 0 a flow policy acts as in evaluation, and its flow-matching error stands for the
    likelihood."""
    reward: Literal["head", "judge"] = "head"
    """What tells a success in the world model: its own reward head, above `threshold` at any frame; or the reward
    model, above score.alpha. On the robot the world tells."""
    threshold: Threshold = 0.9
    graded: bool = False
    """Whether a rollout's reward is its score, from 0 to 1, and not whether it is a success: a threshold teaches
    nothing of a group whose scores are all on one side of it."""
    clip_low: Share = 0.2
    clip_high: AboveZero = 0.28
    least_success: Share = 0.1
    """Groups with less success than this, or more than `most_success`, are not learned from."""
    most_success: Share = 0.9
    normalized: bool = True
    """Whether advantages are divided by their group's spread. Scores that hardly differ are mostly noise, and that
    makes as much of them as of success beside failure."""
    negative: Share = 1.0
    """Weight of what was worse than its group's mean. At temperature 0 little: an error can grow without end."""
    learning_rate: AboveZero = 5e-6
    minibatch: Positive = 128
    """Chunks per update of the weights."""
    epochs: Positive = 1

    imagined = False
    practises: ClassVar[Literal["", "world_model", "robot"]] = "world_model"
    one_by_one = True
    policy_keys = ("frozen_encoder",)

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        """Every real rollout at weight 0: none is learned from, what they begin with is practised on."""
        del alpha
        return [Member.of(candidate, weight=0.0) for candidate in candidates], {}

    def updates(self, settings: PolicyConfig) -> int:
        del settings
        return self.steps

    def fits(self, policy_class: type, settings: PolicyConfig) -> Misfit | None:
        from vlaw_models.learners.grpo import misfit

        return misfit(policy_class, settings, self.temperature)

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
        practice: Practice | None = None,
    ) -> tuple[Policy, list[float]]:
        """One loss per update of the weights; none where no group of any RL step had signal: then the policy is as it
        was. `progress` is the practice's own."""
        del real, imagined, rehearsed, progress
        import numpy as np

        from vlaw_models.learners import grpo
        from vlaw_models.policies.likelihood import LikelihoodPolicy

        assert isinstance(policy, LikelihoodPolicy), "`fits` says so before"
        assert practice is not None, "`practises` asks for it"
        own = grpo.GrpoSettings(
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            least_success=self.least_success,
            most_success=self.most_success,
            normalized=self.normalized,
            negative=self.negative,
            learning_rate=self.learning_rate,
            minibatch=self.minibatch,
            epochs=self.epochs,
        )
        optimizer = grpo.optimizer(policy, own, frozen_encoder=settings.frozen_encoder)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        rng, losses = np.random.default_rng(seed), []
        for step in range(stops.last):
            tried = practice.groups(
                policy, step, groups=self.groups, size=self.group_size, temperature=self.temperature
            )
            if tried is not None:
                chunks, rewards = tried
                judged = chunks.judged(rewards, own)
                if settings.frozen_encoder and len(judged):
                    judged = judged.encoded(policy)
                done = grpo.update(policy, optimizer, judged, own, temperature=self.temperature, rng=rng)
                losses += done.losses
                practice.learned(step, rewards, int(grpo.has_signal(rewards, own).sum()), done)
            stops.keep(step + 1, trained, [parameter.detach() for parameter in trained])
        return policy, losses


@dataclass(frozen=True)
class GrpoOnRobot(Grpo):
    """The same with the robot in the world model's place: what is tried costs real rollouts, and the world judges."""

    practises = "robot"
