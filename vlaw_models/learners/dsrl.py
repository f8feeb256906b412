"""DSRL: reinforcement learning in the noise space of a frozen flow policy (arXiv 2506.15799, its DSRL-NA variant).

`Dsrl` learns from real rollouts with their outcomes; `ImaginedDsrl` from imagined ones too, whose outcome is the
judge's: what the noise does is tried in the world model, and costs no robot time. A transition is `execute_steps`
control steps long; the reward is the success at an episode's end, and goes to every chunk after which no whole chunk is
left. The networks and their losses are NoisePolicy's (policies/noise_policy.py).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError
from vlaw_models.learners.base import IMAGINED, NOTHING, Candidate, Examples, Learner, Member, Misfit
from vlaw_models.progress import Progress
from vlaw_models.ranges import AboveZero, Count, Positive

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlaw_models.config import PolicyConfig
    from vlaw_models.episodes import Episode
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.policies.base import Policy
    from vlaw_models.policies.flow_matching import FlowMatchingPolicy
    from vlaw_models.policies.noise_policy import NoisePolicy, TransitionBatch

TARGET_RATE = 0.02
"""How fast the critics that make the targets follow."""
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Dsrl(Learner):
    """The policy's weights stay; a small network learns which initial noise succeeds."""

    steps: Count = 2000
    batch_size: Positive = 128
    learning_rate: AboveZero = 3e-4
    noise_bound: AboveZero = 1.5
    """The mean of the noise that the noise policy chooses lies in [-bound, bound] per number of the chunk."""

    imagined = False
    one_by_one = True

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        del alpha
        return [Member.of(candidate) for candidate in candidates], {}

    def updates(self, settings: PolicyConfig) -> int:
        del settings
        return self.steps

    def fits(self, policy_class: type, settings: PolicyConfig) -> Misfit | None:
        from vlaw_models.policies.flow_matching import FlowMatchingPolicy
        from vlaw_models.policies.noise_policy import NoisePolicy

        if not settings.use_real:
            return Misfit(
                "policy.use_real",
                "= false does not fit the learner: it learns from real rollouts",
                "Set policy.use_real = true, or choose another learner.",
            )
        flow = issubclass(policy_class, FlowMatchingPolicy) and policy_class.can_steer
        if not (flow or issubclass(policy_class, NoisePolicy)):
            return Misfit(
                "policy.learner",
                f"does not fit {policy_class.__name__}, which has no initial noise to choose or no features to "
                "choose it by",
                "Choose another learner, or another base policy.",
            )
        return None

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
        """A NoisePolicy learns on, from its own networks; any other policy is wrapped, and not changed by a bit."""
        del rehearsed
        import numpy as np
        import torch

        from vlaw_models.device import seeded
        from vlaw_models.learners.batches import Batches
        from vlaw_models.learners.loop import LoopConfig, train
        from vlaw_models.policies.flow_matching import FlowMatchingPolicy
        from vlaw_models.policies.noise_policy import NoisePolicy

        if isinstance(policy, NoisePolicy):
            noise_policy = policy
            noise_policy.noise_bound = self.noise_bound
        else:
            assert isinstance(policy, FlowMatchingPolicy), "`fits` says so before"
            with seeded(seed):
                noise_policy = NoisePolicy(policy.eval(), noise_bound=self.noise_bound).to(policy.device)
        judged = zip(imagined.episodes, imagined.positive, strict=True)
        episodes = [*real.episodes, *(dataclasses.replace(episode, success=good) for episode, good in judged)]
        data = Transitions.of(noise_policy.base, episodes)
        targets = copy.deepcopy(noise_policy.critics)
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

        def draw() -> list[np.ndarray]:
            return [rng.integers(len(data.begin), size=self.batch_size)]

        def batch_loss(noise_policy: NoisePolicy, batch: TransitionBatch) -> torch.Tensor:
            follow(targets, noise_policy)
            return noise_policy.loss(batch, targets, generator)

        loop = LoopConfig(
            steps=stops.last,
            learning_rate=self.learning_rate,
            ema=settings.ema,
            weight_decay=WEIGHT_DECAY,
            bfloat16=False,
        )
        trained = noise_policy.trainable()
        losses = train(
            noise_policy,
            Batches(self.batch_size, draw, data.at),
            batch_loss,
            loop,
            what="noise policy",
            generator=generator,
            seed=seed,
            parameters=trained,
            stops=stops,
            own={"targets": targets},
            progress=progress,
        )
        return noise_policy, losses


@dataclass(frozen=True)
class ImaginedDsrl(Dsrl):
    """DSRL inside the world model: an imagined episode is a success where P(yes) > alpha."""

    imagined = True
    reads_alpha = True

    def members(self, candidates: Sequence[Candidate], *, alpha: float) -> tuple[list[Member], dict[str, Any]]:
        return [Member.of(c, positive=c.source != IMAGINED or c.score > alpha) for c in candidates], {}


@dataclass(frozen=True)
class Transitions:
    """N transitions on the policy's device; `features` has S >= N rows, one per control step."""

    features: torch.Tensor
    """(S, C): the frozen policy's context of every control step."""
    begin: torch.Tensor
    """(N,) row of `features` in which the chunk begins."""
    chunks: torch.Tensor
    """(N, execute_steps, A) normalised actions as executed."""
    following: torch.Tensor
    """(N,) row of `features` in which the next chunk begins; where `ended`, of no meaning."""
    ended: torch.Tensor
    """(N,) bool: no whole chunk follows."""
    reward: torch.Tensor
    """(N,) 1 where the episode ended here and succeeded."""

    @classmethod
    def of(cls, base: FlowMatchingPolicy, episodes: Sequence[Episode]) -> Transitions:
        """Chunks from every control step on that are executed whole. Raises VlawError where there is none, or an
        episode without an outcome."""
        import torch

        from vlaw_models.policies.data import FeatureData, StepData, check_fits

        if any(episode.success is None for episode in episodes):
            raise VlawError(
                "an episode has no outcome",
                where="learner 'dsrl'",
                remedy="Give real rollouts: the world knows their outcomes.",
            )
        count, rows, first = base.execute_steps, [], 0
        for episode in episodes:
            length = episode.num_steps
            # Ended where the next chunk is not whole: its value would be asked for and never be learned.
            rows += [(first + t, t + 2 * count > length, bool(episode.success)) for t in range(length - count + 1)]
            first += length
        if not rows:
            raise VlawError(
                f"no episode has the {count} steps of a chunk",
                where="learner 'dsrl'",
                remedy="Raise [rollouts] num_steps.",
            )
        data = StepData.from_episodes(episodes)
        check_fits(base, data)
        with torch.no_grad():
            encoded = FeatureData(base, data)
            states, actions = encoded.states.to(base.device), encoded.actions.to(base.device)
            context = base.encode_features(encoded.features.to(base.device).float(), base.normalization.state(states))
            features = base.condition(context, torch.ones(len(encoded), dtype=torch.int64, device=base.device)).features
            begin, ended, success = (torch.tensor(column, device=base.device) for column in zip(*rows, strict=True))
            chunks = base.normalization.actions(actions, states)[begin, : count * base.normalization.per_step]
        following = (begin + count).clamp(max=len(encoded) - 1)
        return cls(features.contiguous(), begin, chunks, following, ended, (ended & success).float())

    def at(self, groups: list[np.ndarray]) -> TransitionBatch:
        """The transitions with these numbers."""
        import torch

        from vlaw_models.policies.noise_policy import TransitionBatch

        rows = torch.from_numpy(groups[0]).to(self.begin.device)
        return TransitionBatch(
            self.features[self.begin[rows]],
            self.features[self.following[rows]],
            self.chunks[rows],
            self.ended[rows],
            self.reward[rows],
        )


def follow(targets: torch.nn.ModuleList, policy: NoisePolicy) -> None:
    """Moves the critics that make the targets a little towards the policy's own."""
    import torch

    with torch.no_grad():
        for slow, now in zip(targets.parameters(), policy.critics.parameters(), strict=True):
            slow.lerp_(now, TARGET_RATE)
