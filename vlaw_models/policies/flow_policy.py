"""FlowPolicy: a small language-conditioned flow-matching policy that trains in minutes on one CPU core.

The network behind the image encoder (image_encoder.py). Why not PI0 at this size: a transformer over 3 x 64 px images
costs several times more per step on a CPU; see pi0.py for the paper's class.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from vlaw_models.device import seeded
from vlaw_models.image_encoder import WAVES, ImageEncoder, waves
from vlaw_models.policies.flow_matching import FlowMatchingPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pixels import shifted
from vlaw_models.tokenize import InstructionTokenizer

ADVANTAGE_GAIN = 4.0
"""What the embedding of the advantage is multiplied by: it starts at zero, and must catch up with a trained context."""


class Context(NamedTuple):
    """An encoded observation."""

    features: torch.Tensor
    """(B, context)."""
    scores: torch.Tensor | None
    """(B, V, heads, h, w): attention over each picture, before softmax; None where the pictures are not at hand."""


class FlowHead(nn.Module):
    """Velocity of a flattened chunk: residual MLP blocks, each scaled and shifted by observation and time."""

    def __init__(self, width_in: int, context: int, width: int, blocks: int):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, context), nn.SiLU(), nn.Linear(context, context))
        # The head also reads a direct estimate of the chunk: the encoder learns where things are several times faster.
        self.estimate = nn.Linear(context, width_in)
        self.enter, self.leave = nn.Linear(2 * width_in, width), nn.Linear(width, width_in)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks))
        self.films = nn.ModuleList(nn.Linear(context, 2 * width) for _ in range(blocks))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(blocks)
        )
        self.start_at_rest()

    def start_at_rest(self) -> None:
        """An untrained head predicts no velocity."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        condition = functional.silu(context + self.time(_time_features(t)))
        h = self.enter(torch.cat([x, self.estimate(context).detach()], dim=1))
        for norm, film, mlp in zip(self.norms, self.films, self.mlps, strict=True):
            scale, shift = film(condition).chunk(2, dim=-1)
            h = h + mlp(norm(h) * (1 + scale) + shift)
        return self.leave(h)


class FlowPolicy(FlowMatchingPolicy):
    """Per-camera convolutions conditioned on the instruction, a state MLP and a FiLM-MLP flow head."""

    can_freeze = can_steer = True
    can_condition = True

    def __init__(
        self,
        tokenizer: InstructionTokenizer,
        normalization: Normalization,
        *,
        execute_steps: int = 4,
        euler_steps: int = 5,
        image_size: int = 64,
        cameras: int = 3,
        channels: tuple[int, int, int] = (64, 64, 24),
        camera_features: int = 256,
        text_features: int = 128,
        context: int = 320,
        head_width: int = 256,
        head_blocks: int = 3,
        flow_samples: int = 4,
        shift: int = 3,
        regression: float = 1.0,
        pointing: float = 0.1,
        advantage: bool = False,
    ):
        """`shift`: random shift in pixels at training time, each camera on its own.

        `regression`: weight of an auxiliary squared error of the head's direct estimate (0: flow matching alone).
        `pointing`: weight of the attention's error where the data say what the instruction is about, see
        `pointing_error`. `advantage`: the policy is a conditioned one, see `condition_on_advantage`.
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps, euler_steps=euler_steps)
        self._sizes = {
            "image_size": image_size,
            "cameras": cameras,
            "channels": list(channels),
            "camera_features": camera_features,
            "text_features": text_features,
            "context": context,
            "head_width": head_width,
            "head_blocks": head_blocks,
            "flow_samples": flow_samples,
            "shift": shift,
            "regression": regression,
            "pointing": pointing,
        }
        self.image_size, self.shift, self.context_size = image_size, shift, context
        (count, self.noise_dim), self.flow_samples = normalization.rows, flow_samples
        self.regression, self.pointing = regression, pointing
        self.eyes = ImageEncoder(
            tokenizer.vocabulary_size,
            tokenizer.length,
            image_size=image_size,
            cameras=cameras,
            channels=channels,
            camera_features=camera_features,
            text_features=text_features,
        )
        self.state = nn.Sequential(nn.Linear(normalization.state_dim, 128), nn.GELU(), nn.Linear(128, 64))
        beside = 64 + (1 + 2 * len(WAVES)) * normalization.state_dim
        self.join = nn.Sequential(nn.Linear(self.eyes.size + beside, context), nn.GELU(), nn.Linear(context, context))
        self.head = FlowHead(count * self.noise_dim, context, head_width, head_blocks)
        self.advantage: nn.Embedding | None = None
        if advantage:
            self.condition_on_advantage()
        self.to(memory_format=torch.channels_last)

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Context:
        features, scores = self.eyes(images, tokens)
        return self.encode_features(features, state)._replace(scores=scores)

    def picture_features(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.eyes(images, tokens)[0]

    def encode_features(self, features: torch.Tensor, state: torch.Tensor) -> Context:
        return Context(self.join(torch.cat([features, self.state(state), waves(state)], dim=1)), None)

    def context_of(self, features: torch.Tensor) -> Context:
        return Context(features, None)

    def head_parameters(self) -> list[nn.Parameter]:
        embedding = self.advantage.parameters() if self.advantage is not None else ()
        return [*self.state.parameters(), *self.join.parameters(), *self.head.parameters(), *embedding]

    @property
    def conditioned(self) -> bool:
        return self.advantage is not None

    def condition_on_advantage(self) -> None:
        """Adds an embedding of the advantage's sign to the context: zero at first, so nothing changes until it
        learns."""
        if self.advantage is None:
            width = self._sizes["context"]
            self.advantage = nn.Embedding(2, width, _weight=torch.zeros(2, width, device=self.device))
            self._sizes["advantage"] = True

    def condition(self, context: Context, advantage: torch.Tensor) -> Context:
        if self.advantage is None:
            return context
        shift = self.advantage(advantage.clamp(min=0)) * (advantage >= 0)[:, None]
        return context._replace(features=context.features + ADVANTAGE_GAIN * shift)

    def forget_head(self, seed: int) -> None:
        with seeded(seed):
            for part in (self.state, self.join, self.head):
                for module in part.modules():
                    if isinstance(module, nn.Linear):
                        module.reset_parameters()
        self.head.start_at_rest()

    def velocity(self, context: Context, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        features = context.features.repeat(len(x) // len(context.features), 1)
        return self.head(x.flatten(1), t, features).view_as(x)

    def auxiliary(self, context: Context, target: torch.Tensor, points: torch.Tensor | None) -> torch.Tensor:
        estimate = self.head.estimate(context.features).float()
        error = self.regression * ((estimate - target.flatten(1)) ** 2).mean(1)
        if context.scores is None or points is None or self.pointing == 0 or not points.isfinite().any():
            return error
        return error + self.pointing * pointing_error(context.scores, points.to(error.device))

    def augment(
        self, images: torch.Tensor, points: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return shifted(images, points, self.shift, generator)


def pointing_error(scores: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """How far the first heads' attention is from `points` (B, V, P, 2) in the pictures: cross entropy, (B,).

    The target is shared between the four cells around a point, so that the expected place is the point itself. Points
    that are not known (NaN) or outside the picture count nothing.
    """
    height, width = scores.shape[-2:]
    size = torch.tensor([width, height], device=points.device)
    known = ((points >= 0) & (points <= 1)).all(-1)
    place = torch.where(known[..., None], points, 0.5) * size - 0.5
    axes = [
        (1 - (place[..., axis, None] - torch.arange(count, device=points.device)).abs()).clamp(min=0)
        for axis, count in enumerate((width, height))
    ]
    target = (axes[1][..., :, None] * axes[0][..., None, :]).flatten(-2)
    log_mass = scores[:, :, : points.shape[2]].float().flatten(-2).log_softmax(-1)
    return -((target * log_mass).sum(-1) * known).mean(dim=(1, 2))


def _time_features(t: torch.Tensor) -> torch.Tensor:
    """(N,) times in [0, 1] to (N, 32)."""
    angles = t[:, None] * torch.exp(torch.linspace(0, 4, 16, device=t.device)) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)
