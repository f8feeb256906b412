"""DSRL: reinforcement learning in the noise space of a frozen flow policy (arXiv 2506.15799, its DSRL-NA variant).

Logged episodes do not say which noise was drawn, so the critic that learns from them judges chunks of actions, Q(s, a);
a second one judges noise, Q(s, w), and is taught Q(s, pi(s, w)) by running the frozen flow; the noise policy maximises
that one. Here: transitions, losses, the training run. Not here: the networks (policies/noise_policy.py).

A transition is `execute_steps` control steps long; the reward is the success at an episode's end, and goes to every
chunk after which no whole chunk is left. Against the published method: returns are in [0, 1] and critics learn by cross
entropy, and the divergence from the frozen policy's own noise N(0, 1) replaces SAC's entropy: where the data say
nothing, the policy stays as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from vlaw_models.config import DsrlConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.optimise import Progress, optimise
from vlaw_models.learners.stopping import Stops
from vlaw_models.policies.base import FlowMatchingPolicy
from vlaw_models.policies.data import SeenData, StepData, check_fits
from vlaw_models.policies.noise_policy import NoisePolicy

DISCOUNT = 0.99
"""gamma, per chunk."""
STAY = 0.02
"""Weight of the divergence from N(0, 1), against a probability of success."""
TARGET_RATE = 0.02
"""How fast the critics that make the targets follow."""
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Transitions:
    """N transitions; `features` has S >= N rows, one per control step."""

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
    @torch.no_grad()
    def of(cls, base: FlowMatchingPolicy, episodes: Sequence[Episode]) -> Transitions:
        """Chunks from every control step on that are executed whole. Raises VlawError where there is none, or an
        episode that nobody judged."""
        if any(episode.success is None for episode in episodes):
            raise VlawError(
                "an episode has no outcome",
                where="policy update 'dsrl'",
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
                where="policy update 'dsrl'",
                remedy="Raise [rollouts] num_steps.",
            )
        data = StepData.from_episodes(episodes)
        check_fits(base, data)
        seen = SeenData(base, data)
        context = base.encode_seen(seen.seen.float(), base.normalization.state(seen.states))
        features = base.condition(context, torch.ones(len(seen), dtype=torch.int64)).features
        begin, ended, success = (torch.tensor(column) for column in zip(*rows, strict=True))
        chunks = base.normalization.actions(seen.actions, seen.states)[begin, :count]
        following = (begin + count).clamp(max=len(seen) - 1)
        return cls(features.contiguous(), begin, chunks, following, ended, (ended & success).float())


def train_noise_policy(
    policy: FlowMatchingPolicy | NoisePolicy,
    episodes: Sequence[Episode],
    cfg: DsrlConfig,
    *,
    stops: Stops,
    ema: float,
    seed: int,
    progress: Progress | None = None,
) -> tuple[NoisePolicy, list[float]]:
    """The policy with its noise learned from episodes with outcomes, `stops.last` updates, and the loss of every step.

    A NoisePolicy learns on, from its own networks; any other policy is wrapped. The frozen policy's weights do not
    change by a bit. Same arguments and thread count give the same weights.
    """
    if isinstance(policy, NoisePolicy):
        noise_policy = policy
        noise_policy.noise_bound = cfg.noise_bound
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            noise_policy = NoisePolicy(policy.eval(), noise_bound=cfg.noise_bound)
    data = Transitions.of(noise_policy.base, episodes)
    losses = optimise(
        noise_policy,
        noise_policy.trainable(),
        _Losses(noise_policy, data, cfg, seed),
        steps=stops.last,
        lr=cfg.learning_rate,
        ema=ema,
        weight_decay=WEIGHT_DECAY,
        stops=stops,
        progress=progress,
    )
    return noise_policy, losses


class _Losses:
    """The sum of the three losses on a batch of transitions; each is a function of its own networks' weights only."""

    def __init__(self, policy: NoisePolicy, data: Transitions, cfg: DsrlConfig, seed: int):
        self.policy, self.data, self.batch_size = policy, data, cfg.batch_size
        self.targets = copy.deepcopy(policy.critics)
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def __call__(self) -> torch.Tensor:
        policy, data = self.policy, self.data
        with torch.no_grad():
            pairs = zip(self.targets.parameters(), policy.critics.parameters(), strict=True)
            for slow, now in pairs:
                slow.lerp_(now, TARGET_RATE)
        rows = torch.from_numpy(self.rng.integers(len(data.begin), size=self.batch_size))
        here, there = data.features[data.begin[rows]], data.features[data.following[rows]]
        mean, log_std = policy.noise(here)
        chosen = mean + log_std.exp() * self._normal(mean)
        with torch.no_grad():
            next_mean, next_log_std = policy.noise(there)
            following = next_mean + next_log_std.exp() * self._normal(mean)
            # The noise critic must know the noise that the policy could turn to as well as the noise it has now.
            asked = torch.where(torch.arange(len(rows))[:, None, None] % 2 == 0, self._normal(mean), chosen)
            chunks = policy.base.denoise(
                policy.base.context_of(torch.cat([there, here])), torch.cat([following, asked])
            )
            next_chunk, chunk = chunks[:, : policy.execute_steps, : policy.action_dim].chunk(2)
            later = torch.stack([critic(there, next_chunk) for critic in self.targets]).sigmoid().amin(0)
            target = torch.where(data.ended[rows], data.reward[rows], DISCOUNT * later)
            taught = torch.stack([critic(here, chunk) for critic in policy.critics]).sigmoid().amin(0)
        loss = sum(
            binary_cross_entropy_with_logits(critic(here, data.chunks[rows]), target) for critic in policy.critics
        )
        loss = loss + binary_cross_entropy_with_logits(policy.noise_critic(here, asked), taught)
        return loss + self._actor(here, chosen, mean, log_std)

    def _actor(
        self, here: torch.Tensor, chosen: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
    ) -> torch.Tensor:
        """A loss with the gradient of STAY * KL(noise || N(0, 1)) - Q(s, w) with respect to the noise policy alone."""
        noise = chosen.detach().requires_grad_()
        quality = self.policy.noise_critic(here, noise).sigmoid()
        slope = torch.autograd.grad(quality.sum(), noise)[0]
        divergence = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(dim=(1, 2))
        return STAY * divergence.mean() - (slope * chosen).sum(dim=(1, 2)).mean()

    def _normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generator)
