"""The flow matching that FlowPolicy and Pi0Policy share (convention of pi0: t = 1 is noise, t = 0 data).

Loss with a weight per sample (paper Eq. 4), Euler sampling with explicit noise, and two likelihoods: of the flow-SDE's
steps, and the loss in the place of one. The networks (flow_policy.py, pi0.py) say how an observation is encoded, once,
and what velocity follows from it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from vlaw_models.episodes import Observation
from vlaw_models.policies.base import Generators
from vlaw_models.policies.likelihood import LikelihoodPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.tokenize import InstructionTokenizer

PAIRS = 8
"""Noises, each with a time of its own, by which a chunk is judged at temperature 0."""


class FlowMatchingPolicy(LikelihoodPolicy):
    """Flow matching over normalised action chunks: x_t = t * eps + (1 - t) * a, velocity u = eps - a.

    The chunk is R commands of W numbers (normalization.py), which are H control steps. A trace is (B, K + 1, R,
    noise_dim) float32: x from noise to data, over K = `euler_steps` steps of the flow-SDE. The tokens of a control step
    are the K transitions of each of its commands. `temperature` is the SDE's noise level; 0.5 is RLinf's for pi0.

    At temperature 0 the chunk is what `sample` makes, and half its flow-matching error, negative, stands for its log
    density (FPO, arXiv 2507.21053): the trace is (B, PAIRS + 1, R, noise_dim), noises and the chunk, the tokens of a
    control step its commands. Of the SDE's likelihood the noise of its steps is nearly all that a gradient sees; this
    one has a direction after far fewer rollouts, and no bound below: it needs a low learning rate.
    """

    plain = ("execute_steps", "euler_steps")
    coldest = 0.0
    noise_dim: int
    """Width of the flow's space; larger than the action where a network has padded dimensions."""
    flow_samples: int = 1
    """Pairs (eps, t) per observation in the loss. More is cheap where encoding the observation is the dear part."""

    def __init__(
        self, tokenizer: InstructionTokenizer, normalization: Normalization, *, execute_steps: int, euler_steps: int
    ):
        super().__init__(tokenizer, normalization, execute_steps=execute_steps)
        self.euler_steps = euler_steps

    @abstractmethod
    def velocity(self, context: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Predicted u at x (N, R, noise_dim) and t (N,); N is B, or a multiple of it in blocks of B."""

    def auxiliary(self, context: Any, target: torch.Tensor, points: torch.Tensor | None) -> torch.Tensor | float:
        """A further training error per sample (B,), weighted like the flow's; none by default. `target` (B, R, W)."""
        del context, target, points
        return 0.0

    def chunk_error(
        self,
        context: Any,
        state: torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """The weighted flow-matching error (Eq. 4). `samples` instead of `flow_samples`."""
        device, batch, samples = self.device, len(state), samples or self.flow_samples
        state, actions = state.to(device).float(), actions.to(device).float()
        width = self.normalization.rows[1]
        target = nn.functional.pad(self.normalization.actions(actions, state), (0, self.noise_dim - width))
        target = target.repeat(samples, 1, 1)
        noise = torch.randn(target.shape, generator=generator).to(device)
        # The inverse distribution function of Beta(1.5, 1) is u^(1/1.5): one uniform number per time.
        time = torch.rand(batch * samples, generator=generator).to(device) ** (1 / 1.5) * 0.999 + 0.001
        t = time[:, None, None]
        predicted = self.velocity(context, t * noise + (1 - t) * target, time).float()
        error = (predicted - (noise - target))[..., :width] ** 2
        per_sample = error.mean(dim=(1, 2)).view(samples, batch).mean(0)
        per_sample = per_sample + self.auxiliary(context, target[:batch], points)
        return (weight.to(device) * per_sample).mean()

    def draw_noise(self, batch: int, generator: Generators) -> torch.Tensor:
        """(B, R, noise_dim) standard normal numbers."""
        shape = (self.normalization.rows[0], self.noise_dim)
        if isinstance(generator, torch.Generator):
            return torch.randn((batch, *shape), generator=generator)
        return torch.stack([torch.randn(shape, generator=one) for one in generator])

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 actions, by Euler steps from noise (t = 1) to data (t = 0).

        `generator`: one CPU generator, or B of them. Raises VlawError where the observation does not fit the policy.
        """
        context, state = self.observe(observation, instructions)
        noise = self.draw_noise(len(observation), generator).to(state.device) * noise_scale
        return self.chunk(context, noise, state)

    def chunk(self, context: Any, noise: torch.Tensor, state: torch.Tensor) -> np.ndarray:
        """(B, H, A) float32 actions that the flow makes of `noise` (B, R, noise_dim)."""
        return self.targets(self.denoise(context, noise), state)

    def denoise(self, context: Any, x: torch.Tensor) -> torch.Tensor:
        """(B, R, noise_dim) normalised commands, from noise of the same shape by `euler_steps` Euler steps."""
        for step in range(self.euler_steps):
            x = x - self._velocity_at(context, x, step) / self.euler_steps
        return x

    def transition(self, context: Any, x: torch.Tensor, step: int, level: float) -> tuple[torch.Tensor, float]:
        """Mean (B, R, noise_dim) and standard deviation of the next x: one step d = 1 / K of the flow-SDE.

        The update rule of Flow-GRPO (arXiv 2505.05470), with s = level * sqrt(t / (1 - t)):
        x_{t-d} = x_t - [v + s^2 / (2 t) (x_t + (1 - t) v)] d + s sqrt(d) eps.
        At level 0 it is the Euler step of the ODE; for small d it has the ODE's marginals at any level.
        """
        d = 1 / self.euler_steps
        t = 1 - step * d
        # At t = 1 the published samplers (Flow-GRPO, RLinf) put the next time into 1 - t, which would be 0.
        variance = level**2 * t / (1 - t if step else d)
        velocity = self._velocity_at(context, x, step)
        predicted_noise = x + (1 - t) * velocity
        return x - d * (velocity + variance / (2 * t) * predicted_noise), math.sqrt(variance * d)

    def draw(
        self, context: Any, batch: int, generator: Generators, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not temperature:
            chunk = self.denoise(context, self.draw_noise(batch, generator).to(self.device))
            noises = [self.draw_noise(batch, generator).to(self.device) for _ in range(PAIRS)]
            trace = torch.stack([*noises, chunk], dim=1)
            return trace, self._by_error(context, trace)
        path, found = [self.draw_noise(batch, generator).to(self.device)], []
        for step in range(self.euler_steps):
            mean, deviation = self.transition(context, path[-1], step, temperature)
            path.append(mean + deviation * self.draw_noise(batch, generator).to(self.device))
            found.append(self._log_density(path[-1], mean, deviation))
        return torch.stack(path, dim=1), self._by_step(found)

    def log_prob(self, context: Any, trace: torch.Tensor, temperature: float) -> torch.Tensor:
        """(B, H, N): log density of each transition, summed over a command's dimensions (of padded ones the noise is
        not counted, as in RLinf). The first noise is drawn from no weights, so it is not in it."""
        if not temperature:
            return self._by_error(context, trace)
        found = []
        for step, (x, following) in enumerate(zip(trace[:, :-1].unbind(1), trace[:, 1:].unbind(1), strict=True)):
            mean, deviation = self.transition(context, x, step, temperature)
            found.append(self._log_density(following, mean, deviation))
        return self._by_step(found)

    def _by_error(self, context: Any, trace: torch.Tensor) -> torch.Tensor:
        """(B, H, R / H): minus half the squared error of a command, its mean over PAIRS times that lie where training
        has them."""
        noises, chunk, errors = trace[:, :-1].unbind(1), trace[:, -1], []
        for pair, noise in enumerate(noises):
            t = ((pair + 0.5) / PAIRS) ** (1 / 1.5) * 0.999 + 0.001
            time = torch.full((len(chunk),), t, device=chunk.device)
            off = self.velocity(context, t * noise + (1 - t) * chunk, time).float() - (noise - chunk)
            errors.append(off[..., : self.normalization.rows[1]].square().sum(-1))
        error = torch.stack(errors).mean(0)
        return -0.5 * error.unflatten(1, (self.chunk_size, -1))

    def _by_step(self, found: list[torch.Tensor]) -> torch.Tensor:
        """K of (B, R) to (B, H, R / H * K)."""
        return torch.stack(found, dim=-1).unflatten(1, (self.chunk_size, -1)).flatten(2)

    def drawn(self, trace: torch.Tensor) -> torch.Tensor:
        return trace[:, -1]

    def _log_density(self, x: torch.Tensor, mean: torch.Tensor, deviation: float) -> torch.Tensor:
        off = ((x - mean) / deviation)[..., : self.normalization.rows[1]]
        return (-0.5 * off**2 - math.log(deviation * math.sqrt(2 * math.pi))).sum(-1)

    def _velocity_at(self, context: Any, x: torch.Tensor, step: int) -> torch.Tensor:
        t = torch.full((len(x),), 1 - step / self.euler_steps, device=x.device)
        return self.velocity(context, x, t).float()
