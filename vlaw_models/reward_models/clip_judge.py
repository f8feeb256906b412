"""ClipJudge: the policy's image encoder on each frame of a clip, and a transformer over time.

The network of the tiny preset. It stands in for QwenJudge there, behind the same protocol (same frames, same question,
same yes/no logits). Its encoder is that of the base policy, frozen: it places the hand and what the instruction names
to millimetres, where a small network trained on labels alone sees blurs. The transformer also gets the commanded pose
of the hand at every frame, which is as exact in imagination as on the robot. How the shipped one was made:
pretrain/stages.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlaw_models import checkpoint
from vlaw_models.device import seeded
from vlaw_models.errors import VlawError
from vlaw_models.image_encoder import WAVES, ImageEncoder, fold, waves
from vlaw_models.reward_models.base import RewardModel, check_cameras, plain
from vlaw_models.tokenize import InstructionTokenizer

if TYPE_CHECKING:
    from vlaw_models.policies.flow_policy import FlowPolicy
    from vlaw_models.robots.spec import RobotSpec

INSTRUCTION_LENGTH = 16
"""Tokens that an encoder of its own takes of an instruction."""


@dataclass(frozen=True)
class ClipJudgeConfig:
    """Sizes of a ClipJudge; the defaults are the tiny preset."""

    cameras: tuple[str, ...]
    pose_low: tuple[float, ...]
    """What poses are scaled by, with `pose_high`."""
    pose_high: tuple[float, ...]
    num_frames: int = 16
    image_size: int = 64
    channels: tuple[int, int, int] = (64, 64, 24)
    """Of the encoder, as are the next two; see FlowPolicy."""
    camera_features: int = 256
    text_features: int = 128
    instruction_length: int = INSTRUCTION_LENGTH
    frozen_eyes: bool = False
    """The encoder is a policy's (`from_policy`): only the reader learns."""
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2


class ClipJudge(RewardModel):
    """The encoder's features of each frame, and the hand's pose there -> a token per frame; answer token + these ->
    logits."""

    config_class = ClipJudgeConfig

    def __init__(self, config: ClipJudgeConfig, tokenizer: InstructionTokenizer):
        super().__init__()
        self.settings = config
        self.cameras = check_cameras(config.cameras, where="ClipJudge")
        self.num_frames, self.image_size = config.num_frames, config.image_size
        if not isinstance(config.image_size, int) or config.image_size % 8 or config.width % config.heads:
            raise VlawError(
                f"image size {config.image_size}, width {config.width} with {config.heads} heads",
                where="ClipJudge's configuration",
                remedy="Give one image size (frames are square) divisible by 8, and a width divisible by heads.",
            )
        self.tokenizer, width = tokenizer, config.width
        self.eyes = ImageEncoder(
            tokenizer.vocabulary_size,
            tokenizer.length,
            image_size=config.image_size,
            cameras=len(config.cameras),
            channels=config.channels,
            camera_features=config.camera_features,
            text_features=config.text_features,
        )
        self.eyes.requires_grad_(not config.frozen_eyes)
        self.enter = nn.Sequential(
            nn.LayerNorm(self.eyes.size), nn.Dropout(config.dropout), nn.Linear(self.eyes.size, width)
        )
        self.pose = nn.Linear((1 + 2 * len(WAVES)) * len(config.pose_low), width)
        self.time = nn.Parameter(0.02 * torch.randn(config.num_frames, width))
        self.ask = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(config.dropout)
        self.answer = nn.Linear(2 * width, 2)
        self.register_buffer("pose_low", torch.tensor(config.pose_low), persistent=False)
        self.register_buffer("pose_high", torch.tensor(config.pose_high), persistent=False)

    @classmethod
    def build(cls, config: ClipJudgeConfig, instructions: Sequence[str], *, seed: int) -> ClipJudge:
        """A fresh judge with an encoder of its own, whose vocabulary covers `instructions`."""
        with seeded(seed):
            return cls(config, InstructionTokenizer.from_instructions(instructions, length=config.instruction_length))

    @classmethod
    def from_policy(cls, policy: FlowPolicy, *, robot: RobotSpec, seed: int, **sizes: Any) -> ClipJudge:
        """A fresh judge of `robot` with the encoder of `policy`, frozen. `sizes`: of the reader, else the default's."""
        own = policy.sizes()
        seen = {name: own[name] for name in ("image_size", "camera_features", "text_features")}
        config = ClipJudgeConfig(
            **{**cls.of_robot(robot), **seen},
            channels=tuple(own["channels"]),
            instruction_length=policy.tokenizer.length,
            frozen_eyes=True,
            **sizes,
        )
        with seeded(seed):
            judge = cls(config, policy.tokenizer)
        judge.eyes.load_state_dict(policy.eyes.state_dict())
        return judge

    @property
    def frozen_eyes(self) -> bool:
        return self.settings.frozen_eyes

    def forward(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None) -> Tensor:
        return self.answer_features(self.frame_features(frames, instructions), states)

    def answer_features(self, features: Tensor, states: Tensor | None) -> Tensor:
        hidden = self._read(features, states)
        return self.answer(self.drop(torch.cat([hidden[:, 0], hidden[:, -1]], -1))).float()

    def features(self, frames: Tensor, instructions: Sequence[str], states: Tensor | None = None) -> Tensor:
        # What is seen with no instruction in mind, late minus early too: what the reader makes of it hangs on the
        # question.
        del instructions, states
        seen = self.enter(self._features_of(frames, None).float())
        half = seen.shape[1] // 2
        return torch.cat([seen.mean(1), seen[:, half:].mean(1) - seen[:, :half].mean(1)], -1)

    def frame_features(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        return self._features_of(
            frames, self.tokenizer(instructions).to(self.time.device).repeat_interleave(frames.shape[1], 0)
        )

    def _features_of(self, frames: Tensor, tokens: Tensor | None) -> Tensor:
        pictures = frames.round().to(torch.uint8) if frames.is_floating_point() else frames
        return self.eyes(pictures.flatten(0, 1), tokens)[0].unflatten(0, frames.shape[:2])

    def camera_features(self, pictures: Tensor, camera: str) -> tuple[Tensor, list[Tensor]]:
        """Pictures (N, h, w, 3) uint8 of one camera, looked at with no instruction: vectors (N, features), and the maps
        (N, C, h', w') of the layers before the instruction comes in."""
        if camera not in self.cameras:
            raise VlawError(
                f"this judge does not look at the camera {camera!r}",
                where="ClipJudge",
                remedy=f"Choose from {', '.join(self.cameras)}, or use another judge.",
            )
        encoder = self.eyes.cameras[self.cameras.index(camera)]
        folded = fold(pictures[:, None])[0]
        local = functional.relu(encoder.local(folded))
        coarse = functional.relu(encoder.down(local))
        return encoder(folded, folded.new_zeros(len(folded), self.settings.text_features))[0], [local, coarse]

    def lora_targets(self) -> list[str]:
        return [
            name
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear) and name != "answer" and not name.startswith("eyes.")
        ]

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """`dtype` float16 halves what is shipped; a judge is always float32 once loaded."""
        config = {"class": "ClipJudge", "format": 2, **plain(asdict(self.settings))}
        return checkpoint.save_checkpoint(
            folder,
            config,
            {name: value.to(dtype) for name, value in self.state_dict().items()},
            tokenizer=self.tokenizer.to_json(),
        )

    @classmethod
    def load(cls, folder: Path) -> ClipJudge:
        values = checkpoint.load_config(folder)
        if values.get("format") != 2:
            raise VlawError(
                f"a ClipJudge of format {values.get('format')}",
                where=str(folder),
                remedy="Format 2 has other layers: make the judge again.",
            )
        values = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
            if key not in ("class", "format")
        }
        unknown = set(values) - set(ClipJudgeConfig.__dataclass_fields__)
        if unknown:
            raise VlawError(
                f"unknown settings {sorted(unknown)}",
                where=str(Path(folder) / checkpoint.CONFIG),
                remedy="Use a checkpoint written by this version, or a newer version of vlaw.",
            )
        config = ClipJudgeConfig(**values)
        tokenizer = InstructionTokenizer.from_json(
            checkpoint.read_tokenizer(folder), length=config.instruction_length, where=folder
        )
        with seeded(0):
            judge = cls(config, tokenizer)
        tensors = {name: value.float() for name, value in checkpoint.load_tensors(folder).items()}
        checkpoint.load_weights(judge, tensors, where=folder)
        return judge.eval()

    def _read(self, seen: Tensor, states: Tensor | None) -> Tensor:
        """(B, 1 + F, width) from what was seen (B, F, E) and poses (B, F, D): the answer's token and one of each frame,
        after the last layer. Poses that are not known add nothing."""
        tokens = self.enter(seen.float()) + self.time
        if states is not None:
            normal = 2 * (states.to(seen.device).float() - self.pose_low) / (self.pose_high - self.pose_low) - 1
            tokens = tokens + self.pose(waves(normal.flatten(0, 1)).unflatten(0, normal.shape[:2]))
        hidden = self.drop(torch.cat([self.ask.expand(len(seen), 1, -1), tokens], 1))
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)


class Block(nn.Module):
    """A pre-norm transformer layer; separate linear layers, so that LoRA can adapt each."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, width) -> the same."""
        normed = self.before_attention(hidden)
        query, key, value = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        rate = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        hidden = hidden + functional.dropout(self.out(mixed.transpose(1, 2).flatten(2)), rate)
        mlp = self.down(functional.gelu(self.up(self.before_mlp(hidden))))
        return hidden + functional.dropout(mlp, rate)
