"""FlowPolicy: a small language-conditioned flow-matching policy that trains in minutes on one CPU core.

Here: the network. Not here: flow matching itself (base.py), training (learn_policy.py). Why not PI0 at this size: a
transformer over 3 x 64 px images costs several times more per step on a CPU; see pi0.py for the paper's class.
Spatial detail is kept on purpose (per-camera 8 x 8 grid flattened, and soft keypoints): 1 cm is about a pixel here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vlaw_models.policies.base import FlowMatchingPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.tokenize import InstructionTokenizer


class CameraEncoder(nn.Module):
    """One camera: folded image (B, 48, h / 4, w / 4) and instruction (B, E) to (B, features)."""

    def __init__(self, image_size: int, channels: tuple[int, int, int], text: int, features: int, keypoints: int):
        super().__init__()
        first, second, last = channels
        # Pixels are folded 4 x 4 into channels: nothing is thrown away, and no convolution runs at full resolution.
        self.stem = nn.Conv2d(48, first, 3, padding=1)
        self.fine = nn.Conv2d(first, first, 3, padding=1)
        self.down = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(second, second, 3, padding=1)
        self.narrow = nn.Conv2d(second, last, 1)
        self.keypoints = nn.Conv2d(first, keypoints, 1)
        with torch.no_grad():
            self.keypoints.weight.mul_(8)  # else the maps start flat, and their expected positions say nothing
        self.film = nn.Linear(text, 2 * (first + second))
        self.split = [first, first, second, second]
        self.read = nn.Linear(last * (image_size // 8) ** 2 + 2 * keypoints, features)
        self.look = WordAttention(first, text, features)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        scale_1, shift_1, scale_2, shift_2 = self.film(text)[:, :, None, None].split(self.split, dim=1)
        x = functional.relu(self.stem(image) * (1 + scale_1) + shift_1)
        x = x + functional.relu(self.fine(x))
        points = _soft_argmax(self.keypoints(x))
        x = functional.relu(self.down(x) * (1 + scale_2) + shift_2)
        x = x + functional.relu(self.coarse(x))
        flat = torch.cat([self.narrow(x).flatten(1), points], dim=1)
        return functional.gelu(self.read(flat) + self.look(image, text))


class WordAttention(nn.Module):
    """Where are the things the instruction names? Queries from the text against local features of the picture.

    Each head gives the expected place and the mean feature under its attention. FiLM alone binds "the red block" to a
    place only after very long training: with four blocks it grasped the right one in 45 % of the cases.
    """

    def __init__(self, channels: int, text: int, features: int, heads: int = 8, width: int = 32):
        super().__init__()
        self.heads, self.width = heads, width
        self.local = nn.Conv2d(48, channels, 3, padding=1)
        self.keys = nn.Conv2d(channels, width, 1)
        self.query = nn.Linear(text, heads * width)
        self.values = nn.Conv2d(channels, width, 1)
        self.read = nn.Linear(heads * (width + 2), features)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """(B, 48, h, w) folded picture and (B, E) text to (B, features)."""
        local = functional.relu(self.local(image))
        query = self.query(text).unflatten(1, (self.heads, self.width))
        # Sharper than the usual 1 / sqrt(width): near-uniform attention over a picture learns slowly.
        scores = torch.einsum("bkd,bdhw->bkhw", query, self.keys(local)) * (4 / self.width**0.5)
        seen = torch.einsum("bkn,bdn->bkd", scores.float().flatten(2).softmax(-1), self.values(local).float().flatten(2))
        return self.read(torch.cat([seen.flatten(1), _soft_argmax(scores)], dim=1))


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

    def __init__(
        self,
        tokenizer: InstructionTokenizer,
        normalization: Normalization,
        *,
        execute_steps: int = 4,
        euler_steps: int = 5,
        image_size: int = 64,
        cameras: int = 3,
        channels: tuple[int, int, int] = (48, 64, 24),
        keypoints: int = 32,
        camera_features: int = 256,
        text_features: int = 128,
        context: int = 320,
        head_width: int = 256,
        head_blocks: int = 3,
        flow_samples: int = 4,
        shift: int = 3,
        regression: float = 1.0,
    ):
        """`shift`: random shift in pixels at training time, each camera on its own.

        `regression`: weight of an auxiliary squared error of the head's direct estimate (0: flow matching alone).
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps, euler_steps=euler_steps)
        self._sizes = {
            "image_size": image_size, "cameras": cameras, "channels": list(channels), "keypoints": keypoints,
            "camera_features": camera_features, "text_features": text_features, "context": context,
            "head_width": head_width, "head_blocks": head_blocks, "flow_samples": flow_samples, "shift": shift,
            "regression": regression,
        }
        self.image_size, self.shift = image_size, shift
        self.noise_dim, self.flow_samples = normalization.action_dim, flow_samples
        self.regression = regression
        # Words are embedded per position and concatenated: 'red on blue' and 'blue on red' differ.
        self.words = nn.Embedding(tokenizer.vocabulary_size, 32)
        self.text = nn.Sequential(
            nn.Linear(32 * tokenizer.length, text_features), nn.GELU(), nn.Linear(text_features, text_features)
        )
        self.state = nn.Sequential(nn.Linear(normalization.state_dim, 128), nn.GELU(), nn.Linear(128, 64))
        self.cameras = nn.ModuleList(
            CameraEncoder(image_size, tuple(channels), text_features, camera_features, keypoints) for _ in range(cameras)
        )
        self.join = nn.Sequential(
            nn.Linear(cameras * camera_features + text_features + 64, context), nn.GELU(), nn.Linear(context, context)
        )
        self.head = FlowHead(self.chunk_size * self.noise_dim, context, head_width, head_blocks)
        self.to(memory_format=torch.channels_last)

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(B, context)."""
        text = self.text(self.words(tokens).flatten(1))
        seen = [camera(view, text) for camera, view in zip(self.cameras, _fold(images), strict=True)]
        return self.join(torch.cat([*seen, text, self.state(state)], dim=1))

    def velocity(self, context: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        context = context.repeat(len(x) // len(context), 1)
        return self.head(x.flatten(1), t, context).view_as(x)

    def auxiliary(self, context: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.regression * ((self.head.estimate(context).float() - target.flatten(1)) ** 2).mean(1)

    def augment(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Shifts every image by up to `shift` pixels, repeating its border."""
        if self.shift == 0:
            return images
        batch, views, height, width, _ = images.shape
        flat = images.reshape(batch * views, height, width, 3)
        offsets = torch.randint(-self.shift, self.shift + 1, (2, len(flat), 1), generator=generator).to(images.device)
        rows = (torch.arange(height, device=images.device) + offsets[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=images.device) + offsets[1]).clamp(0, width - 1)
        index = torch.arange(len(flat), device=images.device)[:, None, None]
        return flat[index, rows[:, :, None], columns[:, None, :]].view_as(images)


def _fold(images: torch.Tensor) -> torch.Tensor:
    """(B, V, h, w, 3) uint8 to (V, B, 48, h / 4, w / 4) in [-1, 1]: each 4 x 4 patch becomes channels (channels last)."""
    batch, views, height, width, _ = images.shape
    patches = images.reshape(batch, views, height // 4, 4, width // 4, 4, 3).permute(1, 0, 2, 4, 3, 5, 6)
    return (patches.flatten(4).float() / 127.5 - 1).permute(0, 1, 4, 2, 3)


def _soft_argmax(scores: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w) scores to (B, 2K) expected coordinates in [-1, 1]: positions finer than the grid."""
    height, width = scores.shape[-2:]
    mass = scores.float().flatten(2).softmax(-1).view(scores.shape)
    x = (mass.sum(2) * torch.linspace(-1, 1, width, device=scores.device)).sum(-1)
    y = (mass.sum(3) * torch.linspace(-1, 1, height, device=scores.device)).sum(-1)
    return torch.cat([x, y], dim=1)


def _time_features(t: torch.Tensor) -> torch.Tensor:
    """(N,) times in [0, 1] to (N, 32)."""
    angles = t[:, None] * torch.exp(torch.linspace(0, 4, 16, device=t.device)) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)
