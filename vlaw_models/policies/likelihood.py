"""Policies with likelihoods: they keep how a chunk was sampled as its trace, and say how likely a trace is.

What policy gradients need (learners/grpo.py). A learner that does asks `issubclass(policy_class, LikelihoodPolicy)`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import Generators, TrainedPolicy


class Traced(NamedTuple):
    """Sampled chunks of B observations; tensors on the CPU."""

    actions: np.ndarray
    """(B, H, A) float32."""
    trace: torch.Tensor
    """(B, ...): what was drawn, see the policy's class."""
    log_prob: torch.Tensor
    """(B, H, N) float32: of each of the N tokens of a control step, given those before it."""


class LikelihoodPolicy(TrainedPolicy):
    """A policy whose chance has a density. `temperature` says how much of it there is; what it means is up to the
    class, and a trace must be judged at the one it was drawn at."""

    coldest: float | None = None
    """The lowest temperature; None where it must be above 0."""

    @abstractmethod
    def draw(
        self, context: Any, batch: int, generator: Generators, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The trace (B, ...) of chunks sampled in a context of `batch` observations, and its `log_prob`."""

    @abstractmethod
    def log_prob(self, context: Any, trace: torch.Tensor, temperature: float) -> torch.Tensor:
        """(B, H, N) float32 of a trace, with gradients."""

    @abstractmethod
    def drawn(self, trace: torch.Tensor) -> torch.Tensor:
        """The normalised chunk (B, H, >= A) that a trace ends in."""

    @torch.no_grad()
    def sample_traced(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, temperature: float
    ) -> Traced:
        """Chunks with their traces and likelihoods; `generator` as in `sample`.

        Raises VlawError where the observation does not fit the policy, and for a temperature that is not
        above 0, nor `coldest`.
        """
        if not (math.isfinite(temperature) and (temperature > 0 or temperature == self.coldest)):
            raise VlawError(
                f"a temperature of {temperature} leaves nothing to chance, so nothing has a likelihood",
                where=f"sampling from a {type(self).__name__}",
                remedy="Use a temperature above 0; `sample` needs none.",
            )
        context, state = self.observe(observation, instructions)
        trace, log_prob = self.draw(context, len(observation), generator, temperature)
        return Traced(self.targets(self.drawn(trace), state), trace.cpu(), log_prob.cpu())
