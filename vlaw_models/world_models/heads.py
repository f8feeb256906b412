"""What a world model tells besides the frames: the reward and the pose of each frame to come (World-VLA-Loop).

An MLP on the features of the denoiser, in the very pass that gives the frames, so that picture and reward come from the
same thought. It reads the instruction's words: whether a frame is a success depends on the task. Where features say
little of what is in a picture, and latents are pixels, it also looks at the last frame that was made, with the frozen
image encoder of a policy. Heads are optional: a checkpoint without them has the same frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vlaw_models.checkpoint import described, load_config, load_tensors, load_weights, read_tokenizer, save_checkpoint
from vlaw_models.device import mixed
from vlaw_models.image_encoder import ImageEncoder
from vlaw_models.tokenize import InstructionTokenizer

if TYPE_CHECKING:
    from vlaw_models.policies.flow_policy import FlowPolicy

PRETRAINED = "reward_heads"
"""Folder inside a world model's checkpoint: heads that were trained on it as it is. They are taken by a finetuning that
asks for heads; without them the model is what it was."""
UNSURE = -2.0
"""Logit of an untrained head's reward: successes are rare."""


@dataclass(frozen=True)
class EyesConfig:
    """Sizes of a policy's image encoder (image_encoder.py)."""

    image_size: int
    cameras: int
    channels: tuple[int, int, int]
    camera_features: int
    text_features: int


@dataclass(frozen=True)
class HeadsConfig:
    """Sizes; all else follows from the world model."""

    length: int = 16
    """Words of an instruction that are read."""
    words: int = 32
    """Numbers for each word."""
    width: int = 128
    attention: int = 4
    """Places that are looked at, at once, as the task tells."""
    eyes: EyesConfig | None = None
    """Of the encoder that looks at the last frame of a chunk; None: features are all there is."""
    dropout: float = 0.2
    """Of what the encoder sees."""


class Targets(NamedTuple):
    """What is to be told of the frames to come."""

    reward: torch.Tensor
    """(B, H) from 0 to 1, nan where nobody knows."""
    states: torch.Tensor
    """(B, H, D) poses in robot units."""


class Heads(nn.Module):
    """Reward and pose of each of H frames from features (B, n, P, F): of n equal parts of the chunk, P places each, and
    from what its eyes see."""

    def __init__(
        self,
        config: HeadsConfig,
        tokenizer: InstructionTokenizer,
        shape: tuple[int, int, int],
        chunk: int,
        pose_dim: int,
    ):
        """`shape`: n, P and F. The pose begins as the commanded one, and learns what differs."""
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        parts, places, features = shape
        self.frames, self.pose_dim, width = chunk // parts, pose_dim, config.width
        self.words = nn.Embedding(tokenizer.vocabulary_size, config.words)
        self.task = nn.Sequential(nn.Flatten(), nn.Linear(config.length * config.words, width), nn.SiLU())
        self.norm = nn.LayerNorm(features)
        self.place = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(places, width))
        self.looks = nn.Linear(width, config.attention)
        self.key = nn.Linear(width, config.attention * width)
        inside = (config.attention + 2) * width
        self.eyes: ImageEncoder | None = None
        if config.eyes is not None:
            self.eyes = ImageEncoder(tokenizer.vocabulary_size, tokenizer.length, **vars(config.eyes))
            self.eyes.requires_grad_(False)  # noqa: FBT003 (torch's signature)
            self.look = nn.Sequential(
                nn.LayerNorm(self.eyes.size),
                nn.Dropout(config.dropout),
                nn.Linear(self.eyes.size, 2 * width),
                nn.SiLU(),
            )
            inside += 2 * width
        self.mlp = nn.Sequential(
            nn.Linear(inside, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU(), nn.LayerNorm(width)
        )
        self.reward = nn.Linear(width, self.frames)
        self.pose = nn.Linear(width, self.frames * pose_dim)
        nn.init.constant_(self.reward.bias, UNSURE)
        nn.init.zeros_(self.pose.weight)
        nn.init.zeros_(self.pose.bias)

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, pictures: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, n, P, F), words (B, length) and, for its eyes, pictures (B, V, h, w, 3) uint8 to reward logits
        (B, H), and by how much the pose differs from the commanded one (B, H, D), as shares of half its range."""
        with mixed(features.device, enabled=False):
            batch, parts = features.shape[:2]
            task = self.task(self.words(words))
            places = F.silu(self.place(self.norm(features.float())) + self.position)
            asked = self.key(task).unflatten(1, (self.config.attention, -1))
            scores = torch.einsum("bnpw,baw->bnap", places, asked) / self.config.width**0.5
            scores = scores + self.looks(places).mT
            seen = torch.einsum("bnap,bnpw->bnaw", scores.softmax(dim=-1), places).flatten(2)
            whole = [task]
            if self.eyes is not None:
                whole.append(self.look(self.eyes(pictures, words)[0]))
            told = torch.cat([seen, places.mean(dim=2), torch.cat(whole, dim=1)[:, None].expand(-1, parts, -1)], dim=2)
            inner = self.mlp(told)
            reward = self.reward(inner).reshape(batch, -1)
            return reward, self.pose(inner).reshape(batch, parts * self.frames, self.pose_dim)

    def read(self, instructions: Sequence[str]) -> torch.Tensor:
        """(B, length) ids of the instructions' words."""
        return self.tokenizer(instructions)


def new_tokenizer(instructions: Iterable[str], config: HeadsConfig) -> InstructionTokenizer:
    """The words of these instructions."""
    return InstructionTokenizer.from_instructions(instructions, length=config.length)


def with_eyes_of(policy: FlowPolicy) -> HeadsConfig:
    """Sizes of heads that see, and read, as this policy does."""
    own = policy.sizes()
    sizes = {name: own[name] for name in ("image_size", "cameras", "camera_features", "text_features")}
    return HeadsConfig(length=policy.tokenizer.length, eyes=EyesConfig(**sizes, channels=tuple(own["channels"])))


def heads_of(folder: Path, values: dict[str, Any]) -> tuple[HeadsConfig, InstructionTokenizer]:
    """Configuration and words of the heads in a checkpoint. Raises VlawError where they are damaged."""
    config = described(HeadsConfig, values, by="Heads", where=folder)
    text = read_tokenizer(folder)
    return config, InstructionTokenizer.from_json(text, length=config.length, where=folder)


def save_heads(heads: Heads, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes heads as a checkpoint of their own (config.json, model.safetensors, tokenizer.json)."""
    tensors = {name: value.to(dtype) for name, value in heads.state_dict().items()}
    config = {"class": Heads.__name__, **asdict(heads.config)}
    return save_checkpoint(folder, config, tensors, tokenizer=heads.tokenizer.to_json())


def load_heads(folder: Path, shape: tuple[int, int, int], chunk: int, pose_dim: int) -> Heads:
    """The heads in such a folder, for a model of these sizes. Raises VlawError for a damaged one, and one that does not
    fit."""
    values = load_config(folder)
    del values["class"]
    heads = Heads(*heads_of(folder, values), shape, chunk, pose_dim)
    load_weights(heads, load_tensors(folder), where=folder)
    return heads


def head_errors(
    logits: torch.Tensor, states: torch.Tensor, targets: Targets, half_range: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per sample (B,): cross-entropy of the reward, mean over its known frames, and mean squared error of the pose as
    shares of half its range."""
    known = targets.reward.isfinite()
    # The paper has the squared error. Rewards are 0 or 1, and both are least at the true probability; but the squared
    # error hardly moves a head that is surely wrong, as a new one soon is of the few frames of success.
    each = F.binary_cross_entropy_with_logits(logits, targets.reward.nan_to_num(), reduction="none")
    reward = (each * known).sum(dim=1) / known.sum(dim=1).clamp_min(1)
    return reward, ((states - targets.states) / half_range).square().flatten(1).mean(dim=1)
