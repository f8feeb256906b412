"""NoisePolicy: a frozen flow policy whose initial noise is chosen by a small network (DSRL, arXiv 2506.15799).

Here: the networks (noise policy, critics of chunks and of noise), sampling, the checkpoint. Not here: how they learn
(learners/dsrl.py). The noise is N(mean(s), std(s)) instead of N(0, 1), with the mean in [-bound, bound] per number; an
untrained one is N(0, 1), so the policy begins as exactly the one it wraps. `noise_scale` multiplies the standard
deviation, as it does for the wrapped policy: at 0 the chunk is a function of the observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vlaw_models.checkpoint import class_of, load_config, load_tensors, load_weights, read_tokenizer, save_checkpoint
from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import POLICIES, FlowMatchingPolicy, Generators

LOG_STD = (-4.0, 1.0)
"""Range of the logarithm of the noise's standard deviation; 0 is the frozen policy's own."""
_BASE = "base."


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
        """Raises VlawError for a policy whose pictures cannot be looked at once and for all (`can_freeze`)."""
        super().__init__()
        if not base.can_freeze:
            raise VlawError(
                f"the noise of a {type(base).__name__} cannot be learned",
                where="policy update 'dsrl'",
                remedy="Use another policy.update, or the preset 'tiny' (FlowPolicy).",
            )
        self.base = base.requires_grad_(False)  # noqa: FBT003 (torch's signature)
        self.noise_bound, self._sizes = noise_bound, {"width": width, "critics": critics}
        self.chunk_size, self.action_dim, self.execute_steps = base.chunk_size, base.action_dim, base.execute_steps
        self.normalization, self.tokenizer, self.image_size = base.normalization, base.tokenizer, base.image_size
        features, noise = base.context_size, base.chunk_size * base.noise_dim
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
        """Mean and logarithm of the standard deviation of the initial noise, (B, H, noise_dim) each."""
        mean, log_std = self.actor(features).unflatten(1, (2, self.chunk_size, self.base.noise_dim)).unbind(1)
        return self.noise_bound * torch.tanh(mean / self.noise_bound), log_std.clamp(*LOG_STD)

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 absolute pose targets: see `FlowMatchingPolicy.sample`."""
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
        try:
            base: dict[str, Any] = config["base"]
            wrapped = class_of(base["class"], POLICIES, where=folder).from_parts(
                base,
                {key.removeprefix(_BASE): tensors[key] for key in set(tensors) - set(own)},
                read_tokenizer(folder),
                where=folder,
            )
            policy = cls(wrapped, noise_bound=config["noise_bound"], **config["sizes"])
        except (KeyError, TypeError) as error:
            raise VlawError(
                f"config.json does not describe a {cls.__name__}: {error}",
                where=str(folder),
                remedy="Use a checkpoint written by this version, or make it again.",
            ) from error
        load_weights(policy, tensors, where=folder)
        return policy.eval()
