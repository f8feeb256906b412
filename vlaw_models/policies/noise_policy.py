"""NoisePolicy: a frozen flow policy whose initial noise is chosen by a small network (DSRL, arXiv 2506.15799).

The networks (noise policy, critics of chunks and of noise), their losses, sampling, the checkpoint; which transitions
they learn from is up to learners/dsrl.py. The noise is N(mean(s), std(s)) instead of N(0, 1), with the mean in
[-bound, bound] per number; an untrained one is N(0, 1), so the policy begins as exactly the one it wraps. `noise_scale`
multiplies the standard deviation, as it does for the wrapped policy: at 0 the chunk is a function of the observation.

Logged episodes do not say which noise was drawn, so the critic that learns from them values chunks of actions, Q(s, a);
a second one values noise, Q(s, w), and is taught Q(s, pi(s, w)) by running the frozen flow; the noise policy maximises
that one. Against the published method: returns are in [0, 1] and critics learn by cross entropy, and the divergence
from the frozen policy's own noise N(0, 1) replaces SAC's entropy: where the data say nothing, the policy stays as it
was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vlaw_models.checkpoint import (
    class_of,
    describing,
    load_config,
    load_tensors,
    load_weights,
    read_tokenizer,
    save_checkpoint,
)
from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import Generators
from vlaw_models.policies.flow_matching import FlowMatchingPolicy
from vlaw_models.policies.registry import POLICIES

LOG_STD = (-4.0, 1.0)
"""Range of the logarithm of the noise's standard deviation; 0 is the frozen policy's own."""
DISCOUNT = 0.99
"""gamma, per chunk."""
STAY = 0.02
"""Weight of the divergence from N(0, 1), against a probability of success."""
_BASE = "base."


class TransitionBatch(NamedTuple):
    """B transitions from one chunk to the next."""

    here: torch.Tensor
    """(B, C): the frozen policy's features where the chunk begins."""
    there: torch.Tensor
    """(B, C): where the next one does; where `ended`, of no meaning."""
    chunks: torch.Tensor
    """(B, execute_steps, A) normalised actions as executed."""
    ended: torch.Tensor
    """(B,) bool: no whole chunk follows."""
    reward: torch.Tensor
    """(B,) 1 where the episode ended here and succeeded."""


class Critic(nn.Module):
    """Logit of Q(s, x) for features (B, C) and numbers x (B, N): a chunk of normalised actions, or its noise.

    A return lies in [0, 1] (one reward, at the end), and so does the sigmoid of the logit: no estimate can run away.
    """

    def __init__(self, features: int, size: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.net = nn.Sequential(
            nn.Linear(features + size, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, 1),
        )

    def forward(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([self.norm(features), x.flatten(1)], dim=1))[:, 0]


class NoisePolicy(nn.Module):
    """A Policy: `base` frozen, and what chooses its noise."""

    def __init__(self, base: FlowMatchingPolicy, *, noise_bound: float, width: int = 256, critics: int = 2):
        """Raises VlawError for a policy whose pictures cannot be looked at once and for all (`can_steer`)."""
        super().__init__()
        if not base.can_steer:
            raise VlawError(
                f"the noise of a {type(base).__name__} cannot be learned",
                where=type(self).__name__,
                remedy="Choose another learner, or another base policy.",
            )
        self.base = base.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        self.noise_bound, self._sizes = noise_bound, {"width": width, "critics": critics}
        self.chunk_size, self.action_dim, self.execute_steps = base.chunk_size, base.action_dim, base.execute_steps
        self.normalization, self.tokenizer, self.image_size = base.normalization, base.tokenizer, base.image_size
        self.space, rows = base.space, base.normalization.rows[0]
        features, noise = base.context_size, rows * base.noise_dim
        self.actor = nn.Sequential(
            nn.LayerNorm(features, elementwise_affine=False),
            nn.Linear(features, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2 * noise),
        )
        nn.init.zeros_(self.actor[-1].weight)
        nn.init.zeros_(self.actor[-1].bias)
        self.critics = nn.ModuleList(
            Critic(features, self.execute_steps * self.action_dim, width) for _ in range(critics)
        )
        self.noise_critic = Critic(features, noise, width)

    def trainable(self) -> list[nn.Parameter]:
        """Everything but the frozen policy."""
        return [*self.actor.parameters(), *self.critics.parameters(), *self.noise_critic.parameters()]

    def noise(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the standard deviation of the initial noise, (B, R, noise_dim) each."""
        shape = (2, self.normalization.rows[0], self.base.noise_dim)
        mean, log_std = self.actor(features).unflatten(1, shape).unbind(1)
        return self.noise_bound * torch.tanh(mean / self.noise_bound), log_std.clamp(*LOG_STD)

    def loss(self, batch: TransitionBatch, targets: nn.ModuleList, generator: torch.Generator) -> torch.Tensor:
        """The sum of the losses of critics, noise critic and noise policy: each a function of its own weights only.

        `targets`: critics that follow the policy's own slowly. `generator`: a CPU generator of the noise.
        """

        def normal() -> torch.Tensor:
            shape = len(batch.here), self.normalization.rows[0], self.base.noise_dim
            return torch.randn(shape, generator=generator).to(batch.here.device)

        mean, log_std = self.noise(batch.here)
        chosen = mean + log_std.exp() * normal()
        with torch.no_grad():
            next_mean, next_log_std = self.noise(batch.there)
            following = next_mean + next_log_std.exp() * normal()
            # The noise critic must know the noise that the policy could turn to as well as the noise it has now.
            every_other = torch.arange(len(batch.here), device=batch.here.device)[:, None, None] % 2 == 0
            asked = torch.where(every_other, normal(), chosen)
            contexts = self.base.context_of(torch.cat([batch.there, batch.here]))
            chunks = self.base.denoise(contexts, torch.cat([following, asked]))
            count, width = self.execute_steps * self.normalization.per_step, self.normalization.rows[1]
            next_chunk, chunk = chunks[:, :count, :width].chunk(2)
            later = torch.stack([critic(batch.there, next_chunk) for critic in targets]).sigmoid().amin(0)
            target = torch.where(batch.ended, batch.reward, DISCOUNT * later)
            taught = torch.stack([critic(batch.here, chunk) for critic in self.critics]).sigmoid().amin(0)
        loss = sum(
            binary_cross_entropy_with_logits(critic(batch.here, batch.chunks), target) for critic in self.critics
        )
        loss = loss + binary_cross_entropy_with_logits(self.noise_critic(batch.here, asked), taught)
        return loss + self._actor_loss(batch.here, chosen, mean, log_std)

    def _actor_loss(
        self, here: torch.Tensor, chosen: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
    ) -> torch.Tensor:
        """A loss with the gradient of STAY * KL(noise || N(0, 1)) - Q(s, w) with respect to the noise policy alone."""
        noise = chosen.detach().requires_grad_()
        quality = self.noise_critic(here, noise).sigmoid()
        slope = torch.autograd.grad(quality.sum(), noise)[0]
        divergence = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(dim=(1, 2))
        return STAY * divergence.mean() - (slope * chosen).sum(dim=(1, 2)).mean()

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 actions: see `FlowMatchingPolicy.sample`."""
        context, state = self.base.observe(observation, instructions)
        mean, log_std = self.noise(context.features)
        drawn = self.base.draw_noise(len(observation), generator).to(state.device)
        return self.base.chunk(context, mean + noise_scale * log_std.exp() * drawn, state)

    def save(self, folder: Path | str) -> Path:
        """One folder: the frozen policy's configuration and weights as they are, and those of the noise policy."""
        config = {
            "class": type(self).__name__,
            "noise_bound": self.noise_bound,
            "sizes": self._sizes,
            "base": self.base.config(),
        }
        return save_checkpoint(folder, config, self.state_dict(), tokenizer=self.tokenizer.to_json())

    @classmethod
    def load(cls, folder: Path | str) -> NoisePolicy:
        """The policy of a checkpoint, in evaluation mode. Raises VlawError where the folder is not a complete one."""
        config, tensors = load_config(folder), load_tensors(folder)
        own = {name: value for name, value in tensors.items() if not name.startswith(_BASE)}
        with describing(cls.__name__, where=folder):
            base: dict[str, Any] = config["base"]
            wrapped = class_of(base["class"], POLICIES, where=folder).from_parts(
                base,
                {key.removeprefix(_BASE): tensors[key] for key in set(tensors) - set(own)},
                read_tokenizer(folder),
                where=folder,
            )
            policy = cls(wrapped, noise_bound=config["noise_bound"], **config["sizes"])
        load_weights(policy, tensors, where=folder)
        return policy.eval()
