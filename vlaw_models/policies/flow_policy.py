"""FlowPolicy: a small language-conditioned flow-matching policy that trains in minutes on one CPU core.

Here: the network. Not here: flow matching itself (base.py), training (learn_policy.py). Why not PI0 at this size: a
transformer over 3 x 64 px images costs several times more per step on a CPU; see pi0.py for the paper's class.
Spatial detail is kept on purpose (per-camera 8 x 8 grid flattened, and soft keypoints): 1 cm is about a pixel here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from vlaw_models.policies.base import FlowMatchingPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.tokenize import InstructionTokenizer

WAVES = (1.0, 2.0, 4.0)
"""Frequencies of the sines and cosines in which places and state are also given."""


ADVANTAGE_GAIN = 4.0
"""What the embedding of the advantage is multiplied by: it starts at zero, and must catch up with a trained context."""


class CameraEncoder(nn.Module):
    """One camera: folded image (B, 48, h / 4, w / 4) and instruction (B, E) to features, places and attention scores."""

    def __init__(self, image_size: int, channels: tuple[int, int, int], text: int, features: int):
        super().__init__()
        first, second, last = channels
        # Pixels are folded 4 x 4 into channels: nothing is thrown away, and no convolution runs at full resolution.
        self.local = nn.Conv2d(48, first, 3, padding=1)
        self.look = WordAttention(first, text)
        self.down = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(second, second, 3, padding=1)
        self.narrow = nn.Conv2d(second, last, 1)
        self.film = nn.Linear(text, 2 * second)
        self.read = nn.Linear(last * (image_size // 8) ** 2 + self.look.size, features)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, features), the heads' expected places (B, 2 heads) in [-1, 1], scores (B, heads, h / 4, w / 4)."""
        local = functional.relu(self.local(image))
        seen, places, scores = self.look(local, text)
        scale, shift = self.film(text)[:, :, None, None].chunk(2, dim=1)
        x = functional.relu(self.down(local) * (1 + scale) + shift)
        x = x + functional.relu(self.coarse(x))
        return functional.gelu(self.read(torch.cat([self.narrow(x).flatten(1), seen, places], dim=1))), places, scores


class WordAttention(nn.Module):
    """Where are the things the instruction names? Queries from the text against local features of the picture.

    Each head gives the expected place and the mean feature under its attention. The first heads are shown where to look
    (`pointing_error`). Without that, binding "the red block" to a place takes very long: after 20,000 steps the hand
    went for the right one of four blocks in 57 % of the cases, and closed 4.7 cm beside it.
    """

    def __init__(self, channels: int, text: int, heads: int = 8, width: int = 32):
        super().__init__()
        self.heads, self.width = heads, width
        self.keys = nn.Conv2d(channels, width, 1)
        self.query = nn.Linear(text, heads * width)
        self.values = nn.Conv2d(channels, width, 1)
        self.size = heads * (width + 2)

    def forward(self, local: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, channels, h, w) features and (B, E) text to seen (B, heads width), places (B, 2 heads), scores (B, heads, h, w).

        `size` numbers are seen and places together.
        """
        query = self.query(text).unflatten(1, (self.heads, self.width))
        # Sharper than the usual 1 / sqrt(width): near-uniform attention over a picture learns slowly.
        scores = torch.einsum("bkd,bdhw->bkhw", query, self.keys(local)).float() * (4 / self.width**0.5)
        mass = scores.flatten(2).softmax(-1)
        seen = torch.einsum("bkn,bdn->bkd", mass, self.values(local).float().flatten(2))
        return seen.flatten(1), _expected_place(mass.view(scores.shape)), scores


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

    can_freeze = True
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
        `pointing`: weight of the attention's error where the data say what the instruction is about, see `pointing_error`.
        `advantage`: the policy is a conditioned one, see `condition_on_advantage`.
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps, euler_steps=euler_steps)
        self._sizes = {
            "image_size": image_size, "cameras": cameras, "channels": list(channels),
            "camera_features": camera_features, "text_features": text_features, "context": context,
            "head_width": head_width, "head_blocks": head_blocks, "flow_samples": flow_samples, "shift": shift,
            "regression": regression, "pointing": pointing,
        }
        self.image_size, self.shift, self.context_size = image_size, shift, context
        self.noise_dim, self.flow_samples = normalization.action_dim, flow_samples
        self.regression, self.pointing = regression, pointing
        # Words are embedded per position and concatenated: 'red on blue' and 'blue on red' differ.
        self.words = nn.Embedding(tokenizer.vocabulary_size, 32)
        self.text = nn.Sequential(
            nn.Linear(32 * tokenizer.length, text_features), nn.GELU(), nn.Linear(text_features, text_features)
        )
        self.state = nn.Sequential(nn.Linear(normalization.state_dim, 128), nn.GELU(), nn.Linear(128, 64))
        self.cameras = nn.ModuleList(
            CameraEncoder(image_size, tuple(channels), text_features, camera_features) for _ in range(cameras)
        )
        # Places also pass the camera features by: those tell where a block is to 1.5 cm only, the places to 2 mm.
        places = (1 + 2 * len(WAVES)) * (normalization.state_dim + sum(2 * c.look.heads for c in self.cameras))
        self.join = nn.Sequential(
            nn.Linear(cameras * camera_features + text_features + 64 + places, context), nn.GELU(),
            nn.Linear(context, context),
        )
        self.head = FlowHead(self.chunk_size * self.noise_dim, context, head_width, head_blocks)
        self.advantage: nn.Embedding | None = None
        if advantage:
            self.condition_on_advantage()
        self.to(memory_format=torch.channels_last)

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Context:
        seen, scores = self._look(images, tokens)
        return self.encode_seen(seen, state)._replace(scores=scores)

    def see(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self._look(images, tokens)[0]

    def encode_seen(self, seen: torch.Tensor, state: torch.Tensor) -> Context:
        return Context(self.join(torch.cat([seen, self.state(state), _waves(state)], dim=1)), None)

    def context_of(self, features: torch.Tensor) -> Context:
        return Context(features, None)

    def head_parameters(self) -> list[nn.Parameter]:
        told = self.advantage.parameters() if self.advantage is not None else ()
        return [*self.state.parameters(), *self.join.parameters(), *self.head.parameters(), *told]

    @property
    def conditioned(self) -> bool:
        return self.advantage is not None

    def condition_on_advantage(self) -> None:
        """Adds an embedding of the advantage's sign to the context: zero at first, so nothing changes until it learns."""
        if self.advantage is None:
            width = self._sizes["context"]
            self.advantage = nn.Embedding(2, width, _weight=torch.zeros(2, width, device=self._device()))
            self._sizes["advantage"] = True

    def condition(self, context: Context, advantage: torch.Tensor) -> Context:
        if self.advantage is None:
            return context
        told = self.advantage(advantage.clamp(min=0)) * (advantage >= 0)[:, None]
        return context._replace(features=context.features + ADVANTAGE_GAIN * told)

    def forget_head(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part in (self.state, self.join, self.head):
                for module in part.modules():
                    if isinstance(module, nn.Linear):
                        module.reset_parameters()
        self.head.start_at_rest()

    def _look(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All cameras' features and the text's (B, F), and the attention scores (B, V, heads, h, w)."""
        text = self.text(self.words(tokens).flatten(1))
        features, places, scores = zip(
            *(camera(view, text) for camera, view in zip(self.cameras, _fold(images), strict=True)), strict=True
        )
        seen = torch.cat([*features, text, _waves(torch.cat(places, dim=1))], dim=1)
        return seen, torch.stack(scores, dim=1)

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
        """Shifts every image by up to `shift` pixels, repeating its border; its points move with it."""
        if self.shift == 0:
            return images, points
        batch, views, height, width, _ = images.shape
        offsets = torch.randint(-self.shift, self.shift + 1, (batch, views, 2), generator=generator)
        # One slice per picture is several times faster than one gather over all pixels.
        shifted, reach = images.new_empty(images.shape), self.shift
        padded = _repeat_border(images, reach)
        for i, row in enumerate(offsets.tolist()):
            for view, (x, y) in enumerate(row):
                shifted[i, view] = padded[i, view, reach + y : reach + y + height, reach + x : reach + x + width]
        if points is not None:
            points = points - (offsets / torch.tensor([width, height]))[:, :, None].to(points.device)
        return shifted, points


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


def _repeat_border(images: torch.Tensor, reach: int) -> torch.Tensor:
    """(B, V, h, w, 3) with `reach` more pixels on every side."""
    rows = torch.arange(-reach, images.shape[2] + reach, device=images.device).clamp(0, images.shape[2] - 1)
    columns = torch.arange(-reach, images.shape[3] + reach, device=images.device).clamp(0, images.shape[3] - 1)
    return images.index_select(2, rows).index_select(3, columns)


def _fold(images: torch.Tensor) -> torch.Tensor:
    """(B, V, h, w, 3) uint8 to (V, B, 48, h / 4, w / 4) in [-1, 1]: each 4 x 4 patch becomes channels (channels last)."""
    batch, views, height, width, _ = images.shape
    # A patch's row is 12 bytes: moved as three 32-bit words, four times faster than byte by byte.
    words = images.contiguous().view(batch, views, height, width * 3).view(torch.int32)
    words = words.reshape(batch, views, height // 4, 4, width // 4, 3).permute(1, 0, 2, 4, 3, 5).contiguous()
    patches = words.view(views, batch, height // 4, width // 4, 12).view(torch.uint8)
    return (patches.float() / 127.5 - 1).permute(0, 1, 4, 2, 3)


def _waves(x: torch.Tensor) -> torch.Tensor:
    """(B, N) numbers in [-1, 1] to (B, N (1 + 2 |WAVES|)): small differences become large ones."""
    phases = torch.cat([x.float() * (k * torch.pi) for k in WAVES], dim=1)
    return torch.cat([2 * x.float(), phases.sin(), phases.cos()], dim=1)


def _expected_place(mass: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w) attention to (B, 2K) expected coordinates in [-1, 1]: positions finer than the grid."""
    height, width = mass.shape[-2:]
    x = (mass.sum(2) * torch.linspace(-1, 1, width, device=mass.device)).sum(-1)
    y = (mass.sum(3) * torch.linspace(-1, 1, height, device=mass.device)).sum(-1)
    return torch.cat([x, y], dim=1)


def _time_features(t: torch.Tensor) -> torch.Tensor:
    """(N,) times in [0, 1] to (N, 32)."""
    angles = t[:, None] * torch.exp(torch.linspace(0, 4, 16, device=t.device)) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)
